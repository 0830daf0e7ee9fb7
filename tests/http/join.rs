//! Joining: who is told how, how often, and where the Swarm's token must not be seen.

use crate::stage::{Answer, HOOKS_TOKEN, JOIN_TOKEN, Setup, Stage, TOKEN, Told, request};
use runbookd::model::join::{JoinAsked, JoinRole};
use runbookd::ports::Journal;
use serde_json::json;
use std::time::Duration;

async fn started(join: Option<JoinRole>) -> Stage {
    Stage::with(Setup { token: true, hooks: true, join, ..Setup::default() }).await
}

async fn ask(stage: &Stage, token: &str, query: &str) -> Answer {
    let path = format!("/api/v1/nodes/join{query}");
    stage.raw(&request("GET", &path, &format!("Authorization: Bearer {token}\r\n"), b"")).await
}

/// The questions that were journalled, oldest first.
async fn journalled(stage: &Stage) -> Vec<JoinAsked> {
    let posts = stage.journal.intake_after(0, 1_000).await.expect("readable");
    let read = |post: &runbookd::ports::Intake| {
        assert_eq!(post.post.source, "join");
        serde_json::from_slice(&post.post.body).expect("a question")
    };
    posts.iter().map(read).collect()
}

#[tokio::test]
async fn a_machine_with_the_token_is_told_how_to_join_and_the_question_is_journalled() {
    let stage = started(Some(JoinRole::Worker)).await;
    let answer = ask(&stage, JOIN_TOKEN, "?role=worker").await;
    let managers = answer.json()["managers"].clone();
    assert!(managers[0].as_str().is_some_and(|address| address.ends_with(":2377")), "{answer:?}");
    let expect = json!({ "managers": managers, "token": "SWMTKN-1-simulated-worker" });
    assert_eq!((answer.status, answer.json()), (200, expect));
    assert!(answer.head.to_lowercase().contains("cache-control: no-store"), "{answer:?}");
    let asked = journalled(&stage).await;
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].role, asked[0].address.as_str()), (JoinRole::Worker, "127.0.0.1"));
    stage.stop().await;
}

