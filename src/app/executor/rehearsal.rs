//! A rehearsal: the runbook runs on what is really there, its effects are laid over what it sees, its waits count as met, and nothing is changed.

use super::effect::Stop;
use super::{Executor, Flow, Work, World};
use crate::adapters::cluster::overlay::Overlay;
use crate::engine::plan;
use crate::model::mode::Plan;
use crate::model::run::Run;
use futures_util::future::BoxFuture;
use std::sync::Arc;

impl Executor {
    /// What a run sees and changes.
    pub(super) fn world_of(&self, run: &Run) -> World {
        let (cluster, groups) = (self.parts.cluster.clone(), self.parts.groups.clone());
        if !run.shadow {
            return World { cluster, groups };
        }
        let overlay = Arc::new(Overlay::new(cluster, groups));
        World { cluster: overlay.clone(), groups: overlay }
    }

    /// What a run would do from where it stands, to its end, whatever that is.
    pub(super) fn rest_of<'a>(self: &'a Arc<Self>, work: &'a Work) -> BoxFuture<'a, Result<Plan, Stop>> {
        // Boxed: a step of a rehearsal goes the way of any other step, which leads here.
        Box::pin(async {
            let run = Run { shadow: true, ..work.run.clone() };
            let mut rehearsal = Work {
                world: self.world_of(&run),
                run,
                steps: work.steps.clone(),
                history: work.history.clone(),
                program: work.program.clone(),
                signal: Arc::default(),
                locked: Vec::new(),
                unproven: false,
                logged: work.logged,
            };
            loop {
                match self.advance(&mut rehearsal).await {
                    Flow::On => {}
                    Flow::Sleep(_) | Flow::Leave => return Err(Stop::Leave),
                    Flow::End(..) => return Ok(plan::of(&rehearsal.steps, plan::effects(&work.steps))),
                }
            }
        })
    }
}
