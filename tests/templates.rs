//! The shipped templates, checked by the programs that read what they render: HAProxy, nginx, and Prometheus' promtool; and a template on a real Swarm.

#[path = "templates/bench.rs"]
mod bench;

#[allow(dead_code, reason = "these tests use a part of it")]
#[path = "common/docker.rs"]
mod docker;

use bench::{Still, World, rendered};
use docker::{Docker, replicated, unique};
use runbookd::adapters::cluster::swarm::SwarmCluster;
use runbookd::adapters::reload::Reloads;
use runbookd::config::{Config, DockerConfig};
use runbookd::model::cluster::Convergence;
use runbookd::ports::{Cluster, ErrorReason, Reload, Reloaded};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const HAPROXY: &str = ", check: [haproxy, -c, -f, '{output}']";
/// nginx and Prometheus check whole files only: `$0` is the part.
const NGINX: &str =
    ", check: [sh, -c, 'echo \"events {} http { include $0; }\" > $0.whole && nginx -t -c $0.whole', '{output}']";
const ALERTS: &str = ", check: [promtool, check, rules, '{output}']";
const TARGETS: &str = ", check: [sh, -c, 'echo \"{ scrape_configs: [{ job_name: x, file_sd_configs: [{ files: [$0.json] }] }] }\" > $0.yml \
                       && cp $0 $0.json && promtool check config $0.yml', '{output}']";

#[tokio::test]
async fn what_is_rendered_is_valid_to_who_reads_it() {
    for (template, check) in [
        ("haproxy.cfg.j2", HAPROXY),
        ("lb-nodes.cfg.j2", HAPROXY),
        ("nginx-nodes.conf.j2", NGINX),
        ("nginx-upstreams.conf.j2", NGINX),
        ("prometheus-alerts.yml.j2", ALERTS),
        ("prometheus-targets.json.j2", TARGETS),
    ] {
        for world in [World::shipped(), World::default()] {
            if let Err(error) = rendered(template, &Still::of(world), check).await {
                panic!("{template}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn the_checkers_find_what_is_wrong() {
    let world = |labels: &str, tasks: &str| {
        let ports = "[{ protocol: tcp, target: 80, published: 8080, mode: host }]";
        let nodes = "[{ id: n1, name: n1, role: worker, availability: active, state: ready, address: 'no/address', labels: {} }]";
        World::parse(&format!(
            "nodes: {nodes}\nservices: [{{ name: web, replicas: 1, labels: {labels}, ports: {ports}, tasks: {tasks} }}]"
        ))
    };
    let routed = "{ com.df.port: '80', com.df.servicePath: /, com.df.scrapePort: '80', com.df.metricsPath: /m }";
    for (template, check, labels, says) in [
        ("haproxy.cfg.j2", HAPROXY, routed, "no/address"),
        ("lb-nodes.cfg.j2", HAPROXY, routed, "no/address"),
        ("nginx-nodes.conf.j2", NGINX, routed, "no/address"),
        ("nginx-upstreams.conf.j2", NGINX, routed, "no/address"),
        ("prometheus-targets.json.j2", TARGETS, routed, "no/address"),
        ("prometheus-alerts.yml.j2", ALERTS, "{ com.df.alertName: x, com.df.alertIf: 'up ==' }", "parse error"),
    ] {
        let error = rendered(template, &Still::of(world(labels, "[{ node: n1 }]")), check).await.expect_err(template);
        assert_eq!(error.reason, ErrorReason::Refused, "{template}: {error}");
        assert!(error.message.contains(says), "{template}: {error}");
    }
}

#[tokio::test]
async fn a_real_swarm_is_rendered_and_its_containers_are_told() {
    let docker = Docker::of_the_tests();
    let (told, published) = (unique("told"), unique("published"));
    docker.create(&replicated(&told, 1, "trap 'exit 7' USR1; while :; do sleep 0.05; done")).await;
    let mut spec = replicated(&published, 0, "exec sleep 1000");
    let port = json!({ "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 18_080, "PublishMode": "host" });
    spec["EndpointSpec"] = json!({ "Mode": "dnsrr", "Ports": [port] });
    docker.create(&spec).await;

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().display();
    let source = format!(
        "{{% for service in services if service.name in ['{told}', '{published}'] %}}{{{{ service.name }}}} \
         {{% for port in service.ports %}}{{{{ port.published }}}}:{{{{ port.target }}}}/{{{{ port.mode }}}}{{% endfor %}} \
         {{% for task in service.tasks %}}{{{{ task.node }}}}@{{{{ task.address }}}}{{% endfor %}};{{% endfor %}}"
    );
    std::fs::write(dir.path().join("a.j2"), source).expect("written");
    let target = |container: &str| {
        format!(
            "{{ template: '{path}/a.j2', output: '{path}/{container}', then: {{ signal: {{ container: '{container}', name: USR1 }} }} }}"
        )
    };
    let label = format!("com.docker.swarm.service.name={told}");
    let yaml = format!("told: {}\nnobody: {}", target(&label), target(&told));
    let host = DockerConfig { host: docker.host.clone(), ..DockerConfig::default() };
    let config = Config { docker: host, reload: serde_saphyr::from_str(&yaml).expect("targets"), ..Config::default() };
    let cluster: Arc<dyn Cluster> = Arc::new(SwarmCluster::new(&config.docker).expect("an address"));
    let reload = Reloads::new(&config, &cluster).expect("valid");
    while cluster.convergence(&told).await.expect("it is there") != Convergence::Converged {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The shell may not have come to its trap yet: it is told until it has heard.
    let mut rendered = None;
    while !cluster.tasks(&told).await.expect("it is there").iter().any(|task| task.error.contains("(7)")) {
        let _ = std::fs::remove_file(dir.path().join(&label));
        let answer = reload.reload("told", None).await;
        assert!(matches!(&answer, Ok(Reloaded::Done)) || rendered.is_some(), "{answer:?}");
        rendered.get_or_insert_with(|| std::fs::read_to_string(dir.path().join(&label)).expect("rendered"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rendered = rendered.expect("it was told");
    assert!(rendered.contains(&format!("{published} 18080:80/host ;")), "{rendered}");
    let node = &cluster.nodes().await.expect("they can be listed")[0];
    assert!(rendered.contains(&format!("{}@{}", node.name, node.address)), "{rendered}");
    // The service's name is no container's.
    let error = reload.reload("nobody", None).await.expect_err("no container has that name");
    assert_eq!(error.reason, ErrorReason::NotFound, "{error}");
    for name in [told, published] {
        docker.delete(&format!("/services/{name}")).await;
    }
}
