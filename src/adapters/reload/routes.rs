//! Where requests go: the routes, backends and servers that the labels `com.df.*` of the live services ask for. Pure.
//!
//! A destination is `com.df.port` with `com.df.servicePath` or `com.df.serviceDomain` (lists with commas), or with `com.df.reqMode=tcp` and
//! `com.df.srcPort`, or with `com.df.reqMode=sni`, `com.df.srcPort` and the names that clients ask for by TLS. More of them have the suffixes `.1`, `.2` …,
//! up to the first gap.

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
    /// For TLS that is passed through: a port of the proxy's own, each.
    pub sni: Vec<SniListener>,
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
    /// What of the request's path is looked at: `path_beg` (its beginning), `path` (the whole), or another of HAProxy's.
    pub path_type: &'static str,
    /// What that is compared with; `/` for any path.
    pub path: String,
}

#[derive(Serialize, PartialEq, Debug)]
pub struct Listener {
    pub port: u16,
    pub backend: String,
}

/// Several services can share its port: each has names of its own.
#[derive(Serialize, PartialEq, Debug)]
pub struct SniListener {
    pub port: u16,
    /// In the order in which they are to be tried: whole names first, then the longer.
    pub names: Vec<SniName>,
}

#[derive(Serialize, PartialEq, Debug)]
pub struct SniName {
    pub backend: String,
    /// How the name that the client asks for is compared: `str` (the whole), `end`, `beg`, `sub`, `dom`, `reg`, as in HAProxy.
    pub how: &'static str,
    pub name: String,
}

#[derive(Serialize, PartialEq, Debug)]
pub struct Backend {
    /// The service's name, with the suffix of the destination.
    pub name: String,
    pub service: String,
    pub mode: &'static str,
    /// Requests that did not come by HTTPS are sent there.
    pub https_only: bool,
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
        routing.sni.sort_by_key(|listener| listener.port);
        for listener in &mut routing.sni {
            let rank = |name: &SniName| (name.how != "str", std::cmp::Reverse(name.name.len()), name.name.clone());
            listener.names.sort_by_cached_key(rank);
        }
        Ok(routing)
    }

    fn add(&mut self, live: &Live, service: &LiveService, suffix: &str) -> Result<(), String> {
        let label = |name: &str| format!("com.df.{name}{suffix}");
        let value = |name: &str| service.label(&label(name)).unwrap_or_default().trim();
        let port = port(service, &label("port"))?;
        let name = format!("{}{suffix}", service.name);
        let routed = match value("reqMode") {
            "" | "http" => self.http(&name, &label, &value).map(|()| "http"),
            "tcp" => {
                let src = self::port(service, &label("srcPort"))?;
                self.tcp(&name, src, &label).map(|()| "tcp")
            }
            "sni" => {
                let src = self::port(service, &label("srcPort"))?;
                self.sni(&name, src, &label, &value).map(|()| "tcp")
            }
            _ => Err(format!("{} is none of http, tcp and sni", label("reqMode"))),
        };
        let mode = match routed {
            Ok(mode) => mode,
            Err(why) => {
                self.left_out.push(LeftOut { service: service.name.clone(), why });
                return Ok(());
            }
        };
        let https_only = mode == "http" && value("httpsOnly") == "true";
        let (servers, dns) = servers(live, service, port);
        let (service, replicas) = (service.name.clone(), service.replicas);
        self.backends.push(Backend { name, service, mode, https_only, port, servers, dns, replicas });
        Ok(())
    }
}

/// The labels of one destination, by their names without prefix and suffix: how each is called, and what it says.
type Label<'a> = &'a dyn Fn(&str) -> String;
type Said<'a, 's> = &'a dyn Fn(&str) -> &'s str;

