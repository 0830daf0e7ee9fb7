//! Undo over HTTP: shown first, carried out as it was shown, and refused where the cluster is another by now.

use crate::stage::{Setup, Stage};
use serde_json::{Value, json};

/// A service that a run has scaled from 2 to 3 replicas.
async fn scaled() -> Stage {
    let stage = Stage::with(Setup { doors: true, shipped: true, ..Setup::default() }).await;
    assert_eq!(stage.post("/v1/scale-service?service=web&scale=up", b"").await.status, 200);
    settled(&stage, 1).await;
    assert_eq!(replicas(&stage).await, 3);
    stage
}

async fn settled(stage: &Stage, incidents: usize) {
    let ended = |page: &Value| {
        let all = page["incidents"].as_array().expect("incidents");
        all.len() == incidents && all.iter().all(|one| one["state"] == "resolved")
    };
    stage.until("/api/v1/incidents", ended).await;
}

async fn replicas(stage: &Stage) -> u64 {
    let services = stage.get("/api/v1/services").await.json();
    let all = services["services"].as_array().expect("services");
    all.iter().find(|one| one["name"] == "web").expect("web")["replicas"].as_u64().expect("a number")
}

#[tokio::test]
async fn an_undo_is_shown_first_and_carried_out_as_it_was_shown() {
    let stage = scaled().await;
    let plan = stage.get("/api/v1/runs/r1/undo").await.json();
    assert_eq!((&plan["run"], &plan["refused"]), (&json!("r1"), &Value::Null), "{plan}");
    assert_eq!(plan["steps"][0]["undo"], "does");
    assert_eq!(plan["steps"][0]["what"], "web: 3 → 2 replicas");
    assert_eq!(replicas(&stage).await, 3, "to look changes nothing");

    let wish = json!({ "by": "ann", "reason": "too much", "plan": plan["plan"] });
    let started = stage.post("/api/v1/runs/r1/undo", wish.to_string().as_bytes()).await;
    assert_eq!((started.status, started.json()), (202, json!({ "incident": "i2", "run": "r2" })));
    settled(&stage, 2).await;
    assert_eq!(replicas(&stage).await, 2);
    let run = stage.get("/api/v1/runs/r2").await.json();
    assert_eq!((&run["undoes"], &run["runbook"], &run["state"]), (&json!("r1"), &json!("undo"), &json!("done")));
    assert_eq!(stage.metric("runbookd_undos_total").await, "1");

    // What was done is as it was before: there is nothing left to undo, and the plan is another.
    let detail = stage.post("/api/v1/runs/r1/undo", wish.to_string().as_bytes()).await.problem(409);
    assert!(detail.contains("another by now"), "{detail}");
    let plan = stage.get("/api/v1/runs/r1/undo").await.json();
    assert_eq!(plan["refused"], "there is nothing that could be put back");
    let wish = json!({ "by": "ann", "plan": plan["plan"] });
    let detail = stage.post("/api/v1/runs/r1/undo", wish.to_string().as_bytes()).await.problem(409);
    assert!(detail.contains("r1 cannot be undone: there is nothing"), "{detail}");
    // The undo can be undone.
    assert_eq!(stage.get("/api/v1/runs/r2/undo").await.json()["steps"][0]["what"], "web: 2 → 3 replicas");
    stage.stop().await;
}

#[tokio::test]
async fn an_undo_says_who_and_which_plan() {
    let stage = scaled().await;
    assert!(stage.get("/api/v1/runs/r99/undo").await.problem(404).contains("there is no run r99"));
    for (body, status, word) in [
        (r#"{"by":"ann"}"#, 400, "plan"),
        (r#"{"plan":"x"}"#, 400, "by"),
        (r#"{"by":" ","plan":"x"}"#, 400, "who commands"),
        (r#"{"by":"ann","plan":"1234567"}"#, 400, "at least the first 8 letters"),
        (r#"{"by":"ann","plan":"12345678"}"#, 409, "another by now"),
    ] {
        let detail = stage.post("/api/v1/runs/r1/undo", body.as_bytes()).await.problem(status);
        assert!(detail.contains(word), "{body}: {detail}");
    }
    let plan = stage.get("/api/v1/runs/r1/undo").await.json();
    assert_eq!(plan["stopped"], Value::Null);
    stage.post("/api/v1/pause", br#"{"by":"bob","reason":"migration"}"#).await;
    let wish = json!({ "by": "ann", "plan": plan["plan"] });
    let detail = stage.post("/api/v1/runs/r1/undo", wish.to_string().as_bytes()).await.problem(409);
    assert!(detail.contains("paused (by bob: migration)"), "{detail}");
    let stopped = stage.get("/api/v1/runs/r1/undo").await.json()["stopped"].to_string();
    assert!(stopped.contains("paused (by bob: migration)") && stopped.contains("runbookd resume"), "{stopped}");
    assert_eq!(replicas(&stage).await, 3);
    stage.stop().await;
}
