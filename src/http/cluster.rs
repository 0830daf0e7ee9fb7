//! The cluster as the engine sees it now.

use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::http::view::ServiceView;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;

pub async fn services(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let services = shared.need_live()?.cluster.services().await?;
    let services: Vec<ServiceView> = services.into_iter().map(ServiceView::from).collect();
    Ok(Json(json!({ "services": services })))
}

pub async fn nodes(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let nodes = shared.need_live()?.cluster.nodes().await?;
    Ok(Json(json!({ "nodes": nodes })))
}
