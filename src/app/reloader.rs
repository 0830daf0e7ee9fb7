//! Puts what is written in `rules/` and `runbooks/` in force while the engine runs. Everything fallible happens on the new set; only a whole and valid
//! one is swapped in, at once; a bad one leaves the running set in force.

use super::watch::Watch;
use crate::model::diagnostic::Diagnostic;
use crate::runbook::catalog::{Catalog, Offers};
use crate::runbook::files::Files;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// What came of looking at the files.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A new set is in force.
    Swapped { rules: usize, programs: usize },
    /// Something touched the files, and they say what is in force. After a `Refused`: the bad content is gone.
    Unchanged,
    /// The files are not valid as a whole; what was in force stays in force. Told once per content.
    Refused(Vec<Diagnostic>),
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Quiet time after a change: an editor or a checkout makes many.
    pub debounce: Duration,
    /// Where the file system sends no notice, a change is found this late.
    pub poll: Duration,
}

impl Pace {
    pub const DEFAULT: Pace = Pace { debounce: Duration::from_millis(300), poll: Duration::from_secs(15) };
    /// Something that never stops writing does not put off the rest for longer than this many debounces.
    const MOST_DEBOUNCES: u32 = 10;
}

/// The running reloader. Dropping it ends it too.
pub struct Reloader {
    task: JoinHandle<()>,
    stop: Arc<Notify>,
}

impl Reloader {
    /// Ends it; a reading in progress is waited for.
    pub async fn stop(mut self) {
        self.stop.notify_one();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the reloader had failed");
        }
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The people of each group of the configuration.
pub type Groups = BTreeMap<String, Vec<String>>;

/// Starts watching, then looks at once: what changed since `catalog` was loaded is not missed. Call it within a tokio runtime.
pub fn spawn(
    rules: PathBuf,
    runbooks: PathBuf,
    configured: (Offers, Groups),
    catalog: Arc<ArcSwap<Catalog>>,
    on_outcome: impl Fn(Outcome) + Send + Sync + 'static,
) -> Reloader {
    spawn_at(Pace::DEFAULT, rules, runbooks, configured, catalog, on_outcome)
}

/// The same at another pace.
pub fn spawn_at(
    pace: Pace,
    rules: PathBuf,
    runbooks: PathBuf,
    (offers, groups): (Offers, Groups),
    catalog: Arc<ArcSwap<Catalog>>,
    on_outcome: impl Fn(Outcome) + Send + Sync + 'static,
) -> Reloader {
    let changed = Arc::new(Notify::new());
    let watch = Watch::start(vec![rules.clone(), runbooks.clone()], changed.clone());
    let stop = Arc::new(Notify::new());
    let look = Look { rules, runbooks, offers, groups, catalog, refused: None };
    let task = tokio::spawn(run(pace, watch, look, changed, stop.clone(), on_outcome));
    Reloader { task, stop }
}

/// Why the files are looked at.
#[derive(Clone, Copy, PartialEq)]
enum Cause {
    Start,
    Notice,
    Poll,
}

async fn run(
    pace: Pace,
    watch: Watch,
    look: Look,
    changed: Arc<Notify>,
    stop: Arc<Notify>,
    on_outcome: impl Fn(Outcome) + Send + Sync + 'static,
) {
    let mut poll = interval_at(Instant::now() + pace.poll, pace.poll);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = (watch, look);
    let mut cause = Cause::Start;
    loop {
        if cause == Cause::Notice {
            debounce(pace, &changed).await;
        }
        // Reading, parsing and compiling take a while, and block.
        let looked = tokio::task::spawn_blocking(move || {
            let (mut watch, mut look) = state;
            // Watched first, read then: what changes in between is noticed.
            watch.renew();
            let seen = look.look(cause == Cause::Notice);
            (seen, (watch, look))
        });
        let seen;
        (seen, state) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                // The state is lost with the panic. What is in force stays so; a restart helps, and its cause must be mended here.
                tracing::error!(%error, "reading rules and runbooks failed; they are not reloaded any more");
                return;
            }
        };
        match seen {
            Seen::Same if cause == Cause::Poll => {}
            Seen::Same => on_outcome(Outcome::Unchanged),
            Seen::New(outcome) => on_outcome(outcome),
            Seen::RefusedBefore => {}
            Seen::Unsettled => {
                cause = Cause::Notice;
                continue;
            }
        }
        cause = tokio::select! {
            () = stop.notified() => return,
            () = changed.notified() => Cause::Notice,
            _ = poll.tick() => Cause::Poll,
        };
    }
}

/// Waits until it has been quiet, within reason.
async fn debounce(pace: Pace, changed: &Notify) {
    let patience = Instant::now() + pace.debounce * Pace::MOST_DEBOUNCES;
    while Instant::now() < patience && timeout(pace.debounce, changed.notified()).await.is_ok() {}
}

enum Seen {
    /// What is in force.
    Same,
    New(Outcome),
    RefusedBefore,
    /// Something else than before, that nobody gave notice of: it may be half written.
    Unsettled,
}

struct Look {
    rules: PathBuf,
    runbooks: PathBuf,
    offers: Offers,
    groups: Groups,
    catalog: Arc<ArcSwap<Catalog>>,
    /// The digest of the content that was refused last.
    refused: Option<String>,
}

impl Look {
    /// Reads the files and, if they are new, valid and `settled`, puts them in force.
    fn look(&mut self, settled: bool) -> Seen {
        let files = Files::read(&self.rules, &self.runbooks);
        let running = self.catalog.load_full();
        if files.digest == running.digest {
            return match self.refused.take() {
                Some(_) => Seen::New(Outcome::Unchanged),
                None => Seen::Same,
            };
        }
        if self.refused.as_ref() == Some(&files.digest) {
            return Seen::RefusedBefore;
        }
        if !settled {
            return Seen::Unsettled;
        }
        let digest = files.digest.clone();
        let built = Catalog::build(files, &self.rules, &self.runbooks, &self.offers, Some(&running));
        match built.and_then(|catalog| catalog.with_people(&self.groups)) {
            Ok(catalog) => {
                self.refused = None;
                let (rules, programs) = (catalog.rules.len(), catalog.programs.len());
                self.catalog.store(Arc::new(catalog));
                Seen::New(Outcome::Swapped { rules, programs })
            }
            Err(findings) => {
                self.refused = Some(digest);
                Seen::New(Outcome::Refused(findings))
            }
        }
    }
}
