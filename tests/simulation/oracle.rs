//! The judge of a play. It knows what left the process, what the journal would hold after a crash, and which rules were in force; it shares no code with what
//! decides in the application. The numbers are those of the invariants in ARCHITECTURE.md.

use crate::guards::{Around, Guards};
use crate::leaving::Leaving;
use crate::plan::Plan;
use crate::rules::{Mode, RuleSpec};
use crate::stops::Stops;
use crate::time::{self, at, lived, millis};
use crate::undone;
use crate::watchdog::{self, Watchdog};
use futures_util::FutureExt;
use jiff::Timestamp;
use runbookd::adapters::cluster::sim::SimCluster;
use runbookd::adapters::journal::memory::MemoryJournal;
use runbookd::model::incident::{Incident, IncidentId, State};
use runbookd::model::label::Labels;
use runbookd::model::message::{Kind, Message, MessageId};
use runbookd::model::run::{Handler, Run, RunId};
use runbookd::model::step::{Intent, Outcome, Step};
use runbookd::ports::{Journal, Pending, PortError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rules that were in force so long before a change leaves the process may have allowed it.
const ASKED_WITHIN: u64 = 1_000;
/// And its intent is durable, and on its way, within this time: a little more than the journal may take.
const DECIDED_WITHIN: u64 = 1_100;
/// A process watches the cluster this long after its start at the latest.
const OUT_OF_BED: u64 = 25_000;
/// The kill switch stops what is new within this time.
const PAUSE_WITHIN: u64 = 1_000;
/// A hold that nobody hears of: longer than any `hold_at_most` and `retry_after` that is generated, in milliseconds of a living process.
const HELD_UNHEARD: u64 = 20 * 60_000;
/// The configuration's bounds in every play.
pub const REPLICAS_MAX: u64 = 20;

/// What was played, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub incidents: u64,
    pub runs: u64,
    pub steps: u64,
    pub effects: u64,
    pub posts: u64,
    pub messages: u64,
    pub crashes: u64,
    pub restarts: u64,
    pub faults: u64,
    pub edits: u64,
    /// How often the fleet brake was pulled, the watchdog was missed, and a run was undone.
    pub brakes: u64,
    pub silences: u64,
    pub undone: u64,
    pub hours: f64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        self.incidents += more.incidents;
        self.runs += more.runs;
        self.steps += more.steps;
        self.effects += more.effects;
        self.posts += more.posts;
        self.messages += more.messages;
        self.crashes += more.crashes;
        self.restarts += more.restarts;
        self.faults += more.faults;
        self.edits += more.edits;
        self.brakes += more.brakes;
        self.silences += more.silences;
        self.undone += more.undone;
        self.hours += more.hours;
    }
}

#[derive(Default)]
pub struct Oracle {
    /// The first invariant that was broken, and how.
    pub violation: Option<String>,
    pub counts: Counts,
    /// Everything that happened, if it is to be kept.
    trace: Option<Vec<String>>,
    /// Rules in force, and since when.
    force: Vec<(u64, Arc<Vec<RuleSpec>>)>,
    /// Since when the journal could not be written, and until when, each time.
    journal_failed: Vec<(u64, Option<u64>)>,
    /// Since when the cluster could not be reached, and until when, each time.
    pub outages: Vec<(u64, u64)>,
    life_began: u64,
    pub guards: Guards,
    pub stops: Stops,
    watchdog: Option<Watchdog>,
    /// The escalations of each incident that people got.
    escalated: BTreeMap<IncidentId, u64>,
    /// Who changed each target: the incidents and their runs.
    touched: BTreeMap<String, BTreeSet<(IncidentId, RunId)>>,
    /// What may be done once only.
    done: BTreeSet<String>,
    paused_since: Option<u64>,
    pub releases: u64,
    /// When people last heard of each incident.
    heard: BTreeMap<IncidentId, u64>,
    /// What was delivered, and under which numbers of the outbox.
    delivered: BTreeMap<String, BTreeSet<Option<MessageId>>>,
    /// Since when, in time lived, each incident is held.
    held: BTreeMap<IncidentId, (u64, usize)>,
    /// The wall clock was set.
    pub jumped: bool,
    /// By how much it was set back in all.
    pub set_back: u64,
    /// Posts answered 2xx.
    pub answered: BTreeSet<u64>,
    /// Incidents about which a person approved a plan.
    approved: BTreeSet<IncidentId>,
    /// Incidents that a person closed.
    pub closed: BTreeSet<IncidentId>,
}

