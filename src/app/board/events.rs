//! Events on the board. An event has no episode: its incident is keyed (rule, `by`), lives until its run has ended, and a newer event of that key takes the
//! place of one that waits (DESIGN §7).

use super::Board;
use crate::app::report;
use crate::engine::guard::{Hand, Updating};
use crate::engine::lifecycle;
use crate::engine::route;
use crate::model::duration::Duration;
use crate::model::effect::target_name;
use crate::model::event::{Event, On, Seen};
use crate::model::incident::{IncidentId, Reason, State};
use crate::model::rule::Rule;
use crate::ports::Write;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Under this and its name the journal remembers what of the cluster was told last.
pub(super) const SEEN: &str = "seen ";
/// Under this and its name what another hand did to a service.
pub(super) const HAND: &str = "hand ";
/// A change that is noticed so soon after a step of ours on the same service is that step's.
const OURS: Duration = Duration::from_secs(30);

impl Board {
    /// The events of one journalled post.
    pub(super) fn take_events(&mut self, intake: u64, body: &[u8], now: Timestamp) {
        match serde_json::from_slice::<Vec<Event>>(body) {
            Ok(events) => {
                for event in events {
                    self.happened(event, now);
                }
                self.mark_handled(intake);
            }
            Err(error) => self.unreadable(intake, &error.to_string(), now),
        }
    }

    fn happened(&mut self, mut event: Event, now: Timestamp) {
        self.note_hand(&event);
        if let Some(seen) = event.seen.take() {
            self.remember_seen(seen);
        }
        // One without labels tells nothing, it is only to be remembered.
        if event.labels.is_empty() {
            return;
        }
        let matched = route::route_event(&self.catalog, &event);
        self.metrics.event(event.on, if matched.is_empty() { "no_rule" } else { "matched" });
        if matched.is_empty() && event.on == On::Manual {
            // Whoever asked was told that a rule takes it; that rule has gone since.
            let text = format!("{} was asked for, and no rule takes it any more: {}", event.name(), event.labels);
            self.tell_operators(&text, "A request was not carried out", &text, now);
        }
        for found in matched {
            let (key, told) = match found.key {
                Ok(key) => (key, Ok(())),
                Err(reason) => (format!("{:?}", event.labels), Err(reason)),
            };
            self.open_event(&found.rule, &key, told, event.clone(), now);
        }
    }

    fn open_event(&mut self, rule: &Arc<Rule>, key: &str, told: Result<(), Reason>, event: Event, now: Timestamp) {
        let known = self.by_key.get(&(rule.name.as_str().into(), key.into())).copied();
        let state = known.and_then(|id| Some((id, self.incidents.get(&id)?.state)));
        let newer = || Reason::new("newer_event", "a newer event takes the place of the one before it");
        match state {
            Some((id, State::Running)) => {
                self.edit(id, |incident| incident.next_event = Some(event.into()));
            }
            Some((id, from @ (State::Open | State::Held | State::AwaitingApproval))) => {
                self.record(id, now, Some(from), from, newer());
                self.edit(id, |incident| {
                    incident.labels = event.labels.clone();
                    incident.event = Some(event.into());
                    incident.attempt = 0;
                    // What was asked was about the one before.
                    incident.approval = None;
                });
                if from == State::AwaitingApproval {
                    self.step(id, lifecycle::Event::Held, newer(), now);
                }
                self.consider(id, now);
            }
            other => {
                if let Some((id, from)) = other
                    && from != State::Resolved
                {
                    self.step(id, lifecycle::Event::Closed, newer(), now);
                }
                let id = self.open(Some(rule), key, &format!("a {} event came", event.on), now);
                self.edit(id, |incident| {
                    incident.labels = event.labels.clone();
                    incident.event = Some(event.into());
                });
                match told {
                    Ok(()) => self.consider(id, now),
                    Err(reason) => self.step(id, lifecycle::Event::HandedOver, reason, now),
                }
            }
        }
    }

