//! The Jenkins jobs of the book's stack: `service-scale` and `aws-scale`, started with parameters in the address. The body is ignored, as Jenkins does.
//!
//! Jenkins takes the job's token in the address. It is accepted there, because what sends it may know no other way, and is written nowhere.

use super::{admit, asked, count, parameters, service};
use crate::http::events;
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::model::event::Event;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::sync::Arc;

const DOOR: &str = "jenkins";

/// `service`, and `scale` with its sign: how many replicas more or fewer.
pub async fn service_scale(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    take(&shared, &uri, &headers, |told, at| {
        let service = service(told.get("service").map_or("", |name| name.trim()))?;
        let (scale, by) = signed(told)?;
        let labels = [("event", "scale_service"), ("service", service), ("scale", scale), ("by", &by), ("door", DOOR)];
        Ok(asked(&labels, at))
    })
    .await
}

/// `scale` with its sign: how many nodes more or fewer.
pub async fn aws_scale(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    take(&shared, &uri, &headers, |told, at| {
        let (scale, by) = signed(told)?;
        // The job knew one auto-scaling group, that of the workers' kind.
        let labels = [("event", "scale_nodes"), ("scale", scale), ("by", &by), ("type", "worker"), ("door", DOOR)];
        Ok(asked(&labels, at))
    })
    .await
}

/// `scale=-2` as a direction and a number. A plus sign in an address reads as a space, so `+1`, ` 1` and `1` are the same.
fn signed(told: &BTreeMap<String, String>) -> Result<(&'static str, String), Problem> {
    let text = told.get("scale").map_or("", |scale| scale.trim());
    let (direction, by) = match text.strip_prefix('-') {
        Some(by) => ("down", by),
        None => ("up", text.strip_prefix('+').unwrap_or(text)),
    };
    Ok((direction, count("scale", by)?.to_string()))
}

/// Journals the event and answers 201 with an address, as Jenkins does with that of its queue.
async fn take(
    shared: &Shared,
    uri: &Uri,
    headers: &HeaderMap,
    event: impl FnOnce(&BTreeMap<String, String>, jiff::Timestamp) -> Result<Event, Problem>,
) -> Response {
    let outcome = async {
        let told = parameters(uri)?;
        admit(shared, headers, told.get("token").map(String::as_str))?;
        let event = event(&told, shared.clock.now())?;
        let intake = events::journal(shared, &[event]).await?;
        let location = format!("/queue/item/{intake}/");
        Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
    };
    let outcome: Result<Response, Problem> = outcome.await;
    events::tell_refused(shared, DOOR, &outcome);
    let response = outcome.unwrap_or_else(|problem| {
        // Jenkins answers a wrong token with 403.
        let status = match problem.status {
            401 => StatusCode::FORBIDDEN,
            status => StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        };
        (status, format!("{}: {}\n", problem.title, problem.detail)).into_response()
    });
    events::count(shared, DOOR, response)
}
