//! The loop: one task that owns the board, feeds it what happens, stages what it writes, and starts what it wants started.

use super::board::{Board, Ended, Out, Permit, Reply, Seen, Trust};
use super::executor::Executor;
use super::outbox::Outbox;
use super::undo::Wish;
use super::{CommandError, Kept, Parts, Paused, Stops};
use crate::engine::guard::{Company, Verdict};
use crate::model::effect::Effect;
use crate::model::freeze::{Freeze, FreezeId, Scope};
use crate::model::incident::{Incident, IncidentId, Reason};
use crate::model::mode::Plan;
use crate::model::run::Run;
use crate::model::step::Step;
use crate::ports::{KnownAlert, PortError};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// How many posts are handled between two looks at everything else.
const BATCH: usize = 256;
/// How often staleness, the metrics of states and the sign of life are seen to.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// What the dispatcher is told by executors, HTTP handlers and timers.
pub enum Input {
    Ended(Box<Ended>),
    /// `notify` in a run: step and message in one transaction.
    Notify {
        run: Box<Run>,
        step: Box<Step>,
        text: String,
        done: oneshot::Sender<()>,
    },
    MayGoOn {
        run: Box<Run>,
        answer: oneshot::Sender<Result<(), Reason>>,
    },
    Lock {
        run: Box<Run>,
        targets: Vec<String>,
        answer: oneshot::Sender<Result<(), Reason>>,
    },
    /// May the run do what its plan does not have? With a plan: people are asked.
    Permit {
        run: Box<Run>,
        plan: Option<Plan>,
        answer: oneshot::Sender<Permit>,
    },
    /// `ask` in a run: step and question in one transaction.
    Ask {
        run: Box<Run>,
        step: Box<Step>,
        text: String,
        answers: Vec<String>,
        within: crate::model::duration::Duration,
        done: oneshot::Sender<()>,
    },
    Answered {
        run: Box<Run>,
        seq: u32,
        answer: oneshot::Sender<Option<String>>,
    },
    /// A person approves, denies or answers what is asked about an incident.
    Reply {
        id: IncidentId,
        by: String,
        reply: Reply,
        answer: oneshot::Sender<Result<Incident, CommandError>>,
    },
    SetTrust {
        rule: String,
        trusted: bool,
        by: String,
        why: String,
        answer: oneshot::Sender<Result<Trust, CommandError>>,
    },
    Trust {
        answer: oneshot::Sender<BTreeMap<String, Trust>>,
    },
    Admit {
        run: Box<Run>,
        effect: Effect,
        companies: Vec<Company>,
        /// Since when it counts.
        answer: oneshot::Sender<Result<Timestamp, Verdict>>,
    },
    Fires {
        run: Box<Run>,
        answer: oneshot::Sender<bool>,
    },
    /// A look at what is expected of a run that helped.
    Looked {
        incident: IncidentId,
        since: Timestamp,
        seen: Seen,
    },
    /// A run under way may begin no effect now.
    RunHeld {
        run: Box<Run>,
        reason: Reason,
    },
    RunReleased {
        run: Box<Run>,
    },
    Ack {
        id: IncidentId,
        by: String,
        answer: oneshot::Sender<Result<Incident, CommandError>>,
    },
    Close {
        id: IncidentId,
        by: String,
        reason: String,
        answer: oneshot::Sender<Result<Incident, CommandError>>,
    },
    Undo {
        wish: Box<Wish>,
        answer: oneshot::Sender<Result<Incident, CommandError>>,
    },
    CloseBreaker {
        rule: String,
        by: String,
        reason: String,
        answer: oneshot::Sender<Result<(), CommandError>>,
    },
    Pause {
        by: String,
        reason: String,
        answer: oneshot::Sender<Paused>,
    },
    Resume {
        by: String,
        answer: oneshot::Sender<Result<(), CommandError>>,
    },
    Release {
        by: String,
        answer: oneshot::Sender<Result<(), CommandError>>,
    },
    Freeze {
        scope: Scope,
        until: Timestamp,
        by: String,
        reason: String,
        answer: oneshot::Sender<Result<Freeze, CommandError>>,
    },
    Unfreeze {
        id: FreezeId,
        by: String,
        answer: oneshot::Sender<Result<Freeze, CommandError>>,
    },
    CatalogSwapped,
    /// The services in the middle of an update are these now.
    Updating(BTreeSet<String>),
    Reconciled {
        asked: Timestamp,
        known: Result<Vec<KnownAlert>, PortError>,
    },
    TellOperators {
        key: String,
        title: String,
        text: String,
    },
    /// What people were told of is over.
    GoodNews {
        title: String,
        text: String,
    },
    Stop,
}

