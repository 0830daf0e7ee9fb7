//! A compiled runbook: its sources, their content hash, its handlers and its parameters.

use super::budget::Meter;
use super::check::{self, File};
use super::modules::{self, Shelf};
use super::reach::{self, EffectCall};
use super::sandbox::{self, COMPILER, Modules, Pinned};
use super::session::Session;
use super::{failure, value};
use crate::model::diagnostic::{Diagnostic, Severity};
use crate::model::run::{Handler, ProgramHash, Sources};
use rhai::{AST, Dynamic, Scope};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

pub struct Program {
    pub name: String,
    pub hash: ProgramHash,
    /// The runbook and the modules that it reaches; modules given beside them are left out.
    pub sources: Arc<Sources>,
    /// The `//!` lines at its head.
    pub doc: String,
    /// What `defaults()` declares: the parameters, with their values.
    pub defaults: BTreeMap<String, Value>,
    pub handlers: Vec<Handler>,
    /// What its handlers can change.
    pub effects: Vec<EffectCall>,
    /// Its syntax tree, made when it is first run: one takes twenty times the room of its text, and of a thousand runbooks few run.
    ast: OnceLock<AST>,
    modules: Modules,
}

/// Every code of a diagnostic about a runbook, with what it means.
pub const CODES: [(&str, &str); 15] = [
    ("runbook_syntax", "the file is no valid Rhai"),
    ("runbook_too_large", "the file, or something in it, is larger than the sandbox allows"),
    ("runbook_import", "an import of something else than a module in runbooks/lib/, or of modules in a circle"),
    (
        "runbook_no_handler",
        "the runbook has no handler: on_firing(alert, params), on_resolved(alert, params) or on_event(event, params)",
    ),
    ("runbook_handler_arguments", "a handler or defaults() with the wrong number of arguments"),
    ("runbook_defaults", "defaults() failed, or returned something else than a map of plain values"),
    ("runbook_top_level", "a statement outside of a function that is neither a constant nor an import"),
    ("runbook_shadows_primitive", "a function with the name of a primitive, which it would hide"),
    ("runbook_unknown_function", "a call of a function that does not exist"),
    ("runbook_arguments", "a call with the wrong number of arguments"),
    ("runbook_duration", "text that is no duration where one is expected"),
    ("runbook_effect_in_wait", "a wait_until closure that does more than read"),
    ("runbook_effect_in_verify", "a verify that does more than read, itself or through what it calls"),
    ("runbook_write_in_wait", "a wait_until closure that writes to a variable outside: what it writes is lost"),
    ("runbook_no_doc", "a warning: no //! lines at the head say what the runbook does"),
];

impl Program {
    /// Compiles and checks sources. Errors have places; warnings are kept in the second half of `Ok`.
    ///
    /// Files are named as below `runbooks/`: `scale_out.rhai`, `lib/x.rhai`. Modules are keyed alike, `lib/x.rhai`, and may be more
    /// than the runbook needs.
    pub fn compile(sources: Arc<Sources>) -> Result<(Program, Vec<Diagnostic>), Vec<Diagnostic>> {
        Self::compile_with(sources, &Shelf::default())
    }

    /// The same for one of many programs with the same modules, which are compiled once.
    pub(super) fn compile_with(
        sources: Arc<Sources>,
        shelf: &Shelf,
    ) -> Result<(Program, Vec<Diagnostic>), Vec<Diagnostic>> {
        sandbox::on_deep_stack(|| compile(&sources, shelf))
    }

    /// Its syntax tree. Called on a deep stack.
    pub(super) fn ast(&self) -> &AST {
        let file = || File { name: self.file(), text: self.sources.main.clone() };
        self.ast.get_or_init(|| parse(&file()).expect("it was parsed before, by the same engine"))
    }

    pub(super) fn modules(&self) -> &Modules {
        &self.modules
    }

    /// Where a function of its own file is defined; zeros when it is not.
    pub(super) fn place_of(&self, function: &str) -> (usize, usize) {
        File { name: self.file(), text: self.sources.main.clone() }.place_of(function).unwrap_or((0, 0))
    }

    /// Its own file, below `runbooks/`.
    pub fn file(&self) -> String {
        main_file(&self.name)
    }
}

fn main_file(name: &str) -> String {
    format!("{name}.rhai")
}

fn compile(sources: &Sources, shelf: &Shelf) -> Result<(Program, Vec<Diagnostic>), Vec<Diagnostic>> {
    let main = File { name: main_file(&sources.name), text: sources.main.clone() };
    let ast = parse(&main).map_err(|error| vec![*error])?;
    let compiled = modules::compile(&main, &ast, &sources.modules, shelf)?;
    let functions = compiled.functions();
    let mut found = check::file(&main, &ast, &functions);
    for module in &compiled.files {
        found.extend_from_slice(module.findings(&functions));
    }
    let handlers = handlers(&main, &ast, &mut found);
    if ast.doc().is_empty() {
        let warning = Diagnostic::error("runbook_no_doc", &main.name, "nothing says what this runbook does").warning();
        found.push(warning.help("begin the file with lines such as `//! Restart a service whose tasks keep failing.`"));
    }
    let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(|it| it.severity == Severity::Error);
    if !errors.is_empty() {
        return Err(errors);
    }
    let effects = reach::effects(&main.name, &ast, &compiled.files, &handlers);
    let modules: Modules = Arc::new(compiled.modules);
    let defaults = defaults(&main, &ast, &modules).map_err(|error| vec![*error])?;
    let sources = Sources {
        name: sources.name.clone(),
        main: sources.main.clone(),
        modules: compiled.files.iter().map(|module| (module.file.name.clone(), module.file.text.clone())).collect(),
    };
    let program = Program {
        name: sources.name.clone(),
        hash: hash(&sources),
        doc: doc(&ast),
        sources: Arc::new(sources),
        defaults,
        handlers,
        effects,
        ast: OnceLock::new(),
        modules,
    };
    Ok((program, warnings))
}

