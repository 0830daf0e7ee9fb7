//! Docker Flow Proxy and Docker Flow Monitor: told of one service in the requests that Docker Flow Swarm Listener sends, so that stacks built on them go
//! on working.

use super::http::{self, judge};
use crate::config::reload::{DockerFlow, DockerFlowTarget};
use crate::model::cluster::{Mode, Service};
use crate::ports::{Cluster, ErrorReason, PortError, Reloaded};
use reqwest::{Client, Method, StatusCode, Url};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const PREFIX: &str = "com.df.";
/// The label of the services that the listener tells of.
const NOTIFY: &str = "com.df.notify";
/// What `docker stack` names a stack's services by.
const STACK: &str = "com.docker.stack.namespace";
/// Labels for the listener itself.
const CONTROL: [&str; 4] = ["notify", "notifyService", "scrapeNetwork", "shortName"];
/// The longest list of its services that is read of a proxy.
const CONFIG_BYTES: usize = 16 * 1024 * 1024;

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
            Err(error) if error.reason == ErrorReason::NotFound => self.remove(what, name, "").await,
            Err(error) => Err(error),
        }
    }

    /// One service that is refused does not keep the others from being told; the first error is the answer. The proxy tells what it has, and forgets what no
    /// service is called any more; the monitor cannot be asked.
    async fn reload_all(&self, what: &str) -> Result<Reloaded, PortError> {
        // Before the services are read: what is told to it meanwhile is not taken for gone.
        let told = match self.kind {
            DockerFlow::Proxy => self.told(what).await,
            DockerFlow::Monitor => Ok(Vec::new()),
        };
        let mut services = self.cluster.services().await?;
        let known: BTreeSet<String> =
            services.iter().flat_map(|service| [service.name.as_str(), name(service)].map(str::to_string)).collect();
        services.retain(|service| service.labels.value(NOTIFY) == "true");
        services.sort_by(|a, b| a.name.cmp(&b.name));
        if services.is_empty() {
            let message = format!("{what}: no service carries {NOTIFY}=true, so there is none to tell of; name one");
            return Err(PortError::permanent(ErrorReason::NotFound, message));
        }
        let mut answer = Ok(Reloaded::Unchanged);
        for service in &services {
            answer = both(answer, self.reconfigure(what, service).await);
        }
        match told {
            Ok(told) => {
                for gone in told.iter().filter(|told| !known.contains(&told.service_name)) {
                    answer = both(answer, self.remove(what, &gone.service_name, &gone.acl_name).await);
                }
                answer
            }
            Err(error) => both(answer, Err(error)),
        }
    }

    /// The services that the proxy routes to, but for those of its own settings and those that run elsewhere.
    async fn told(&self, what: &str) -> Result<Vec<Told>, PortError> {
        let what = format!("{what}: ask what it routes to");
        let parameters = BTreeMap::from([("type".to_string(), "json".to_string())]);
        let url = self.url("config", &parameters);
        let (status, body) = http::fetch(&self.http, url, self.timeout, CONFIG_BYTES, &what).await?;
        judge(status, &what)?;
        // `null` when it has none.
        let all: Option<BTreeMap<String, Told>> = serde_json::from_slice(&body).map_err(|_| {
            let message = format!("{what}: the answer is no list of services, so what is gone stays there");
            PortError::permanent(ErrorReason::Invalid, message)
        })?;
        let named = |(key, told): (String, Told)| match told.service_name.is_empty() {
            true => Told { service_name: key, ..told },
            false => told,
        };
        Ok(all.into_iter().flatten().map(named).filter(Told::is_of_the_swarm).collect())
    }

    async fn reconfigure(&self, what: &str, service: &Service) -> Result<Reloaded, PortError> {
        let what = format!("{what}: reconfigure {}", service.name);
        let mut parameters = parameters(service);
        if service.labels.get("com.df.scrapeNetwork").is_some() {
            let info = service.node_info(&self.cluster.tasks(&service.name).await?);
            parameters.extend(info.map(|info| ("nodeInfo".to_string(), info)));
        }
        match self.get("reconfigure", &parameters, &what).await? {
            // The service has neither a path nor a domain: there is nothing to route to it, and the listener takes that for done, too.
            StatusCode::CONFLICT => Ok(Reloaded::Unchanged),
            StatusCode::BAD_REQUEST => {
                let message = format!("{what}: the answer was 400: its labels {PREFIX}* are not valid together");
                Err(PortError::permanent(ErrorReason::Refused, message))
            }
            status => judge(status, &what).map(|()| Reloaded::Done),
        }
    }

    /// `acl`: what the proxy calls it, "" if that is not known.
    async fn remove(&self, what: &str, service: &str, acl: &str) -> Result<Reloaded, PortError> {
        let what = format!("{what}: remove {service}");
        let mut parameters = BTreeMap::from([("serviceName".to_string(), service.to_string())]);
        if self.kind == DockerFlow::Proxy {
            parameters.insert("distribute".into(), "true".into());
            if !acl.is_empty() && acl != service {
                parameters.insert("aclName".into(), acl.into());
            }
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
        http::send(&self.http, Method::GET, self.url(action, parameters), self.timeout, what).await
    }

    fn url(&self, action: &str, parameters: &BTreeMap<String, String>) -> Url {
        let mut url = self.base.clone();
        let flow = match self.kind {
            DockerFlow::Proxy => "docker-flow-proxy",
            DockerFlow::Monitor => "docker-flow-monitor",
        };
        let path = format!("{}/v1/{flow}/{action}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.query_pairs_mut().extend_pairs(parameters);
        url
    }
}

/// A service as the proxy tells of it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Told {
    service_name: String,
    acl_name: String,
    replicas: i64,
    service_dest: Option<Vec<Destination>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Destination {
    outbound_hostname: String,
}

impl Told {
    fn is_of_the_swarm(&self) -> bool {
        // -1: it stands in the proxy's environment.
        self.replicas >= 0 && self.service_dest.iter().flatten().all(|to| to.outbound_hostname.is_empty())
    }
}

/// The first error; without one, whether anything was done.
fn both(first: Result<Reloaded, PortError>, next: Result<Reloaded, PortError>) -> Result<Reloaded, PortError> {
    match (first, next) {
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        (Ok(Reloaded::Unchanged), Ok(next)) => Ok(next),
        (done, _) => done,
    }
}

/// What the listener would send of a service: each label `com.df.X` as `X`, the service's name, its replicas (unless it is global), and `distribute`; but for
/// `nodeInfo`, which needs its tasks.
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
