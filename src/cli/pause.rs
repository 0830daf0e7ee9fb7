//! `runbookd pause` and `runbookd resume`: the kill switch; `runbookd release`: the fleet brake.

use crate::cli::client::{ByArgs, Client, ServerArgs, print_json};
use crate::http::view::{BrakeView, PauseView};
use std::process::ExitCode;

#[derive(Clone, Debug, clap::Args)]
pub struct PauseArgs {
    /// What people will read in every held incident
    #[arg(value_name = "REASON")]
    reason: String,
    #[command(flatten)]
    by: ByArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    by: ByArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub async fn pause(args: PauseArgs, json: bool) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?;
    let view: PauseView = client.command("/api/v1/pause", &args.by.name(), &args.reason).await?;
    if json {
        print_json(&serde_json::to_value(&view)?);
    } else {
        println!("paused: no run starts and no effect happens until `runbookd resume`");
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn resume(args: ResumeArgs, json: bool) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?;
    let view: PauseView = client.command("/api/v1/resume", &args.by.name(), "").await?;
    if json {
        print_json(&serde_json::to_value(&view)?);
    } else {
        println!("resumed");
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn release(args: ResumeArgs, json: bool) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?;
    let view: BrakeView = client.command("/api/v1/brake/release", &args.by.name(), "").await?;
    if json {
        print_json(&serde_json::to_value(&view)?);
    } else {
        println!("the fleet brake is released");
    }
    Ok(ExitCode::SUCCESS)
}
