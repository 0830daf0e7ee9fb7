//! What every reload target promises, and what each kind does: against a cluster that stands still, and doubles that remember what they were asked.

#[path = "templates/bench.rs"]
mod bench;

use axum::Router;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use bench::{Still, World, rendered, targets};
use runbookd::adapters::cluster::sim::SimReload;
use runbookd::ports::{ErrorKind, ErrorReason, Reload, Reloaded};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An HTTP server that answers as it is told and remembers what it was asked.
#[derive(Clone, Default)]
struct Double {
    asked: Arc<Mutex<Vec<String>>>,
    status: Arc<Mutex<u16>>,
    /// What it answers to whoever asks what it has.
    has: Arc<Mutex<String>>,
}

impl Double {
    /// Returns the address, too.
    async fn start() -> (Double, String) {
        let double = Double { status: Arc::new(Mutex::new(200)), ..Double::default() };
        double.has("null");
        let answer = async |State(double): State<Double>, request: Request<axum::body::Body>| {
            double.asked.lock().expect("unpoisoned").push(format!("{} {}", request.method(), request.uri()));
            let status = StatusCode::from_u16(*double.status.lock().expect("unpoisoned")).expect("a status");
            let asks = request.uri().path().ends_with("/config");
            (status, if asks { double.has.lock().expect("unpoisoned").clone() } else { String::new() })
        };
        let router = Router::new().fallback(answer).with_state(double.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (double, address)
    }

    fn answers(&self, status: u16) {
        *self.status.lock().expect("unpoisoned") = status;
    }

    fn has(&self, services: &str) {
        *self.has.lock().expect("unpoisoned") = services.to_string();
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("unpoisoned"))
    }
}

fn one_service() -> World {
    World::parse(
        "services: [{ name: web, replicas: 2, labels: { com.df.notify: 'true', com.df.port: '80' }, tasks: [] }]",
    )
}

/// A folder with a template.
fn folder(template: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("a.j2"), template).expect("written");
    dir
}

const NAMES: &str = "{% for service in services %}{{ service.name }}\n{% endfor %}";

/// A template target in that folder; `more` as in the config.
fn template(dir: &Path, more: &str) -> String {
    format!("file: {{ template: '{0}/a.j2', output: '{0}/a.cfg'{more} }}", dir.display())
}

fn text(dir: &Path) -> Option<String> {
    std::fs::read_to_string(dir.join("a.cfg")).ok()
}

/// What is left beside the template and its output.
fn left(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).expect("a directory").flatten();
    let mut names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "a.j2" && name != "a.cfg");
    names
}

#[tokio::test]
async fn each_kind_can_be_reloaded_twice() {
    let (double, url) = Double::start().await;
    let dir = folder(NAMES);
    let file = template(dir.path(), &format!(", then: {{ http: '{url}/-/reload' }}"));
    let yaml = format!(
        "http: {{ http: '{url}' }}\nproxy: {{ docker_flow_proxy: '{url}' }}\nmonitor: {{ docker_flow_monitor: '{url}' }}\n{file}"
    );
    let cluster = Still::of(one_service());
    let real = targets(&yaml, &cluster).expect("valid");
    let sim = SimReload::new(&serde_saphyr::from_str(&yaml).expect("targets"), cluster.clone());
    let all: [&dyn Reload; 2] = [&real, &sim];
    for reload in all {
        assert_eq!(reload.targets(), ["file", "http", "monitor", "proxy"]);
        for (target, service, second) in [
            ("http", None, Reloaded::Done),
            ("proxy", Some("web"), Reloaded::Done),
            ("proxy", None, Reloaded::Done),
            ("monitor", Some("web"), Reloaded::Done),
            ("file", None, Reloaded::Unchanged),
        ] {
            assert_eq!(reload.reload(target, service).await, Ok(Reloaded::Done), "{target} {service:?}");
            assert_eq!(reload.reload(target, service).await, Ok(second), "{target} {service:?} again");
        }
        for (target, service, reason, says) in [
            ("http", Some("web"), ErrorReason::Invalid, "takes no service"),
            ("file", Some("web"), ErrorReason::Invalid, "takes no service"),
            ("prox", None, ErrorReason::NotFound, "did you mean \"proxy\""),
        ] {
            let error = reload.reload(target, service).await.expect_err(target);
            assert_eq!((error.kind, error.reason), (ErrorKind::Permanent, reason), "{error}");
            assert!(error.message.contains(says), "{error}");
        }
    }
    assert_eq!(double.asked().len(), 11);
    assert_eq!(sim.reloaded()[2..4], ["proxy web", "proxy web"]);
    // What is rendered follows the cluster, in a simulated world too, and only there is nothing written.
    cluster.becomes(World::default());
    assert_eq!(sim.reload("file", None).await, Ok(Reloaded::Done));
    assert_eq!(text(dir.path()).as_deref(), Some("web\n"));
    std::fs::write(dir.path().join("a.j2"), "{{ fail('no way') }}").expect("written");
    for reload in all {
        let error = reload.reload("file", None).await.expect_err("it cannot be rendered");
        assert!(error.message.contains("no way"), "{error}");
    }
}

