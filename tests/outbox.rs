//! The outbox on a paused clock: at least once, in order within a thread, whatever the channel does.

use async_trait::async_trait;
use futures_util::FutureExt;
use jiff::Timestamp;
use runbookd::app::outbox::{Delivery, Outbox, OutboxParts, spawn};
use runbookd::app::report;
use runbookd::clock::Clock;
use runbookd::model::alert::{Fingerprint, Level};
use runbookd::model::incident::{Incident, IncidentId, Transition};
use runbookd::model::message::{Kind, Message, MessageId, MessageRoot, ThreadRef};
use runbookd::model::run::{ProgramHash, Run, RunId, Sources};
use runbookd::model::step::Step;
use runbookd::ports::{
    DeliverError, ErrorReason, Humans, IncidentFilter, Intake, Journal, JournalError, NewIntake, Pending, PortError,
    Recovered, RunFilter, Ticket, Write,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// As much of a journal as the outbox uses.
struct BoxJournal {
    held: Mutex<Held>,
    /// Whether it can write.
    writable: watch::Sender<bool>,
}

#[derive(Default)]
struct Held {
    unsent: BTreeMap<MessageId, Message>,
    threads: BTreeMap<IncidentId, ThreadRef>,
    unsendable: Vec<(MessageId, String)>,
    /// The highest id ever handed out.
    furthest: MessageId,
}

#[async_trait]
impl Journal for BoxJournal {
    fn stage(&self, writes: Vec<Write>) {
        let mut held = self.held.lock().expect("no panic while held");
        for write in writes {
            match write {
                Write::Message(id, message) => {
                    held.unsent.insert(id, *message);
                }
                Write::Sent { id, thread, .. } => {
                    assert!(held.unsent.remove(&id).is_some(), "message {id} was recorded twice");
                    held.threads.extend(thread);
                }
                Write::Unsendable { id, why, .. } => {
                    assert!(held.unsent.remove(&id).is_some(), "message {id} was recorded twice");
                    held.unsendable.push((id, why));
                }
                other => panic!("the outbox writes only what became of messages, not {other:?}"),
            }
        }
    }
    fn commit(&self) -> Ticket<()> {
        let mut writable = self.writable.subscribe();
        async move {
            writable.wait_for(|writable| *writable).await.map_err(|_| JournalError("closed".into()))?;
            Ok(())
        }
        .boxed()
    }
    async fn outbox(&self, after: MessageId, limit: usize) -> Result<Vec<Pending>, JournalError> {
        let mut held = self.held.lock().expect("no panic while held");
        let later = held.unsent.range(after + 1..).take(limit);
        let page: Vec<Pending> = later.map(|(id, message)| Pending { id: *id, message: message.clone() }).collect();
        held.furthest = held.furthest.max(page.last().map_or(0, |last| last.id));
        Ok(page)
    }
    async fn outbox_depth(&self) -> Result<u64, JournalError> {
        Ok(self.held.lock().expect("no panic while held").unsent.len() as u64)
    }
    async fn thread(&self, incident: IncidentId) -> Result<Option<ThreadRef>, JournalError> {
        Ok(self.held.lock().expect("no panic while held").threads.get(&incident).cloned())
    }

    fn intake(&self, _: NewIntake) -> Ticket<u64> {
        unreachable!("the outbox takes nothing in")
    }
    async fn intake_after(&self, _: u64, _: usize) -> Result<Vec<Intake>, JournalError> {
        unreachable!()
    }
    fn intakes(&self) -> watch::Receiver<u64> {
        unreachable!()
    }
    fn health(&self) -> Result<(), JournalError> {
        Ok(())
    }
    async fn recover(&self, _: Timestamp) -> Result<Recovered, JournalError> {
        unreachable!()
    }
    async fn run(&self, _: RunId) -> Result<Option<Run>, JournalError> {
        unreachable!()
    }
    async fn steps(&self, _: RunId) -> Result<Vec<Step>, JournalError> {
        unreachable!()
    }
    async fn runs(&self, _: &RunFilter) -> Result<Vec<Run>, JournalError> {
        unreachable!()
    }
    async fn program(&self, _: &ProgramHash) -> Result<Option<Sources>, JournalError> {
        unreachable!()
    }
    async fn incident(&self, _: IncidentId) -> Result<Option<Incident>, JournalError> {
        unreachable!()
    }
    async fn transitions(&self, _: IncidentId) -> Result<Vec<Transition>, JournalError> {
        unreachable!()
    }
    async fn incidents(&self, _: &IncidentFilter) -> Result<Vec<Incident>, JournalError> {
        unreachable!()
    }
    async fn level(&self, _: Fingerprint) -> Result<Option<Level>, JournalError> {
        unreachable!()
    }
    async fn prune(&self, _: Timestamp) -> Result<u64, JournalError> {
        unreachable!()
    }
}

/// One attempt at a delivery, as the channel saw it.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    title: String,
    secs: u64,
    repeated: bool,
    thread: Option<String>,
    delivered: bool,
}

