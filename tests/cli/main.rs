//! The program as people start it: the demo, exit codes, messages that say how to mend it.

mod people;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The program with nothing of the caller's environment that it would read, in a directory of its own.
fn runbookd(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runbookd"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RUNBOOKD_")) {
        command.env_remove(name);
    }
    command.args(args).current_dir(dir);
    command
}

fn run(args: &[&str], env: &[(&str, &str)], files: &[(&str, &str)]) -> (i32, String, String) {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("written");
    }
    for name in ["rules", "runbooks"] {
        std::fs::create_dir(dir.path().join(name)).expect("made");
    }
    let Output { status, stdout, stderr } =
        runbookd(dir.path(), args).envs(env.iter().copied()).output().expect("it can be started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("it ended by itself"), text(stdout), text(stderr))
}

#[test]
fn the_demo_shows_what_it_promises_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().expect("a directory");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Another configuration, as the caller may have one, is not used.
    let output = runbookd(root, &["demo", "--exit"])
        .env("TMPDIR", home.path())
        .env("RUNBOOKD_LISTEN", "no address")
        .output()
        .expect("it can be started");
    let (shown, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}\n{errors}");
    for word in ["web: 2 → 3 replicas", "lock: ", "ESCALATION", "kill -9", "having gone on after a restart", "no_rule"]
    {
        assert!(shown.contains(word), "no {word:?} in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "colours although it is no terminal");
    assert_eq!(std::fs::read_dir(home.path()).expect("readable").count(), 0, "files are left behind");
}

#[test]
fn wrong_usage_and_wrong_configuration_end_with_2_and_say_what_is_right() {
    for (args, file, word) in [
        (&["srve"][..], "", "serve"),
        (&["incidents", "show", "x"], "", "i42"),
        (&["incidents", "--state", "opened"], "", "expected one of open, held"),
        (&["config"], "slack: { chanel: x }\n", "did you mean channel?"),
        (&["check"], "listn: x\n", "did you mean listen?"),
    ] {
        let (code, stdout, stderr) = run(args, &[], &[("runbookd.yaml", file)]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(word), "{args:?}: {stderr}");
    }
    let (code, _, stderr) = run(&["approve", "i1"], &[("RUNBOOKD_SERVER", "http://127.0.0.1:1")], &[]);
    assert!(code == 2 && !stderr.contains("--server"), "{stderr}");
    let (code, _, stderr) = run(&["runs"], &[("RUNBOOKD_SERVER", "http://127.0.0.1:1")], &[]);
    assert!(code == 1 && stderr.contains("http://127.0.0.1:1:"), "{stderr}");
    let (code, _, stderr) = run(&["config"], &[("RUNBOOKD_RUNS_POLL_EVERY", "soon")], &[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("RUNBOOKD_RUNS_POLL_EVERY") && stderr.contains("5m"), "{stderr}");
}

#[test]
fn check_points_at_what_of_the_configuration_holds_nothing() {
    let file = "freezes:
  feast:
    when: [\"22:00 - 06:00\", \"2020-12-23 00:00 - 2021-01-02 08:00\"]
    reason: feast
  gone: { when: \"22:00 - 06:00\", reason: x, rules: [nobody] }
";
    let (code, stdout, _) = run(&["check"], &[], &[("runbookd.yaml", file)]);
    assert_eq!(code, 0, "{stdout}");
    for word in ["runbookd.yaml:3:29", "over since 2021-01-02 08:00Z", "runbookd.yaml:5:3", "nobody"] {
        assert!(stdout.contains(word), "no {word:?} in\n{stdout}");
    }
    let file = "bounds: { replicas_min: 5, replicas_max: 2 }\n";
    let (code, _, stderr) = run(&["check"], &[], &[("runbookd.yaml", file)]);
    assert!(code == 2 && stderr.contains("runbookd.yaml:1:25") && stderr.contains("is above"), "{stderr}");
}

#[test]
fn without_ca_certificates_it_says_that_they_are_missing() {
    let env = [("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nonexistent")];
    let (code, _, stderr) = run(&["serve"], &env, &[]);
    assert_ne!(code, 0);
    assert!(stderr.contains("CA certificates"), "{stderr}");
}

#[test]
fn who_reads_no_further_has_read_enough_and_a_full_disk_is_a_failure() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = root.join("rules").display().to_string();
    let runbooks = root.join("runbooks").display().to_string();
    for args in [
        &["config"][..],
        &["config", "--json"],
        &["check", "--rules", &rules, "--runbooks", &runbooks],
        &["explain", "--rules", &rules, "--runbooks", &runbooks, "alertname=X"],
    ] {
        let check = |out: Stdio, code: i32, word: &str| {
            let output = runbookd(dir.path(), args).stdout(out).stderr(Stdio::piped()).output().expect("started");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
            assert!(if word.is_empty() { stderr.is_empty() } else { stderr.contains(word) }, "{args:?}: {stderr}");
        };
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        check(writer.into(), 0, "");
        let full = std::fs::File::options().write(true).open("/dev/full").expect("there is one");
        check(full.into(), 1, "No space left");
    }
}

#[test]
fn the_effective_configuration_is_printed_without_secrets() {
    let env = [("RUNBOOKD_SLACK_TOKEN", "xoxb-hunter2"), ("RUNBOOKD_LISTEN", "127.0.0.1:1"), ("RUNBOOKD_LISTN", "x")];
    let file = "listen: 127.0.0.1:2\ncluster: sim\nalertmanager: { url: 'http://me:hunter2@am:9093' }\n";
    for args in [&["config"][..], &["config", "--json"]] {
        let (code, stdout, stderr) = run(args, &env, &[("runbookd.yaml", file)]);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains("127.0.0.1:1") && stdout.contains("sim"), "{stdout}");
        assert!(stdout.contains("(set, from environment)"), "{stdout}");
        assert!(!stdout.contains("hunter2") && !stderr.contains("hunter2"), "{stdout}{stderr}");
        assert!(stderr.contains("did you mean RUNBOOKD_LISTEN?"), "{stderr}");
    }
}

#[test]
fn a_server_that_is_not_there_or_may_not_start_says_how_to_mend_it() {
    // A port that was free a moment ago.
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let nowhere = &*format!("http://{free}");
    for (args, word) in [
        (&["incidents", "--server", nowhere][..], "runbookd serve"),
        (&["pause", "why", "--server", nowhere], "runbookd serve"),
        (&["runs", "--server", "nowhere"], "http://127.0.0.1:9095"),
        (&["serve", "--cluster", "sim", "--listen", "0.0.0.0:0"], "--insecure"),
        (&["serve", "--cluster", "sim", "--listen", "nowhere"], "127.0.0.1:9095"),
        (&["serve", "--cluster", "sim", "--listen", "127.0.0.1:0", "--journal", "x.db"], "sqlite://"),
        (&["serve", "--cluster", "sim", "--listen", "127.0.0.1:0", "--world", "gone.yaml"], "gone.yaml"),
        (&["demo", "--rules", "gone"], "--rules"),
    ] {
        let (code, stdout, stderr) = run(args, &[], &[]);
        assert_eq!((code, stdout.as_str()), (1, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(word), "{args:?}: {stderr}");
    }
}

#[test]
fn a_catalog_that_is_not_valid_keeps_the_server_from_starting() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["rules", "runbooks"] {
        std::fs::create_dir(dir.path().join(name)).expect("made");
    }
    std::fs::write(dir.path().join("rules/a.yaml"), "rules:\n  - name: a\n    mach: ['x = \"y\"']\n").expect("written");
    let output = runbookd(dir.path(), &["serve", "--cluster", "sim", "--listen", "127.0.0.1:0"]).output();
    let output = output.expect("it can be started");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("a.yaml:3") && stderr.contains("match"), "{stderr}");
    assert!(!dir.path().join("runbookd.db").exists(), "the journal was opened");
}

/// A server in a process of its own. Killed when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(dir: &Path) -> Server {
        Server::with(dir, &[])
    }

    fn with(dir: &Path, env: &[(&str, &str)]) -> Server {
        let mut child = runbookd(dir, &["serve", "--cluster", "sim", "--listen", "127.0.0.1:0"])
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it can be started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().strip_prefix("listening on http://").expect(&line).to_string();
        Server { child, address }
    }

    /// Sends a request and reads the whole answer.
    fn ask(&self, line: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// Asks for readiness until it is as expected; the last answer.
    fn ready(&self, status: &str) -> String {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let answer = self.ask("GET /readyz", "");
            if answer.starts_with(&format!("HTTP/1.1 {status}")) {
                return answer;
            }
            assert!(std::time::Instant::now() < deadline, "{answer}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_second_server_waits_for_the_journal_and_takes_over() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["rules", "runbooks"] {
        std::fs::create_dir(dir.path().join(name)).expect("made");
    }
    let first = Server::start(dir.path());
    first.ready("200");
    let second = Server::start(dir.path());
    let answer = second.ready("503");
    assert!(answer.contains("journal_lock") && answer.contains("\"ready\":false"), "{answer}");
    drop(first);
    second.ready("200");
}

#[test]
fn sigterm_ends_the_server_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["rules", "runbooks"] {
        std::fs::create_dir(dir.path().join(name)).expect("made");
    }
    let mut server = Server::start(dir.path());
    server.ready("200");
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill is there").success());
    let status = server.child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
}

