//! `runbookd config`: the effective configuration, as a file that can be read back, without a secret.

use crate::config::read::Loaded;
use crate::config::secret::SOURCES;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

pub fn run(as_json: bool, loaded: &Loaded) -> anyhow::Result<ExitCode> {
    let Loaded { config, warnings, .. } = loaded;
    let env = |name: &str| std::env::var(name).ok();
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    if as_json {
        let secrets: Map<String, Value> =
            SOURCES.iter().map(|source| (source.variable.to_string(), source.state(config, &env).into())).collect();
        println!("{:#}", json!({ "config": config.redacted(), "secrets": secrets }));
    } else {
        print!("{}", config.to_yaml(&env));
    }
    Ok(ExitCode::SUCCESS)
}
