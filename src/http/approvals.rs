//! What waits for a person's word, and the word; and which rules have earned to run without one.

use crate::app::board::Reply;
use crate::http::body;
use crate::http::problem::Problem;
use crate::http::query;
use crate::http::shared::Shared;
use crate::http::view::{ApprovalCommand, Command, IncidentView, TrustView};
use crate::model::incident::{IncidentId, State};
use crate::ports::IncidentFilter;
use axum::Json;
use axum::extract::{Path, Request, State as Held};
use serde_json::{Value, json};
use std::sync::Arc;

pub async fn list(Held(shared): Held<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let live = shared.need_live()?;
    let states = State::ALL.into_iter().filter(|state| *state != State::Resolved).collect();
    let mut filter = IncidentFilter { states, limit: query::LARGEST_PAGE, ..IncidentFilter::default() };
    let (now, mut waiting) = (shared.clock.now(), Vec::<IncidentView>::new());
    loop {
        let page = live.journal.incidents(&filter).await?;
        let last = page.last().map(|incident| incident.id);
        let full = page.len() == filter.limit;
        let asks = page.into_iter().filter(|it| {
            it.approval.as_ref().is_some_and(|approval| approval.verdict.is_none() && approval.until > now)
        });
        waiting.extend(asks.map(IncidentView::from));
        if !full {
            return Ok(Json(json!({ "approvals": waiting })));
        }
        filter.before = last;
    }
}

pub async fn approve(shared: Held<Arc<Shared>>, id: Path<String>, request: Request) -> Answer {
    reply(shared, id, request, |command| Ok(Reply::Approve { plan: need("plan", command.plan)? })).await
}

pub async fn deny(shared: Held<Arc<Shared>>, id: Path<String>, request: Request) -> Answer {
    reply(shared, id, request, |command| Ok(Reply::Deny { reason: command.reason })).await
}

pub async fn answer(shared: Held<Arc<Shared>>, id: Path<String>, request: Request) -> Answer {
    reply(shared, id, request, |command| Ok(Reply::Answer(need("answer", command.answer)?))).await
}

type Answer = Result<Json<IncidentView>, Problem>;

async fn reply(
    Held(shared): Held<Arc<Shared>>,
    Path(id): Path<String>,
    request: Request,
    read: impl FnOnce(ApprovalCommand) -> Result<Reply, Problem>,
) -> Answer {
    let id: IncidentId = query::id(&id)?;
    let live = shared.need_live()?;
    let (head, body) = request.into_parts();
    let command: ApprovalCommand = body::command(&shared, &head.headers, body).await?;
    let by = need("by", command.by.clone())?;
    let said = read(command)?;
    Ok(Json(live.need_app()?.reply(id, &by, said).await?.into()))
}

fn need(field: &str, value: String) -> Result<String, Problem> {
    if value.trim().is_empty() {
        return Err(Problem::malformed(format!("{field:?} is missing or empty")));
    }
    Ok(value)
}

pub async fn promote(shared: Held<Arc<Shared>>, rule: Path<String>, request: Request) -> Trusted {
    trust(shared, rule, request, true).await
}

pub async fn demote(shared: Held<Arc<Shared>>, rule: Path<String>, request: Request) -> Trusted {
    trust(shared, rule, request, false).await
}

type Trusted = Result<Json<TrustView>, Problem>;

async fn trust(Held(shared): Held<Arc<Shared>>, Path(rule): Path<String>, request: Request, trusted: bool) -> Trusted {
    let live = shared.need_live()?;
    let (head, body) = request.into_parts();
    let Command { by, reason }: Command = body::command(&shared, &head.headers, body).await?;
    let by = need("by", by)?;
    let trust = live.need_app()?.set_trust(&rule, trusted, &by, &reason).await?;
    Ok(Json(TrustView::new(&rule, trust, shared.max_mode)))
}
