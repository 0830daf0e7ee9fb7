//! The load's own HTTP client: kept-alive connections, one request in flight on each, as little work as possible.

use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    request: Vec<u8>,
}

impl Connection {
    pub async fn open(address: &str) -> Connection {
        let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).expect("a socket takes it");
        Connection { stream, answer: Vec::new(), request: Vec::new() }
    }

    /// Posts and waits for the answer; its status.
    pub async fn post(&mut self, path: &str, body: &str) -> u16 {
        self.request.clear();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: load\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body.as_bytes());
        self.exchange().await.0
    }

    /// Status and body.
    pub async fn get(&mut self, path: &str) -> (u16, String) {
        self.request = format!("GET {path} HTTP/1.1\r\nhost: load\r\n\r\n").into_bytes();
        let (status, body) = self.exchange().await;
        (status, String::from_utf8_lossy(&self.answer[body..]).into_owned())
    }

    /// The status, and where the body begins in `answer`.
    async fn exchange(&mut self) -> (u16, usize) {
        self.stream.write_all(&self.request).await.expect("the server takes the request");
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await.expect("the server answers");
            assert!(read > 0, "the server closed the connection: {}", String::from_utf8_lossy(&self.answer));
            let Some(end) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&self.answer[..end]).to_ascii_lowercase();
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = match length {
                Some(length) => length.trim().parse().expect("a number"),
                // Chunks are read to the last, empty one.
                None if head.contains("chunked") && !self.answer.ends_with(b"0\r\n\r\n") => continue,
                None => 0,
            };
            if self.answer.len() >= end + 4 + length {
                return (status, end + 4);
            }
        }
    }

    /// The sum of a metric over all its labels that contain `with`.
    pub async fn metric(&mut self, name: &str, with: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let of_metric =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        of_metric.filter(|line| line.contains(with)).filter_map(value).sum()
    }

    /// Waits until the server is ready.
    pub async fn ready(&mut self) {
        while self.get("/readyz").await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A post of Alertmanager's: one group of alerts that fire, all of it by hand so that making it costs little.
pub fn payload(group: usize, alerts: impl IntoIterator<Item = (usize, usize)>) -> String {
    let mut body = String::with_capacity(4096);
    body.push_str("{\"receiver\":\"runbookd\",\"status\":\"firing\",\"alerts\":[");
    for (at, (service, instance)) in alerts.into_iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let fingerprint = ((service as u64) << 32 | instance as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        write!(
            body,
            "{comma}{{\"status\":\"firing\",\"labels\":{{\"alertname\":\"HighLatency\",\"cluster\":\"eu-1\",\"env\":\"production\",\
             \"instance\":\"10.0.{service}.{instance}:8080\",\"job\":\"services\",\"service\":\"s{service}\",\"severity\":\"critical\",\
             \"team\":\"shop\"}},\"annotations\":{{\"summary\":\"p99 latency of s{service} is 2.3s\"}},\
             \"startsAt\":\"2026-11-23T04:51:58.353Z\",\"endsAt\":\"0001-01-01T00:00:00Z\",\
             \"generatorURL\":\"http://prometheus:9090/graph?g0.expr=x\",\"fingerprint\":\"{fingerprint:016x}\"}}"
        )
        .expect("a string takes it");
    }
    write!(
        body,
        "],\"groupLabels\":{{\"alertname\":\"HighLatency\"}},\"commonLabels\":{{\"alertname\":\"HighLatency\"}},\"commonAnnotations\":{{}},\
         \"externalURL\":\"http://alertmanager:9093\",\"version\":\"4\",\"groupKey\":\"{{}}:{{group=\\\"g{group}\\\"}}\",\"truncatedAlerts\":0}}"
    )
    .expect("a string takes it");
    body
}

/// What came of a load.
#[derive(Default)]
pub struct Posted {
    pub accepted: u64,
    pub refused: u64,
    /// From the first request to the last answer.
    pub took: Duration,
    pub times: Vec<Duration>,
}

/// Posts bodies over `connections` connections, each as fast as its answers come, until there are no more or the time is over.
pub async fn load(
    target: &Target,
    connections: usize,
    limit: Duration,
    body: impl Fn(usize) -> Option<String>,
) -> Posted {
    let next = std::cell::Cell::new(0);
    let start = Instant::now();
    let lane = async || {
        let mut connection = Connection::open(&target.address).await;
        let mut posted = Posted::default();
        while start.elapsed() < limit {
            let at = next.replace(next.get() + 1);
            let Some(body) = body(at) else { break };
            let sent = Instant::now();
            match connection.post(&target.path, &body).await {
                200..300 => posted.accepted += 1,
                _ => posted.refused += 1,
            }
            posted.times.push(sent.elapsed());
        }
        posted
    };
    let lanes = futures_util::future::join_all((0..connections).map(|_| lane())).await;
    let mut all = Posted { took: start.elapsed(), ..Posted::default() };
    for mut lane in lanes {
        all.accepted += lane.accepted;
        all.refused += lane.refused;
        all.times.append(&mut lane.times);
    }
    all
}

/// Who is posted to.
pub struct Target {
    pub address: String,
    pub path: String,
}

impl Target {
    pub fn runbookd(address: &str) -> Target {
        Target { address: address.to_string(), path: "/api/v1/alertmanager".to_string() }
    }

    /// `http://HOST:PORT/PATH`.
    pub fn parse(url: &str) -> Option<Target> {
        let (address, path) = url.strip_prefix("http://")?.split_once('/')?;
        Some(Target { address: address.to_string(), path: format!("/{path}") })
    }
}
