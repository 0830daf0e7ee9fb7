//! The metrics that `/metrics` shows, under Prometheus' naming rules. Small typed methods, so that callers know no names.
//!
//! Labels have small closed sets of values (outcomes, states, guards, codes of reasons, names of rules and runbooks), never a label of an alert.

use crate::model::effectiveness::Judgement;
use crate::model::event::On;
use crate::model::incident::State;
use crate::model::run::RunState;
use crate::model::step::Outcome;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use std::borrow::Cow;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

type Word = Cow<'static, str>;
type Seconds = Gauge<f64, AtomicU64>;

macro_rules! labels {
    ($($set:ident { $($label:ident),+ })+) => {
        $(#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
        struct $set { $($label: Word),+ })+
    };
}
labels! {
    Result { outcome }
    Happened { on, outcome }
    Code { code }
    Cause { reason }
    Door { source, code }
    Source { source }
    InState { state }
    Verdict { guard, verdict }
    Primitive { primitive }
    StepEnd { primitive, outcome }
    Judged { rule, runbook, judgement }
    Build { version }
}

/// From a tenth of a millisecond (a commit) to about seven seconds.
const SHORT: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 7.5];
/// From a call of the cluster's API to a wait of hours.
const LONG: [f64; 12] = [0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0];

/// Makes the histograms of a family.
#[derive(Clone)]
struct LongHistogram;

impl MetricConstructor<Histogram> for LongHistogram {
    fn new_metric(&self) -> Histogram {
        Histogram::new(LONG)
    }
}

/// What is registered, as the page shows it.
#[derive(Default)]
struct Page {
    registry: Registry,
    /// As the exposition names them, without `_total`.
    names: Vec<&'static str>,
}

impl Page {
    fn add<M: Metric + Clone + Default>(&mut self, name: &'static str, help: &str) -> M {
        self.add_as(name, help, M::default())
    }

    fn add_as<M: Metric + Clone>(&mut self, name: &'static str, help: &str, metric: M) -> M {
        self.names.push(name);
        // The encoder ends every help text with a full stop of its own.
        self.registry.register(name, help, metric.clone());
        metric
    }

    /// What the process is; of it only the memory changes.
    fn process(&mut self) -> Gauge {
        let build: Family<Build, Gauge> =
            self.add("runbookd_build_info", "Always 1; the labels say which build this is");
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION").into() }).set(1);
        let started: Seconds =
            self.add("process_start_time_seconds", "When this process started, since the Unix epoch");
        started.set(now_seconds());
        self.add("process_resident_memory_bytes", "Memory of this process held in RAM")
    }
}

