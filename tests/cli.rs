//! The program as people start it: the demo, exit codes, messages that say how to mend it.

use std::path::Path;
use std::process::{Command, Output};

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
    let (code, _, stderr) = run(&["config"], &[("RUNBOOKD_RUNS_POLL_EVERY", "soon")], &[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("RUNBOOKD_RUNS_POLL_EVERY") && stderr.contains("5m"), "{stderr}");
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
    // Nothing listens on the discard port of loopback.
    let nowhere = "http://127.0.0.1:9";
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
        assert_eq!(code, 1, "{args:?}: {stdout}{stderr}");
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
