//! Plays many seeds on several threads, and says which of them failed and how to play it again.

use crate::generate::plan;
use crate::oracle::Counts;
use crate::plan::{Act, Plan};
use crate::play::{Played, play};
use runbookd::runbook::sandbox;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

/// A play takes milliseconds of a processor that has nothing else to do: one that takes this long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(300);
/// After so many failures the rest is not played.
const FAILURES: usize = 5;

#[derive(Default)]
pub struct Outcome {
    pub seeds: u64,
    pub counts: Counts,
    pub failed: Vec<u64>,
    /// What each of them broke, and how to play it again.
    pub failures: Vec<String>,
    pub took: Duration,
}

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
    /// What panicked in the play at hand, wherever it was caught.
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Plays seeds on `threads` threads; stops early after some failures.
pub fn run(seeds: Range<u64>, threads: u64) -> Outcome {
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let outcome = Mutex::new(Outcome::default());
    let enough = AtomicBool::new(false);
    let at_work: Vec<Mutex<Option<(u64, Instant)>>> = (0..threads).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = at_work
            .iter()
            .map(|mine| {
                scope.spawn(|| {
                    on_deep_stack(|| {
                        while !enough.load(Ordering::Relaxed) {
                            let seed = next.fetch_add(1, Ordering::Relaxed);
                            if seed >= seeds.end {
                                return;
                            }
                            *mine.lock().expect("unpoisoned") = Some((seed, Instant::now()));
                            let played = one(seed, false);
                            let mut outcome = outcome.lock().expect("unpoisoned");
                            outcome.seeds += 1;
                            outcome.counts += played.counts;
                            if let Some(violation) = played.violation {
                                let failure = format!("seed {seed}: {violation}\n  {}", command(seed));
                                eprintln!("{failure}");
                                outcome.failed.push(seed);
                                outcome.failures.push(failure);
                                enough.store(outcome.failures.len() >= FAILURES, Ordering::Relaxed);
                            }
                        }
                    });
                })
            })
            .collect();
        let mut told = Instant::now();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            for mine in &at_work {
                let at_work = *mine.lock().expect("unpoisoned");
                if let Some((seed, _)) = at_work.filter(|(_, since)| since.elapsed() > HANGS_AFTER) {
                    eprintln!("seed {seed} hangs\n  {}", command(seed));
                    std::process::exit(1);
                }
            }
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                let mut outcome = outcome.lock().expect("unpoisoned");
                outcome.took = began.elapsed();
                eprintln!("{outcome}");
            }
        }
    });
    let mut outcome = outcome.into_inner().expect("unpoisoned");
    outcome.took = began.elapsed();
    outcome
}

/// Plays one seed. A panic anywhere in it is a failure too.
pub fn one(seed: u64, traced: bool) -> Played {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            let seed = SEED.get();
            eprintln!("in seed {seed}\n  {}", command(seed));
            PANICKED.set(Some(panic.to_string()));
        }));
    });
    SEED.set(seed);
    PANICKED.set(None);
    let mut played = play(&plan(seed), traced);
    if let Some(panic) = PANICKED.take() {
        played.violation.get_or_insert(panic);
    }
    played
}

/// Plays a seed that fails with ever fewer of its acts, as long as it breaks the same invariant. How that went.
pub fn minimise(seed: u64) -> Played {
    let mut least = plan(seed);
    let invariant = |played: &Played| played.violation.as_ref().map(|what| what.chars().take(12).collect::<String>());
    let mut played = play(&least, true);
    let wanted = invariant(&played);
    // What comes at the end and after it is no act of the play.
    let end = |plan: &Plan| plan.acts.iter().position(|(_, act)| matches!(act, Act::Calm)).unwrap_or(0);
    let mut size = end(&least);
    while wanted.is_some() && size > 0 {
        let mut from = 0;
        while from < end(&least) {
            let mut fewer = least.clone();
            fewer.acts.drain(from..(from + size).min(end(&least)));
            let again = play(&fewer, true);
            if invariant(&again) == wanted {
                (least, played) = (fewer, again);
            } else {
                from += size;
            }
        }
        size /= 2;
    }
    played
}

/// Runs `work` on a thread whose stack is deep enough for every runbook: then each evaluation needs no thread of its own.
pub fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    sandbox::on_deep_stack(work)
}

fn command(seed: u64) -> String {
    format!("cargo run --example runbookd-sim -- --seed {seed} --trace")
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { incidents, runs, steps, effects, posts, messages, crashes, restarts, faults, edits, .. } =
            self.counts;
        let Counts { brakes, silences, undone, hours, .. } = self.counts;
        let (seeds, failed, took) = (self.seeds, self.failures.len(), self.took.as_secs());
        write!(
            f,
            "{seeds} seeds, {failed} failed, in {took} s: {incidents} incidents, {runs} runs, {steps} steps, {effects} effects, {posts} posts, \
             {messages} messages, {crashes} crashes, {restarts} restarts, {faults} faults, {edits} edits, {brakes} brakes, {silences} silences, {undone} undone, {hours:.0} simulated hours"
        )
    }
}
