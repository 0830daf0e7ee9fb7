//! Channels to people: Slack, or the console.

mod blocks;
pub mod console;
pub mod slack;