/// Everything that is counted. Shared by reference; every method is cheap and never blocks for long.
pub struct Metrics {
    alerts: Family<Result, Counter>,
    events: Family<Happened, Counter>,
    intake_posts: Family<Code, Counter>,
    intake_rejected: Family<Cause, Counter>,
    event_posts: Family<Door, Counter>,
    join_requests: Family<Result, Counter>,
    routes: Family<Result, Counter>,
    verdicts: Family<Verdict, Counter>,
    incidents: Family<InState, Gauge>,
    escalations: Family<Cause, Counter>,
    runs: Family<InState, Counter>,
    run_duration: Histogram,
    steps: Family<StepEnd, Counter>,
    looks: Family<Result, Counter>,
    attempts: Family<Judged, Counter>,
    time_to_resolve: Histogram,
    breakers: Gauge,
    undos: Counter,
    watchdog_silent: Gauge,
    step_duration: Family<Primitive, Histogram, LongHistogram>,
    outbox_depth: Gauge,
    outbox_oldest: Seconds,
    messages: Family<Result, Counter>,
    reloads: Family<Result, Counter>,
    reload_ok: Gauge,
    reload_at: Seconds,
    catalog_rules: Gauge,
    catalog_runbooks: Gauge,
    journal_healthy: Gauge,
    commit_duration: Histogram,
    paused: Gauge,
    braked: Gauge,
    freezes: Family<Source, Gauge>,
    ready: Gauge,
    resident: Gauge,
    page: Page,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// Each with its name and what it means, in the order of the page.
    pub fn new() -> Self {
        let mut page = Page::default();
        let metrics = Metrics {
            // What alerts, runs and messages go through:
            alerts: page.add("runbookd_alerts", "Alerts received, by what they changed"),
            events: page.add("runbookd_events", "Events handled, by where they come from and whether a rule matched"),
            intake_posts: page.add("runbookd_intake_posts", "Posts to the Alertmanager endpoint, by HTTP status"),
            intake_rejected: page.add(
                "runbookd_intake_rejected",
                "Posts that were refused, by cause; people are told once per cause and hour",
            ),
            event_posts: page.add(
                "runbookd_event_posts",
                "Posts of events (hooks, commands, doors), by where they came in and HTTP status",
            ),
            join_requests: page.add("runbookd_join_requests", "Machines that asked how to join the Swarm, by outcome"),
            routes: page.add("runbookd_routes", "Alerts routed, by whether a rule matched"),
            verdicts: page.add("runbookd_verdicts", "Answers of the guards, by guard and verdict"),
            escalations: page.add("runbookd_escalations", "Incidents handed over to people, by the code of the reason"),
            runs: page.add("runbookd_runs", "Runs that ended, by the state they ended in"),
            run_duration: page.add_as(
                "runbookd_run_duration_seconds",
                "How long runs took, waits included",
                Histogram::new(LONG),
            ),
            steps: page.add("runbookd_steps", "Steps that ended, by primitive and outcome"),
            step_duration: page.add_as(
                "runbookd_step_duration_seconds",
                "How long steps took, waits included, by primitive",
                Family::new_with_constructor(LongHistogram),
            ),
            attempts: page.add(
                "runbookd_attempts",
                "Attempts that were judged, by rule, runbook and whether they helped; \
                one that flapped was counted as helped before",
            ),
            time_to_resolve: page.add_as(
                "runbookd_time_to_resolve_seconds",
                "From the start of an attempt that helped to the resolve, or to what was expected of it",
                Histogram::new(LONG),
            ),
            undos: page.add("runbookd_undos", "Undos that were started; each is a run, and counted as such too"),
            looks: page.add(
                "runbookd_verification_looks",
                "Looks at what a rule or a runbook expects of a run that helped, by outcome",
            ),
            messages: page.add("runbookd_messages", "Attempts to deliver a message to people, by outcome"),
            reloads: page.add("runbookd_reload", "Readings of rules and runbooks, by outcome"),
            commit_duration: page.add_as(
                "runbookd_journal_commit_duration_seconds",
                "How long a commit took from asking to durable",
                Histogram::new(SHORT),
            ),
            // What is so now:
            incidents: page.add("runbookd_incidents", "Incidents that are not closed, by state"),
            outbox_depth: page.add("runbookd_outbox_depth", "Messages to people that are not sent yet"),
            outbox_oldest: page.add("runbookd_outbox_oldest_seconds", "Age of the oldest unsent message"),
            reload_ok: page.add(
                "runbookd_reload_last_success",
                "1 when the last reading of rules and runbooks was good, 0 when an older set is in force",
            ),
            reload_at: page.add(
                "runbookd_reload_last_success_timestamp_seconds",
                "When the set of rules and runbooks in force was read",
            ),
            catalog_rules: page.add("runbookd_catalog_rules", "Rules in force"),
            catalog_runbooks: page.add("runbookd_catalog_runbooks", "Runbooks in force"),
            journal_healthy: page.add(
                "runbookd_journal_healthy",
                "1 while the journal can be written; at 0 no effect starts and intake answers 503",
            ),
            paused: page.add("runbookd_paused", "1 while the kill switch is pulled"),
            breakers: page.add(
                "runbookd_breakers_open",
                "Rules whose breaker is open: they start no run until a person closes it",
            ),
            watchdog_silent: page.add(
                "runbookd_watchdog_silent",
                "1 while the alert that is always expected (watchdog.match) is not heard",
            ),
            braked: page.add("runbookd_braked", "1 while the fleet brake is on"),
            freezes: page.add(
                "runbookd_freezes",
                "Freezes in force, by where they come from: made by a person, or of the configuration",
            ),
            ready: page.add("runbookd_ready", "1 while every check of /readyz is good"),
            resident: page.process(),
            page,
        };
        metrics.start_at_zero();
        metrics
    }

