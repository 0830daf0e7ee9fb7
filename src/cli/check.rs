//! `runbookd check`: are the rules and runbooks valid as a whole? Says every finding there is.

use super::{render, table};
use crate::config::Config;
use crate::model::diagnostic::Diagnostic;
use crate::runbook::catalog::{Catalog, Offers};
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
pub fn run(args: CheckArgs, json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let (good, findings, summary) =
        match load(args.rules, args.runbooks, config) {
            Ok(catalog) => {
                let summary = format!("good: {} rules, {} runbooks", catalog.rules.len(), catalog.programs.len());
                let mut warnings = catalog.warnings.clone();
                let help = "name the rule, or give it the tag: as it stands, the freeze does not hold it";
                warnings.extend(config.idle_freezes(&catalog.rules).into_iter().map(|message| {
                    Diagnostic::error("config_freeze", "the configuration", message).help(help).warning()
                }));
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

/// The catalog that `serve` would run with this configuration.
pub(super) fn load(
    rules: Option<PathBuf>,
    runbooks: Option<PathBuf>,
    config: &Config,
) -> Result<Catalog, Vec<Diagnostic>> {
    let rules = rules.unwrap_or_else(|| config.rules.clone());
    let runbooks = runbooks.unwrap_or_else(|| config.runbooks.clone());
    Catalog::load(&rules, &runbooks, &Offers::of(config), None)
}
