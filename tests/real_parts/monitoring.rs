//! A service with a metric, the Prometheus that watches it, and the Alertmanagers that it tells.

use super::docker::Docker;
use super::process::{Process, free_port, text, until};
use super::{replicated, unique};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

/// Replicas that can be scraped.
const SLOTS: u16 = 8;

/// A service of two replicas that serve one metric, its latency, which the test sets.
pub struct Shop {
    pub name: String,
    /// Replica n listens on this port plus n.
    port: u16,
    www: PathBuf,
}

impl Shop {
    pub async fn start(docker: &Docker, dir: &Path) -> Shop {
        // Below the range that the kernel gives out, so that no other socket is there; the network is the private one of the Swarm.
        static PORTS: AtomicU16 = AtomicU16::new(20_000);
        let port = PORTS.fetch_add(SLOTS + 1, Ordering::Relaxed);
        let www = dir.join("www");
        std::fs::create_dir(&www).expect("a directory");
        let shop = Shop { name: unique("shop"), port, www: www.clone() };
        shop.latency(0.1);
        let mut spec = replicated(&shop.name, 2, "exec httpd -f -h /www -p $((PORT + SLOT))");
        let container = &mut spec["TaskTemplate"]["ContainerSpec"];
        container["Env"] = json!([format!("PORT={port}"), "SLOT={{.Task.Slot}}"]);
        container["Mounts"] = json!([{ "Type": "bind", "Source": www, "Target": "/www", "ReadOnly": true }]);
        // A task runs only once it is healthy, and it is not while the file is there. One that was healthy before stays so: nothing fails so often.
        let second = 1_000_000_000_u64;
        container["Healthcheck"] = json!({ "Test": ["CMD", "test", "!", "-e", "/www/warming-up"],
                                           "Interval": second, "Timeout": 60 * second, "Retries": 10_000 });
        // The network of the Swarm's one node, which is the test's: Prometheus reaches the tasks with no proxy between.
        spec["TaskTemplate"]["Networks"] = json!([{ "Target": "host" }]);
        docker.create(&spec).await;
        shop
    }

    pub fn latency(&self, seconds: f64) {
        let text = format!("# TYPE shop_latency_seconds gauge\nshop_latency_seconds {seconds}\n");
        // By rename: a scrape never finds half a file.
        let (beside, metrics) = (self.www.join("metrics.new"), self.www.join("metrics.txt"));
        std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, &metrics)).expect("written");
    }

    /// While it warms up, no new replica becomes healthy.
    pub fn warms_up(&self, so: bool) {
        let file = self.www.join("warming-up");
        if so { std::fs::write(file, "") } else { std::fs::remove_file(file) }.expect("written");
    }
}

/// Debian's Prometheus, looking every second.
pub struct Prometheus {
    _process: Process,
}

impl Prometheus {
    pub fn start(dir: &Path, shop: &Shop, alertmanagers: &[Alertmanager]) -> Prometheus {
        let targets: Vec<String> = (1..=SLOTS).map(|slot| format!("127.0.0.1:{}", shop.port + slot)).collect();
        let told: Vec<&str> =
            alertmanagers.iter().map(|alertmanager| alertmanager.url.trim_start_matches("http://")).collect();
        let rules = json!({ "groups": [{ "name": "shop", "interval": "1s", "rules": [{
            "alert": "HighLatency", "expr": "max by (service) (shop_latency_seconds) > 0.5",
            "annotations": { "summary": "{{ $labels.service }} is slow" },
        }] }] });
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": [dir.join("prometheus-rules.json")],
            "alerting": { "alertmanagers": [{ "static_configs": [{ "targets": told }] }] },
            "scrape_configs": [{ "job_name": "shop", "metrics_path": "/metrics.txt",
                                 "static_configs": [{ "targets": targets, "labels": { "service": shop.name } }] }],
        });
        // JSON is YAML.
        std::fs::write(dir.join("prometheus-rules.json"), rules.to_string()).expect("written");
        std::fs::write(dir.join("prometheus.json"), config.to_string()).expect("written");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", dir.join("prometheus.json").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", free_port()))
            .arg("--rules.alert.resend-delay=1s");
        Prometheus { _process: Process::start(&mut command, dir.join("prometheus.log")) }
    }
}