    /// A counter that appears with its first event hides that event from `rate()`: the closed sets start at 0.
    fn start_at_zero(&self) {
        for outcome in ["accepted", "refused"] {
            drop(self.reloads.get_or_create(&Result { outcome: outcome.into() }));
        }
        for outcome in ["sent", "retried", "unsendable"] {
            drop(self.messages.get_or_create(&Result { outcome: outcome.into() }));
        }
        for outcome in ["matched", "no_rule"] {
            drop(self.routes.get_or_create(&Result { outcome: outcome.into() }));
        }
        for outcome in ["met", "not_met", "unknown"] {
            drop(self.looks.get_or_create(&Result { outcome: outcome.into() }));
        }
        for on in On::ALL {
            for outcome in ["matched", "no_rule"] {
                drop(self.events.get_or_create(&Happened { on: on.name().into(), outcome: outcome.into() }));
            }
        }
        for reason in ["malformed", "unauthorized", "too_large", "timeout", "broken", "journal", "starting"] {
            drop(self.intake_rejected.get_or_create(&Cause { reason: reason.into() }));
        }
        for outcome in ["answered", "malformed", "unauthorized", "forbidden", "too_many", "unavailable"] {
            drop(self.join_requests.get_or_create(&Result { outcome: outcome.into() }));
        }
        for state in [RunState::Done, RunState::Failed, RunState::Escalated, RunState::Interrupted] {
            drop(self.runs.get_or_create(&InState { state: run_state(state).into() }));
        }
        drop(self.intake_posts.get_or_create(&Code { code: "200".into() }));
        self.set_incidents(&[]);
        self.set_freezes(0, 0);
    }

    /// One alert of a post was looked at: `firing`, `resolved`, `repeat`, `stale`, `malformed` …
    pub fn alert(&self, outcome: impl Into<Word>) {
        self.alerts.get_or_create(&Result { outcome: outcome.into() }).inc();
    }

    /// An event was handled: `matched`, `no_rule`.
    pub fn event(&self, on: On, outcome: impl Into<Word>) {
        self.events.get_or_create(&Happened { on: on.name().into(), outcome: outcome.into() }).inc();
    }

    /// A post was answered with this HTTP status.
    pub fn intake_post(&self, code: u16) {
        let code = match code {
            200 => Word::Borrowed("200"),
            other => other.to_string().into(),
        };
        self.intake_posts.get_or_create(&Code { code }).inc();
    }

    /// A post was refused: `malformed`, `unauthorized`, `too_large`, `timeout`, `broken`, `journal`, `starting`.
    pub fn intake_rejected(&self, reason: &'static str) {
        self.intake_rejected.get_or_create(&Cause { reason: reason.into() }).inc();
    }

    /// A post of events was answered with this HTTP status; `source` is one of a closed set: `registry`, `github`, `deploy`, `run`, a door's name.
    pub fn event_post(&self, source: &'static str, code: u16) {
        self.event_posts.get_or_create(&Door { source: source.into(), code: code.to_string().into() }).inc();
    }

    /// A machine asked how to join the Swarm: `answered`, `malformed`, `unauthorized`, `forbidden`, `too_many`, `unavailable`.
    pub fn join_request(&self, outcome: &'static str) {
        self.join_requests.get_or_create(&Result { outcome: outcome.into() }).inc();
    }

    /// An alert was routed: `matched`, `no_rule`, `label_missing` …
    pub fn route(&self, outcome: impl Into<Word>) {
        self.routes.get_or_create(&Result { outcome: outcome.into() }).inc();
    }

    /// A guard answered: `allow`, `hold`, `ask`, `deny`, `escalate` …
    pub fn verdict(&self, guard: impl Into<Word>, verdict: impl Into<Word>) {
        self.verdicts.get_or_create(&Verdict { guard: guard.into(), verdict: verdict.into() }).inc();
    }

