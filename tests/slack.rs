//! What goes over the wire to Slack, and what Slack's answers come to mean. The double speaks HTTP on a loopback port.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::post;
use jiff::Timestamp;
use runbookd::adapters::humans::slack::SlackHumans;
use runbookd::app::report::{self, Facts};
use runbookd::config::SlackConfig;
use runbookd::model::alert::{Alert, Fingerprint, GroupRef, Level, Status};
use runbookd::model::duration::Duration;
use runbookd::model::incident::{Incident, IncidentId, Reason, State as IncidentState};
use runbookd::model::label::Labels;
use runbookd::model::message::{Kind, Message, Section, ThreadRef};
use runbookd::ports::{DeliverError, ErrorKind, ErrorReason, Humans};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

const TOKEN: &str = "xoxb-1234-very-secret";
const HOOK: &str = "T000/B000/very-secret";

/// One call that Slack received.
#[derive(Clone, Debug)]
struct Call {
    path: String,
    authorization: String,
    body: Value,
}

#[derive(Clone)]
enum Answer {
    Ok,
    Json(Value),
    Status(u16, Option<&'static str>),
    Text(&'static str),
    Never,
}

#[derive(Clone, Default)]
struct Slack {
    calls: Arc<Mutex<Vec<Call>>>,
    /// What to answer next; then [`Answer::Ok`].
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Slack {
    /// Starts a double that gives those answers first.
    async fn start(answers: impl IntoIterator<Item = Answer>) -> (Self, String) {
        let slack = Slack { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Slack::default() };
        let routes = Router::new().route("/{*path}", post(receive)).with_state(slack.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (slack, url)
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("no panic while held").clone()
    }

    fn last(&self) -> Call {
        self.calls().pop().expect("a call")
    }
}

async fn receive(State(slack): State<Slack>, Path(path): Path<String>, headers: HeaderMap, body: String) -> Response {
    let number = {
        let mut calls = slack.calls.lock().expect("no panic while held");
        let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("");
        let body = serde_json::from_str(&body).expect("the client sends JSON");
        calls.push(Call { path, authorization: authorization.to_string(), body });
        calls.len()
    };
    let answer = slack.answers.lock().expect("no panic while held").pop_front().unwrap_or(Answer::Ok);
    let json = |body: Value| ([("content-type", "application/json; charset=utf-8")], body.to_string()).into_response();
    match answer {
        Answer::Ok => json(
            json!({"ok": true, "channel": "C024BE91L", "ts": format!("1503435956.{number:06}"), "message": {"odd": 1}}),
        ),
        Answer::Json(body) => json(body),
        Answer::Status(429, wait) => {
            let wait = wait.map(|wait| ("retry-after", wait));
            (StatusCode::TOO_MANY_REQUESTS, AppendHeaders(wait), "rate_limited").into_response()
        }
        Answer::Status(status, _) => StatusCode::from_u16(status).expect("a status").into_response(),
        Answer::Text(text) => text.into_response(),
        Answer::Never => std::future::pending().await,
    }
}

fn config(api_url: &str, timeout: Duration) -> SlackConfig {
    SlackConfig { api_url: api_url.to_string(), channel: "#alerts".into(), timeout, ..SlackConfig::default() }
}

fn bot(url: &str) -> SlackHumans {
    SlackHumans::bot(&config(&format!("{url}/api"), Duration::from_secs(20)), TOKEN).expect("a valid configuration")
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn incident(state: IncidentState, text: &str) -> Incident {
    Incident {
        id: IncidentId(42),
        state,
        reason: Reason::new("no_rule", text),
        rule: None,
        runbook: None,
        key: "{}:{alertname=\"DiskAlmostFull\"}".into(),
        labels: labels(&[
            ("alertname", "DiskAlmostFull"),
            ("severity", "critical"),
            ("note", "<!channel> & <@U024BE7LH>"),
        ]),
        alerts: vec![],
        runs: vec![],
        attempt: 0,
        flaps: 0,
        had_effect: false,
        effects: vec![],
        locks: Vec::new(),
        gave_back: false,
        event: None,
        next_event: None,
        approval: None,
        acked_by: None,
        escalated: false,
        opened_at: at("2026-01-01T00:00:00Z"),
        since: at("2026-01-01T00:00:00Z"),
        until: None,
        held_since: None,
        closed_at: None,
    }
}

fn level(node: &str) -> Level {
    Level {
        alert: Alert {
            fingerprint: Fingerprint(7),
            status: Status::Firing,
            labels: labels(&[("alertname", "DiskAlmostFull"), ("severity", "critical"), ("node", node)]),
            annotations: labels(&[("runbook_url", "https://wiki/disk?a=1&b=2"), ("summary", "<!here> full \u{7}")]),
            starts_at: at("2026-01-01T00:00:00Z"),
            ends_at: None,
            generator_url: "javascript:alert(1)".into(),
        },
        group: GroupRef { key: "k".into(), external_url: "http://alertmanager:9093".into() },
        last_seen: at("2026-01-01T00:01:00Z"),
        resolved_at: None,
        unconfirmed: false,
        suppressed: false,
        refire_at: None,
        closed_at: None,
    }
}

fn facts<'a>(incident: &'a Incident, alerts: &'a [&'a Level], near: &'a [(String, String)]) -> Facts<'a> {
    Facts {
        incident,
        alerts,
        near,
        steps: &[],
        truncated: 5,
        channel: None,
        severity: None,
        external_url: Some("https://runbookd.example.com/"),
        now: at("2026-01-01T00:12:00Z"),
    }
}

fn escalation() -> Message {
    let incident = incident(IncidentState::Escalated, "no rule matches <!everyone>");
    let (one, two) = (level("node1"), level("node2"));
    let near = [("scale-out".to_string(), "alertname = \"HighLatency\": it is \"DiskAlmostFull\"".to_string())];
    report::escalation(&facts(&incident, &[&one, &two], &near), &incident.reason)
}

fn of_kind(kind: Kind) -> Message {
    Message { kind, title: format!("{kind:?}"), body: vec![Section::Text("text".into())], ..escalation() }
}

async fn root(slack: &SlackHumans) -> ThreadRef {
    slack.deliver(&escalation(), None).await.expect("delivered").expect("an escalation without a thread becomes a root")
}

#[tokio::test]
async fn an_escalation_is_posted_whole_and_becomes_the_root() {
    let (slack, url) = Slack::start([]).await;
    let thread = root(&bot(&url)).await;
    let call = slack.last();
    assert_eq!((call.path.as_str(), call.authorization), ("api/chat.postMessage", format!("Bearer {TOKEN}")));
    assert_eq!((call.body["channel"].as_str(), call.body.get("thread_ts")), (Some("#alerts"), None));
    assert_eq!(call.body["blocks"][0]["text"]["text"], "DiskAlmostFull needs a person");
    assert_eq!(
        (thread.channel.as_str(), thread.ts.as_str()),
        ("C024BE91L", "1503435956.000001"),
        "the channel's id, not its name"
    );
    let whole = call.body.to_string();
    for part in [
        "no rule matches &lt;!everyone&gt;",
        "2 alerts, firing for 12m (since 2026-01-01T00:00:00Z); 5 more of the group were cut off by Alertmanager",
        "• scale-out: alertname = \\\"HighLatency\\\": it is \\\"DiskAlmostFull\\\"",
        "*severity*\\ncritical",
        "*summary*\\n&lt;!here&gt; full ␇",
        "{node=\\\"node2\\\"}",
        "<https://wiki/disk?a=1&amp;b=2|Runbook>",
        "<http://alertmanager:9093/#/alerts|Alertmanager>",
        "<https://runbookd.example.com/api/v1/incidents/i42|Incident>",
        "incident i42",
    ] {
        assert!(whole.contains(part), "{part} is missing in {whole}");
    }
    for part in ["<!", "<@", "javascript", "\\u0007"] {
        assert!(!whole.contains(part), "{part} must not be in {whole}");
    }
}

#[tokio::test]
async fn each_kind_takes_its_place_in_the_thread() {
    use IncidentState::Resolved;
    // Kind, calls made: method, thread, broadcast.
    type Expected = (&'static str, Option<&'static str>, bool);
    let ts = Some("1503435956.000001");
    let table: [(Kind, bool, &[Expected]); 8] = [
        (Kind::FollowUp, true, &[("api/chat.postMessage", ts, false)]),
        (Kind::Notice, true, &[("api/chat.postMessage", ts, false)]),
        (Kind::Escalation, true, &[("api/chat.postMessage", ts, true)]),
        (Kind::Update(Resolved), true, &[("api/chat.update", None, false), ("api/chat.postMessage", ts, false)]),
        (Kind::FollowUp, false, &[("api/chat.postMessage", None, false)]),
        (Kind::Notice, false, &[("api/chat.postMessage", None, false)]),
        (Kind::Update(Resolved), false, &[("api/chat.postMessage", None, false)]),
        (Kind::Escalation, false, &[("api/chat.postMessage", None, false)]),
    ];
    for (kind, in_thread, expect) in table {
        let (slack, url) = Slack::start([]).await;
        let humans = bot(&url);
        let thread = root(&humans).await;
        let new_root = humans.deliver(&of_kind(kind), in_thread.then_some(&thread)).await.expect("delivered");
        assert_eq!(new_root.is_some(), kind == Kind::Escalation && !in_thread, "{kind:?}");
        let calls = slack.calls().split_off(1);
        let made: Vec<_> = calls
            .iter()
            .map(|call| (call.path.as_str(), call.body["thread_ts"].as_str(), call.body["reply_broadcast"] == true))
            .collect();
        assert_eq!(made, expect, "{kind:?}, thread: {in_thread}");
        if in_thread {
            assert!(calls.iter().all(|call| call.body["channel"] == "C024BE91L"), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_root_is_rendered_again_under_the_new_state() {
    let (slack, url) = Slack::start([]).await;
    let humans = bot(&url);
    let thread = root(&humans).await;
    let mut resolved = incident(IncidentState::Resolved, "Alertmanager says that it is resolved");
    resolved.closed_at = Some(at("2026-01-01T00:12:00Z"));
    let steps = ["web: 2 → 3 replicas at version 114".to_string()];
    let facts = Facts { steps: &steps, ..facts(&resolved, &[], &[]) };
    humans.deliver(&report::state_update(&facts), Some(&thread)).await.expect("delivered");
    let [_, update, follow_up] = slack.calls().try_into().expect("three calls");
    assert_eq!(
        (update.body["ts"].as_str(), update.body["channel"].as_str()),
        (Some("1503435956.000001"), Some("C024BE91L"))
    );
    assert_eq!(update.body["blocks"][0]["text"]["text"], "✔ Resolved · DiskAlmostFull needs a person");
    assert_eq!(update.body["attachments"][0]["color"], "#2eb67d");
    let whole = update.body.to_string();
    assert!(whole.contains("*DiskAlmostFull resolved after 12m*") && whole.contains("|Runbook>"), "{whole}");
    let whole = follow_up.body.to_string();
    assert!(whole.contains("Alertmanager says that it is resolved.") && whole.contains("2 → 3 replicas"), "{whole}");
}

fn code(code: &str) -> Answer {
    Answer::Json(json!({"ok": false, "error": code}))
}

#[tokio::test]
async fn an_answer_says_whether_to_try_again() {
    use ErrorKind::{Permanent, Transient, Unknown};
    use ErrorReason::{Invalid, NotFound, Other, Throttled, Timeout, Unauthorized, Unreachable};
    let secs = |secs| Some(std::time::Duration::from_secs(secs));
    let table = [
        (Answer::Status(429, Some("7")), Transient, Throttled, secs(7), "wait 7s"),
        (Answer::Status(429, None), Transient, Throttled, secs(30), "wait 30s"),
        (code("ratelimited"), Transient, Throttled, None, "ratelimited"),
        (code("invalid_auth"), Permanent, Unauthorized, None, "slack.token_file"),
        (code("missing_scope"), Permanent, Unauthorized, None, "chat:write"),
        (code("channel_not_found"), Permanent, NotFound, None, "invite the bot"),
        (code("invalid_blocks"), Permanent, Invalid, None, "Slack said invalid_blocks"),
        (code("fatal_error"), Unknown, Other, None, "fatal_error"),
        (code("service_unavailable"), Transient, Unreachable, None, "service_unavailable"),
        (Answer::Status(503, None), Transient, Unreachable, None, "Slack answered 503"),
        (Answer::Status(500, None), Unknown, Other, None, "Slack answered 500"),
        (Answer::Status(404, None), Permanent, NotFound, None, "Slack answered 404"),
        (Answer::Text("<html>hotel login"), Unknown, Other, None, "slack.api_url"),
        (Answer::Json(json!([])), Unknown, Other, None, "cannot be read"),
        (Answer::Never, Unknown, Timeout, None, "did not answer within"),
    ];
    for (answer, kind, reason, retry_after, text) in table {
        let limit = if matches!(answer, Answer::Never) { Duration::from_millis(50) } else { Duration::from_secs(20) };
        let (_slack, url) = Slack::start([answer]).await;
        let humans = SlackHumans::bot(&config(&format!("{url}/api/"), limit), TOKEN).expect("valid");
        let error = humans.deliver(&escalation(), None).await.expect_err(text);
        assert_eq!((error.error.kind, error.error.reason, error.retry_after), (kind, reason, retry_after), "{error}");
        assert!(error.to_string().contains(text), "{error} lacks {text}");
        no_secret(&humans, &error);
    }
}

/// Whatever can be printed of it holds no secret.
fn no_secret(humans: &SlackHumans, error: &DeliverError) {
    let printed = format!("{humans:?} {humans:#?} {error} {error:?}");
    assert!(!printed.contains("secret") && printed.contains("redacted"), "{printed}");
}

#[tokio::test]
async fn slack_that_cannot_be_reached_got_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    for humans in [bot(&url), webhook(&url)] {
        let error = humans.deliver(&escalation(), None).await.expect_err("nobody listens");
        assert_eq!((error.error.kind, error.error.reason), (ErrorKind::Transient, ErrorReason::Unreachable), "{error}");
        no_secret(&humans, &error);
    }
}

#[tokio::test]
async fn a_channel_that_is_closed_to_the_bot_hides_no_message() {
    let meant_for = |channel: &str| Message { channel: Some(channel.into()), ..escalation() };
    let (slack, url) = Slack::start([code("channel_not_found")]).await;
    let thread = bot(&url).deliver(&meant_for("#opz"), None).await.expect("delivered").expect("a root");
    assert_eq!(thread.ts, "1503435956.000002");
    let channels: Vec<_> = slack.calls().iter().map(|call| call.body["channel"].clone()).collect();
    assert_eq!(channels, ["#opz", "#alerts"]);
    assert!(slack.last().body.to_string().contains("This was meant for #opz, but Slack said channel_not_found"));

    let (slack, url) = Slack::start([code("is_archived")]).await;
    let error = bot(&url).deliver(&meant_for("#alerts"), None).await.expect_err("there is no other channel");
    assert_eq!((error.error.kind, slack.calls().len()), (ErrorKind::Permanent, 1));
}

#[tokio::test]
async fn a_root_that_is_gone_hides_no_follow_up() {
    let update = of_kind(Kind::Update(IncidentState::Resolved));
    let answers = [Answer::Ok, code("message_not_found"), code("thread_not_found")];
    let (slack, url) = Slack::start(answers).await;
    let humans = bot(&url);
    let thread = root(&humans).await;
    humans.deliver(&update, Some(&thread)).await.expect("delivered to the channel");
    let made: Vec<_> =
        slack.calls().iter().map(|call| (call.path.clone(), call.body.get("thread_ts").is_some())).collect();
    let expect = [("postMessage", false), ("update", false), ("postMessage", true), ("postMessage", false)];
    assert_eq!(made, expect.map(|(method, in_thread)| (format!("api/chat.{method}"), in_thread)));

    // Not so when Slack is merely down: the update is made later.
    let (slack, url) = Slack::start([Answer::Ok, Answer::Status(503, None)]).await;
    let humans = bot(&url);
    let thread = root(&humans).await;
    let error = humans.deliver(&update, Some(&thread)).await.expect_err("down");
    assert_eq!((error.error.kind, slack.calls().len()), (ErrorKind::Transient, 2));
}

fn webhook(url: &str) -> SlackHumans {
    let config = config("https://slack.com/api", Duration::from_secs(20));
    SlackHumans::webhook(&config, &format!("{url}/services/{HOOK}\n")).expect("a valid configuration")
}

#[tokio::test]
async fn through_a_webhook_every_message_stands_alone() {
    let ok = Answer::Text("ok");
    let (slack, url) = Slack::start([ok.clone(), ok.clone(), ok, Answer::Status(403, None)]).await;
    let humans = webhook(&url);
    let thread = ThreadRef {
        channel: "C1".into(),
        ts: "1".into(),
        root: Box::new(runbookd::model::message::MessageRoot { message: "{}".into() }),
    };
    for kind in [Kind::Escalation, Kind::FollowUp, Kind::Update(IncidentState::Resolved)] {
        let root = humans.deliver(&of_kind(kind), Some(&thread)).await.expect("delivered");
        assert_eq!(root, None);
        let call = slack.last();
        assert_eq!((call.path, call.authorization), (format!("services/{HOOK}"), String::new()));
        assert_eq!((call.body.get("thread_ts"), call.body.get("channel")), (None, None));
        assert!(call.body.to_string().contains("incident i42"));
    }
    let error = humans.deliver(&escalation(), None).await.expect_err("refused");
    assert_eq!((error.error.kind, error.error.reason), (ErrorKind::Permanent, ErrorReason::Unauthorized));
    no_secret(&humans, &error);
}

#[test]
fn a_wrong_configuration_is_told_without_its_secret() {
    let good = config("https://slack.com/api", Duration::from_secs(1));
    let errors = [
        SlackHumans::bot(&good, " \n").expect_err("empty"),
        SlackHumans::bot(&good, "xoxb-very-secret\u{e9}").expect_err("not ASCII"),
        SlackHumans::bot(&SlackConfig { api_url: "slack.com".into(), ..good.clone() }, "xoxb-very-secret")
            .expect_err("no scheme"),
        SlackHumans::webhook(&good, "very-secret").expect_err("no URL"),
        SlackHumans::webhook(&good, "ftp://very-secret/").expect_err("not http"),
    ];
    for error in errors {
        assert!(!error.contains("secret") && error.to_lowercase().contains("slack"), "{error}");
    }
}
