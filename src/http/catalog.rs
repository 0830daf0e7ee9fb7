//! The rules and runbooks in force.

use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::http::view::{RuleView, RunbookView, TrustView};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;

pub async fn rules(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let catalog = shared.need_live()?.catalog.load_full();
    let rules: Vec<RuleView> = catalog.rules.iter().map(|rule| RuleView::from(&**rule)).collect();
    Ok(Json(json!({ "rules": rules })))
}

pub async fn trust(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let trust = shared.need_live()?.need_app()?.trust().await?;
    let rules: Vec<TrustView> = trust.into_iter().map(|(rule, trust)| TrustView::new(&rule, trust)).collect();
    Ok(Json(json!({ "rules": rules })))
}

pub async fn runbooks(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let catalog = shared.need_live()?.catalog.load_full();
    let runbooks: Vec<RunbookView> = catalog.programs.values().map(|program| RunbookView::from(&**program)).collect();
    Ok(Json(json!({ "runbooks": runbooks })))
}
