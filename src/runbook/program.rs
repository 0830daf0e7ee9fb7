//! A compiled runbook: its sources, their content hash, its handlers and its parameters.

use crate::model::diagnostic::Diagnostic;
use crate::model::run::{Handler, ProgramHash, Sources};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Program {
    pub name: String,
    pub hash: ProgramHash,
    pub sources: Arc<Sources>,
    /// The `//!` lines at its head.
    pub doc: String,
    /// What `defaults()` declares: the parameters, with their values.
    pub defaults: BTreeMap<String, Value>,
    pub handlers: Vec<Handler>,
}

impl Program {
    /// Compiles and checks sources. Errors have places; warnings are kept in the second half of `Ok`.
    pub fn compile(sources: Arc<Sources>) -> Result<(Program, Vec<Diagnostic>), Vec<Diagnostic>> {
        let _ = sources;
        todo!()
    }
}
