//! Hooks: what a registry, GitHub or a build says is journalled before it is answered; what is unsigned, unreadable or too large never is.

use crate::stage::{Answer, GITHUB_SECRET, HOOKS_TOKEN, Setup, Stage, TOKEN, request};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

const DIGEST: &str = "sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf";
const EVENTS: &str = "application/vnd.docker.distribution.events.v1+json";
const REGISTRY: &str = "/api/v1/hooks/registry";
const GITHUB: &str = "/api/v1/hooks/github";

fn notification(action: &str) -> Value {
    json!({
        "id": "320678d8", "action": action,
        "target": {
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": DIGEST, "repository": "shop/web", "tag": "1.4"
        },
        "request": { "host": "registry:5000" }, "actor": { "name": "ci" }
    })
}

fn pushed() -> String {
    format!(
        "deploy {{actor=\"ci\", digest=\"{DIGEST}\", event=\"image_pushed\", image=\"registry:5000/shop/web:1.4@{DIGEST}\", \
         name=\"shop/web\", registry=\"registry:5000\", repository=\"registry:5000/shop/web\", source=\"registry\", tag=\"1.4\"}}"
    )
}

async fn post(stage: &Stage, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    stage.raw(&request("POST", path, &headers, body)).await
}

async fn notify(stage: &Stage, events: &[Value]) -> Answer {
    post(stage, REGISTRY, &[("Content-Type", EVENTS)], json!({ "events": events }).to_string().as_bytes()).await
}

fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

fn workflow() -> String {
    json!({
        "action": "completed",
        "workflow_run": {
            "name": "Build", "head_branch": "main", "head_sha": "6c62fb45", "event": "push", "conclusion": "success",
            "actor": { "login": "ann" }, "head_repository": { "full_name": "octo/web" }
        },
        "repository": { "full_name": "octo/web" }
    })
    .to_string()
}

#[tokio::test]
async fn pushed_images_of_a_post_are_one_row_of_the_journal() {
    let stage = Stage::start().await;
    let answer = notify(&stage, &[notification("push"), notification("pull"), json!(7), notification("push")]).await;
    assert_eq!((answer.status, answer.json()), (202, json!({ "intake": 1, "events": 2, "ignored": 2 })));
    assert_eq!(stage.journalled().await, [[pushed(), pushed()]]);
    let answer = notify(&stage, &[notification("pull")]).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "intake": null, "events": 0, "ignored": 1 })));
    assert_eq!(stage.journalled().await.len(), 1, "a pull is nothing to write down");
    assert_eq!(stage.metric("runbookd_event_posts_total{source=\"registry\",code=\"202\"}").await, "1");
    stage.stop().await;
}

#[tokio::test]
async fn what_is_sent_again_is_the_same_event_once_more() {
    let stage = Stage::start().await;
    for _ in 0..2 {
        assert_eq!(notify(&stage, &[notification("push")]).await.status, 202);
    }
    assert_eq!(stage.journalled().await, [[pushed()], [pushed()]]);
    stage.stop().await;
}

