//! The reload port: brings something outside up to date with the cluster, or tells it to read its configuration again. One file a kind of target;
//! `live`, `render`, `routes`, `alerts` and `words` are what templates are rendered from and with.

mod alerts;

mod docker_flow;
mod http;
mod live;
mod notice;
mod program;
mod render;
mod routes;
mod signal;
mod template;
mod words;

use crate::config::reload::ReloadTarget;
use crate::config::{Config, DockerConfig};
use crate::model::diagnostic::nearest;
use crate::model::duration;
use crate::ports::{Cluster, ErrorReason, PortError, Reload, Reloaded};
use async_trait::async_trait;
use docker_flow::DockerFlowReload;
use http::HttpCall;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use template::TemplateReload;
pub use template::rendered;

/// How long a target may take when the config does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The targets that the config names under `reload:`.
pub struct Reloads {
    targets: BTreeMap<String, Target>,
}

enum Target {
    Http(HttpCall),
    DockerFlow(DockerFlowReload),
    Template(Box<TemplateReload>),
}

impl Reloads {
    /// Opens and sends nothing. Errors (permanent) name the key that is wrong.
    pub fn new(config: &Config, cluster: &Arc<dyn Cluster>) -> Result<Self, PortError> {
        let mut outputs = BTreeMap::new();
        let mut targets = BTreeMap::new();
        for (name, target) in &config.reload {
            if let ReloadTarget::Template(template) = target
                && let Some(other) = outputs.insert(&template.output, name)
            {
                let message = format!("reload.{name}.output is that of reload.{other}: each needs a file of its own");
                return Err(PortError::permanent(ErrorReason::Invalid, message));
            }
            targets.insert(name.clone(), Target::new(name, target, &config.docker, cluster)?);
        }
        Ok(Reloads { targets })
    }
}

impl Target {
    fn new(
        name: &str,
        config: &ReloadTarget,
        docker: &DockerConfig,
        cluster: &Arc<dyn Cluster>,
    ) -> Result<Self, PortError> {
        let limit = |timeout: Option<duration::Duration>| timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.std());
        let key = format!("reload.{name}");
        Ok(match config {
            ReloadTarget::Http(http) => Target::Http(HttpCall::new(&key, http, limit(http.timeout))?),
            ReloadTarget::DockerFlow(flow) => {
                Target::DockerFlow(DockerFlowReload::new(&key, flow, limit(flow.timeout), cluster.clone())?)
            }
            ReloadTarget::Template(template) => {
                let limit = limit(template.timeout);
                Target::Template(Box::new(TemplateReload::new(name, template, limit, docker, cluster.clone())?))
            }
        })
    }
}

#[async_trait]
impl Reload for Reloads {
    async fn reload(&self, target: &str, service: Option<&str>) -> Result<Reloaded, PortError> {
        let Some(found) = self.targets.get(target) else {
            return Err(unknown_target(target, &self.targets()));
        };
        let what = format!("reload {target}");
        match (found, service) {
            (Target::DockerFlow(flow), service) => flow.reload(&what, service).await,
            (_, Some(service)) => Err(takes_no_service(target, service)),
            (Target::Http(call), None) => call.send(&what).await.map(|()| Reloaded::Done),
            (Target::Template(template), None) => template.reload(&what).await,
        }
    }

    fn targets(&self) -> Vec<String> {
        self.targets.keys().cloned().collect()
    }
}

/// The error for a target that the config does not name.
pub fn unknown_target(target: &str, known: &[String]) -> PortError {
    let help = match (nearest(target, known.iter().map(String::as_str)), known) {
        (Some(near), _) => format!("did you mean {near:?}? The config names: {}", known.join(", ")),
        (None, []) => "the config names none; add it under `reload:`".to_string(),
        (None, _) => format!("the config names: {}", known.join(", ")),
    };
    PortError::permanent(ErrorReason::NotFound, format!("there is no reload target {target:?}; {help}"))
}

/// The error for a service given to a target that is about all of them.
pub fn takes_no_service(target: &str, service: &str) -> PortError {
    let message = format!(
        "reload {target}: it takes no service, found {service:?}; only docker_flow_proxy and docker_flow_monitor do: write reload({target:?})"
    );
    PortError::permanent(ErrorReason::Invalid, message)
}
