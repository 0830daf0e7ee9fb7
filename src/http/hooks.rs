//! Where registries, GitHub and builds say what is to be deployed: decoded, journalled, answered.
//!
//! The machines among them do not read answers: what is refused and will not come again is told to people, once per cause and hour.

use crate::http::body;
use crate::http::events;
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::http::view::EventsView;
use crate::model::hook::{Decoded, deploy, github, registry};
use crate::model::payload::{DecodeError, Malformed};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Bytes of one post. GitHub's largest of the kinds that are read, and a registry's envelope, have far fewer.
const LIMIT: usize = 2 << 20;
/// Malformed notifications of one post that people are shown.
const SHOWN: usize = 5;
const SIGNATURE: &str = "x-hub-signature-256";

/// `POST /api/v1/deploy`: a build's own word.
pub async fn deploy(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let outcome = take_deploy(&shared, request).await;
    events::count(&shared, "deploy", outcome.unwrap_or_else(IntoResponse::into_response))
}

async fn take_deploy(shared: &Shared, request: Request) -> Result<Response, Problem> {
    admit(shared, request.headers())?;
    let (head, body) = request.into_parts();
    let fields: Map<String, Value> = body::command(shared, &head.headers, body).await?;
    let event = deploy::decode(&fields, shared.clock.now()).map_err(Problem::malformed)?;
    events::accept(shared, &[event], 0).await
}

/// `POST /api/v1/hooks/registry`: a Docker registry's notifications.
pub async fn registry(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let outcome = take_registry(&shared, request).await;
    events::tell_refused(&shared, "registry", &outcome);
    events::count(&shared, "registry", outcome.unwrap_or_else(IntoResponse::into_response))
}

async fn take_registry(shared: &Shared, request: Request) -> Result<Response, Problem> {
    admit(shared, request.headers())?;
    // A web page cannot send either type to another origin without asking first.
    of_type(request.headers(), &[registry::MEDIA_TYPE, "application/json"])?;
    let body = body::read_up_to(shared, request.into_body(), LIMIT).await?;
    let decoded = registry::decode(&body, shared.clock.now()).map_err(unreadable)?;
    take(shared, "registry", decoded).await
}

/// `POST /api/v1/hooks/github`: GitHub's webhook, for whoever knows its secret.
pub async fn github(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let outcome = take_github(&shared, request).await;
    // Without a secret nobody has pointed GitHub here: whoever knocks is a stranger.
    if shared.keys.github.is_some() {
        events::tell_refused(&shared, "github", &outcome);
    }
    events::count(&shared, "github", outcome.unwrap_or_else(IntoResponse::into_response))
}

async fn take_github(shared: &Shared, request: Request) -> Result<Response, Problem> {
    let Some(secret) = &shared.keys.github else {
        return Err(Problem::forbidden(
            "no secret is set that GitHub could sign with: put one into a file, name it in hooks.github_secret_file \
             (or set RUNBOOKD_GITHUB_SECRET), and give the same to GitHub",
        ));
    };
    let (head, body) = request.into_parts();
    let signature = head.headers.get(SIGNATURE).cloned().ok_or_else(|| {
        Problem::forbidden("the delivery is not signed: give the webhook the secret of hooks.github_secret_file")
    })?;
    let body = body::read_up_to(shared, body, LIMIT).await?;
    // Nothing of the body is looked at before its signature is.
    if !github::signed(secret.expose().as_bytes(), &body, signature.as_bytes()) {
        return Err(Problem::forbidden(
            "the signature does not fit: the webhook's secret is another than that of hooks.github_secret_file, or the \
             body was changed on its way",
        ));
    }
    let kind = head.headers.get("x-github-event").and_then(|kind| kind.to_str().ok());
    let kind = kind.ok_or_else(|| Problem::malformed("the header X-GitHub-Event is missing"))?;
    if kind == "ping" {
        return Ok(Json(EventsView { intake: None, events: 0, ignored: 1 }).into_response());
    }
    of_type(&head.headers, &["application/json"])?;
    let mut decoded = github::decode(kind, &body, shared.clock.now()).map_err(unreadable)?;
    let delivery = head.headers.get("x-github-delivery").and_then(|id| id.to_str().ok()).unwrap_or_default();
    for event in &mut decoded.events {
        let id = [("delivery", delivery)];
        event.annotations = event.annotations.iter().chain(id.into_iter().filter(|(_, id)| !id.is_empty())).collect();
    }
    take(shared, "github", decoded).await
}

/// Journals what was decoded. What could not be read in a post that could is told to people, for sent again it would be no better.
async fn take(shared: &Shared, source: &str, decoded: Decoded) -> Result<Response, Problem> {
    let response = events::accept(shared, &decoded.events, decoded.ignored + decoded.malformed.len()).await?;
    if !decoded.malformed.is_empty() {
        let shown = |one: &Malformed| format!("number {}: {}; it begins {}", one.index, one.why, one.excerpt);
        let lines: Vec<String> = decoded.malformed.iter().take(SHOWN).map(shown).collect();
        let more = decoded.malformed.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
        shared.tell_operators(
            &format!("hook:{source}:malformed"),
            &format!("The {source} hook was told of a deployment that cannot be read, and deployed nothing"),
            &format!("{}{more}", lines.join("\n")),
        );
    }
    Ok(response)
}

fn admit(shared: &Shared, headers: &HeaderMap) -> Result<(), Problem> {
    if shared.keys.admit_hook(headers) {
        return Ok(());
    }
    let problem = Problem::unauthorized();
    Err(Problem { detail: format!("{}, or that of `hooks.token_file`", problem.detail), ..problem })
}

fn of_type(headers: &HeaderMap, accepted: &[&str]) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if accepted.iter().any(|accepted| kind.eq_ignore_ascii_case(accepted)) {
        return Ok(());
    }
    Err(Problem::wrong_type(format!("send it with \"Content-Type: {}\"", accepted[0])))
}

fn unreadable(error: DecodeError) -> Problem {
    Problem::malformed(error.to_string()).at(error.line, error.column)
}
