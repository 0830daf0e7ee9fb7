//! Route: which rules an alert falls under, with which key, and why no other. Pure.

use crate::model::alert::Fingerprint;
use crate::model::event::{Event, On};
use crate::model::incident::Reason;
use crate::model::label::Labels;
use crate::model::matcher::Matcher;
use crate::model::mode::Mode;
use crate::model::rule::Rule;
use crate::runbook::catalog::Catalog;
use serde::Serialize;
use serde_json::Value;
use std::cmp::Reverse;
use std::sync::Arc;

/// Where an alert goes. Without a match it escalates, as its group.
#[derive(Clone, Debug, Default)]
pub struct Routed {
    /// The first rule that matches, and those after it that `continue` lets in.
    pub matched: Vec<Match>,
}

#[derive(Clone, Debug)]
pub struct Match {
    pub rule: Arc<Rule>,
    /// The key of the incident. `Err`: a label is missing that the rule needs; the fingerprint is the key then, and the incident escalates with this reason.
    pub key: Result<String, Reason>,
}

/// Routes one alert: first match wins, `continue` goes on.
pub fn route(catalog: &Catalog, labels: &Labels, fingerprint: Fingerprint) -> Routed {
    let mut matched = Vec::new();
    for rule in catalog.matching(labels) {
        matched.push(Match { rule: rule.clone(), key: key(rule, labels, fingerprint) });
        if !rule.goes_on {
            break;
        }
    }
    Routed { matched }
}

/// The rules that take an event, with their keys: first match wins, `continue` goes on. None is no fault: most of what happens concerns nobody.
pub fn route_event(catalog: &Catalog, event: &Event) -> Vec<Match> {
    let mut matched = Vec::new();
    let taking = catalog.matching_event(event.on, &event.labels).filter(|rule| rule.own || !event.own);
    for rule in taking {
        matched.push(Match { rule: rule.clone(), key: key(rule, &event.labels, Fingerprint::of(&event.labels)) });
        if !rule.goes_on {
            break;
        }
    }
    matched
}

fn key(rule: &Rule, labels: &Labels, fingerprint: Fingerprint) -> Result<String, Reason> {
    let missing = |label: &str, who: &str| {
        Reason::new("label_missing", format!("it has no label {label:?}, which {who} of the rule {} needs", rule.name))
    };
    let key = rule.key(labels).map_err(|label| missing(&label, "`by`"))?;
    // A grant that names nothing would deny every step: people hear of it before anything starts.
    if let Some(label) = rule.allow.iter().find_map(|grant| grant.target.missing(labels)) {
        return Err(missing(label, "`allow`"));
    }
    if let Some(label) = rule.verify.missing(labels) {
        return Err(missing(label, "`verify`"));
    }
    Ok(key.unwrap_or_else(|| fingerprint.to_string()))
}

/// A rule that did not match, and what kept it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Near {
    pub rule: String,
    pub place: String,
    /// How many of its matchers match.
    pub matched: usize,
    pub of: usize,
    /// In words, one for each matcher that does not.
    pub kept_from: Vec<String>,
}

/// The `n` rules on events of a kind (`None`: on alerts) that came closest without matching, best first. A rule that has nothing in common with the alert is not close. Looks at every
/// rule: for what people read, not for every alert.
pub fn closest(catalog: &Catalog, on: Option<On>, labels: &Labels, n: usize) -> Vec<Near> {
    let rules = catalog.rules.iter().filter(|rule| rule.on == on);
    let mut close: Vec<_> = rules.filter_map(|rule| Some((rank(rule, labels)?, rule))).collect();
    close.sort_by_key(|(rank, _)| *rank);
    close.into_iter().take(n).map(|(_, rule)| near(rule, labels)).collect()
}

/// Smaller is closer: the alert's name matches, few matchers fail, many say something of this alert. `None`: it matches, or is not close at all.
fn rank(rule: &Rule, labels: &Labels) -> Option<(bool, usize, Reverse<usize>)> {
    let (mut failed, mut telling, mut other_name) = (0, 0, false);
    for matcher in &rule.matchers {
        if !matcher.matches(labels) {
            failed += 1;
            other_name |= matcher.name == "alertname";
        } else if !matcher.matches_value("") {
            // `severity !~ "info"` matches nearly everything: it tells nothing.
            telling += 1;
        }
    }
    (failed > 0 && telling > 0).then_some((other_name, failed, Reverse(telling)))
}