type Behaviour = dyn Fn(&Message, Duration) -> Result<(), DeliverError> + Send + Sync;

/// A channel that behaves as it is told, knows threads, and keeps what it was given.
struct Channel {
    behaviour: Box<Behaviour>,
    start: Instant,
    seen: Mutex<Vec<Seen>>,
}

impl Channel {
    fn new(behaviour: impl Fn(&Message, Duration) -> Result<(), DeliverError> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Channel { behaviour: Box::new(behaviour), start: Instant::now(), seen: Mutex::default() })
    }
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic while held").clone()
    }
    fn delivered(&self) -> Vec<String> {
        self.seen().into_iter().filter(|seen| seen.delivered).map(|seen| seen.title).collect()
    }
    fn attempts(&self) -> Vec<(String, u64)> {
        self.seen().into_iter().map(|seen| (seen.title, seen.secs)).collect()
    }
}

#[async_trait]
impl Humans for Channel {
    async fn deliver(&self, message: &Message, thread: Option<&ThreadRef>) -> Result<Option<ThreadRef>, DeliverError> {
        // The wire takes a moment: deliveries overlap.
        sleep(Duration::from_millis(20)).await;
        let at = self.start.elapsed();
        let answer = (self.behaviour)(message, at);
        self.seen.lock().expect("no panic while held").push(Seen {
            title: message.title.clone(),
            secs: at.as_secs(),
            repeated: message.repeated,
            thread: thread.map(|thread| thread.ts.clone()),
            delivered: answer.is_ok(),
        });
        answer?;
        let is_root = message.kind == Kind::Escalation && thread.is_none() && message.incident.is_some();
        Ok(is_root.then(|| ThreadRef {
            channel: "C1".into(),
            ts: format!("root of {}", message.title),
            root: Box::new(MessageRoot { message: serde_json::to_string(message).expect("plain data") }),
        }))
    }
}

fn well(_: &Message, _: Duration) -> Result<(), DeliverError> {
    Ok(())
}

fn fails(error: PortError, retry_after: Option<u64>) -> Result<(), DeliverError> {
    Err(DeliverError { error, retry_after: retry_after.map(Duration::from_secs) })
}

fn unreachable_channel() -> Result<(), DeliverError> {
    fails(PortError::transient(ErrorReason::Unreachable, "connection refused"), None)
}

/// A running outbox and all around it.
struct Bench {
    journal: Arc<BoxJournal>,
    channel: Arc<Channel>,
    console: Arc<Channel>,
    observed: Arc<Mutex<Vec<Delivery>>>,
    outbox: Outbox,
}

