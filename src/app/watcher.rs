//! Watches the cluster: looks at it at the start, every so often, and whenever the cluster says that something happened. Which services are in the middle of
//! an update is told to the board, for the guards. Where a rule or the configuration asks for it, what is different from what was told last is journalled as
//! events, like posts.

use super::Parts;
use super::dispatcher::Input;
use crate::engine::changes;
use crate::model::cluster::Service;
use crate::model::event::{self, Event, On};
use crate::ports::{NewIntake, PortError};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// How often the cluster is compared though it said nothing: its stream of events loses what happens while nobody listens.
const EVERY: Duration = Duration::from_secs(10);
/// A burst of notices is one look.
const SETTLE: Duration = Duration::from_millis(100);
/// The same where no rule waits for what happens: only what is in the middle of an update is wanted then.
const SETTLE_UNHURRIED: Duration = Duration::from_secs(1);
/// Between two looks passes so many times what the last one took: however much happens in however large a cluster, looking is a small part of the work.
const REST: u32 = 20;
/// How long the first look may hold up the start.
const AT_START: Duration = Duration::from_secs(5);
/// After a broken stream it is asked for again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// Events that are journalled as one post.
const EVENTS_A_POST: usize = 500;

/// The services in the middle of an update, asked before anything is decided; `None` when the cluster does not answer now.
pub async fn at_start(parts: &Parts) -> Option<BTreeSet<String>> {
    match tokio::time::timeout(AT_START, parts.cluster.services()).await {
        Ok(Ok(services)) => Some(updating(&services)),
        Ok(Err(error)) => {
            tracing::warn!(reason = %error.reason, %error, "the cluster cannot be looked at: runs wait until it can");
            None
        }
        Err(_) => {
            tracing::warn!("the cluster does not answer in time: runs wait until it does");
            None
        }
    }
}

fn updating(services: &[Service]) -> BTreeSet<String> {
    let busy = services.iter().filter(|service| service.update.in_progress());
    busy.map(|service| service.name.clone()).collect()
}

/// `seen`: what the journal says was told last.
pub async fn run(parts: Arc<Parts>, mut seen: BTreeMap<String, Value>, board: mpsc::UnboundedSender<Input>) {
    let notices = Arc::new(Notify::new());
    let listener = tokio::spawn(listen(parts.clone(), notices.clone()));
    // Ends with whoever aborts this task.
    let _listener = AbortOnDrop(listener);
    loop {
        let began = Instant::now();
        match look(&parts, &mut seen, &board).await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "the cluster changed"),
            Err(error) => tracing::warn!(reason = %error.reason, %error, "the cluster cannot be watched now"),
        }
        let settle = if tells(&parts) { SETTLE } else { SETTLE_UNHURRIED };
        let rest = (began.elapsed() * REST).clamp(settle, EVERY);
        tokio::select! {
            biased;
            () = tokio::time::sleep(EVERY) => {}
            () = notices.notified() => tokio::time::sleep(rest).await,
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The cluster's own notices, for as long as it sends them.
async fn listen(parts: Arc<Parts>, notices: Arc<Notify>) {
    loop {
        if let Err(error) = parts.cluster.listen(&notices).await {
            tracing::debug!(%error, "the cluster's stream of events broke off");
        }
        // What happened in between is found by comparing.
        notices.notify_one();
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

/// Does a rule, or the configuration, ask for what is different in the cluster?
fn tells(parts: &Parts) -> bool {
    parts.config.arbitration.hands.is_some() || parts.catalog.load().listens(On::Swarm)
}

/// Tells what is being updated; compares, journals what is different, and remembers it when it is durable. Returns how many events there were.
async fn look(
    parts: &Parts,
    seen: &mut BTreeMap<String, Value>,
    board: &mpsc::UnboundedSender<Input>,
) -> Result<usize, PortError> {
    let services = parts.cluster.services().await?;
    let _ = board.send(Input::Updating(updating(&services)));
    if !tells(parts) {
        return Ok(0);
    }
    let nodes = parts.cluster.nodes().await?;
    let events = changes::changes(seen, &services, &nodes, parts.clock.now());
    for some in events.chunks(EVENTS_A_POST) {
        if !journal(parts, some).await {
            break;
        }
        for known in some.iter().filter_map(|event| event.seen.clone()) {
            match known.state {
                Some(state) => seen.insert(known.what, state),
                None => seen.remove(&known.what),
            };
        }
    }
    Ok(events.len())
}

/// Whether they are durable; if not, the next look finds the same.
pub async fn journal(parts: &Parts, events: &[Event]) -> bool {
    let body = serde_json::to_vec(events).expect("events are plain data");
    let post =
        NewIntake { received_at: parts.clock.now(), source: event::INTAKE.into(), body: body.into(), group: None };
    match parts.journal.intake(post).await {
        Ok(_) => true,
        Err(error) => {
            tracing::error!(%error, "events cannot be journalled; trying again");
            false
        }
    }
}
