//! A file of rules: read with findings that have a place, and routed as a scan of all rules routes.

use runbookd::engine::route::route;
use runbookd::model::alert::Fingerprint;
use runbookd::model::label::Labels;
use runbookd::runbook::catalog::Catalog;
use runbookd::runbook::rules::read;
use std::collections::BTreeMap;

pub fn run(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (written, found) = read("fuzz.yaml", text);
    for finding in &found {
        assert!(!finding.to_string().is_empty());
        assert!(finding.line <= text.lines().count() + 1 && finding.length >= 1, "{finding:?}");
    }
    let rules: Vec<_> = written.into_iter().map(|written| written.rule).filter(|rule| rule.on.is_none()).collect();
    let catalog = Catalog::new(rules.clone(), BTreeMap::new());
    for rule in &rules {
        // Likely to match this rule, and others like it.
        let likely = rule.matchers.iter().map(|matcher| {
            let value = matcher.literals().map_or(matcher.value.as_str(), |literals| literals[0]);
            (matcher.name.as_str(), value)
        });
        let labels: Labels = likely.collect();
        let mut scan = Vec::new();
        for rule in rules.iter().filter(|rule| rule.matches(&labels)) {
            scan.push(&rule.place);
            if !rule.goes_on {
                break;
            }
        }
        let routed = route(&catalog, &labels, Fingerprint::of(&labels)).matched;
        assert_eq!(routed.iter().map(|one| &one.rule.place).collect::<Vec<_>>(), scan, "{labels}");
    }
}
