//! A journal in memory, for tests and the simulator: no threads, no clock, the same every time. It can die at any write boundary, and can fail.
//!
//! What is staged is seen by reads at once and becomes durable at the next boundary: an `intake`, or a `commit` that has something to write.

use super::error;
use super::tables::{Tables, stored};
use crate::model::alert::{Fingerprint, Level};
use crate::model::incident::{Incident, IncidentId, Transition};
use crate::model::message::{MessageId, ThreadRef};
use crate::model::run::{ProgramHash, Run, RunId, Sources};
use crate::model::step::Step;
use crate::ports::{
    IncidentFilter, Intake, Journal, JournalError, NewIntake, Pending, Recovered, RunFilter, Ticket, Write,
};
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{pending, ready};
use jiff::Timestamp;
use std::future::Future;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot, watch};

pub struct MemoryJournal {
    inner: Mutex<Inner>,
    intakes: watch::Sender<u64>,
    dead: watch::Sender<bool>,
    staged: Notify,
    asked: Notify,
}

struct Inner {
    state: State,
    /// What a crash leaves.
    durable: Tables,
    /// What reads see: `durable` and what is staged.
    visible: Tables,
    staged: Vec<Write>,
    /// Writes staged and posts taken.
    changes: u64,
    /// Boundaries passed.
    commits: u64,
    stop: Option<(u64, bool)>,
    /// Tickets of `commit` that wait for the end of a failure, or for `sync`.
    waiting: Vec<oneshot::Sender<()>>,
    /// Nothing becomes durable before somebody calls `sync`.
    slow: bool,
    /// Posts that wait for it, each with its ticket.
    posts: Vec<(NewIntake, oneshot::Sender<Result<u64, JournalError>>)>,
}

enum State {
    Alive,
    /// Cannot write, and why.
    Failing(String),
    /// Stopped at a boundary, as a killed process: nothing it was asked for is ever answered.
    Dead,
    /// Another journal has taken over what was durable.
    Replaced,
}

