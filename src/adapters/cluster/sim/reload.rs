//! Simulated reload targets: what was asked of them is recorded. Templates are rendered from the cluster, so that what cannot be rendered fails and what is as
//! before is unchanged; no file is written, no program is run, nobody is told.

use crate::adapters::reload::{rendered, takes_no_service, unknown_target};
use crate::config::ReloadTarget;
use crate::ports::{Cluster, PortError, Reload, Reloaded};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub struct SimReload {
    targets: BTreeMap<String, ReloadTarget>,
    cluster: Arc<dyn Cluster>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: Vec<String>,
    /// The text of each template target, as if it were its file.
    files: BTreeMap<String, String>,
}

impl SimReload {
    pub fn new(targets: &BTreeMap<String, ReloadTarget>, cluster: Arc<dyn Cluster>) -> Self {
        SimReload { targets: targets.clone(), cluster, state: Mutex::default() }
    }

    /// What was reloaded, in order: `proxy`, or `proxy web` when it was about one service.
    pub fn reloaded(&self) -> Vec<String> {
        self.state().done.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Reload for SimReload {
    async fn reload(&self, target: &str, service: Option<&str>) -> Result<Reloaded, PortError> {
        let Some(found) = self.targets.get(target) else { return Err(unknown_target(target, &self.targets())) };
        let done = match service {
            Some(service) if !found.takes_service() => return Err(takes_no_service(target, service)),
            Some(service) => format!("{target} {service}"),
            None => target.to_string(),
        };
        let text = match found {
            ReloadTarget::Template(one) => {
                Some(rendered(&format!("reload {target}"), &one.template, &*self.cluster).await?)
            }
            _ => None,
        };
        let mut state = self.state();
        if let Some(text) = text {
            if state.files.get(target) == Some(&text) {
                return Ok(Reloaded::Unchanged);
            }
            state.files.insert(target.to_string(), text);
        }
        state.done.push(done);
        Ok(Reloaded::Done)
    }

    fn targets(&self) -> Vec<String> {
        self.targets.keys().cloned().collect()
    }
}
