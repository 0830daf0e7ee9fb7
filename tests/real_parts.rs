//! The whole path on real parts: a metric rises, Prometheus fires, Alertmanager posts, runbookd scales a Docker Swarm's service, the metric falls, the
//! incident resolves; by the rules and runbooks that are shipped. Built only with the feature `real-parts`; `scripts/test` starts the Swarm and gives its address.

#[path = "common/docker.rs"]
mod docker;
#[path = "real_parts/monitoring.rs"]
mod monitoring;
#[path = "real_parts/process.rs"]
mod process;

use docker::{Docker, replicated, unique};
use monitoring::{Alertmanager, Prometheus, Shop};
use process::{Runbookd, until};
use serde_json::{Value, json};
use std::path::Path;

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
        let runbookd_port = process::free_port();
        let hook = format!("http://127.0.0.1:{runbookd_port}/api/v1/alertmanager");
        let alertmanagers = monitoring::cluster(dir.path(), &hook, alertmanagers).await;
        write_configuration(dir.path(), runbookd_port, &docker.host, &alertmanagers[0].url);
        let runbookd = Runbookd::start(dir.path(), runbookd_port).await;
        let prometheus = Prometheus::start(dir.path(), &shop, &alertmanagers);
        Lab { shop, docker, runbookd, _prometheus: prometheus, alertmanagers, _dir: dir }
    }

    async fn replicas(&self) -> u64 {
        let service = self.docker.inspect(&self.shop.name).await;
        service["Spec"]["Mode"]["Replicated"]["Replicas"].as_u64().expect("a replicated service")
    }

    /// Waits until the service is meant to have so many replicas; whether they run is not asked.
    async fn told_to_have(&self, replicas: u64) {
        until(&format!("{replicas} replicas to be wanted"), async || match self.replicas().await {
            now if now == replicas => Ok(()),
            now => Err(format!("{now} replicas")),
        })
        .await;
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

    /// The runs that answered the alert, with their steps.
    async fn answers(&self) -> Result<Vec<Value>, String> {
        let listed = self.runbookd.get("/api/v1/runs").await?;
        let runs = listed["runs"].as_array().ok_or(format!("no runs in {listed}"))?;
        let mut answers = Vec::new();
        for run in runs.iter().filter(|run| run["handler"] == "on_firing") {
            let id = run["id"].as_str().ok_or(format!("no id in {run}"))?;
            answers.push(self.runbookd.get(&format!("/api/v1/runs/{id}")).await?);
        }
        Ok(answers)
    }

    /// The one run there is, once it is suspended at `primitive`.
    async fn suspended_at(&self, primitive: &str) {
        until(&format!("a run that is suspended at {primitive}"), async || {
            let runs = self.answers().await?;
            let last = |run: &Value| run["steps"].as_array().and_then(|steps| steps.last().cloned());
            match runs.as_slice() {
                [run]
                    if run["state"] == "suspended"
                        && last(run).is_some_and(|step| {
                            (&step["primitive"], &step["outcome"]) == (&json!(primitive), &json!("waiting"))
                        }) =>
                {
                    Ok(())
                }
                _ => Err(format!("runs: {runs:#?}")),
            }
        })
        .await;
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

    /// The alert's end, and all that must then be so: one incident, verified, one run, one change of the service.
    async fn ends_well(&self) {
        self.shop.latency(0.1);
        let incident = self.incident("resolved").await;
        assert_eq!(incident["rule"], "scale-out-slow-service");
        assert_eq!((&incident["escalated"], &incident["flaps"]), (&json!(false), &json!(0)), "{incident:#}");
        assert_eq!(incident["labels"]["service"], self.shop.name.as_str());
        let id = incident["id"].as_str().expect("an id");
        let detail = self.runbookd.get(&format!("/api/v1/incidents/{id}")).await.expect("the incident can be read");
        let transitions = detail["transitions"].as_array().expect("transitions");
        let states: Vec<&str> = transitions.iter().filter_map(|transition| transition["to"].as_str()).collect();
        assert_eq!(states, ["open", "running", "verifying", "resolved"], "{detail:#}");

        let runs = self.answers().await.expect("runs can be read");
        let [run] = runs.as_slice() else { panic!("one run: {runs:#?}") };
        let fields = ["state", "attempt", "runbook", "incident"].map(|field| run[field].clone());
        assert_eq!(fields, [json!("done"), json!(1), json!("scale_out"), json!(id)], "{run:#}");
        let steps = run["steps"].as_array().expect("steps");
        let done: Vec<&str> = steps.iter().filter_map(|step| step["primitive"].as_str()).collect();
        assert_eq!(done, ["service", "scale", "wait_healthy", "notify"], "{run:#}");

        assert_eq!(self.replicas().await, 3);
        let label = self.docker.inspect(&self.shop.name).await["Spec"]["Labels"]["runbookd.step"].clone();
        let scale = format!("{}:{}", run["id"].as_str().expect("an id"), steps[1]["seq"]);
        assert_eq!(label, scale, "the service says whose change it was");
        self.docker.delete(&format!("/services/{}", self.shop.name)).await;
    }
}

fn write_configuration(dir: &Path, port: u16, docker: &str, alertmanager: &str) {
    let shipped = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let config = json!({
        "listen": format!("127.0.0.1:{port}"),
        "rules": shipped("rules"),
        "runbooks": shipped("runbooks"),
        "cluster": "docker",
        "journal": { "url": format!("sqlite://{}", dir.join("runbookd.db").display()) },
        "docker": { "host": docker },
        "alertmanager": { "url": alertmanager },
    });
    // JSON is YAML.
    std::fs::write(dir.join("runbookd.yaml"), config.to_string()).expect("written");
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
async fn kills_in_the_middle_of_the_run_change_nothing_of_that() {
    let mut lab = Lab::start(1).await;
    lab.shop.warms_up(true);
    lab.shop.latency(2.0);
    // At once behind the call: most often its result is not journalled yet, and the step in doubt.
    lab.told_to_have(3).await;
    lab.runbookd.kill();
    lab.runbookd.start_again().await;
    // And in a wait that cannot end before the kill: what it waits for comes while nobody looks.
    lab.suspended_at("wait_healthy").await;
    lab.runbookd.kill();
    lab.shop.warms_up(false);
    lab.scaled_to(3).await;
    lab.runbookd.start_again().await;
    lab.incident("verifying").await;
    let resumes = lab.answers().await.expect("runs can be read")[0]["resumes"].clone();
    assert_eq!(resumes, 2);
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
    let alertmanagers = monitoring::cluster(dir.path(), &hook, 2).await;
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
