//! How long it takes to route one alert of 12 labels. To reach: at most 1 µs at 10,000 rules. `cargo bench --bench route`

use divan::{Bencher, black_box};
use runbookd::engine::route::{closest, route};
use runbookd::model::alert::Fingerprint;
use runbookd::model::label::Labels;
use runbookd::model::matcher::Matcher;
use runbookd::model::rule::Rule;
use runbookd::runbook::catalog::Catalog;
use std::collections::BTreeMap;
use std::sync::Arc;

fn main() {
    divan::main();
}

/// Rules as people write them: one alert name and service each.
fn catalog(rules: usize) -> Catalog {
    let rule = |at: usize| {
        let text = [
            format!("alertname = \"Alert{}\"", at % 50),
            format!("service = \"service-{at}\""),
            "severity !~ \"info|none\"".to_string(),
        ];
        let matchers = text.iter().map(|text| Matcher::parse(text).expect("a matcher")).collect();
        let mut rule = Rule::matching(&format!("rule-{at}"), matchers);
        rule.by = vec!["service".to_string()];
        Arc::new(rule)
    };
    Catalog::new((0..rules).map(rule).collect(), BTreeMap::new())
}

fn alert(service: &str) -> Labels {
    let fixed = [
        ("alertname", "Alert7"),
        ("cluster", "eu-1"),
        ("container", "app"),
        ("env", "production"),
        ("instance", "10.0.0.4:8080"),
        ("job", "services"),
        ("namespace", "shop"),
        ("region", "eu-west-1"),
        ("replica", "a"),
        ("severity", "critical"),
        ("team", "shop"),
    ];
    fixed.into_iter().chain([("service", service)]).collect()
}

#[divan::bench(args = [100, 1_000, 10_000])]
fn one_rule_matches(bencher: Bencher, rules: usize) {
    let (catalog, labels) = (catalog(rules), alert("service-57"));
    assert_eq!((labels.len(), route(&catalog, &labels, Fingerprint(7)).matched.len()), (12, 1));
    bencher.bench_local(|| route(black_box(&catalog), black_box(&labels), Fingerprint(7)));
}

#[divan::bench(args = [100, 1_000, 10_000])]
fn no_rule_matches(bencher: Bencher, rules: usize) {
    let (catalog, labels) = (catalog(rules), alert("unknown"));
    assert!(route(&catalog, &labels, Fingerprint(7)).matched.is_empty());
    bencher.bench_local(|| route(black_box(&catalog), black_box(&labels), Fingerprint(7)));
}

/// Looks at every rule: for messages only.
#[divan::bench(args = [100, 10_000])]
fn closest_rules(bencher: Bencher, rules: usize) {
    let (catalog, labels) = (catalog(rules), alert("unknown"));
    bencher.bench_local(|| closest(black_box(&catalog), None, black_box(&labels), 3));
}
