//! A machine's part of joining, `deploy/aws/user-data.sh`, on a Docker and a runbookd of the test's own. Wants bash, curl and python3, as the machine does.

use axum::Json;
use axum::Router;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const TOKEN: &str = "a-token-for-machines";
const SWARM_TOKEN: &str = "SWMTKN-1-of-the-test";

/// What Docker and runbookd were asked.
#[derive(Default)]
struct Told {
    in_swarm: bool,
    /// Questions to runbookd that had the token.
    asked: Vec<String>,
    joined: Vec<Value>,
}

/// A machine that has just started, and a runbookd that lets workers join.
struct Machine {
    dir: tempfile::TempDir,
    runbookd: String,
    told: Arc<Mutex<Told>>,
}

/// How a run of the script ended, with all that it printed.
struct Ended {
    code: Option<i32>,
    said: String,
}

fn docker(told: &Arc<Mutex<Told>>) -> Router {
    let (info, join) = (told.clone(), told.clone());
    let info = move || async move {
        let state = if info.lock().expect("nobody panicked").in_swarm { "active" } else { "inactive" };
        Json(json!({ "Swarm": { "LocalNodeState": state } }))
    };
    let join = move |Json(body): Json<Value>| async move {
        let mut told = join.lock().expect("nobody panicked");
        told.joined.push(body);
        told.in_swarm = true;
    };
    Router::new().route("/_ping", get(|| async { "OK" })).route("/info", get(info)).route("/swarm/join", post(join))
}

fn runbookd(told: &Arc<Mutex<Told>>) -> Router {
    let told = told.clone();
    let join = move |RawQuery(query): RawQuery, headers: HeaderMap| async move {
        let query = query.unwrap_or_default();
        let token = headers.get("authorization").and_then(|value| value.to_str().ok());
        if token != Some(&*format!("Bearer {TOKEN}")) {
            return (StatusCode::UNAUTHORIZED, Json(Value::Null));
        }
        told.lock().expect("nobody panicked").asked.push(query.clone());
        match query.as_str() {
            "role=worker" => {
                (StatusCode::OK, Json(json!({ "managers": ["10.0.0.1:2377", "10.0.0.2:2377"], "token": SWARM_TOKEN })))
            }
            _ => (StatusCode::FORBIDDEN, Json(Value::Null)),
        }
    };
    Router::new().route("/api/v1/nodes/join", get(join))
}

impl Machine {
    async fn start() -> Machine {
        let dir = tempfile::tempdir().expect("a directory");
        let told = Arc::<Mutex<Told>>::default();
        let socket = tokio::net::UnixListener::bind(dir.path().join("docker.sock")).expect("bound");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (docker, runbookd) = (docker(&told), runbookd(&told));
        tokio::spawn(async move { axum::serve(socket, docker).await });
        tokio::spawn(async move { axum::serve(listener, runbookd).await });
        std::fs::create_dir(dir.path().join("bin")).expect("made");
        let machine = Machine { dir, runbookd: format!("http://{address}"), told };
        // Each notes how it was called; the environment is what all that is started can read.
        machine.program("systemctl", "");
        for name in ["curl", "python3"] {
            machine.program(name, &format!("env >>\"$CALLS\"\nPATH=$REST exec {name} \"$@\"\n"));
        }
        std::fs::write(machine.path("token"), format!("{TOKEN}\n")).expect("written");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self, name: &str, more: &str) {
        let path = self.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho \"{name} $*\" >>\"$CALLS\"\n{more}")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// Runs the script with these variables set, or not set, besides those that a machine needs.
    async fn run(&self, env: &[(&str, Option<&str>)]) -> Ended {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/aws/user-data.sh");
        let path = std::env::var("PATH").expect("there is one");
        let mut command = tokio::process::Command::new("bash");
        // With a trace, as somebody may ask for who looks for a fault.
        command.arg("-x").arg(script).env("PATH", format!("{}:{path}", self.path("bin").display())).env("REST", path);
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command
            .env("CALLS", self.path("calls"))
            .env("RUNBOOKD_URL", &self.runbookd)
            .env("RUNBOOKD_JOIN_TOKEN_FILE", self.path("token"))
            .env("RUNBOOKD_INSTANCE", "i-7")
            // It asks once, and gives up.
            .env("RUNBOOKD_WAIT", "1")
            .env("RUNBOOKD_DOCKER_SOCKET", self.path("docker.sock"))
            .env("RUNBOOKD_DAEMON_JSON", self.path("etc/daemon.json"));
        for (name, value) in env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.output().await.expect("bash is there");
        let said = [output.stdout, output.stderr].concat();
        Ended { code: output.status.code(), said: String::from_utf8(said).expect("UTF-8") }
    }

