//! The real Swarm of the contract, and what only a real one can be asked.

use super::*;
use docker::{Docker, replicated, unique, wanted};
use runbookd::adapters::cluster::swarm::SwarmCluster;
use runbookd::config::DockerConfig;
use serde_json::{Value, json};

#[path = "../common/docker.rs"]
pub mod docker;

const SECOND: u64 = 1_000_000_000;
const SLEEP: &str = "exec sleep 1000";

pub fn cluster(docker: &Docker) -> Box<dyn Cluster> {
    let config = DockerConfig { host: docker.host.clone(), ..DockerConfig::default() };
    Box::new(SwarmCluster::new(&config).expect("a valid address"))
}

/// A service as the plan says, with all its tasks running.
pub async fn bench(plan: Plan) -> Bench {
    let mut spec = replicated(&unique("contract"), 2, SLEEP);
    match plan {
        Plan::Pausing => {}
        Plan::RollingBack => spec["UpdateConfig"]["FailureAction"] = json!("rollback"),
        Plan::Global => spec["Mode"] = json!({ "Global": {} }),
    }
    let bench = created(&spec).await;
    bench.converged().await;
    bench
}

async fn created(spec: &Value) -> Bench {
    let docker = Docker::of_the_tests();
    docker.create(spec).await;
    Bench { cluster: cluster(&docker), name: spec["Name"].as_str().expect("a name").to_string() }
}

/// Everything a spec can say that this Swarm of one node accepts.
async fn elaborate(docker: &Docker) -> Value {
    let mut spec = replicated(&unique("elaborate"), 1, SLEEP);
    let data = json!({ "Data": "aHVzaA==" });
    let mut made = Vec::new();
    for kind in ["secrets", "configs"] {
        let name = unique(kind);
        let body = json!({ "Name": name, "Data": data["Data"] });
        let id = docker.post(&format!("/{kind}/create"), &body).await["ID"].clone();
        made.push((name, id));
    }
    let file = |name: &str| json!({ "Name": name, "UID": "7", "GID": "8", "Mode": 0o440 });
    let [(secret, secret_id), (config, config_id)] = made.try_into().expect("two were made");
    let more = json!({
        "Labels": { "inner": "label" }, "Args": ["a b", "c"], "Hostname": "{{.Service.Name}}", "Dir": "/tmp", "User": "0",
        "Groups": ["5"], "TTY": true, "OpenStdin": true, "ReadOnly": true, "StopSignal": "SIGINT", "Init": true,
        "Hosts": ["10.9.8.7 elsewhere"], "Isolation": "default",
        "DNSConfig": { "Nameservers": ["127.0.0.9"], "Search": ["example.org"], "Options": ["ndots:3"] },
        "Mounts": [{ "Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": { "SizeBytes": 65_536, "Mode": 0o700 } },
                   { "Type": "volume", "Source": unique("volume"), "Target": "/data", "VolumeOptions": { "NoCopy": true, "Labels": { "v": "1" } } }],
        "Healthcheck": { "Test": ["CMD", "true"], "Interval": SECOND, "Timeout": SECOND, "StartPeriod": SECOND, "Retries": 7 },
        "Secrets": [{ "SecretName": secret, "SecretID": secret_id, "File": file("secret") }],
        "Configs": [{ "ConfigName": config, "ConfigID": config_id, "File": file("/config") }],
        "Sysctls": { "net.ipv4.ip_default_ttl": "60" }, "CapabilityAdd": ["CAP_SYS_TIME"], "CapabilityDrop": ["CAP_MKNOD"],
        "Ulimits": [{ "Name": "nofile", "Soft": 100, "Hard": 200 }],
    });
    for (key, value) in more.as_object().expect("an object") {
        spec["TaskTemplate"]["ContainerSpec"][key] = value.clone();
    }
    let template = json!({
        "Resources": { "Limits": { "NanoCPUs": SECOND, "MemoryBytes": 64 << 20, "Pids": 50 },
                       "Reservations": { "NanoCPUs": 1_000_000, "MemoryBytes": 8 << 20 } },
        "RestartPolicy": { "Condition": "any", "Delay": SECOND, "MaxAttempts": 4, "Window": SECOND },
        "Placement": { "Constraints": ["node.role==manager"], "Preferences": [{ "Spread": { "SpreadDescriptor": "node.id" } }],
                       "MaxReplicas": 4, "Platforms": [{ "Architecture": "amd64", "OS": "linux" }] },
        "LogDriver": { "Name": "json-file", "Options": { "max-size": "1m" } },
        "ForceUpdate": 3,
    });
    for (key, value) in template.as_object().expect("an object") {
        spec["TaskTemplate"][key] = value.clone();
    }
    spec["UpdateConfig"] = json!({ "Parallelism": 2, "Delay": SECOND, "FailureAction": "rollback", "Monitor": SECOND,
                                   "MaxFailureRatio": 0.25, "Order": "start-first" });
    spec["EndpointSpec"] = json!({ "Mode": "vip", "Ports": [] });
    spec
}

