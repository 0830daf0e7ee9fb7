//! Lists, details, commands and problem documents of the API.

use crate::stage::{FIRING, Setup, Stage, request};
use jiff::Timestamp;
use runbookd::model::alert::Fingerprint;
use runbookd::model::incident::{Incident, IncidentId, Reason, State, Transition};
use runbookd::model::label::Labels;
use runbookd::ports::{Journal, Write};
use serde_json::Value;

/// Incident `id`, of an hour for each id before noon.
fn incident(id: u64, state: State, service: &str) -> Incident {
    let at: Timestamp = format!("2026-11-23T{id:02}:00:00Z").parse().expect("an instant");
    Incident {
        id: IncidentId(id),
        state,
        reason: Reason::new("opened", "for the test"),
        rule: Some("r".into()),
        runbook: None,
        key: format!("service={service:?}"),
        labels: [("service", service), ("zone", "ä=b")].into_iter().collect::<Labels>(),
        alerts: vec![Fingerprint(id)],
        runs: vec![],
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
        opened_at: at,
        since: at,
        until: None,
        held_since: None,
        closed_at: None,
    }
}

/// A server whose journal holds five incidents; nobody works on them.
async fn five() -> Stage {
    let stage = Stage::start().await;
    for (id, state, service) in [
        (1, State::Resolved, "web"),
        (2, State::Escalated, "web"),
        (3, State::Resolved, "api"),
        (4, State::Held, "web"),
        (5, State::Resolved, "web"),
    ] {
        let incident = incident(id, state, service);
        let opened = Transition {
            incident: incident.id,
            at: incident.opened_at,
            from: None,
            to: State::Open,
            reason: incident.reason.clone(),
        };
        stage.journal.stage(vec![Write::Incident(Box::new(incident)), Write::Transition(opened)]);
    }
    stage.journal.commit().await.expect("committed");
    stage
}

fn ids(page: &Value) -> Vec<&str> {
    page["incidents"].as_array().expect("incidents").iter().filter_map(|one| one["id"].as_str()).collect()
}

