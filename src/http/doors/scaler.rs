//! docker-scaler's addresses: scaling of services and nodes, rescheduling. Parameters stand in the address, or as `groupLabels` of an Alertmanager
//! payload in the body; the address wins. Answers are `{"status": "OK" | "NOK", "message"}`.

use super::{admit, asked, count, parameters, service};
use crate::http::body;
use crate::http::events;
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::model::event::Event;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const DOOR: &str = "docker-scaler";

/// Both what the address and what the body says.
struct Asked {
    address: BTreeMap<String, String>,
    group: BTreeMap<String, Value>,
}

/// Of an Alertmanager payload, what this door reads.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Payload {
    group_labels: BTreeMap<String, Value>,
}

impl Asked {
    fn value(&self, name: &str) -> String {
        let in_body = || match self.group.get(name) {
            Some(Value::String(text)) => text.clone(),
            // The original's `by` is a number only; Alertmanager sends every label as text. Both are understood.
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        self.address.get(name).cloned().unwrap_or_else(in_body).trim().to_string()
    }

    /// `up` or `down`.
    fn direction(&self) -> Result<String, Problem> {
        let scale = self.value("scale");
        match scale.as_str() {
            "up" | "down" => Ok(scale),
            "" => Err(Problem::malformed("No scale direction in request: expected scale=up or scale=down")),
            _ => Err(Problem::malformed("Incorrect scale direction in request: expected scale=up or scale=down")),
        }
    }

    /// Absent, or a number from 1.
    fn by(&self) -> Result<String, Problem> {
        let by = self.value("by");
        if by.is_empty() { Ok(by) } else { count("by", &by).map(|by| by.to_string()) }
    }

    fn service(&self) -> Result<String, Problem> {
        let name = self.value("service");
        if name.is_empty() {
            return Err(Problem::malformed("No service name in request: expected service=NAME"));
        }
        service(&name).map(str::to_string)
    }
}

pub async fn ping(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match admit(&shared, request.headers(), None) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(problem) => not_ok(&problem),
    }
}

pub async fn scale_service(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    take(&shared, request, |asked_for, at| {
        let (service, scale, by) = (asked_for.service()?, asked_for.direction()?, asked_for.by()?);
        let labels =
            [("event", "scale_service"), ("service", &service), ("scale", &scale), ("by", &by), ("door", DOOR)];
        Ok((asked(&labels, at), format!("Scale service {scale}: {service}")))
    })
    .await
}

pub async fn scale_nodes(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    take(&shared, request, |asked_for, at| {
        let (scale, by, kind) = (asked_for.direction()?, asked_for.by()?, asked_for.value("type"));
        if kind != "worker" && kind != "manager" {
            return Err(Problem::malformed("Incorrect node type: type can only be worker or manager"));
        }
        let named = asked_for.value("service");
        if !named.is_empty() {
            service(&named)?;
        }
        let labels = [
            ("event", "scale_nodes"),
            ("scale", &*scale),
            ("by", &by),
            ("type", &kind),
            ("service", &named),
            ("door", DOOR),
        ];
        Ok((asked(&labels, at), format!("Scale nodes {scale}, type: {kind}")))
    })
    .await
}

pub async fn reschedule_services(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    take(&shared, request, |_, at| {
        let labels = [("event", "reschedule"), ("door", DOOR)];
        Ok((asked(&labels, at), "Rescheduling all labeled services".to_string()))
    })
    .await
}

pub async fn reschedule_service(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    take(&shared, request, |asked_for, at| {
        let service = asked_for.service()?;
        let labels = [("event", "reschedule"), ("service", &*service), ("door", DOOR)];
        Ok((asked(&labels, at), format!("Rescheduling service: {service}")))
    })
    .await
}

/// Reads what is asked for, journals the event that it makes, and answers.
async fn take(
    shared: &Shared,
    request: Request,
    event: impl FnOnce(Asked, jiff::Timestamp) -> Result<(Event, String), Problem>,
) -> Response {
    let outcome = async {
        admit(shared, request.headers(), None)?;
        let (head, body) = request.into_parts();
        let body = body::read_up_to(shared, body, shared.body_limit).await?;
        let group = if body.trim_ascii().is_empty() {
            BTreeMap::new()
        } else {
            let payload: Payload = serde_json::from_slice(&body)
                .map_err(|error| Problem::malformed(format!("Unable to decode POST body: {error}")))?;
            payload.group_labels
        };
        let (event, message) = event(Asked { address: parameters(&head.uri)?, group }, shared.clock.now())?;
        let intake = events::journal(shared, &[event]).await?;
        Ok(Json(json!({ "status": "OK", "message": format!("{message}; journalled as {intake}") })).into_response())
    };
    let outcome: Result<Response, Problem> = outcome.await;
    events::tell_refused(shared, DOOR, &outcome);
    events::count(shared, DOOR, outcome.unwrap_or_else(|problem| not_ok(&problem)))
}

fn not_ok(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(json!({ "status": "NOK", "message": problem.detail }))).into_response()
}
