//! What a handler can come to do: the primitives with an effect that it calls, itself or through functions of its file and of modules.

use super::modules::ModuleFile;
use super::primitives;
use crate::model::run::Handler;
use rhai::{AST, ASTNode, Expr, FnPtr, Position, Stmt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One call, at the first place that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectCall {
    pub handler: Handler,
    pub primitive: &'static str,
    /// As below `runbooks/`.
    pub file: String,
    pub line: usize,
    pub column: usize,
}

/// The calls of one file.
#[derive(Debug, Default)]
pub struct Calls {
    /// By the function that they stand in; those in a closure are of the function that makes it, too.
    of: BTreeMap<String, Vec<Call>>,
    /// The path of each module by the name that it is imported as.
    imports: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Call {
    /// The name that its module is imported as; `None`: a function of this file, or a primitive.
    module: Option<String>,
    name: String,
    at: (usize, usize),
}

impl Calls {
    /// Found by one walk over the file: a start reads a thousand of them.
    pub fn of(ast: &AST) -> Calls {
        let functions = ast.shared_lib().iter_script_fn_info();
        let spans: Vec<_> = functions
            .map(|(_, _, name, _, def)| (name, place(def.body.start_position()), place(def.body.end_position())))
            .collect();
        let mut calls = Calls::default();
        ast.walk(&mut |path: &[ASTNode]| {
            let call = match path.last() {
                Some(ASTNode::Expr(Expr::FnCall(call, at) | Expr::MethodCall(call, at)))
                | Some(ASTNode::Stmt(Stmt::FnCall(call, at)))
                    if !call.is_operator_call() =>
                {
                    let module = call.is_qualified().then(|| call.namespace.root().to_string());
                    Call { module, name: call.name.to_string(), at: place(*at) }
                }
                Some(ASTNode::Expr(Expr::DynamicConstant(value, at))) => match value.read_lock::<FnPtr>() {
                    Some(function) => Call { module: None, name: function.fn_name().to_string(), at: place(*at) },
                    None => return true,
                },
                Some(ASTNode::Stmt(Stmt::Import(import, _))) => {
                    if let (Expr::StringConstant(path, _), alias) = &**import {
                        calls.imports.insert(alias.name.to_string(), path.to_string());
                    }
                    return true;
                }
                _ => return true,
            };
            for (name, _, _) in spans.iter().filter(|(_, from, to)| (from..=to).contains(&&call.at)) {
                calls.of.entry(name.to_string()).or_default().push(call.clone());
            }
            true
        });
        calls
    }
}

fn place(at: Position) -> (usize, usize) {
    (at.line().unwrap_or(0), at.position().unwrap_or(0))
}

/// Each primitive that changes something, once for each handler. What is called by a name made up at run time is not seen.
pub fn effects(main: &str, ast: &AST, modules: &[Arc<ModuleFile>], handlers: &[Handler]) -> Vec<EffectCall> {
    let own = Calls::of(ast);
    let mut files = vec![(main, &own)];
    files.extend(modules.iter().map(|module| (module.file.name.as_str(), module.calls())));
    let mut found = Vec::new();
    for &handler in handlers {
        let mut reached = BTreeSet::from([(0, handler.name())]);
        let mut left = vec![(0, handler.name())];
        let mut told = BTreeSet::new();
        while let Some((at, function)) = left.pop() {
            let (file, calls) = files[at];
            for call in calls.of.get(function).into_iter().flatten() {
                if let Some(primitive) = primitives::find(&call.name).filter(|_| call.module.is_none()) {
                    if primitive.class.mutates() && told.insert(primitive.name) {
                        let ((line, column), file) = (call.at, file.to_string());
                        found.push(EffectCall { handler, primitive: primitive.name, file, line, column });
                    }
                    continue;
                }
                let place = match &call.module {
                    None => Some(at),
                    Some(alias) => calls.imports.get(alias).and_then(|path| {
                        files.iter().position(|(file, _)| file.strip_suffix(".rhai") == Some(path.as_str()))
                    }),
                };
                if let Some(place) = place.filter(|place| reached.insert((*place, &call.name))) {
                    left.push((place, &call.name));
                }
            }
        }
    }
    found
}
