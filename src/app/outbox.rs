//! Sends what the journal's outbox holds: at least once, in order within a thread, for as long as it takes.
//!
//! One task owns everything here. It pulls durable messages, keeps one lane a thread (an incident; operators' news share one), and delivers the
//! oldest message of each lane that may be tried now. A lane that fails waits by itself; `Retry-After` makes all of them wait, because it is the
//! account that is throttled. A message leaves the outbox only with a journalled `Sent` or `Unsendable`.

use crate::clock::Clock;
use crate::model::incident::IncidentId;
use crate::model::message::{Message, MessageId};
use crate::ports::{DeliverError, ErrorKind, ErrorReason, Humans, Journal, JournalError, Pending, PortError, Write};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, future};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// Messages read from the journal at once.
const PAGE: usize = 256;
/// Messages held in memory; the rest waits in the journal.
const MAX_HELD: usize = 4_096;
/// Deliveries under way at once, each of another thread.
const MAX_IN_FLIGHT: usize = 4;
/// A lane that fails is tried again after this, then twice that, and so on.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// No answer may make everything wait longer than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// The whole outbox is read again this often, in case a message was staged behind the cursor or a nudge was missed.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long `stop` waits for deliveries under way to end and be journalled.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// What became of one delivery, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Sent,
    /// It will be tried again.
    Failed(ErrorReason),
    /// It never will be.
    Unsendable(ErrorReason),
}

/// What the outbox works with.
pub struct OutboxParts {
    pub journal: Arc<dyn Journal>,
    pub humans: Arc<dyn Humans>,
    /// Shows what can never be sent, so that nobody misses it: the console.
    pub fallback: Arc<dyn Humans>,
    pub clock: Clock,
    /// Messages with an id up to this one were left by an earlier process (`Recovered::last_message`): the first of each thread may have been
    /// sent by it just before it ended.
    pub left_behind: MessageId,
    /// Called once for each delivery tried.
    pub observe: Box<dyn Fn(Delivery) + Send + Sync>,
}

/// A handle to the running outbox.
pub struct Outbox {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: tokio::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
}

struct Shared {
    parts: OutboxParts,
    nudge: Notify,
}

/// Starts sending.
pub fn spawn(parts: OutboxParts) -> Outbox {
    let shared = Arc::new(Shared { parts, nudge: Notify::new() });
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(Sender::new(shared.clone()).run(stopped));
    Outbox { shared, stop, task: tokio::sync::Mutex::new(Some(task)) }
}

impl Outbox {
    /// There may be a new message in the journal's outbox. Call it after staging one; it never blocks.
    pub fn nudge(&self) {
        self.shared.nudge.notify_one();
    }

    /// Messages that are not sent yet.
    pub async fn depth(&self) -> Result<u64, JournalError> {
        self.shared.parts.journal.outbox_depth().await
    }

    /// Sends one message at once, past the journal: only for telling people that the journal cannot write. It is not tried again; what cannot be
    /// sent is shown on the console.
    pub async fn direct(&self, message: &Message) -> Result<(), DeliverError> {
        let OutboxParts { humans, fallback, observe, .. } = &self.shared.parts;
        match humans.deliver(message, None).await {
            Ok(_) => {
                observe(Delivery::Sent);
                Ok(())
            }
            Err(error) => {
                observe(Delivery::Unsendable(error.error.reason));
                tracing::error!(%error, title = message.title, "a message that could not be journalled could not be sent either");
                let _ = fallback.deliver(message, None).await;
                Err(error)
            }
        }
    }

    /// Starts no further delivery, lets those under way end and be journalled, and returns. What is not sent stays in the journal.
    pub async fn stop(&self) {
        let _ = self.stop.send(true);
        if let Some(task) = self.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the outbox ended badly");
        }
    }
}

/// A thread; operators' news, which belong to no incident, share one.
type LaneKey = Option<IncidentId>;

/// The unsent messages of one thread, oldest first.
struct Lane {
    queue: VecDeque<Pending>,
    busy: bool,
    failures: u32,
    not_before: Instant,
}

/// A delivery that ended.
struct Ended {
    lane: LaneKey,
    id: MessageId,
    /// `None`: it is out of the outbox.
    again: Option<DeliverError>,
}

struct Sender {
    shared: Arc<Shared>,
    lanes: BTreeMap<LaneKey, Lane>,
    /// The ids in all lanes, those in flight included.
    held: HashSet<MessageId>,
    in_flight: FuturesUnordered<BoxFuture<'static, Ended>>,
    pulling: Option<BoxFuture<'static, Result<Vec<Pending>, JournalError>>>,
    pull_again: bool,
    /// Messages up to this id have been pulled in this sweep.
    cursor: MessageId,
    /// Threads whose oldest message left behind has been looked at.
    marked: HashSet<LaneKey>,
    /// Delivered while a pull was under way, which may have read them before.
    ended_meanwhile: HashSet<MessageId>,
    /// Throttled until then.
    not_before: Instant,
    pull_not_before: Instant,
}