pub struct Dispatcher {
    pub parts: Arc<Parts>,
    pub board: Board,
    pub inbox: mpsc::UnboundedReceiver<Input>,
    pub executor: Arc<Executor>,
    pub outbox: Arc<Outbox>,
    /// Wakes the reconciler before its time.
    pub reconcile: Arc<tokio::sync::Notify>,
    pub effectiveness: watch::Sender<Kept>,
    /// What the executors follow.
    pub stops: watch::Sender<Stops>,
    /// Answers to commands, given when what they decided has been staged.
    pub answers: Vec<Box<dyn FnOnce() + Send>>,
}

impl Dispatcher {
    /// Runs until it is told to stop; what it had been told before is handled first.
    pub async fn run(mut self) {
        let mut intakes = self.parts.journal.intakes();
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // At every turn, so that a flood of other things keeps no timer waiting.
            self.board.tick(self.parts.clock.now());
            self.flush();
            let committed = *intakes.borrow_and_update();
            let more = self.take_posts(committed).await;
            let timer = self.board.next_timer();
            let clock = self.parts.clock;
            let due = async move {
                match timer {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = housekeeping.tick() => self.keep_house(),
                input = self.inbox.recv() => match input {
                    None | Some(Input::Stop) => return,
                    Some(input) => {
                        if self.handle_all(input) {
                            // What was told before it is handled: it must be staged, too.
                            self.flush();
                            return;
                        }
                    }
                },
                () = due => {}
                changed = intakes.changed(), if !more => if changed.is_err() { return },
                () = std::future::ready(()), if more => {}
            }
            self.flush();
        }
    }

