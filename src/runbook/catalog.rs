//! Everything that `rules/` and `runbooks/` say, loaded and valid as a whole.

use super::document::Place;
use super::files::Files;
use super::modules::Shelf;
use super::program::Program;
use super::rules::{self, Written};
use super::sandbox;
use crate::config::Config;
use crate::model::diagnostic::{Diagnostic, Severity, nearest};
use crate::model::event::On;
use crate::model::index::Index;
use crate::model::label::Labels;
use crate::model::rule::{Expects, Rule};
use crate::model::run::{Handler, Sources};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

#[derive(Default)]
pub struct Catalog {
    /// In order: files by name, rules as they stand.
    pub rules: Vec<Arc<Rule>>,
    /// By name, without `.rhai`.
    pub programs: BTreeMap<String, Arc<Program>>,
    pub warnings: Vec<Diagnostic>,
    /// Over every file read: tells one content from another.
    pub digest: String,
    index: Index,
    /// The rules on events.
    events: BTreeMap<On, Index>,
    positions: HashMap<String, usize>,
    /// What compiling each program warned of: a program that is taken over keeps its warnings.
    compiled: HashMap<String, Vec<Diagnostic>>,
    /// Each file of rules as it was read: an unchanged one is not parsed again.
    parsed: Vec<Arc<RuleFile>>,
}

/// What the configuration offers that rules may use.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    /// The names of reload targets; with none, grants of `reload` are not checked against them.
    pub reload_targets: Vec<String>,
    /// There is a Prometheus to ask.
    pub prometheus: bool,
}

impl Offers {
    pub fn of(config: &Config) -> Self {
        Offers { reload_targets: config.reload.keys().cloned().collect(), prometheus: config.prometheus.url.is_some() }
    }
}

/// A file of rules, read.
struct RuleFile {
    /// For people, with its directory.
    file: String,
    text: Arc<str>,
    rules: Vec<Written>,
    findings: Vec<Diagnostic>,
}

impl Catalog {
    /// A catalog of rules and programs that are known to fit each other.
    pub fn new(rules: Vec<Arc<Rule>>, programs: BTreeMap<String, Arc<Program>>) -> Self {
        let of = |on: Option<On>| Index::new((0u32..).zip(&rules).filter(|(_, rule)| rule.on == on));
        let index = of(None);
        let taken: BTreeSet<On> = rules.iter().filter_map(|rule| rule.on).collect();
        let events = taken.into_iter().map(|on| (on, of(Some(on)))).collect();
        let positions = rules.iter().enumerate().map(|(at, rule)| (rule.name.clone(), at)).collect();
        Catalog { rules, programs, index, events, positions, ..Catalog::default() }
    }

    /// Reads, parses, compiles and cross-checks both directories. All or nothing. Unchanged runbooks are taken over from `previous` without compiling.
    pub fn load(
        rules: &Path,
        runbooks: &Path,
        offers: &Offers,
        previous: Option<&Catalog>,
    ) -> Result<Catalog, Vec<Diagnostic>> {
        Self::build(Files::read(rules, runbooks), rules, runbooks, offers, previous)
    }

    /// The same from files already read.
    pub fn build(
        files: Files,
        rules: &Path,
        runbooks: &Path,
        offers: &Offers,
        previous: Option<&Catalog>,
    ) -> Result<Catalog, Vec<Diagnostic>> {
        let mut found = files.unreadable.clone();
        let (programs, compiled, broken) = compile(&files, runbooks, previous, &mut found);
        let parsed = parse(&files, rules, previous);
        let mut checker =
            Checker { programs: &programs, broken, offers, runbooks, names: HashMap::new(), found: &mut found };
        for file in &parsed {
            checker.found.extend(file.findings.iter().cloned());
            for rule in &file.rules {
                checker.rule(rule, file);
            }
        }
        let mut warnings: Vec<Diagnostic> = compiled.values().flatten().cloned().collect();
        warnings.extend(unreachable(&parsed));
        tidy(&mut found);
        if found.iter().any(|finding| finding.severity == Severity::Error) {
            found.extend(warnings);
            return Err(found);
        }
        warnings.append(&mut found);
        tidy(&mut warnings);
        let rules = parsed.iter().flat_map(|file| &file.rules).map(|written| written.rule.clone()).collect();
        Ok(Catalog { warnings, digest: files.digest, compiled, parsed, ..Catalog::new(rules, programs) })
    }