impl Sender {
    fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Sender {
            shared,
            lanes: BTreeMap::new(),
            held: HashSet::new(),
            in_flight: FuturesUnordered::new(),
            pulling: None,
            pull_again: true,
            cursor: 0,
            marked: HashSet::new(),
            ended_meanwhile: HashSet::new(),
            not_before: now,
            pull_not_before: now,
        }
    }

    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let shared = self.shared.clone();
        let mut sweep_at = Instant::now() + SWEEP_EVERY;
        loop {
            self.start_pull();
            self.start_deliveries();
            let wake_at = self.wake_at().unwrap_or(sweep_at).min(sweep_at);
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => break,
                Some(ended) = self.in_flight.next() => self.ended(ended),
                pulled = poll_pull(&mut self.pulling) => self.pulled(pulled),
                () = shared.nudge.notified() => self.pull_again = true,
                () = sleep_until(wake_at) => {
                    if Instant::now() >= sweep_at {
                        sweep_at = Instant::now() + SWEEP_EVERY;
                        (self.cursor, self.pull_again) = (0, true);
                    }
                }
            }
        }
        let under_way = async { while self.in_flight.next().await.is_some() {} };
        if timeout(STOP_WITHIN, under_way).await.is_err() {
            tracing::warn!(
                limit_secs = STOP_WITHIN.as_secs(),
                "stopped before every message under way was journalled as sent: it is sent again after the next start"
            );
        }
    }

    /// Reads the next page, and makes sure that it is durable: nothing leaves the process before that.
    fn start_pull(&mut self) {
        let room = self.held.len() + PAGE <= MAX_HELD;
        if !self.pull_again || self.pulling.is_some() || !room || Instant::now() < self.pull_not_before {
            return;
        }
        self.pull_again = false;
        self.ended_meanwhile.clear();
        let (journal, after) = (self.shared.parts.journal.clone(), self.cursor);
        self.pulling = Some(Box::pin(async move {
            let page = journal.outbox(after, PAGE).await?;
            if !page.is_empty() {
                journal.commit().await?;
            }
            Ok(page)
        }));
    }

    fn pulled(&mut self, page: Result<Vec<Pending>, JournalError>) {
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "cannot read the outbox; trying again");
                self.pull_again = true;
                self.pull_not_before = Instant::now() + FIRST_RETRY;
                return;
            }
        };
        self.pull_again |= page.len() == PAGE;
        for mut pending in page {
            self.cursor = self.cursor.max(pending.id);
            if self.ended_meanwhile.contains(&pending.id) || !self.held.insert(pending.id) {
                continue;
            }
            let lane = self.lanes.entry(pending.message.incident).or_insert_with(Lane::new);
            // A crash may have fallen between sending and journalling it: within a thread that can be true of the oldest only.
            if pending.id <= self.shared.parts.left_behind && self.marked.insert(pending.message.incident) {
                pending.message.repeated = true;
            }
            // Nearly always the last; a message staged behind the cursor keeps its place in the order of ids, unless later ones are gone already.
            let place = lane.queue.partition_point(|other| other.id < pending.id).max(usize::from(lane.busy));
            lane.queue.insert(place, pending);
        }
    }

    /// When something waiting may be tried.
    fn wake_at(&self) -> Option<Instant> {
        let idle = self.lanes.values().filter(|lane| !lane.busy && !lane.queue.is_empty());
        let lane = idle.map(|lane| lane.not_before.max(self.not_before)).min();
        let full = self.in_flight.len() >= MAX_IN_FLIGHT;
        let pull = (self.pull_again && self.pulling.is_none() && self.pull_not_before > Instant::now())
            .then_some(self.pull_not_before);
        lane.filter(|_| !full).into_iter().chain(pull).min()
    }

    fn start_deliveries(&mut self) {
        let now = Instant::now();
        while self.in_flight.len() < MAX_IN_FLIGHT && now >= self.not_before {
            let ready = self.lanes.iter_mut().filter(|(_, lane)| !lane.busy && now >= lane.not_before);
            let oldest = ready.filter_map(|(key, lane)| Some((lane.queue.front()?.id, *key))).min();
            let Some((_, key)) = oldest else { return };
            let lane = self.lanes.get_mut(&key).expect("found just now");
            lane.busy = true;
            let pending = lane.queue.front().expect("has a front: its id was read just now").clone();
            self.in_flight.push(Box::pin(deliver(self.shared.clone(), key, pending)));
        }
    }

    fn ended(&mut self, ended: Ended) {
        let lane = self.lanes.get_mut(&ended.lane).expect("a lane stays while it is busy");
        lane.busy = false;
        let Some(error) = ended.again else {
            lane.queue.pop_front();
            (lane.failures, lane.not_before) = (0, Instant::now());
            if lane.queue.is_empty() {
                self.lanes.remove(&ended.lane);
            }
            self.held.remove(&ended.id);
            if self.pulling.is_some() {
                self.ended_meanwhile.insert(ended.id);
            }
            return;
        };
        if error.error.kind == ErrorKind::Unknown
            && let Some(front) = lane.queue.front_mut()
        {
            front.message.repeated = true;
        }
        let now = Instant::now();
        match error.retry_after {
            Some(wait) => {
                let until = now + wait.min(LONGEST_RETRY_AFTER);
                self.not_before = self.not_before.max(until);
            }
            None => {
                lane.not_before = now + backoff(lane.failures);
                lane.failures = lane.failures.saturating_add(1);
            }
        }
    }
}

