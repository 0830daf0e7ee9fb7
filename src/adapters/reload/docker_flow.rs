//! Docker Flow Proxy and Docker Flow Monitor: told of one service in the requests that Docker Flow Swarm Listener sends, so that stacks built on them go
//! on working.

use super::http::{self, judge};
use crate::config::reload::{DockerFlow, DockerFlowTarget};
use crate::model::cluster::{Mode, Service};
use crate::ports::{Cluster, ErrorReason, PortError, Reloaded};
use reqwest::{Client, Method, StatusCode, Url};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PREFIX: &str = "com.df.";
/// The label of the services that the listener tells of.
const NOTIFY: &str = "com.df.notify";
/// What `docker stack` names a stack's services by.
const STACK: &str = "com.docker.stack.namespace";
/// Labels for the listener itself.
const CONTROL: [&str; 4] = ["notify", "notifyService", "scrapeNetwork", "shortName"];

pub struct DockerFlowReload {
    kind: DockerFlow,
    base: Url,
    timeout: Duration,
    http: Client,
    cluster: Arc<dyn Cluster>,
}

impl DockerFlowReload {
    /// `key` is where it stands in the config. Errors (permanent) name it.
    pub fn new(
        key: &str,
        config: &DockerFlowTarget,
        timeout: Duration,
        cluster: Arc<dyn Cluster>,
    ) -> Result<Self, PortError> {
        let DockerFlowTarget { kind, url, .. } = config;
        let name = match kind {
            DockerFlow::Proxy => "docker_flow_proxy",
            DockerFlow::Monitor => "docker_flow_monitor",
        };
        let base = http::parse(&format!("{key}.{name}"), url)?;
        Ok(DockerFlowReload { kind: *kind, base, timeout, http: http::client()?, cluster })
    }

    /// Tells of one service, there or gone; of all services with `com.df.notify=true` when none is named.
    pub async fn reload(&self, what: &str, service: Option<&str>) -> Result<Reloaded, PortError> {
        let Some(name) = service else { return self.reload_all(what).await };
        match self.cluster.service(name).await {
            Ok(service) => self.reconfigure(what, &service).await,
            Err(error) if error.reason == ErrorReason::NotFound => self.remove(what, name).await,
            Err(error) => Err(error),
        }
    }

    /// One service that is refused does not keep the others from being told; the first error is the answer.
    async fn reload_all(&self, what: &str) -> Result<Reloaded, PortError> {
        let mut services = self.cluster.services().await?;
        services.retain(|service| service.labels.value(NOTIFY) == "true");
        services.sort_by(|a, b| a.name.cmp(&b.name));
        if services.is_empty() {
            let message = format!("{what}: no service carries {NOTIFY}=true, so there is none to tell of; name one");
            return Err(PortError::permanent(ErrorReason::NotFound, message));
        }
        let mut answer = Ok(Reloaded::Unchanged);
        for service in &services {
            match (self.reconfigure(what, service).await, &answer) {
                (Err(error), Ok(_)) => answer = Err(error),
                (Ok(Reloaded::Done), Ok(_)) => answer = Ok(Reloaded::Done),
                _ => {}
            }
        }
        answer
    }

    async fn reconfigure(&self, what: &str, service: &Service) -> Result<Reloaded, PortError> {
        let what = format!("{what}: reconfigure {}", service.name);
        match self.get("reconfigure", &parameters(service), &what).await? {
            // The service has neither a path nor a domain: there is nothing to route to it, and the listener takes that for done, too.
            StatusCode::CONFLICT => Ok(Reloaded::Unchanged),
            StatusCode::BAD_REQUEST => {
                let message = format!("{what}: the answer was 400: its labels {PREFIX}* are not valid together");
                Err(PortError::permanent(ErrorReason::Refused, message))
            }
            status => judge(status, &what).map(|()| Reloaded::Done),
        }
    }

    async fn remove(&self, what: &str, service: &str) -> Result<Reloaded, PortError> {
        let what = format!("{what}: remove {service}");
        let mut parameters = BTreeMap::from([("serviceName".to_string(), service.to_string())]);
        if self.kind == DockerFlow::Proxy {
            parameters.insert("distribute".into(), "true".into());
        }
        let status = self.get("remove", &parameters, &what).await?;
        judge(status, &what).map(|()| Reloaded::Done)
    }

    async fn get(
        &self,
        action: &str,
        parameters: &BTreeMap<String, String>,
        what: &str,
    ) -> Result<StatusCode, PortError> {
        let mut url = self.base.clone();
        let flow = match self.kind {
            DockerFlow::Proxy => "docker-flow-proxy",
            DockerFlow::Monitor => "docker-flow-monitor",
        };
        let path = format!("{}/v1/{flow}/{action}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.query_pairs_mut().extend_pairs(parameters);
        http::send(&self.http, Method::GET, url, self.timeout, what).await
    }
}

/// What the listener would send of a service: each label `com.df.X` as `X`, the service's name, its replicas (unless it is global), and `distribute`.
fn parameters(service: &Service) -> BTreeMap<String, String> {
    let labels = service.labels.iter().filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value)));
    let labels = labels.filter(|(name, _)| !CONTROL.contains(name));
    let mut parameters: BTreeMap<String, String> =
        labels.map(|(name, value)| (name.to_string(), value.to_string())).collect();
    parameters.entry("distribute".into()).or_insert_with(|| "true".into());
    parameters.insert("serviceName".into(), name(service).to_string());
    match service.mode {
        Mode::Replicated => parameters.insert("replicas".into(), service.replicas.to_string()),
        Mode::Global | Mode::Other => parameters.remove("replicas"),
    };
    parameters
}

/// With `com.df.shortName=true`: without the stack's name in front.
fn name(service: &Service) -> &str {
    let short = service.labels.value("com.df.shortName") == "true";
    let stack = service.labels.get(STACK).filter(|_| short);
    let rest = stack.and_then(|stack| service.name.strip_prefix(stack)?.strip_prefix('_'));
    rest.filter(|rest| !rest.is_empty()).unwrap_or(&service.name)
}