    /// How many incidents stand in each state; states that are not named stand at 0.
    pub fn set_incidents(&self, counts: &[(State, i64)]) {
        for state in State::ALL {
            let count = counts.iter().find(|(named, _)| *named == state).map_or(0, |(_, count)| *count);
            self.incidents.get_or_create(&InState { state: state.name().into() }).set(count);
        }
    }

    /// An incident was handed over to people; `reason` is the code of its reason.
    pub fn escalation(&self, reason: impl Into<Word>) {
        self.escalations.get_or_create(&Cause { reason: reason.into() }).inc();
    }

    /// A run ended in `state` after `secs` seconds.
    pub fn run_ended(&self, state: RunState, secs: f64) {
        self.runs.get_or_create(&InState { state: run_state(state).into() }).inc();
        self.run_duration.observe(secs);
    }

    /// A step ended with `outcome` after `secs` seconds.
    pub fn step(&self, primitive: impl Into<Word>, outcome: Outcome, secs: f64) {
        let primitive = primitive.into();
        self.step_duration.get_or_create(&Primitive { primitive: primitive.clone() }).observe(secs);
        self.steps.get_or_create(&StepEnd { primitive, outcome: outcome_name(outcome).into() }).inc();
    }

    /// An attempt of a rule was judged. Names of rules and runbooks are the author's, and few.
    pub fn judged(&self, rule: &str, runbook: &str, judgement: Judgement) {
        let (rule, runbook) = (rule.to_string().into(), runbook.to_string().into());
        self.attempts.get_or_create(&Judged { rule, runbook, judgement: judgement.name().into() }).inc();
    }

    /// An attempt helped, `secs` seconds after its start.
    pub fn resolved_after(&self, secs: f64) {
        self.time_to_resolve.observe(secs);
    }

    /// A person has what a run did put back.
    pub fn undo_started(&self) {
        self.undos.inc();
    }

    pub fn set_breakers_open(&self, open: usize) {
        self.breakers.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// What is expected of a run that helped was looked at: `met`, `not_met`, `unknown`.
    pub fn looked(&self, outcome: &'static str) {
        self.looks.get_or_create(&Result { outcome: outcome.into() }).inc();
    }

    /// A delivery was tried: `sent`, `retried`, `unsendable`.
    pub fn message(&self, outcome: impl Into<Word>) {
        self.messages.get_or_create(&Result { outcome: outcome.into() }).inc();
    }

    /// How much waits to be sent, and for how long the oldest of it.
    pub fn set_outbox(&self, depth: u64, oldest: Duration) {
        self.set_outbox_depth(depth);
        self.outbox_oldest.set(oldest.as_secs_f64());
    }

    pub fn set_outbox_depth(&self, depth: u64) {
        self.outbox_depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// A new set of rules and runbooks is in force.
    pub fn reload_accepted(&self, rules: usize, runbooks: usize) {
        self.reloads.get_or_create(&Result { outcome: "accepted".into() }).inc();
        self.reload_ok.set(1);
        self.reload_at.set(now_seconds());
        self.set_catalog(rules, runbooks);
    }

    /// What is in the files is not valid: the set read before stays in force.
    pub fn reload_refused(&self) {
        self.reloads.get_or_create(&Result { outcome: "refused".into() }).inc();
        self.reload_ok.set(0);
    }

    /// What is in the files is what is in force.
    pub fn reload_unchanged(&self) {
        self.reload_ok.set(1);
    }

    pub fn set_catalog(&self, rules: usize, runbooks: usize) {
        self.catalog_rules.set(i64::try_from(rules).unwrap_or(i64::MAX));
        self.catalog_runbooks.set(i64::try_from(runbooks).unwrap_or(i64::MAX));
    }

    pub fn set_journal_healthy(&self, healthy: bool) {
        self.journal_healthy.set(i64::from(healthy));
    }

    /// A commit took `secs` seconds.
    pub fn commit(&self, secs: f64) {
        self.commit_duration.observe(secs);
    }

    pub fn set_watchdog_silent(&self, silent: bool) {
        self.watchdog_silent.set(i64::from(silent));
    }

    pub fn set_paused(&self, paused: bool) {
        self.paused.set(i64::from(paused));
    }

    pub fn set_braked(&self, braked: bool) {
        self.braked.set(i64::from(braked));
    }

    /// How many freezes are in force: those that people made, and those of the configuration.
    pub fn set_freezes(&self, one_off: usize, configured: usize) {
        for (source, count) in [("one_off", one_off), ("configuration", configured)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.freezes.get_or_create(&Source { source: source.into() }).set(count);
        }
    }

    pub fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// The whole exposition, in OpenMetrics' text format.
    pub fn render(&self) -> String {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
        let mut page = String::with_capacity(16 * 1024);
        text::encode(&mut page, &self.page.registry).expect("a String takes whatever is written to it");
        page
    }
}

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn run_state(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Suspended => "suspended",
        RunState::Done => "done",
        RunState::Failed => "failed",
        RunState::Escalated => "escalated",
        RunState::Interrupted => "interrupted",
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::InDoubt => "in_doubt",
        Outcome::Waiting => "waiting",
        Outcome::Applied => "applied",
        Outcome::Planned => "planned",
        Outcome::Unchanged => "unchanged",
        Outcome::Observed => "observed",
        Outcome::Failed => "failed",
        Outcome::Denied => "denied",
    }
}

fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// `VmRSS` of `/proc/self/status`; `None` where there is no `/proc`.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write;

