//! Reads the journal over the API and prints what is new in it, in the order in which it happened.

use super::server::Server;
use crate::cli::client::Client;
use crate::cli::out;
use crate::cli::runs::{call, what};
use crate::cli::table::{colours, name_of};
use crate::http::view::{IncidentDetail, IncidentPage, RunDetail, StepView};
use crate::model::incident::IncidentId;
use crate::model::run::RunId;
use crate::model::step::Outcome;
use crate::model::text::visible;
use anyhow::bail;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Generous: the machine may be busy compiling.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the journal said so far.
#[derive(Default)]
pub struct Journal {
    pub incidents: BTreeMap<IncidentId, IncidentDetail>,
    pub runs: BTreeMap<RunId, RunDetail>,
    /// Every line of the messages to people.
    pub messages: Vec<String>,
    printed: HashSet<String>,
}

impl Journal {
    /// The one incident with this alert name.
    pub fn incident(&self, alertname: &str) -> Option<&IncidentDetail> {
        self.incidents.values().find(|detail| detail.incident.labels.value("alertname") == alertname)
    }

    /// The newest run of an incident.
    pub fn run_of(&self, detail: &IncidentDetail) -> Option<&RunDetail> {
        detail.incident.runs.last().and_then(|id| self.runs.get(id))
    }

    /// The step of an incident's newest run that calls `primitive`.
    pub fn step_of(&self, alertname: &str, primitive: &str) -> Option<&StepView> {
        let run = self.run_of(self.incident(alertname)?)?;
        run.steps.iter().find(|step| step.primitive == primitive)
    }

    /// Looks and prints until `reached`. An error says what was waited for in vain.
    pub async fn until(
        &mut self,
        client: &Client,
        server: &mut Server,
        what: &str,
        reached: impl Fn(&Journal) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.look(client).await?;
            self.tell(server.printed());
            if reached(self) {
                return Ok(());
            }
            if out::ended() {
                bail!("nobody reads on");
            }
            if server.ended() {
                bail!("the server ended by itself while the demo waited for {what}");
            }
            if Instant::now() > deadline {
                bail!("waited {} s in vain for {what}", PATIENCE.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reads everything and prints what is new.
    async fn look(&mut self, client: &Client) -> anyhow::Result<()> {
        let page: IncidentPage = client.get("/api/v1/incidents?limit=100").await?;
        let mut news: Vec<(Timestamp, String)> = Vec::new();
        for incident in page.incidents {
            let detail: IncidentDetail = client.get(&format!("/api/v1/incidents/{}", incident.id)).await?;
            for transition in &detail.transitions {
                let text = format!("{:<4} {:<10} {}", incident.id.to_string(), transition.to.name(), transition.reason);
                self.note(&mut news, transition.at, format!("{} {}", transition.at, text), text);
            }
            for id in &detail.incident.runs {
                let run: RunDetail = client.get(&format!("/api/v1/runs/{id}")).await?;
                self.steps(&mut news, &run);
                self.runs.insert(*id, run);
            }
            self.incidents.insert(incident.id, detail);
        }
        news.sort_by_key(|(at, _)| *at);
        for (at, text) in news {
            println!("  {}  {}", at.strftime("%H:%M:%S%.3f"), visible(&text, 240));
        }
        Ok(())
    }

    fn steps(&mut self, news: &mut Vec<(Timestamp, String)>, run: &RunDetail) {
        for step in &run.steps {
            // Of a read the answer is enough; of an effect or a wait, intent and outcome are told when they are journalled.
            let done = step.finished_at.is_some();
            let outcome = name_of(&step.outcome);
            let text = format!("{:<4} step {} {} — {outcome}", run.run.id.to_string(), step.seq, call(step));
            let text = match what(step) {
                said if said.is_empty() || (done && step.outcome == Outcome::Observed) => text,
                said => format!("{text}: {said}"),
            };
            let key = format!("{}.{} {outcome}", run.run.id, step.seq);
            self.note(news, step.finished_at.unwrap_or(step.started_at), key, text);
        }
        if let Some(end) = run.run.finished_at {
            let state = name_of(&run.run.state);
            let resumed = if run.run.resumes > 0 { ", having gone on after a restart" } else { "" };
            let text = format!("{:<4} {state}{resumed}", run.run.id.to_string());
            self.note(news, end, format!("{} ended", run.run.id), text);
        }
    }

    fn note(&mut self, news: &mut Vec<(Timestamp, String)>, at: Timestamp, key: String, text: String) {
        if self.printed.insert(key) {
            news.push((at, text));
        }
    }

    /// Prints messages to people as the console channel rendered them.
    pub fn tell(&mut self, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            if !line.is_empty() {
                let (on, off) = if colours() { ("\u{1b}[36m", "\u{1b}[0m") } else { ("", "") };
                println!("  {on}│ {}{off}", visible(&line, 240));
            }
            self.messages.push(line);
        }
    }
}
