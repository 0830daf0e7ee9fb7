//! The one writer: a queue in order, a thread that writes all that is queued as one transaction (group commit), and what happens when it cannot.

use super::checkpoint::Wal;
use super::ring::Ring;
use super::rows::Rows;
use super::{closed, explain, retention};
use crate::ports::{Intake, JournalError, NewIntake, Write};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// What is only staged is written this long after at the latest.
const LAZY: Duration = Duration::from_millis(50);
/// So many staged writes do not wait for that.
const LAZY_MAX: usize = 4_096;
/// Writes in one transaction, and bytes of intakes, beyond which the next one begins.
const TRANSACTION_WRITES: usize = 4_096;
const TRANSACTION_BYTES: usize = 32 << 20;
/// The same while it cannot write: what fails should fail soon.
const TRIAL_WRITES: usize = 256;
/// How long after a failure it tries again by itself.
const RETRY: Duration = Duration::from_secs(1);
/// Rounds of `LAZY` without work after which the thread sleeps until it is woken.
const IDLE_ROUNDS: u32 = 20;
/// Room on the disk that ends a failure, at least and at most.
const PROBE_BYTES: std::ops::RangeInclusive<usize> = 64 << 10..=1 << 20;

pub(super) type Reply<T> = oneshot::Sender<Result<T, JournalError>>;

/// What is queued. Each is wholly in one transaction, with its neighbours as it comes.
pub(super) enum Unit {
    Writes(Vec<Write>),
    /// Refused when its transaction fails.
    Intake(NewIntake, Reply<u64>),
    /// Resolves when all before it is durable, however long that takes.
    Commit(oneshot::Sender<()>),
    /// The same for a read, which had better fail than wait.
    Flush(Reply<()>),
    /// One batch of retention.
    Prune(Timestamp, Reply<u64>),
}

/// What the journal and its writer share.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    queue: Mutex<Queue>,
    wake: Condvar,
    trouble: Mutex<Option<JournalError>>,
    pub(super) ring: Mutex<Ring>,
    pub(super) intakes: watch::Sender<u64>,
    pub(super) wal: Arc<Wal>,
    /// Staged writes that are not durable yet.
    backlog: AtomicUsize,
    /// Pages that the file may have; see `SqliteJournal::limit_pages`.
    pub(super) max_pages: AtomicU32,
}

#[derive(Default)]
struct Queue {
    units: Vec<Unit>,
    /// Writes among the units.
    staged: usize,
    /// Somebody waits.
    urgent: bool,
    /// The thread waits without end and must be woken for anything.
    asleep: bool,
    stop: bool,
    /// Nothing is taken from it any more.
    closed: bool,
}

impl Shared {
    pub(super) fn new(path: PathBuf, last_intake: u64, wal: Arc<Wal>) -> Self {
        Shared {
            path,
            queue: Mutex::default(),
            wake: Condvar::new(),
            trouble: Mutex::default(),
            ring: Mutex::new(Ring::above(last_intake)),
            intakes: watch::Sender::new(last_intake),
            wal,
            backlog: AtomicUsize::new(0),
            max_pages: AtomicU32::new(0),
        }
    }

    /// Queues what somebody waits for.
    pub(super) fn ask(&self, unit: Unit) {
        let mut queue = self.queue();
        if queue.closed {
            return;
        }
        queue.units.push(unit);
        queue.urgent = true;
        drop(queue);
        self.wake.notify_one();
    }

    pub(super) fn stage(&self, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        self.backlog.fetch_add(writes.len(), Ordering::Relaxed);
        let mut queue = self.queue();
        if queue.closed {
            return;
        }
        queue.staged += writes.len();
        queue.units.push(Unit::Writes(writes));
        let wake = queue.asleep || queue.staged >= LAZY_MAX;
        drop(queue);
        if wake {
            self.wake.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        self.queue().stop = true;
        self.wake.notify_one();
    }

    pub(super) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    pub(super) fn health(&self) -> Result<(), JournalError> {
        self.trouble().clone().map_or(Ok(()), Err)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no code panics while it holds the lock")
    }

    fn trouble(&self) -> MutexGuard<'_, Option<JournalError>> {
        self.trouble.lock().expect("no code panics while it holds the lock")
    }

