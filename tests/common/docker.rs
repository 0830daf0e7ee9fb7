//! Docker's API as a test uses it: plain JSON, so that nothing is lost between what is asked and what is compared.

use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

/// A Docker endpoint of the tests.
pub struct Docker {
    http: reqwest::Client,
    /// As runbookd's configuration names it.
    pub host: String,
}

impl Docker {
    /// The one that `scripts/test` started.
    pub fn of_the_tests() -> Docker {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = wanted("RUNBOOKD_TEST_DOCKER");
        let path = host.strip_prefix("unix://").expect("RUNBOOKD_TEST_DOCKER is unix:///…");
        let http = reqwest::Client::builder().unix_socket(path).no_proxy().build().expect("a client");
        Docker { http, host }
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(format!("http://docker{path}")).send().await.expect("Docker answers");
        let (status, body) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "GET {path}: {status} {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.http.post(format!("http://docker{path}")).json(body).send().await.expect("Docker answers");
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "POST {path}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    pub async fn delete(&self, path: &str) {
        let answer = self.http.delete(format!("http://docker{path}")).send().await.expect("Docker answers");
        assert!(answer.status().is_success(), "DELETE {path}: {}", answer.status());
    }

    /// Makes a service and waits for nothing.
    pub async fn create(&self, spec: &Value) {
        self.post("/services/create", spec).await;
    }

    pub async fn inspect(&self, service: &str) -> Value {
        self.get(&format!("/services/{service}")).await
    }
}

/// An environment variable that `scripts/test` sets.
pub fn wanted(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run this by scripts/test, which starts what it needs"))
}

/// A name that no other service of this Swarm has.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A replicated service that runs `command` in the image of the tests. Failures show within a second and shutdowns take none.
pub fn replicated(name: &str, replicas: u64, command: &str) -> Value {
    let second = 1_000_000_000_u64;
    json!({
        "Name": name,
        "Labels": { "team": "shop" },
        "Mode": { "Replicated": { "Replicas": replicas } },
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "runbookd-test/shop:1",
                "Command": ["sh", "-c", command],
                "Env": ["A=1", "B=2"],
                "StopGracePeriod": second / 10,
            },
            "RestartPolicy": { "Delay": second / 5 },
        },
        "UpdateConfig": { "Parallelism": 1, "FailureAction": "pause", "Monitor": second / 2 },
        "RollbackConfig": { "Parallelism": 1, "FailureAction": "pause", "Monitor": second / 2 },
    })
}