    /// Every metric with one event each, so that all of them show.
    fn exercised() -> Metrics {
        let metrics = Metrics::new();
        metrics.alert("firing");
        metrics.intake_post(503);
        metrics.verdict("cooldown", "hold");
        metrics.escalation("no_rule");
        metrics.run_ended(RunState::Done, 0.5);
        metrics.step("scale", Outcome::Applied, 0.004);
        metrics.judged("scale-out", "scale_out", Judgement::Helped);
        metrics.resolved_after(30.0);
        metrics.message("sent");
        metrics.set_outbox(2, Duration::from_millis(1_500));
        metrics.reload_accepted(3, 2);
        metrics.event_post("registry", 202);
        metrics.join_request("answered");
        metrics.reload_refused();
        metrics.commit(0.0002);
        metrics
    }

    /// The page of `docs/metrics.md`, from what a scrape shows.
    fn page(metrics: &Metrics) -> String {
        let text = metrics.render();
        let mut labels: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, rest)) = line.split_once('{') else { continue };
            let inside = rest.split('}').next().unwrap_or_default();
            let base = ["_total", "_bucket"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let names = inside.split(',').filter_map(|pair| pair.split('=').next()).filter(|name| *name != "le");
            labels.entry(base).or_default().extend(names.map(str::to_string));
        }
        let mut page = String::from(
            "# Metrics\n\nWhat `/metrics` shows. This page is written by the test that checks it: `UPDATE_DOCS=1 cargo test --lib metrics`.\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n",
        );
        let mut help = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                help = rest.split_once(' ').map_or("", |(_, help)| help);
            } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                let total = if kind == "counter" { "_total" } else { "" };
                let names = labels.get(name).into_iter().flatten().cloned().collect::<Vec<_>>().join(", ");
                let _ = writeln!(page, "| `{name}{total}` | {kind} | {names} | {help} |");
            }
        }
        page
    }

    #[test]
    fn every_registered_metric_shows_once_it_has_an_event() {
        let metrics = exercised();
        let text = metrics.render();
        for name in &metrics.page.names {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name} does not show");
        }
        assert!(text.contains("runbookd_verdicts_total{guard=\"cooldown\",verdict=\"hold\"} 1\n"), "{text}");
        assert!(text.contains("runbookd_outbox_oldest_seconds 1.5\n"), "{text}");
        assert!(text.contains("runbookd_reload_last_success 0\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn closed_sets_stand_at_zero_before_the_first_event() {
        let text = Metrics::new().render();
        for line in [
            "runbookd_intake_rejected_total{reason=\"malformed\"} 0",
            "runbookd_messages_total{outcome=\"unsendable\"} 0",
            "runbookd_incidents{state=\"escalated\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_docs_list_every_metric() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let page = page(&exercised());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).expect("docs/");
            std::fs::write(path, &page).expect("docs/metrics.md can be written");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(written, page, "docs/metrics.md is out of date: UPDATE_DOCS=1 cargo test --lib metrics");
    }
}