    pub(super) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("no code panics while it holds the lock")
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    rows: Rows,
    /// Taken from the queue and not yet durable, in order.
    units: VecDeque<Unit>,
    last_intake: u64,
    max_pages: u32,
    trouble: Option<Trouble>,
}

struct Trouble {
    retry_at: Instant,
    /// How much room the disk must have to end it.
    probe_bytes: usize,
}

/// Closes the queue when the thread ends, by a panic too: nobody waits for what will not come.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        *self.0.trouble() = Some(closed());
        let mut queue = self.0.queue();
        queue.closed = true;
        queue.units.clear();
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, rows: Rows, last_intake: u64) -> Self {
        Writer { shared, rows, units: VecDeque::new(), last_intake, max_pages: 0, trouble: None }
    }

    /// Until it is stopped, and then once more for what is left.
    pub(super) fn run(mut self) {
        let _closing = Closing(self.shared.clone());
        loop {
            let stop = self.take();
            self.drain();
            if stop {
                if !self.units.is_empty() {
                    let writes = self.shared.backlog();
                    tracing::error!(writes, "the journal stops without having written what was staged last");
                }
                return;
            }
        }
    }

    /// Waits until there is a reason to write, and takes all that is queued. `true` when this is the last time.
    fn take(&mut self) -> bool {
        let shared = self.shared.clone();
        let mut queue = shared.queue();
        let mut idle = 0;
        loop {
            if queue.urgent || queue.stop || (self.trouble.is_none() && queue.staged >= LAZY_MAX) {
                break;
            }
            let wait = self
                .trouble
                .as_ref()
                .map_or(LAZY, |trouble| trouble.retry_at.saturating_duration_since(Instant::now()));
            if idle < IDLE_ROUNDS || self.trouble.is_some() {
                let (back, waited) =
                    shared.wake.wait_timeout(queue, wait).expect("no code panics while it holds the lock");
                queue = back;
                if waited.timed_out() && (queue.staged > 0 || self.trouble.is_some()) {
                    break;
                }
                idle += u32::from(waited.timed_out());
            } else {
                queue.asleep = true;
                queue = shared.wake.wait(queue).expect("no code panics while it holds the lock");
                queue.asleep = false;
                idle = 0;
            }
        }
        queue.urgent = false;
        queue.staged = 0;
        self.units.extend(queue.units.drain(..));
        // A burst's worth of room is not kept for ever.
        queue.units.shrink_to(LAZY_MAX);
        queue.stop
    }

    /// Writes all that was taken, or what can be.
    fn drain(&mut self) {
        self.limit_pages();
        while !self.units.is_empty() || self.trouble.is_some() {
            let count = self.share();
            match self.write(count) {
                Ok(pruned) => {
                    if self.trouble.take().is_some() {
                        *self.shared.trouble() = None;
                        tracing::info!("the journal can be written again");
                    }
                    self.resolve(count, pruned);
                }
                Err(error) => return self.fail(&error),
            }
        }
        self.units.shrink_to(LAZY_MAX);
    }

    /// How many units the next transaction takes.
    fn share(&self) -> usize {
        let writes_max = if self.trouble.is_some() { TRIAL_WRITES } else { TRANSACTION_WRITES };
        let (mut writes, mut bytes) = (0, 0);
        let fits = self.units.iter().take_while(|unit| {
            let room = writes < writes_max && bytes < TRANSACTION_BYTES;
            match unit {
                Unit::Writes(more) => writes += more.len(),
                Unit::Intake(post, _) => bytes += post.body.len(),
                Unit::Commit(_) | Unit::Flush(_) | Unit::Prune(..) => {}
            }
            room
        });
        fits.count()
    }

    /// The first `count` units as one transaction; durable when this returns. Returns how many rows each batch of retention deleted.
    fn write(&mut self, count: usize) -> rusqlite::Result<VecDeque<u64>> {
        let Writer { shared, rows, units, trouble, .. } = self;
        let (mut pruned, mut id) = (VecDeque::new(), self.last_intake);
        shared.wal.pass();
        let units = units.range(..count);
        if units.clone().all(|unit| matches!(unit, Unit::Commit(_) | Unit::Flush(_))) {
            // Nothing to write. After a failure that proves nothing: find out.
            return trouble.as_ref().map_or(Ok(()), |trouble| rows.probe(trouble.probe_bytes)).map(|()| pruned);
        }
        rows.transaction(|rows| {
            let mut handled = None;
            for unit in units {
                match unit {
                    Unit::Writes(writes) => {
                        for write in writes {
                            rows.write(write)?;
                            if let Write::Handled(id) = write {
                                handled = Some(*id);
                            }
                        }
                    }
                    Unit::Intake(post, _) => {
                        id += 1;
                        rows.intake(id, post)?;
                    }
                    Unit::Prune(before, _) => {
                        // Retention looks at what was handled.
                        handled.take().map_or(Ok(()), |id| rows.handled(id))?;
                        pruned.push_back(retention::batch(rows, *before)?);
                    }
                    Unit::Commit(_) | Unit::Flush(_) => {}
                }
            }
            handled.map_or(Ok(()), |id| rows.handled(id))?;
            Ok(pruned)
        })
    }

    /// The first `count` units are durable: tells whom it concerns, in order. Who has stopped listening is not missed.
    fn resolve(&mut self, count: usize, mut pruned: VecDeque<u64>) {
        let mut id = self.last_intake;
        self.show_intakes(count);
        for unit in self.units.drain(..count) {
            match unit {
                Unit::Writes(writes) => {
                    self.shared.backlog.fetch_sub(writes.len(), Ordering::Relaxed);
                }
                Unit::Intake(_, reply) => {
                    id += 1;
                    let _ = reply.send(Ok(id));
                }
                Unit::Commit(ticket) => {
                    let _ = ticket.send(());
                }
                Unit::Flush(reply) => {
                    let _ = reply.send(Ok(()));
                }
                Unit::Prune(_, reply) => {
                    let rows = pruned.pop_front().expect("each batch has its figure");
                    let _ = reply.send(Ok(rows));
                }
            }
        }
    }

    /// Lets readers see the posts among the first `count` units, before anybody is told of their ids.
    fn show_intakes(&mut self, count: usize) {
        let mut id = self.last_intake;
        let mut ring = self.shared.ring();
        for post in self.posts(count) {
            id += 1;
            ring.push(Intake { id, post: post.clone() });
        }
        drop(ring);
        if id > self.last_intake {
            self.last_intake = id;
            self.shared.intakes.send_replace(id);
        }
    }

    fn posts(&self, count: usize) -> impl Iterator<Item = &NewIntake> {
        self.units.range(..count).filter_map(|unit| match unit {
            Unit::Intake(post, _) => Some(post),
            _ => None,
        })
    }

    /// Nothing of the last transaction is stored. Refuses what can be refused; keeps the rest, in order, to be tried again.
    fn fail(&mut self, error: &rusqlite::Error) {
        let error = explain(&self.shared.path, "write", error);
        if self.trouble.is_none() {
            tracing::error!(%error, "the journal cannot be written: intake is refused and nothing is started until it can");
        }
        let known = self.trouble.as_ref().map_or(0, |trouble| trouble.probe_bytes);
        let bytes: usize = self.posts(self.units.len()).map(|post| post.body.len()).sum();
        let probe_bytes = bytes.max(known).clamp(*PROBE_BYTES.start(), *PROBE_BYTES.end());
        self.trouble = Some(Trouble { retry_at: Instant::now() + RETRY, probe_bytes });
        // Who is refused and asks for the reason finds it.
        *self.shared.trouble() = Some(error.clone());
        let mut kept = VecDeque::new();
        for unit in self.units.drain(..) {
            match unit {
                Unit::Writes(_) | Unit::Commit(_) => kept.push_back(unit),
                Unit::Intake(_, reply) | Unit::Prune(_, reply) => {
                    let _ = reply.send(Err(error.clone()));
                }
                Unit::Flush(reply) => {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
        self.units = kept;
    }

    fn limit_pages(&mut self) {
        let wanted = self.shared.max_pages.load(Ordering::Relaxed);
        if wanted != self.max_pages {
            self.max_pages = wanted;
            // SQLite's own maximum, for "no limit".
            let pages = if wanted == 0 { 4_294_967_294 } else { i64::from(wanted) };
            let set = self.rows.conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
            if let Err(error) = set {
                tracing::error!(%error, "cannot limit the journal's size");
            }
        }
    }
}