    /// Handles journalled posts that are not reflected yet. Returns whether there are more.
    async fn take_posts(&mut self, committed: u64) -> bool {
        if committed <= self.board.handled() {
            return false;
        }
        let posts = match self.parts.journal.intake_after(self.board.handled(), BATCH).await {
            Ok(posts) => posts,
            Err(error) => {
                tracing::error!(%error, "cannot read posts back from the journal; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                return true;
            }
        };
        let found = !posts.is_empty();
        for post in posts {
            self.board.take_post(&post, self.parts.clock.now());
        }
        self.flush();
        found && self.board.handled() < committed
    }

    /// Handles one input and all that wait behind it, up to a bound. Returns whether to stop.
    fn handle_all(&mut self, first: Input) -> bool {
        let mut next = Some(first);
        for _ in 0..BATCH {
            match next.take() {
                None => break,
                Some(Input::Stop) => return true,
                Some(input) => self.handle(input),
            }
            next = self.inbox.try_recv().ok();
        }
        match next {
            Some(Input::Stop) => true,
            Some(input) => {
                self.handle(input);
                false
            }
            None => false,
        }
    }

    fn handle(&mut self, input: Input) {
        let now = self.parts.clock.now();
        let board = &mut self.board;
        // Whoever asked may be gone: an answer that nobody takes is dropped.
        match input {
            Input::Ended(ended) => board.run_ended(*ended, now),
            Input::Notify { run, step, text, done } => {
                board.notify(&run, *step, &text, now);
                self.answers.push(Box::new(move || {
                    let _ = done.send(());
                }));
            }
            Input::MayGoOn { run, answer } => drop(answer.send(board.may_go_on(&run))),
            Input::Lock { run, targets, answer } => drop(answer.send(board.lock_more(&run, &targets))),
            Input::Permit { run, plan, answer } => {
                let permit = board.permit(&run, plan, now);
                self.answers.push(Box::new(move || drop(answer.send(permit))));
            }
            Input::Ask { run, step, text, answers, within, done } => {
                board.ask(&run, *step, text, answers, within, now);
                self.answers.push(Box::new(move || {
                    let _ = done.send(());
                }));
            }
            Input::Answered { run, seq, answer } => drop(answer.send(board.answered(&run, seq))),
            Input::Reply { id, by, reply, answer } => {
                let said = board.reply(id, &by, reply, now);
                self.answers.push(Box::new(move || drop(answer.send(said))));
            }
            Input::SetTrust { rule, trusted, by, why, answer } => {
                let said = board.trust_by_hand(&rule, trusted, &by, &why, now);
                self.answers.push(Box::new(move || drop(answer.send(said))));
            }
            Input::Trust { answer } => drop(answer.send(board.trust().clone())),
            Input::Admit { run, effect, companies, answer } => {
                drop(answer.send(board.admit(&run, effect, companies, now)));
            }
            Input::Fires { run, answer } => drop(answer.send(board.run_fires(&run))),
            Input::Looked { incident, since, seen } => board.looked(incident, since, seen, now),
            Input::Ack { id, by, answer } => {
                let said = board.ack(id, &by, now);
                self.answers.push(Box::new(move || drop(answer.send(said))));
            }
            Input::Close { id, by, reason, answer } => {
                let said = board.close_by_hand(id, &by, &reason, now);
                self.answers.push(Box::new(move || drop(answer.send(said))));
            }
            Input::Undo { wish, answer } => {
                let said = board.undo(*wish, now);
                self.answers.push(Box::new(move || drop(answer.send(said))));
            }
            Input::CloseBreaker { rule, by, reason, answer } => {
                let said = board.close_breaker(&rule, &by, &reason, now);
                self.answers.push(Box::new(move || drop(answer.send(said))));
            }
            Input::Pause { by, reason, answer } => {
                let paused = board.pause(&by, &reason, now);
                self.answers.push(Box::new(move || drop(answer.send(paused))));
            }
            Input::Resume { by, answer } => {
                let resumed = board.resume(&by, now);
                self.answers.push(Box::new(move || drop(answer.send(resumed))));
            }
            Input::Release { by, answer } => {
                let released = board.release_brake(&by, now);
                self.answers.push(Box::new(move || drop(answer.send(released))));
            }
            Input::Freeze { scope, until, by, reason, answer } => {
                let made = board.freeze(scope, until, &by, &reason, now);
                self.answers.push(Box::new(move || drop(answer.send(made))));
            }
            Input::Unfreeze { id, by, answer } => {
                let ended = board.unfreeze(id, &by, now);
                self.answers.push(Box::new(move || drop(answer.send(ended))));
            }
            Input::RunHeld { run, reason } => board.run_held(&run, reason, now),
            Input::RunReleased { run } => board.run_released(&run, now),
            Input::CatalogSwapped => board.catalog_swapped(self.parts.catalog.load_full(), now),
            Input::Updating(services) => board.saw_updating(services, now),
            Input::Reconciled { asked, known: Ok(known) } => board.reconciled(asked, &known, now),
            Input::Reconciled { known: Err(error), .. } => board.not_reconciled(&error.message, now),
            Input::TellOperators { key, title, text } => board.tell_operators(&key, &title, &text, now),
            Input::GoodNews { title, text } => board.tell_good_news(&title, &text, now),
            Input::Stop => {}
        }
        self.publish_stops();
    }

    /// Lets the executors follow what stops effects now.
    fn publish_stops(&mut self) {
        if self.board.take_stops_changed() {
            self.stops.send_replace(self.board.stops().clone());
            self.executor.ask_again();
        }
    }

    fn keep_house(&mut self) {
        let now = self.parts.clock.now();
        self.board.find_stale(now);
        self.board.note_alive(now);
        self.parts.metrics.set_journal_healthy(self.parts.journal.health().is_ok());
    }

    /// Stages what the board wrote, then does what it wants done. The executors hear first of what stops them, whatever brought it about: a post can pull the
    /// fleet brake.
    fn flush(&mut self) {
        self.publish_stops();
        let Out { writes, starts, wakes, stops, verified, verify, effectiveness, messages, reconcile } =
            self.board.take_out();
        if !writes.is_empty() {
            self.parts.journal.stage(writes);
        }
        if effectiveness {
            self.effectiveness.send_replace(Arc::new(self.board.effectiveness().clone()));
        }
        for answer in self.answers.drain(..) {
            answer();
        }
        for start in starts {
            self.executor.start(start);
        }
        for run in stops {
            self.executor.stop_run(run);
        }
        for run in wakes {
            self.executor.wake(run);
        }
        for incident in verified {
            self.executor.stop_verifying(incident);
        }
        for verification in verify {
            self.executor.verify(verification);
        }
        if messages {
            self.outbox.nudge();
        }
        if reconcile {
            self.reconcile.notify_one();
        }
    }
}