    /// Refuses what nobody could ever approve. `groups` are the configuration's: who belongs to each.
    pub fn with_people(self, groups: &BTreeMap<String, Vec<String>>) -> Result<Catalog, Vec<Diagnostic>> {
        let mut found = Vec::new();
        for (file, Written { rule, places }) in self.written() {
            let asked = &rule.approve;
            let may: BTreeSet<&String> = asked
                .by
                .iter()
                .flat_map(|name| groups.get(name).map_or(std::slice::from_ref(name), |all| all))
                .collect();
            if asked.by.is_empty() || may.len() >= asked.people as usize {
                continue;
            }
            let message = match may.len() {
                1 => format!("{} people must approve, and only one may", asked.people),
                few => format!("{} people must approve, and only {few} may", asked.people),
            };
            let place = places.approvers;
            let finding = Diagnostic::error("rule_approvers", &file.file, message);
            found.push(
                finding
                    .at(&file.text, place.line, place.column, place.length)
                    .help("lower `people`, or add people or a group of the configuration's `groups` to `by`"),
            );
        }
        if found.is_empty() {
            return Ok(self);
        }
        found.extend(self.warnings);
        tidy(&mut found);
        Err(found)
    }

    /// The windows of rules that are over for good: what they were written for would be changed again.
    pub fn past_freezes(&self, now: Timestamp) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for (file, Written { rule, places }) in self.written() {
            for (window, place) in rule.freeze.iter().zip(&places.freeze) {
                let Some(end) = window.past(now) else { continue };
                let message = format!("this freeze is over since {}: it holds nothing any more", minute(end));
                let finding = Diagnostic::error("rule_past_freeze", &file.file, message).warning();
                let finding = finding.at(&file.text, place.line, place.column, place.length);
                found.push(finding.help("remove it, or write the dates that are meant"));
            }
        }
        found
    }

    fn written(&self) -> impl Iterator<Item = (&RuleFile, &Written)> {
        self.parsed.iter().flat_map(|file| file.rules.iter().map(move |written| (&**file, written)))
    }

    pub fn rule(&self, name: &str) -> Option<&Arc<Rule>> {
        self.positions.get(name).map(|at| &self.rules[*at])
    }

    /// The rules whose matchers all match, in order. Its cost does not grow with the number of rules that ask for other values.
    pub fn matching(&self, labels: &Labels) -> impl Iterator<Item = &Arc<Rule>> {
        self.found_by(&self.index, labels)
    }

    /// The same for an event: the rules on events of its kind.
    pub fn matching_event(&self, on: On, labels: &Labels) -> impl Iterator<Item = &Arc<Rule>> {
        self.events.get(&on).into_iter().flat_map(move |index| self.found_by(index, labels))
    }

    /// Does any rule take events of this kind?
    pub fn listens(&self, on: On) -> bool {
        self.events.contains_key(&on)
    }

    fn found_by(&self, index: &Index, labels: &Labels) -> impl Iterator<Item = &Arc<Rule>> {
        let candidates = index.candidates(labels).into_iter().map(|at| &self.rules[at as usize]);
        candidates.filter(|rule| rule.matches(labels))
    }
}

/// Sorted by place, each once: a library's fault is found again with every runbook that imports it.
fn tidy(findings: &mut Vec<Diagnostic>) {
    let key = |one: &Diagnostic| (one.file.clone(), one.line, one.column, one.code.clone(), one.message.clone());
    findings.sort_by_cached_key(key);
    findings.dedup();
}

/// An instant as a window writes its ends.
fn minute(at: Timestamp) -> impl std::fmt::Display {
    at.strftime("%Y-%m-%d %H:%MZ")
}

