//! What people read about rules that are not right: every code, with its place and its words.

use runbookd::cli::render;
use runbookd::model::diagnostic::{Diagnostic, Severity};
use runbookd::runbook::catalog::Catalog;
use runbookd::runbook::{files, rules};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const SCALE_OUT: &str = "//! Scale out.\nfn defaults() { #{ step: 1, ceiling: 8, factor: 0.5 } }\nfn on_firing(alert, params) { log(\"hello\"); }\n";
const ONLY_RESOLVED: &str = "//! Give back.\nfn on_resolved(alert, params) { log(\"bye\"); }\n";

/// Findings of a catalog whose one file of rules this is, its directories named as if they stood in the working directory.
fn findings(text: &str) -> Vec<Diagnostic> {
    let home = TempDir::new().expect("a temporary directory");
    let (rules, runbooks) = (home.path().join("rules"), home.path().join("runbooks"));
    fs::create_dir(&rules).expect("a directory");
    fs::create_dir(&runbooks).expect("a directory");
    fs::write(rules.join("test.yaml"), text).expect("a file of rules");
    fs::write(runbooks.join("scale_out.rhai"), SCALE_OUT).expect("a runbook");
    fs::write(runbooks.join("only_resolved.rhai"), ONLY_RESOLVED).expect("a runbook");
    let targets = ["prometheus".to_string(), "haproxy".to_string()];
    let found = match Catalog::load(&rules, &runbooks, &targets, None) {
        Ok(catalog) => catalog.warnings,
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
    SEEN.with_borrow_mut(|seen| seen.insert(code.to_string()));
    assert_eq!(render::diagnostic(finding, false), expect.trim_matches('\n'), "{text}");
}

thread_local! {
    static SEEN: std::cell::RefCell<BTreeSet<String>> = const { std::cell::RefCell::new(BTreeSet::new()) };
}

#[test]
fn every_finding_says_where_what_and_how_to_mend_it() {
    check(
        "rule_yaml",
        r#"rules:
  - name: web
    match: [a = b
"#,
        r#"
error[rule_yaml]: this is no valid YAML: unclosed bracket '['
 --> rules/test.yaml:3:12
  |
3 |     match: [a = b
  |            ^
"#,
    );
    check(
        "rule_yaml",
        r#"rules:
  - name: web
    match: [a = b]
    name: twice
"#,
        r#"
error[rule_yaml]: this is no valid YAML: duplicate mapping key: name
 --> rules/test.yaml:4:5
  |
4 |     name: twice
  |     ^^^^
"#,
    );
    check(
        "rule_yaml",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    allow:
      - scale: {{ service }}
"#,
        r#"
error[rule_yaml]: this is no valid YAML: expected string scalar
 --> rules/test.yaml:6:17
  |
6 |       - scale: {{ service }}
  |                 ^
  |
  = help: text that begins with {{ needs quotes: "{{ service }}"
"#,
    );
    check(
        "rule_unknown_key",
        r#"rules:
  - name: web
    match: [a = b]
    runbok: scale_out
"#,
        r#"
error[rule_unknown_key]: a rule has no key `runbok`
 --> rules/test.yaml:4:5
  |
4 |     runbok: scale_out
  |     ^^^^^^
  |
  = help: did you mean `runbook`?
"#,
    );
    check(
        "rule_unknown_key",
        r#"rule: []
"#,
        r#"
error[rule_unknown_key]: a file of rules has no key `rule`
 --> rules/test.yaml:1:1
  |
1 | rule: []
  | ^^^^
  |
  = help: did you mean `rules`?
"#,
    );
    check(
        "rule_unknown_key",
        r#"rules:
  - name: web
    match: [a = b]
    guards: { colour: 5m }
"#,
        r#"
error[rule_unknown_key]: `guards` has no key `colour`
 --> rules/test.yaml:4:15
  |
4 |     guards: { colour: 5m }
  |               ^^^^^^
  |
  = help: known here: cooldown, budget, replicas, hold_at_most, freeze
"#,
    );
    check(
        "rule_missing_key",
        r#""#,
        r#"
error[rule_missing_key]: the file has no `rules`
 --> rules/test.yaml:1:1
  |
1 |
  | ^
  |
  = help: write `rules: []` for a file without rules
"#,
    );
    check(
        "rule_missing_key",
        r#"rules:
  - match: [a = b]
"#,
        r#"
error[rule_missing_key]: the rule has no `name`
 --> rules/test.yaml:2:5
  |
2 |   - match: [a = b]
  |     ^
  |
  = help: incidents, budgets and messages go by it
"#,
    );
    check(
        "rule_missing_key",
        r#"rules:
  - name: web
    match:
"#,
        r#"
error[rule_missing_key]: the rule has no `match`
 --> rules/test.yaml:3:5
  |
3 |     match:
  |     ^^^^^
  |
  = help: write at least one matcher; one for every alert is 'alertname =~ ".+"'
"#,
    );
    check(
        "rule_type",
        r#"rules:
  - name: web
    match: [a = b]
    by: service
"#,
        r#"
error[rule_type]: `by` must be a list, found text
 --> rules/test.yaml:4:9
  |
4 |     by: service
  |         ^^^^^^^
  |
  = help: write [service]
"#,
    );
    check(
        "rule_type",
        r#"rules:
  - name: web
    match: [a = b]
    escalate: { severity: 1 }
"#,
        r#"
error[rule_type]: `severity` must be text, found a whole number
 --> rules/test.yaml:4:27
  |
4 |     escalate: { severity: 1 }
  |                           ^
  |
  = help: put it in quotes
"#,
    );
    check(
        "rule_type",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    attempts: "3"
"#,
        r#"
error[rule_type]: `attempts` must be a whole number, found text
 --> rules/test.yaml:5:15
  |
5 |     attempts: "3"
  |               ^^^
  |
  = help: remove the quotes
"#,
    );
    check(
        "rule_type",
        r#"rules:
  - name: web
    match: [a = b]
    continue: yes
"#,
        r#"
error[rule_type]: `continue` must be true or false, found text
 --> rules/test.yaml:4:15
  |
4 |     continue: yes
  |               ^^^
"#,
    );
    check(
        "rule_type",
        r#"- name: web
"#,
        r#"
error[rule_type]: a file of rules must be a map of keys and values, found a list
 --> rules/test.yaml:1:1
  |
1 | - name: web
  | ^
"#,
    );
    check(
        "rule_value",
        r#"rules:
  - name: two words
    match: [a = b]
"#,
        r#"
error[rule_value]: "two words" is no name of a rule
 --> rules/test.yaml:2:11
  |
2 |   - name: two words
  |           ^^^^^^^^^
  |
  = help: use at most 100 ASCII letters, digits, `-`, `_` and `.`, beginning with a letter or digit
"#,
    );
    check(
        "rule_value",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    attempts: 11
"#,
        r#"
error[rule_value]: `attempts` is out of bounds
 --> rules/test.yaml:5:15
  |
5 |     attempts: 11
  |               ^^
  |
  = help: between 1 and 10
"#,
    );
    check(
        "rule_value",
        r#"rules:
  - name: web
    match: [a = b]
    guards: { cooldown: 5 }
"#,
        r#"
error[rule_value]: `cooldown` needs a unit
 --> rules/test.yaml:4:25
  |
4 |     guards: { cooldown: 5 }
  |                         ^
  |
  = help: write 5s for seconds, 5m for minutes
"#,
    );
    check(
        "rule_value",
        r#"rules:
  - name: web
    match: [a = b]
    guards: { cooldown: 5 minutes }
"#,
        r#"
error[rule_value]: "5 minutes" is no duration; expected for example 90s, 5m or 1h30m
 --> rules/test.yaml:4:25
  |
4 |     guards: { cooldown: 5 minutes }
  |                         ^^^^^^^^^
"#,
    );
    check(
        "rule_value",
        r#"rules:
  - name: web
    match: [a = b]
    verify: { resolved_within: 0 }
"#,
        r#"
error[rule_value]: `resolved_within` is out of bounds
 --> rules/test.yaml:4:32
  |
4 |     verify: { resolved_within: 0 }
  |                                ^
  |
  = help: between 1s and 7d
"#,
    );
    check(
        "rule_value",
        r#"rules:
  - name: web
    match: [a = b]
    guards: { budget: 3 an hour }
"#,
        r#"
error[rule_value]: "3 an hour" is no budget
 --> rules/test.yaml:4:23
  |
4 |     guards: { budget: 3 an hour }
  |                       ^^^^^^^^^
  |
  = help: write for example `3 per 1h`
"#,
    );
    check(
        "rule_value",
        r#"rules:
  - name: web
    match: [a = b]
    guards: { budget: 0 per 1h }
"#,
        r#"
error[rule_value]: "0 per 1h" is out of bounds for `budget`
 --> rules/test.yaml:4:23
  |
4 |     guards: { budget: 0 per 1h }
  |                       ^^^^^^^^
  |
  = help: between 1 and 1000, per 1m to 30d
"#,
    );
    check(
        "rule_value",
        r#"rules:
  - name: web
    match: [a = b]
    guards: { replicas: { min: 3, max: 2 } }
"#,
        r#"
error[rule_value]: `min` 3 is above `max` 2
 --> rules/test.yaml:4:25
  |
4 |     guards: { replicas: { min: 3, max: 2 } }
  |                         ^
"#,
    );
    check(
        "rule_value",
        r#"rules:
  - name: web
    match: [a = b]
    mode: autom
"#,
        r#"
error[rule_value]: "autom" is no value of `mode`
 --> rules/test.yaml:4:11
  |
4 |     mode: autom
  |           ^^^^^
  |
  = help: did you mean `auto`?
"#,
    );
    check(
        "rule_value",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out.rhai
"#,
        r#"
error[rule_value]: a runbook is named without its `.rhai`
 --> rules/test.yaml:4:14
  |
4 |     runbook: scale_out.rhai
  |              ^^^^^^^^^^^^^^
  |
  = help: write `runbook: scale_out`
"#,
    );
    check(
        "rule_value",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    allow:
      - scale: web
        update: web
"#,
        r#"
error[rule_value]: a grant is one primitive and its target, found 2 keys
 --> rules/test.yaml:6:9
  |
6 |       - scale: web
  |         ^
  |
  = help: write each as an entry of its own: - scale: "web"
"#,
    );
    check(
        "rule_not_enforced",
        r#"rules:
  - name: web
    match: [a = b]
    on: swarm
"#,
        r#"
error[rule_not_enforced]: `on: swarm` is not enforced by this build yet, so it refuses the rule
 --> rules/test.yaml:4:9
  |
4 |     on: swarm
  |         ^^^^^
  |
  = help: the only value so far is `on: alert`, the default
"#,
    );
    check(
        "rule_not_enforced",
        r#"rules:
  - name: web
    match: [a = b]
    mode: approve
"#,
        r#"
error[rule_not_enforced]: `mode: approve` is not enforced by this build yet, so it refuses the rule
 --> rules/test.yaml:4:11
  |
4 |     mode: approve
  |           ^^^^^^^
  |
  = help: the only value so far is `mode: auto`, the default
"#,
    );
    check(
        "rule_not_enforced",
        r#"rules:
  - name: web
    match: [a = b]
    own: true
"#,
        r#"
error[rule_not_enforced]: `own` is not enforced by this build yet, so it refuses the rule
 --> rules/test.yaml:4:5
  |
4 |     own: true
  |     ^^^
  |
  = help: it belongs to rules on events, which do not exist yet
"#,
    );
    check(
        "rule_not_enforced",
        r#"rules:
  - name: web
    match: [a = b]
    guards:
      freeze: ["Fri 16:00 - Mon 08:00 Europe/Berlin"]
"#,
        r#"
error[rule_not_enforced]: `freeze` is not enforced by this build yet, so it refuses the rule
 --> rules/test.yaml:5:7
  |
5 |       freeze: ["Fri 16:00 - Mon 08:00 Europe/Berlin"]
  |       ^^^^^^
  |
  = help: until then, stop runbooks with `runbookd pause`
"#,
    );
    check(
        "rule_not_enforced",
        r#"rules:
  - name: web
    match: [a = b]
    verify: { promql: 'up == 1' }
"#,
        r#"
error[rule_not_enforced]: `verify.promql` is not enforced by this build yet, so it refuses the rule
 --> rules/test.yaml:4:15
  |
4 |     verify: { promql: 'up == 1' }
  |               ^^^^^^
  |
  = help: use `resolved_within`: the alert itself must resolve
"#,
    );
    check(
        "rule_duplicate_name",
        r#"rules:
  - name: web
    match: [a = b]
  - name: web
    match: [c = d]
"#,
        r#"
error[rule_duplicate_name]: there is already a rule `web`, at rules/test.yaml:2
 --> rules/test.yaml:4:11
  |
4 |   - name: web
  |           ^^^
  |
  = help: incidents and budgets belong to a rule by its name: give each its own
"#,
    );
    check(
        "rule_match_empty",
        r#"rules:
  - name: web
    match: []
"#,
        r#"
error[rule_match_empty]: a rule without matchers would take every alert
 --> rules/test.yaml:3:12
  |
3 |     match: []
  |            ^
  |
  = help: write at least one matcher; one for every alert is 'alertname =~ ".+"'
"#,
    );
    check(
        "rule_matcher",
        r#"rules:
  - name: web
    match: ['severity is "critical"']
"#,
        r#"
error[rule_matcher]: expected =, !=, =~ or !~ after "severity", found "i"
 --> rules/test.yaml:3:23
  |
3 |     match: ['severity is "critical"']
  |                       ^
"#,
    );
    check(
        "rule_matcher",
        r#"rules:
  - name: web
    match:
      - service =~ "(web"
"#,
        r#"
error[rule_matcher]: "(web" is no regular expression: unclosed group
 --> rules/test.yaml:4:20
  |
4 |       - service =~ "(web"
  |                    ^^^^^^
"#,
    );
    check(
        "rule_duplicate",
        r#"rules:
  - name: web
    match: [a = b]
    by: [service, zone, service]
"#,
        r#"
error[rule_duplicate]: `by` names "service" twice
 --> rules/test.yaml:4:25
  |
4 |     by: [service, zone, service]
  |                         ^^^^^^^
"#,
    );
    check(
        "rule_duplicate",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    allow:
      - scale: web
      - scale: web
"#,
        r#"
error[rule_duplicate]: `allow` grants this twice
 --> rules/test.yaml:7:9
  |
7 |       - scale: web
  |         ^
"#,
    );
    check(
        "rule_template",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    allow:
      - scale: "{{ service | upper }}"
"#,
        r#"
error[rule_template]: "service | upper" is no label name; a template is one label, {{ service }} or {{ labels["a.b"] }}, without expressions
 --> rules/test.yaml:6:16
  |
6 |       - scale: "{{ service | upper }}"
  |                ^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
    check(
        "rule_template_label",
        r#"rules:
  - name: web
    match: [a = b]
    by: [service]
    runbook: scale_out
    allow:
      - scale: "{{ instance }}"
"#,
        r#"
error[rule_template_label]: the template uses the label "instance", which is not in `by`
 --> rules/test.yaml:7:16
  |
7 |       - scale: "{{ instance }}"
  |                ^^^^^^^^^^^^^^^^
  |
  = help: the alerts of one incident share only their `by` labels: add it there, or use one of them
"#,
    );
    check(
        "rule_unknown_primitive",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    allow:
      - sclae: web
"#,
        r#"
error[rule_unknown_primitive]: there is no primitive `sclae`
 --> rules/test.yaml:6:9
  |
6 |       - sclae: web
  |         ^^^^^
  |
  = help: did you mean `scale`?
"#,
    );
    check(
        "rule_unknown_primitive",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    allow:
      - everything: web
"#,
        r#"
error[rule_unknown_primitive]: there is no primitive `everything`
 --> rules/test.yaml:6:9
  |
6 |       - everything: web
  |         ^^^^^^^^^^
  |
  = help: what can be granted: scale, update, restart, rollback, reschedule, reload
"#,
    );
    check(
        "rule_needless_grant",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    allow:
      - notify: web
"#,
        r#"
error[rule_needless_grant]: `notify` changes nothing and needs no grant
 --> rules/test.yaml:6:9
  |
6 |       - notify: web
  |         ^^^^^^
  |
  = help: remove this entry
"#,
    );
    check(
        "rule_without_runbook",
        r#"rules:
  - name: web
    match: [a = b]
    attempts: 2
"#,
        r#"
error[rule_without_runbook]: `attempts` makes no sense in a rule without a runbook
 --> rules/test.yaml:4:5
  |
4 |     attempts: 2
  |     ^^^^^^^^
  |
  = help: a rule without `runbook` hands over to people at once; name a runbook, or remove the key
"#,
    );
    check(
        "rule_unknown_runbook",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_uot
"#,
        r#"
error[rule_unknown_runbook]: there is no runbook `scale_uot`
 --> rules/test.yaml:4:14
  |
4 |     runbook: scale_uot
  |              ^^^^^^^^^
  |
  = help: did you mean `scale_out`?
"#,
    );
    check(
        "rule_unknown_runbook",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: cleanup
"#,
        r#"
error[rule_unknown_runbook]: there is no runbook `cleanup`
 --> rules/test.yaml:4:14
  |
4 |     runbook: cleanup
  |              ^^^^^^^
  |
  = help: write runbooks/cleanup.rhai, or name one of: only_resolved, scale_out
"#,
    );
    check(
        "rule_no_handler",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: only_resolved
"#,
        r#"
error[rule_no_handler]: the runbook `only_resolved` has no `fn on_firing(alert, params)`
 --> rules/test.yaml:4:14
  |
4 |     runbook: only_resolved
  |              ^^^^^^^^^^^^^
  |
  = help: write the handler, or name a runbook that has it
"#,
    );
    check(
        "rule_unknown_param",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    params: { ceilling: 8 }
"#,
        r#"
error[rule_unknown_param]: the runbook `scale_out` has no parameter `ceilling`
 --> rules/test.yaml:5:15
  |
5 |     params: { ceilling: 8 }
  |               ^^^^^^^^
  |
  = help: did you mean `ceiling`?
"#,
    );
    check(
        "rule_param_type",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    params: { ceiling: many }
"#,
        r#"
error[rule_param_type]: `ceiling` must be a whole number, found text
 --> rules/test.yaml:5:24
  |
5 |     params: { ceiling: many }
  |                        ^^^^
  |
  = help: the runbook `scale_out` declares it as 8
"#,
    );
    check(
        "rule_param_type",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    params: { step: 1.5 }
"#,
        r#"
error[rule_param_type]: `step` must be a whole number, found a number with a fraction
 --> rules/test.yaml:5:21
  |
5 |     params: { step: 1.5 }
  |                     ^^^
  |
  = help: the runbook `scale_out` declares it as 1
"#,
    );
    check(
        "rule_unknown_target",
        r#"rules:
  - name: web
    match: [a = b]
    runbook: scale_out
    allow:
      - reload: promethues
"#,
        r#"
error[rule_unknown_target]: there is no reload target `promethues`
 --> rules/test.yaml:6:17
  |
6 |       - reload: promethues
  |                 ^^^^^^^^^^
  |
  = help: did you mean `prometheus`?
"#,
    );
    check(
        "rule_unreachable",
        r#"rules:
  - name: web
    match: [a = b]
  - name: narrower
    match: [c = d, a = b]
"#,
        r#"
warning[rule_unreachable]: `narrower` is never reached: `web` before it takes all of its alerts
 --> rules/test.yaml:4:11
  |
4 |   - name: narrower
  |           ^^^^^^^^
  |
  = help: move it before rules/test.yaml:2, or let that one say `continue: true`
"#,
    );
    let unseen: Vec<&str> = SEEN
        .with_borrow(|seen| rules::CODES.iter().map(|(code, _)| *code).filter(|code| !seen.contains(*code)).collect());
    assert!(unseen.is_empty(), "codes without a case: {unseen:?}");
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
    runbook: scale_out
    params: { step: 2, factor: 1 }
    mode: auto
    allow:
      - scale: "{{ service }}"
      - reload: haproxy
    guards:
      cooldown: 5m
      budget: 3 per 1h
      replicas: { min: 1, max: 8 }
      hold_at_most: 2m
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
        "{:?} {:?} {} {} {:?} {} {} {} {:?} {:?} {}",
        rule.by,
        rule.runbook,
        rule.cooldown.expect("set"),
        rule.budget.expect("set"),
        rule.replicas,
        rule.hold_at_most,
        rule.attempts,
        rule.retry_after,
        rule.channel,
        rule.severity,
        rule.goes_on,
    );
    let expect = r##"["service"] Some("scale_out") 5m 3 per 1h Some((1, 8)) 2m 3 45s Some("#ops") Some("page") true"##;
    assert_eq!(figures, expect);
    assert_eq!(serde_json::to_string(&rule.params).expect("json"), r#"{"factor":1,"step":2}"#);
    let plain = &written[1].rule;
    assert_eq!((plain.attempts, plain.goes_on, plain.runbook.as_deref()), (1, false, None));
    assert_eq!((plain.hold_at_most.to_string(), plain.resolved_within.to_string()), ("5m".into(), "15m".into()));
    assert_eq!((plain.retry_after.to_string(), plain.severity.as_deref()), ("30s".into(), Some("critical")));
}

/// Each finding about the files themselves, as `code path`.
fn check_files(lay: impl FnOnce(&Path), expect: &[&str]) {
    let home = TempDir::new().expect("a temporary directory");
    for directory in ["rules", "runbooks"] {
        fs::create_dir(home.path().join(directory)).expect("a directory");
    }
    lay(home.path());
    let found = Catalog::load(&home.path().join("rules"), &home.path().join("runbooks"), &[], None).err();
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
    let catalog = Catalog::load(&root.join("rules"), &root.join("runbooks"), &[], None);
    let catalog = catalog.unwrap_or_else(|found| panic!("{}", render::diagnostics(&found, false)));
    assert_eq!(catalog.warnings, [], "{}", render::diagnostics(&catalog.warnings, false));
    let names: Vec<&str> = catalog.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["scale-out-slow-service", "restart-unhealthy-service", "rollback-bad-update"]);
}
