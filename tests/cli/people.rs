//! What people say to a running server, and what they read: undo, rules, approvals and questions, freezes and the brake.

use crate::{Server, runbookd};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const CONFIG: &str = "
world: world.yaml
groups: { sre: [ann, bob] }
";

const WORLD: &str = "
services:
  web: { image: 'shop/web:1', replicas: 2, behaviour: { start: 1ms } }
  api: { image: 'shop/api:1', replicas: 1, behaviour: { start: 1ms } }
";

/// A server with these files, and what is said to it.
struct Bed {
    dir: tempfile::TempDir,
    server: Server,
    at: String,
}

impl Bed {
    fn new(config: &str, rules: &str, runbooks: &[(&str, &str)]) -> Bed {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        for name in ["rules", "runbooks"] {
            std::fs::create_dir(dir.path().join(name)).expect("made");
        }
        write("runbookd.yaml", &format!("{CONFIG}{config}"));
        write("world.yaml", WORLD);
        write("rules/rules.yaml", rules);
        for (name, does) in runbooks {
            let text = format!("//! One thing.\nfn on_firing(alert, params) {{ {does} }}\n");
            write(&format!("runbooks/{name}.rhai"), &text);
        }
        let server = Server::start(dir.path());
        server.ready("200");
        let at = format!("http://{}", server.address);
        Bed { dir, server, at }
    }

    fn say(&self, args: &[&str]) -> (Option<i32>, String, String) {
        said(self.dir.path(), &[args, &["--server", &self.at]].concat())
    }

    /// Says this as ann; what is printed, by which exit code it goes to standard output or error, has all of these words. Returns it.
    fn check(&self, args: &[&str], code: i32, words: &[&str]) -> String {
        let (is, stdout, stderr) = self.say(args);
        assert_eq!(is, Some(code), "{args:?}: {stdout}{stderr}");
        for word in words {
            assert!(stdout.contains(word) || stderr.contains(word), "{args:?}: no {word:?} in\n{stdout}{stderr}");
        }
        assert_eq!(stderr.is_empty(), code == 0 || stdout.contains("refused: "), "{args:?}: {stdout}{stderr}");
        stdout
    }

    /// The same for what asks no server.
    fn check_here(&self, args: &[&str], words: &[&str]) -> String {
        let (is, stdout, stderr) = said(self.dir.path(), args);
        assert_eq!((is, &*stderr), (Some(0), ""), "{args:?}: {stdout}");
        for word in words {
            assert!(stdout.contains(word), "{args:?}: no {word:?} in\n{stdout}");
        }
        stdout
    }

    /// Another server, with another configuration, takes over.
    fn restart(&mut self, config: &str) {
        let file = self.dir.path().join("runbookd.yaml");
        std::fs::write(file, format!("{CONFIG}{config}")).expect("written");
        self.server = Server::start(self.dir.path());
        self.server.ready("200");
        self.at = format!("http://{}", self.server.address);
    }

    fn json(&self, args: &[&str]) -> Value {
        let (code, stdout, stderr) = self.say(&[args, &["--json"]].concat());
        assert!(code.is_some() && stderr.is_empty(), "{args:?}: {stderr}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{args:?}: {error} in {stdout}"))
    }

    fn fire(&self, alertname: &str, service: &str) {
        let labels = json!({ "alertname": alertname, "service": service });
        let payload = json!({
            "version": "4", "groupKey": format!("{alertname} {service}"), "receiver": "runbookd", "status": "firing",
            "truncatedAlerts": 0, "groupLabels": labels, "commonLabels": labels, "commonAnnotations": {}, "externalURL": "",
            "alerts": [{
                "status": "firing", "labels": labels, "annotations": {}, "startsAt": "2026-01-01T00:00:00Z",
                "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "",
            }],
        });
        let answer = self.server.ask("POST /api/v1/alertmanager", &payload.to_string());
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    }

    /// Asks until it is so; what it is then.
    fn until(&self, args: &[&str], so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (_, stdout, stderr) = self.say(&[args, &["--json"]].concat());
            let seen: Value = serde_json::from_str(&stdout).unwrap_or_default();
            if so(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{args:?}: {stdout}{stderr}");
        }
    }

    fn until_incident(&self, id: &str, state: &str) -> Value {
        self.until(&["incidents", "show", id], |incident| incident["state"] == state)
    }
}

