//! What stops runbookd now, said before anything else that people look at: it explains why nothing happens.

use crate::cli::client::Client;
use crate::cli::table::time;
use crate::http::view::{BrakeView, FreezeList, PauseView};
use crate::model::text::visible;

/// Prints a line for each thing that stops runs now; nothing when nothing does.
pub async fn warn(client: &Client) -> anyhow::Result<()> {
    let pause: PauseView = client.get("/api/v1/pause").await?;
    let mut lines = Vec::new();
    if let (true, by, reason, Some(at)) = (pause.paused, pause.by, pause.reason, pause.at) {
        let (by, reason) = (by.unwrap_or_default(), reason.unwrap_or_default());
        lines.push(format!("PAUSED since {} by {by}: {reason}; it goes on with `runbookd resume`", time(at)));
    }
    let brake: BrakeView = client.get("/api/v1/brake").await?;
    if let (Some(at), Some(why)) = (brake.at, brake.reason) {
        lines.push(format!("THE FLEET BRAKE IS ON since {}: {why}; it goes on with `runbookd release`", time(at)));
    }
    let list: FreezeList = client.get("/api/v1/freezes").await?;
    for freeze in list.freezes.into_iter().filter(|freeze| freeze.in_force) {
        let ends = match (&freeze.id, &*freeze.source) {
            (Some(id), _) => format!("; it ends with `runbookd unfreeze {id}`"),
            (None, "rule") => "; it is written in the rule".to_string(),
            (None, _) => "; it is written in the configuration".to_string(),
        };
        let name = freeze.id.map(|id| id.to_string()).or(freeze.name).unwrap_or_default();
        let (until, why) = (freeze.until.map(time).unwrap_or_default(), freeze.reason.unwrap_or_default());
        let line = format!("FROZEN until {until}: {} ({name}) {why}", freeze.scope);
        lines.push(format!("{}{ends}", line.trim_end()));
    }
    for line in &lines {
        println!("{}", visible(line, 500).trim_end());
    }
    if !lines.is_empty() {
        println!();
    }
    Ok(())
}
