//! The kill switch: while it is pulled no run starts and no new effect happens.

use crate::http::body;
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::http::view::{Command, PauseView};
use axum::Json;
use axum::extract::{Request, State};
use std::sync::Arc;

pub async fn state(State(shared): State<Arc<Shared>>) -> Result<Json<PauseView>, Problem> {
    Ok(Json(shared.need_live()?.need_app()?.stops().paused.into()))
}

pub async fn pause(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<PauseView>, Problem> {
    let command = command(&shared, request).await?;
    if command.reason.trim().is_empty() {
        return Err(Problem::malformed(
            "\"reason\" is what people will read in every held incident; it cannot be empty",
        ));
    }
    let live = shared.need_live()?;
    Ok(Json(Some(live.need_app()?.pause(&command.by, &command.reason).await?).into()))
}

pub async fn resume(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<PauseView>, Problem> {
    let command = command(&shared, request).await?;
    let live = shared.need_live()?;
    live.need_app()?.resume(&command.by).await?;
    Ok(Json(None.into()))
}

pub(super) async fn command(shared: &Shared, request: Request) -> Result<Command, Problem> {
    let (head, body) = request.into_parts();
    let command: Command = body::command(shared, &head.headers, body).await?;
    if command.by.trim().is_empty() {
        return Err(Problem::malformed("\"by\" says who commands; it cannot be empty"));
    }
    Ok(command)
}
