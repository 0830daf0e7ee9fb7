//! `runbookd check`: are the rules and runbooks valid as a whole? Says every finding there is.

use super::{render, table};
use crate::config::Config;
use crate::config::guards::IdleFreeze;
use crate::config::read::{Loaded, Source};
use crate::model::diagnostic::Diagnostic;
use crate::runbook::catalog::{Catalog, Offers};
use crate::runbook::document::Node;
use jiff::Timestamp;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check rules and runbooks, without a server.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CheckArgs {
    /// The directory of rules [default: the configuration's]
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// The directory of runbooks [default: the configuration's]
    #[arg(long, value_name = "DIR")]
    pub runbooks: Option<PathBuf>,
}

/// Exit code 0: good, warnings included; 1: there are errors.
pub fn run(args: CheckArgs, json: bool, loaded: &Loaded) -> anyhow::Result<ExitCode> {
    let (good, findings, summary) = match load(args.rules, args.runbooks, &loaded.config) {
        Ok(catalog) => {
            let summary = format!("good: {} rules, {} runbooks", catalog.rules.len(), catalog.programs.len());
            let now = Timestamp::now();
            let mut warnings = catalog.warnings.clone();
            warnings.extend(catalog.past_freezes(now));
            let idle = loaded.config.idle_freezes(&catalog.rules, now);
            warnings.extend(idle.iter().map(|freeze| idle_freeze(freeze, loaded.source.as_ref())));
            (true, warnings, summary)
        }
        Err(findings) => (false, findings, String::new()),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        if !findings.is_empty() {
            println!("{}", render::diagnostics(&findings, table::colours()));
        }
        if good {
            println!("{summary}");
        }
    }
    Ok(ExitCode::from(if good { 0 } else { 1 }))
}

/// A freeze of the configuration that holds nothing, at its place in the file.
fn idle_freeze(freeze: &IdleFreeze, source: Option<&Source>) -> Diagnostic {
    let file = source.map_or("the configuration", |source| &source.file);
    let finding = Diagnostic::error("config_freeze", file, &freeze.message).help(freeze.help).warning();
    let root = source.and_then(|source| Some((source, Node::parse(&source.file, &source.text).ok()?)));
    let place = root.as_ref().and_then(|(source, root)| {
        let (key, written) = root.entry("freezes")?.1.entry(&freeze.name)?;
        let window = freeze.window.and_then(|at| {
            let when = written.entry("when")?.1;
            Some(when.items().map_or(when, |all| &all[at]).place)
        });
        Some((source, window.unwrap_or(key)))
    });
    match place {
        Some((source, place)) => finding.at(&source.text, place.line, place.column, place.length),
        None => finding,
    }
}

/// The catalog that `serve` would run with this configuration.
pub(super) fn load(
    rules: Option<PathBuf>,
    runbooks: Option<PathBuf>,
    config: &Config,
) -> Result<Catalog, Vec<Diagnostic>> {
    let rules = rules.unwrap_or_else(|| config.rules.clone());
    let runbooks = runbooks.unwrap_or_else(|| config.runbooks.clone());
    let catalog = Catalog::load(&rules, &runbooks, &Offers::of(config), None)?;
    catalog.with_people(&config.groups)
}