fn unreachable(files: &[Arc<RuleFile>]) -> Vec<Diagnostic> {
    let all: Vec<(&RuleFile, &Written)> =
        files.iter().flat_map(|file| file.rules.iter().map(move |rule| (&**file, rule))).collect();
    let rules: Vec<&Rule> = all.iter().map(|(_, written)| &*written.rule).collect();
    rules::unreachable(&rules)
        .into_iter()
        .map(|(at, other)| {
            let (file, written) = all[at];
            let (name, place) = (&written.rule.name, written.places.name);
            let message =
                format!("`{name}` is never reached: `{}` before it takes all of its alerts", rules[other].name);
            Diagnostic::error("rule_unreachable", &file.file, message)
                .at(&file.text, place.line, place.column, place.length)
                .help(format!("move it before {}, or let that one say `continue: true`", rules[other].place))
                .warning()
        })
        .collect()
}

/// Reads the files of rules that have changed.
fn parse(files: &Files, directory: &Path, previous: Option<&Catalog>) -> Vec<Arc<RuleFile>> {
    let known: HashMap<&str, &Arc<RuleFile>> =
        previous.iter().flat_map(|previous| &previous.parsed).map(|file| (file.file.as_str(), file)).collect();
    let named: Vec<(String, &Arc<str>)> =
        files.rules.iter().map(|(path, text)| (directory.join(path).display().to_string(), text)).collect();
    in_parallel(&named, |(file, text)| match known.get(file.as_str()) {
        Some(known) if known.text == **text => Arc::clone(known),
        _ => {
            let (rules, findings) = rules::read(file, text);
            Arc::new(RuleFile { file: file.clone(), text: Arc::clone(text), rules, findings })
        }
    })
}

type Programs = BTreeMap<String, Arc<Program>>;

/// Compiles what has changed. Also returns the warnings of each program, and the names of those that do not compile.
fn compile(
    files: &Files,
    runbooks: &Path,
    previous: Option<&Catalog>,
    found: &mut Vec<Diagnostic>,
) -> (Programs, HashMap<String, Vec<Diagnostic>>, BTreeSet<String>) {
    let (mut programs, mut warnings, mut broken) = (Programs::new(), HashMap::new(), BTreeSet::new());
    let mut changed = Vec::new();
    for (path, text) in &files.runbooks {
        let name = path.strip_suffix(".rhai").unwrap_or(path).to_string();
        match previous.and_then(|previous| Some((previous, previous.programs.get(&name)?))) {
            Some((previous, program)) if current(program, text, &files.modules) => {
                warnings.insert(name.clone(), previous.compiled.get(&name).cloned().unwrap_or_default());
                programs.insert(name, program.clone());
            }
            _ => changed.push(Arc::new(Sources { name, main: text.clone(), modules: files.modules.clone() })),
        }
    }
    let shelf = Shelf::default();
    let compiled = in_parallel(&changed, |sources| Program::compile_with(sources.clone(), &shelf));
    for (sources, compiled) in changed.iter().zip(compiled) {
        let placed = |mut findings: Vec<Diagnostic>| {
            for finding in &mut findings {
                finding.file = runbooks.join(&finding.file).display().to_string();
            }
            findings
        };
        match compiled {
            Ok((program, findings)) => {
                warnings.insert(sources.name.clone(), placed(findings));
                programs.insert(sources.name.clone(), Arc::new(program));
            }
            Err(findings) => {
                found.extend(placed(findings));
                broken.insert(sources.name.clone());
            }
        }
    }
    (programs, warnings, broken)
}

