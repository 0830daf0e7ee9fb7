//! The fleet brake: while it is on no run starts and no new effect happens.

use crate::http::pause::command;
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::http::view::BrakeView;
use axum::Json;
use axum::extract::{Request, State};
use std::sync::Arc;

pub async fn state(State(shared): State<Arc<Shared>>) -> Result<Json<BrakeView>, Problem> {
    Ok(Json(shared.need_live()?.need_app()?.stops().braked.into()))
}

pub async fn release(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<BrakeView>, Problem> {
    let command = command(&shared, request).await?;
    let live = shared.need_live()?;
    live.need_app()?.release(&command.by).await?;
    Ok(Json(None.into()))
}
