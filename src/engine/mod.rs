//! Decisions, as pure functions over values: no clock, no input, no output. Each answer comes with its reason.

pub mod route;