    /// Arguments and environment of every program that it has started.
    fn calls(&self) -> String {
        std::fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    fn restarts(&self) -> usize {
        self.calls().matches("systemctl restart docker").count()
    }

    fn daemon(&self, text: &str) {
        std::fs::create_dir_all(self.path("etc")).expect("made");
        std::fs::write(self.path("etc/daemon.json"), text).expect("written");
    }

    fn labelled(&self) -> Value {
        let text = std::fs::read_to_string(self.path("etc/daemon.json")).expect("it is there");
        serde_json::from_str(&text).expect("JSON")
    }

    fn counts(&self) -> (usize, usize) {
        let told = self.told.lock().expect("nobody panicked");
        (told.asked.len(), told.joined.len())
    }
}

#[tokio::test]
async fn a_machine_joins_with_its_label_and_tells_no_token() {
    let by_file = [("RUNBOOKD_ROLE", Some("worker"))];
    let by_environment = [("RUNBOOKD_JOIN_TOKEN_FILE", None), ("RUNBOOKD_JOIN_TOKEN", Some(TOKEN))];
    for env in [&by_file[..], &by_environment[..]] {
        let machine = Machine::start().await;
        let Ended { code, said } = machine.run(env).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("joined as worker"), "{said}");
        let body = json!({ "ListenAddr": "0.0.0.0:2377", "RemoteAddrs": ["10.0.0.1:2377", "10.0.0.2:2377"], "JoinToken": SWARM_TOKEN });
        assert_eq!(machine.told.lock().expect("nobody panicked").joined, [body]);
        assert_eq!((machine.labelled(), machine.restarts()), (json!({ "labels": ["runbookd.instance=i-7"] }), 1));
        let calls = machine.calls();
        assert!(calls.contains("--unix-socket"), "calls are noted: {calls}");
        for told in [&said, &calls] {
            assert!(!told.contains(TOKEN) && !told.contains(SWARM_TOKEN), "{told}");
        }
        let Ended { code, said } = machine.run(env).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("in a Swarm already"), "{said}");
        assert_eq!((machine.counts(), machine.restarts()), ((1, 1), 1), "nothing is done twice");
    }
}

#[tokio::test]
async fn what_else_the_engine_is_configured_with_stays() {
    let machine = Machine::start().await;
    machine.daemon(r#"{ "log-level": "warn", "labels": ["zone=a", "runbookd.instance=i-of-the-image"] }"#);
    let Ended { code, said } = machine.run(&[]).await;
    assert_eq!(code, Some(0), "{said}");
    let expected = json!({ "log-level": "warn", "labels": ["zone=a", "runbookd.instance=i-7"] });
    assert_eq!((machine.labelled(), machine.restarts()), (expected, 1));
    // Had the image the right one, the engine need not be restarted.
    machine.told.lock().expect("nobody panicked").in_swarm = false;
    let Ended { code, said } = machine.run(&[]).await;
    assert_eq!((code, machine.restarts(), machine.counts()), (Some(0), 1, (2, 2)), "{said}");
}

#[tokio::test]
async fn what_cannot_be_right_is_refused_before_anything_is_asked() {
    let machine = Machine::start().await;
    for (env, words) in [
        (("RUNBOOKD_URL", None), "set RUNBOOKD_URL"),
        (("RUNBOOKD_URL", Some("runbookd.example.com")), "set RUNBOOKD_URL"),
        (("RUNBOOKD_ROLE", Some("root")), "expected worker or manager"),
        (("RUNBOOKD_JOIN_TOKEN_FILE", None), "set RUNBOOKD_JOIN_TOKEN_FILE"),
        (("RUNBOOKD_JOIN_TOKEN_FILE", Some("/dev/null")), "set RUNBOOKD_JOIN_TOKEN_FILE"),
        (("RUNBOOKD_JOIN_TOKEN_FILE", Some("/nonexistent")), "cannot be read"),
        (("RUNBOOKD_INSTANCE", Some("i-7\", \"other")), "other characters"),
    ] {
        let Ended { code, said } = machine.run(&[env]).await;
        assert_eq!(code, Some(1), "{env:?}: {said}");
        assert!(said.contains(words), "{env:?}: {said}");
    }
    machine.daemon("{ no JSON");
    let Ended { code, said } = machine.run(&[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("daemon.json cannot be given the label"), "{said}");
    assert_eq!((machine.counts(), machine.restarts()), ((0, 0), 0));
}

#[tokio::test]
async fn a_machine_that_may_not_join_gives_up_in_time() {
    let another = [("RUNBOOKD_JOIN_TOKEN_FILE", None), ("RUNBOOKD_JOIN_TOKEN", Some("another"))];
    for (env, asked) in [(&[("RUNBOOKD_ROLE", Some("manager"))][..], 1), (&another[..], 0)] {
        let machine = Machine::start().await;
        let Ended { code, said } = machine.run(env).await;
        assert_eq!((code, machine.counts()), (Some(1), (asked, 0)), "{said}");
        assert!(said.contains("joining: given up after 1 s"), "{said}");
    }
}
