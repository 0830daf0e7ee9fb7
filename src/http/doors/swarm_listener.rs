//! Docker Flow Swarm Listener's addresses: what services and nodes there are, with their `com.df.*` labels as parameters, and the request to be told of
//! every service again.

use super::admit;
use crate::http::events;
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::model::cluster::{Mode, Node, Service, Task};
use crate::model::event::{Event, On};
use crate::ports::STEP_LABEL;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const DOOR: &str = "swarm-listener";
const PREFIX: &str = "com.df.";
/// Only services that say so are told of.
const NOTIFY: &str = "com.df.notify";
/// Services that say so are told of with the addresses of their tasks in that network.
const SCRAPE_NETWORK: &str = "com.df.scrapeNetwork";

type Parameters = BTreeMap<String, String>;

pub async fn ping(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let outcome = admit(&shared, &headers, None).map(|()| ok());
    outcome.unwrap_or_else(|problem| not_ok(&problem))
}

/// An array of parameters, one set a service.
pub async fn get_services(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let outcome = async {
        admit(&shared, &headers, None)?;
        let services = services(&shared).await?;
        let tasks = match services.iter().any(|service| service.labels.get(SCRAPE_NETWORK).is_some()) {
            true => within(&shared, async { Ok(shared.need_live()?.cluster.live_tasks().await?) }).await?,
            false => Vec::new(),
        };
        let told: Vec<Parameters> = services.iter().map(|service| of_service(service, &tasks)).collect();
        Ok(Json(told).into_response())
    };
    outcome.await.unwrap_or_else(|problem: Problem| not_ok(&problem))
}

/// An array of parameters, one set a node.
pub async fn get_nodes(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let outcome = async {
        admit(&shared, &headers, None)?;
        let nodes = within(&shared, async { Ok(shared.need_live()?.cluster.nodes().await?) }).await?;
        let told: Vec<Parameters> = nodes.iter().map(of_node).collect();
        Ok(Json(told).into_response())
    };
    outcome.await.unwrap_or_else(|problem: Problem| not_ok(&problem))
}

/// Journals an event `service_created` for each service, so that whatever follows services learns of all of them again.
pub async fn notify_services(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let outcome = async {
        admit(&shared, &headers, None)?;
        let at = shared.clock.now();
        let again: Vec<Event> = services(&shared).await?.iter().map(|service| created_again(service, at)).collect();
        if !again.is_empty() {
            events::journal(&shared, &again).await?;
        }
        Ok(ok())
    };
    let response = outcome.await.unwrap_or_else(|problem: Problem| not_ok(&problem));
    events::count(&shared, DOOR, response)
}

/// The services that want to be told of.
async fn services(shared: &Shared) -> Result<Vec<Service>, Problem> {
    let all = within(shared, async { Ok(shared.need_live()?.cluster.services().await?) }).await?;
    Ok(all.into_iter().filter(|service| service.label(NOTIFY) == Some("true")).collect())
}

/// A cluster that hangs must not hold the connection.
async fn within<T>(shared: &Shared, asking: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let late = || Problem::unavailable(format!("the cluster did not answer within {:?}", shared.time_limit));
    tokio::time::timeout(shared.time_limit, asking).await.unwrap_or_else(|_| Err(late()))
}

/// `com.df.X=v` becomes `X=v`; the name loses its stack's if `com.df.shortName` says so; a global service has no `replicas`.
fn of_service(service: &Service, tasks: &[Task]) -> Parameters {
    let mut told = unprefixed(service.labels.iter().filter(|(name, _)| *name != NOTIFY));
    let stack = service.labels.value("com.docker.stack.namespace");
    let short = service.labels.value("com.df.shortName").eq_ignore_ascii_case("true");
    let in_stack = service.name.strip_prefix(stack).and_then(|rest| rest.strip_prefix('_'));
    let name = in_stack.filter(|_| short && !stack.is_empty()).unwrap_or(&service.name);
    told.insert("serviceName".into(), name.into());
    if service.mode == Mode::Replicated {
        told.insert("replicas".into(), service.replicas.to_string());
    }
    told.entry("distribute".into()).or_insert_with(|| "true".into());
    told.extend(service.node_info(tasks).map(|info| ("nodeInfo".to_string(), info)));
    told
}

fn of_node(node: &Node) -> Parameters {
    let mut told = unprefixed(node.labels.iter());
    told.extend(
        [
            ("id", &node.id),
            ("hostname", &node.name),
            ("address", &node.address),
            ("state", &node.state),
            ("role", &node.role),
            ("availability", &node.availability),
        ]
        .map(|(name, value)| (name.to_string(), value.clone())),
    );
    told.insert("versionIndex".into(), node.version.to_string());
    told
}

fn unprefixed<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Parameters {
    let ours = labels.filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value)));
    ours.filter(|(name, _)| !name.is_empty()).map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// As the watcher of the Swarm tells of a new service, with `again` beside it.
fn created_again(service: &Service, at: Timestamp) -> Event {
    let own = [
        ("event", "service_created"),
        ("service", &service.name),
        ("image", &service.image),
        ("again", "true"),
        ("door", DOOR),
    ];
    let theirs = service.container_labels.iter().chain(service.labels.iter());
    let labels = theirs.filter(|(name, _)| *name != STEP_LABEL).chain(own).collect();
    Event::new(On::Swarm, labels, at)
}

fn ok() -> Response {
    Json(json!({ "Status": "OK" })).into_response()
}

fn not_ok(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body: Value = json!({ "Status": "NOK", "Message": problem.detail });
    (status, Json(body)).into_response()
}
