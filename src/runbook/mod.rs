//! Runbooks and rules as people write them: compiled, checked, evaluated against their history. No input or output but reading files.

mod arguments;
mod bounded;
pub mod budget;
pub mod catalog;
pub mod check;
pub mod document;
pub mod evaluate;
mod failure;
pub mod files;
mod modules;
pub mod primitives;
pub mod program;
pub mod reach;
pub mod reference;
pub mod rules;
pub mod sandbox;
mod session;
mod value;