impl Bench {
    /// `left_behind` are messages of an earlier process.
    fn new(channel: Arc<Channel>, left_behind: Vec<(MessageId, Message)>) -> Self {
        let journal = Arc::new(BoxJournal { held: Mutex::default(), writable: watch::Sender::new(true) });
        let last = left_behind.iter().map(|(id, _)| *id).max().unwrap_or(0);
        journal.stage(left_behind.into_iter().map(|(id, message)| Write::Message(id, Box::new(message))).collect());
        let console = Channel::new(well);
        let observed = Arc::new(Mutex::new(Vec::new()));
        let outbox = spawn(OutboxParts {
            journal: journal.clone(),
            humans: channel.clone(),
            fallback: console.clone(),
            clock: Clock::simulated(),
            left_behind: last,
            observe: Box::new({
                let observed = observed.clone();
                move |delivery| observed.lock().expect("no panic while held").push(delivery)
            }),
        });
        Bench { journal, channel, console, observed, outbox }
    }

    fn post(&self, messages: impl IntoIterator<Item = (MessageId, Message)>) {
        self.journal.stage(messages.into_iter().map(|(id, message)| Write::Message(id, Box::new(message))).collect());
        self.outbox.nudge();
    }

    async fn depth(&self) -> u64 {
        self.outbox.depth().await.expect("the double can always read")
    }
}

/// A message of an incident, or of none, that is called by its id.
fn message(id: MessageId, incident: Option<u64>) -> (MessageId, Message) {
    let mut message = report::operators(&format!("m{id}"), "", Timestamp::UNIX_EPOCH);
    message.incident = incident.map(IncidentId);
    (id, message)
}

fn titles(ids: impl IntoIterator<Item = MessageId>) -> Vec<String> {
    ids.into_iter().map(|id| format!("m{id}")).collect()
}

