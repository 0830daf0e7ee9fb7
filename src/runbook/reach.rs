//! What a handler can come to do: the primitives with an effect that it calls, itself or through functions of its file and of modules.

use super::check::{self, File, Import};
use super::modules::ModuleFile;
use super::primitives;
use crate::model::run::Handler;
use rhai::AST;
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

/// Each primitive that changes something, once for each handler. What is called by a name made up at run time is not seen.
pub fn effects(main: &File, ast: &AST, modules: &[Arc<ModuleFile>], handlers: &[Handler]) -> Vec<EffectCall> {
    let mut files = vec![(main, ast)];
    files.extend(modules.iter().map(|module| (&module.file, &module.ast)));
    let imported: Vec<BTreeMap<String, usize>> = files.iter().map(|(_, ast)| imported(ast, &files)).collect();
    let mut found = Vec::new();
    for &handler in handlers {
        let mut reached = BTreeSet::from([(0, handler.name().to_string())]);
        let mut left = vec![(0, handler.name().to_string())];
        let mut told = BTreeSet::new();
        while let Some((at, function)) = left.pop() {
            let (file, ast) = files[at];
            for call in check::called(ast, &function) {
                let place = match &call.module {
                    None => at,
                    Some(alias) => match imported[at].get(alias) {
                        Some(place) => *place,
                        None => continue,
                    },
                };
                match primitives::find(&call.name).filter(|_| call.module.is_none()) {
                    Some(primitive) if primitive.class.mutates() && told.insert(primitive.name) => {
                        let (line, column) = (call.at.line().unwrap_or(0), call.at.position().unwrap_or(0));
                        let file = file.name.clone();
                        found.push(EffectCall { handler, primitive: primitive.name, file, line, column });
                    }
                    Some(_) => {}
                    None if reached.insert((place, call.name.clone())) => left.push((place, call.name)),
                    None => {}
                }
            }
        }
    }
    found
}

/// Which file each alias stands for.
fn imported(ast: &AST, files: &[(&File, &AST)]) -> BTreeMap<String, usize> {
    let file_of = |path: &str| files.iter().position(|(file, _)| file.name.strip_suffix(".rhai") == Some(path));
    let named = |import| match import {
        Import::Path { path, alias, .. } => Some((alias, file_of(&path)?)),
        Import::Computed { .. } => None,
    };
    check::imports(ast).into_iter().filter_map(named).collect()
}
