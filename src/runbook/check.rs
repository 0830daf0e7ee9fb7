//! The lint: what a runbook's syntax tree shows to be wrong before it ever runs.

use super::primitives::{self, ParamKind, Primitive};
use super::sandbox::known_functions;
use crate::model::diagnostic::{Diagnostic, nearest};
use crate::model::duration::Duration;
use crate::model::step::EffectClass;
use rhai::{AST, ASTFlags, ASTNode, Expr, FnCallExpr, FnPtr, LexError, ParseError, ParseErrorType, Position, Stmt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Functions that are part of the language and so in no list: with the arguments they take.
const KEYWORDS: [&str; 9] =
    ["call", "curry", "Fn", "type_of", "is_def_var", "is_def_fn", "is_shared", "print", "debug"];

/// One source file, named as below `runbooks/`.
pub struct File {
    pub name: String,
    pub text: Arc<str>,
}

impl File {
    /// A finding at the definition of a function.
    pub fn at_function(&self, code: &str, function: &str, message: String) -> Diagnostic {
        let diagnostic = Diagnostic::error(code, &self.name, message);
        match self.place_of(function) {
            Some((line, column)) => diagnostic.at(&self.text, line, column, function.chars().count()),
            None => diagnostic,
        }
    }

    /// Line and column of a function's name in its definition.
    pub fn place_of(&self, function: &str) -> Option<(usize, usize)> {
        self.text.lines().enumerate().find_map(|(at, line)| {
            let start = line.match_indices("fn ").find_map(|(start, _)| {
                let name = line[start + 3..].trim_start();
                let found = name.strip_prefix(function)?.trim_start().starts_with('(');
                found.then(|| line.len() - name.len())
            })?;
            Some((at + 1, line[..start].chars().count() + 1))
        })
    }

    /// Not one that others import.
    fn is_runbook(&self) -> bool {
        !self.name.starts_with("lib/")
    }

    fn at(&self, code: &str, position: Position, length: usize, message: String) -> Diagnostic {
        let diagnostic = Diagnostic::error(code, &self.name, message);
        match position.line() {
            Some(line) => diagnostic.at(&self.text, line, position.position().unwrap_or(1), length),
            None => diagnostic,
        }
    }
}

/// An `import` as it is written.
pub enum Import {
    Path {
        path: String,
        alias: String,
        line: usize,
        column: usize,
    },
    /// Its module is not plain text.
    Computed {
        line: usize,
        column: usize,
    },
}

pub fn imports(ast: &AST) -> Vec<Import> {
    let mut imports = Vec::new();
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(ASTNode::Stmt(Stmt::Import(import, position))) = path.last() {
            let (expression, alias) = &**import;
            let place = expression.position();
            let place = if place.is_none() { *position } else { place };
            let (line, column) = (place.line().unwrap_or(0), place.position().unwrap_or(0));
            imports.push(match expression {
                Expr::StringConstant(path, _) => {
                    Import::Path { path: path.to_string(), alias: alias.name.to_string(), line, column }
                }
                _ => Import::Computed { line, column },
            });
        }
        true
    });
    imports
}

/// Functions by name, with the numbers of arguments that they take.
pub type Functions = BTreeMap<String, Vec<usize>>;

/// The functions that a file defines for others to call.
pub fn functions(ast: &AST) -> Functions {
    let mut functions = Functions::new();
    for function in ast.iter_functions().filter(|function| !function.name.starts_with("anon$")) {
        functions.entry(function.name.to_string()).or_default().push(function.params.len());
    }
    functions
}

/// What is wrong with a file that compiles. `modules` holds the functions of each module, by path.
pub fn file(file: &File, ast: &AST, modules: &BTreeMap<String, Functions>) -> Vec<Diagnostic> {
    let mut lint = Lint {
        file,
        ast,
        own: functions(ast),
        modules: BTreeMap::new(),
        properties: BTreeSet::new(),
        found: Vec::new(),
    };
    for import in imports(ast) {
        if let Import::Path { path, alias, .. } = import
            && let Some(functions) = modules.get(&path)
        {
            lint.modules.insert(alias, functions);
        }
    }
    lint.definitions();
    lint.top_level();
    lint.collect_properties();
    ast.walk(&mut |path: &[ASTNode]| {
        match path.last() {
            Some(ASTNode::Expr(Expr::FnCall(call, position)) | ASTNode::Stmt(Stmt::FnCall(call, position))) => {
                lint.call(call, *position, false);
            }
            Some(ASTNode::Expr(Expr::MethodCall(call, position))) => lint.call(call, *position, true),
            _ => {}
        }
        true
    });
    lint.verify();
    lint.found.sort_by_key(|it| (it.line, it.column));
    // The two closures of one text are one function to Rhai: what it says twice is told once.
    lint.found.dedup();
    lint.found
}

