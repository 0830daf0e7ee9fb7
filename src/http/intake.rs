//! Alertmanager's webhook: decode, journal, answer. Nothing else happens here.
//!
//! 2xx means committed. Alertmanager retries 5xx and gives up on 4xx for that flush, so 4xx is only for what can never be read.

use crate::http::body::{self, Unread};
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::model::payload::{self, DecodeError, Group};
use crate::ports::NewIntake;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;
use std::sync::Arc;

/// From this size on a body is decoded beside the threads that serve connections.
const LARGE: usize = 256 * 1024;

pub async fn post(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let response = match accept(&shared, request).await {
        Ok(()) => accepted(),
        Err(refusal) => refused(&shared, refusal),
    };
    shared.metrics.intake_post(response.status().as_u16());
    response
}

/// Why a post was not taken.
enum Refusal {
    Unauthorized,
    Unread(Unread),
    Malformed(DecodeError),
    /// Waiting for the journal's lock, or shutting down.
    NotLive(Problem),
    Journal(String),
}

async fn accept(shared: &Shared, request: Request) -> Result<(), Refusal> {
    if !shared.keys.admit(request.headers()) {
        return Err(Refusal::Unauthorized);
    }
    let live = shared.need_live().map_err(Refusal::NotLive)?;
    let received_at = shared.clock.now();
    let body = body::read(shared, request.into_body(), shared.body_limit).await.map_err(Refusal::Unread)?;
    let group = decode(&body).await.map_err(Refusal::Malformed)?;
    let post = NewIntake { received_at, source: Cow::Borrowed("alertmanager"), body, group: Some(Arc::new(group)) };
    let committed = tokio::time::timeout(shared.time_limit, live.journal.intake(post)).await;
    match committed {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Refusal::Journal(error.to_string())),
        // It may still be committed: Alertmanager sends it again and that is a repeat.
        Err(_) => Err(Refusal::Journal(format!("no commit within {:?}", shared.time_limit))),
    }
}

async fn decode(body: &Arc<[u8]>) -> Result<Group, DecodeError> {
    if body.len() < LARGE {
        return payload::decode(body);
    }
    let body = body.clone();
    let decoded = tokio::task::spawn_blocking(move || payload::decode(&body)).await;
    decoded.unwrap_or_else(|_| Err(DecodeError { message: "the decoder gave up".into(), line: 1, column: 1 }))
}

fn accepted() -> Response {
    let mut response = Response::new(Body::from("{\"status\":\"journalled\"}"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Counts a refusal, tells people of those that Alertmanager will not repeat, and makes the answer.
fn refused(shared: &Shared, refusal: Refusal) -> Response {
    let limit_mib = shared.body_limit >> 20;
    let (reason, problem) = match refusal {
        Refusal::Unauthorized => ("unauthorized", Problem::unauthorized()),
        Refusal::Unread(Unread::TooLarge) => (
            "too_large",
            Problem::too_large(format!("a post is at most {limit_mib} MiB; set max_alerts in Alertmanager")),
        ),
        Refusal::Unread(Unread::TooSlow) => {
            ("timeout", Problem::too_slow(format!("a post must be whole within {:?}", shared.time_limit)))
        }
        Refusal::Unread(Unread::Broken(why)) => ("broken", Problem::malformed(why)),
        Refusal::Malformed(error) => ("malformed", Problem::malformed(error.to_string()).at(error.line, error.column)),
        Refusal::NotLive(problem) => ("starting", problem),
        Refusal::Journal(why) => ("journal", Problem::unavailable(format!("the journal cannot be written: {why}"))),
    };
    shared.metrics.intake_rejected(reason);
    match reason {
        "unauthorized" | "too_large" | "malformed" => {
            shared.tell_operators(
                &format!("intake:{reason}"),
                "A post of alerts was refused and will not be sent again",
                &format!(
                    "{} {}: {}. Alerts of that group may be missing until Alertmanager tells of it next.",
                    problem.status, problem.title, problem.detail
                ),
            );
        }
        "journal" => shared.tell_operators_directly(&problem.detail),
        _ => {}
    }
    problem.into_response()
}
