//! Reads: asked of the cluster, again and again while it cannot be reached. A run is held by that, not failed.

use super::{Executor, Flow, Work, World};
use crate::engine::intent::{labelled, service_value};
use crate::engine::{machines, query};
use crate::model::matcher::Matcher;
use crate::model::run::Run;
use crate::model::step::{Outcome, StepError};
use crate::ports::{ErrorKind, ErrorReason, KnownAlert, PortError};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two tries of something that cannot be reached: doubled from the first to the last.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(15);
/// After this long out of reach people hear of it.
const TELL_AFTER: Duration = Duration::from_secs(30);

/// What was observed lately, shared by all runs that poll the same thing.
#[derive(Default)]
pub struct Observations(Mutex<HashMap<String, (Timestamp, Value)>>);

impl Observations {
    /// Something seen at `since` or later.
    fn fresh(&self, key: &str, since: Timestamp) -> Option<Value> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).filter(|(at, _)| *at >= since).map(|(_, value)| value.clone())
    }

    fn keep(&self, key: &str, asked: Timestamp, value: &Value, until: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (at, _)| *at >= until);
        all.insert(key.to_string(), (asked, value.clone()));
    }
}

/// Why a call was given up.
pub enum Unanswered {
    /// The process stops, or the run's time is up: the run is left where it is.
    Leave,
    /// For good: the script hears of it.
    Error(PortError),
}

impl Executor {
    pub(super) async fn read(self: &Arc<Self>, work: &mut Work, primitive: &'static str, args: Vec<Value>) -> Flow {
        let step = self.new_step(work, primitive, args);
        let answer = match self.look(&work.run, &work.world, primitive, &step.args).await {
            Ok(value) => Ok(value),
            Err(Unanswered::Leave) => return Flow::Leave,
            Err(Unanswered::Error(error)) => Err(step_error(&error)),
        };
        let outcome = if answer.is_ok() { Outcome::Observed } else { Outcome::Failed };
        self.answer(work, step, outcome, answer)
    }

    /// As [`Executor::look`], but what another run saw at `since` or later will do.
    pub(super) async fn look_shared(
        &self,
        run: &Run,
        world: &World,
        primitive: &str,
        args: &[Value],
        since: Timestamp,
    ) -> Result<Value, Unanswered> {
        let key = format!("{primitive} {}", json!(args));
        let asked = self.parts.clock.now();
        let oldest = asked - self.parts.config.runs.poll_every.signed();
        if let Some(value) = self.observations.fresh(&key, since.max(oldest)) {
            return Ok(value);
        }
        let value = self.look(run, world, primitive, args).await?;
        self.observations.keep(&key, asked, &value, oldest);
        Ok(value)
    }

    async fn look(&self, run: &Run, world: &World, primitive: &str, args: &[Value]) -> Result<Value, Unanswered> {
        let cluster = &world.cluster;
        let name = args.first().and_then(Value::as_str).unwrap_or_default();
        match primitive {
            "service" => self.reach(run, || cluster.service(name)).await.map(|service| service_value(&service)),
            "services" => {
                let all = self.reach(run, || cluster.services()).await?;
                let wanted = match crate::engine::intent::targets("reschedule", args) {
                    Ok(crate::engine::intent::Targets::Labelled(labels)) => labels,
                    _ => return Ok(all.iter().map(service_value).collect()),
                };
                // A read may find nothing: only an effect needs a target.
                Ok(labelled(all, &wanted).unwrap_or_default().iter().map(service_value).collect())
            }
            "tasks" => self.reach(run, || cluster.tasks(name)).await.map(|tasks| json!(tasks)),
            "nodes" => self.reach(run, || cluster.nodes()).await.map(|nodes| json!(nodes)),
            "node_group" => {
                let mut group = self.reach(run, || world.groups.group(name)).await?;
                let nodes = self.reach(run, || cluster.nodes()).await?;
                machines::name_nodes(&mut group, &nodes);
                Ok(json!(group))
            }
            "promql" => self.query(run, args).await,
            "alerts" => self.firing_alerts(run, args).await,
            "now" => Ok(json!(self.parts.clock.now().as_second())),
            other => Err(Unanswered::Error(PortError::permanent(ErrorReason::Invalid, format!("{other} is no read")))),
        }
    }

