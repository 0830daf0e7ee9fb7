//! A machine asks how to join the Swarm: which managers there are, and the token for its role.
//!
//! The answer holds the one secret that leaves runbookd: it opens to a token of its own, is given a few times a minute, and only after the question has
//! been journalled, so that people are told of every machine that could have joined.

use crate::config::JoinConfig;
use crate::http::problem::Problem;
use crate::http::query;
use crate::http::server::Peer;
use crate::http::shared::Shared;
use crate::http::view::JoinView;
use crate::model::join::{self, JoinAsked, JoinRole};
use crate::model::text::visible;
use crate::ports::NewIntake;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// What is given to whom, and how often.
pub struct Gate {
    role: JoinRole,
    per_minute: usize,
    /// When questions of the last minute were let through, the oldest first; never more than `per_minute`.
    let_through: Mutex<VecDeque<Instant>>,
}

impl Gate {
    pub fn new(config: &JoinConfig) -> Self {
        let per_minute = usize::try_from(config.per_minute).unwrap_or(usize::MAX);
        Gate { role: config.role, per_minute, let_through: Mutex::default() }
    }

    /// May one more be answered now?
    fn lets_through(&self, now: Instant) -> bool {
        let mut let_through = self.let_through.lock().unwrap_or_else(PoisonError::into_inner);
        while let_through.front().is_some_and(|then| now.duration_since(*then) >= MINUTE) {
            let_through.pop_front();
        }
        let free = let_through.len() < self.per_minute;
        if free {
            let_through.push_back(now);
        }
        free
    }
}

/// `GET /api/v1/nodes/join?role=worker|manager`. Each use is counted.
pub async fn ask(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Problem> {
    let outcome = answer(&shared, request).await;
    shared.metrics.join_request(match &outcome {
        Ok(_) => "answered",
        Err(problem) => match problem.status {
            400 => "malformed",
            401 => "unauthorized",
            403 => "forbidden",
            429 => "too_many",
            _ => "unavailable",
        },
    });
    outcome
}

async fn answer(shared: &Shared, request: Request) -> Result<Response, Problem> {
    let Some(token) = &shared.keys.join else {
        return Err(Problem::forbidden(
            "no token is set that machines could ask to join with: put a long random string into a file and name it in join.token_file \
             (or set RUNBOOKD_JOIN_TOKEN), and give the same to the machines",
        ));
    };
    if !token.admits(request.headers()) {
        let problem = Problem::unauthorized();
        let detail = "send the token of `join.token_file` as \"Authorization: Bearer TOKEN\"; no other is taken here";
        return Err(Problem { detail: detail.into(), ..problem });
    }
    let role = asked(&request)?;
    let Gate { role: given, per_minute, .. } = shared.join;
    if !given.includes(role) {
        return Err(Problem::forbidden(format!(
            "with this token a machine may join as {given} only: join.role says so"
        )));
    }
    let live = shared.need_live()?;
    if !shared.join.lets_through(Instant::now()) {
        let detail =
            format!("{per_minute} machines were answered within a minute, which is what join.per_minute allows");
        return Err(Problem::too_many(detail));
    }
    let peer = request.extensions().get::<Peer>();
    let address = peer.map_or_else(|| "an unknown address".to_string(), |peer| peer.0.ip().to_canonical().to_string());
    journal(shared, &JoinAsked { role, address, at: shared.clock.now() }).await?;
    let answer = live.cluster.join_token(role).await?;
    let view = JoinView { managers: answer.managers.clone(), token: answer.expose().to_string() };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}

fn asked(request: &Request) -> Result<JoinRole, Problem> {
    let pairs = query::pairs(request.uri(), &["role"])?;
    let [(_, word)] = pairs.as_slice() else {
        return Err(Problem::malformed("say once as what to join: role=worker or role=manager"));
    };
    JoinRole::ALL
        .into_iter()
        .find(|role| role.name() == word)
        .ok_or_else(|| Problem::malformed(format!("role is {:?}; expected worker or manager", visible(word, 60))))
}

async fn journal(shared: &Shared, asked: &JoinAsked) -> Result<(), Problem> {
    let live = shared.need_live()?;
    let body = serde_json::to_vec(asked).map_err(|error| Problem::internal(error.to_string()))?;
    let source = Cow::Borrowed(join::INTAKE);
    let post = NewIntake { received_at: asked.at, source, body: body.into(), group: None };
    let why = match tokio::time::timeout(shared.time_limit, live.journal.intake(post)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no commit within {:?}", shared.time_limit),
    };
    let problem = Problem::unavailable(format!("the journal cannot be written: {why}"));
    shared.tell_operators_directly(&problem.detail);
    Err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_let_through_in_any_minute_and_no_more_are_remembered() {
        let gate = Gate::new(&JoinConfig { per_minute: 2, ..JoinConfig::default() });
        let start = Instant::now();
        for (seconds, expect) in [(0, true), (30, true), (31, false), (59, false), (60, true), (61, false), (90, true)]
        {
            assert_eq!(gate.lets_through(start + Duration::from_secs(seconds)), expect, "{seconds} s");
            assert!(gate.let_through.lock().expect("nobody panicked").len() <= 2);
        }
        let closed = Gate::new(&JoinConfig { per_minute: 0, ..JoinConfig::default() });
        assert!(!closed.lets_through(start));
    }
}
