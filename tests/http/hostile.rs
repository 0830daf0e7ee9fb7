//! Clients that are slow, huge or wrong cost nothing but their own connection.

use crate::stage::{FIRING, Setup, Stage, read, request};
use runbookd::model::duration::Duration;
use runbookd::ports::Journal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_declared_length_over_the_limit_is_refused_before_a_byte_of_it_is_read() {
    let stage = Stage::with(Setup { body_limit_mib: 1, ..Setup::default() }).await;
    let head = "POST /api/v1/alertmanager HTTP/1.1\r\nHost: test\r\nContent-Length: 1048577\r\n\r\n";
    let answer = stage.raw(head.as_bytes()).await;
    assert!(answer.problem(413).contains("1 MiB"), "{answer:?}");
    assert_eq!(stage.metric("runbookd_intake_rejected_total{reason=\"too_large\"}").await, "1");
    stage.stop().await;
}

#[tokio::test]
async fn a_body_without_a_length_is_read_up_to_the_limit() {
    let stage = Stage::with(Setup { body_limit_mib: 1, ..Setup::default() }).await;
    let head =
        "POST /api/v1/alertmanager HTTP/1.1\r\nHost: test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let (first, second) = FIRING.as_bytes().split_at(300);
    let whole = [head.as_bytes(), &chunk(first), &chunk(second), b"0\r\n\r\n"].concat();
    assert_eq!(stage.raw(&whole).await.status, 200);
    let large = [head.as_bytes(), &chunk(&vec![b' '; 1 << 20]), &chunk(b"  "), b"0\r\n\r\n"].concat();
    stage.raw(&large).await.problem(413);
    stage.stop().await;
}

#[tokio::test]
async fn a_post_of_thousands_of_alerts_is_taken() {
    let alert = &serde_json::from_str::<serde_json::Value>(FIRING).expect("json")["alerts"][0];
    let alerts: Vec<_> = std::iter::repeat_n(alert, 5_000).collect();
    let body = serde_json::json!({ "version": "4", "groupKey": "g", "alerts": alerts }).to_string();
    assert!(body.len() > 1 << 20);
    let stage = Stage::start().await;
    assert_eq!(stage.intake(body.as_bytes()).await.status, 200);
    assert_eq!(stage.journal.intake_after(0, 10).await.expect("readable")[0].post.body.len(), body.len());
    stage.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_a_408_and_the_connection_ends() {
    let stage = Stage::with(Setup { timeout: SHORT, ..Setup::default() }).await;
    for path in ["/api/v1/alertmanager", "/api/v1/pause"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"alerts\":"
        );
        let answer = stage.raw(head.as_bytes()).await;
        answer.problem(408);
        assert!(answer.head.to_lowercase().contains("connection: close"), "{answer:?}");
    }
    assert_eq!(stage.metric("runbookd_intake_rejected_total{reason=\"timeout\"}").await, "1");
    assert!(stage.journal.intake_after(0, 10).await.expect("readable").is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn headers_that_do_not_arrive_end_the_connection() {
    let stage = Stage::with(Setup { timeout: SHORT, ..Setup::default() }).await;
    let answer = stage.raw(b"POST /api/v1/alertmanager HTTP/1.1\r\nHost: te").await;
    assert!(answer.status == 0 || answer.status == 408, "{answer:?}");
    stage.stop().await;
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_others_are_served() {
    let stage = Stage::start().await;
    let answer = stage.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    assert!(answer.status == 0 || answer.status == 400, "{answer:?}");
    assert_eq!(stage.get("/healthz").await.status, 200);
    stage.stop().await;
}

#[tokio::test]
async fn shutdown_lets_a_request_in_flight_end() {
    let stage = Stage::start().await;
    let whole = request("POST", "/api/v1/alertmanager", "", FIRING.as_bytes());
    let (first, rest) = whole.split_at(whole.len() - 10);
    let mut stream = TcpStream::connect(stage.address).await.expect("the server listens");
    stream.write_all(first).await.expect("written");
    // Served on another connection: the first has been accepted before it, for connections are accepted in order.
    assert_eq!(stage.get("/healthz").await.status, 200);
    let journal = stage.journal.clone();
    let stopping = tokio::spawn(stage.stop());
    stream.write_all(rest).await.expect("written");
    assert_eq!(read(&mut stream).await.status, 200);
    stopping.await.expect("stopped");
    assert_eq!(journal.intake_after(0, 10).await.expect("readable").len(), 1);
}
