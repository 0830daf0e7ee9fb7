//! What all posts of events have in common: they are journalled, as one row a post, and answered. The board routes them.

use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::http::view::EventsView;
use crate::model::event::{self, Event};
use crate::ports::NewIntake;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;

/// Journals the events of one post. Resolves with the id of the row once it is durable; a problem means that whoever sent it should send it again.
pub async fn journal(shared: &Shared, events: &[Event]) -> Result<u64, Problem> {
    let live = shared.need_live()?;
    let body = serde_json::to_vec(events).map_err(|error| Problem::internal(error.to_string()))?;
    let source = Cow::Borrowed(event::INTAKE);
    let post = NewIntake { received_at: shared.clock.now(), source, body: body.into(), group: None };
    let why = match tokio::time::timeout(shared.time_limit, live.journal.intake(post)).await {
        Ok(Ok(id)) => return Ok(id),
        Ok(Err(error)) => error.to_string(),
        // It may still be committed: sent again it is the same event once more, and targets are absolute.
        Err(_) => format!("no commit within {:?}", shared.time_limit),
    };
    let problem = Problem::unavailable(format!("the journal cannot be written: {why}"));
    shared.tell_operators_directly(&problem.detail);
    Err(problem)
}

/// 202 with the row that holds the events; 200 when there was nothing to journal.
pub async fn accept(shared: &Shared, events: &[Event], ignored: usize) -> Result<Response, Problem> {
    let intake = if events.is_empty() { None } else { Some(journal(shared, events).await?) };
    let status = if intake.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(EventsView { intake, events: events.len(), ignored })).into_response())
}

/// Counts the answer to a post of events.
pub fn count(shared: &Shared, source: &'static str, response: Response) -> Response {
    shared.metrics.event_post(source, response.status().as_u16());
    response
}

/// Tells people of a refusal that the sender, a machine, will not mend by itself. What may work later (5xx, 408) it sends again.
pub fn tell_refused(shared: &Shared, source: &str, outcome: &Result<Response, Problem>) {
    let Err(problem) = outcome else { return };
    if (400..500).contains(&problem.status) && problem.status != 408 {
        shared.tell_operators(
            &format!("events:{source}:{}", problem.status),
            &format!("A post of events ({source}) was refused"),
            &format!("{} {}: {}. What it asked for is not done.", problem.status, problem.title, problem.detail),
        );
    }
}
