//! `runbookd` keeps a cluster going without people.
pub mod adapters;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod http;
pub mod model;
pub mod ports;
pub mod runbook;