struct Lint<'a> {
    file: &'a File,
    ast: &'a AST,
    own: Functions,
    /// By the name they are imported as.
    modules: BTreeMap<String, &'a Functions>,
    /// Keys of map literals: `map.key()` may call a closure that the map holds.
    properties: BTreeSet<String>,
    found: Vec<Diagnostic>,
}

impl Lint<'_> {
    fn report(&mut self, code: &str, position: Position, length: usize, message: String, help: Option<String>) {
        let mut diagnostic = self.file.at(code, position, length, message);
        diagnostic.help = help;
        self.found.push(diagnostic);
    }

    fn definitions(&mut self) {
        for name in self.own.keys().filter(|name| primitives::find(name).is_some()) {
            let message = format!("{name} is a primitive: a function of that name would hide it");
            let diagnostic = self.file.at_function("runbook_shadows_primitive", name, message);
            self.found.push(diagnostic.help("give the function another name"));
        }
    }

    /// Outside of functions there are constants and imports only, and nothing there acts.
    fn top_level(&mut self) {
        let ast = self.ast;
        for statement in ast.statements() {
            match statement {
                Stmt::Import(..) | Stmt::Export(..) | Stmt::Noop(_) => {}
                Stmt::Var(_, flags, _) if flags.contains(ASTFlags::CONSTANT) => self.constant(statement),
                Stmt::Var(variable, _, position) => {
                    let name = variable.0.name.to_string();
                    self.report(
                        "runbook_top_level",
                        *position,
                        1,
                        format!("no function sees the variable {name}"),
                        Some(format!("make it a constant, `const {name} = …;`, and read it as `global::{name}`")),
                    );
                }
                other => self.report(
                    "runbook_top_level",
                    other.position(),
                    1,
                    "a statement outside of a function: a runbook is functions, constants and imports".to_string(),
                    Some("move it into a handler, such as `fn on_firing(alert, params) { … }`".to_string()),
                ),
            }
        }
    }

    fn constant(&mut self, statement: &Stmt) {
        let mut calls = Vec::new();
        statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
            if let Some(ASTNode::Expr(Expr::FnCall(call, position))) = path.last()
                && primitives::find(&call.name).is_some()
            {
                calls.push((call.name.to_string(), *position));
            }
            true
        });
        for (name, position) in calls {
            let message = format!("{name} cannot be called in a constant: what declares a runbook does nothing");
            self.report("runbook_top_level", position, name.len(), message, None);
        }
    }

    /// `verify` may only read, and so may the functions of its file that it calls.
    fn verify(&mut self) {
        if !self.file.is_runbook() || !self.own.contains_key("verify") {
            return;
        }
        let mut reached = BTreeSet::from(["verify".to_string()]);
        let mut left = vec!["verify".to_string()];
        let mut effects = BTreeMap::new();
        while let Some(function) = left.pop() {
            for (name, at) in self.called(&function) {
                match primitives::find(&name) {
                    Some(primitive) if primitive.class == EffectClass::Read => {}
                    Some(_) => drop(effects.insert((at.line(), at.position()), (name, at))),
                    None if reached.insert(name.clone()) => left.push(name),
                    None => {}
                }
            }
        }
        for (name, at) in effects.into_values() {
            let message = format!("verify may only read, and {name} does more");
            let help = "it is asked again and again until the deadline: look in it, and act in on_firing".to_string();
            self.report("runbook_effect_in_verify", at, name.len(), message, Some(help));
        }
    }

    /// The functions that one calls, with the closures that it makes.
    fn called(&self, function: &str) -> Vec<(String, Position)> {
        let mut body = self.ast.clone_functions_only();
        body.retain_functions(|_, _, name, _| name == function);
        let mut called = Vec::new();
        body.walk(&mut |path: &[ASTNode]| {
            match path.last() {
                Some(ASTNode::Expr(Expr::FnCall(call, at) | Expr::MethodCall(call, at)))
                | Some(ASTNode::Stmt(Stmt::FnCall(call, at))) => called.push((call.name.to_string(), *at)),
                Some(ASTNode::Expr(Expr::DynamicConstant(value, at))) => {
                    if let Some(closure) = value.read_lock::<FnPtr>() {
                        called.push((closure.fn_name().to_string(), *at));
                    }
                }
                _ => {}
            }
            true
        });
        called
    }

    fn collect_properties(&mut self) {
        let mut properties = BTreeSet::new();
        self.ast.walk(&mut |path: &[ASTNode]| {
            if let Some(ASTNode::Expr(Expr::Map(map, _))) = path.last() {
                properties.extend(map.0.iter().map(|(key, _)| key.name.to_string()));
            }
            true
        });
        self.properties = properties;
    }

    fn call(&mut self, call: &FnCallExpr, position: Position, method: bool) {
        let name = call.name.as_str();
        let identifier = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if call.is_operator_call() || !identifier || KEYWORDS.contains(&name) {
            return;
        }
        if call.is_qualified() {
            return self.qualified_call(call, position);
        }
        let arguments = call.args.len() + usize::from(method);
        if let Some(primitive) = primitives::find(name) {
            return self.primitive_call(primitive, call, position, method);
        }
        let mut arities: Vec<usize> = Vec::new();
        for functions in [Some(&self.own), Some(known_functions())].into_iter().flatten() {
            arities.extend(functions.get(name).into_iter().flatten());
        }
        // A script function called as a method has the object as `this`, beside its arguments.
        if let Some(own) = self.own.get(name).filter(|_| method) {
            arities.extend(own.iter().map(|count| count + 1));
        }
        if arities.contains(&arguments) || (method && self.properties.contains(name)) {
            return;
        }
        if arities.is_empty() {
            let near = self.nearest_function(name);
            let help = near.map(|near| format!("did you mean `{near}`?"));
            let closure = || format!("a closure in a variable is called as `{name}.call(…)`");
            let help = help.or_else(|| (!method).then(closure));
            self.report("runbook_unknown_function", position, name.len(), format!("there is no function {name}"), help);
        } else {
            let takes = spoken(&arities, usize::from(method));
            let given = call.args.len();
            let message = format!("{name} takes {takes}, this call has {given}");
            self.report("runbook_arguments", position, name.len(), message, None);
        }
    }

    fn nearest_function(&self, name: &str) -> Option<String> {
        // Everything is near to a name of one or two letters.
        if name.len() < 3 {
            return None;
        }
        let primitives = primitives::PRIMITIVES.iter().map(|primitive| primitive.name);
        let known = known_functions()
            .keys()
            .map(String::as_str)
            .filter(|known| known.starts_with(char::is_alphabetic) && !known.contains('$'));
        let own = self.own.keys().map(String::as_str);
        // A primitive before a function of the library that is as near.
        let first = nearest(name, primitives.chain(own));
        first.or_else(|| nearest(name, known)).map(str::to_string)
    }

    fn qualified_call(&mut self, call: &FnCallExpr, position: Position) {
        let alias = call.namespace.root();
        let Some(functions) = self.modules.get(alias) else { return };
        let name = call.name.as_str();
        match functions.get(name) {
            Some(arities) if arities.contains(&call.args.len()) => {}
            Some(arities) => {
                let takes = spoken(arities, 0);
                let message = format!("{alias}::{name} takes {takes}, this call has {}", call.args.len());
                self.report("runbook_arguments", position, name.len(), message, None);
            }
            None => {
                let help = nearest(name, functions.keys().map(String::as_str));
                let help = help.map(|near| format!("did you mean `{alias}::{near}`?"));
                let message = format!("there is no function {name} in {alias}");
                self.report("runbook_unknown_function", position, name.len(), message, help);
            }
        }
    }

    fn primitive_call(&mut self, primitive: &Primitive, call: &FnCallExpr, position: Position, method: bool) {
        let arguments = call.args.len() + usize::from(method);
        let (fewest, most) = primitive.arity();
        if !(fewest..=most).contains(&arguments) {
            let takes = if fewest == most { plural(fewest) } else { format!("{fewest} to {}", plural(most)) };
            let message = format!("{} takes {takes}, this call has {arguments}", primitive.name);
            let help = Some(format!("it is {}", primitive.signature));
            return self.report("runbook_arguments", position, primitive.name.len(), message, help);
        }
        if method {
            return;
        }
        for (param, argument) in primitive.params.iter().zip(&call.args) {
            match param.kind {
                ParamKind::Duration => self.duration(argument),
                ParamKind::Closure => self.closure(argument),
                _ => {}
            }
        }
    }

    fn duration(&mut self, argument: &Expr) {
        let (length, message) = match argument {
            Expr::StringConstant(text, _) => match Duration::parse(text) {
                Ok(_) => return,
                Err(message) => (text.chars().count() + 2, message),
            },
            Expr::IntegerConstant(number, _) => (
                number.to_string().len(),
                format!("{number} is no duration; expected text with a unit, for example \"{number}s\""),
            ),
            _ => return,
        };
        self.report("runbook_duration", argument.position(), length, message, None);
    }

    /// The closure of a `wait_until`: it may only read.
    fn closure(&mut self, argument: &Expr) {
        let mut name = None;
        argument.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
            if let Some(ASTNode::Expr(Expr::DynamicConstant(value, _))) = path.last()
                && let Some(function) = value.read_lock::<FnPtr>()
            {
                name.get_or_insert_with(|| function.fn_name().to_string());
            }
            true
        });
        let Some(name) = name.filter(|name| name.starts_with("anon$")) else { return };
        let mut body = self.ast.clone_functions_only();
        body.retain_functions(|_, _, function, _| function == name);
        // A closure that takes nothing has the captured variables as its parameters.
        let captured: BTreeSet<String> = body
            .iter_functions()
            .flat_map(|function| function.params.iter().map(|param| param.to_string()).collect::<Vec<_>>())
            .collect();
        let mut own = BTreeSet::new();
        let mut effects = Vec::new();
        let mut writes = Vec::new();
        body.walk(&mut |path: &[ASTNode]| {
            match path.last() {
                Some(ASTNode::Expr(Expr::FnCall(call, at)) | ASTNode::Stmt(Stmt::FnCall(call, at))) => {
                    let primitive = primitives::find(&call.name);
                    if primitive.is_some_and(|primitive| primitive.class != EffectClass::Read) {
                        effects.push((call.name.to_string(), *at));
                    }
                }
                Some(ASTNode::Stmt(Stmt::Var(variable, _, _))) => {
                    own.insert(variable.0.name.to_string());
                }
                Some(ASTNode::Stmt(Stmt::Assignment(assignment))) => {
                    let target = &assignment.1.lhs;
                    if let Some(name) = root(target) {
                        writes.push((name.to_string(), target.start_position()));
                    }
                }
                _ => {}
            }
            true
        });
        for (name, at) in effects {
            let message = format!("a wait_until closure may only read, and {name} does more");
            let help = "the closure is run again and again: look in it, and act after the wait".to_string();
            self.report("runbook_effect_in_wait", at, name.len(), message, Some(help));
        }
        for (name, at) in writes.into_iter().filter(|(name, _)| captured.contains(name) && !own.contains(name)) {
            let message = format!("what a wait_until closure writes to {name} is lost");
            let help = "return the value: wait_until returns what the closure returned".to_string();
            self.report("runbook_write_in_wait", at, name.chars().count(), message, Some(help));
        }
    }
}

