//! Freezes: those of the configuration and the rules, and those that a person makes for once.

use crate::http::body;
use crate::http::pause::command;
use crate::http::problem::Problem;
use crate::http::query;
use crate::http::shared::{Live, Shared};
use crate::http::view::{FreezeList, FreezeRequest, FreezeView};
use crate::model::duration::Duration;
use crate::model::freeze::{FreezeId, Scope};
use axum::Json;
use axum::extract::{Path, Request, State};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::sync::Arc;

pub async fn list(State(shared): State<Arc<Shared>>) -> Result<Json<FreezeList>, Problem> {
    let live = shared.need_live()?;
    Ok(Json(FreezeList { freezes: all(&live)? }))
}

fn all(live: &Live) -> Result<Vec<FreezeView>, Problem> {
    let app = live.need_app()?;
    let now = app.parts.clock.now();
    let mut freezes: Vec<FreezeView> = app.stops().freezes.into_iter().map(FreezeView::from).collect();
    freezes.extend(app.parts.config.freezes.iter().map(|(name, freeze)| FreezeView::configured(name, freeze, now)));
    let catalog = live.catalog.load();
    let of_rules = catalog.rules.iter().filter(|rule| !rule.freeze.is_empty());
    freezes.extend(of_rules.map(|rule| FreezeView::of_rule(rule, now)));
    Ok(freezes)
}

pub async fn make(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<FreezeView>, Problem> {
    let (head, body) = request.into_parts();
    let request: FreezeRequest = body::command(&shared, &head.headers, body).await?;
    for (name, value) in [("by", &request.by), ("reason", &request.reason)] {
        if value.trim().is_empty() {
            return Err(Problem::malformed(format!(
                "{name:?} is what people will read in every incident that it holds; it cannot be empty"
            )));
        }
    }
    let scope = match (request.rule, request.tag) {
        (None, None) => Scope::All,
        (Some(rule), None) => Scope::Rule(rule),
        (None, Some(tag)) => Scope::Tag(tag),
        (Some(_), Some(_)) => {
            return Err(Problem::malformed("name a rule, or a tag, or neither for everything; not both"));
        }
    };
    let live = shared.need_live()?;
    let app = live.need_app()?;
    let until = match (request.lasts, request.until) {
        (Some(lasts), None) => app.parts.clock.now() + parsed(Duration::parse(&lasts))?.signed(),
        (None, Some(until)) => parsed(instant(&until))?,
        _ => return Err(Problem::malformed("say how long: \"for\": \"2h\", or \"until\": \"2026-12-24T08:00:00Z\"")),
    };
    Ok(Json(app.freeze(scope, until, &request.by, &request.reason).await?.into()))
}

fn parsed<T>(read: Result<T, String>) -> Result<T, Problem> {
    read.map_err(Problem::malformed)
}

/// An instant, with its offset or its time zone.
fn instant(text: &str) -> Result<Timestamp, String> {
    let zoned = || text.parse::<jiff::Zoned>().map(|zoned| zoned.timestamp());
    text.parse().or_else(|_| zoned()).map_err(|_| {
        let expected =
            "expected for example 2026-12-24T08:00:00Z, 2026-12-24T08:00+01:00, or 2026-12-24T08:00[Europe/Berlin]";
        let zone = text.split_once('[').and_then(|(_, zone)| zone.strip_suffix(']'));
        if let Some(zone) = zone.filter(|zone| TimeZone::get(zone).is_err()) {
            return format!("{zone:?} is no time zone; expected an IANA name such as Europe/Berlin, or UTC");
        }
        if zone.is_none() && text.parse::<DateTime>().is_ok() {
            return format!("{text:?} does not say in which time zone; {expected}");
        }
        format!("{text:?} is no instant; {expected}")
    })
}

/// A name that is written somewhere, and cannot be ended from here.
fn written(live: &Live, name: &str) -> Option<Problem> {
    let app = live.need_app().ok()?;
    if app.parts.config.freezes.contains_key(name) {
        return Some(Problem::malformed(format!(
            "{name} is a freeze of the configuration: it ends with its window, or when it is taken out of `freezes:` and runbookd is started anew"
        )));
    }
    let catalog = live.catalog.load();
    let rule = catalog.rule(name).filter(|rule| !rule.freeze.is_empty())?;
    Some(Problem::malformed(format!(
        "{name} is a rule with a freeze of its own: it ends with its window, or when it is taken out of `guards.freeze` at {}",
        rule.place
    )))
}

pub async fn end(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<FreezeView>, Problem> {
    let live = shared.need_live()?;
    let id: FreezeId = query::id(&id).map_err(|problem| written(&live, &id).unwrap_or(problem))?;
    let command = command(&shared, request).await?;
    let ended = live.need_app()?.unfreeze(id, &command.by).await?.into();
    Ok(Json(FreezeView { in_force: false, ..ended }))
}