#[tokio::test]
async fn every_other_field_survives_a_scale() {
    let docker = Docker::of_the_tests();
    let bench = created(&elaborate(&docker).await).await;
    let before = docker.inspect(&bench.name).await["Spec"].clone();
    for field in ["Healthcheck", "Secrets", "Configs", "Mounts", "Sysctls", "Ulimits", "CapabilityAdd", "Init"] {
        assert!(!before["TaskTemplate"]["ContainerSpec"][field].is_null(), "Docker dropped {field}: {before:#}");
    }
    bench.apply(scale(1, 2), "9:1").await.expect("accepted");
    let mut expected = before;
    expected["Mode"]["Replicated"]["Replicas"] = json!(2);
    expected["Labels"][STEP_LABEL] = json!("9:1");
    assert_eq!(docker.inspect(&bench.name).await["Spec"], expected);
    bench.converged().await;
    docker.delete(&format!("/services/{}", bench.name)).await;
}

#[tokio::test]
async fn a_service_has_converged_only_when_its_health_checks_are_green() {
    let command = "sleep 2; touch /tmp/well; exec sleep 1000";
    let mut spec = replicated(&unique("healthy"), 1, command);
    let check = json!({ "Test": ["CMD-SHELL", "test -f /tmp/well"], "Interval": SECOND / 4, "StartPeriod": 60 * SECOND, "Retries": 3 });
    spec["TaskTemplate"]["ContainerSpec"]["Healthcheck"] = check;
    let bench = created(&spec).await;
    let mut starting = false;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !matches!(bench.cluster.convergence(&bench.name).await.expect("it is there"), Convergence::Converged) {
        let (service, tasks) = (bench.seen().await, bench.tasks().await);
        assert!(tokio::time::Instant::now() < deadline, "{tasks:#?}");
        starting |= service.running == 0 && tasks.iter().any(|task| task.state == "starting");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(starting, "it was seen up and not yet healthy");
    assert_eq!(bench.seen().await.running, 1);
}

#[tokio::test]
async fn the_errors_of_tasks_are_told_while_swarm_keeps_trying() {
    let bench = created(&replicated(&unique("dying"), 1, "exit 3")).await;
    let mut told = String::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !told.contains("non-zero exit (3)") {
        match bench.cluster.convergence(&bench.name).await.expect("it is there") {
            Convergence::Progressing(words) => told = words,
            // For the moment that each task lives, all that is wanted does run.
            Convergence::Converged => {}
            Convergence::Failed(words) => panic!("Swarm never gives up a service that was not updated: {words}"),
        }
        assert!(tokio::time::Instant::now() < deadline, "last told: {told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let tasks = bench.tasks().await;
    assert!(tasks.iter().any(|task| task.state == "failed" && task.error.contains("exit (3)")), "{tasks:#?}");
}

#[tokio::test]
async fn tcp_with_tls_serves_as_well_as_the_socket() {
    let tls_dir = Some(wanted("RUNBOOKD_TEST_DOCKER_TLS_DIR").into());
    let config = DockerConfig { host: wanted("RUNBOOKD_TEST_DOCKER_TLS"), tls_dir, ..DockerConfig::default() };
    let bench = bench(Plan::Pausing).await;
    let bench = Bench { cluster: Box::new(SwarmCluster::new(&config).expect("readable certificates")), ..bench };
    a_scale_converges_and_cannot_be_made_twice(bench).await;
    let without = DockerConfig { tls_dir: None, ..config };
    let error = SwarmCluster::new(&without).expect("an address").ping().await.expect_err("no certificate");
    assert!(matches!(error.kind, ErrorKind::Transient | ErrorKind::Permanent), "{error}");
}