/// What became of a write at a boundary.
enum Boundary {
    Passed,
    Died,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryJournal {
    pub fn new() -> Self {
        Self::holding(Tables::default())
    }

    fn holding(durable: Tables) -> Self {
        let intakes = watch::Sender::new(durable.last_intake);
        let visible = durable.clone();
        let inner = Inner {
            state: State::Alive,
            durable,
            visible,
            staged: Vec::new(),
            changes: 0,
            commits: 0,
            stop: None,
            waiting: Vec::new(),
            slow: false,
            posts: Vec::new(),
        };
        MemoryJournal {
            inner: Mutex::new(inner),
            intakes,
            dead: watch::Sender::new(false),
            staged: Notify::new(),
            asked: Notify::new(),
        }
    }

    /// A new journal that holds only what was durable, as after `kill -9`. This one refuses everything from now on.
    pub fn crash(&self) -> MemoryJournal {
        let mut inner = self.inner();
        if !matches!(inner.state, State::Dead) {
            inner.state = State::Replaced;
        }
        inner.waiting.clear();
        inner.posts.clear();
        Self::holding(inner.durable.clone())
    }

    /// Dies at the `commit_no`-th boundary (the first is 1): just before it, so that it is lost, or just after. Its ticket and all that is asked
    /// later, reads too, never resolve.
    pub fn crash_at(&self, commit_no: u64, before: bool) {
        self.inner().stop = Some((commit_no, before));
    }

    /// Boundaries passed so far.
    pub fn commits(&self) -> u64 {
        self.inner().commits
    }

    /// While this is the same, reads see the same.
    pub fn changes(&self) -> u64 {
        self.inner().changes
    }

    /// Resolves when the journal has died at the boundary that `crash_at` named.
    pub fn dead(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut dead = self.dead.subscribe();
        async move {
            if dead.wait_for(|dead| *dead).await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Resolves when something was staged since it was last asked: a journal on disk would make it durable soon by itself, this one has no thread to.
    pub async fn staged(&self) {
        self.staged.notified().await;
    }

    /// From now on a commit or an intake takes as long as whoever calls `sync` lets it take, as on a disk that is busy. `false`: no time, again.
    pub fn slow(&self, slow: bool) {
        self.inner().slow = slow;
        if !slow {
            self.sync();
        }
    }

    /// Resolves when something waits for `sync`.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Makes durable what is staged and the posts that wait, in one go, and resolves their tickets.
    pub fn sync(&self) {
        let mut inner = self.inner();
        if !matches!(inner.state, State::Alive) {
            return;
        }
        for (post, ticket) in std::mem::take(&mut inner.posts) {
            let Boundary::Passed = self.write(&mut inner, Some(post)) else { return };
            let id = inner.durable.last_intake;
            self.intakes.send_replace(id);
            let _ = ticket.send(Ok(id));
        }
        if let Boundary::Passed = self.write(&mut inner, None) {
            for ticket in inner.waiting.drain(..) {
                // Nobody may be waiting any more.
                let _ = ticket.send(());
            }
        }
    }

    /// The steps that a crash at this moment would leave in doubt, each with its run, which has not ended.
    pub fn in_doubt(&self) -> Vec<(Run, Step)> {
        self.inner().durable.in_doubt()
    }

    /// Fails as a full disk does, with `why`, until it is given `None`: then tickets that waited resolve.
    pub fn fail(&self, why: Option<&str>) {
        let mut inner = self.inner();
        match (&inner.state, why) {
            (State::Alive | State::Failing(_), Some(why)) => {
                inner.state = State::Failing(why.to_string());
                for (_, ticket) in inner.posts.drain(..) {
                    let _ = ticket.send(Err(error(why)));
                }
            }
            (State::Failing(_), None) => {
                inner.state = State::Alive;
                if inner.waiting.is_empty() {
                    return;
                }
                if let Boundary::Passed = self.write(&mut inner, None) {
                    for ticket in inner.waiting.drain(..) {
                        // Nobody may be waiting any more.
                        let _ = ticket.send(());
                    }
                }
            }
            _ => {}
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds the lock")
    }

    /// Makes durable what is staged, and then `post`: a boundary, unless there is nothing to write.
    fn write(&self, inner: &mut Inner, post: Option<NewIntake>) -> Boundary {
        if inner.staged.is_empty() && post.is_none() {
            return Boundary::Passed;
        }
        let stop = inner.stop.filter(|(commit_no, _)| *commit_no == inner.commits + 1);
        if let Some((_, true)) = stop {
            return self.die(inner);
        }
        inner.commits += 1;
        let staged = std::mem::take(&mut inner.staged);
        staged.into_iter().for_each(|write| inner.durable.apply(write));
        if let Some(post) = post {
            inner.changes += 1;
            inner.visible.add(post.clone());
            inner.durable.add(post);
        }
        if stop.is_some() {
            return self.die(inner);
        }
        Boundary::Passed
    }

    fn die(&self, inner: &mut Inner) -> Boundary {
        inner.state = State::Dead;
        self.dead.send_replace(true);
        Boundary::Died
    }

    /// A read of what is visible, refused or left unanswered where the journal is.
    async fn read<T>(&self, read: impl FnOnce(&Tables) -> T) -> Result<T, JournalError> {
        let answer = {
            let inner = self.inner();
            match &inner.state {
                State::Alive => Some(Ok(read(&inner.visible))),
                State::Failing(_) if inner.staged.is_empty() => Some(Ok(read(&inner.visible))),
                State::Failing(why) => Some(Err(error(why.as_str()))),
                State::Replaced => Some(Err(replaced())),
                State::Dead => None,
            }
        };
        match answer {
            Some(answer) => answer,
            None => pending().await,
        }
    }
}

fn replaced() -> JournalError {
    error("this journal has crashed and another has taken over")
}

#[async_trait]
impl Journal for MemoryJournal {
    fn intake(&self, post: NewIntake) -> Ticket<u64> {
        let mut inner = self.inner();
        match &inner.state {
            State::Dead => return pending().boxed(),
            State::Replaced => return ready(Err(replaced())).boxed(),
            State::Failing(why) => return ready(Err(error(why.as_str()))).boxed(),
            State::Alive if inner.slow => {
                let (ticket, resolved) = oneshot::channel();
                inner.posts.push((post, ticket));
                self.asked.notify_one();
                return async move { if let Ok(said) = resolved.await { said } else { pending().await } }.boxed();
            }
            State::Alive => {}
        }
        match self.write(&mut inner, Some(post)) {
            Boundary::Died => pending().boxed(),
            Boundary::Passed => {
                let id = inner.durable.last_intake;
                self.intakes.send_replace(id);
                ready(Ok(id)).boxed()
            }
        }
    }

    async fn intake_after(&self, after: u64, limit: usize) -> Result<Vec<Intake>, JournalError> {
        self.read(|tables| tables.intake_after(after, limit)).await
    }

    fn intakes(&self) -> watch::Receiver<u64> {
        self.intakes.subscribe()
    }

    fn stage(&self, writes: Vec<Write>) {
        let mut inner = self.inner();
        if matches!(inner.state, State::Alive | State::Failing(_)) {
            for write in writes {
                let write = stored(write);
                inner.changes += 1;
                inner.visible.apply(write.clone());
                inner.staged.push(write);
            }
            self.staged.notify_one();
        }
    }

    fn commit(&self) -> Ticket<()> {
        let mut inner = self.inner();
        match &inner.state {
            State::Dead => return pending().boxed(),
            State::Replaced => return ready(Err(replaced())).boxed(),
            State::Alive if !inner.slow || inner.staged.is_empty() => {}
            State::Alive | State::Failing(_) => {
                let (ticket, resolved) = oneshot::channel();
                inner.waiting.push(ticket);
                self.asked.notify_one();
                // Dropped unresolved by a crash: then this ticket stays open for good, as in a killed process.
                return async move { if resolved.await.is_ok() { Ok(()) } else { pending().await } }.boxed();
            }
        }
        match self.write(&mut inner, None) {
            Boundary::Died => pending().boxed(),
            Boundary::Passed => ready(Ok(())).boxed(),
        }
    }

    fn health(&self) -> Result<(), JournalError> {
        match &self.inner().state {
            State::Alive | State::Dead => Ok(()),
            State::Failing(why) => Err(error(why.as_str())),
            State::Replaced => Err(replaced()),
        }
    }

    async fn recover(&self, since: Timestamp) -> Result<Recovered, JournalError> {
        self.read(|tables| tables.recover(since)).await
    }

    async fn run(&self, id: RunId) -> Result<Option<Run>, JournalError> {
        self.read(|tables| tables.run(id)).await
    }

    async fn steps(&self, id: RunId) -> Result<Vec<Step>, JournalError> {
        self.read(|tables| tables.steps(id)).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>, JournalError> {
        self.read(|tables| tables.runs(filter)).await
    }

    async fn program(&self, hash: &ProgramHash) -> Result<Option<Sources>, JournalError> {
        self.read(|tables| tables.program(hash)).await
    }

    async fn incident(&self, id: IncidentId) -> Result<Option<Incident>, JournalError> {
        self.read(|tables| tables.incident(id)).await
    }

    async fn transitions(&self, id: IncidentId) -> Result<Vec<Transition>, JournalError> {
        self.read(|tables| tables.transitions(id)).await
    }

    async fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<Incident>, JournalError> {
        self.read(|tables| tables.incidents(filter)).await
    }

    async fn level(&self, fingerprint: Fingerprint) -> Result<Option<Level>, JournalError> {
        self.read(|tables| tables.level(fingerprint)).await
    }

    async fn outbox(&self, after: MessageId, limit: usize) -> Result<Vec<Pending>, JournalError> {
        self.read(|tables| tables.outbox(after, limit)).await
    }

    async fn outbox_depth(&self) -> Result<u64, JournalError> {
        self.read(Tables::outbox_depth).await
    }

    async fn thread(&self, incident: IncidentId) -> Result<Option<ThreadRef>, JournalError> {
        self.read(|tables| tables.thread(incident)).await
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, JournalError> {
        self.commit().await?;
        // What is visible is what is durable now, but for what was staged since: neither is old.
        let mut inner = self.inner();
        inner.visible.prune(before);
        Ok(inner.durable.prune(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post() -> NewIntake {
        NewIntake {
            received_at: Timestamp::UNIX_EPOCH,
            source: "alertmanager".into(),
            body: [1][..].into(),
            group: None,
        }
    }

    fn set(name: &'static str) -> Vec<Write> {
        vec![Write::Setting(name.into(), Some("set".into()))]
    }

    async fn settings(journal: &MemoryJournal) -> Vec<String> {
        let found = journal.recover(Timestamp::UNIX_EPOCH).await.expect("recovers").settings;
        found.into_iter().map(|(name, _)| name).collect()
    }

    #[tokio::test]
    async fn a_crash_loses_what_was_not_committed() {
        let journal = MemoryJournal::new();
        journal.stage(set("a"));
        journal.commit().await.expect("commits");
        journal.stage(set("b"));
        assert_eq!(settings(&journal).await, ["a", "b"]);
        let next = journal.crash();
        assert_eq!(settings(&next).await, ["a"]);
        assert!(journal.commit().await.is_err() && journal.intake(post()).await.is_err());
        assert!(journal.run(RunId(1)).await.is_err() && journal.health().is_err());
    }

    #[tokio::test]
    async fn it_dies_at_the_boundary_that_was_named() {
        // Boundaries: "a", an intake with "b", "c".
        for (commit_no, before, kept, intakes) in [
            (1, true, &[][..], 0),
            (1, false, &["a"][..], 0),
            (2, true, &["a"], 0),
            (2, false, &["a", "b"], 1),
            (3, true, &["a", "b"], 1),
            (3, false, &["a", "b", "c"], 1),
        ] {
            let journal = MemoryJournal::new();
            journal.crash_at(commit_no, before);
            let dead = journal.dead();
            let work = async {
                journal.stage(set("a"));
                journal.commit().await.expect("commits");
                journal.commit().await.expect("has nothing to write: no boundary");
                journal.stage(set("b"));
                journal.intake(post()).await.expect("stored");
                journal.stage(set("c"));
                journal.commit().await.expect("commits");
                unreachable!("it never gets here");
            };
            tokio::select! {
                () = work => {}
                () = dead => {}
            }
            assert_eq!(journal.commits(), commit_no - u64::from(before));
            assert!(journal.run(RunId(1)).now_or_never().is_none(), "a dead journal answers nothing");
            assert!(journal.intake(post()).now_or_never().is_none());
            assert!(journal.commit().now_or_never().is_none());
            let next = journal.crash();
            assert_eq!(settings(&next).await, kept, "boundary {commit_no}, before: {before}");
            assert_eq!(*next.intakes().borrow(), intakes);
            assert!(journal.commit().now_or_never().is_none(), "it stays dead");
        }
    }

    #[tokio::test]
    async fn a_slow_journal_makes_tickets_wait_for_sync() {
        let journal = MemoryJournal::new();
        journal.slow(true);
        journal.commit().await.expect("has nothing to write");
        journal.stage(set("a"));
        let (mut post, mut ticket) = (journal.intake(post()), journal.commit());
        journal.asked().await;
        assert!((&mut ticket).now_or_never().is_none() && (&mut post).now_or_never().is_none());
        assert_eq!(settings(&journal).await, ["a"], "what is staged is seen");
        assert_eq!(*journal.intakes().borrow(), 0);
        journal.sync();
        ticket.await.expect("commits");
        assert_eq!(post.await.expect("stored"), 1);
        journal.stage(set("b"));
        let lost = journal.commit();
        assert_eq!(settings(&journal.crash()).await, ["a"]);
        assert!(lost.now_or_never().is_none(), "a crash leaves it open");
    }

    #[tokio::test]
    async fn a_slow_journal_dies_where_it_is_told_to_and_can_fail_meanwhile() {
        let journal = MemoryJournal::new();
        journal.slow(true);
        let refused = journal.intake(post());
        journal.fail(Some("disk full"));
        assert_eq!(refused.await.map_err(|error| error.to_string()), Err("disk full".into()));
        journal.stage(set("a"));
        let ticket = journal.commit();
        journal.fail(None);
        ticket.await.expect("commits");
        journal.crash_at(3, true);
        let (one, other) = (journal.intake(post()), journal.intake(post()));
        journal.sync();
        assert_eq!(one.await.expect("stored"), 1);
        assert!(other.now_or_never().is_none() && journal.dead().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_failing_journal_refuses_intake_and_keeps_tickets_waiting() {
        let journal = MemoryJournal::new();
        journal.fail(Some("disk full"));
        assert_eq!(journal.intake(post()).await.map_err(|error| error.to_string()), Err("disk full".into()));
        journal.stage(set("a"));
        let mut ticket = journal.commit();
        assert!((&mut ticket).now_or_never().is_none());
        assert_eq!(journal.health().map_err(|error| error.to_string()), Err("disk full".into()));
        journal.fail(None);
        ticket.await.expect("commits");
        journal.health().expect("healthy");
        assert_eq!(journal.intake(post()).await.expect("stored"), 1);
        assert_eq!(settings(&journal.crash()).await, ["a"]);
    }
}