/// Parses one file. The error has its place.
pub(super) fn parse(file: &File) -> Result<AST, Box<Diagnostic>> {
    if file.text.len() > sandbox::MAX_SOURCE_BYTES {
        let (size, limit) = (file.text.len() >> 10, sandbox::MAX_SOURCE_BYTES >> 10);
        let message = format!("the file has {size} KiB; the largest allowed has {limit} KiB");
        return Err(Diagnostic::error("runbook_too_large", &file.name, message).into());
    }
    let mut ast = COMPILER.compile(&*file.text).map_err(|error| check::syntax(file, &error))?;
    ast.set_source(file.name.as_str());
    Ok(ast)
}

/// SHA-256 over the texts and the modules' paths; the runbook's own name is no part of it.
fn hash(sources: &Sources) -> ProgramHash {
    use std::fmt::Write;
    let mut hasher = Sha256::new();
    let mut add = |text: &str| {
        // The length keeps two texts from reading as another two.
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    add(&sources.main);
    for (path, text) in &sources.modules {
        add(path);
        add(text);
    }
    let mut hex = String::with_capacity(64);
    for byte in hasher.finalize() {
        write!(hex, "{byte:02x}").expect("a String takes everything");
    }
    ProgramHash(hex.into())
}

/// The `//!` lines without their marks.
fn doc(ast: &AST) -> String {
    let lines: Vec<&str> = ast.doc().lines().map(|line| line.trim().trim_start_matches("//!").trim()).collect();
    lines.join("\n").trim().to_string()
}

/// The handlers that the runbook has; what is wrong with them is added to `found`.
fn handlers(main: &File, ast: &AST, found: &mut Vec<Diagnostic>) -> Vec<Handler> {
    let mut handlers = Vec::new();
    let mut named = false;
    for function in ast.iter_functions() {
        let place = |code: &str, message: String| main.at_function(code, function.name, message);
        match function.name {
            "defaults" if !function.params.is_empty() => {
                found.push(place("runbook_handler_arguments", "defaults() takes no arguments".to_string()));
            }
            name => {
                let Some(handler) = Handler::ALL.into_iter().find(|it| it.name() == name) else {
                    continue;
                };
                // It judges what another did.
                named |= handler != Handler::Verify;
                if function.params.len() == 2 {
                    handlers.push(handler);
                } else {
                    let count = function.params.len();
                    found.push(
                        place("runbook_handler_arguments", format!("{name} takes 2 arguments, this one has {count}"))
                            .help(format!(
                                "write `fn {name}({}, params)`",
                                if handler == Handler::OnEvent { "event" } else { "alert" }
                            )),
                    );
                }
            }
        }
    }
    if !named {
        found.push(
            Diagnostic::error("runbook_no_handler", &main.name, "the runbook has no handler, so nothing would call it")
                .help("write `fn on_firing(alert, params) { … }`"),
        );
    }
    handlers.sort();
    handlers
}

/// What `defaults()` returns, evaluated without primitives; no parameters when there is no such function.
fn defaults(main: &File, ast: &AST, modules: &Modules) -> Result<BTreeMap<String, Value>, Box<Diagnostic>> {
    if !ast.iter_functions().any(|function| function.name == "defaults" && function.params.is_empty()) {
        return Ok(BTreeMap::new());
    }
    let session = Session::declaring();
    let _meter = Meter::start();
    let engine = sandbox::engine(&session, Pinned(modules.clone()));
    let result = engine.call_fn::<Dynamic>(&mut Scope::new(), ast, "defaults", ());
    let wrong = |message: String| {
        main.at_function("runbook_defaults", "defaults", message)
            .help("it declares the parameters with their values: `fn defaults() { #{ step: 1, ceiling: 10 } }`")
    };
    match result {
        Ok(value) if value.is_map() => match value::to_json(&value) {
            Ok(Value::Object(fields)) => Ok(fields.into_iter().collect()),
            Ok(_) => unreachable!("a map is written as an object"),
            Err(what) => Err(wrong(format!("defaults() returns {what}, which no rule could pass")).into()),
        },
        Ok(value) => Err(wrong(format!("defaults() returns {}, expected a map", value::kind_of(&value))).into()),
        Err(error) => Err(failed(main, session.failure().unwrap_or_else(|| failure::of(&error, &main.name))).into()),
    }
}

fn failed(main: &File, failure: super::evaluate::Failure) -> Diagnostic {
    let message = format!("defaults() fails: {}", failure.message);
    let mut diagnostic = Diagnostic::error("runbook_defaults", &failure.file, message);
    if failure.file == main.name && failure.line > 0 {
        diagnostic = diagnostic.at(&main.text, failure.line, failure.column, 1);
    } else if failure.file.is_empty() {
        diagnostic.file.clone_from(&main.name);
    }
    diagnostic
}

#[cfg(test)]
mod tests;