fn said(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = runbookd(dir, args).env("USER", "ann").output().expect("it can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn undo_is_shown_first_and_done_by_its_plan() {
    let rules = "rules:
  - { name: scale-out, match: [alertname = Slow], by: [service], runbook: scale_out, allow: [{ scale: '{{ service }}' }] }
";
    let bed = Bed::new("", rules, &[("scale_out", "scale(alert.labels.service, 3);")]);
    bed.fire("Slow", "web");
    bed.until_incident("i1", "verifying");

    let shown = bed.check(&["undo", "r1"], 0, &["web: 2 → 3 replicas", "web: 3 → 2 replicas", "does"]);
    let plan = bed.json(&["undo", "r1"]);
    assert_eq!((&plan["steps"][0]["undo"], &plan["refused"]), (&json!("does"), &Value::Null), "{plan}");
    let hash = plan["plan"].as_str().expect("a hash");
    assert!(shown.contains(&format!("to carry it out: runbookd undo r1 --yes --plan {}\n", &hash[..8])), "{shown}");
    let hash = &hash[..8];

    bed.check(&["undo", "r9"], 1, &["there is no run r9"]);
    bed.check(&["undo", "i1"], 2, &["r42"]);
    bed.check(&["undo", "r1", "--plan", hash], 2, &["--yes"]);
    bed.check(&["undo", "r1", "--yes", "--plan", "12345678"], 1, &["the plan to undo r1 is another by now"]);
    bed.check(&["undo", "r1", "--yes", "--plan", &hash[..7]], 2, &["at least the first 8 letters"]);
    bed.check(&["undo", "r1", "--yes", "--plan", hash], 1, &["service web is being worked on by incident i1"]);
    bed.check(&["incidents", "close", "i1", "--reason", "by hand"], 0, &["closed by ann: by hand"]);
    bed.check(&["pause", "let me look"], 0, &["runbookd resume"]);
    bed.check(&["undo", "r1", "--yes", "--plan", hash], 1, &["r1 cannot be undone now", "runbookd resume"]);
    let stopped = ["paused (by ann: let me look); it goes on with `runbookd resume`", "carry it out after that"];
    bed.check(&["undo", "r1"], 0, &stopped);
    bed.check(&["resume"], 0, &["resumed"]);
    bed.check(&["freeze", "--for", "1h", "--reason", "x"], 0, &["f1"]);
    bed.check(&["undo", "r1"], 0, &["frozen (f1 by ann", "runbookd unfreeze"]);
    bed.check(&["unfreeze", "f1"], 0, &["f1 has ended"]);

    let done = ["started: incident i2, run r2", "runbookd incidents show i2"];
    let printed = bed.check(&["undo", "r1", "--yes", "--plan", hash, "--reason", "worse"], 0, &done);
    assert!(!printed.contains("to carry it out"), "{printed}");
    bed.until_incident("i2", "resolved");
    bed.check(&["runs", "show", "r2"], 0, &["it undoes run r1", "web: 3 → 2 replicas"]);

    // It has been undone: there is nothing left to do.
    bed.check(&["undo", "r1"], 1, &["as_before", "refused: there is nothing that could be put back"]);
    let plan = bed.json(&["undo", "r1"]);
    assert!(plan["refused"].as_str().is_some_and(|why| why.contains("nothing")), "{plan}");
    bed.check(&["undo", "r1", "--yes"], 1, &["refused: there is nothing"]);
    // The undo can be undone, and --yes alone shows its plan and does it.
    bed.check(&["undo", "r2", "--yes"], 0, &["web: 2 → 3 replicas", "started: incident i3, run r3"]);
    let started = bed.until_incident("i3", "resolved");
    assert_eq!(started["labels"]["run"], "r2", "{started}");
}

#[test]
fn rules_are_listed_and_their_breakers_and_trust_are_decided() {
    let rules = "rules:
  - { name: flaky, match: [alertname = Slow], by: [service], runbook: broken, guards: { breaker: 1 } }
  - { name: careful, match: [alertname = Leak], by: [service], runbook: quiet, mode: earned }
  - { name: for-people, match: [alertname = Odd], by: [service] }
";
    let bed = Bed::new("", rules, &[("broken", "fail(\"no\");"), ("quiet", "log(\"nothing\");")]);
    bed.check(&["rules"], 0, &["RULE", "flaky", "closed", "earned: asks, 0 in a row", "for-people"]);
    bed.check(&["rules", "close-breaker", "flaky"], 1, &["the breaker of rule flaky is not open"]);
    bed.fire("Slow", "web");
    bed.until_incident("i1", "escalated");
    let words = ["flaky starts no run since 2", ": 1 attempt in a row", "runbookd rules close-breaker flaky"];
    let listed = bed.check(&["rules", "list"], 0, &words);
    let flaky = listed.lines().find(|line| line.trim_start().starts_with("flaky ")).expect("the rule");
    assert!(flaky.contains("open"), "{listed}");
    let rules = bed.json(&["rules"])["rules"].clone();
    assert_eq!((&rules[0]["name"], &rules[0]["breaker"]["after"]), (&json!("flaky"), &json!(1)), "{rules}");

    let closed = ["the breaker of rule flaky is closed: it starts runs again"];
    bed.check(&["rules", "close-breaker", "flaky", "--reason", "mended"], 0, &closed);
    assert_eq!(bed.json(&["rules"])["rules"][0]["breaker"], Value::Null);

    bed.check(&["rules", "promote", "careful", "--reason", "watched it"], 0, &["rule careful runs by itself"]);
    bed.check(&["rules"], 0, &["earned: runs"]);
    let demoted = bed.json(&["rules", "demote", "careful"]);
    assert_eq!((&demoted["trusted"], &demoted["why"]), (&json!(false), &json!("by ann")), "{demoted}");
    bed.check(&["rules", "demote", "careful"], 0, &["rule careful asks before it runs"]);

    bed.check(&["rules", "promote", "flaky"], 1, &["says `mode: auto`", "only `mode: earned`"]);
    for verb in ["close-breaker", "promote", "demote"] {
        bed.check(&["rules", verb, "flacky"], 1, &["there is no rule \"flacky\"", "did you mean flaky?"]);
        bed.check(&["rules", verb, "some/thing else"], 1, &["there is no rule", "`runbookd rules` lists them"]);
        bed.check(&["rules", verb], 2, &["<NAME>"]);
    }
    bed.check(&["rules", "promot", "careful"], 2, &["promote"]);
}

#[test]
fn a_plan_and_a_question_wait_for_a_word() {
    let rules = "rules:
  - name: scale-out
    match: [alertname = Slow]
    by: [service]
    runbook: scale_out
    allow: [{ scale: '{{ service }}' }]
    mode: approve
    approve: { by: [sre], people: 2 }
  - { name: asks, match: [alertname = Odd], by: [service], runbook: asks }
";
    let asks = "log(ask(\"Is it \\\"odd\\\"?\", \"30m\", [\"yes\", \"it isn't\"]));";
    let bed = Bed::new("", rules, &[("scale_out", "scale(alert.labels.service, 3);"), ("asks", asks)]);
    bed.check(&["approvals"], 0, &["nothing waits for anybody's word"]);
    assert_eq!(bed.json(&["approvals"]), json!({ "approvals": [] }));
    bed.fire("Slow", "web");
    bed.until_incident("i1", "awaiting_approval");

    let waits = bed.json(&["approvals"]);
    let hash = &waits["approvals"][0]["approval"]["plan"].as_str().expect("a plan")[..8];
    let words = ["incident i1: rule scale-out", "by sre, 2 needed", "web: 2 → 3 replicas"];
    let shown = bed.check(&["approvals"], 0, &words);
    let commands = format!("runbookd approve i1 --plan {hash}    or: runbookd deny i1");
    assert!(shown.contains(&commands), "{shown}");

    bed.check(&["runs"], 0, &["done (rehearsal)", "r1 is a rehearsal: it changed nothing"]);
    bed.check(&["incidents", "show", "i1"], 0, &["done (rehearsal)", "r1 is a rehearsal"]);
    bed.check(&["runs", "show", "r1"], 0, &["a rehearsal of scale_out.on_firing", "it changed nothing"]);
    bed.check(&["incidents", "ack", "i1"], 0, &["ann has it"]);
    let acked = bed.check(&["incidents"], 0, &["ACKED BY"]);
    assert!(acked.lines().any(|line| line.contains("i1") && line.contains(" ann ")), "{acked}");
    bed.check(&["approve", "i1"], 2, &["--plan"]);
    bed.check(&["approve", "one", "--plan", hash], 2, &["i42"]);
    bed.check(&["approve", "i9", "--plan", hash], 1, &["there is no open incident i9"]);
    for wrong in ["00000000", &hash[..4]] {
        let words = [&format!("in i1 is the plan {hash}"), "look at it first"];
        bed.check(&["approve", "i1", "--plan", wrong], 1, &words);
    }
    bed.check(&["approve", "i1", "--plan", hash, "--by", "carol"], 1, &["carol may not answer for i1", "sre may"]);
    bed.check(&["answer", "i1", "yes"], 1, &["i1 waits for a plan to be approved or denied"]);

    bed.check(&["approve", "i1", "--plan", hash], 0, &["approved; that is 1 of 2 who must", "awaiting_approval"]);
    bed.check(&["approve", "i1", "--plan", hash], 1, &["ann has approved it already"]);
    bed.check(&["approvals"], 0, &["2 needed, so far ann"]);
    let approved = bed.json(&["approve", "i1", "--plan", hash, "--by", "bob"]);
    assert_eq!(approved["id"], "i1", "{approved}");
    bed.until_incident("i1", "verifying");
    bed.check(&["approve", "i1", "--plan", hash], 1, &["i1 asks nothing of anybody now"]);

    bed.fire("Slow", "api");
    bed.until_incident("i2", "awaiting_approval");
    let words = ["denied", "incident i2: escalated", "ann said no: in a migration"];
    bed.check(&["deny", "i2", "--reason", "in a migration"], 0, &words);
    bed.check(&["deny", "i2"], 1, &["i2 asks nothing of anybody now"]);

    bed.fire("Odd", "web");
    bed.until(&["approvals"], |page| page["approvals"][0]["id"] == "i3");
    bed.until(&["runs", "--incident", "i3"], |page| page["runs"][0]["state"] == "suspended");
    for args in [&["runs", "--incident", "i3"][..], &["incidents", "show", "i3"]] {
        let waits = bed.check(args, 0, &["suspended", "ask: Is it \"odd\"? (wait up to 30m, until "]);
        assert!(!waits.contains("rehears"), "{waits}");
    }
    let words = ["Is it \"odd\"?", r"runbookd answer i3 yes    or: runbookd answer i3 'it isn'\''t'"];
    bed.check(&["approvals"], 0, &words);
    bed.check(&["answer", "i3", "maybe"], 1, &["\"maybe\" is no answer; there are: yes, it isn't"]);
    bed.check(&["answer", "i3"], 2, &["<ANSWER>"]);
    bed.check(&["approve", "i3", "--plan", hash], 1, &["i3 asks a question"]);
    bed.check(&["answer", "i3", "it isn't"], 0, &["answered", "incident i3: running"]);
    bed.until_incident("i3", "verifying");
    bed.check(&["runs", "--incident", "i3"], 0, &["done"]);
}

#[test]
fn freezes_and_the_brake_are_made_listed_and_ended() {
    let rules = "rules:
  - { name: deploy-web, tags: [deploys], match: [alertname = New], by: [service], runbook: quiet }
  - { name: restarts, match: [alertname = Slow], by: [service], runbook: restarts, allow: [{ restart: '{{ service }}' }] }
  - { name: nightly, match: [alertname = Never], runbook: quiet, guards: { freeze: '2099-01-01 00:00 - 2099-01-02 00:00' } }
";
    let config = "
brake: { targets: null, effects: 1 per 1h }
freezes: { gala: { when: '2099-12-24 00:00 - 2099-12-25 00:00', reason: nobody is there } }
";
    let restarts = [("quiet", "log(\"nothing\");"), ("restarts", "restart(alert.labels.service);")];
    let bed = Bed::new(config, rules, &restarts);
    bed.check(&["freezes"], 0, &["configuration: gala", "no", "nobody is there", "rule: nightly"]);

    bed.check(&["freeze", "--for", "2h"], 2, &["--reason"]);
    bed.check(&["freeze", "--reason", "load test"], 2, &["--for", "--until"]);
    bed.check(&["freeze", "--for", "soon", "--reason", "x"], 2, &["\"soon\" is no duration; expected for example 90s"]);
    bed.check(&["freeze", "--until", "soon", "--reason", "x"], 2, &["2026-12-24T08:00:00Z"]);
    bed.check(&["freeze", "--for", "2h", "--reason", " "], 2, &["cannot be empty"]);
    for (until, word) in [
        ("2026-12-24T08:00[Europe/Berln]", "\"Europe/Berln\" is no time zone"),
        ("2026-12-24T08:00", "does not say in which time zone; expected for example 2026-12-24T08:00:00Z"),
        ("24.12.2026", "is no instant"),
    ] {
        bed.check(&["freeze", "--until", until, "--reason", "x"], 2, &[word]);
    }
    bed.check(&["freeze", "--until", "2020-01-01T00:00:00Z", "--reason", "x"], 1, &["over already"]);
    let wrong = ["there is no such rule", "did you mean deploy-web?"];
    bed.check(&["freeze", "--for", "2h", "--reason", "x", "--rule", "deploy-wep"], 1, &wrong);
    bed.check(&["freeze", "--for", "2h", "--reason", "x", "--rule", "a", "--tag", "b"], 2, &["--tag"]);

    let made = ["f1: frozen until ", "the rules tagged deploys"];
    bed.check(&["freeze", "--for", "2h", "--reason", "load test", "--tag", "deploys"], 0, &made);
    let made = bed.json(&["freeze", "--for", "1h", "--reason", "the shop must not move"]);
    assert_eq!((&made["id"], &made["by"], &made["in_force"]), (&json!("f2"), &json!("ann"), &json!(true)), "{made}");
    bed.check(&["freezes"], 0, &["f1", "f2", "a person", "yes", "ann", "load test", "the shop must not move"]);
    let ids: Vec<Value> =
        bed.json(&["freezes"])["freezes"].as_array().expect("a list").iter().map(|one| one["id"].clone()).collect();
    assert!(ids.contains(&json!("f1")) && ids.contains(&json!("f2")), "{ids:?}");
    bed.fire("New", "web");
    bed.until_incident("i1", "held");
    bed.check(
        &["incidents"],
        0,
        &["FROZEN until", "(f2) the shop must not move; it ends with `runbookd unfreeze f2`", "held"],
    );

    bed.check(&["unfreeze", "f9"], 1, &["there is no freeze f9, or it is over; `runbookd freezes` lists them"]);
    bed.check(&["unfreeze", "gala"], 2, &["gala is a freeze of the configuration", "taken out of `freezes:`"]);
    bed.check(&["unfreeze", "nightly"], 2, &["a rule with a freeze of its own", "rules.yaml:4"]);
    bed.check(&["unfreeze", "an/other"], 2, &["\"an/other\" is no id"]);
    bed.check(&["unfreeze", "f2"], 0, &["f2 has ended; it was for everything"]);
    bed.check(&["unfreeze", "f2"], 1, &["there is no freeze f2"]);
    let ended = bed.json(&["unfreeze", "f1"]);
    assert_eq!((&ended["id"], &ended["in_force"]), (&json!("f1"), &json!(false)), "{ended}");
    bed.until_incident("i1", "verifying");

    bed.check(&["release"], 1, &["the fleet brake is not on"]);
    bed.fire("Slow", "web");
    bed.until_incident("i2", "verifying");
    // One more than the brake lets pass, and known before its run begins.
    bed.fire("Slow", "api");
    bed.until_incident("i3", "held");
    bed.check(&["incidents"], 0, &["THE FLEET BRAKE IS ON", "runbookd release"]);
    bed.check(&["release"], 0, &["the fleet brake is released"]);
    bed.until_incident("i3", "verifying");
    assert_eq!(bed.say(&["release", "--json"]).0, Some(1));
}

#[test]
fn without_a_server_every_command_says_how_to_start_one() {
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let nowhere = format!("http://{free}");
    let dir = tempfile::tempdir().expect("a directory");
    for args in [
        &["undo", "r1"][..],
        &["undo", "r1", "--yes"],
        &["rules"],
        &["rules", "close-breaker", "x"],
        &["rules", "promote", "x"],
        &["rules", "demote", "x"],
        &["approvals"],
        &["approve", "i1", "--plan", "12345678"],
        &["deny", "i1"],
        &["answer", "i1", "yes"],
        &["freeze", "--for", "1h", "--reason", "x"],
        &["freezes"],
        &["unfreeze", "f1"],
        &["release"],
    ] {
        for json in [&[][..], &["--json"]] {
            let (code, stdout, stderr) = said(dir.path(), &[args, &["--server", &nowhere], json].concat());
            assert_eq!((code, stdout.as_str()), (Some(1), ""), "{args:?}: {stderr}");
            assert!(stderr.contains(&nowhere) && stderr.contains("runbookd serve"), "{args:?}: {stderr}");
        }
    }
}

#[test]
fn the_ceiling_of_the_configuration_is_said_wherever_a_mode_is() {
    let rules = "rules:
  - { name: scale-out, match: [alertname = Slow], by: [service], runbook: scale_out, allow: [{ scale: '{{ service }}' }], approve: { by: [sre] } }
  - { name: careful, match: [alertname = Leak], by: [service], runbook: quiet, mode: earned }
  - { name: for-people, match: [alertname = Odd], by: [service] }
";
    let runbooks = [("scale_out", "scale(alert.labels.service, 3);"), ("quiet", "log(\"nothing\");")];
    let mut bed = Bed::new("", rules, &runbooks);
    let explained = bed.check_here(&["explain", "alertname=Slow", "service=web"], &["auto: it runs by itself"]);
    assert!(!explained.contains("max_mode"), "{explained}");
    bed.fire("Slow", "web");
    bed.until_incident("i1", "verifying");
    bed.check(&["incidents", "close", "i1"], 0, &["i1"]);
    let refused = ["r1 cannot be undone", "carol is not among those who decide about rule scale-out: sre"];
    bed.check(&["undo", "r1", "--yes", "--by", "carol"], 1, &refused);

    bed.restart("max_mode: shadow");
    bed.check_here(&["explain", "alertname=Slow", "service=web"], &["shadow, by max_mode", "the rule says auto"]);
    bed.check(&["rules"], 0, &["auto; shadow by max_mode", "earned: asks, 0 in a row; shadow by max_mode"]);
    let listed = bed.json(&["rules"]);
    assert_eq!((&listed["rules"][0]["mode"], &listed["rules"][0]["in_force"]), (&json!("auto"), &json!("shadow")));
    bed.check(&["rules", "promote", "careful"], 0, &["as far as its trust goes", "makes it shadow"]);
    bed.check(&["undo", "r1", "--yes"], 1, &["max_mode of the configuration is shadow, so nothing is ever changed"]);
}
