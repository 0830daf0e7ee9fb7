//! The readable list of everything that is served. `openapi.json` describes the same list; a test compares the two.

use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::http::{
    approvals, auth, brake, catalog, cluster, doors, freezes, health, hooks, incidents, intake, join, manual, openapi,
    pause, runs, undo,
};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// One line of the list.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    handler: MethodRouter<Arc<Shared>>,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches the address.
    Open,
    /// Whoever has the token, when one is set.
    Token,
    /// As `Token`, but the handler asks for it, counts, and keeps its own time.
    Intake,
    /// As `Intake`; whoever has only the token of the hooks is let in too.
    Hook,
    /// Whoever signed what is sent; the handler looks.
    Signature,
    /// Whoever has the token for joining, where one is set; the handler asks for it.
    Join,
    /// As `Intake`, where `doors.enabled`.
    Door,
}

/// Everything that is served, in the order of an alert's path.
pub fn routes() -> Vec<Route> {
    let get = |path, access, handler| Route { method: Method::GET, path, access, handler };
    let post = |path, access, handler| Route { method: Method::POST, path, access, handler };
    use Access::{Door, Hook, Intake, Join, Open, Signature, Token};
    use doors::{jenkins, scaler, swarm_listener};
    vec![
        post("/api/v1/alertmanager", Intake, self::post(intake::post)),
        post("/api/v1/deploy", Hook, self::post(hooks::deploy)),
        post("/api/v1/hooks/registry", Hook, self::post(hooks::registry)),
        post("/api/v1/hooks/github", Signature, self::post(hooks::github)),
        get("/api/v1/incidents", Token, self::get(incidents::list)),
        get("/api/v1/incidents/{id}", Token, self::get(incidents::show)),
        post("/api/v1/incidents/{id}/ack", Token, self::post(incidents::ack)),
        post("/api/v1/incidents/{id}/close", Token, self::post(incidents::close)),
        post("/api/v1/incidents/{id}/approve", Token, self::post(approvals::approve)),
        post("/api/v1/incidents/{id}/deny", Token, self::post(approvals::deny)),
        post("/api/v1/incidents/{id}/answer", Token, self::post(approvals::answer)),
        get("/api/v1/approvals", Token, self::get(approvals::list)),
        get("/api/v1/runs", Token, self::get(runs::list)),
        post("/api/v1/runs", Token, self::post(manual::start)),
        get("/api/v1/runs/{id}", Token, self::get(runs::show)),
        get("/api/v1/runs/{id}/undo", Token, self::get(undo::plan)),
        post("/api/v1/runs/{id}/undo", Token, self::post(undo::start)),
        get("/api/v1/rules", Token, self::get(catalog::rules)),
        post("/api/v1/rules/{name}/promote", Token, self::post(approvals::promote)),
        post("/api/v1/rules/{name}/demote", Token, self::post(approvals::demote)),
        post("/api/v1/rules/{name}/close_breaker", Token, self::post(catalog::close_breaker)),
        get("/api/v1/runbooks", Token, self::get(catalog::runbooks)),
        get("/api/v1/services", Token, self::get(cluster::services)),
        get("/api/v1/nodes", Token, self::get(cluster::nodes)),
        get("/api/v1/nodes/join", Join, self::get(join::ask)),
        get("/api/v1/pause", Token, self::get(pause::state)),
        post("/api/v1/pause", Token, self::post(pause::pause)),
        post("/api/v1/resume", Token, self::post(pause::resume)),
        get("/api/v1/brake", Token, self::get(brake::state)),
        post("/api/v1/brake/release", Token, self::post(brake::release)),
        get("/api/v1/freezes", Token, self::get(freezes::list)),
        post("/api/v1/freezes", Token, self::post(freezes::make)),
        post("/api/v1/freezes/{id}/end", Token, self::post(freezes::end)),
        get("/api/v1/openapi.json", Token, self::get(openapi::document)),
        get("/healthz", Open, self::get(health::healthz)),
        get("/readyz", Open, self::get(health::readyz)),
        get("/metrics", Open, self::get(health::metrics)),
        post("/v1/scale-service", Door, self::post(scaler::scale_service)),
        post("/v1/scale-nodes", Door, self::post(scaler::scale_nodes)),
        post("/v1/reschedule-services", Door, self::post(scaler::reschedule_services)),
        post("/v1/reschedule-service", Door, self::post(scaler::reschedule_service)),
        get("/v1/ping", Door, self::get(scaler::ping)),
        post("/{prefix}/v1/scale-service", Door, self::post(scaler::scale_service)),
        post("/{prefix}/v1/scale-nodes", Door, self::post(scaler::scale_nodes)),
        post("/{prefix}/v1/reschedule-services", Door, self::post(scaler::reschedule_services)),
        post("/{prefix}/v1/reschedule-service", Door, self::post(scaler::reschedule_service)),
        get("/{prefix}/v1/ping", Door, self::get(scaler::ping)),
        post("/job/service-scale/buildWithParameters", Door, self::post(jenkins::service_scale)),
        post("/job/aws-scale/buildWithParameters", Door, self::post(jenkins::aws_scale)),
        post("/jenkins/job/service-scale/buildWithParameters", Door, self::post(jenkins::service_scale)),
        post("/jenkins/job/aws-scale/buildWithParameters", Door, self::post(jenkins::aws_scale)),
        get("/v1/docker-flow-swarm-listener/get-services", Door, self::get(swarm_listener::get_services)),
        get("/v1/docker-flow-swarm-listener/notify-services", Door, self::get(swarm_listener::notify_services)),
        get("/v1/docker-flow-swarm-listener/get-nodes", Door, self::get(swarm_listener::get_nodes)),
        get("/v1/docker-flow-swarm-listener/ping", Door, self::get(swarm_listener::ping)),
    ]
}

/// The list as a service.
pub fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let handler = match route.access {
            Access::Door if !shared.doors => any(doors::closed),
            Access::Intake | Access::Hook | Access::Signature | Access::Door => route.handler,
            Access::Open | Access::Join => {
                route.handler.layer(middleware::from_fn_with_state(shared.clone(), limit_time))
            }
            Access::Token => route
                .handler
                .layer(middleware::from_fn_with_state(shared.clone(), limit_time))
                .layer(middleware::from_fn_with_state(shared.clone(), auth::require)),
        };
        router = router.route(route.path, handler);
    }
    router
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(catch_panic))
        .with_state(shared)
}

async fn nowhere(request: Request) -> Problem {
    Problem::not_found(format!("nothing is served at {}; the list is at /api/v1/openapi.json", request.uri().path()))
}

async fn wrong_method(request: Request) -> Problem {
    Problem::wrong_method(format!("{} is not offered at {}", request.method(), request.uri().path()))
}

/// A journal or cluster that hangs must not hold connections for ever. Twice the limit: a body that does not arrive within one is told so.
async fn limit_time(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let limit = shared.time_limit * 2;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable(format!("no answer within {limit:?}")).into_response(),
    }
}

/// A mistake in one handler costs one answer, not the connection's other requests.
async fn catch_panic(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => Problem::internal("the log has the place; please report it").into_response(),
    }
}
