//! Rows to fill a journal with. The recorded journals in `tests/data` hold these very values: add to them, never change them.
#![allow(dead_code, reason = "each user takes what it needs")]

use jiff::{SignedDuration, Timestamp};
use runbookd::model::alert::{Alert, Fingerprint, GroupRef, Level, Status};
use runbookd::model::cluster::{ServiceChange, ServiceIntent};
use runbookd::model::incident::{Incident, IncidentId, Reason, State, Transition};
use runbookd::model::label::Labels;
use runbookd::model::message::{Kind, Message, MessageRoot, Section, ThreadRef};
use runbookd::model::run::{Handler, Input, ProgramHash, Run, RunId, RunState, Sources};
use runbookd::model::step::{Intent, Outcome, Step};
use runbookd::ports::NewIntake;
use serde_json::json;
use std::sync::Arc;

/// Seconds after the samples' beginning.
pub fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600).expect("a valid instant") + SignedDuration::from_secs(secs)
}

pub fn post(body: &[u8], received: i64) -> NewIntake {
    NewIntake { received_at: at(received), source: "alertmanager".into(), body: body.into(), group: None }
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

pub fn level(service: &str, status: Status) -> Level {
    let labels = labels(&[
        ("alertname", "HighLatency"),
        ("instance", "10.0.0.4:8080"),
        ("service", service),
        ("severity", "critical"),
        ("team", "shop"),
        ("zone", "eu-west-1a"),
    ]);
    let alert = Alert {
        fingerprint: Fingerprint::of(&labels),
        status,
        labels,
        annotations: [("summary", "p99 latency is above 500 ms")].into_iter().collect(),
        starts_at: at(0),
        ends_at: (status == Status::Resolved).then(|| at(60)),
        generator_url: "http://prometheus:9090/graph?g0.expr=p99".into(),
    };
    let group = GroupRef { key: "{}:{service=\"web\"}".into(), external_url: "http://alertmanager:9093".into() };
    Level {
        alert,
        group,
        last_seen: at(30),
        resolved_at: None,
        unconfirmed: false,
        suppressed: false,
        refire_at: None,
        closed_at: None,
    }
}

pub fn incident(id: u64, state: State) -> Incident {
    Incident {
        id: IncidentId(id),
        state,
        reason: Reason::new("firing", "HighLatency fires"),
        rule: Some("scale-out-slow-service".into()),
        runbook: Some("scale_out".into()),
        key: "service=\"web\"".into(),
        labels: labels(&[("alertname", "HighLatency"), ("service", "web")]),
        alerts: vec![Fingerprint(0x7adf_ef4b_be67_0a09)],
        runs: vec![RunId(id)],
        attempt: 1,
        flaps: 0,
        had_effect: true,
        effects: Vec::new(),
        locks: Vec::new(),
        gave_back: false,
        event: None,
        next_event: None,
        approval: None,
        acked_by: None,
        escalated: false,
        opened_at: at(id as i64),
        since: at(id as i64),
        until: None,
        held_since: None,
        closed_at: None,
    }
}

pub fn closed(id: u64, closed_at: i64) -> Incident {
    Incident { closed_at: Some(at(closed_at)), ..incident(id, State::Resolved) }
}

pub fn transition(incident: u64, secs: i64, from: Option<State>, to: State) -> Transition {
    Transition { incident: IncidentId(incident), at: at(secs), from, to, reason: Reason::new("firing", "it fires") }
}

pub fn run(id: u64, incident: u64, state: RunState) -> Run {
    Run {
        id: RunId(id),
        incident: IncidentId(incident),
        rule: "scale-out-slow-service".into(),
        runbook: "scale_out".into(),
        program: hash("one"),
        handler: Handler::OnFiring,
        shadow: false,
        plan: None,
        approved_by: Vec::new(),
        undoes: None,
        attempt: 1,
        state,
        reason: None,
        input: Arc::new(Input {
            alert: json!({ "labels": { "alertname": "HighLatency", "service": "web" }, "alerts": [{ "value": 0.1 }] }),
            params: json!({ "ceiling": 8, "step": 1 }),
        }),
        wake_at: (state == RunState::Suspended).then(|| at(3_600)),
        resumes: 0,
        log: vec!["scaling".into()],
        started_at: at(id as i64),
        finished_at: state.ended().then(|| at(id as i64 + 60)),
    }
}

/// A read.
pub fn looked(run: u64, seq: u32) -> Step {
    Step {
        run: RunId(run),
        seq,
        primitive: "service".into(),
        args: vec![json!("web")],
        intent: None,
        before: None,
        outcome: Outcome::Observed,
        value: Some(json!({ "name": "web", "replicas": 2, "running": 2 })),
        error: None,
        started_at: at(10),
        finished_at: Some(at(11)),
    }
}

/// A scale, applied `finished` seconds after the beginning.
pub fn scaled(run: u64, seq: u32, outcome: Outcome, finished: i64) -> Step {
    let change = ServiceChange::Scale { from: 2, to: 3 };
    let intent = ServiceIntent { service: "web".into(), id: "w3bs3rv1c3".into(), version: 114, change };
    Step {
        primitive: "scale".into(),
        args: vec![json!("web"), json!(3)],
        intent: Some(Intent::Services(vec![intent])),
        before: Some(json!({ "replicas": 2 })),
        outcome,
        value: None,
        finished_at: (outcome != Outcome::InDoubt).then(|| at(finished)),
        ..looked(run, seq)
    }
}

pub fn hash(name: &str) -> ProgramHash {
    ProgramHash(format!("{name:0>64}").into())
}

pub fn sources(name: &str) -> Arc<Sources> {
    let modules = [("lib/steps.rhai".to_string(), Arc::from("fn up() { 1 }"))].into();
    Arc::new(Sources { name: name.into(), main: "fn on_firing(alert, params) { }".into(), modules })
}

pub fn message(incident: Option<u64>, title: &str) -> Message {
    Message {
        kind: Kind::Escalation,
        incident: incident.map(IncidentId),
        channel: Some("#ops".into()),
        severity: "critical".into(),
        title: title.into(),
        body: vec![
            Section::Text("No rule matches.".into()),
            Section::Links(vec![("graph".into(), "http://p/".into())]),
        ],
        at: at(5),
        repeated: false,
    }
}

pub fn thread(ts: &str) -> ThreadRef {
    ThreadRef { channel: "C1".into(), ts: ts.into(), root: Box::new(MessageRoot { message: "{}".into() }) }
}
