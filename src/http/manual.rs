//! A person's wish to have a runbook run: an event `on: manual`, which needs a rule that takes it, as everything does.
//!
//! The person is there: what no rule would take, or what a rule could not work with, is said at once instead of journalled.

use crate::engine::route;
use crate::http::body;
use crate::http::events;
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::http::view::{RunAccepted, RunRequest};
use crate::model::diagnostic::nearest;
use crate::model::event::{Event, On};
use crate::model::payload::{MAX_LABELS, MAX_TEXT_BYTES};
use crate::model::text;
use crate::runbook::catalog::{Catalog, fits, kind};
use crate::runbook::program::Program;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Labels that the event has of itself.
const OWN: [&str; 4] = ["event", "runbook", "by", "request"];
/// Rules that nearly took it, shown to the person.
const CLOSEST: usize = 3;
/// Bytes that whoever asks may use to find the incident again.
const MAX_REQUEST: usize = 64;

/// `POST /api/v1/runs`.
pub async fn start(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let outcome = take(&shared, request).await;
    events::count(&shared, "run", outcome.unwrap_or_else(IntoResponse::into_response))
}

async fn take(shared: &Shared, request: Request) -> Result<Response, Problem> {
    let live = shared.need_live()?;
    let (head, body) = request.into_parts();
    let mut wish: RunRequest = body::command(shared, &head.headers, body).await?;
    let request = match wish.request.take() {
        Some(request) => request,
        None => made_up()?,
    };
    let catalog = live.catalog.load_full();
    let event = event(&catalog, &wish, &request, shared.clock.now())?;
    let rules = takers(&catalog, &event)?;
    let intake = events::journal(shared, &[event]).await?;
    Ok((StatusCode::ACCEPTED, Json(RunAccepted { intake, request, rules })).into_response())
}

/// A name that nothing else has.
fn made_up() -> Result<String, Problem> {
    let mut bytes = [0; 12];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| Problem::unavailable("the system gives no random numbers"))?;
    Ok(hex::encode(bytes))
}

fn event(catalog: &Catalog, wish: &RunRequest, request: &str, at: Timestamp) -> Result<Event, Problem> {
    if wish.by.trim().is_empty() {
        return Err(Problem::malformed("\"by\" says who asks; it cannot be empty"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if request.is_empty() || request.len() > MAX_REQUEST || !request.chars().all(plain) {
        return Err(Problem::malformed(format!(
            "\"request\" must be letters, digits and . _ -, at most {MAX_REQUEST}"
        )));
    }
    let program = catalog.programs.get(&wish.runbook).ok_or_else(|| unknown_runbook(catalog, &wish.runbook))?;
    if wish.set.len() + OWN.len() > MAX_LABELS {
        return Err(Problem::malformed(format!("\"set\" has more than {} values", MAX_LABELS - OWN.len())));
    }
    let mut pairs = vec![
        ("event".to_string(), "run".to_string()),
        ("runbook".to_string(), wish.runbook.clone()),
        ("by".to_string(), wish.by.trim().to_string()),
        ("request".to_string(), request.to_string()),
    ];
    let mut params = BTreeMap::new();
    for (name, value) in &wish.set {
        if name.is_empty() || OWN.contains(&name.as_str()) {
            return Err(Problem::malformed(format!("{name:?} cannot be set: the event has that label of itself")));
        }
        if name.len() > MAX_TEXT_BYTES || value.is_null() {
            return Err(Problem::malformed(format!("{:?} must have a value", text::cut(name, 60))));
        }
        if let Some(default) = program.defaults.get(name) {
            params.insert(name.clone(), typed(program, name, default, value)?);
        }
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        pairs.push((name.clone(), shown));
    }
    Ok(Event { params, ..Event::new(On::Manual, pairs.into_iter().collect(), at) })
}

/// The value as the type that the runbook declares. The command line knows text only, so text that reads as that type is one.
fn typed(program: &Program, name: &str, default: &Value, value: &Value) -> Result<Value, Problem> {
    if fits(default, value) {
        return Ok(value.clone());
    }
    let read = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    read.filter(|read| fits(default, read)).ok_or_else(|| {
        Problem::malformed(format!(
            "{name:?} must be {}, found {} {}; the runbook {} declares it as {default}",
            kind(default),
            kind(value),
            text::visible(&value.to_string(), 60),
            program.name
        ))
    })
}

fn unknown_runbook(catalog: &Catalog, name: &str) -> Problem {
    let name = text::visible(name, 60);
    let known = catalog.programs.keys().map(String::as_str);
    Problem::unprocessable(match nearest(&name, known) {
        Some(right) => format!("there is no runbook {name:?}; did you mean {right:?}?"),
        None => format!("there is no runbook {name:?}; GET /api/v1/runbooks lists them"),
    })
}

/// The rules that take it, by name; never empty.
fn takers(catalog: &Catalog, event: &Event) -> Result<Vec<String>, Problem> {
    let matched = route::route_event(catalog, event);
    if let Some(reason) = matched.iter().find_map(|one| one.key.as_ref().err()) {
        return Err(Problem::unprocessable(format!("{}; set it", reason.text)));
    }
    if matched.is_empty() {
        let near = route::closest(catalog, Some(On::Manual), &event.labels, CLOSEST);
        let close = |near: &route::Near| format!("{} ({}): {}", near.rule, near.place, near.kept_from.join("; "));
        let close: Vec<String> = near.iter().map(close).collect();
        let close = if close.is_empty() { String::new() } else { format!(". Came close: {}", close.join(" · ")) };
        return Err(Problem::unprocessable(format!(
            "no rule with `on: manual` takes {}, and without a rule nothing may be changed{close}",
            event.labels
        )));
    }
    Ok(matched.into_iter().map(|one| one.rule.name.clone()).collect())
}