/// The variable that an assignment changes: `a` in `a.b[c] = d`.
fn root(target: &Expr) -> Option<&str> {
    match target {
        Expr::Variable(variable, _, _) => Some(&variable.1),
        Expr::Dot(parts, _, _) | Expr::Index(parts, _, _) => root(&parts.lhs),
        _ => None,
    }
}

fn plural(count: usize) -> String {
    if count == 1 { "1 argument".to_string() } else { format!("{count} arguments") }
}

/// Numbers of arguments as people say them; of a method, without the object.
fn spoken(arities: &[usize], object: usize) -> String {
    let counts: BTreeSet<usize> = arities.iter().map(|count| count.saturating_sub(object)).collect();
    let counts: Vec<String> = counts.into_iter().map(|count| count.to_string()).collect();
    match counts.as_slice() {
        [one] if one == "1" => "1 argument".to_string(),
        _ => format!("{} arguments", counts.join(" or ")),
    }
}

/// A parse error, in words and at its place.
pub fn syntax(file: &File, error: &ParseError) -> Diagnostic {
    let mut code = "runbook_syntax";
    let mut length = 1;
    let mut help = None;
    let message = match error.err_type() {
        ParseErrorType::VariableUndefined(name) => {
            length = name.chars().count();
            if file.text.contains(&format!("const {name}")) {
                help = Some(format!("a function reads a constant from the top of the file as `global::{name}`"));
            }
            format!("there is no variable {name} here")
        }
        ParseErrorType::ModuleUndefined(name) => {
            length = name.chars().count();
            help = Some(format!("import it at the top of the file: `import \"lib/{name}\" as {name};`"));
            format!("there is no module {name} here")
        }
        ParseErrorType::BadInput(LexError::ImproperSymbol(word, _)) if word == "eval" => {
            length = word.len();
            "eval is not allowed in runbooks".to_string()
        }
        ParseErrorType::Reserved(word) => {
            length = word.chars().count();
            help = Some("give it another name".to_string());
            format!("`{word}` is a reserved word")
        }
        ParseErrorType::ExprTooDeep => {
            code = "runbook_too_large";
            help = Some("split it: name its parts with `let`, or move them into functions".to_string());
            "expressions or blocks are nested too deep here".to_string()
        }
        ParseErrorType::TooManyFunctions | ParseErrorType::LiteralTooLarge(..) => {
            code = "runbook_too_large";
            lower(&error.err_type().to_string())
        }
        ParseErrorType::UnexpectedEOF => {
            "the file ends in the middle of something: is a bracket not closed?".to_string()
        }
        other => lower(&other.to_string()),
    };
    let mut diagnostic = file.at(code, error.position(), length, message);
    diagnostic.help = help;
    diagnostic
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
