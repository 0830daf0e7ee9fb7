//! What Alertmanager's API tells, and the heartbeat: two HTTP clients against a double on a loopback port.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use runbookd::adapters::metrics::alertmanager::Alertmanager;
use runbookd::adapters::metrics::api::Token;
use runbookd::app::heartbeat::{self, SecretUrl};
use runbookd::model::alert::{Fingerprint, Status};
use runbookd::ports::{Alerts, ErrorKind, ErrorReason};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const CAPTURED: &str = include_str!("fixtures/alertmanager/api-v2-alerts.json");

fn client() -> reqwest::Client {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// A server that answers one thing, and tells what it was asked: method-less, `path?query` and the authorization.
async fn server(
    status: u16,
    body: impl Into<Option<&'static str>>,
) -> (String, mpsc::UnboundedReceiver<(String, String)>) {
    let (asked, requests) = mpsc::unbounded_channel();
    let status = StatusCode::from_u16(status).expect("a status");
    let body = body.into();
    let answer = move |State(asked): State<mpsc::UnboundedSender<(String, String)>>, uri: Uri, headers: HeaderMap| async move {
        let token = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("");
        let _ = asked.send((uri.to_string(), token.to_string()));
        match body {
            Some(body) => (status, body),
            None => std::future::pending().await,
        }
    };
    let routes = Router::new().fallback(answer).with_state(asked);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, requests)
}

#[tokio::test]
async fn a_captured_answer_is_read_to_the_letter() {
    let (url, mut requests) = server(200, CAPTURED).await;
    let api = Alertmanager::new(client(), &format!("{url}/prefix/"), Some(Token::new("s3cret\n"))).expect("a URL");
    let alerts = api.alerts().await.expect("the captured answer");
    let query = "/prefix/api/v2/alerts?active=true&silenced=true&inhibited=true";
    assert_eq!(requests.recv().await, Some((query.to_string(), "Bearer s3cret".to_string())));
    let told: Vec<_> = alerts
        .iter()
        .map(|known| format!("{} {} {}", known.alert.name(), known.alert.fingerprint, known.suppressed))
        .collect();
    let expect = [
        "TargetDown 3e45b5fd3503a87e true",
        "DiskAlmostFull 5a93ad1b35dcdc0c false",
        "NodeDown 9f9cd542faf04aac false",
        "DiskAlmostFull a1c83f5cbce119ad false",
        "Noisy c8e6e242bb42e281 true",
        "DiskAlmostFull d9948a0bc1baa0e2 false",
    ];
    assert_eq!(told, expect);
    for known in &alerts {
        assert_eq!(known.alert.fingerprint, Fingerprint::of(&known.alert.labels));
        assert_eq!((known.alert.status, known.alert.ends_at), (Status::Firing, None));
        assert_eq!(known.receivers, ["runbookd"]);
    }
    assert_eq!(alerts[2].alert.labels.value("note"), "節 \u{7} <b>");
    assert_eq!(alerts[2].alert.annotations.value("summary"), "gone");
    assert_eq!(alerts[2].alert.starts_at.to_string(), "2026-11-23T13:44:24.744Z");
    assert!(alerts[1].alert.generator_url.starts_with("http://prometheus:9090/graph?"));
}

#[tokio::test]
async fn an_answer_that_is_none_is_told_readably() {
    use ErrorKind::{Permanent, Transient};
    use ErrorReason::{Invalid, NotFound, Refused, Throttled, Timeout, Unauthorized, Unreachable};
    let table: [(u16, Option<&str>, ErrorKind, ErrorReason, &str); 11] = [
        (200, Some("<html>"), Transient, Invalid, "expected value at line 1 column 1"),
        (200, Some("{}"), Transient, Invalid, "invalid type: map"),
        // Leaving it out would mean that it has resolved.
        (200, Some(r#"[{"labels":{"a":"b"}}]"#), Transient, Invalid, "missing field `startsAt`"),
        (401, Some(""), Permanent, Unauthorized, "alertmanager.token_file"),
        (404, Some(""), Permanent, NotFound, "path prefix"),
        (410, Some(""), Permanent, NotFound, "410 Gone"),
        (400, Some(""), Permanent, Invalid, "400 Bad Request"),
        (302, Some(""), Permanent, Refused, "302 Found"),
        (429, Some(""), Transient, Throttled, "429"),
        (503, Some(""), Transient, Unreachable, "503"),
        (200, None, Transient, Timeout, "did not answer within 50ms"),
    ];
    for (status, body, kind, reason, text) in table {
        let (url, _requests) = server(status, body).await;
        let limit = if body.is_some() { 20_000 } else { 50 };
        let api = Alertmanager::new(client(), &url, Some(Token::new("s3cret"))).expect("a URL");
        let error = api.timeout(Duration::from_millis(limit)).alerts().await.expect_err(text);
        assert_eq!((error.kind, error.reason), (kind, reason), "{error}");
        assert!(error.message.contains(text) && !format!("{error:?}").contains("s3cret"), "{error}");
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let error = Alertmanager::new(client(), &url, None).expect("a URL").alerts().await.expect_err("nobody listens");
    assert_eq!((error.kind, error.reason), (Transient, Unreachable));
    assert!(error.message.contains("refused"), "{error}");
}

#[test]
fn a_wrong_url_is_told_with_how_to_mend_it() {
    for wrong in ["alertmanager:9093", "ftp://alertmanager", "", "data:x"] {
        let error = Alertmanager::new(client(), wrong, None).err().expect(wrong);
        assert!(error.starts_with("alertmanager.url: ") && error.ends_with("http://alertmanager:9093"), "{error}");
    }
    assert!(!format!("{:?}", Token::new("s3cret")).contains("s3cret"));
}

#[tokio::test]
async fn a_sparse_alert_of_the_api_is_read() {
    let sparse = r#"[{"labels":{"alertname":"A"},"annotations":null,"startsAt":"2026-01-01T00:00:00Z","status":{"state":"unprocessed"}}]"#;
    let (url, _requests) = server(200, sparse).await;
    let alerts = Alertmanager::new(client(), &url, None).expect("a URL").alerts().await.expect("readable");
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].alert.fingerprint, Fingerprint::of(&alerts[0].alert.labels));
    assert!(!alerts[0].suppressed && alerts[0].receivers.is_empty());
}

#[tokio::test]
async fn the_heart_beats_only_while_all_is_well() {
    let (url, mut requests) = server(200, "").await;
    let well = Arc::new(AtomicBool::new(false));
    let (looked, mut asked) = mpsc::unbounded_channel();
    let is_well = {
        let well = well.clone();
        move || {
            let _ = looked.send(());
            well.load(Ordering::SeqCst)
        }
    };
    let secret = SecretUrl::parse(&format!("{url}/ping/very-secret\n")).expect("a URL");
    assert!(!format!("{secret:?}").contains("very-secret"), "{secret:?}");
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(heartbeat::run(client(), secret, Duration::from_millis(1), is_well, stopped));
    for _ in 0..3 {
        asked.recv().await.expect("it is asked again and again");
    }
    assert!(requests.try_recv().is_err(), "no ping while it is not well");
    well.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(requests.recv().await, Some(("/ping/very-secret".to_string(), String::new())));
    }
    stop.send_replace(true);
    task.await.expect("it stops when told to");
}

#[test]
fn a_wrong_heartbeat_url_is_told_without_itself() {
    for wrong in ["very-secret", "ftp://very-secret/", ""] {
        let error = SecretUrl::parse(wrong).expect_err(wrong);
        assert!(error.contains("heartbeat") && !error.contains("secret"), "{error}");
    }
}
