//! Intake's contract: 2xx is committed, 5xx may be sent again, 4xx can never be read.

use crate::stage::{FIRING, Setup, Stage, TOKEN, request};
use runbookd::ports::Journal;

#[tokio::test]
async fn a_post_is_journalled_to_the_byte_before_it_is_answered() {
    let stage = Stage::start().await;
    let answer = stage.intake(FIRING.as_bytes()).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"status\":\"journalled\"}"));
    let posts = stage.journal.intake_after(0, 10).await.expect("readable");
    assert_eq!(posts.len(), 1);
    assert_eq!(&*posts[0].post.body, FIRING.as_bytes());
    assert_eq!(posts[0].post.source, "alertmanager");
    assert_eq!(stage.metric("runbookd_intake_posts_total{code=\"200\"}").await, "1");
    stage.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_its_place_and_nothing_is_journalled() {
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let cases: [(&str, &[u8]); 10] = [
        ("empty", b""),
        ("no JSON", b"hello"),
        ("cut off", &FIRING.as_bytes()[..200]),
        ("a list", b"[]"),
        ("null", b"null"),
        ("a wrong type", br#"{"groupKey":"g","alerts":"many"}"#),
        ("no alerts", br#"{"groupKey":"g"}"#),
        ("a NUL", b"{\"groupKey\":\"g\0\",\"alerts\":[]}"),
        ("not UTF-8", b"{\"groupKey\":\"\xff\",\"alerts\":[]}"),
        ("deep", &deep),
    ];
    let stage = Stage::start().await;
    for (name, body) in cases {
        let answer = stage.intake(body).await;
        let detail = answer.problem(400);
        let problem = answer.json();
        assert!(problem["line"].as_u64().is_some_and(|line| line > 0), "{name}: {problem}");
        assert!(problem["column"].is_u64(), "{name}: {problem}");
        assert!(detail.contains("line") && detail.contains("column"), "{name}: {detail}");
    }
    assert_eq!(stage.metric("runbookd_intake_rejected_total{reason=\"malformed\"}").await, "10");
    assert_eq!(stage.metric("runbookd_intake_posts_total{code=\"400\"}").await, "10");
    assert!(stage.journal.intake_after(0, 10).await.expect("readable").is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn people_hear_once_of_posts_that_will_not_be_sent_again() {
    let stage = Stage::start().await;
    for _ in 0..3 {
        stage.intake(b"hello").await.problem(400);
    }
    let told = stage.told.clone();
    // Stopping waits until what was said is delivered or in the journal.
    let journal = stage.journal.clone();
    stage.stop().await;
    let waiting = journal.outbox(0, 10).await.expect("readable");
    let said = told.text().matches("A post of alerts was refused").count();
    assert_eq!(said + waiting.len(), 1, "{waiting:?}\n{}", told.text());
}

#[tokio::test]
async fn a_journal_that_cannot_write_is_a_503_until_it_can() {
    let stage = Stage::start().await;
    stage.journal.fail(Some("disk full"));
    let detail = stage.intake(FIRING.as_bytes()).await.problem(503);
    assert!(detail.contains("disk full"), "{detail}");
    let ready = stage.get("/readyz").await;
    assert_eq!(ready.status, 503);
    let checks = ready.json();
    let red: Vec<&str> = checks["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter(|check| check["ok"] == false)
        .filter_map(|check| check["name"].as_str())
        .collect();
    assert_eq!(red, ["journal"]);
    assert_eq!(stage.metric("runbookd_journal_healthy").await, "0");
    assert_eq!(stage.metric("runbookd_intake_rejected_total{reason=\"journal\"}").await, "1");

    stage.journal.fail(None);
    assert_eq!(stage.intake(FIRING.as_bytes()).await.status, 200);
    assert_eq!(stage.get("/readyz").await.status, 200);
    assert_eq!(stage.metric("runbookd_journal_healthy").await, "1");
    stage.stop().await;
}

#[tokio::test]
async fn while_the_journal_is_waited_for_nothing_is_taken_and_readiness_says_why() {
    let stage = Stage::with(Setup { live: false, ..Setup::default() }).await;
    stage.shared.wait_for("another runbookd has the journal");
    for (path, post) in [("/api/v1/alertmanager", true), ("/api/v1/incidents", false), ("/api/v1/services", false)] {
        let answer = if post { stage.intake(FIRING.as_bytes()).await } else { stage.get(path).await };
        assert!(answer.problem(503).contains("another runbookd has the journal"));
    }
    let ready = stage.get("/readyz").await;
    assert_eq!((ready.status, ready.json()["checks"][0]["name"].as_str()), (503, Some("journal_lock")));
    assert_eq!(stage.get("/healthz").await.status, 200);
    stage.stop().await;
}

#[tokio::test]
async fn with_a_token_set_only_health_and_metrics_are_open() {
    let stage = Stage::with(Setup { token: true, ..Setup::default() }).await;
    let good = format!("Authorization: Bearer {TOKEN}\r\n");
    let bad = "Authorization: Bearer another\r\n";
    let json = "Content-Type: application/json\r\n";
    for (method, path, body) in [
        ("POST", "/api/v1/alertmanager", FIRING),
        ("GET", "/api/v1/incidents", ""),
        ("GET", "/api/v1/openapi.json", ""),
        ("POST", "/api/v1/pause", "{\"by\":\"me\",\"reason\":\"test\"}"),
    ] {
        for headers in ["", bad] {
            let answer = stage.raw(&request(method, path, &format!("{headers}{json}"), body.as_bytes())).await;
            answer.problem(401);
            assert!(answer.head.to_lowercase().contains("www-authenticate: bearer"), "{answer:?}");
            assert!(!answer.body.contains(TOKEN));
        }
        let answer = stage.raw(&request(method, path, &format!("{good}{json}"), body.as_bytes())).await;
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(stage.get(path).await.status, 200, "{path}");
    }
    assert_eq!(stage.metric("runbookd_intake_rejected_total{reason=\"unauthorized\"}").await, "2");
    stage.stop().await;
}
