//! Undo of a run: the plan is shown first; the second call, with its hash, carries it out.

use crate::http::body;
use crate::http::problem::Problem;
use crate::http::query;
use crate::http::shared::Shared;
use crate::http::view::{UndoRequest, UndoStarted, UndoView};
use crate::model::run::RunId;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use std::sync::Arc;

/// Letters of a plan's hash that people must give at least.
const HASH_LETTERS: usize = 8;

pub async fn plan(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Json<UndoView>, Problem> {
    let id: RunId = query::id(&id)?;
    let live = shared.need_live()?;
    let app = live.need_app()?;
    let planned = app.plan_undo(id).await?;
    let stopped = app.stopped(&planned.undoes.rule);
    Ok(Json(UndoView::of(id, &planned, stopped)))
}

pub async fn start(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<UndoStarted>), Problem> {
    let id: RunId = query::id(&id)?;
    let live = shared.need_live()?;
    let (head, body) = request.into_parts();
    let wish: UndoRequest = body::command(&shared, &head.headers, body).await?;
    if wish.by.trim().is_empty() {
        return Err(Problem::malformed("\"by\" says who commands; it cannot be empty"));
    }
    if wish.plan.len() < HASH_LETTERS {
        return Err(Problem::malformed(format!(
            "\"plan\" is {:?}; expected at least the first {HASH_LETTERS} letters of the plan, as it was shown",
            wish.plan
        )));
    }
    let incident = live.need_app()?.undo(id, &wish.plan, &wish.by, &wish.reason).await?;
    let started = UndoStarted { incident: incident.id, run: incident.runs.last().copied() };
    Ok((StatusCode::ACCEPTED, Json(started)))
}