/// Does the same to each, on several threads when there are many: a start reads and compiles everything there is. The threads have stacks deep
/// enough to compile any runbook.
fn in_parallel<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    const WORTH_A_THREAD: usize = 32;
    let part = |part: &[T]| -> Vec<R> { sandbox::on_deep_stack(|| part.iter().map(&work).collect()) };
    if all.is_empty() {
        return Vec::new();
    }
    // How many processors there are is read from files: not for one file of rules.
    if all.len() <= WORTH_A_THREAD {
        return part(all);
    }
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(4));
    let chunk = all.len().div_ceil(threads).max(WORTH_A_THREAD);
    std::thread::scope(|scope| {
        let mut chunks = all.chunks(chunk);
        let first = chunks.next().unwrap_or_default();
        let part = &part;
        let others: Vec<_> = chunks.map(|chunk| scope.spawn(move || part(chunk))).collect();
        let mut results = part(first);
        for other in others {
            results.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    })
}

/// Are these texts, the modules it reaches included, those that the program was compiled from?
fn current(program: &Program, main: &str, modules: &BTreeMap<String, Arc<str>>) -> bool {
    let same = |(path, text): (&String, &Arc<str>)| modules.get(path).is_some_and(|now| now == text);
    *program.sources.main == *main && program.sources.modules.iter().all(same)
}

/// What needs more than one file to judge.
struct Checker<'a> {
    programs: &'a Programs,
    /// They exist but do not compile, which is said elsewhere.
    broken: BTreeSet<String>,
    offers: &'a Offers,
    /// Their directory, for people.
    runbooks: &'a Path,
    /// Where each name was first given.
    names: HashMap<String, String>,
    found: &'a mut Vec<Diagnostic>,
}

impl Checker<'_> {
    fn rule(&mut self, Written { rule, places }: &Written, RuleFile { file, text, .. }: &RuleFile) {
        let mut findings = Vec::new();
        let mut error = |code: &str, place: Place, message: String, help: Option<String>| {
            let finding = Diagnostic::error(code, file, message).at(text, place.line, place.column, place.length);
            findings.push(Diagnostic { help, ..finding });
        };
        if let Some(first) = self.names.get(&rule.name) {
            let message = format!("there is already a rule `{}`, at {first}", rule.name);
            let help = "incidents and budgets belong to a rule by its name: give each its own";
            error("rule_duplicate_name", places.name, message, Some(help.to_string()));
        } else {
            self.names.insert(rule.name.clone(), format!("{file}:{}", places.name.line));
        }
        match rule.runbook.as_deref().map(|name| (name, self.programs.get(name))) {
            Some((name, None)) if !self.broken.contains(name) => {
                let known = || self.programs.keys().chain(&self.broken).map(String::as_str);
                let help = match nearest(name, known()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "write runbooks/{name}.rhai, or name one of: {}",
                        known().collect::<Vec<_>>().join(", ")
                    ),
                };
                error("rule_unknown_runbook", places.runbook, format!("there is no runbook `{name}`"), Some(help));
            }
            Some((name, Some(program))) => {
                let wanted = if rule.on.is_some() { "on_event(event, params)" } else { "on_firing(alert, params)" };
                if rule_handler(rule, program).is_none() {
                    let message = format!("the runbook `{name}` has no `fn {wanted}`");
                    let help = "write the handler, or name a runbook that has it".to_string();
                    error("rule_no_handler", places.runbook, message, Some(help));
                }
                if let Some(place) = places.runbook_verifies.filter(|_| !program.handlers.contains(&Handler::Verify)) {
                    let message =
                        format!("the runbook `{name}` has no `fn verify(alert, params)` to be asked within this time");
                    let help = "write the handler, or use `resolved_within`: the alert itself must resolve".to_string();
                    error("rule_no_handler", place, message, Some(help));
                }
                params(rule, places, program, &mut error);
                self.grants(rule, places, program, &mut error);
            }
            _ => {}
        }
        for (grant, place) in rule.allow.iter().zip(&places.allow) {
            let Some(target) = grant.target.literal(&Labels::default()) else { continue };
            let targets = &self.offers.reload_targets;
            if grant.primitive != "reload" || targets.is_empty() || targets.contains(&target) {
                continue;
            }
            let known = targets.iter().map(String::as_str);
            let help = match nearest(&target, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "add it to `reload` of runbookd.yaml, which has: {}; or remove it here and from `params`",
                    known.collect::<Vec<_>>().join(", ")
                ),
            };
            error("rule_unknown_target", *place, format!("there is no reload target `{target}`"), Some(help));
        }
        if matches!(rule.verify.expects, Expects::Promql(_)) && !self.offers.prometheus {
            let message = "there is nobody to ask: the configuration has no `prometheus.url`".to_string();
            let help = "set it in runbookd.yaml, or use `resolved_within`: the alert itself must resolve".to_string();
            error("rule_no_prometheus", places.promql, message, Some(help));
        }
        // Not everybody has every target of a rule that is shipped: what is there is reloaded, and a run that misses one asks people.
        // What is not granted may stand in a branch that this rule's parameters never take.
        let unknown = |finding: Diagnostic| match ["rule_unknown_target", "rule_no_grant"].contains(&&*finding.code) {
            true => finding.warning(),
            false => finding,
        };
        self.found.extend(findings.into_iter().map(unknown));
    }
}

