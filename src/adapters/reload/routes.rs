//! Where requests go: the routes, backends and servers that the labels `com.df.*` of the live services ask for. Pure.
//!
//! A destination is `com.df.port` with `com.df.servicePath` or `com.df.serviceDomain` (lists with commas), or with `com.df.reqMode=tcp` and
//! `com.df.srcPort`. More of them have the suffixes `.1`, `.2` …, up to the first gap.

use super::live::{Live, LiveService};
use super::words;
use serde::Serialize;
use std::collections::BTreeSet;

/// All that a proxy needs to know.
#[derive(Serialize, Default)]
pub struct Routing {
    /// For HTTP, in the order in which they are to be tried: those with a domain first, then the longer path.
    pub routes: Vec<Route>,
    /// For TCP: a port of the proxy's own, each.
    pub listeners: Vec<Listener>,
    pub backends: Vec<Backend>,
    /// Destinations that say too little; a template tells of them in a comment.
    pub left_out: Vec<LeftOut>,
}

#[derive(Serialize, PartialEq, Debug)]
pub struct Route {
    pub backend: String,
    /// Whole names of hosts. With neither these nor `domain_ends`: any host.
    pub domains: Vec<String>,
    /// What a host's name may end with, from `*.example.com`.
    pub domain_ends: Vec<String>,
    /// What the path begins with; `/` for any.
    pub path: String,
}

#[derive(Serialize, PartialEq, Debug)]
pub struct Listener {
    pub port: u16,
    pub backend: String,
}

#[derive(Serialize, PartialEq, Debug)]
pub struct Backend {
    /// The service's name, with the suffix of the destination.
    pub name: String,
    pub service: String,
    pub mode: &'static str,
    pub port: u16,
    pub servers: Vec<Server>,
    /// The service publishes no such port and its tasks have several networks, or none that is known: only the DNS of a network that it shares with the
    /// proxy can tell where they are, under this name.
    pub dns: Option<String>,
    /// How many tasks there should be.
    pub replicas: u64,
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Server {
    pub name: String,
    pub address: String,
    pub port: u16,
    pub node: String,
}

#[derive(Serialize, PartialEq, Debug)]
pub struct LeftOut {
    pub service: String,
    pub why: String,
}

impl Routing {
    /// The error names a service and the label that cannot be meant.
    pub fn of(live: &Live) -> Result<Routing, String> {
        let mut routing = Routing::default();
        for service in &live.services {
            for suffix in suffixes(service, "com.df.port") {
                routing.add(live, service, &suffix)?;
            }
        }
        let rank = |route: &Route| {
            let any_host = route.domains.is_empty() && route.domain_ends.is_empty();
            (any_host, std::cmp::Reverse(route.path.len()), route.path.clone(), route.backend.clone())
        };
        routing.routes.sort_by_cached_key(rank);
        routing.listeners.sort_by_key(|listener| listener.port);
        Ok(routing)
    }

    fn add(&mut self, live: &Live, service: &LiveService, suffix: &str) -> Result<(), String> {
        let label = |name: &str| format!("com.df.{name}{suffix}");
        let value = |name: &str| service.label(&label(name)).unwrap_or_default().trim();
        let port = port(service, &label("port"))?;
        let name = format!("{}{suffix}", service.name);
        let left_out = |why: String| LeftOut { service: service.name.clone(), why };
        let mode = match value("reqMode") {
            "" | "http" => "http",
            "tcp" => "tcp",
            _ => {
                self.left_out.push(left_out(format!("{} is neither http nor tcp", label("reqMode"))));
                return Ok(());
            }
        };
        if mode == "tcp" {
            self.listeners.push(Listener { port: self::port(service, &label("srcPort"))?, backend: name.clone() });
        } else {
            let (ends, domains): (Vec<&str>, Vec<&str>) =
                list(value("serviceDomain")).partition(|one| one.starts_with('*'));
            let mut paths: Vec<&str> = list(value("servicePath")).collect();
            if paths.is_empty() && ends.is_empty() && domains.is_empty() {
                let why = format!("{} without {} or {}", label("port"), label("servicePath"), label("serviceDomain"));
                self.left_out.push(left_out(why));
                return Ok(());
            }
            if paths.is_empty() {
                paths.push("/");
            }
            let owned = |all: &[&str]| all.iter().map(|one| one.trim_start_matches('*').to_string()).collect();
            self.routes.extend(paths.into_iter().map(|path| Route {
                backend: name.clone(),
                domains: owned(&domains),
                domain_ends: owned(&ends),
                path: path.to_string(),
            }));
        }
        let (servers, dns) = servers(live, service, port);
        let (service, replicas) = (service.name.clone(), service.replicas);
        self.backends.push(Backend { name, service, mode, port, servers, dns, replicas });
        Ok(())
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|one| !one.is_empty())
}

/// "" if the service has the label itself, then `.1`, `.2` … until one is missing.
pub fn suffixes(service: &LiveService, label: &str) -> Vec<String> {
    let numbered = (1..).map(|number| format!(".{number}"));
    let has = |suffix: &String| service.label(&format!("{label}{suffix}")).is_some();
    [String::new()].into_iter().filter(|none| has(none)).chain(numbered.take_while(has)).collect()
}

/// The port in a label.
pub fn port(service: &LiveService, label: &str) -> Result<u16, String> {
    let Some(text) = service.label(label) else { return Err(service.unfit(label, "is missing")) };
    let port = words::port(text.trim()).map_err(|why| service.unfit(label, &why))?;
    port.parse().map_err(|_| service.unfit(label, "is no port"))
}

/// Where a port of a service can be reached, and otherwise the name that its tasks have in the DNS of their networks.
///
/// In this order: published with `mode=host`, on the node of each task that runs; published through the ingress, on every ready and active node; on the
/// tasks' own addresses, if each has exactly one.
pub fn servers(live: &Live, service: &LiveService, port: u16) -> (Vec<Server>, Option<String>) {
    let published = |mode: &str| {
        let of_mode = service.ports.iter().filter(|found| found.mode == mode && found.published > 0);
        of_mode.filter(|found| found.target == port || found.published == port).map(|found| found.published).next()
    };
    let server = |(at, (node, address, port)): (usize, (&str, &str, u16))| Server {
        name: if node.is_empty() { format!("task{}", at + 1) } else { node.to_string() },
        address: address.to_string(),
        port,
        node: node.to_string(),
    };
    if let Some(published) = published("host") {
        let nodes: BTreeSet<(&str, &str, u16)> = service
            .tasks
            .iter()
            .filter(|task| !task.address.is_empty())
            .map(|task| (task.node.as_str(), task.address.as_str(), published))
            .collect();
        return (nodes.into_iter().enumerate().map(server).collect(), None);
    }
    if let Some(published) = published("ingress") {
        let usable = live.nodes.iter().filter(|node| node.state == "ready" && node.availability == "active");
        let nodes = usable.filter(|_| !service.tasks.is_empty());
        let nodes = nodes.map(|node| (node.name.as_str(), node.address.as_str(), published));
        return (nodes.enumerate().map(server).collect(), None);
    }
    if service.tasks.iter().any(|task| task.addresses.len() != 1) {
        return (Vec::new(), Some(format!("tasks.{}", service.name)));
    }
    let own = |(at, task): (usize, &super::live::LiveTask)| Server {
        name: format!("task{}", at + 1),
        address: task.addresses[0].clone(),
        port,
        node: task.node.clone(),
    };
    (service.tasks.iter().enumerate().map(own).collect(), None)
}