#[tokio::test]
async fn no_other_token_is_taken_and_that_token_opens_nothing_else() {
    let stage = started(Some(JoinRole::Manager)).await;
    for token in ["", "another", TOKEN, HOOKS_TOKEN] {
        let detail = ask(&stage, token, "?role=worker").await.problem(401);
        assert!(detail.contains("join.token_file"), "{detail}");
    }
    let token = format!("Authorization: Bearer {JOIN_TOKEN}\r\nContent-Type: application/json\r\n");
    for (method, path) in [("GET", "/api/v1/nodes"), ("POST", "/api/v1/deploy"), ("POST", "/api/v1/pause")] {
        stage.raw(&request(method, path, &token, b"{}")).await.problem(401);
    }
    stage.stop().await;
    let stage = started(None).await;
    for token in ["", TOKEN, JOIN_TOKEN] {
        let detail = ask(&stage, token, "?role=worker").await.problem(403);
        assert!(detail.contains("join.token_file") && detail.contains("RUNBOOKD_JOIN_TOKEN"), "{detail}");
    }
    assert!(journalled(&stage).await.is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn a_token_is_bound_to_its_role() {
    use JoinRole::{Manager, Worker};
    for (given, asked, status) in
        [(Worker, Worker, 200), (Worker, Manager, 403), (Manager, Worker, 200), (Manager, Manager, 200)]
    {
        let stage = started(Some(given)).await;
        let answer = ask(&stage, JOIN_TOKEN, &format!("?role={asked}")).await;
        assert_eq!(answer.status, status, "{given} {asked}: {answer:?}");
        assert_eq!(answer.body.contains(&format!("SWMTKN-1-simulated-{asked}")), status == 200, "{answer:?}");
        assert_eq!(journalled(&stage).await.len(), usize::from(status == 200));
        stage.stop().await;
    }
}

#[tokio::test]
async fn what_is_asked_must_be_one_role() {
    let stage = started(Some(JoinRole::Manager)).await;
    for (query, words) in [
        ("", "role=worker"),
        ("?role=worker&role=manager", "once"),
        ("?role=root", "expected worker or manager"),
        ("?rule=worker", "did you mean \"role\"?"),
    ] {
        let detail = ask(&stage, JOIN_TOKEN, query).await.problem(400);
        assert!(detail.contains(words), "{query}: {detail}");
    }
    assert!(journalled(&stage).await.is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn more_than_are_allowed_in_a_minute_are_told_to_come_again() {
    let stage = started(Some(JoinRole::Worker)).await;
    for _ in 0..3 {
        ask(&stage, "another", "?role=worker").await.problem(401);
        assert_eq!(ask(&stage, JOIN_TOKEN, "?role=worker").await.status, 200);
    }
    let answer = ask(&stage, JOIN_TOKEN, "?role=worker").await;
    assert!(answer.head.to_lowercase().contains("retry-after: 60"), "{answer:?}");
    let detail = answer.problem(429);
    assert!(detail.contains("join.per_minute"), "{detail}");
    assert_eq!(journalled(&stage).await.len(), 3);
    stage.stop().await;
}

#[tokio::test]
async fn each_use_is_counted_by_what_came_of_it() {
    let stage = started(Some(JoinRole::Worker)).await;
    for (token, query) in [
        (JOIN_TOKEN, "?role=worker"),
        (JOIN_TOKEN, "?role=worker"),
        (JOIN_TOKEN, "?role=root"),
        ("another", "?role=worker"),
        (JOIN_TOKEN, "?role=manager"),
    ] {
        ask(&stage, token, query).await;
    }
    stage.journal.fail(Some("disk full"));
    ask(&stage, JOIN_TOKEN, "?role=worker").await.problem(503);
    stage.journal.fail(None);
    ask(&stage, JOIN_TOKEN, "?role=worker").await.problem(429);
    for (outcome, count) in [
        ("answered", "2"),
        ("malformed", "1"),
        ("unauthorized", "1"),
        ("forbidden", "1"),
        ("too_many", "1"),
        ("unavailable", "1"),
    ] {
        let metric = format!("runbookd_join_requests_total{{outcome=\"{outcome}\"}}");
        assert_eq!(stage.metric(&metric).await, count, "{outcome}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn nobody_is_told_while_the_journal_cannot_write() {
    let stage = started(Some(JoinRole::Worker)).await;
    stage.journal.fail(Some("disk full"));
    let answer = ask(&stage, JOIN_TOKEN, "?role=worker").await;
    assert!(!answer.body.contains("SWMTKN"), "{answer:?}");
    assert!(answer.problem(503).contains("disk full"));
    stage.journal.fail(None);
    assert!(journalled(&stage).await.is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn people_are_told_of_a_machine_once_and_the_token_is_nowhere_but_in_the_answer() {
    let log = Told::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    // This test has one thread, and so all of the server's tasks.
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    tracing::info!("the log begins");
    let stage = started(Some(JoinRole::Worker)).await;
    for _ in 0..2 {
        assert!(ask(&stage, JOIN_TOKEN, "?role=worker").await.body.contains("SWMTKN-1"));
    }
    let words = "A machine at 127.0.0.1 asked to join as worker";
    let told = async {
        while !stage.told.text().contains(words) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("it comes within a minute");
    let (journal, told) = (stage.journal.clone(), stage.told.clone());
    stage.stop().await;
    assert_eq!(told.text().matches(words).count(), 1, "{}", told.text());
    let posts = journal.intake_after(0, 1_000).await.expect("readable");
    assert_eq!(posts.len(), 2);
    let written: Vec<_> = posts.iter().map(|post| String::from_utf8_lossy(&post.post.body).into_owned()).collect();
    assert!(log.text().contains("the log begins"), "the log was listened to");
    for text in [written.join("\n"), told.text(), log.text()] {
        assert!(!text.contains("SWMTKN") && !text.contains(JOIN_TOKEN), "{text}");
    }
}