const ON_REQUEST: &str = "rules:
  - { name: greet-on-request, on: manual, match: [event = run, runbook = greet], by: [runbook], runbook: greet }
  - { name: ask-on-request, on: manual, match: [event = run, runbook = hand_over], by: [runbook], runbook: hand_over }
  - { name: fail-on-request, on: manual, match: [event = run, runbook = broken], by: [runbook], runbook: broken }
  - { name: wait-on-request, on: manual, match: [event = run, runbook = slow], by: [runbook], runbook: slow }
";

#[test]
fn run_says_what_became_of_a_request_by_its_exit_code() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["rules", "runbooks"] {
        std::fs::create_dir(dir.path().join(name)).expect("made");
    }
    std::fs::write(dir.path().join("rules/rules.yaml"), ON_REQUEST).expect("written");
    for (name, does) in [
        ("greet", "notify(`hello ${params.whom}`)"),
        ("hand_over", "escalate(\"a person knows better\")"),
        ("broken", "fail(\"this cannot be done\")"),
        ("slow", "sleep(\"1h\")"),
        ("untaken", "log(\"nobody asks\")"),
    ] {
        let text = format!(
            "//! One thing.\nfn defaults() {{ #{{ whom: \"you\", times: 1 }} }}\nfn on_event(event, params) {{ {does}; }}\n"
        );
        std::fs::write(dir.path().join(format!("runbooks/{name}.rhai")), text).expect("written");
    }
    let server = Server::with(dir.path(), &[("RUNBOOKD_TOKEN", "hunter2")]);
    server.ready("200");
    let at = format!("http://{}", server.address);
    let check = |token: &str, args: &[&str], code: i32, words: &[&str]| {
        let args = [&["run"], args, &["--server", &at, "--by", "ann"]].concat();
        let output = runbookd(dir.path(), &args).env("RUNBOOKD_TOKEN", token).output().expect("it can be started");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stdout}{stderr}");
        for word in words {
            assert!(stdout.contains(word) || stderr.contains(word), "{args:?}: no {word:?} in\n{stdout}{stderr}");
        }
        assert!(!stdout.contains("hunter2") && !stderr.contains("hunter2"), "{args:?}: {stdout}{stderr}");
        stdout.into_owned()
    };
    let right = |args: &[&str], code: i32, words: &[&str]| check("hunter2", args, code, words);
    right(&["greet"], 0, &["taken by the rule greet-on-request", "runbookd incidents --label request="]);
    right(&["greet", "--wait", "--set", "whom=bob"], 0, &["hello bob", "resolved"]);
    let shown = right(&["greet", "--wait", "--json"], 0, &[]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((&shown["incidents"][0]["state"], &shown["runs"][0]["state"]), (&"resolved".into(), &"done".into()));
    right(&["hand_over", "--wait"], 1, &["escalated", "a person knows better"]);
    right(&["broken", "--wait"], 1, &["escalated", "this cannot be done"]);
    right(&["slow", "--wait", "--timeout", "1ms"], 1, &["has not ended within 1ms", "it goes on"]);
    // Asked for wrongly: nothing is journalled, and the words say what is right.
    right(&["gret"], 2, &["did you mean \"greet\"?"]);
    right(&["untaken"], 2, &["no rule with `on: manual` takes"]);
    right(&["greet", "--set", "times=often"], 2, &["must be a whole number"]);
    right(&["greet", "--set", "a=1", "--set", "a=2"], 2, &["names something twice"]);
    right(&["greet", "--set", "whom"], 2, &["expected NAME=VALUE"]);
    for token in ["", "another"] {
        check(token, &["greet", "--wait"], 1, &["wants a token", "RUNBOOKD_TOKEN"]);
    }
}