impl Checker<'_> {
    /// What the runs of this rule may come to call, and would be denied.
    fn grants(
        &self,
        rule: &Rule,
        places: &rules::Places,
        program: &Program,
        error: &mut impl FnMut(&str, Place, String, Option<String>),
    ) {
        let started = [rule_handler(rule, program), rule.on.is_none().then_some(Handler::OnResolved)];
        let mut told = BTreeSet::new();
        for call in program.effects.iter().filter(|call| started.contains(&Some(call.handler))) {
            let granted = rule.allow.iter().any(|grant| grant.primitive == call.primitive);
            if granted || !told.insert(call.primitive) {
                continue;
            }
            let file = self.runbooks.join(&call.file);
            let at = format!("{}:{}:{}", file.display(), call.line, call.column);
            let message = format!("the runbook calls `{}` at {at}, which `allow` does not grant", call.primitive);
            let help = format!(
                "a run that gets there is denied: add an entry `- {}: …` to `allow`, or name another runbook",
                call.primitive
            );
            error("rule_no_grant", places.grants, message, Some(help));
        }
    }
}

/// The handler of the runbook that a rule starts. For an event one that was written for alerts will do: both get labels, annotations and a time.
pub fn rule_handler(rule: &Rule, program: &Program) -> Option<Handler> {
    let wanted: &[Handler] = match rule.on {
        None => &[Handler::OnFiring],
        Some(_) => &[Handler::OnEvent, Handler::OnFiring],
    };
    wanted.iter().copied().find(|handler| program.handlers.contains(handler))
}

/// Each parameter must be declared by the runbook's `defaults()`, with a value of the same type.
fn params(
    rule: &Rule,
    places: &rules::Places,
    program: &Program,
    error: &mut impl FnMut(&str, Place, String, Option<String>),
) {
    for (name, value) in &rule.params {
        let (key, at) = places.params.get(name).copied().unwrap_or_default();
        let Some(default) = program.defaults.get(name) else {
            let known = || program.defaults.keys().map(String::as_str);
            let help = match nearest(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if program.defaults.is_empty() => "its `defaults()` declares none".to_string(),
                None => format!("its `defaults()` declares: {}", known().collect::<Vec<_>>().join(", ")),
            };
            let message = format!("the runbook `{}` has no parameter `{name}`", program.name);
            error("rule_unknown_param", key, message, Some(help));
            continue;
        };
        if !fits(default, value) {
            let message = format!("`{name}` must be {}, found {}", kind(default), kind(value));
            let help = format!("the runbook `{}` declares it as {default}", program.name);
            error("rule_param_type", at, message, Some(help));
        }
    }
}

/// Has a parameter's value the type that its default declares?
pub fn fits(default: &Value, value: &Value) -> bool {
    match (default, value) {
        // A default of nothing says nothing of the type.
        (Value::Null, _) => true,
        (Value::Number(default), Value::Number(value)) => default.is_f64() || !value.is_f64(),
        (default, value) => kind(default) == kind(value),
    }
}

/// The type of a parameter, in words.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a whole number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
