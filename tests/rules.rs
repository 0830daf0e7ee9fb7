//! What people read about rules that are not right: every code, with its place and its words.

use runbookd::cli::render;
use runbookd::model::diagnostic::{Diagnostic, Severity};
use runbookd::model::rule::{AtOnce, Share};
use runbookd::runbook::catalog::{Catalog, Offers};
use runbookd::runbook::{files, rules};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const SCALE_OUT: &str = "//! Scale out.\nfn defaults() { #{ step: 1, ceiling: 8, factor: 0.5 } }\nfn on_firing(alert, params) { log(\"hello\"); }\n";
const ONLY_RESOLVED: &str = "//! Give back.\nfn on_resolved(alert, params) { log(\"bye\"); }\n";

/// It scales itself, on resolving too, and restarts through a module, in a closure.
const CHANGES: &str = "//! Change things.
import \"lib/services\" as services;
fn on_firing(alert, params) { scale(alert.labels.service, 3); services::kick(alert.labels.service); }
fn on_event(event, params) { log(\"no more\"); }
";
const SERVICES: &str = "fn kick(name) { again(|| restart(name)); }
fn again(what) { what.call(); }
fn never(name) { rollback(name); }
";

/// Findings of a catalog whose one file of rules this is, its directories named as if they stood in the working directory.
fn findings(text: &str) -> Vec<Diagnostic> {
    let home = TempDir::new().expect("a temporary directory");
    let (rules, runbooks) = (home.path().join("rules"), home.path().join("runbooks"));
    fs::create_dir(&rules).expect("a directory");
    fs::create_dir(&runbooks).expect("a directory");
    fs::write(rules.join("test.yaml"), text).expect("a file of rules");
    fs::write(runbooks.join("scale_out.rhai"), SCALE_OUT).expect("a runbook");
    fs::write(runbooks.join("only_resolved.rhai"), ONLY_RESOLVED).expect("a runbook");
    let reload_targets = vec!["prometheus".to_string(), "haproxy".to_string()];
    let offers = Offers { reload_targets, prometheus: text.contains("# with prometheus.url") };
    fs::write(runbooks.join("changes.rhai"), CHANGES).expect("a runbook");
    fs::create_dir(runbooks.join("lib")).expect("a directory");
    fs::write(runbooks.join("lib/services.rhai"), SERVICES).expect("a module");
    let groups = BTreeMap::from([("sre".to_string(), vec!["ann".to_string(), "bob".to_string()])]);
    let loaded = Catalog::load(&rules, &runbooks, &offers, None).and_then(|catalog| catalog.with_people(&groups));
    let now = "2026-06-01T00:00:00Z".parse().expect("a time");
    let found = match loaded {
        Ok(catalog) => [catalog.warnings.clone(), catalog.past_freezes(now)].concat(),
        Err(found) => found,
    };
    let prefix = format!("{}/", home.path().display());
    let relative = |text: &str| text.replace(&prefix, "");
    let strip = |found: Diagnostic| Diagnostic {
        file: relative(&found.file),
        message: relative(&found.message),
        help: found.help.as_deref().map(relative),
        ..found
    };
    found.into_iter().map(strip).collect()
}

fn check(code: &str, text: &str, expect: &str) {
    let found = findings(text);
    let [finding] = &found[..] else { panic!("one finding for\n{text}\nfound {found:#?}") };
    assert_eq!(finding.code, code, "{text}");
    assert!(rules::CODES.iter().any(|(known, _)| *known == code), "{code} is not listed");
    assert_eq!(render::diagnostic(finding, false), expect.trim_matches('\n'), "{text}");
}

/// Cases as `=== code`, a file of rules, `--- says`, what people read.
#[test]
fn every_finding_says_where_what_and_how_to_mend_it() {
    let mut seen = BTreeSet::new();
    for case in include_str!("findings/rules.txt").split("=== ").skip(1) {
        let (code, rest) = case.split_once('\n').expect("a code");
        let (text, expect) = rest.split_once("--- says\n").expect("what it says");
        check(code, text, expect);
        seen.insert(code);
    }
    let unseen: Vec<&str> = rules::CODES.iter().map(|(code, _)| *code).filter(|code| !seen.contains(code)).collect();
    assert!(unseen.is_empty(), "codes without a case: {unseen:?}");
}

#[test]
fn what_is_granted_and_who_may_approve_is_no_finding() {
    for rule in [
        "runbook: changes\n    allow: [{ scale: web }, { restart: web }]",
        "runbook: changes\n    on: manual",
        "runbook: scale_out\n    mode: approve\n    approve: { people: 2, by: [sre] }",
        "runbook: scale_out\n    mode: approve\n    approve: { people: 2 }",
    ] {
        let text = format!("rules:\n  - name: web\n    match: [event = run]\n    {rule}\n");
        assert_eq!(findings(&text), [], "{text}");
    }
}

#[test]
fn every_finding_of_every_file_is_told_at_once() {
    let text = "rules:\n  - name: one\n    match: []\n    colour: red\n  - name: two\n    match: [a = b]\n    runbook: nope\n    guards: { cooldown: x, budget: y }\n";
    let codes: Vec<(usize, String)> = findings(text).into_iter().map(|found| (found.line, found.code)).collect();
    let expect = [(3, "rule_match_empty"), (4, "rule_unknown_key"), (8, "rule_value"), (8, "rule_value")];
    assert_eq!(codes, expect.map(|(line, code)| (line, code.to_string())));
}

#[test]
fn a_rule_is_read_whole() {
    let text = r##"
rules:
  - name: scale-out-slow-service
    on: alert
    match: ['alertname = "HighLatency"', 'service =~ ".+"', 'severity !~ "info|none"']
    by: [service]
    tags: [web, latency]
    runbook: scale_out
    params: { step: 2, factor: 1 }
    mode: auto
    allow:
      - scale: "{{ service }}"
      - reload: haproxy
    guards:
      cooldown: 5m
      budget: 3 per 1h
      breaker: 4
      target_budget: 2 per 1h
      at_once: { services: 25%, nodes: 1 }
      replicas: { min: 1, max: 8 }
      hold_at_most: 2m
      freeze: ["Fri 16:00 - Mon 08:00 Europe/Berlin", "22:00 - 06:00"]
    attempts: 3
    retry_after: 45s
    verify: { resolved_within: 10m }
    escalate: { channel: "#ops", severity: page }
    continue: true
  - { name: people, match: [alertname =~ .+] }
"##;
    assert_eq!(findings(text), []);
    let (written, found) = rules::read("rules/a.yaml", text);
    assert_eq!(found, []);
    let rule = &written[0].rule;
    assert_eq!(rule.place, "rules/a.yaml:3");
    let matchers: Vec<String> = rule.matchers.iter().map(ToString::to_string).collect();
    assert_eq!(matchers, [r#"alertname="HighLatency""#, r#"service=~".+""#, r#"severity!~"info|none""#]);
    let grants: Vec<String> = rule.allow.iter().map(|one| format!("{} {}", one.primitive, one.target.source)).collect();
    assert_eq!(grants, ["scale {{ service }}", "reload haproxy"]);
    let figures = format!(
        "{:?} {:?} {} {} {:?} {:?} {} {} {} {:?} {:?} {}",
        rule.by,
        rule.runbook,
        rule.cooldown.expect("set"),
        rule.budget.expect("set"),
        rule.breaker,
        rule.replicas,
        rule.hold_at_most,
        rule.attempts,
        rule.retry_after,
        rule.channel,
        rule.severity,
        rule.goes_on,
    );
    let expect =
        r##"["service"] Some("scale_out") 5m 3 per 1h Some(4) Some((1, 8)) 2m 3 45s Some("#ops") Some("page") true"##;
    assert_eq!(figures, expect);
    let windows: Vec<String> = rule.freeze.iter().map(ToString::to_string).collect();
    assert_eq!(windows, ["Fri 16:00 - Mon 08:00 Europe/Berlin", "22:00 - 06:00"]);
    assert_eq!(rule.tags, ["web", "latency"]);
    assert_eq!(rule.target_budget, "2 per 1h".parse().ok());
    assert_eq!(rule.at_once, AtOnce { services: Some(Share::Percent(25)), nodes: Some(Share::Count(1)) });
    assert_eq!(serde_json::to_string(&rule.params).expect("json"), r#"{"factor":1,"step":2}"#);
    let plain = &written[1].rule;
    assert_eq!((plain.attempts, plain.goes_on, plain.runbook.as_deref()), (1, false, None));
    assert_eq!((plain.hold_at_most.to_string(), plain.verify.within.to_string()), ("5m".into(), "15m".into()));
    assert_eq!((plain.retry_after.to_string(), plain.severity.as_deref()), ("30s".into(), Some("critical")));
}

/// Each finding about the files themselves, as `code path`.
fn check_files(lay: impl FnOnce(&Path), expect: &[&str]) {
    let home = TempDir::new().expect("a temporary directory");
    for directory in ["rules", "runbooks"] {
        fs::create_dir(home.path().join(directory)).expect("a directory");
    }
    lay(home.path());
    let found =
        Catalog::load(&home.path().join("rules"), &home.path().join("runbooks"), &Offers::default(), None).err();
    let found = found.unwrap_or_default().into_iter().map(|found| {
        assert!(files::CODES.iter().any(|(code, _)| *code == found.code), "{found}");
        assert!(found.help.is_some() && found.severity == Severity::Error, "{found}");
        let path = Path::new(&found.file).strip_prefix(home.path()).expect("below the directory").display().to_string();
        format!("{} {path}", found.code)
    });
    assert_eq!(found.collect::<Vec<_>>(), expect);
}

#[test]
fn what_cannot_be_read_is_said_and_what_is_no_rule_is_left_alone() {
    check_files(|_| {}, &[]);
    check_files(|home| fs::remove_dir_all(home.join("rules")).expect("a removal"), &["directory_missing rules"]);
    check_files(
        |home| {
            fs::remove_dir_all(home.join("runbooks")).expect("a removal");
            fs::write(home.join("runbooks"), "a file").expect("a write");
        },
        &["directory_missing runbooks"],
    );
    check_files(
        |home| {
            fs::write(home.join("rules/big.yaml"), "#".repeat((1 << 20) + 1)).expect("a write");
            fs::write(home.join("rules/latin.yml"), b"rules: []\n# caf\xe9\n").expect("a write");
            std::os::unix::fs::symlink("nowhere", home.join("rules/gone.yaml")).expect("a link");
        },
        &["file_too_large rules/big.yaml", "file_unreadable rules/gone.yaml", "file_not_utf8 rules/latin.yml"],
    );
    check_files(
        |home| {
            let socket = home.join("runbooks/socket.rhai");
            std::os::unix::net::UnixListener::bind(socket).expect("a socket");
        },
        &["file_unreadable runbooks/socket.rhai"],
    );
    check_files(
        |home| {
            for name in [".hidden.yaml", "backup.yaml~", ".a.yaml.swp", "notes.md"] {
                fs::write(home.join("rules").join(name), "{ no rule").expect("a write");
            }
        },
        &[],
    );
}

#[test]
fn shipped_rules_and_runbooks_are_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let catalog = Catalog::load(&root.join("rules"), &root.join("runbooks"), &Offers::default(), None);
    let catalog = catalog.unwrap_or_else(|found| panic!("{}", render::diagnostics(&found, false)));
    assert_eq!(catalog.warnings, [], "{}", render::diagnostics(&catalog.warnings, false));
    let names: Vec<&str> = catalog.rules.iter().map(|rule| rule.name.as_str()).collect();
    // In the order of the files' names: `deploy.yaml` first.
    assert_eq!(names.first(), Some(&"deploy-pushed-image"));
    let of_services: Vec<&str> = catalog
        .rules
        .iter()
        .filter(|rule| rule.place.contains("services.yaml"))
        .map(|rule| rule.name.as_str())
        .collect();
    assert_eq!(of_services, ["scale-out-slow-service", "restart-unhealthy-service", "rollback-bad-update"]);
}

#[test]
fn shipped_rules_are_in_force_where_the_configuration_lacks_some_of_their_targets() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let check = |targets: &[&str], warned: &[&str]| {
        let reload_targets = targets.iter().map(ToString::to_string).collect();
        let offers = Offers { reload_targets, prometheus: true };
        let catalog = Catalog::load(&root.join("rules"), &root.join("runbooks"), &offers, None);
        let catalog = catalog.unwrap_or_else(|found| panic!("{}", render::diagnostics(&found, false)));
        assert!(catalog.rule("reconfigure-for-service").is_some());
        let mut told: Vec<String> = catalog.warnings.iter().map(|warning| warning.message.clone()).collect();
        told.sort();
        let expect = warned.iter().map(|target| format!("there is no reload target `{target}`"));
        assert_eq!(told, expect.collect::<Vec<_>>());
        for warning in &catalog.warnings {
            assert_eq!((&*warning.code, warning.severity), ("rule_unknown_target", Severity::Warning));
            assert!(
                warning.file.ends_with("reconfigure.yaml") && warning.line > 0 && warning.help.is_some(),
                "{warning}"
            );
        }
    };
    check(&[], &[]);
    check(&["haproxy", "prometheus_alerts", "prometheus_targets", "own"], &[]);
    check(&["nginx"], &["haproxy", "prometheus_alerts", "prometheus_targets"]);
    check(&["haproxy"], &["prometheus_alerts", "prometheus_targets"]);
}