impl Oracle {
    pub fn new(plan: &Plan, traced: bool) -> Self {
        Oracle {
            trace: traced.then(Vec::new),
            guards: Guards::new(plan),
            stops: Stops::new(plan),
            watchdog: Watchdog::new(plan),
            ..Oracle::default()
        }
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = millis();
            trace.push(format!("{:>6}.{:03} {}", at / 1_000, at % 1_000, what()));
        }
    }

    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    pub fn broken(&mut self, invariant: u8, what: impl Into<String>) {
        let what = what.into();
        self.note(|| format!("BROKEN {invariant}: {what}"));
        if self.violation.is_none() {
            self.violation = Some(format!("invariant {invariant} at {} s: {what}", millis() / 1_000));
        }
    }

    pub fn in_force(&mut self, rules: Arc<Vec<RuleSpec>>) {
        self.force.push((millis(), rules));
    }

    /// The rule of this name, if it has been in force unchanged in these limits all the time.
    pub fn steady(&self, name: &str) -> Option<&RuleSpec> {
        let mut all = self.force.iter().map(|(_, rules)| rules.iter().find(|rule| rule.name == name));
        let first = all.next()??;
        let same = |rule: &RuleSpec| rule.budget == first.budget && rule.cooldown_secs == first.cooldown_secs;
        all.all(|rule| rule.is_some_and(same)).then_some(first)
    }

    pub fn journal_fails(&mut self) {
        self.journal_failed.push((millis(), None));
    }

    pub fn journal_mended(&mut self) {
        if let Some((_, until)) = self.journal_failed.last_mut() {
            *until = Some(until.unwrap_or_else(millis));
        }
    }

    /// What leaves now was decided on since then: an intent waits for a journal that cannot be written.
    fn decided_since(&self) -> u64 {
        let failing = |(_, until): &&(u64, Option<u64>)| until.is_none_or(|until| until + DECIDED_WITHIN >= millis());
        let since = self.journal_failed.iter().find(failing).map_or(millis(), |(since, _)| *since);
        since.saturating_sub(DECIDED_WITHIN)
    }

    /// The sets of rules that were in force at some time between these two.
    fn in_force_between(&self, from: u64, to: u64) -> impl Iterator<Item = &[RuleSpec]> {
        let ends = self.force.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]);
        let some = self.force.iter().zip(ends).filter(move |((began, _), end)| *began <= to && *end >= from);
        some.map(|((_, rules), _)| rules.as_slice())
    }

    /// A process begins, and this is what it finds.
    pub fn life_begins(&mut self, journal: &MemoryJournal) {
        self.life_began = millis();
        let braked = is_braked(journal);
        self.stops.life_begins(braked);
        self.guards.recount(|run, seq| {
            let steps = journal.steps(run).now_or_never().and_then(Result::ok).unwrap_or_default();
            let step = steps.into_iter().find(|step| step.seq == seq);
            step.is_some_and(|step| match step.outcome {
                Outcome::Denied => step.had_effect(),
                outcome => outcome != Outcome::Unchanged,
            })
        });
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.life_begins();
        }
    }

    /// A process has ended: what it intends durably counts, though it may not have left.
    pub fn life_ends(&mut self, journal: &MemoryJournal) {
        for (run, step) in journal.in_doubt() {
            // What never left was admitted when it says.
            if !self.guards.knows(&step) {
                self.intended(&run, &step, at(step.started_at));
            }
        }
        self.stops.life_ends();
    }

    /// A post was taken that says that the watchdog fires.
    pub fn heard(&mut self) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.taken();
        }
    }

    /// A person approves what is planned about an incident.
    pub fn approved(&mut self, incident: IncidentId) {
        self.approved.insert(incident);
    }

    /// The kill switch is pulled, durably: if it was not released since it was asked for, after so many releases.
    pub fn paused(&mut self, releases: u64) {
        if self.releases == releases {
            self.paused_since = Some(millis());
        }
    }

    pub fn released(&mut self) {
        self.releases += 1;
        self.paused_since = None;
    }

    /// Invariants 2, 3 and 4, and the kill switch: may this leave the process?
    pub fn leaves(
        &mut self,
        leaving: &Leaving,
        journal: &MemoryJournal,
        around: impl FnOnce() -> Around,
        is: impl Fn(&Step) -> bool,
    ) {
        let what = &leaving.what;
        self.note(|| format!("leaves: {what}"));
        if let Some(since) = self.paused_since.filter(|since| millis() > since + PAUSE_WITHIN) {
            self.broken(3, format!("{what}: runbookd has been paused for {} ms", millis() - since));
        }
        let found = journal.in_doubt().into_iter().find(|(_, step)| is(step));
        let Some((run, step)) = found else {
            return self.broken(2, format!("{what}: the durable journal has no such intent in doubt"));
        };
        self.granted(leaving, &run, &step);
        self.stopped(leaving, &run);
        self.put_back(leaving, &run, &step, journal);
        self.guards.leaves(&step);
        let for_the_first_time = !self.guards.knows(&step);
        if self.guards.is_new(&step) {
            self.intended(&run, &step, u64::MAX);
            if for_the_first_time {
                self.left_alone(leaving, &run, &step);
            }
            self.at_once(leaving, &step, &around(), journal);
        }
        self.alone(leaving, &run, journal);
    }

    /// A durable intent, which was admitted not after `at_most`, counts.
    fn intended(&mut self, run: &Run, step: &Step, at_most: u64) {
        let (since, released) = (self.decided_since().min(at_most), self.stops.released());
        let broken = self.guards.intended(run, step, since, released);
        // A wall clock that was set is no measure.
        if let Some(text) = broken.filter(|_| !self.jumped) {
            self.broken(3, text);
        }
    }

    /// Nothing leaves in a freeze or while the fleet brake is on.
    fn stopped(&mut self, leaving: &Leaving, run: &Run) {
        let mut now = self.in_force_between(millis().saturating_sub(ASKED_WITHIN), millis());
        // One that has just come or gone is nobody's.
        let of_name = |rules: &'_ [RuleSpec]| rules.iter().position(|rule| rule.name == run.rule);
        let rule = now.next().and_then(|rules| Some(&rules[of_name(rules)?]));
        let rule = rule.filter(|_| now.all(|rules| of_name(rules).is_some()));
        drop(now);
        if let Some(why) = self.stops.stopped(&run.rule, rule) {
            self.broken(3, format!("{} of run {} under rule {}: {why}", leaving.what, run.id, run.rule));
        }
    }

    /// An undo changes nothing that another hand has changed since.
    fn put_back(&mut self, leaving: &Leaving, run: &Run, step: &Step, journal: &MemoryJournal) {
        let (Some(undoes), Some(intent)) = (run.undoes, &step.intent) else { return };
        let steps = journal.steps(undoes).now_or_never().and_then(Result::ok);
        if steps.is_some_and(|steps| !undone::puts_back(intent, &steps)) {
            self.broken(
                3,
                format!("{} of run {}, which undoes {undoes}, puts back nothing of it", leaving.what, run.id),
            );
        }
    }

    /// What another hand has just changed is left alone.
    fn left_alone(&mut self, leaving: &Leaving, run: &Run, step: &Step) {
        let Some(Intent::Services(intents)) = &step.intent else { return };
        if run.handler == Handler::OnResolved || run.undoes.is_some() || self.jumped {
            return;
        }
        let (began, labels) = (time::at(run.started_at), labels_of(run));
        let quiet = |from: u64, to: u64| {
            let overlaps = |since: u64, until: u64| since <= to && until >= from;
            let down = self.outages.iter().any(|(since, until)| overlaps(*since, *until));
            let failed = self.journal_failed.iter().any(|(since, until)| overlaps(*since, until.unwrap_or(u64::MAX)));
            self.life_began + OUT_OF_BED < from && !down && !failed
        };
        for intent in intents {
            let names = |rules: &[RuleSpec]| {
                rules.iter().any(|rule| rule.name == run.rule && rule.names_service(&intent.service, &labels))
            };
            let named = self.in_force_between(began.saturating_sub(ASKED_WITHIN), began + 100).all(names);
            if let Some(text) = self.guards.left_alone(&intent.service, began, quiet).filter(|_| named) {
                return self.broken(3, format!("{} of run {}: {text}", leaving.what, run.id));
            }
        }
    }

    fn at_once(&mut self, leaving: &Leaving, step: &Step, around: &Around, journal: &MemoryJournal) {
        let works = |target: &str, incident: IncidentId| {
            let runs = self.touched.get(target).into_iter().flatten();
            runs.filter(|(of, _)| *of == incident).any(|(_, run)| works(journal, incident, *run).is_some())
        };
        if let Some(text) = self.guards.at_once(step, around, works).filter(|_| !self.jumped) {
            self.broken(3, format!("{}: {text}", leaving.what));
        }
    }

    fn granted(&mut self, leaving: &Leaving, run: &Run, step: &Step) {
        if run.shadow {
            return self.broken(3, format!("{} of the rehearsal {}", leaving.what, run.id));
        }
        // An undo puts back what the rule had allowed: a person has asked for exactly that.
        if run.undoes.is_some() {
            return;
        }
        let labels = labels_of(run);
        let in_force = self.in_force_between(self.decided_since(), u64::MAX);
        let rules: Vec<&RuleSpec> =
            in_force.filter_map(|rules| rules.iter().find(|rule| rule.name == run.rule)).collect();
        let granted = |rule: &&&RuleSpec| match &leaving.target {
            Some(target) => rule.grants(&step.primitive, target, &labels),
            None => rule.allow.iter().any(|(primitive, _)| *primitive == step.primitive),
        };
        let granting: Vec<&&RuleSpec> = rules.iter().filter(granted).collect();
        if granting.is_empty() {
            let known: Vec<_> = rules.iter().map(|rule| &rule.allow).collect();
            let text = format!("{} of run {} under rule {}, which allows {known:?}", leaving.what, run.id, run.rule);
            return self.broken(3, text);
        }
        let may = |rule: &RuleSpec| match rule.mode {
            Mode::Auto => true,
            Mode::Shadow => false,
            // By itself, if it has earned that.
            Mode::Earned if run.plan.is_none() => true,
            Mode::Approve | Mode::Earned => {
                let planned = run.plan.as_ref().is_some_and(|plan| {
                    plan.effects.iter().any(|one| one.primitive == step.primitive && one.args == step.args)
                });
                planned && (rule.then_run || self.approved.contains(&run.incident))
            }
        };
        if !granting.iter().any(|rule| may(rule)) {
            let text = format!("{} of run {}: nobody has approved it under rule {}", leaving.what, run.id, run.rule);
            return self.broken(3, text);
        }
        let Some(scale) = &leaving.scale else { return };
        let within = |rule: &RuleSpec| {
            let floor = [Some(1), scale.min, rule.replicas.map(|(min, _)| min)].into_iter().flatten().max();
            let ceiling =
                [Some(REPLICAS_MAX), scale.max, rule.replicas.map(|(_, max)| max)].into_iter().flatten().min();
            let fewer = floor.is_some_and(|floor| scale.to < scale.from && scale.to < floor);
            let more = ceiling.is_some_and(|ceiling| scale.to > scale.from && scale.to > ceiling);
            !fewer && !more
        };
        if !granting.iter().any(|rule| within(rule)) {
            self.broken(3, format!("{} is beyond the bounds of rule {}", leaving.what, run.rule));
        }
    }

    /// Nobody else has a live run that changed the target, or verifies one.
    fn alone(&mut self, leaving: &Leaving, run: &Run, journal: &MemoryJournal) {
        let Some(lock) = &leaving.lock else { return };
        let touched = self.touched.entry(lock.clone()).or_default();
        let others: Vec<(IncidentId, RunId)> =
            touched.iter().copied().filter(|(incident, _)| *incident != run.incident).collect();
        touched.insert((run.incident, run.id));
        for (incident, other) in others {
            if let Some(how) = works(journal, incident, other) {
                let text = format!(
                    "{} by run {} of {}, while run {other} of {incident} {how}",
                    leaving.what, run.id, run.incident
                );
                return self.broken(4, text);
            }
        }
    }

    /// What has its time from when it begins is not begun when that is over.
    pub fn in_time(&mut self, what: &str, ends: Timestamp) {
        if ends <= time::now() && !self.jumped {
            self.broken(3, format!("{what} begins though its time was over at {ends}"));
        }
    }

    /// It has reached the outside.
    pub fn applied(&mut self, what: impl Fn() -> String, done: &Result<(), PortError>) {
        self.note(|| format!("applied: {} {}", what(), done.as_ref().err().map_or("", |error| error.message.as_str())));
        if done.is_ok() {
            self.counts.effects += 1;
        }
    }

    /// This is done once at most.
    pub fn once(&mut self, what: &str, which: &str) {
        if !self.done.insert(format!("{what} {which}")) {
            self.broken(2, format!("{what} was made twice: {which}"));
        }
    }

    /// Each absolute change of a service is made once a step, unless another hand has changed the service in between.
    pub fn applied_once(&mut self, cluster: &SimCluster) {
        let mut last: BTreeMap<(String, String), usize> = BTreeMap::new();
        let applied = cluster.applied();
        for (at, one) in applied.iter().enumerate().filter(|(_, one)| !one.step.is_empty()) {
            if let Some(before) = last.insert((one.service.clone(), one.step.clone()), at) {
                let another =
                    applied[before..at].iter().any(|other| other.service == one.service && other.step != one.step);
                if !another {
                    self.broken(2, format!("step {} was applied to {} twice", one.step, one.service));
                }
            }
        }
    }

    /// People hear of something, which has this number in the outbox; `twice` is said of what the console shows, which may have got through as well.
    pub fn told(&mut self, message: &Message, id: Option<MessageId>, twice: bool) {
        self.counts.messages += 1;
        self.note(|| {
            format!(
                "people: {:?} {} {}",
                message.kind,
                message.incident.map_or("-".into(), |id| id.to_string()),
                message.title
            )
        });
        if let Some(incident) = message.incident {
            self.heard.insert(incident, millis());
        }
        self.stops.told(message);
        let known =
            serde_json::to_string(&Message { repeated: false, ..message.clone() }).expect("a message is plain data");
        let ids = self.delivered.entry(known).or_default();
        let first = ids.is_empty();
        // Two that are alike, each with a number of its own, are two: it may resolve twice in one millisecond.
        let new = ids.insert(id) && (first || id.is_some());
        if let Some(incident) = message.incident.filter(|_| new && message.kind == Kind::Escalation) {
            *self.escalated.entry(incident).or_default() += 1;
        }
        if !new && !message.repeated && !twice {
            self.broken(5, format!("people were told twice, and the second time does not say so: {}", message.title));
        }
    }

    /// Invariants 4 and 5, on what is open. `queued`: messages that are on their way.
    pub fn look(&mut self, incidents: &[Incident], queued: &[Pending], journal: &MemoryJournal) {
        let mut of_brake = self.stops.has_been_told();
        for pending in queued {
            of_brake |= self.stops.seen(&pending.message);
        }
        let queued: BTreeSet<IncidentId> = queued.iter().filter_map(|pending| pending.message.incident).collect();
        self.look_at_watchdog(incidents, &queued);
        let mut open: BTreeMap<(Option<&str>, &str), IncidentId> = BTreeMap::new();
        for incident in incidents.iter().filter(|incident| incident.state != State::Resolved) {
            if let Some(other) = open.insert((incident.rule.as_deref(), &incident.key), incident.id) {
                self.broken(
                    4,
                    format!("{other} and {} are both open for {:?} {}", incident.id, incident.rule, incident.key),
                );
            }
        }
        for incident in incidents {
            // A silence was a person's own doing; of the fleet brake people hear once for all that it holds.
            let told_once = incident.reason.code == "brake" && of_brake;
            if incident.state != State::Held || incident.reason.code == "suppressed" || told_once {
                self.held.remove(&incident.id);
                continue;
            }
            let (since, braked) = *self.held.entry(incident.id).or_insert_with(|| (lived(), braked(journal, incident)));
            let told = self.heard.contains_key(&incident.id) || queued.contains(&incident.id);
            if !told && lived() > since + HELD_UNHEARD + self.set_back {
                // Between two looks the brake may have been pulled, which people hear of, and released.
                if self::braked(journal, incident) > braked {
                    self.held.remove(&incident.id);
                    continue;
                }
                let text = format!(
                    "{} is held for {} s and nobody has heard of it: {}",
                    incident.id,
                    (lived() - since) / 1_000,
                    incident.reason
                );
                self.broken(5, text);
            }
        }
    }

    fn look_at_watchdog(&mut self, incidents: &[Incident], queued: &BTreeSet<IncidentId>) {
        // What the journal cannot write, the board may not have been told.
        if self.jumped || self.decided_since() + 2 * ASKED_WITHIN < millis() {
            return;
        }
        let Some(mut watchdog) = self.watchdog.take() else { return };
        let untold = |incident: &&Incident| {
            let open = incident.state == State::Escalated && watchdog::is_of(incident);
            open && !self.heard.contains_key(&incident.id) && !queued.contains(&incident.id)
        };
        let untold = incidents.iter().find(untold).map(|incident| format!("nobody hears of {}", incident.id));
        let broken = untold.or_else(|| watchdog.look(incidents, self));
        self.watchdog = Some(watchdog);
        if let Some(text) = broken {
            self.broken(5, text);
        }
    }

    /// 5 at the end: one message each time that the brake was pulled or the watchdog fell silent, not none and not many.
    pub fn paged_once(&mut self, incidents: &[Incident], journal: &MemoryJournal) {
        let braked = is_braked(journal);
        if let Some(text) = self.stops.paged(braked).filter(|_| !self.jumped) {
            self.broken(5, text);
        }
        self.counts.brakes += self.stops.pulled();
        for incident in incidents.iter().filter(|incident| watchdog::is_of(incident)) {
            let all = journal.transitions(incident.id).now_or_never().and_then(Result::ok).unwrap_or_default();
            let fell = all.iter().filter(|one| one.to == State::Escalated && one.from != Some(State::Escalated)).count()
                as u64;
            self.counts.silences += fell;
            let told = self.escalated.get(&incident.id).copied().unwrap_or(0);
            if told != fell {
                self.broken(5, format!("{} fell silent {fell} times, and people were told {told} times", incident.id));
            }
        }
    }

    /// Invariant 5 at the end: the incidents opened before `until` that are neither resolved nor with a person who has heard of them.
    pub fn unfinished(&self, incidents: &[Incident], until: Timestamp) -> Vec<String> {
        let with_person =
            |incident: &Incident| incident.state == State::Escalated && self.heard.contains_key(&incident.id);
        let of_play = incidents.iter().filter(|incident| incident.opened_at <= until);
        let left = of_play.filter(|incident| incident.state != State::Resolved && !with_person(incident));
        left.map(|incident| {
            format!("{} {} [{}] of {:?}: {}", incident.id, incident.state, incident.key, incident.rule, incident.reason)
        })
        .collect()
    }
}

