//! Runs: listed, and shown with their steps.

use crate::http::problem::Problem;
use crate::http::query;
use crate::http::shared::{Live, Shared};
use crate::http::view::{RunDetail, RunPage, RunView};
use crate::model::run::{Run, RunId, RunState};
use crate::ports::RunFilter;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::Uri;
use std::sync::Arc;

pub async fn list(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Json<RunPage>, Problem> {
    let live = shared.need_live()?;
    let mut filter = RunFilter { limit: query::PAGE, ..RunFilter::default() };
    for (name, value) in query::pairs(&uri, &["incident", "before", "limit"])? {
        match name.as_str() {
            "incident" => filter.incident = Some(query::id(&value)?),
            "before" => filter.before = Some(query::id(&value)?),
            _ => filter.limit = query::limit(&value)?,
        }
    }
    let size = filter.limit;
    filter.limit = size + 1;
    let mut found = live.journal.runs(&filter).await?;
    let more = found.len() > size;
    found.truncate(size);
    let next = found.last().filter(|_| more).map(|run| run.id);
    Ok(Json(RunPage { runs: views(&live, &found).await?, next }))
}

/// Those that are suspended with what they wait for.
pub async fn views(live: &Live, runs: &[Run]) -> Result<Vec<RunView>, Problem> {
    let mut views = Vec::with_capacity(runs.len());
    for run in runs {
        let view = RunView::from(run);
        views.push(match run.state {
            RunState::Suspended => view.waiting(&live.journal.steps(run.id).await?),
            _ => view,
        });
    }
    Ok(views)
}

pub async fn show(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Json<RunDetail>, Problem> {
    let id: RunId = query::id(&id)?;
    let live = shared.need_live()?;
    let found = live.journal.run(id).await?;
    let run = found.ok_or_else(|| Problem::not_found(format!("there is no run {id}")))?;
    let steps = live.journal.steps(id).await?;
    Ok(Json(RunDetail::new(&run, steps)))
}