#[tokio::test]
async fn a_journal_that_cannot_write_is_a_503_at_every_hook() {
    let stage = Stage::with(Setup { hooks: true, shipped: true, ..Setup::default() }).await;
    stage.journal.fail(Some("disk full"));
    let token = format!("Bearer {HOOKS_TOKEN}");
    let body = workflow();
    let signature = sign(GITHUB_SECRET, body.as_bytes());
    let push = json!({ "events": [notification("push")] }).to_string();
    let json = "application/json";
    for (path, headers, body) in [
        (REGISTRY, vec![("Authorization", token.as_str()), ("Content-Type", EVENTS)], push.as_str()),
        (
            GITHUB,
            vec![("X-Hub-Signature-256", &signature), ("X-GitHub-Event", "workflow_run"), ("Content-Type", json)],
            &body,
        ),
        ("/api/v1/deploy", vec![("Authorization", &token), ("Content-Type", json)], r#"{"service":"web","tag":"2"}"#),
        (
            "/api/v1/runs",
            vec![("Content-Type", json)],
            r#"{"runbook":"scale_service","by":"ann","set":{"event_of":"x"}}"#,
        ),
    ] {
        let answer = post(&stage, path, &headers, body.as_bytes()).await;
        if path == "/api/v1/runs" {
            // No shipped rule takes it: that is said before the journal is asked.
            answer.problem(422);
        } else {
            assert!(answer.problem(503).contains("disk full"), "{path}");
        }
    }
    stage.journal.fail(None);
    assert!(stage.journalled().await.is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn what_can_never_be_read_is_refused_and_nothing_is_journalled() {
    let stage = Stage::start().await;
    let huge = vec![b' '; (2 << 20) + 1];
    let json = "application/json";
    let cases: [(&str, &str, &[u8], u16, &str); 11] = [
        (REGISTRY, EVENTS, b"", 400, "line 1"),
        (REGISTRY, EVENTS, b"hello", 400, "events"),
        (REGISTRY, EVENTS, b"[]", 400, "events"),
        (REGISTRY, EVENTS, b"{\"events\":[\"\xff\"]", 400, "line 1"),
        (REGISTRY, EVENTS, &huge, 413, "2097152"),
        (REGISTRY, "text/plain", b"{\"events\":[]}", 415, EVENTS),
        ("/api/v1/deploy", json, b"{}", 400, "names no version"),
        ("/api/v1/deploy", json, br#"{"service":"web"}"#, 400, "names no version"),
        ("/api/v1/deploy", json, br#"{"servise":"web","tag":"1"}"#, 400, "did you mean \"service\"?"),
        ("/api/v1/deploy", json, b"[]", 400, "line 1"),
        ("/api/v1/deploy", "text/plain", br#"{"service":"web","tag":"1"}"#, 415, json),
    ];
    for (path, kind, body, status, word) in cases {
        let detail = post(&stage, path, &[("Content-Type", kind)], body).await.problem(status);
        assert!(detail.contains(word), "{path}: {detail}");
    }
    assert!(stage.journalled().await.is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn a_deployment_is_taken_from_whoever_has_either_token_and_the_hooks_token_opens_nothing_else() {
    let stage = Stage::with(Setup { token: true, hooks: true, ..Setup::default() }).await;
    let body = br#"{"service":"web","image":"shop/web:2","commit":"abc","author":"ann"}"#;
    for (token, status) in [("", 401), ("Bearer another", 401), (HOOKS_TOKEN, 401)] {
        let headers = [("Authorization", token), ("Content-Type", "application/json")];
        post(&stage, "/api/v1/deploy", &headers, body).await.problem(status);
    }
    for token in [HOOKS_TOKEN, TOKEN] {
        let token = format!("Bearer {token}");
        let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
        assert_eq!(post(&stage, "/api/v1/deploy", &headers, body).await.status, 202);
    }
    let expect = "deploy {author=\"ann\", commit=\"abc\", event=\"deploy\", image=\"shop/web:2\", repository=\"shop/web\", \
                  service=\"web\", source=\"api\", tag=\"2\"}";
    assert_eq!(stage.journalled().await, [[expect], [expect]]);
    let token = format!("Authorization: Bearer {HOOKS_TOKEN}\r\nContent-Type: application/json\r\n");
    for (method, path) in [("GET", "/api/v1/incidents"), ("POST", "/api/v1/pause"), ("POST", "/api/v1/runs")] {
        stage.raw(&request(method, path, &token, b"{}")).await.problem(401);
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_delivery_is_taken_only_with_the_signature_of_its_very_body() {
    let stage = Stage::with(Setup { token: true, hooks: true, ..Setup::default() }).await;
    let body = workflow();
    let good = sign(GITHUB_SECRET, body.as_bytes());
    let api = format!("Bearer {TOKEN}");
    let changed = body.replace("main", "evil");
    let kind = [("X-GitHub-Event", "workflow_run"), ("Content-Type", "application/json")];
    let wrong = sign("another", body.as_bytes());
    for (header, body) in [
        (("X-Hub-Signature-256", wrong.as_str()), &body),
        (("X-Hub-Signature-256", &good), &changed),
        (("X-Hub-Signature-256", "sha256="), &body),
        (("X-Hub-Signature", &good), &body),
        // A token is no signature.
        (("Authorization", &api), &body),
    ] {
        let detail = post(&stage, GITHUB, &[&kind[..], &[header]].concat(), body.as_bytes()).await.problem(403);
        assert!(detail.contains("hooks.github_secret_file") && !detail.contains(GITHUB_SECRET), "{detail}");
    }
    assert!(stage.journalled().await.is_empty());

    let signed = ("X-Hub-Signature-256", good.as_str());
    let delivered = [&kind[..], &[signed, ("X-GitHub-Delivery", "72d3162e")]].concat();
    // Replayed, it is the same event once more; which delivery it was stays with it.
    for _ in 0..2 {
        assert_eq!(post(&stage, GITHUB, &delivered, body.as_bytes()).await.status, 202);
    }
    let expect = "deploy {author=\"ann\", branch=\"main\", commit=\"6c62fb45\", conclusion=\"success\", event=\"workflow_run\", \
                  repository=\"octo/web\", source=\"github\", trigger=\"push\", workflow=\"Build\"}";
    assert_eq!(stage.journalled().await, [[expect], [expect]]);
    stage.stop().await;
}

#[tokio::test]
async fn pings_and_other_deliveries_are_answered_and_ignored() {
    let stage = Stage::with(Setup { hooks: true, ..Setup::default() }).await;
    let body = b"{\"zen\":\"Keep it logically awesome.\"}";
    let signature = sign(GITHUB_SECRET, body);
    let signed = ("X-Hub-Signature-256", signature.as_str());
    let json = ("Content-Type", "application/json");
    for (headers, status) in [
        (vec![signed, json, ("X-GitHub-Event", "ping")], 200),
        (vec![signed, json, ("X-GitHub-Event", "star")], 200),
        (vec![signed, json, ("X-GitHub-Event", "workflow_run")], 200),
        (vec![signed, json], 400),
        (vec![signed, ("X-GitHub-Event", "star"), ("Content-Type", "application/x-www-form-urlencoded")], 415),
    ] {
        assert_eq!(post(&stage, GITHUB, &headers, body).await.status, status, "{headers:?}");
    }
    assert!(stage.journalled().await.is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn without_a_secret_github_is_refused_with_the_key_that_is_missing() {
    let stage = Stage::start().await;
    let detail = post(&stage, GITHUB, &[("X-Hub-Signature-256", &sign("", b"{}"))], b"{}").await.problem(403);
    assert!(detail.contains("hooks.github_secret_file"), "{detail}");
    stage.stop().await;
}

#[tokio::test]
async fn people_hear_of_a_refused_notification_and_of_one_that_cannot_be_read() {
    let stage = Stage::start().await;
    notify(&stage, &[json!({ "action": "push", "target": 7 })]).await;
    post(&stage, REGISTRY, &[("Content-Type", EVENTS)], b"hello").await.problem(400);
    let (told, journal) = (stage.told.clone(), stage.journal.clone());
    stage.stop().await;
    let waiting = runbookd::ports::Journal::outbox(&*journal, 0, 10).await.expect("readable");
    let said = format!("{} {waiting:?}", told.text());
    for words in ["told of a deployment that cannot be read", "A post of events (registry) was refused"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}
