//! `runbookd` keeps a cluster going without people: the first time an alert fires, a person solves it and writes it down as a runbook; the second
//! time, the machine does.
//!
//! # The path of an alert
//!
//! Alertmanager posts a group of alerts. [`http`] decodes it ([`model`]'s `payload`), has the journal write it down, and answers: nothing acts inside
//! a handler. The dispatcher in [`app`] reads the post back in the order of the journal and gives it to the *board*, which holds everything that is
//! open. The board finds the level of each alert, routes it by its labels to a rule, opens an incident or joins one, and asks the guards; all of
//! that is decided by [`engine`], in pure functions that return a reason with every answer.
//!
//! When they allow it, a run starts. Where a person must approve first, or the rule is in the shadow, it is a rehearsal: the same on an overlay of the
//! cluster that lets nothing through, and people are shown what it found. The executor in [`app`] asks the runbook for its next step: [`runbook`]
//! evaluates the script from the top against the steps recorded so far and stops at the first call that is not among them. The executor decides the
//! call's intent on what it just observed, asks the guards again, commits the intent, calls the cluster through one of the [`ports`], and records the
//! result. Then it asks the runbook again, until the script ends. A crash anywhere loses nothing, because going on *is* recovering.
//!
//! When the run is done, the incident waits for the alert to go away, or for what its rule or runbook expects. Resolved: it closes. Not
//! in time, or the run failed: the next attempt, or a person, through the outbox and one of the [`adapters`] (Slack, or the console). Denied by a
//! guard: a person, at once.
//!
//! What is no alert takes the same path: changes of the cluster (found by [`app`]'s watcher), deploy hooks and requests (decoded by [`http`]), and the ticks
//! of schedules are journalled as events, and a rule says with `on:` which of them it takes.
//!
//! # The modules, from the ground up
//!
//! | rank | module | what it holds |
//! |---|---|---|
//! | 0 | [`model`] | the nouns as values: alert, event, matcher, rule, incident, run, step |
//! | 1 | [`config`] | every key of `runbookd.yaml` |
//! | 1 | [`ports`] | the traits through which anything leaves the process |
//! | 1 | [`clock`] | the one source of time |
//! | 2 | [`runbook`] | rules and runbooks as people write them: parsed, compiled, checked, evaluated in a sandbox |
//! | 2 | [`adapters`] | Swarm and the simulator, SQLite and memory, Slack and the console, Alertmanager, Prometheus, groups of machines, reload targets |
//! | 3 | [`engine`] | decisions: route, level, lifecycle, guard, ledger, intent, machines, query, changes, settle, plan, undo |
//! | 4 | [`app`] | the running whole: board, dispatcher, executor, outbox, reloader, reconciler, watcher, scheduler, undo |
//! | 5 | [`http`] | intake, hooks, doors and API |
//! | 5 | [`cli`] | one file a subcommand |
//!
//! Imports point only downwards; `tests/layers.rs` checks it.

pub mod model;

pub mod config;

pub mod ports;

pub mod clock;

pub mod runbook;

pub mod adapters;

pub mod engine;

pub mod app;

pub mod http;

pub mod cli;
