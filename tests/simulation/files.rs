//! The files that people write: rules and runbooks as they stand, and the catalog that was loaded from them last.

use crate::outside::TARGETS;
use crate::rules::{RuleSpec, render};
use runbookd::runbook::catalog::{Catalog, Offers};
use runbookd::runbook::files;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Name and text: the shipped runbooks, and some that exercise what those do not.
macro_rules! runbooks {
    ($($folder:literal: $($name:literal),+;)+) => {
        &[$($(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $folder, "/", $name, ".rhai")))),+),+]
    };
}

const RUNBOOKS: &[(&str, &str)] = runbooks! {
    "runbooks":
        "add_node", "deploy", "node_down", "reconfigure", "remove_node", "replace_node", "reschedule_services", "restart_unhealthy",
        "rollback_bad_update", "scale_out", "scale_service";
    "tests/simulation/runbooks": "asker", "clumsy", "drainer", "kinds", "long", "quick", "scale_in", "steps", "tick";
};
const MODULES: &[(&str, &str)] = runbooks! { "runbooks": "lib/images", "lib/nodes", "lib/services"; };

thread_local! {
    /// Every runbook as it is shipped, compiled once.
    static COMPILED: Arc<Catalog> = Arc::new(build(&[], &BTreeMap::new(), None, None).unwrap_or_else(|why| panic!("{why}")));
}

pub struct Files {
    rules: Arc<Vec<RuleSpec>>,
    /// How often each runbook was changed.
    changes: BTreeMap<&'static str, u32>,
    broken: Option<Arc<str>>,
    loaded: (Arc<Vec<RuleSpec>>, Arc<Catalog>),
    /// Every text of a runbook that was ever valid.
    texts: BTreeSet<String>,
}

impl Files {
    pub fn new(rules: &[RuleSpec]) -> Self {
        let rules = Arc::new(rules.to_vec());
        let loaded = (rules.clone(), COMPILED.with(Arc::clone));
        let mut files = Files { rules, changes: BTreeMap::new(), broken: None, loaded, texts: BTreeSet::new() };
        if let Err(why) = files.load() {
            panic!("the generated files are not valid: {why}");
        }
        files
    }

    /// What was loaded last.
    pub fn rules(&self) -> Arc<Vec<RuleSpec>> {
        self.loaded.0.clone()
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        self.loaded.1.clone()
    }

    pub fn write_rules(&mut self, rules: &[RuleSpec]) {
        self.rules = Arc::new(rules.to_vec());
        self.broken = None;
    }

    pub fn write_runbook(&mut self, name: &'static str) {
        *self.changes.entry(name).or_default() += 1;
        self.broken = None;
    }

    pub fn break_with(&mut self, text: &Arc<str>) {
        self.broken = Some(text.clone());
    }

    pub fn are_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Takes what is broken out. Whether there was anything.
    pub fn mend(&mut self) -> bool {
        let mended = self.broken.take().is_some();
        if mended && let Err(why) = self.load() {
            panic!("the generated files are not valid: {why}");
        }
        mended
    }

    /// Loads what is written. An error says why it cannot be.
    pub fn load(&mut self) -> Result<Arc<Catalog>, String> {
        let catalog = build(&self.rules, &self.changes, self.broken.as_ref(), Some(&self.loaded.1))?;
        self.loaded = (self.rules.clone(), Arc::new(catalog));
        self.texts.extend(self.changes.iter().filter_map(|(name, times)| {
            let (_, text) = RUNBOOKS.iter().find(|(known, _)| known == name)?;
            Some(changed(text, *times))
        }));
        Ok(self.loaded.1.clone())
    }

    /// Was this ever the text of a valid runbook?
    pub fn ever_valid(&self, text: &str) -> bool {
        RUNBOOKS.iter().any(|(_, known)| *known == text) || self.texts.contains(text)
    }
}

fn changed(text: &str, times: u32) -> String {
    format!("{text}\n// Changed {times} times.\n")
}

fn build(
    rules: &[RuleSpec],
    changes: &BTreeMap<&'static str, u32>,
    broken: Option<&Arc<str>>,
    previous: Option<&Catalog>,
) -> Result<Catalog, String> {
    let text = |name: &str, text: &str| match changes.get(name) {
        Some(times) => changed(text, *times).into(),
        None => text.into(),
    };
    let mut files = files::Files {
        rules: BTreeMap::from([("rules.yaml".to_string(), render(rules).into())]),
        runbooks: RUNBOOKS.iter().map(|(name, found)| (format!("{name}.rhai"), text(name, found))).collect(),
        modules: MODULES.iter().map(|(name, text)| (format!("{name}.rhai"), (*text).into())).collect(),
        ..files::Files::default()
    };
    match broken {
        Some(text) if text.starts_with("fn") => drop(files.runbooks.insert("broken.rhai".into(), text.clone())),
        Some(text) => drop(files.rules.insert("zz.yaml".into(), text.clone())),
        None => {}
    }
    let offers = Offers { reload_targets: TARGETS.map(String::from).to_vec(), prometheus: true };
    let built = Catalog::build(files, Path::new("rules"), Path::new("runbooks"), &offers, previous);
    built.map_err(|findings| findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}