    async fn query(&self, run: &Run, args: &[Value]) -> Result<Value, Unanswered> {
        let Some(prometheus) = &self.parts.queries else {
            let message = "there is no prometheus.url in the configuration: it says whom to ask";
            return Err(Unanswered::Error(PortError::permanent(ErrorReason::Invalid, message)));
        };
        let expr = args.first().and_then(Value::as_str).unwrap_or_default();
        let values = args.get(1).and_then(Value::as_object).cloned().unwrap_or_default();
        let expr = query::filled(expr, &values)
            .map_err(|message| Unanswered::Error(PortError::permanent(ErrorReason::Invalid, message)))?;
        let samples = self.reach(run, || prometheus.query(&expr)).await?;
        // Values that JSON has no number for are told as Prometheus writes them.
        let value =
            |value: f64| serde_json::Number::from_f64(value).map_or_else(|| json!(value.to_string()), Value::Number);
        Ok(samples.iter().map(|sample| json!({ "labels": sample.labels, "value": value(sample.value) })).collect())
    }

    async fn firing_alerts(&self, run: &Run, args: &[Value]) -> Result<Value, Unanswered> {
        let Some(alertmanager) = &self.parts.alerts else {
            return Err(Unanswered::Error(super::single::no_alertmanager()));
        };
        let texts = args.first().and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let matchers: Vec<Matcher> = texts.filter_map(|text| Matcher::parse(text).ok()).collect();
        let known = self.reach(run, || alertmanager.alerts()).await?;
        let wanted = known.iter().filter(|known| matchers.iter().all(|one| one.matches(&known.alert.labels)));
        let show = |known: &KnownAlert| {
            json!({
                "labels": known.alert.labels,
                "annotations": known.alert.annotations,
                "starts_at": known.alert.starts_at,
                "suppressed": known.suppressed,
            })
        };
        Ok(wanted.map(show).collect())
    }

    /// Calls until there is an answer. What cannot be reached is tried again for as long as the run may take; people hear of it.
    pub(super) async fn reach<T, F, R>(&self, run: &Run, call: F) -> Result<T, Unanswered>
    where
        F: Fn() -> R,
        R: Future<Output = Result<T, PortError>>,
    {
        let since = self.parts.clock.now();
        let mut wait = FIRST_RETRY;
        loop {
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) if error.kind == ErrorKind::Permanent => return Err(Unanswered::Error(error)),
                Err(error) => error,
            };
            self.note_unreachable(run, since, &error);
            if !self.pause_for(wait).await {
                return Err(Unanswered::Leave);
            }
            let now = self.parts.clock.now();
            if now.duration_since(run.started_at) > self.parts.config.runs.time_limit.signed() {
                return Err(Unanswered::Error(PortError::permanent(error.reason, error.message)));
            }
            wait = (wait * 2).min(LAST_RETRY);
        }
    }

    pub(super) fn note_unreachable(&self, run: &Run, since: Timestamp, error: &PortError) {
        tracing::warn!(run = %run.id, reason = %error.reason, %error, "the run waits: the cluster does not answer");
        let waited = Duration::try_from(self.parts.clock.now().duration_since(since)).unwrap_or_default();
        if waited >= TELL_AFTER {
            let text = format!("Run {} (and maybe others) waits for it and goes on by itself: {error}", run.id);
            self.tell_operators("cluster", "The cluster cannot be reached", text);
        }
    }

    pub(super) fn tell_operators(&self, key: &str, title: &str, text: String) {
        let input = super::Input::TellOperators { key: key.into(), title: title.into(), text };
        let _ = self.inbox.send(input);
    }

    /// Waits; false when the process stops meanwhile.
    pub(super) async fn pause_for(&self, wait: Duration) -> bool {
        let mut stopping = self.stopping.subscribe();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => false,
            () = tokio::time::sleep(wait) => true,
        }
    }
}

/// A port's error, as a script catches it.
pub fn step_error(error: &PortError) -> StepError {
    let kind = match error.reason {
        ErrorReason::NotFound => "not_found",
        ErrorReason::Invalid => "invalid",
        _ => "refused",
    };
    StepError::new(kind, error.message.clone())
}
