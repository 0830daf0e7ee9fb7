//! The rules and runbooks in force, with what their attempts came to, and the breakers of the rules.

use crate::app::Kept;
use crate::http::body;
use crate::http::problem::Problem;
use crate::http::shared::{Live, Shared};
use crate::http::view::{Command, RuleView, RunbookView, TrustView};
use crate::model::effectiveness::Tally;
use crate::model::mode::Mode;
use crate::model::rule::Rule;
use axum::Json;
use axum::extract::{Path, Request, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub async fn rules(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let live = shared.need_live()?;
    let (catalog, kept) = (live.catalog.load_full(), kept(&live));
    let mut trust = match &live.app {
        Some(app) => app.trust().await?,
        None => BTreeMap::new(),
    };
    let mut view = |rule: &Rule| {
        let earned = trust.remove(&rule.name).unwrap_or_default();
        let in_force = rule.mode.now(shared.max_mode, earned.trusted);
        let trust = (rule.mode == Mode::Earned).then(|| TrustView::new(&rule.name, earned, shared.max_mode));
        RuleView { in_force, trust, ..RuleView::from(rule).with(kept.get(&rule.name).map(|kept| &**kept)) }
    };
    let rules: Vec<RuleView> = catalog.rules.iter().map(|rule| view(rule)).collect();
    Ok(Json(json!({ "rules": rules })))
}

pub async fn runbooks(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let live = shared.need_live()?;
    let (catalog, kept) = (live.catalog.load_full(), kept(&live));
    let view = |program| {
        let view = RunbookView::from(program);
        let tallies = kept.values().filter_map(|kept| kept.runbooks.get(&view.name));
        let total = tallies.fold(Tally::default(), |mut total, tally| {
            total.add(tally);
            total
        });
        RunbookView { effectiveness: total.into(), ..view }
    };
    let runbooks: Vec<RunbookView> = catalog.programs.values().map(|program| view(&**program)).collect();
    Ok(Json(json!({ "runbooks": runbooks })))
}

/// A person closes the breaker of a rule.
pub async fn close_breaker(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let live = shared.need_live()?;
    let (head, body) = request.into_parts();
    let command: Command = body::command(&shared, &head.headers, body).await?;
    if command.by.trim().is_empty() {
        return Err(Problem::malformed("\"by\" says who commands; it cannot be empty"));
    }
    live.need_app()?.close_breaker(&name, &command.by, &command.reason).await?;
    Ok(Json(json!({ "rule": name, "breaker": null })))
}

fn kept(live: &Live) -> Kept {
    live.app.as_ref().map(|app| app.effectiveness()).unwrap_or_default()
}