#[tokio::test]
async fn docker_flow_is_told_as_the_listener_tells_it() {
    let (double, url) = Double::start().await;
    let cluster = Still::of(World::parse(
        "services:
          - { name: shop_web, replicas: 2, labels: { com.docker.stack.namespace: shop, com.df.shortName: 'true', com.df.notify: 'true', com.df.port: '80', com.df.servicePath: '/a b&c=d', other: x }, tasks: [] }
          - { name: agent, replicas: 3, global: true, labels: { com.df.notify: 'true', com.df.distribute: 'false', com.df.serviceName: evil }, container_labels: { com.df.port: '81' }, tasks: [] }
          - { name: quiet, replicas: 1, labels: { com.df.port: '82' }, tasks: [] }",
    ));
    let yaml = format!("proxy: {{ docker_flow_proxy: '{url}/prefix/' }}\nmonitor: {{ docker_flow_monitor: '{url}' }}");
    let reload = targets(&yaml, &cluster).expect("valid");
    let web = "/reconfigure?distribute=true&port=80&replicas=2&serviceName=web&servicePath=%2Fa+b%26c%3Dd";
    let agent = "/reconfigure?distribute=false&serviceName=agent";
    for (target, service, asked) in [
        ("proxy", Some("shop_web"), vec![format!("GET /prefix/v1/docker-flow-proxy{web}")]),
        (
            "monitor",
            Some("quiet"),
            vec!["GET /v1/docker-flow-monitor/reconfigure?distribute=true&port=82&replicas=1&serviceName=quiet".into()],
        ),
        (
            "proxy",
            Some("gone"),
            vec!["GET /prefix/v1/docker-flow-proxy/remove?distribute=true&serviceName=gone".into()],
        ),
        ("monitor", Some("gone"), vec!["GET /v1/docker-flow-monitor/remove?serviceName=gone".into()]),
        (
            "monitor",
            None,
            vec![format!("GET /v1/docker-flow-monitor{agent}"), format!("GET /v1/docker-flow-monitor{web}")],
        ),
    ] {
        assert_eq!(reload.reload(target, service).await, Ok(Reloaded::Done), "{target} {service:?}");
        assert_eq!(double.asked(), asked);
    }
    for (status, service, expected) in [
        (409, "quiet", Ok(Reloaded::Unchanged)),
        (409, "gone", Err((ErrorKind::Permanent, ErrorReason::Refused))),
        (400, "quiet", Err((ErrorKind::Permanent, ErrorReason::Refused))),
        (404, "quiet", Err((ErrorKind::Permanent, ErrorReason::NotFound))),
        (500, "quiet", Err((ErrorKind::Transient, ErrorReason::Other))),
    ] {
        double.answers(status);
        let answer = reload.reload("proxy", Some(service)).await;
        assert_eq!(answer.map_err(|error| (error.kind, error.reason)), expected, "{status}");
    }
    double.asked();
    let error = reload.reload("proxy", None).await.expect_err("500");
    assert_eq!(double.asked().len(), 3, "one that fails does not keep the other from being told");
    assert!(error.message.contains("agent"), "{error}");
    cluster.becomes(World::default());
    let error = reload.reload("proxy", None).await.expect_err("nothing to tell of");
    assert!(error.message.contains("com.df.notify=true"), "{error}");
}