/// The labels that a run began with.
fn labels_of(run: &Run) -> Labels {
    serde_json::from_value(run.input.alert["labels"].clone()).unwrap_or_default()
}

/// Is a run of an incident at work, or is what it did being verified? Then how.
fn works(journal: &MemoryJournal, incident: IncidentId, run: RunId) -> Option<&'static str> {
    // A dead journal says nothing: the process has just ended.
    let known = journal.run(run).now_or_never()?.ok()??;
    if !known.state.ended() {
        return Some("is at work on it");
    }
    let holder = journal.incident(incident).now_or_never()?.ok()??;
    // Its locks went when it resolved: that it is looked at once more, because an old alert shows late, takes none back.
    let decaying = holder.reason.code == "decaying";
    let verified = holder.state == State::Verifying && !decaying && holder.runs.last() == Some(&run);
    verified.then_some("is being verified")
}

/// Does the journal say that the fleet brake is on?
fn is_braked(journal: &MemoryJournal) -> bool {
    let found = journal.recover(Timestamp::MAX).now_or_never().and_then(Result::ok);
    found.is_some_and(|found| found.settings.iter().any(|(name, _)| name == "brake"))
}

/// How often the fleet brake has held an incident.
fn braked(journal: &MemoryJournal, incident: &Incident) -> usize {
    let all = journal.transitions(incident.id).now_or_never().and_then(Result::ok).unwrap_or_default();
    all.iter().filter(|one| one.reason.code == "brake").count()
}
