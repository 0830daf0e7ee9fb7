//! `/healthz`, `/readyz` and `/metrics`: open to everybody who reaches the address, and without secrets.

use crate::app::metrics::CONTENT_TYPE;
use crate::engine::guard::{self, Verdict};
use crate::http::shared::{Live, Shared};
use crate::http::view::{Check, Readiness};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use std::sync::Arc;

pub async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 when alerts can be taken and acted on, 503 otherwise; the body says which check is red.
pub async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let readiness = readiness(&shared).await;
    shared.metrics.set_ready(readiness.ready);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

async fn readiness(shared: &Shared) -> Readiness {
    let Some(live) = shared.live() else {
        let why = shared.waiting_for().to_string();
        let checks = ["journal_lock", "journal", "catalog", "cluster", "stops"].map(|name| Check {
            name: name.to_string(),
            ok: false,
            detail: why.clone(),
        });
        return Readiness { ready: false, checks: checks.to_vec() };
    };
    let check = |name: &str, result: Result<String, String>| Check {
        name: name.to_string(),
        ok: result.is_ok(),
        detail: result.unwrap_or_else(|why| why),
    };
    let catalog = live.catalog.load();
    let checks = vec![
        // The journal is opened under its lock: being live is having it.
        check("journal_lock", Ok("held".into())),
        check("journal", live.journal.health().map(|()| "writable".into()).map_err(|error| error.to_string())),
        check("catalog", Ok(format!("{} rules, {} runbooks", catalog.rules.len(), catalog.programs.len()))),
        check("cluster", shared.cluster_answers(&live).await.map(|()| "answers".into())),
        // Never red: alerts are taken and held. It is said where whoever wonders looks first.
        check("stops", Ok(stops(&live))),
    ];
    Readiness { ready: checks.iter().all(|check| check.ok), checks }
}

/// What stops effects now, in words.
fn stops(live: &Live) -> String {
    let Some(app) = &live.app else { return "nothing is carried out here".to_string() };
    match guard::stopped(None, &app.stops().view(&app.parts.config), app.parts.clock.now()) {
        (_, Verdict::Hold { reason, .. }) => reason.text,
        _ => "nothing is stopped".to_string(),
    }
}

pub async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    if let Some(live) = shared.live() {
        let metrics = &shared.metrics;
        metrics.set_journal_healthy(live.journal.health().is_ok());
        if let Ok(depth) = live.journal.outbox_depth().await {
            metrics.set_outbox_depth(depth);
        }
        let catalog = live.catalog.load();
        metrics.set_catalog(catalog.rules.len(), catalog.programs.len());
        if let Some(app) = &live.app {
            let stops = app.stops();
            metrics.set_paused(stops.paused.is_some());
            metrics.set_braked(stops.braked.is_some());
            let now = shared.clock.now();
            let configured = &app.parts.config.freezes;
            let in_force = configured.values().filter(|freeze| freeze.end(now).is_some()).count();
            metrics.set_freezes(stops.freezes.len(), in_force);
        }
    }
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], shared.metrics.render())
}
