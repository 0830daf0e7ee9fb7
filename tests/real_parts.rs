//! The whole path on real parts: a metric rises, Prometheus fires, Alertmanager posts, runbookd scales a Docker Swarm's service, the metric falls, the
//! incident resolves. Built only with the feature `real-parts`; `scripts/test` starts the Swarm and gives its address.

#[path = "common/docker.rs"]
mod docker;
#[path = "real_parts/monitoring.rs"]
mod monitoring;
#[path = "real_parts/process.rs"]
mod process;

use docker::{Docker, replicated, unique};
use monitoring::{Alertmanager, Prometheus, Shop};
use process::{Runbookd, until};
use serde_json::Value;
use std::path::Path;

/// A runbook that scales out once and then takes its time, so that it can be killed in the middle.
const RUNBOOK: &str = r#"
fn defaults() { #{ step: 1, ceiling: 4 } }

fn on_firing(alert, params) {
    let svc = service(alert.labels.service);
    scale(svc.name, min(svc.replicas + params.step, params.ceiling));
    wait_healthy(svc.name, "1m");
    sleep("3s");
    notify(`${svc.name} scaled out for ${alert.labels.alertname}`);
}
"#;

/// A shop on a real Swarm, watched by a real Prometheus, and the runbookd that cares for it.
struct Lab {
    shop: Shop,
    docker: Docker,
    runbookd: Runbookd,
    // Dropped, and so ended, after what they talk to is no longer needed.
    _prometheus: Prometheus,
    alertmanagers: Vec<Alertmanager>,
    _dir: tempfile::TempDir,
}

impl Lab {
    async fn start(alertmanagers: usize) -> Lab {
        let dir = tempfile::tempdir().expect("a directory");
        let docker = Docker::of_the_tests();
        let shop = Shop::start(&docker, dir.path()).await;
        let (runbookd_port, peers) = (process::free_port(), monitoring::peers(alertmanagers));
        let hook = format!("http://127.0.0.1:{runbookd_port}/api/v1/alertmanager");
        let alertmanagers: Vec<Alertmanager> =
            (0..alertmanagers).map(|at| Alertmanager::start(dir.path(), &hook, &peers, at)).collect();
        write_configuration(dir.path(), runbookd_port, &docker.host, &shop.name, &alertmanagers[0].url);
        let runbookd = Runbookd::start(dir.path(), runbookd_port).await;
        let prometheus = Prometheus::start(dir.path(), &shop, &alertmanagers);
        Lab { shop, docker, runbookd, _prometheus: prometheus, alertmanagers, _dir: dir }
    }

    async fn replicas(&self) -> u64 {
        let service = self.docker.inspect(&self.shop.name).await;
        service["Spec"]["Mode"]["Replicated"]["Replicas"].as_u64().expect("a replicated service")
    }

    /// The one incident there is, once it is in `state`.
    async fn incident(&self, state: &str) -> Value {
        until(&format!("an incident that is {state}"), async || {
            let listed = self.runbookd.get("/api/v1/incidents").await?;
            let incidents = listed["incidents"].as_array().ok_or(format!("no incidents in {listed}"))?;
            match incidents.as_slice() {
                [incident] if incident["state"] == state => Ok(incident.clone()),
                _ => Err(format!("incidents: {incidents:#?}")),
            }
        })
        .await
    }

    /// Waits until the shop runs with so many replicas, all of them up.
    async fn scaled_to(&self, replicas: u64) {
        until(&format!("{replicas} tasks that run"), async || {
            let filters = format!("{{\"service\":[\"{}\"],\"desired-state\":[\"running\"]}}", self.shop.name);
            let tasks = self.docker.get(&format!("/tasks?filters={filters}")).await;
            let states: Vec<&Value> =
                tasks.as_array().into_iter().flatten().map(|task| &task["Status"]["State"]).collect();
            let all = states.len() as u64 == replicas && states.iter().all(|state| **state == "running");
            if all { Ok(()) } else { Err(format!("tasks: {states:?}")) }
        })
        .await;
    }

    /// The alert's end, and all that must then be so: one incident, one run, one change of the service.
    async fn ends_well(&self) {
        self.shop.latency(0.1);
        let incident = self.incident("resolved").await;
        assert_eq!(incident["rule"], "scale-out");
        let runs = incident["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 1, "one run: {incident:#}");
        let id = runs[0].as_str().map_or_else(|| runs[0].to_string(), str::to_string);
        let run = self.runbookd.get(&format!("/api/v1/runs/{id}")).await.expect("the run can be read");
        let steps = run["steps"].as_array().expect("steps");
        let scales: Vec<&Value> = steps.iter().filter(|step| step["primitive"] == "scale").collect();
        assert_eq!((scales.len(), run["attempt"].as_u64()), (1, Some(1)), "scaled once, at the first attempt: {run:#}");
        assert!(steps.iter().any(|step| step["primitive"] == "notify"), "it went on to its end: {run:#}");
        assert_eq!(self.replicas().await, 3);
        let label = self.docker.inspect(&self.shop.name).await["Spec"]["Labels"]["runbookd.step"].clone();
        assert_eq!(label, format!("{id}:{}", scales[0]["seq"]), "the service says whose change it was");
        self.docker.delete(&format!("/services/{}", self.shop.name)).await;
    }
}

fn write_configuration(dir: &Path, port: u16, docker: &str, service: &str, alertmanager: &str) {
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory");
        std::fs::write(path, text).expect("written");
    };
    let at = |name: &str| dir.join(name).display().to_string();
    write("runbooks/scale_out.rhai", RUNBOOK.to_string());
    write(
        "rules/shop.yaml",
        format!(
            "rules:\n  - name: scale-out\n    match: ['alertname = \"HighLatency\"', 'service = \"{service}\"']\n    by: [service]\n    \
             runbook: scale_out\n    params: {{ step: 1, ceiling: 4 }}\n    allow: [{{ scale: \"{{{{ service }}}}\" }}]\n    \
             verify: {{ resolved_within: 2m }}\n"
        ),
    );
    write(
        "runbookd.yaml",
        format!(
            "listen: 127.0.0.1:{port}\nrules: {}\nrunbooks: {}\ncluster: docker\njournal: {{ url: \"sqlite://{}\" }}\n\
             docker: {{ host: \"{docker}\" }}\nalertmanager: {{ url: \"{alertmanager}\" }}\n",
            at("rules"),
            at("runbooks"),
            at("runbookd.db")
        ),
    );
}

#[tokio::test]
async fn a_slow_service_is_scaled_out_and_its_incident_resolves() {
    let lab = Lab::start(1).await;
    assert_eq!(lab.replicas().await, 2);
    lab.shop.latency(2.0);
    lab.scaled_to(3).await;
    lab.incident("verifying").await;
    lab.ends_well().await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_the_run_changes_nothing_of_that() {
    let mut lab = Lab::start(1).await;
    lab.shop.latency(2.0);
    lab.scaled_to(3).await;
    lab.incident("running").await;
    lab.runbookd.kill_and_start_again().await;
    lab.incident("verifying").await;
    lab.ends_well().await;
}

#[tokio::test]
async fn the_same_alert_from_two_alertmanagers_is_one_run() {
    let lab = Lab::start(2).await;
    lab.shop.latency(2.0);
    lab.scaled_to(3).await;
    each_has_posted(&lab.alertmanagers).await;
    lab.incident("verifying").await;
    lab.ends_well().await;
}

async fn each_has_posted(alertmanagers: &[Alertmanager]) {
    for alertmanager in alertmanagers {
        until("a post from each Alertmanager", async || match alertmanager.posts().await? {
            0 => Err("none yet".to_string()),
            _ => Ok(()),
        })
        .await;
    }
}

/// The parts around runbookd alone: when this fails, the other tests say nothing about runbookd.
#[tokio::test]
async fn an_alert_and_its_end_reach_a_webhook_from_each_of_two_alertmanagers() {
    let dir = tempfile::tempdir().expect("a directory");
    let docker = Docker::of_the_tests();
    let shop = Shop::start(&docker, dir.path()).await;
    let (hook, mut posts) = process::webhook().await;
    let peers = monitoring::peers(2);
    let alertmanagers = [0, 1].map(|at| Alertmanager::start(dir.path(), &hook, &peers, at));
    let _prometheus = Prometheus::start(dir.path(), &shop, &alertmanagers);
    for (latency, status) in [(2.0, "firing"), (0.1, "resolved")] {
        shop.latency(latency);
        let post: Value = loop {
            let body = tokio::time::timeout(process::PATIENCE, posts.recv()).await.expect("in time").expect("open");
            let post: Value = serde_json::from_str(&body).expect("JSON");
            if post["status"] == status {
                break post;
            }
        };
        let labels = &post["alerts"][0]["labels"];
        assert_eq!((&labels["alertname"], &labels["service"]), (&"HighLatency".into(), &shop.name.as_str().into()));
    }
    each_has_posted(&alertmanagers).await;
    docker.delete(&format!("/services/{}", shop.name)).await;
}