fn near(rule: &Rule, labels: &Labels) -> Near {
    let kept_from: Vec<String> =
        rule.matchers.iter().filter(|matcher| !matcher.matches(labels)).map(|matcher| kept(matcher, labels)).collect();
    Near {
        rule: rule.name.clone(),
        place: rule.place.clone(),
        matched: rule.matchers.len() - kept_from.len(),
        of: rule.matchers.len(),
        kept_from,
    }
}

/// `severity is "info", the rule wants severity!~"info|none"`.
fn kept(matcher: &Matcher, labels: &Labels) -> String {
    match labels.get(&matcher.name) {
        Some(value) => format!("{} is {value:?}, the rule wants {matcher}", matcher.name),
        None => format!("there is no label {}, the rule wants {matcher}", matcher.name),
    }
}

/// The whole answer for one alert, for people and for `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The kind of event; `None` for an alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<On>,
    pub labels: Labels,
    pub fingerprint: Fingerprint,
    /// The rules it falls under. Empty: it escalates.
    pub matched: Vec<Explained>,
    /// Rules that match too, but stand behind one that does not `continue`.
    pub not_reached: Vec<String>,
    /// Rules that came close.
    pub closest: Vec<Near>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    pub rule: String,
    pub place: String,
    /// Each matcher with the value it saw.
    pub because: Vec<Because>,
    /// What makes the incident.
    pub key: String,
    /// Set when the incident escalates at once, with the reason.
    pub escalates: Option<Reason>,
    pub runbook: Option<String>,
    /// The runbook's defaults with the rule's parameters on top.
    pub params: Value,
    /// How far the rule says that it may go by itself.
    pub rule_mode: Mode,
    /// How far it may, under the ceiling of the configuration.
    pub mode: Mode,
    /// What the runbook may change for this alert.
    pub allow: Vec<String>,
    #[serde(rename = "continue")]
    pub goes_on: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Because {
    pub matcher: String,
    pub name: String,
    /// `None`: the label is missing, which reads as "".
    pub value: Option<String>,
}

/// How many close rules an explanation lists.
const CLOSEST: usize = 5;

/// Which rule, why, and why no other.
///
/// `on`: what of an event of this kind; `None`: of an alert. An event is taken to be nobody's own.
pub fn explain(catalog: &Catalog, max_mode: Mode, on: Option<On>, labels: &Labels) -> Explanation {
    let fingerprint = Fingerprint::of(labels);
    let (routed, all): (Vec<Match>, Vec<&Arc<Rule>>) = match on {
        None => (route(catalog, labels, fingerprint).matched, catalog.matching(labels).collect()),
        Some(on) => {
            let event = Event::new(on, labels.clone(), jiff::Timestamp::UNIX_EPOCH);
            (route_event(catalog, &event), catalog.matching_event(on, labels).collect())
        }
    };
    let all = all.into_iter().skip(routed.len());
    Explanation {
        on,
        labels: labels.clone(),
        fingerprint,
        not_reached: all.map(|rule| rule.name.clone()).collect(),
        matched: routed.into_iter().map(|one| explained(catalog, max_mode, one, labels, fingerprint)).collect(),
        closest: closest(catalog, on, labels, CLOSEST),
    }
}

fn explained(
    catalog: &Catalog,
    max_mode: Mode,
    Match { rule, key }: Match,
    labels: &Labels,
    fingerprint: Fingerprint,
) -> Explained {
    let escalates = match &key {
        Err(reason) => Some(reason.clone()),
        Ok(_) if rule.runbook.is_none() => {
            Some(Reason::new("no_runbook", format!("the rule {} hands over to people", rule.name)))
        }
        Ok(_) => None,
    };
    let defaults = rule.runbook.as_ref().and_then(|name| catalog.programs.get(name)).map(|program| &program.defaults);
    let mut params: serde_json::Map<String, Value> = defaults.cloned().unwrap_or_default().into_iter().collect();
    params.extend(rule.params.clone());
    Explained {
        rule: rule.name.clone(),
        place: rule.place.clone(),
        because: rule.matchers.iter().map(|matcher| because(matcher, labels)).collect(),
        key: key.unwrap_or_else(|_| fingerprint.to_string()),
        escalates,
        runbook: rule.runbook.clone(),
        params: params.into(),
        rule_mode: rule.mode,
        mode: rule.mode.min(max_mode),
        allow: rule
            .allow
            .iter()
            .map(|grant| {
                let target = grant.target.literal(labels).unwrap_or_else(|| grant.target.source.clone());
                format!("{} {target}", grant.primitive)
            })
            .collect(),
        goes_on: rule.goes_on,
    }
}