#[tokio::test]
async fn a_service_with_a_scrape_network_is_told_of_with_where_its_tasks_are() {
    let (double, url) = Double::start().await;
    let cluster = Still::of(World::parse(
        "services:
          - name: exporter
            replicas: 2
            global: true
            labels: { com.df.scrapeNetwork: monitor, com.df.scrapePort: '9100' }
            tasks:
              - { node: n2, networks: { monitor: 10.0.1.6, ingress: 10.9.0.6 } }
              - { node: n1, networks: { monitor: 10.0.1.5 } }
              - { node: n3, networks: { ingress: 10.9.0.7 } }",
    ));
    let reload = targets(&format!("monitor: {{ docker_flow_monitor: '{url}' }}"), &cluster).expect("valid");
    let info = "%5B%5B%22n1%22%2C%2210.0.1.5%22%5D%2C%5B%22n2%22%2C%2210.0.1.6%22%5D%5D";
    let asked = format!("reconfigure?distribute=true&nodeInfo={info}&scrapePort=9100&serviceName=exporter");
    assert_eq!(reload.reload("monitor", Some("exporter")).await, Ok(Reloaded::Done));
    assert_eq!(double.asked(), [format!("GET /v1/docker-flow-monitor/{asked}")]);
}

#[tokio::test]
async fn a_proxy_that_is_told_of_all_services_forgets_those_that_are_gone() {
    let (double, url) = Double::start().await;
    let cluster = Still::of(World::parse(
        "services:
          - { name: shop_web, replicas: 1, labels: { com.docker.stack.namespace: shop, com.df.shortName: 'true', com.df.notify: 'true' }, tasks: [] }
          - { name: quiet, replicas: 1, labels: {}, tasks: [] }",
    ));
    let yaml = format!("proxy: {{ docker_flow_proxy: '{url}' }}\nmonitor: {{ docker_flow_monitor: '{url}' }}");
    let reload = targets(&yaml, &cluster).expect("valid");
    let asks = "GET /v1/docker-flow-proxy/config?type=json";
    let told = "GET /v1/docker-flow-proxy/reconfigure?distribute=true&replicas=1&serviceName=web";
    let gone = "GET /v1/docker-flow-proxy/remove?distribute=true&serviceName=gone";
    let named = "GET /v1/docker-flow-proxy/remove?aclName=01-named&distribute=true&serviceName=named";
    for (has, asked, expected) in [
        ("null", vec![asks, told], Ok(())),
        (r#"{"web":{"ServiceName":"web","AclName":"web"},"quiet":{"ServiceName":"quiet"}}"#, vec![asks, told], Ok(())),
        (r#"{"gone":{"Replicas":2,"ServiceDest":null,"Unknown":[1]}}"#, vec![asks, told, gone], Ok(())),
        (r#"{"named":{"ServiceName":"named","AclName":"01-named"}}"#, vec![asks, told, named], Ok(())),
        // In the proxy's own settings, and on another cluster.
        (r#"{"env":{"ServiceName":"env","Replicas":-1}}"#, vec![asks, told], Ok(())),
        (r#"{"far":{"ServiceName":"far","ServiceDest":[{"OutboundHostname":"e.x"}]}}"#, vec![asks, told], Ok(())),
        ("<html>", vec![asks, told], Err("no list of services")),
    ] {
        double.has(has);
        let answer = reload.reload("proxy", None).await;
        assert_eq!(double.asked(), asked, "{has}");
        match (answer, expected) {
            (Ok(Reloaded::Done), Ok(())) => {}
            (Err(error), Err(says)) => assert!(error.message.contains(says), "{error}"),
            (found, expected) => panic!("{has}: found {found:?}, expected {expected:?}"),
        }
    }
    // Without a service to tell of nothing is removed: no services at all are no proof that all of them are gone.
    double.has(r#"{"gone":{"ServiceName":"gone"}}"#);
    cluster.becomes(World::default());
    assert!(reload.reload("proxy", None).await.is_err());
    assert_eq!(double.asked(), [asks]);
    // The monitor cannot be asked.
    cluster.becomes(one_service());
    assert_eq!(reload.reload("monitor", None).await, Ok(Reloaded::Done));
    assert_eq!(double.asked().len(), 1);
}

#[tokio::test]
async fn a_rendering_that_changes_nothing_runs_and_tells_nothing() {
    let (double, url) = Double::start().await;
    let dir = folder(NAMES);
    let ran = dir.path().join("ran");
    let check =
        format!("check: [sh, -c, 'echo x >> {}', '{{output}}'], then: {{ http: '{url}/-/reload' }}", ran.display());
    let cluster = Still::of(one_service());
    let reload = targets(&template(dir.path(), &format!(", {check}")), &cluster).expect("valid");
    let runs = || std::fs::read_to_string(&ran).unwrap_or_default().lines().count();
    for (expected, count) in [(Reloaded::Done, 1), (Reloaded::Unchanged, 1), (Reloaded::Unchanged, 1)] {
        assert_eq!(reload.reload("file", None).await, Ok(expected));
        assert_eq!(runs(), count);
    }
    assert_eq!(double.asked(), ["POST /-/reload"]);
    assert_eq!(text(dir.path()).as_deref(), Some("web\n"));
    let mode = || std::fs::metadata(dir.path().join("a.cfg")).expect("there").permissions().mode() & 0o777;
    std::fs::set_permissions(dir.path().join("a.cfg"), std::fs::Permissions::from_mode(0o640)).expect("set");
    cluster.becomes(World::default());
    assert_eq!(reload.reload("file", None).await, Ok(Reloaded::Done));
    assert_eq!((text(dir.path()).as_deref(), double.asked().len()), (Some(""), 1));
    assert_eq!(mode(), 0o640, "as readable as the one before");
    assert_eq!(left(dir.path()), ["ran"]);
}

#[tokio::test]
async fn what_does_not_pass_its_check_leaves_the_old_file_in_force() {
    let (double, url) = Double::start().await;
    for (check, kind, reason, says) in [
        (
            "[sh, -c, 'test ! -s $0 || { echo \"line 1: bad word\" >&2; cat $0; exit 3; }', '{output}']",
            ErrorKind::Permanent,
            ErrorReason::Refused,
            "line 1: bad word\nweb",
        ),
        ("[no-such-checker, '{output}']", ErrorKind::Permanent, ErrorReason::Invalid, "no-such-checker"),
        ("[sh, -c, 'exec sleep 60', '{output}']", ErrorKind::Transient, ErrorReason::Timeout, "did not end within"),
    ] {
        let dir = folder(NAMES);
        std::fs::write(dir.path().join("a.cfg"), "old\n").expect("written");
        let more = format!(", check: {check}, then: {{ http: '{url}' }}, timeout: 2s");
        let reload = targets(&template(dir.path(), &more), &Still::of(one_service())).expect("valid");
        let error = reload.reload("file", None).await.expect_err(check);
        assert_eq!((error.kind, error.reason), (kind, reason), "{error}");
        assert!(error.message.contains(says) && error.message.contains("stays in force"), "{error}");
        assert_eq!(text(dir.path()).as_deref(), Some("old\n"));
        assert_eq!((left(dir.path()), double.asked()), (vec![], vec![]));
    }
}

#[tokio::test]
async fn whoever_was_not_told_is_told_the_next_time_by_another_process_too() {
    let (double, url) = Double::start().await;
    let dir = folder(NAMES);
    let more = format!(", then: {{ http: '{url}/-/reload' }}");
    let cluster = Still::of(one_service());
    double.answers(500);
    for _ in 0..2 {
        // Each a process of its own: what is due is remembered on the disk.
        let reload = targets(&template(dir.path(), &more), &cluster).expect("valid");
        let error = reload.reload("file", None).await.expect_err("it is not told");
        assert_eq!(error.kind, ErrorKind::Transient);
        assert!(error.message.contains("is in place") && error.message.contains("tells again"), "{error}");
        assert_eq!(text(dir.path()).as_deref(), Some("web\n"));
    }
    double.answers(200);
    let reload = targets(&template(dir.path(), &more), &cluster).expect("valid");
    assert_eq!(reload.reload("file", None).await, Ok(Reloaded::Done));
    assert_eq!(reload.reload("file", None).await, Ok(Reloaded::Unchanged));
    assert_eq!((double.asked().len(), left(dir.path())), (3, vec![]));
}

#[tokio::test]
async fn a_signal_a_line_and_a_command_reach_whoever_reads_the_file() {
    let dir = folder(NAMES);
    let path = dir.path().display();
    let script = format!(
        "trap 'echo told > {path}/told; exit' USR1; echo $$ > {path}/pid.tmp; mv {path}/pid.tmp {path}/pid; while :; do sleep 0.05; done"
    );
    let mut process = std::process::Command::new("sh").args(["-c", &script]).spawn().expect("a shell");
    while !dir.path().join("pid").exists() {
        tokio::task::yield_now().await;
    }
    let listener = tokio::net::UnixListener::bind(dir.path().join("socket")).expect("bound");
    let program = tokio::spawn(async move {
        let mut lines = Vec::new();
        for answer in ["Unknown command: reload\n", "Success=1\n"] {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut line = String::new();
            stream.read_to_string(&mut line).await.expect("a line");
            stream.write_all(answer.as_bytes()).await.expect("answered");
            lines.push(line);
        }
        lines
    });
    let told = |then: String| {
        std::fs::remove_file(dir.path().join("a.cfg")).ok();
        targets(&template(dir.path(), &format!(", then: {then}")), &Still::of(one_service())).expect("valid")
    };
    let signal = format!("{{ signal: {{ pid_file: {path}/pid, name: USR1 }} }}");
    assert_eq!(told(signal.clone()).reload("file", None).await, Ok(Reloaded::Done));
    process.wait().expect("it ends");
    assert_eq!(std::fs::read_to_string(dir.path().join("told")).expect("told"), "told\n");
    let error = told(signal).reload("file", None).await.expect_err("it has ended");
    assert_eq!((error.kind, error.reason), (ErrorKind::Transient, ErrorReason::NotFound), "{error}");
    for pid in ["0", "-1", "1", "many"] {
        std::fs::write(dir.path().join("pid"), pid).expect("written");
        let error =
            told(format!("{{ signal: {{ pid_file: {path}/pid }} }}")).reload("file", None).await.expect_err(pid);
        assert!(error.message.contains("no number of a process"), "{error}");
    }
    let socket = format!("{{ socket: {{ path: {path}/socket, line: reload }} }}");
    let error = told(socket.clone()).reload("file", None).await.expect_err("it does not know the line");
    assert!(error.message.contains("Unknown command: reload"), "{error}");
    assert_eq!(told(socket).reload("file", None).await, Ok(Reloaded::Done));
    assert_eq!(program.await.expect("no panic"), ["reload\n", "reload\n"]);
    assert_eq!(told(format!("{{ command: [touch, '{path}/ran'] }}")).reload("file", None).await, Ok(Reloaded::Done));
    assert!(dir.path().join("ran").exists());
    let error = told("{ command: [sh, -c, 'echo why >&2; exit 1'] }".into()).reload("file", None).await.expect_err("1");
    assert!(error.message.contains("why"), "{error}");
}

#[tokio::test]
async fn no_value_of_a_label_breaks_out() {
    let bad = "a\n    bind :1";
    let world = |value: &str| {
        let value = serde_json::to_string(value).expect("JSON");
        World::parse(&format!(
            "nodes: [{{ id: n1, name: n1, role: worker, availability: active, state: ready, address: 10.0.0.1, labels: {{}} }}]\n\
             services: [{{ name: web, replicas: 1, labels: {{ x: {value}, com.df.port: {value}, com.df.scrapePort: {value} }}, tasks: [] }}]"
        ))
    };
    let named = "label x of service web";
    for (source, value, expected) in [
        ("{{ services[0].labels.x }}", bad, Err(named)),
        ("{{ services[0].labels.x }}", "a b", Err("use a filter such as haproxy_word")),
        ("{{ services[0].labels.x }}", "{{ 7*7 }}", Err(named)),
        ("{{ services[0].labels.x }}", "plain-1", Ok("plain-1")),
        ("{{ services[0].labels.x | haproxy_word }}", bad, Err(named)),
        ("{{ services[0].labels.x | haproxy_word }}", "{{ 7*7 }}", Ok("'{{ 7*7 }}'")),
        ("{{ services[0].labels.x | nginx_word }}", "$host", Err(named)),
        ("{{ services[0].labels.x | yaml }}", bad, Ok("\"a\\n    bind :1\"")),
        ("{{ services[0].labels.x | split(',') | first | name }}", "a b,c", Err(named)),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(services[0].labels.x) }}", "a", Ok("<a>")),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(services[0].labels.x) }}", bad, Err(named)),
        ("{% set y %}{{ services[0].labels.x }}{% endset %}{{ y }}", bad, Err(named)),
        ("{{ services[0].labels }}", "a", Err("expected text or a number")),
        ("{{ services[0].labels.y }}", "a", Err("undefined")),
        ("{{ routing() }}", bad, Err("label com.df.port of service web")),
        ("{{ servers(services[0], 'com.df.scrapePort') }}", bad, Err("label com.df.scrapePort of service web")),
        ("{{ fail('no ' ~ services[0].labels.x) }}", "way", Err("no way")),
        ("{% for a in range(10000) %}{% for b in range(10000) %}{{ b }}{% endfor %}{% endfor %}", "a", Err("fuel")),
        ("{% include 'other' %}", "a", Err("a.j2:1")),
        ("\n{% if %}", "a", Err("a.j2:2")),
    ] {
        let dir = folder(source);
        let reload = targets(&template(dir.path(), ""), &Still::of(world(value))).expect("valid");
        match (reload.reload("file", None).await, expected) {
            (Ok(_), Ok(expected)) => assert_eq!(text(dir.path()).as_deref(), Some(expected), "{source}"),
            (Err(error), Err(expected)) => {
                assert_eq!((error.kind, error.reason), (ErrorKind::Permanent, ErrorReason::Invalid), "{source}");
                assert!(error.message.contains(expected) && !error.message.contains('\n'), "{source}: {error}");
                assert_eq!((text(dir.path()), left(dir.path())), (None, vec![]));
            }
            (found, expected) => panic!("{source}: found {found:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn the_shipped_templates_render_as_they_did() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates");
    let worlds = [("world", World::shipped as fn() -> World), ("empty", World::default)];
    let mut seen = 0;
    for entry in std::fs::read_dir(bench::shipped_template("")).expect("the shipped templates").flatten() {
        let template = entry.file_name().to_string_lossy().into_owned();
        for (name, world) in worlds {
            let text = rendered(&template, &Still::of(world()), "").await.unwrap_or_else(|error| panic!("{error}"));
            let golden = folder.join(format!("{}.{name}", template.trim_end_matches(".j2")));
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&golden, &text).expect("written");
            }
            assert_eq!(text, std::fs::read_to_string(&golden).unwrap_or_default(), "{}", golden.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 12);
}

#[tokio::test]
async fn a_wrong_target_is_refused_at_once() {
    for (yaml, expected) in [
        ("a: { docker_flow_proxy: 'proxy:8080/hush' }", "reload.a.docker_flow_proxy is no http://"),
        ("a: { template: x, output: y, then: { http: 'ftp://hush' } }", "reload.a.then.http is no http://"),
        ("a: { template: x, output: .. }", "reload.a.output is no path of a file"),
        ("{ a: { template: x, output: y }, b: { template: z, output: y } }", "reload.b.output is that of reload.a"),
    ] {
        let error = targets(yaml, &Still::of(World::default())).err().expect(yaml);
        assert_eq!((error.kind, error.reason), (ErrorKind::Permanent, ErrorReason::Invalid));
        assert!(error.message.contains(expected) && !error.message.contains("hush"), "{error}");
    }
}
