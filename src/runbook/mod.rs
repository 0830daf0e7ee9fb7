//! Runbooks and rules as people write them: compiled, checked, evaluated against their history. No input or output but reading files.

pub mod budget;
pub mod catalog;
pub mod check;
pub mod document;
pub mod evaluate;
pub mod files;
pub mod primitives;
pub mod program;
pub mod rules;
pub mod sandbox;
