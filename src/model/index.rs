//! Finds the rules that can match a set of labels without looking at all of them.

use super::label::Labels;
use super::rule::Rule;
use hashbrown::HashMap;
use std::sync::Arc;

/// Each rule is filed under its most selective matcher: the one with few possible values that fewest other rules share. Rules that have no such
/// matcher are looked at for every alert.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Label name → value → rules, in order.
    keyed: HashMap<Box<str>, HashMap<Box<str>, Vec<u32>>>,
    /// In order.
    others: Vec<u32>,
}

impl Index {
    /// Of these rules, each with its position.
    pub fn new<'a>(rules: impl Iterator<Item = (u32, &'a Arc<Rule>)> + Clone) -> Self {
        let mut shared: HashMap<(&str, &str), u32> = HashMap::new();
        for (_, rule) in rules.clone() {
            for matcher in &rule.matchers {
                for value in matcher.literals().unwrap_or_default() {
                    *shared.entry((&matcher.name, value)).or_default() += 1;
                }
            }
        }
        let mut index = Index::default();
        for (at, rule) in rules {
            let key = rule
                .matchers
                .iter()
                .filter_map(|matcher| Some((matcher.name.as_str(), matcher.literals()?)))
                .min_by_key(|(name, values)| values.iter().map(|value| shared[&(*name, *value)]).sum::<u32>());
            match key {
                None => index.others.push(at),
                Some((name, values)) => {
                    let by_value = index.keyed.entry(name.into()).or_default();
                    for value in values {
                        by_value.entry(value.into()).or_default().push(at);
                    }
                }
            }
        }
        index
    }

    /// The positions of the rules that can match, in order, each once. Their other matchers are still to be asked.
    pub fn candidates(&self, labels: &Labels) -> Vec<u32> {
        // A rule is filed under one name, so no two lists share one.
        let mut found = Vec::new();
        let mut lists = usize::from(!self.others.is_empty());
        if !self.keyed.is_empty() {
            for (name, value) in labels.iter() {
                if let Some(list) = self.keyed.get(name).and_then(|by_value| by_value.get(value)) {
                    found.extend_from_slice(list);
                    lists += 1;
                }
            }
        }
        found.extend_from_slice(&self.others);
        if lists > 1 {
            found.sort_unstable();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::matcher::{Matcher, Op};
    use super::*;
    use proptest::prelude::*;

    fn rule(matchers: Vec<Matcher>) -> Arc<Rule> {
        Arc::new(Rule::matching("r", matchers))
    }

    fn matcher() -> impl Strategy<Value = Matcher> {
        let op = prop::sample::select(vec![Op::Equal, Op::Equal, Op::NotEqual, Op::Matches, Op::NotMatches]);
        let value = prop::sample::select(vec!["", "1", "2", "3", "1|2", "2|3|", ".+", "1.*"]);
        ("[abc]", op, value).prop_map(|(name, op, value)| Matcher::new(&name, op, value).expect("a valid expression"))
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_scan_finds(
            rules in prop::collection::vec(prop::collection::vec(matcher(), 1..4), 0..20),
            labels in prop::collection::btree_map("[abcd]", "[123]{0,2}", 0..4),
        ) {
            let rules: Vec<Arc<Rule>> = rules.into_iter().map(rule).collect();
            let labels: Labels = labels.into_iter().collect();
            let matching = |at: &u32| rules[*at as usize].matchers.iter().all(|one| one.matches(&labels));
            let scan: Vec<u32> = (0..rules.len() as u32).filter(matching).collect();
            let found: Vec<u32> = Index::new((0u32..).zip(&rules)).candidates(&labels).into_iter().filter(matching).collect();
            prop_assert_eq!(found, scan);
        }
    }

    #[test]
    fn rules_for_other_values_are_not_looked_at() {
        let rules: Vec<Arc<Rule>> = (0..1_000)
            .map(|at| {
                let text = [r#"alertname = "HighLatency""#.to_string(), format!("service = s{at}")];
                rule(text.iter().map(|text| Matcher::parse(text).expect(text)).collect())
            })
            .collect();
        let labels: Labels = [("alertname", "HighLatency"), ("service", "s7")].into_iter().collect();
        assert_eq!(Index::new((0u32..).zip(&rules)).candidates(&labels), [7]);
    }
}