impl Lane {
    fn new() -> Self {
        Lane { queue: VecDeque::new(), busy: false, failures: 0, not_before: Instant::now() }
    }
}

/// Doubles from [`FIRST_RETRY`] to [`LONGEST_RETRY`].
fn backoff(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_RETRY)
}

/// Resolves with what was pulled; never, while nothing is.
async fn poll_pull(
    pulling: &mut Option<BoxFuture<'static, Result<Vec<Pending>, JournalError>>>,
) -> Result<Vec<Pending>, JournalError> {
    match pulling {
        None => future::pending().await,
        Some(pull) => {
            let page = pull.await;
            *pulling = None;
            page
        }
    }
}

/// Sends one message and journals what became of it. It ends when that is durable, so that the next of the thread cannot overtake it in a crash.
async fn deliver(shared: Arc<Shared>, lane: LaneKey, Pending { id, message }: Pending) -> Ended {
    let OutboxParts { journal, clock, observe, .. } = &shared.parts;
    let write = match attempt(&shared, &message).await {
        Ok(root) => {
            observe(Delivery::Sent);
            Write::Sent { id, at: clock.now(), thread: root }
        }
        Err(error) if error.error.kind == ErrorKind::Permanent => {
            observe(Delivery::Unsendable(error.error.reason));
            tracing::error!(message = id, incident = ?message.incident, %error, "a message cannot be sent, and is shown on the console instead");
            if let Err(error) = shared.parts.fallback.deliver(&message, None).await {
                tracing::error!(message = id, %error, "nor can it be shown on the console");
            }
            Write::Unsendable { id, at: clock.now(), why: error.to_string() }
        }
        Err(error) => {
            observe(Delivery::Failed(error.error.reason));
            tracing::warn!(message = id, incident = ?message.incident, %error, "a message was not sent; it is tried again");
            return Ended { lane, id, again: Some(error) };
        }
    };
    journal.stage(vec![write]);
    if let Err(error) = journal.commit().await {
        tracing::error!(message = id, %error, "cannot journal that a message was sent: it may be sent again after a restart");
    }
    Ended { lane, id, again: None }
}

type Root = Option<(IncidentId, crate::model::message::ThreadRef)>;

async fn attempt(shared: &Shared, message: &Message) -> Result<Root, DeliverError> {
    let OutboxParts { journal, humans, .. } = &shared.parts;
    let thread = match message.incident {
        None => None,
        Some(incident) => journal.thread(incident).await.map_err(|error| DeliverError {
            error: PortError::transient(
                ErrorReason::Other,
                format!("the thread of {incident} cannot be read: {error}"),
            ),
            retry_after: None,
        })?,
    };
    // An adapter that panics must not end the outbox: nobody would be told anything any more.
    let delivery = AssertUnwindSafe(humans.deliver(message, thread.as_ref())).catch_unwind().await;
    let root = delivery.unwrap_or_else(|_| {
        let error = PortError::unknown(ErrorReason::Other, "the channel's adapter panicked");
        Err(DeliverError { error, retry_after: None })
    })?;
    Ok(message.incident.zip(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_come_ever_later_but_never_later_than_five_minutes() {
        let table = [(0, 1), (1, 2), (2, 4), (8, 256), (9, 300), (40, 300), (u32::MAX, 300)];
        for (failures, secs) in table {
            assert_eq!(backoff(failures), Duration::from_secs(secs), "{failures}");
        }
    }
}
