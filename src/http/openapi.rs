//! The API, described for programs: OpenAPI 3.1, written by hand, compared with the router and the answers by tests.

use axum::http::header;
use axum::response::IntoResponse;

pub const DOCUMENT: &str = include_str!("openapi.json");

pub async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::board::Trust;
    use crate::http::problem::Problem;
    use crate::http::router::{Access, routes};
    use crate::http::view::{
        ApprovalCommand, ApprovalView, BrakeView, BreakerView, Check, Command, EffectivenessView, EventsView,
        FreezeRequest, FreezeView, IncidentDetail, IncidentPage, IncidentView, JoinView, LevelView, PauseView,
        Readiness, RuleView, RunAccepted, RunDetail, RunPage, RunRequest, RunView, RunbookView, ServiceView, StepView,
        TransitionView, TrustView, UndoRequest, UndoStarted, UndoStepView, UndoView,
    };
    use crate::model::alert::{Alert, Fingerprint, GroupRef, Level, Status};
    use crate::model::cluster::{self, Node, Service, UpdateState};
    use crate::model::duration::Duration;
    use crate::model::freeze::{Freeze, FreezeId, Scope};
    use crate::model::hook::deploy;
    use crate::model::incident::{Incident, IncidentId, Reason, State, Transition};
    use crate::model::label::Labels;
    use crate::model::mode::{Answer, Approval, Mode, Plan, Subject, Then};
    use crate::model::rule::Rule;
    use crate::model::run::{Handler, Input, ProgramHash, Run, RunId, RunState};
    use crate::model::step::{Intent, Outcome, Step, StepError};
    use jiff::Timestamp;
    use serde::Serialize;
    use serde_json::{Map, Value, json};
    use std::collections::{BTreeMap, BTreeSet};

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).expect("openapi.json is JSON")
    }

    #[test]
    fn the_document_and_the_router_list_the_same() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let open = operation["security"] == json!([]);
                described.insert((method.to_uppercase(), path.clone(), open));
            }
        }
        let served: BTreeSet<_> = routes()
            .into_iter()
            .map(|route| (route.method.to_string(), route.path.to_string(), route.access == Access::Open))
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere_and_every_schema_is_used() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    for (name, field) in fields {
                        match field.as_str().and_then(|text| text.strip_prefix("#/components/schemas/")) {
                            Some(schema) if name == "$ref" => drop(found.insert(schema.to_string())),
                            _ => references(field, found),
                        }
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = document();
        let mut used = BTreeSet::new();
        references(&document, &mut used);
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        assert_eq!(used, schemas.keys().cloned().collect());
    }

    /// The fields of `sample` are the schema's properties, those it requires are there, and words are of its closed sets.
    fn check(schema: &str, sample: &impl Serialize) {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let sample = serde_json::to_value(sample).expect("views are plain data");
        let schema_value = &schemas[schema];
        let properties = schema_value["properties"].as_object().unwrap_or_else(|| panic!("{schema} has properties"));
        let fields = sample.as_object().unwrap_or_else(|| panic!("{schema} is an object"));
        let required: BTreeSet<&str> =
            schema_value["required"].as_array().expect("required").iter().filter_map(Value::as_str).collect();
        for name in fields.keys() {
            assert!(properties.contains_key(name), "{schema} does not describe {name}");
        }
        for name in properties.keys() {
            assert!(fields.contains_key(name) || !required.contains(name.as_str()), "{schema} requires {name}");
        }
        for (name, property) in properties {
            let reference = property["$ref"].as_str().and_then(|text| text.strip_prefix("#/components/schemas/"));
            let words = reference.map_or(property, |schema| &schemas[schema]);
            if let (Some(words), Some(word)) = (words["enum"].as_array(), fields.get(name)) {
                assert!(words.contains(word), "{schema}.{name} is {word}");
            }
        }
    }

    #[test]
    fn the_answers_have_the_fields_that_the_document_says() {
        let incident = IncidentView::from(incident());
        check("Incident", &incident);
        check("IncidentPage", &IncidentPage { incidents: vec![], next: None });
        let transition = Transition {
            incident: IncidentId(1),
            at: Timestamp::UNIX_EPOCH,
            from: None,
            to: State::Open,
            reason: Reason::new("opened", ""),
        };
        check("Transition", &TransitionView::from(transition));
        check("Level", &LevelView::from(level()));
        check("Reason", &Reason::new("opened", ""));
        let detail = IncidentDetail { incident, transitions: vec![], run_summaries: vec![], levels: vec![] };
        check("IncidentDetail", &detail);
        check("Run", &RunView::from(&run()));
        check("RunPage", &RunPage { runs: vec![], next: None });
        check("RunDetail", &RunDetail::new(&run(), vec![]));
        let step = StepView::from(step());
        check("Intent", step.intent.as_ref().expect("an intent"));
        check("StepError", step.error.as_ref().expect("an error"));
        check("Step", &step);
        check("Rule", &RuleView::from(&Rule::matching("", Vec::new())));
        let step = UndoStepView { seq: 0, did: "x".into(), undo: "does".into(), what: "x".into() };
        check("UndoStep", &step);
        let plan = UndoView {
            run: RunId(1),
            plan: "x".into(),
            refused: None,
            stopped: None,
            steps: vec![step],
            source: "x".into(),
        };
        check("Undo", &plan);
        check("UndoRequest", &UndoRequest { by: "me".into(), reason: String::new(), plan: "x".into() });
        check("UndoStarted", &UndoStarted { incident: IncidentId(1), run: Some(RunId(1)) });
        check("Runbook", &runbook());
        check("Effectiveness", &EffectivenessView::default());
        check("Breaker", &BreakerView { opened_at: Timestamp::UNIX_EPOCH, after: 5 });
        check("BreakerClosed", &json!({ "rule": "x", "breaker": null }));
        check("Service", &ServiceView::from(service()));
        check("Node", &node());
        check("Join", &JoinView { managers: vec![], token: String::new() });
        check("Pause", &PauseView::from(None));
        check("Brake", &BrakeView::from(None));
        let freeze = Freeze {
            id: FreezeId(1),
            scope: Scope::All,
            by: "me".into(),
            reason: String::new(),
            at: Timestamp::UNIX_EPOCH,
            until: Timestamp::UNIX_EPOCH,
        };
        check("Freeze", &FreezeView::from(freeze));
        let some = || Some("x".to_string());
        let (by, reason) = ("me".into(), "x".into());
        check("FreezeRequest", &FreezeRequest { by, reason, lasts: some(), until: some(), rule: some(), tag: some() });
        check("Command", &Command { by: "me".into(), reason: String::new() });
        check("Events", &EventsView { intake: Some(1), events: 1, ignored: 0 });
        check("RunAccepted", &RunAccepted { intake: 1, request: "x".into(), rules: vec![] });
        let request = Some("x".to_string());
        check("RunRequest", &RunRequest { runbook: "x".into(), set: Map::new(), by: "me".into(), request });
        check("Deployment", &deploy::KEYS.map(|key| (key, "x")).into_iter().collect::<BTreeMap<_, _>>());
        let ready = Check { name: "journal".into(), ok: true, detail: String::new() };
        check("Check", &ready);
        check("Readiness", &Readiness { ready: true, checks: vec![ready] });
        check("Problem", &Problem::malformed("x").at(1, 2));
        let lists = [
            ("RuleList", "rules"),
            ("RunbookList", "runbooks"),
            ("ServiceList", "services"),
            ("NodeList", "nodes"),
            ("ApprovalList", "approvals"),
            ("FreezeList", "freezes"),
        ];
        for (list, items) in lists {
            check(list, &json!({ items: [] }));
        }
        check("Trust", &TrustView::new("r", Trust::default(), Mode::Auto));
        check(
            "ApprovalCommand",
            &ApprovalCommand { by: "a".into(), plan: "".into(), reason: "".into(), answer: "".into() },
        );
        let subject = Subject::Question { seq: 1, text: "?".into(), answers: vec!["yes".into()] };
        check("Approval", &ApprovalView::from(approval(subject)));
        check("Approval", &ApprovalView::from(approval(Subject::Plan(Plan::default()))));
    }

    #[test]
    fn every_state_and_outcome_is_in_its_closed_set() {
        let document = document();
        let words = |schema: &str| document["components"]["schemas"][schema]["enum"].clone();
        assert_eq!(words("State"), json!(State::ALL));
        use Outcome::{Applied, Denied, Failed, InDoubt, Observed, Planned, Unchanged, Waiting};
        assert_eq!(words("Outcome"), json!([InDoubt, Waiting, Applied, Planned, Unchanged, Observed, Failed, Denied]));
        assert_eq!(document["components"]["schemas"]["Rule"]["properties"]["mode"]["enum"], json!(Mode::ALL));
        use RunState::{Done, Escalated, Interrupted, Running, Suspended};
        assert_eq!(words("RunState"), json!([Running, Suspended, Done, RunState::Failed, Escalated, Interrupted]));
        assert_eq!(words("Handler"), json!(Handler::ALL));
    }

    fn approval(subject: Subject) -> Approval {
        Approval {
            subject,
            run: None,
            by: vec!["sre".into()],
            people: 1,
            then: Then::Escalate,
            asked_at: Timestamp::UNIX_EPOCH,
            until: Timestamp::UNIX_EPOCH,
            given: vec![("ann".into(), Timestamp::UNIX_EPOCH)],
            verdict: Some(Answer::Approved),
        }
    }

    fn incident() -> Incident {
        Incident {
            id: IncidentId(1),
            state: State::Open,
            reason: Reason::new("opened", ""),
            rule: None,
            runbook: None,
            key: String::new(),
            labels: Labels::default(),
            alerts: vec![Fingerprint(1)],
            runs: vec![RunId(1)],
            attempt: 0,
            flaps: 0,
            had_effect: false,
            effects: Vec::new(),
            locks: Vec::new(),
            event: None,
            next_event: None,
            approval: None,
            gave_back: false,
            acked_by: None,
            escalated: false,
            opened_at: Timestamp::UNIX_EPOCH,
            since: Timestamp::UNIX_EPOCH,
            until: None,
            held_since: None,
            closed_at: None,
        }
    }

    fn level() -> Level {
        Level {
            alert: Alert {
                fingerprint: Fingerprint(1),
                status: Status::Firing,
                labels: Labels::default(),
                annotations: Labels::default(),
                starts_at: Timestamp::UNIX_EPOCH,
                ends_at: None,
                generator_url: "".into(),
            },
            group: GroupRef::default(),
            last_seen: Timestamp::UNIX_EPOCH,
            resolved_at: None,
            refire_at: None,
            closed_at: None,
            unconfirmed: false,
            suppressed: false,
        }
    }

    fn run() -> Run {
        Run {
            id: RunId(1),
            incident: IncidentId(1),
            rule: String::new(),
            runbook: String::new(),
            program: ProgramHash("".into()),
            handler: Handler::OnFiring,
            shadow: false,
            plan: None,
            approved_by: Vec::new(),
            undoes: None,
            attempt: 1,
            state: RunState::Running,
            reason: None,
            input: Input::default().into(),
            wake_at: None,
            resumes: 0,
            log: vec![],
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: None,
        }
    }

    fn step() -> Step {
        Step {
            run: RunId(1),
            seq: 0,
            primitive: "sleep".into(),
            args: vec![],
            intent: Some(Intent::Until { deadline: Timestamp::UNIX_EPOCH, timeout: Duration::from_secs(1) }),
            before: None,
            outcome: Outcome::Failed,
            value: None,
            error: Some(StepError::new("timeout", "it ran out")),
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: None,
        }
    }

    fn runbook() -> RunbookView {
        RunbookView {
            name: String::new(),
            program: String::new(),
            doc: String::new(),
            defaults: BTreeMap::new(),
            handlers: vec![],
            effectiveness: EffectivenessView::default(),
        }
    }

    fn service() -> Service {
        Service {
            id: String::new(),
            name: String::new(),
            version: 1,
            image: String::new(),
            mode: cluster::Mode::Replicated,
            replicas: 1,
            running: 1,
            labels: Labels::default(),
            container_labels: Labels::default(),
            env: BTreeMap::new(),
            limits: cluster::Limits::default(),
            force_update: 0,
            update: UpdateState::None,
            update_message: String::new(),
            template_hash: String::new(),
            previous_template_hash: None,
            ports: Vec::new(),
        }
    }

    fn node() -> Node {
        Node {
            id: String::new(),
            name: String::new(),
            role: String::new(),
            availability: String::new(),
            state: String::new(),
            address: String::new(),
            labels: Labels::default(),
            version: 0,
            running: 0,
            instance: Some(String::new()),
        }
    }
}