/// Each adds the routes of one destination to its backend, or says why there are none.
impl Routing {
    fn http(&mut self, backend: &str, label: Label, value: Said) -> Result<(), String> {
        const PATH_TYPES: [&str; 6] = ["path_beg", "path", "path_dir", "path_end", "path_reg", "path_sub"];
        let path_type = match value("pathType") {
            "" => "path_beg",
            asked => PATH_TYPES
                .into_iter()
                .find(|known| *known == asked)
                .ok_or_else(|| format!("{} is none of {}", label("pathType"), PATH_TYPES.join(", ")))?,
        };
        let (ends, domains): (Vec<&str>, Vec<&str>) =
            list(value("serviceDomain")).partition(|one| one.starts_with('*'));
        let paths: Vec<&str> = list(value("servicePath")).collect();
        if paths.is_empty() && ends.is_empty() && domains.is_empty() {
            return Err(format!("{} without {} or {}", label("port"), label("servicePath"), label("serviceDomain")));
        }
        if path_type == "path_reg" {
            paths.iter().try_for_each(|path| expression(path, &label("servicePath")))?;
        }
        let any = [("path_beg", "/")];
        let paths = paths.iter().map(|path| (path_type, *path)).chain(any.into_iter().filter(|_| paths.is_empty()));
        let owned = |all: &[&str]| all.iter().map(|one| one.trim_start_matches('*').to_string()).collect();
        self.routes.extend(paths.map(|(path_type, path)| Route {
            backend: backend.to_string(),
            domains: owned(&domains),
            domain_ends: owned(&ends),
            path_type,
            path: path.to_string(),
        }));
        Ok(())
    }

    fn tcp(&mut self, backend: &str, port: u16, label: Label) -> Result<(), String> {
        self.free(port, label)?;
        if self.sni.iter().any(|listener| listener.port == port) {
            return Err(format!("{} is {port}, where others are told apart by name", label("srcPort")));
        }
        self.listeners.push(Listener { port, backend: backend.to_string() });
        Ok(())
    }

    /// The names are `com.df.serviceDomain`, or, as Docker Flow Proxy has them, `com.df.servicePath` with a `com.df.pathType` such as `req_ssl_sni -i -m beg`.
    fn sni(&mut self, backend: &str, port: u16, label: Label, value: Said) -> Result<(), String> {
        const HOWS: [&str; 6] = ["str", "beg", "end", "sub", "dom", "reg"];
        self.free(port, label)?;
        let asked = value("pathType").rsplit_once("-m ").map_or("str", |(_, how)| how.trim());
        let how = HOWS
            .into_iter()
            .find(|known| *known == asked)
            .ok_or_else(|| format!("{} ends in none of -m {}", label("pathType"), HOWS.join(", ")))?;
        let whole = list(value("serviceDomain")).map(|name| match name.strip_prefix('*') {
            Some(end) => ("end", end),
            None => ("str", name),
        });
        let names: Vec<(&'static str, &str)> =
            whole.chain(list(value("servicePath")).map(|name| (how, name))).collect();
        if names.is_empty() {
            return Err(format!("{} without {}", label("reqMode"), label("serviceDomain")));
        }
        names
            .iter()
            .filter(|(how, _)| *how == "reg")
            .try_for_each(|(_, name)| expression(name, &label("servicePath")))?;
        let at = self.sni.iter().position(|listener| listener.port == port).unwrap_or_else(|| {
            self.sni.push(SniListener { port, names: Vec::new() });
            self.sni.len() - 1
        });
        let named =
            |(how, name): (&'static str, &str)| SniName { backend: backend.to_string(), how, name: name.to_string() };
        self.sni[at].names.extend(names.into_iter().map(named));
        Ok(())
    }

    fn free(&self, port: u16, label: Label) -> Result<(), String> {
        match self.listeners.iter().find(|listener| listener.port == port) {
            Some(other) => Err(format!("{} is {port}, the port of {}", label("srcPort"), other.backend)),
            None => Ok(()),
        }
    }
}

/// A wrong one would cost the whole file, and all services with it.
fn expression(text: &str, label: &str) -> Result<(), String> {
    regex::Regex::new(text).map(drop).map_err(|_| format!("{label} is no regular expression"))
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