/// Debian's Alertmanager, quick to tell.
pub struct Alertmanager {
    _process: Process,
    pub url: String,
}

/// So many Alertmanagers that know each other, and are hard of hearing: what one has posted the others learn only in an hour, so that each posts
/// everything, the worst that a partition does. A single one needs no cluster.
pub async fn cluster(dir: &Path, hook: &str, count: usize) -> Vec<Alertmanager> {
    let addresses: Vec<String> = match count {
        1 => vec![String::new()],
        _ => (0..count).map(|_| format!("127.0.0.1:{}", free_port())).collect(),
    };
    let mut members = Vec::new();
    // One after the other, so that each finds those before it.
    for at in 0..count {
        members.push(Alertmanager::start(dir, hook, &addresses[..=at]).await);
    }
    for member in &members {
        until("the Alertmanagers to know each other", async || member.knows(if count == 1 { 0 } else { count }).await)
            .await;
    }
    members
}

impl Alertmanager {
    /// The last of the addresses is its own in the cluster, the others are those of its peers.
    async fn start(dir: &Path, hook: &str, addresses: &[String]) -> Alertmanager {
        let (own, peers) = addresses.split_last().expect("an address of its own");
        let name = |what: &str| dir.join(format!("alertmanager-{}{what}", peers.len()));
        let config = json!({
            "route": { "receiver": "runbookd", "group_by": ["alertname", "service"],
                       "group_wait": "200ms", "group_interval": "1s", "repeat_interval": "1m" },
            "receivers": [{ "name": "runbookd", "webhook_configs": [{ "url": hook, "send_resolved": true }] }],
        });
        std::fs::write(name(".json"), config.to_string()).expect("written");
        let url = format!("http://127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus-alertmanager");
        command
            .arg(format!("--config.file={}", name(".json").display()))
            .arg(format!("--storage.path={}", name("").display()))
            .arg(format!("--web.listen-address={}", url.trim_start_matches("http://")))
            .arg(format!("--cluster.listen-address={own}"))
            .args(["--cluster.peer-timeout=1ms", "--cluster.settle-timeout=1s"])
            // Probes carry what is to be told, too.
            .args(["gossip", "pushpull", "probe"].map(|what| format!("--cluster.{what}-interval=1h")))
            .args(peers.iter().map(|peer| format!("--cluster.peer={peer}")));
        let mut process = Process::start(&mut command, name(".log"));
        let ready = format!("{url}/-/ready");
        until("Alertmanager to be ready", async || {
            if let Some(status) = process.ended() {
                panic!("Alertmanager ended with {status}: {}", process.said());
            }
            text(&ready).await.map(drop)
        })
        .await;
        Alertmanager { _process: process, url }
    }

    /// Whether its cluster has so many members, itself included, and does its work.
    async fn knows(&self, members: usize) -> Result<(), String> {
        let status = text(&format!("{}/api/v2/status", self.url)).await?;
        let status: Value = serde_json::from_str(&status).map_err(|error| format!("{error} in {status}"))?;
        let cluster = &status["cluster"];
        let known = cluster["peers"].as_array().map_or(0, Vec::len);
        let at_work = ["ready", "disabled"].map(Value::from).contains(&cluster["status"]);
        if at_work && known == members { Ok(()) } else { Err(cluster.to_string()) }
    }

    /// How many posts it has made to its webhook.
    pub async fn posts(&self) -> Result<u64, String> {
        let metrics = text(&format!("{}/metrics", self.url)).await?;
        let line =
            metrics.lines().find(|line| line.starts_with("alertmanager_notifications_total{integration=\"webhook\""));
        let count = line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse::<f64>().ok());
        count.map(|count| count as u64).ok_or_else(|| "no such metric".to_string())
    }
}
