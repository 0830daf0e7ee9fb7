//! Undo of a run: the plan, made on the cluster as it stands, and its start. The plan is a runbook that is made for this one run, and is pinned, carried
//! out and settled like any other.

use super::{App, CommandError, dispatcher::Input};
use crate::engine::guard::{self, Verdict};
use crate::engine::undo::{self, Plan};
use crate::model::incident::Incident;
use crate::model::run::{Run, RunId, Sources};
use crate::model::step::{Intent, Step};
use crate::ports::{ErrorReason, PortError};
use crate::runbook::program::Program;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The name that every undo has where a run names its runbook.
pub const RUNBOOK: &str = "undo";

/// What would put a run back, and the runbook that does it. Its content hash stands for the plan: what was shown is what is carried out.
pub struct Planned {
    pub undoes: Run,
    pub plan: Plan,
    pub program: Arc<Program>,
}

/// A plan that a person has seen and wants carried out.
pub struct Wish {
    pub planned: Planned,
    pub by: String,
    pub reason: String,
}

impl App {
    /// What would put back what a run did, as the cluster stands now.
    pub async fn plan_undo(&self, id: RunId) -> Result<Planned, CommandError> {
        let journal = &self.parts.journal;
        let unread = |error: crate::ports::JournalError| CommandError::Unavailable(error.to_string());
        let run = journal.run(id).await.map_err(unread)?.ok_or(CommandError::NoRun(id))?;
        if !run.state.ended() {
            return Err(CommandError::Conflict(format!("{id} is still at work: pause runbookd, or wait for its end")));
        }
        let steps = journal.steps(id).await.map_err(unread)?;
        let cluster = self.observe(&steps).await.map_err(|error| CommandError::Unavailable(error.message))?;
        let plan = undo::plan(id, &steps, cluster);
        let sources =
            Sources { name: RUNBOOK.to_string(), main: plan.source.as_str().into(), modules: BTreeMap::new() };
        let (program, _) = Program::compile(Arc::new(sources)).map_err(|findings| {
            let first = findings.first().map_or_else(String::new, ToString::to_string);
            CommandError::Conflict(format!("the plan is no valid runbook, which is a fault of runbookd: {first}"))
        })?;
        Ok(Planned { undoes: run, plan, program: Arc::new(program) })
    }

    /// What keeps the effects of this rule's runs, and their undo, from happening now; in words, with how to end it.
    pub fn stopped(&self, rule: &str) -> Option<String> {
        let catalog = self.parts.catalog.load();
        let stops = self.stops();
        let rule = catalog.rule(rule).map(|rule| &**rule);
        match guard::stopped(rule, &stops.view(&self.parts.config), self.parts.clock.now()) {
            ("freeze", Verdict::Hold { reason, .. }) => Some(format!(
                "{}; what a person froze ends with `runbookd unfreeze`, and `runbookd freezes` lists all",
                reason.text
            )),
            (_, Verdict::Hold { reason, .. }) => Some(reason.text),
            _ => None,
        }
    }

    /// Carries out the plan whose hash begins so, if it is still the plan. When it returns, its run is journalled.
    pub async fn undo(&self, id: RunId, hash: &str, by: &str, reason: &str) -> Result<Incident, CommandError> {
        let planned = self.plan_undo(id).await?;
        if !planned.program.hash.0.starts_with(hash) {
            let text = format!("the plan to undo {id} is another by now: look at it again, and confirm that one");
            return Err(CommandError::Conflict(text));
        }
        if let Some(why) = planned.plan.refused() {
            return Err(CommandError::Conflict(format!("{id} cannot be undone: {why}")));
        }
        let wish = Box::new(Wish { planned, by: by.to_string(), reason: reason.to_string() });
        self.ask(|answer| Input::Undo { wish, answer }).await?
    }

    /// What the plan looks at.
    async fn observe(&self, steps: &[Step]) -> Result<undo::Cluster, PortError> {
        let mut found = undo::Cluster::default();
        let intents = || steps.iter().filter_map(|step| step.intent.as_ref());
        if intents().any(|intent| matches!(intent, Intent::Services(_))) {
            found.services = self.parts.cluster.services().await?;
        }
        if intents().any(|intent| matches!(intent, Intent::Node(_) | Intent::Group(_))) {
            found.nodes = self.parts.cluster.nodes().await?;
        }
        let groups: BTreeSet<&str> = intents()
            .filter_map(|intent| match intent {
                Intent::Group(group) => Some(group.group.as_str()),
                _ => None,
            })
            .collect();
        for name in groups {
            match self.parts.groups.group(name).await {
                Ok(mut group) => {
                    crate::engine::machines::name_nodes(&mut group, &found.nodes);
                    found.groups.insert(name.to_string(), group);
                }
                Err(error) if error.reason == ErrorReason::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}
