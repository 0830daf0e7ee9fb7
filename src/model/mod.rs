//! The nouns, as values: no clock, no input, no output. Everything above speaks in these.

pub mod alert;
pub mod cluster;
pub mod diagnostic;
pub mod duration;
pub mod effect;
pub mod event;
pub mod freeze;
pub mod hook;
pub mod image;
pub mod incident;
pub mod index;
pub mod join;
pub mod label;
pub mod matcher;
pub mod message;
pub mod node_group;
pub mod payload;
pub mod rule;
pub mod run;
pub mod schedule;
pub mod silence;
pub mod step;
pub mod template;
pub mod text;