fn because(matcher: &Matcher, labels: &Labels) -> Because {
    Because {
        matcher: matcher.to_string(),
        name: matcher.name.clone(),
        value: labels.get(&matcher.name).map(str::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::matcher::Op;
    use crate::model::matcher::tests::{OPS, naive};
    use crate::model::rule::Grant;
    use crate::model::template::Template;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn rule(name: &str, matchers: &[&str], set: impl FnOnce(&mut Rule)) -> Arc<Rule> {
        let matchers = matchers.iter().map(|text| Matcher::parse(text).expect(text)).collect();
        let mut rule = Rule::matching(name, matchers);
        set(&mut rule);
        Arc::new(rule)
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    fn catalog() -> Catalog {
        let by_service = |rule: &mut Rule| rule.by = vec!["service".to_string()];
        let watcher = |rule: &mut Rule| rule.goes_on = true;
        let granted = |rule: &mut Rule| {
            let target = Template::parse("{{ stack }}_web").expect("a template");
            rule.allow.push(Grant { primitive: "scale".to_string(), target });
        };
        let rules = vec![
            rule("watch", &["team = \"shop\""], watcher),
            rule("slow", &["alertname = \"HighLatency\"", "severity !~ \"info|none\""], by_service),
            rule("stack", &["alertname = \"StackSlow\""], granted),
            rule("all-slow", &["alertname =~ \"High.*\""], |_| {}),
        ];
        Catalog::new(rules, BTreeMap::new())
    }

    /// Each match as `rule key`, or `rule !code`.
    fn check(alert: &[(&str, &str)], expect: &[&str]) {
        let labels = labels(alert);
        let routed = route(&catalog(), &labels, Fingerprint(0xab)).matched.into_iter().map(|one| match one.key {
            Ok(key) => format!("{} {key}", one.rule.name),
            Err(reason) => format!("{} !{}", one.rule.name, reason.code),
        });
        assert_eq!(routed.collect::<Vec<_>>(), expect, "{labels}");
    }

    #[test]
    fn the_first_match_wins_and_continue_goes_on() {
        check(&[("alertname", "HighLatency"), ("service", "web")], &["slow service=\"web\""]);
        check(
            &[("alertname", "HighLatency"), ("service", "web"), ("team", "shop")],
            &["watch 00000000000000ab", "slow service=\"web\""],
        );
        check(&[("alertname", "HighLatency"), ("severity", "info")], &["all-slow 00000000000000ab"]);
        check(&[("alertname", "Unknown")], &[]);
        check(&[("team", "shop")], &["watch 00000000000000ab"]);
    }

    #[test]
    fn a_missing_label_is_never_empty_it_escalates() {
        check(&[("alertname", "HighLatency")], &["slow !label_missing"]);
        check(&[("alertname", "HighLatency"), ("service", "")], &["slow !label_missing"]);
        check(&[("alertname", "StackSlow")], &["stack !label_missing"]);
        check(&[("alertname", "StackSlow"), ("stack", "shop")], &["stack 00000000000000ab"]);
    }

    #[test]
    fn the_closest_rules_say_what_kept_them() {
        let alert = labels(&[("alertname", "HighLatency"), ("severity", "info"), ("team", "ops")]);
        let near = closest(&catalog(), None, &alert, 3);
        assert_eq!(near.len(), 1, "what matches is not close, and what shares nothing is not: {near:?}");
        assert_eq!((near[0].rule.as_str(), near[0].matched, near[0].of), ("slow", 1, 2));
        assert_eq!(near[0].kept_from, ["severity is \"info\", the rule wants severity!~\"info|none\""]);
    }

    #[test]
    fn a_rule_for_another_alert_is_less_close() {
        let rules = vec![
            rule("other", &["alertname = \"DiskFull\"", "service = \"web\""], |_| {}),
            rule("same", &["alertname = \"HighLatency\"", "zone = \"a\"", "team = \"x\""], |_| {}),
        ];
        let alert = labels(&[("alertname", "HighLatency"), ("service", "web")]);
        let near = closest(&Catalog::new(rules, BTreeMap::new()), None, &alert, 5);
        assert_eq!(near.iter().map(|near| near.rule.as_str()).collect::<Vec<_>>(), ["same", "other"]);
        assert_eq!(near[0].kept_from[0], "there is no label zone, the rule wants zone=\"a\"");
    }

    #[test]
    fn an_explanation_tells_which_why_and_what_else() {
        let alert = labels(&[("alertname", "HighLatency"), ("service", "web")]);
        let explanation = explain(&catalog(), Mode::Auto, None, &alert);
        let [matched] = &explanation.matched[..] else { panic!("one rule, found {explanation:?}") };
        assert_eq!((matched.rule.as_str(), matched.key.as_str()), ("slow", "service=\"web\""));
        assert_eq!(matched.because[0].value.as_deref(), Some("HighLatency"));
        assert_eq!(matched.because[1].value, None);
        assert_eq!(matched.escalates.as_ref().map(|reason| &*reason.code), Some("no_runbook"));
        assert_eq!(explanation.not_reached, ["all-slow"]);
    }

    /// A rule as it is generated: what it takes, its matchers as name, operator and pattern, its `by`, whether it takes events of our own, and `continue`.
    type Wanted = (Option<On>, Vec<(String, Op, String)>, Vec<String>, bool, bool);

    fn wanted() -> impl Strategy<Value = Wanted> {
        let on = prop::sample::select(vec![None, None, Some(On::Swarm), Some(On::Deploy)]);
        let matcher = ("[abc]", prop::sample::select(&OPS[..]), "(a|b|ab|\\.|\\.\\*|\\|){0,4}");
        let by = prop::sample::subsequence(vec!["a".to_string(), "b".to_string()], 0..=2);
        (on, prop::collection::vec(matcher, 1..4), by, any::<bool>(), any::<bool>())
    }

    /// What is looked for, one rule after the other: the rules that match up to the first that does not `continue`, each with its key.
    fn naively(
        rules: &[Wanted],
        on: Option<On>,
        own: bool,
        labels: &BTreeMap<String, String>,
        fingerprint: Fingerprint,
    ) -> Vec<(String, Option<String>)> {
        let seen = |name: &String| labels.get(name).map_or("", String::as_str);
        let mut found = Vec::new();
        for (at, (takes, matchers, by, takes_own, goes_on)) in rules.iter().enumerate() {
            let matches = matchers.iter().all(|(name, op, pattern)| naive(*op, pattern, seen(name)));
            if *takes != on || !matches || (own && !takes_own) {
                continue;
            }
            let key = match &by[..] {
                [] => Some(fingerprint.to_string()),
                by if by.iter().any(|name| seen(name).is_empty()) => None,
                by => Some(by.iter().map(|name| format!("{name}=\"{}\"", seen(name))).collect::<Vec<_>>().join(", ")),
            };
            found.push((format!("r{at}"), key));
            if !goes_on {
                break;
            }
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

        #[test]
        fn routing_is_what_a_naive_reading_of_all_rules_says(
            wanted in prop::collection::vec(wanted(), 0..12),
            values in prop::collection::btree_map("[abcd]", "[ab]{0,2}", 0..4),
            own in any::<bool>(),
        ) {
            let rule = |(at, (on, matchers, by, own, goes_on)): (usize, &Wanted)| {
                let matcher = |(name, op, pattern): &(String, Op, String)| Matcher::new(name, *op, pattern).expect(pattern);
                let mut rule = Rule::matching(&format!("r{at}"), matchers.iter().map(matcher).collect());
                (rule.on, rule.by, rule.own, rule.goes_on) = (*on, by.clone(), *own, *goes_on);
                Arc::new(rule)
            };
            let catalog = Catalog::new(wanted.iter().enumerate().map(rule).collect(), BTreeMap::new());
            let labels: Labels = values.clone().into_iter().collect();
            let shown = |matched: Vec<Match>| -> Vec<_> {
                matched.into_iter().map(|one| (one.rule.name.clone(), one.key.ok())).collect()
            };
            let fingerprint = Fingerprint::of(&labels);
            let routed = shown(route(&catalog, &labels, fingerprint).matched);
            prop_assert_eq!(routed, naively(&wanted, None, false, &values, fingerprint));
            for on in [On::Swarm, On::Deploy, On::Manual] {
                let event = Event { own, ..Event::new(on, labels.clone(), jiff::Timestamp::UNIX_EPOCH) };
                let routed = shown(route_event(&catalog, &event));
                prop_assert_eq!(routed, naively(&wanted, Some(on), own, &values, fingerprint));
            }
        }
    }
}
