//! The modules of a program: which ones it reaches from its imports, compiled once.

use super::budget::Meter;
use super::check::{self, File, Functions, Import, functions, imports};
use super::program::parse;
use super::reach::Calls;
use super::sandbox::{self, Modules, Pinned};
use super::session::Session;
use super::{failure, sandbox::module_file};
use crate::model::diagnostic::{Diagnostic, nearest};
use rhai::{AST, Module, Scope, Shared};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Where modules live, below `runbooks/`.
const FOLDER: &str = "lib/";

pub struct Compiled {
    /// By path as it is imported, `lib/services`.
    pub modules: BTreeMap<String, Shared<Module>>,
    pub files: Vec<Arc<ModuleFile>>,
}

impl Compiled {
    /// The functions of each module, by path as it is imported.
    pub fn functions(&self) -> BTreeMap<String, Functions> {
        let path = |file: &File| file.name.trim_end_matches(".rhai").to_string();
        self.files.iter().map(|module| (path(&module.file), module.functions.clone())).collect()
    }
}

pub struct ModuleFile {
    pub file: File,
    pub ast: AST,
    module: Shared<Module>,
    functions: Functions,
    /// What the lint finds in it. That depends on what it imports, and on nothing of the program that reaches it.
    findings: OnceLock<Vec<Diagnostic>>,
    calls: OnceLock<Calls>,
}

impl ModuleFile {
    /// What its functions call, looked for once.
    pub fn calls(&self) -> &Calls {
        self.calls.get_or_init(|| Calls::of(&self.ast))
    }

    /// What is wrong with it, looked for once. `modules` holds the functions of every module that it imports.
    pub fn findings(&self, modules: &BTreeMap<String, Functions>) -> &[Diagnostic] {
        self.findings.get_or_init(|| check::file(&self.file, &self.ast, modules))
    }
}

/// The modules that compiled, shared by all programs of one reading: many runbooks import the same ones. Valid for one set of sources.
#[derive(Default)]
pub struct Shelf(Mutex<HashMap<String, Arc<ModuleFile>>>);

impl Shelf {
    fn find(&self, path: &str) -> Option<Arc<ModuleFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    fn put(&self, path: &str, module: &Arc<ModuleFile>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_string(), module.clone());
    }
}

struct Builder<'a> {
    sources: &'a BTreeMap<String, Arc<str>>,
    shelf: &'a Shelf,
    done: Compiled,
    /// The paths being compiled, outermost first: an import of one of them is a circle.
    open: Vec<String>,
    errors: Vec<Diagnostic>,
}

/// Compiles every module that `main` reaches, imported ones before those that import them.
pub fn compile(
    main: &File,
    ast: &AST,
    sources: &BTreeMap<String, Arc<str>>,
    shelf: &Shelf,
) -> Result<Compiled, Vec<Diagnostic>> {
    let done = Compiled { modules: BTreeMap::new(), files: Vec::new() };
    let mut builder = Builder { sources, shelf, done, open: Vec::new(), errors: Vec::new() };
    builder.all(main, ast);
    if builder.errors.is_empty() { Ok(builder.done) } else { Err(builder.errors) }
}

impl Builder<'_> {
    fn all(&mut self, file: &File, ast: &AST) {
        for import in imports(ast) {
            match import {
                Import::Path { path, line, column, .. } => self.one(file, &path, line, column),
                Import::Computed { line, column } => self.errors.push(
                    Diagnostic::error("runbook_import", &file.name, "an import must name its module in plain text")
                        .at(&file.text, line, column, 1)
                        .help("as in `import \"lib/services\" as services;`"),
                ),
            }
        }
    }

    fn one(&mut self, from: &File, path: &str, line: usize, column: usize) {
        if self.done.modules.contains_key(path) {
            return;
        }
        let at = |message: String| {
            Diagnostic::error("runbook_import", &from.name, message).at(&from.text, line, column, path.len() + 2)
        };
        if self.open.iter().any(|open| open == path) {
            self.errors.push(at(format!("modules import each other in a circle: {} → {path}", self.open.join(" → "))));
            return;
        }
        let Some(text) = self.sources.get(&module_file(path)).filter(|_| path.starts_with(FOLDER)) else {
            let error = at(format!("there is no module {path:?}"));
            let known: Vec<&str> = self.sources.keys().map(|key| key.trim_end_matches(".rhai")).collect();
            self.errors.push(match nearest(path, known.iter().copied()) {
                Some(near) => error.help(format!("did you mean {near:?}?")),
                None => error.help(
                    "modules are in runbooks/lib/: `import \"lib/services\" as services;` reads lib/services.rhai",
                ),
            });
            return;
        };
        if self.done.modules.len() + self.open.len() >= sandbox::MAX_MODULES {
            self.errors.push(at(format!("a runbook reaches more than {} modules", sandbox::MAX_MODULES)));
            return;
        }
        if let Some(known) = self.shelf.find(path) {
            self.open.push(path.to_string());
            self.all(&known.file, &known.ast);
            self.open.pop();
            return self.add(path, known);
        }
        let file = File { name: module_file(path), text: text.clone() };
        let ast = match parse(&file) {
            Ok(ast) => ast,
            Err(error) => return self.errors.push(*error),
        };
        self.open.push(path.to_string());
        self.all(&file, &ast);
        self.open.pop();
        if self.errors.is_empty() {
            self.build(path, file, ast);
        }
    }

    fn add(&mut self, path: &str, module: Arc<ModuleFile>) {
        self.done.modules.insert(path.to_string(), module.module.clone());
        self.done.files.push(module);
    }

    /// Evaluates the top of a module, its constants, once and for all runs.
    fn build(&mut self, path: &str, file: File, ast: AST) {
        let session = Session::declaring();
        let _meter = Meter::start();
        let known: Modules = Arc::new(self.done.modules.clone());
        let engine = sandbox::engine(&session, Pinned(known));
        match Module::eval_ast_as_new(Scope::new(), &ast, &engine) {
            Ok(mut module) => {
                module.set_id(file.name.as_str());
                module.build_index();
                let (module, functions) = (module.into(), functions(&ast));
                let compiled = Arc::new(ModuleFile {
                    file,
                    ast,
                    module,
                    functions,
                    findings: OnceLock::new(),
                    calls: OnceLock::new(),
                });
                self.shelf.put(path, &compiled);
                self.add(path, compiled);
            }
            Err(error) => {
                let failed = session.failure().unwrap_or_else(|| failure::of(&error, &file.name));
                self.errors.push(Diagnostic::error("runbook_top_level", &file.name, failed.message).at(
                    &file.text,
                    failed.line,
                    failed.column,
                    1,
                ));
            }
        }
    }
}