/// The delivered messages of those ids, in the order of delivery.
fn of(delivered: &[String], ids: impl IntoIterator<Item = MessageId>) -> Vec<String> {
    let ids = titles(ids);
    delivered.iter().filter(|title| ids.contains(title)).cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn a_thread_is_sent_in_order_below_its_root() {
    let bench = Bench::new(Channel::new(well), vec![]);
    bench.post((1..=40).map(|id| message(id, Some(id % 2))));
    sleep(Duration::from_secs(10)).await;
    let delivered = bench.channel.delivered();
    assert_eq!(of(&delivered, (1..=40).step_by(2)), titles((1..=40).step_by(2)));
    assert_eq!(of(&delivered, (2..=40).step_by(2)), titles((2..=40).step_by(2)));
    for seen in bench.channel.seen() {
        let root = match seen.title.as_str() {
            "m1" | "m2" => None,
            title if title[1..].parse::<u64>().expect("a number") % 2 == 1 => Some("root of m1".to_string()),
            _ => Some("root of m2".to_string()),
        };
        assert_eq!(seen.thread, root, "{}", seen.title);
        assert!(!seen.repeated, "{}", seen.title);
    }
    assert_eq!(bench.depth().await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_outage_loses_nothing() {
    let hour = Duration::from_secs(3_600);
    let channel = Channel::new(move |_, at| if at < hour { unreachable_channel() } else { Ok(()) });
    let bench = Bench::new(channel, vec![]);
    for id in 1..=120 {
        bench.post([message(id, (id % 5 != 0).then_some(id % 5))]);
        sleep(Duration::from_secs(30)).await;
    }
    assert_eq!((bench.channel.delivered().len(), bench.depth().await), (0, 120));
    // Each lane of five tried a dozen times on its way to five minutes, and every five minutes then.
    let attempts = bench.channel.seen().len();
    assert!((5 * 12..5 * 25).contains(&attempts), "{attempts} attempts");
    sleep(Duration::from_secs(310)).await;
    let delivered = bench.channel.delivered();
    assert_eq!((delivered.len(), bench.depth().await), (120, 0));
    for lane in 0..5 {
        let ids = || (1..=120).filter(move |id| id % 5 == lane);
        assert_eq!(of(&delivered, ids()), titles(ids()), "lane {lane}");
    }
    assert!(bench.channel.seen().iter().all(|seen| !seen.repeated), "what was refused was not sent");
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_fails_holds_up_no_other() {
    let channel = Channel::new(|message, _| if message.title == "m1" { unreachable_channel() } else { Ok(()) });
    let bench = Bench::new(channel, vec![]);
    bench.post([message(1, Some(1)), message(2, Some(1)), message(3, Some(2)), message(4, None), message(5, Some(2))]);
    sleep(Duration::from_secs(20)).await;
    let delivered = bench.channel.delivered();
    assert_eq!((delivered.len(), of(&delivered, [3, 5])), (3, titles([3, 5])));
    let tries: Vec<u64> =
        bench.channel.attempts().into_iter().filter(|(title, _)| title == "m1").map(|at| at.1).collect();
    assert_eq!(tries, [0, 1, 3, 7, 15], "doubling from one second");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_by_every_thread() {
    let throttled_until = Duration::from_secs(30);
    let channel = Channel::new(move |_, at| match at < throttled_until {
        true => fails(PortError::transient(ErrorReason::Throttled, "slow down"), Some(30)),
        false => Ok(()),
    });
    let bench = Bench::new(channel, vec![]);
    bench.post([message(1, Some(1))]);
    sleep(Duration::from_secs(1)).await;
    bench.post([message(2, Some(2)), message(3, Some(1))]);
    sleep(Duration::from_secs(60)).await;
    let mut attempts = bench.channel.attempts();
    attempts.sort();
    let expect = [("m1", 0), ("m1", 30), ("m2", 30), ("m3", 30)].map(|(title, at)| (title.to_string(), at));
    assert_eq!(attempts, expect);
    assert_eq!(of(&bench.channel.delivered(), [1, 3]), titles([1, 3]));
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_sent_is_shown_on_the_console_and_the_next_goes_on() {
    let channel = Channel::new(|message, _| match message.title.as_str() {
        "m1" => fails(PortError::permanent(ErrorReason::NotFound, "Slack said channel_not_found"), None),
        _ => Ok(()),
    });
    let bench = Bench::new(channel, vec![]);
    bench.post([message(1, Some(1)), message(2, Some(1))]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.channel.attempts(), [("m1".to_string(), 0), ("m2".to_string(), 0)]);
    assert_eq!(bench.console.delivered(), titles([1]));
    let unsendable = bench.journal.held.lock().expect("no panic while held").unsendable.clone();
    assert_eq!(unsendable, [(1, "Slack said channel_not_found".to_string())]);
    let observed = bench.observed.lock().expect("no panic while held").clone();
    assert_eq!(observed, [Delivery::Unsendable(ErrorReason::NotFound), Delivery::Sent]);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_may_have_sent_is_marked() {
    let left = vec![message(1, Some(1)), message(2, Some(1)), message(3, Some(2)), message(4, None)];
    let bench = Bench::new(Channel::new(well), left);
    sleep(Duration::from_secs(1)).await;
    bench.post([message(5, Some(3)), message(6, Some(1))]);
    sleep(Duration::from_secs(1)).await;
    let mut marks: Vec<_> = bench.channel.seen().into_iter().map(|seen| (seen.title, seen.repeated)).collect();
    marks.sort();
    let expect = [("m1", true), ("m2", false), ("m3", true), ("m4", true), ("m5", false), ("m6", false)];
    assert_eq!(marks, expect.map(|(title, repeated)| (title.to_string(), repeated)));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_outcome_is_unknown_is_repeated_and_marked() {
    for panics in [false, true] {
        let channel = Channel::new(move |message, _| match message.repeated {
            true => Ok(()),
            false if panics => panic!("an adapter's defect"),
            false => fails(PortError::unknown(ErrorReason::Timeout, "no answer"), None),
        });
        let bench = Bench::new(channel, vec![]);
        bench.post([message(1, Some(1))]);
        sleep(Duration::from_secs(5)).await;
        assert_eq!((bench.channel.delivered(), bench.depth().await), (titles([1]), 0), "panics: {panics}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_it_is_durable() {
    let bench = Bench::new(Channel::new(well), vec![]);
    bench.journal.writable.send_replace(false);
    bench.post([message(1, Some(1))]);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(bench.channel.seen(), []);
    bench.outbox.direct(&message(2, None).1).await.expect("the channel is well");
    assert_eq!(bench.channel.delivered(), titles([2]), "what cannot be journalled can still be said");
    bench.journal.writable.send_replace(true);
    sleep(Duration::from_secs(5)).await;
    assert_eq!((bench.channel.delivered(), bench.depth().await), (titles([2, 1]), 0));
}

#[tokio::test(start_paused = true)]
async fn the_next_of_a_thread_waits_until_the_first_is_recorded() {
    let bench = Bench::new(Channel::new(well), vec![]);
    bench.post([message(1, Some(1)), message(2, Some(1))]);
    // Both are durable and the first is on the wire when the journal stops writing.
    sleep(Duration::from_millis(10)).await;
    bench.journal.writable.send_replace(false);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.channel.delivered(), titles([1]));
    bench.journal.writable.send_replace(true);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.channel.delivered(), titles([1, 2]));
}

#[tokio::test(start_paused = true)]
async fn a_message_staged_behind_the_others_or_without_a_nudge_is_found() {
    let bench = Bench::new(Channel::new(well), vec![]);
    bench.post([message(10, Some(1))]);
    sleep(Duration::from_secs(1)).await;
    let (id, behind) = message(5, Some(2));
    bench.journal.stage(vec![Write::Message(id, Box::new(behind))]);
    sleep(Duration::from_secs(61)).await;
    assert_eq!((bench.channel.delivered(), bench.depth().await), (titles([10, 5]), 0));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_read_again_while_it_is_being_sent_is_sent_once() {
    let bench = Bench::new(Channel::new(well), vec![]);
    // On the wire when the whole outbox is read again, and recorded before that reading ends.
    sleep(Duration::from_millis(59_990)).await;
    bench.post([message(1, Some(1))]);
    sleep(Duration::from_millis(5)).await;
    bench.journal.writable.send_replace(false);
    sleep(Duration::from_secs(1)).await;
    bench.journal.writable.send_replace(true);
    sleep(Duration::from_secs(5)).await;
    assert_eq!((bench.channel.delivered(), bench.depth().await), (titles([1]), 0));
    bench.post([message(2, Some(1))]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.channel.delivered(), titles([1, 2]));
}

#[tokio::test(start_paused = true)]
async fn a_backlog_larger_than_memory_holds_is_sent_whole_and_in_order() {
    let up = Duration::from_secs(100);
    let channel = Channel::new(move |_, at| if at < up { unreachable_channel() } else { Ok(()) });
    let bench = Bench::new(channel, vec![]);
    bench.post((1..=6_000).map(|id| message(id, Some(id % 10))));
    sleep(Duration::from_secs(90)).await;
    let furthest = bench.journal.held.lock().expect("no panic while held").furthest;
    assert!((3_500..=4_096).contains(&furthest), "read up to {furthest}: the rest waits in the journal");
    sleep(Duration::from_secs(510)).await;
    let delivered = bench.channel.delivered();
    assert_eq!((delivered.len(), bench.depth().await), (6_000, 0));
    for lane in 0..10 {
        let mut ids =
            delivered.iter().map(|title| title[1..].parse::<u64>().expect("a number")).filter(|id| id % 10 == lane);
        assert!(ids.by_ref().is_sorted(), "lane {lane}");
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_what_is_under_way_end_and_keeps_the_rest() {
    let bench = Bench::new(Channel::new(well), vec![]);
    bench.post([message(1, Some(1)), message(2, Some(1))]);
    sleep(Duration::from_millis(10)).await;
    bench.outbox.stop().await;
    assert_eq!((bench.channel.delivered(), bench.depth().await), (titles([1]), 1));
    bench.outbox.nudge();
    bench.outbox.stop().await;
    assert_eq!(bench.channel.delivered(), titles([1]));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_said_directly_is_shown_on_the_console() {
    let bench = Bench::new(Channel::new(|_, _| unreachable_channel()), vec![]);
    let error = bench.outbox.direct(&message(1, None).1).await.expect_err("the channel is down");
    assert_eq!(error.error.reason, ErrorReason::Unreachable);
    assert_eq!(bench.console.delivered(), titles([1]));
}