#[tokio::test]
async fn incidents_are_filtered_by_state_label_and_time() {
    let stage = five().await;
    for (query, expect) in [
        ("", vec!["i5", "i4", "i3", "i2", "i1"]),
        ("?state=resolved", vec!["i5", "i3", "i1"]),
        ("?state=held,escalated", vec!["i4", "i2"]),
        ("?label=service%3Dweb&state=resolved", vec!["i5", "i1"]),
        ("?label=service=api&label=zone=%C3%A4=b", vec!["i3"]),
        ("?label=service=db", vec![]),
        ("?since=2026-11-23T02:30:00Z&until=2026-11-23T04:30:00Z", vec!["i4", "i3"]),
        ("?before=i3", vec!["i2", "i1"]),
        ("?before=3&limit=1", vec!["i2"]),
    ] {
        let answer = stage.get(&format!("/api/v1/incidents{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        assert_eq!(ids(&answer.json()), expect, "{query}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_double() {
    let stage = five().await;
    let (mut seen, mut next) = (Vec::new(), String::new());
    for _ in 0..3 {
        let page = stage.get(&format!("/api/v1/incidents?limit=2{next}")).await.json();
        seen.extend(ids(&page).into_iter().map(str::to_string));
        match page["next"].as_str() {
            Some(id) => next = format!("&before={id}"),
            None => break,
        }
    }
    assert_eq!(seen, ["i5", "i4", "i3", "i2", "i1"]);
    stage.stop().await;
}

#[tokio::test]
async fn an_incident_shows_its_history() {
    let stage = five().await;
    let shown = stage.get("/api/v1/incidents/i4").await.json();
    assert_eq!((&shown["id"], &shown["state"], &shown["closed_at"]), (&"i4".into(), &"held".into(), &Value::Null));
    assert_eq!(shown["transitions"][0]["to"], "open");
    assert_eq!(shown["alerts"][0], "0000000000000004");
    assert_eq!(shown["labels"]["zone"], "ä=b");
    stage.stop().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_answered_with_how_to_ask() {
    let stage = five().await;
    for (path, status, word) in [
        ("/api/v1/incidents?stat=open", 400, "did you mean \"state\"?"),
        ("/api/v1/incidents?state=opened", 400, "expected one of open, held"),
        ("/api/v1/incidents?label=web", 400, "expected name=value"),
        ("/api/v1/incidents?since=yesterday", 400, "1h30m"),
        ("/api/v1/incidents?limit=0", 400, "from 1 to 500"),
        ("/api/v1/incidents?limit=501", 400, "from 1 to 500"),
        ("/api/v1/incidents?before=x", 400, "i42"),
        ("/api/v1/incidents/r4", 400, "i42"),
        ("/api/v1/incidents/i99", 404, "there is no incident i99"),
        ("/api/v1/runs/r99", 404, "there is no run r99"),
        ("/api/v1/runs/%00", 400, "r42"),
        ("/api/v2/incidents", 404, "openapi.json"),
        ("/", 404, "openapi.json"),
        ("/api/v1/alertmanager", 405, "GET is not offered"),
    ] {
        let detail = stage.get(path).await.problem(status);
        assert!(detail.contains(word), "{path}: {detail}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn the_kill_switch_is_pulled_shown_and_released() {
    let stage = Stage::start().await;
    let paused = stage.post("/api/v1/pause", br#"{"by":"ann","reason":"migration"}"#).await.json();
    assert_eq!(
        (&paused["paused"], &paused["by"], &paused["reason"]),
        (&true.into(), &"ann".into(), &"migration".into())
    );
    assert_eq!(stage.get("/api/v1/pause").await.json()["paused"], true);
    assert_eq!(stage.metric("runbookd_paused").await, "1");
    let ready = stage.get("/readyz").await;
    assert!(ready.status == 200 && ready.body.contains("paused (by ann: migration)"), "{ready:?}");
    assert_eq!(stage.post("/api/v1/resume", br#"{"by":"ann"}"#).await.json()["paused"], false);
    assert_eq!(stage.get("/api/v1/pause").await.json()["paused"], false);
    stage.stop().await;
}

#[tokio::test]
async fn a_freeze_is_made_listed_and_ended() {
    let stage = Stage::start().await;
    let body = br#"{"by":"ann","reason":"migration","for":"2h"}"#;
    let made = stage.post("/api/v1/freezes", body).await.json();
    assert_eq!((&made["id"], &made["scope"], &made["in_force"]), (&"f1".into(), &"everything".into(), &true.into()));
    let listed = stage.get("/api/v1/freezes").await.json();
    assert_eq!(listed["freezes"], serde_json::json!([made]));
    assert_eq!(stage.metric("runbookd_freezes{source=\"one_off\"}").await, "1");
    assert!(stage.get("/readyz").await.body.contains("frozen (f1 by ann"));
    for (body, status, word) in [
        (r#"{"by":"ann","reason":"x"}"#, 400, "say how long"),
        (r#"{"by":"ann","reason":"x","for":"2h","until":"2036-01-01T00:00:00Z"}"#, 400, "say how long"),
        (r#"{"by":"ann","reason":" ","for":"2h"}"#, 400, "reason"),
        (r#"{"by":"ann","reason":"x","for":"soon"}"#, 400, "no duration"),
        (r#"{"by":"ann","reason":"x","until":"tomorrow"}"#, 400, "no instant"),
        (r#"{"by":"ann","reason":"x","until":"2001-01-01T00:00[Europe/Berlin]"}"#, 409, "over already"),
        (r#"{"by":"ann","reason":"x","for":"2h","rule":"a","tag":"b"}"#, 400, "not both"),
        (r#"{"by":"ann","reason":"x","for":"2h","tag":"nobody"}"#, 409, "no such rule"),
    ] {
        let detail = stage.post("/api/v1/freezes", body.as_bytes()).await.problem(status);
        assert!(detail.contains(word), "{body}: {detail}");
    }
    stage.post("/api/v1/freezes/f7/end", br#"{"by":"bob"}"#).await.problem(404);
    assert_eq!(stage.post("/api/v1/freezes/f1/end", br#"{"by":"bob"}"#).await.json()["id"], "f1");
    assert_eq!(stage.get("/api/v1/freezes").await.json()["freezes"], serde_json::json!([]));
    stage.stop().await;
}

#[tokio::test]
async fn a_command_says_who_and_is_json() {
    let stage = Stage::start().await;
    for (path, kind, body, status, word) in [
        ("/api/v1/pause", "application/json", "{}", 400, "`by`"),
        ("/api/v1/pause", "application/json", r#"{"by":" ","reason":"x"}"#, 400, "who commands"),
        ("/api/v1/pause", "application/json", r#"{"by":"ann"}"#, 400, "reason"),
        ("/api/v1/pause", "application/json", r#"{"by":"ann","why":"x"}"#, 400, "why"),
        ("/api/v1/pause", "text/plain", r#"{"by":"ann","reason":"x"}"#, 415, "application/json"),
        ("/api/v1/incidents/i99/ack", "application/json", r#"{"by":"ann"}"#, 404, "i99"),
        ("/api/v1/incidents/i99/close", "application/json; charset=utf-8", r#"{"by":"ann"}"#, 404, "i99"),
    ] {
        let request = request("POST", path, &format!("Content-Type: {kind}\r\n"), body.as_bytes());
        let detail = stage.raw(&request).await.problem(status);
        assert!(detail.contains(word), "{path} {body}: {detail}");
    }
    assert_eq!(stage.get("/api/v1/pause").await.json()["paused"], false);
    stage.stop().await;
}

#[tokio::test]
async fn an_alert_without_a_rule_becomes_an_incident_that_a_person_takes_and_closes() {
    let stage = Stage::start().await;
    assert_eq!(stage.intake(FIRING.as_bytes()).await.status, 200);
    let page = stage.until("/api/v1/incidents?state=escalated", |page| !ids(page).is_empty()).await;
    let id = ids(&page).first().expect("one incident for the group").to_string();
    assert_eq!(page["incidents"][0]["rule"], Value::Null);
    assert_eq!(page["incidents"][0]["alerts"].as_array().map(Vec::len), Some(2));
    let acked = stage.post(&format!("/api/v1/incidents/{id}/ack"), br#"{"by":"ann"}"#).await.json();
    assert_eq!(acked["acked_by"], "ann");
    let detail = stage.get(&format!("/api/v1/incidents/{id}")).await.json();
    assert_eq!(detail["levels"].as_array().map(Vec::len), Some(2));
    assert_eq!(detail["levels"][0]["status"], "firing");
    let body = br#"{"by":"ann","reason":"known and harmless"}"#;
    let closed = stage.post(&format!("/api/v1/incidents/{id}/close"), body).await.json();
    assert!(closed["closed_at"].is_string(), "{closed}");
    stage.stop().await;
}

#[tokio::test]
async fn the_cluster_is_shown_without_values_of_environment_variables() {
    let stage = Stage::start().await;
    let answer = stage.get("/api/v1/services").await;
    assert_eq!(answer.json()["services"][0]["env"], serde_json::json!(["KEY"]));
    assert!(!answer.body.contains("hunter2"));
    assert_eq!(stage.get("/api/v1/nodes").await.json()["nodes"][0]["role"], "manager");
    for list in ["rules", "runbooks", "runs"] {
        assert!(stage.get(&format!("/api/v1/{list}")).await.json()[list].is_array(), "{list}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn the_document_is_served() {
    let stage = Stage::with(Setup::default()).await;
    let document = stage.get("/api/v1/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    stage.stop().await;
}

#[tokio::test]
async fn rules_and_runbooks_say_whether_they_helped_and_only_an_open_breaker_is_closed() {
    let stage = Stage::with(Setup { shipped: true, ..Setup::default() }).await;
    for list in ["rules", "runbooks"] {
        let all = stage.get(&format!("/api/v1/{list}")).await.json();
        let figures = &all[list][0]["effectiveness"];
        assert_eq!((&figures["helped"], &figures["time_to_resolve_seconds"]), (&0.into(), &Value::Null), "{all}");
    }
    let rules = stage.get("/api/v1/rules").await.json();
    let rule = rules["rules"][0]["name"].as_str().expect("a name");
    assert_eq!(rules["rules"][0]["breaker"], Value::Null);
    for (rule, body, status, word) in [
        (rule, r#"{"by":"ann"}"#, 409, "is not open"),
        (rule, r#"{"by":" "}"#, 400, "who commands"),
        ("none-such", r#"{"by":"ann"}"#, 404, "there is no rule"),
    ] {
        let answer = stage.post(&format!("/api/v1/rules/{rule}/close_breaker"), body.as_bytes()).await;
        let detail = answer.problem(status);
        assert!(detail.contains(word), "{rule} {body}: {detail}");
    }
    stage.stop().await;
}