    /// The run of an incident has ended: is there a newer event that waited for it?
    pub(super) fn take_next_event(&mut self, id: IncidentId, now: Timestamp) {
        let Some(incident) = self.incidents.get(&id).filter(|incident| incident.next_event.is_some()) else { return };
        let (rule, key) = (self.rule_of(incident), incident.key.clone());
        let mut next = None;
        self.edit(id, |incident| next = incident.next_event.take());
        match (rule, next) {
            (Some(rule), Some(event)) => self.open_event(&rule, &key, Ok(()), *event, now),
            (None, Some(event)) => {
                let text = format!("A newer event waited for its run to end, and its rule has gone: {}", event.labels);
                self.report(id, now, |facts| report::follow_up(facts, "A newer event was not handled", &text));
            }
            (_, None) => {}
        }
    }

    /// Another hand has changed a service: it is left alone for a while.
    fn note_hand(&mut self, event: &Event) {
        let Some(window) = self.config.arbitration.hands else { return };
        let labels = &event.labels;
        if event.on != On::Swarm || event.own || labels.value("event") != "service_updated" {
            return;
        }
        let over: Vec<String> = self
            .hands
            .values()
            .filter(|hand| hand.at + window.signed() <= event.at)
            .map(|hand| hand.service.clone())
            .collect();
        for service in over {
            self.hands.remove(&service);
            self.out.writes.push(Write::Setting(format!("{HAND}{service}").into(), None));
        }
        let service = labels.value("service").to_string();
        // A rollback leaves no mark of ours.
        if self.ledger.effects_on(&target_name("rollback", &service), event.at - OURS.signed()) > 0 {
            return;
        }
        let hand = Hand { service: service.clone(), at: event.at, changed: labels.value("changed").to_string() };
        let stored = serde_json::to_string(&hand).expect("plain text and a time serialise");
        self.out.writes.push(Write::Setting(format!("{HAND}{service}").into(), Some(stored)));
        self.hands.insert(service, hand);
    }

    pub(super) fn recall_hand(&mut self, stored: &str) {
        // What cannot be read is no reason to hold anything back for ever: it was for minutes.
        if let Ok(hand) = serde_json::from_str::<Hand>(stored) {
            self.hands.insert(hand.service.clone(), hand);
        }
    }

    /// These services, and no others, are in the middle of an update. It is not journalled: the cluster itself knows, and is asked at every start.
    pub fn saw_updating(&mut self, services: BTreeSet<String>, now: Timestamp) {
        if self.updating.as_ref() == Some(&services) {
            return;
        }
        self.updating = Some(services);
        // One may have come to its end.
        if self.counts.get(&State::Held).is_some_and(|held| *held > 0) {
            self.consider_held("updating", now);
        }
    }

    /// Of services that a grant names, each with what it is for: a rule that only may roll one back is there to end an update.
    pub(super) fn updating_of<'a>(&self, services: &'a [(&str, String)]) -> Updating<'a> {
        let mut named = services.iter().filter(|(primitive, _)| *primitive != "rollback").map(|(_, name)| name);
        match &self.updating {
            None => named.next().map_or(Updating::None, |name| Updating::Unknown(name)),
            Some(updating) => {
                named.find(|name| updating.contains(*name)).map_or(Updating::None, |name| Updating::Service(name))
            }
        }
    }

    fn remember_seen(&mut self, Seen { what, state }: Seen) {
        let stored = state.as_ref().map(Value::to_string);
        self.out.writes.push(Write::Setting(format!("{SEEN}{what}").into(), stored));
        match state {
            Some(state) => self.seen.insert(what, state),
            None => self.seen.remove(&what),
        };
    }

    pub(super) fn recall_seen(&mut self, what: &str, stored: &str) {
        // What cannot be read was never seen: it is told again.
        if let Ok(state) = serde_json::from_str(stored) {
            self.seen.insert(what.to_string(), state);
        }
    }

    /// What of the cluster was told last, and when each schedule ticked last.
    pub fn seen(&self) -> &std::collections::BTreeMap<String, Value> {
        &self.seen
    }
}

/// `event`, as a handler is given it: the same fields as an alert has, so that one runbook may serve both.
pub(super) fn snapshot(event: &Event) -> Value {
    json!({
        "on": event.on,
        "labels": event.labels,
        "annotations": event.annotations,
        "alerts": [{
            "labels": event.labels,
            "annotations": event.annotations,
            "starts_at": event.at,
            "generator_url": "",
        }],
        "starts_at": event.at,
        "generator_url": "",
    })
}
