//! Decisions, as pure functions over values: no clock, no input, no output. Each answer comes with its reason.

pub mod changes;
pub mod guard;
pub mod intent;
pub mod ledger;
pub mod level;
pub mod lifecycle;
pub mod machines;
pub mod plan;
pub mod query;
pub mod route;
pub mod settle;
#[cfg(test)]
pub(crate) mod testing;
pub mod undo;
