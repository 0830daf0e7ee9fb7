//! The HTTP surface. [`router`] is the readable list of it; everything else is one file a subject.
//!
//! Nothing acts inside a handler: intake journals and answers, queries read the journal, commands go to [`crate::app::App`].

pub mod approvals;
pub mod auth;
pub mod body;
pub mod brake;
pub mod catalog;
pub mod cluster;
pub mod doors;
pub mod events;
pub mod freezes;
pub mod health;
pub mod hooks;
pub mod incidents;
pub mod intake;
pub mod join;
pub mod manual;
pub mod openapi;
pub mod pause;
pub mod problem;
pub mod query;
pub mod router;
pub mod runs;
pub mod server;
pub mod shared;
pub mod undo;
pub mod view;
