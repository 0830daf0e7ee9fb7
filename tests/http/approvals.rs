//! Approvals over HTTP: who may, of which plan, and what is said to everybody else; and the trust that a rule earns.

use crate::stage::{Setup, Stage};
use serde_json::{Value, json};

const RULES: &str = r#"
rules:
  - name: scale-by-approval
    on: manual
    match: ['event = "scale_service"']
    by: [service]
    runbook: scale_service
    allow: [{ scale: "{{ service }}" }]
    mode: earned
    earned_after: 1
    approve: { by: [ann, bob], people: 2 }
"#;

/// An incident that waits for its plan to be approved, and the plan.
async fn waiting() -> (Stage, String) {
    let stage = Stage::with(Setup { doors: true, shipped: true, rules: RULES, ..Setup::default() }).await;
    assert_eq!(stage.post("/v1/scale-service?service=web&scale=up", b"").await.status, 200);
    let waits = |page: &Value| page["approvals"].as_array().is_some_and(|all| all.len() == 1);
    stage.until("/api/v1/approvals", waits).await;
    let page = stage.get("/api/v1/approvals").await.json();
    let approval = &page["approvals"][0]["approval"];
    assert_eq!(approval["effects"], json!(["web: 2 → 3 replicas"]), "{page}");
    let plan = approval["plan"].as_str().expect("a plan").to_string();
    (stage, plan)
}

async fn replicas(stage: &Stage) -> Value {
    let services = stage.get("/api/v1/services").await.json();
    let all = services["services"].as_array().expect("services");
    all.iter().find(|one| one["name"] == "web").expect("web")["replicas"].clone()
}

#[tokio::test]
async fn a_plan_is_carried_out_when_enough_people_have_approved_it() {
    let (stage, plan) = waiting().await;
    let incident = stage.get("/api/v1/incidents/i1").await.json();
    assert_eq!(
        (&incident["state"], &incident["run_summaries"][0]["shadow"]),
        (&json!("awaiting_approval"), &json!(true))
    );
    let approve = async |by: &str| {
        let body = json!({ "by": by, "plan": &plan[..8] });
        stage.post("/api/v1/incidents/i1/approve", body.to_string().as_bytes()).await
    };
    assert_eq!(approve("ann").await.json()["approval"]["given"], json!(["ann"]));
    assert!(approve("ann").await.problem(409).contains("2 people must"));
    assert_eq!(replicas(&stage).await, json!(2), "one is not enough");
    assert_eq!(approve("bob").await.status, 200);
    stage.until("/api/v1/incidents/i1", |incident| incident["state"] == "resolved").await;
    assert_eq!(replicas(&stage).await, json!(3));
    let run = stage.get("/api/v1/runs/r2").await.json();
    assert_eq!((&run["plan"], &run["approved_by"]), (&json!(plan), &json!(["ann", "bob"])));
    // It has helped once, which is enough for this rule; a person takes it back.
    let trust = stage.get("/api/v1/rules").await.json()["rules"][0]["trust"].clone();
    assert_eq!((&trust["trusted"], &trust["streak"]), (&json!(true), &json!(1)), "{trust}");
    let demoted = stage.post("/api/v1/rules/scale-by-approval/demote", br#"{"by":"ann","reason":"new"}"#).await.json();
    assert_eq!((&demoted["trusted"], &demoted["why"]), (&json!(false), &json!("by ann: new")));
    assert!(stage.post("/api/v1/rules/nope/promote", br#"{"by":"ann"}"#).await.problem(404).contains("no rule"));
    stage.stop().await;
}

#[tokio::test]
async fn what_is_no_approval_changes_nothing() {
    let (stage, plan) = waiting().await;
    for (verb, body, status, word) in [
        ("approve", json!({ "by": "eve", "plan": plan }), 409, "eve may not answer"),
        ("approve", json!({ "by": "ann", "plan": "0000000000" }), 409, "look at it first"),
        ("approve", json!({ "by": "ann", "plan": &plan[..4] }), 409, "look at it first"),
        ("approve", json!({ "by": "ann" }), 400, "plan"),
        ("approve", json!({ "plan": plan }), 400, "by"),
        ("answer", json!({ "by": "ann", "answer": "yes" }), 409, "approved or denied"),
        ("answer", json!({ "by": "ann" }), 400, "answer"),
    ] {
        let detail =
            stage.post(&format!("/api/v1/incidents/i1/{verb}"), body.to_string().as_bytes()).await.problem(status);
        assert!(detail.contains(word), "{verb} {body}: {detail}");
    }
    let detail =
        stage.post("/api/v1/incidents/i9/approve", json!({ "by": "ann", "plan": plan }).to_string().as_bytes()).await;
    assert!(detail.problem(404).contains("i9"));
    assert_eq!(replicas(&stage).await, json!(2));

    let denied = stage.post("/api/v1/incidents/i1/deny", br#"{"by":"bob","reason":"not today"}"#).await.json();
    assert_eq!((&denied["state"], &denied["reason"]["text"]), (&json!("escalated"), &json!("bob said no: not today")));
    assert!(stage.post("/api/v1/incidents/i1/deny", br#"{"by":"bob"}"#).await.problem(409).contains("asks nothing"));
    assert_eq!(stage.get("/api/v1/approvals").await.json(), json!({ "approvals": [] }));
    assert_eq!(replicas(&stage).await, json!(2));
    stage.stop().await;
}
