//! The dead man's switch: an alert that always fires is expected every so often. When it is not heard, whatever brings alerts here is broken, and nobody
//! else would say so. It is counted from the start: a downtime of our own is no silence of others.

use super::Board;
use crate::config::WatchdogConfig;
use crate::engine::lifecycle::Event;
use crate::model::alert::{Alert, Status};
use crate::model::duration::Duration;
use crate::model::incident::{IncidentId, Reason, State};
use crate::model::label::Labels;
use crate::model::matcher::{Matcher, Op};
use jiff::Timestamp;

/// The key of its incident, which has no rule.
const KEY: &str = "watchdog (silent)";

pub(super) struct Watchdog {
    matchers: Vec<Matcher>,
    every: Duration,
    /// When it counts as silent. `None`: it is, and people have been told.
    due: Option<Timestamp>,
}

impl Watchdog {
    /// `None` when no alert is expected.
    pub fn of(config: &WatchdogConfig) -> Option<Self> {
        // The start refuses what cannot be read.
        let matchers = config.parsed().unwrap_or_default();
        (!matchers.is_empty()).then_some(Watchdog { matchers, every: config.every, due: None })
    }

    fn is(&self, alert: &Alert) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(&alert.labels))
    }

    /// What its incident is about: what the matchers ask for by name.
    fn labels(&self) -> Labels {
        let named = self.matchers.iter().filter(|matcher| matcher.op == Op::Equal);
        named.map(|matcher| (matcher.name.as_str(), matcher.value.as_str())).collect()
    }
}

impl Board {
    /// Begins to wait for it. An incident that is open already goes on: people were told.
    pub(super) fn watch(&mut self, now: Timestamp) {
        let told = self.silent_incident().is_some();
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.due = (!told).then(|| now + watchdog.every.signed());
        }
        self.metrics.set_watchdog_silent(told);
    }

    /// Is it the expected alert? Then it has been heard, and is no incident.
    pub(super) fn heard(&mut self, alert: &Alert, now: Timestamp) -> bool {
        let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.is(alert)) else { return false };
        if alert.status == Status::Firing {
            watchdog.due = Some(now + watchdog.every.signed());
            if let Some(id) = self.silent_incident() {
                self.step(id, Event::Resolved, Reason::new("resolved", "it is heard again"), now);
            }
            self.metrics.set_watchdog_silent(false);
        }
        self.metrics.alert("watchdog");
        true
    }

    pub(super) fn is_watchdog(&self, alert: &Alert) -> bool {
        self.watchdog.as_ref().is_some_and(|watchdog| watchdog.is(alert))
    }

    /// When it counts as silent.
    pub(super) fn watchdog_due(&self) -> Option<Timestamp> {
        self.watchdog.as_ref()?.due
    }

    /// It was not heard in time.
    pub(super) fn watchdog_silent(&mut self, now: Timestamp) {
        let Some(watchdog) = &mut self.watchdog else { return };
        watchdog.due = None;
        let matchers: Vec<String> = watchdog.matchers.iter().map(ToString::to_string).collect();
        let text = format!(
            "{} is expected every {} and was not heard: Prometheus, Alertmanager or the way from there to runbookd is broken, and no alert may arrive",
            matchers.join(", "),
            watchdog.every
        );
        let labels = watchdog.labels();
        self.metrics.set_watchdog_silent(true);
        let reason = Reason::new("watchdog", text);
        // Silent again within the flap window, or for the first time.
        if let Some(id) = self.by_key.get(&(super::NO_RULE.into(), KEY.into())).copied() {
            return self.refire(id, Err(reason), now);
        }
        let id = self.open(None, KEY, "it was not heard", now);
        self.edit(id, |incident| incident.labels = labels);
        self.step(id, Event::HandedOver, reason, now);
    }

    fn silent_incident(&self) -> Option<IncidentId> {
        let id = *self.by_key.get(&(super::NO_RULE.into(), KEY.into()))?;
        self.incidents.get(&id).filter(|incident| incident.state != State::Resolved).map(|incident| incident.id)
    }
}
