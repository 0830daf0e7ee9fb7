//! Incidents: listed, shown with everything that belongs to them, acknowledged and closed.

use crate::http::body;
use crate::http::problem::Problem;
use crate::http::query;
use crate::http::shared::{Live, Shared};
use crate::http::view::{Command, IncidentDetail, IncidentPage, IncidentView};
use crate::model::incident::{Incident, IncidentId};
use crate::ports::{IncidentFilter, RunFilter};
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::Uri;
use std::sync::Arc;

/// Of an incident's many alerts, the levels of so many are shown.
const LEVELS_SHOWN: usize = 500;

pub async fn list(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Json<IncidentPage>, Problem> {
    let live = shared.need_live()?;
    let mut filter = filter(&shared, &uri)?;
    let size = filter.limit;
    // One more than is shown: there is a next page if it exists.
    filter.limit = size + 1;
    let mut found = live.journal.incidents(&filter).await?;
    let more = found.len() > size;
    found.truncate(size);
    let next = found.last().filter(|_| more).map(|incident| incident.id);
    Ok(Json(IncidentPage { incidents: found.into_iter().map(IncidentView::from).collect(), next }))
}

fn filter(shared: &Shared, uri: &Uri) -> Result<IncidentFilter, Problem> {
    let mut filter = IncidentFilter { limit: query::PAGE, ..IncidentFilter::default() };
    let now = shared.clock.now();
    for (name, value) in query::pairs(uri, &["state", "label", "since", "until", "before", "limit"])? {
        match name.as_str() {
            "state" => {
                for state in value.split(',').filter(|state| !state.is_empty()) {
                    filter.states.push(state.trim().parse().map_err(Problem::malformed)?);
                }
            }
            "label" => match value.split_once('=') {
                Some((name, value)) if !name.is_empty() => filter.labels.push((name.into(), value.into())),
                _ => return Err(Problem::malformed(format!("label is {value:?}; expected name=value"))),
            },
            "since" => filter.opened_after = Some(query::instant("since", &value, now)?),
            "until" => filter.opened_before = Some(query::instant("until", &value, now)?),
            "before" => filter.before = Some(query::id(&value)?),
            _ => filter.limit = query::limit(&value)?,
        }
    }
    Ok(filter)
}

pub async fn show(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Json<IncidentDetail>, Problem> {
    let id: IncidentId = query::id(&id)?;
    let live = shared.need_live()?;
    let found = live.journal.incident(id).await?;
    let incident = found.ok_or_else(|| Problem::not_found(format!("there is no incident {id}")))?;
    Ok(Json(detail(&live, incident).await?))
}

async fn detail(live: &Live, incident: Incident) -> Result<IncidentDetail, Problem> {
    let journal = &live.journal;
    let transitions = journal.transitions(incident.id).await?;
    let filter = RunFilter { incident: Some(incident.id), before: None, limit: query::LARGEST_PAGE };
    let mut runs = journal.runs(&filter).await?;
    runs.sort_by_key(|run| run.id);
    let mut levels = Vec::new();
    for fingerprint in incident.alerts.iter().take(LEVELS_SHOWN) {
        levels.extend(journal.level(*fingerprint).await?.map(Into::into));
    }
    Ok(IncidentDetail {
        incident: incident.into(),
        transitions: transitions.into_iter().map(Into::into).collect(),
        run_summaries: super::runs::views(live, &runs).await?,
        levels,
    })
}

pub async fn ack(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<IncidentView>, Problem> {
    let (live, id, command) = command(&shared, &id, request).await?;
    Ok(Json(live.need_app()?.ack(id, &command.by).await?.into()))
}

pub async fn close(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<IncidentView>, Problem> {
    let (live, id, command) = command(&shared, &id, request).await?;
    Ok(Json(live.need_app()?.close(id, &command.by, &command.reason).await?.into()))
}

async fn command(shared: &Shared, id: &str, request: Request) -> Result<(Arc<Live>, IncidentId, Command), Problem> {
    let id = query::id(id)?;
    let live = shared.need_live()?;
    let (head, body) = request.into_parts();
    let command: Command = body::command(shared, &head.headers, body).await?;
    if command.by.trim().is_empty() {
        return Err(Problem::malformed("\"by\" says who commands; it cannot be empty"));
    }
    Ok((live, id, command))
}
