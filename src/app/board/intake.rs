//! Posts on the board: the level of each alert, routing, groups that were cut off, and reconciliation with Alertmanager's API.

use super::{Board, Known, SEEN_EVERY};
use crate::app::report;
use crate::engine::level::{self, Change};
use crate::engine::lifecycle::Event;
use crate::engine::route;
use crate::model::alert::{Alert, Fingerprint, GroupRef, Level};
use crate::model::duration::Duration;
use crate::model::event;
use crate::model::incident::{Incident, IncidentId, Reason, State};
use crate::model::join::{self, JoinAsked};
use crate::model::label::Labels;
use crate::model::payload::{self, Group};
use crate::ports::{Intake, KnownAlert, Write};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// An alert that Alertmanager's API leaves out for this long is gone: Prometheus sends what fires again every minute.
const ABSENT_FOR: Duration = Duration::from_secs(120);

/// Under this and its group key a group that was cut off is journalled until it is completed: a crash must not lose the rest of it.
pub(super) const CUT_OFF: &str = "cut_off ";

/// A group that Alertmanager cut off, and how to find the rest of it.
#[derive(Serialize, Deserialize)]
pub struct CutOff {
    group: GroupRef,
    labels: Labels,
    receiver: String,
    truncated: u64,
    told_at: Timestamp,
}

impl Board {
    /// One journalled post, decoded again if it was read back from disk.
    pub fn take_post(&mut self, intake: &Intake, now: Timestamp) {
        if intake.post.source == event::INTAKE {
            return self.take_events(intake.id, &intake.post.body, now);
        }
        if intake.post.source == join::INTAKE {
            return self.machine_asked(intake.id, &intake.post.body, now);
        }
        match &intake.post.group {
            Some(group) => self.intake(intake.id, group, now),
            None => match payload::decode(&intake.post.body) {
                Ok(group) => self.intake(intake.id, &group, now),
                Err(error) => self.unreadable(intake.id, &error.to_string(), now),
            },
        }
    }

    /// A machine asked to join the Swarm. Nothing is decided about it: people are told, once an hour for each address.
    fn machine_asked(&mut self, id: u64, body: &[u8], now: Timestamp) {
        match serde_json::from_slice::<JoinAsked>(body) {
            Ok(JoinAsked { role, address, at }) => {
                let text = format!("A machine at {address} asked to join as {role}, at {at}.");
                self.tell_operators(&format!("join:{address}"), "A machine asked to join the Swarm", &text, now);
                self.mark_handled(id);
            }
            Err(error) => self.unreadable(id, &error.to_string(), now),
        }
    }

    fn intake(&mut self, id: u64, group: &Group, now: Timestamp) {
        let told = GroupRef { key: group.key.as_str().into(), external_url: group.external_url.as_str().into() };
        let told =
            self.groups.get_key_value(&told.key).map_or(told.clone(), |(key, _)| GroupRef { key: key.clone(), ..told });
        for alert in &group.alerts {
            self.observe(alert, &told, now);
        }
        self.decide_fresh(now);
        if group.truncated == 0 {
            if self.cut_off.remove(&told.key).is_some() {
                self.forget_cut_off(&told.key);
            }
            self.unconfirm_absent(group, &told);
        } else {
            self.was_cut_off(group, &told, now);
        }
        self.tell_malformed(group, now);
        self.mark_handled(id);
    }

    /// Alerts that cannot be read: one incident a group, which a person closes; more of them are told in its thread, once an hour.
    fn tell_malformed(&mut self, group: &Group, now: Timestamp) {
        if group.malformed.is_empty() {
            return;
        }
        let mut lines = Vec::new();
        for one in &group.malformed {
            self.metrics.alert("malformed");
            lines.push(format!(
                "alert {} of the post cannot be read: {}; it begins {}",
                one.index, one.why, one.excerpt
            ));
        }
        let key = format!("{} (unreadable alert)", group.key);
        let text = lines.join("\n");
        let open = self.by_key.get(&(super::NO_RULE.into(), key.as_str().into())).copied();
        match open.filter(|id| self.incidents.get(id).is_some_and(|it| it.state != State::Resolved)) {
            Some(id) if self.is_news(&key, now) => {
                self.report(id, now, |facts| report::follow_up(facts, "More alerts cannot be read", &text));
            }
            Some(_) => {}
            None => {
                self.is_news(&key, now);
                self.without_alert(&key, &group.common_labels, Reason::new("malformed_alert", text), now);
            }
        }
    }

    /// A post that is reflected in what was written so far.
    pub(super) fn mark_handled(&mut self, id: u64) {
        self.handled = id;
        self.out.writes.push(Write::Handled(id));
    }

    /// A post whose body cannot be read again: only a journal damaged by hand brings this.
    pub(super) fn unreadable(&mut self, id: u64, why: &str, now: Timestamp) {
        self.tell_operators("unreadable", "A journalled post cannot be read", why, now);
        self.mark_handled(id);
    }

    fn observe(&mut self, alert: &Alert, group: &GroupRef, now: Timestamp) {
        if self.heard(alert, now) {
            return;
        }
        let fingerprint = alert.fingerprint;
        let acted_at = self.levels.get(&fingerprint).and_then(|known| self.acted_at(&known.incidents));
        let (change, changed) = match self.levels.get_mut(&fingerprint) {
            None => {
                let (change, level) = level::first(alert, group, now);
                if let Some(level) = level {
                    self.groups.entry(level.group.key.clone()).or_default().insert(fingerprint);
                    self.levels.insert(
                        fingerprint,
                        Box::new(Known {
                            level,
                            incidents: Vec::with_capacity(1),
                            seen_in_journal: now,
                            absent_since: None,
                        }),
                    );
                }
                (change, false)
            }
            Some(known) => {
                let was = known.level.clone_flags();
                let change = level::observe(&mut known.level, alert, group, acted_at, now);
                if was.group != known.level.group.key {
                    self.groups.entry(known.level.group.key.clone()).or_default().insert(fingerprint);
                    if let Some(old) = self.groups.get_mut(&was.group) {
                        old.remove(&fingerprint);
                    }
                }
                // With the start of an episode that is over, a late *resolved* of that one would count for this one after a restart.
                let moved = was.starts_at != known.level.alert.starts_at;
                let confirmed = was.unconfirmed && !known.level.unconfirmed;
                let unsuppressed = was.suppressed && !known.level.suppressed;
                let doubt = known.level.refire_at;
                if was.refire_at != doubt {
                    was.refire_at.map(|at| self.doubts.remove(&(at, fingerprint)));
                    doubt.map(|at| self.doubts.insert((at, fingerprint)));
                }
                if confirmed || unsuppressed {
                    for id in known.incidents.clone() {
                        self.reconsider(id, "unconfirmed", now);
                        self.reconsider(id, "suppressed", now);
                    }
                }
                (change, moved || confirmed || unsuppressed || was.refire_at.is_some())
            }
        };
        self.metrics.alert(change.name());
        match change {
            Change::Fired => self.fired(fingerprint, now),
            Change::Resolved => {
                self.resolved(fingerprint, Reason::new("resolved", "Alertmanager says that it is resolved"), now)
            }
            Change::Doubtful => self.keep_level(fingerprint),
            Change::Repeat => self.seen_again(fingerprint, changed, now),
            Change::Stale | Change::Unknown => {}
        }
    }

    fn seen_again(&mut self, fingerprint: Fingerprint, changed: bool, now: Timestamp) {
        let Some(known) = self.levels.get(&fingerprint) else { return };
        if changed || now.duration_since(known.seen_in_journal) >= SEEN_EVERY.signed() {
            self.keep_level(fingerprint);
        }
    }

    pub(super) fn keep_level(&mut self, fingerprint: Fingerprint) {
        if let Some(known) = self.levels.get_mut(&fingerprint) {
            known.seen_in_journal = known.level.last_seen;
            self.out.writes.push(Write::Level(Box::new(known.level.clone())));
        }
    }

    pub(super) fn settle_doubt(&mut self, fingerprint: Fingerprint, now: Timestamp) {
        if self.levels.get_mut(&fingerprint).is_some_and(|known| level::settle_doubt(&mut known.level, now)) {
            self.fired(fingerprint, now);
            self.decide_fresh(now);
        }
    }

    /// An alert that did not fire does now: it goes to its open incidents, or is routed.
    fn fired(&mut self, fingerprint: Fingerprint, now: Timestamp) {
        self.keep_level(fingerprint);
        let Some(known) = self.levels.get(&fingerprint) else { return };
        let open: Vec<IncidentId> = known
            .incidents
            .iter()
            .copied()
            .filter(|id| self.incidents.get(id).is_some_and(|it| it.state != State::Resolved))
            .collect();
        self.route(fingerprint, &open, now);
        let Some(known) = self.levels.get(&fingerprint) else { return };
        for id in known.incidents.clone() {
            self.fires_again(id, now);
        }
    }

    /// An alert of an incident that stood open began to fire.
    fn fires_again(&mut self, id: IncidentId, now: Timestamp) {
        self.reconsider(id, "suppressed", now);
        self.reconsider(id, "unconfirmed", now);
        let Some(incident) = self.incidents.get(&id) else { return };
        let firing = self.levels_of(incident).filter(|level| level.firing()).take(2).count();
        // It was left to a person when nothing of it fired any more: this is a new episode, and somebody must hear of it.
        if incident.state == State::Escalated && firing == 1 {
            let reason = Reason::new("fires_again", "it was left to a person, had gone, and fires again");
            self.record(id, now, Some(State::Escalated), State::Escalated, reason.clone());
            self.edit(id, |incident| {
                incident.acked_by = None;
                incident.reason = reason.clone();
            });
            self.metrics.escalation(reason.code.to_string());
            self.report(id, now, |facts| report::escalation(facts, &reason));
        }
    }

    /// `open`: the incidents that it belongs to already. It stays with them whatever a reload does; a rule beside theirs (`continue`) may open
    /// another only while theirs are still among those that match.
    fn route(&mut self, fingerprint: Fingerprint, open: &[IncidentId], now: Timestamp) {
        let Some(known) = self.levels.get(&fingerprint) else { return };
        let group = known.level.group.key.clone();
        let routed = route::route(&self.catalog, &known.level.alert.labels, fingerprint);
        let rules: Vec<&str> = open
            .iter()
            .filter_map(|id| self.incidents.get(id))
            .map(|it| it.rule.as_deref().unwrap_or_default())
            .collect();
        if !open.is_empty() && !routed.matched.iter().any(|found| rules.contains(&found.rule.name.as_str())) {
            return;
        }
        if routed.matched.is_empty() {
            self.metrics.route("no_rule");
            self.join_or_open(None, &group, Ok(()), fingerprint, now);
        }
        for found in routed.matched {
            self.metrics.route(if found.key.is_ok() { "matched" } else { "label_missing" });
            let (key, told) = match found.key {
                Ok(key) => (key, Ok(())),
                Err(reason) => (fingerprint.to_string(), Err(reason)),
            };
            self.join_or_open(Some(&found.rule), &key, told, fingerprint, now);
        }
    }

    fn resolved(&mut self, fingerprint: Fingerprint, reason: Reason, now: Timestamp) {
        self.keep_level(fingerprint);
        let Some(known) = self.levels.get(&fingerprint) else { return };
        for id in known.incidents.clone() {
            let Some(incident) = self.incidents.get(&id) else { continue };
            if self.fires(incident) {
                continue;
            }
            if let Some(run) = self.live.get(&id) {
                self.out.wakes.push(*run);
            }
            if incident.state != State::Resolved {
                self.step(id, Event::Resolved, reason.clone(), now);
            }
        }
    }

    /// A firing alert that an untruncated firing payload of its group leaves out may be gone: no new attempt starts for it.
    fn unconfirm_absent(&mut self, group: &Group, told: &GroupRef) {
        let Some(known) = self.groups.get(&told.key) else { return };
        let told_of = group.alerts.iter().filter(|alert| !self.is_watchdog(alert)).count();
        if known.len() <= told_of || !group.alerts.iter().any(|alert| alert.ends_at.is_none()) {
            return;
        }
        let present: HashSet<Fingerprint> = group.alerts.iter().map(|alert| alert.fingerprint).collect();
        let absent: Vec<Fingerprint> = known.difference(&present).copied().collect();
        for fingerprint in absent {
            if let Some(known) = self.levels.get_mut(&fingerprint)
                && known.level.firing()
                && !known.level.unconfirmed
            {
                known.level.unconfirmed = true;
                self.keep_level(fingerprint);
            }
        }
    }

    fn was_cut_off(&mut self, group: &Group, told: &GroupRef, now: Timestamp) {
        let cut = CutOff {
            group: told.clone(),
            labels: group.group_labels.clone(),
            receiver: unescape(&group.receiver),
            truncated: group.truncated,
            told_at: now,
        };
        if self.reconciles {
            let stored = serde_json::to_string(&cut).expect("labels and text serialise");
            self.out.writes.push(Write::Setting(format!("{CUT_OFF}{}", told.key).into(), Some(stored)));
            self.cut_off.insert(told.key.clone(), cut);
            self.out.reconcile = true;
        } else {
            self.tell_cut_off(&cut, "without alertmanager.url they cannot be asked for", now);
        }
    }

    /// The groups that were told before `asked`: a later one is not in the answer.
    fn take_cut_off(&mut self, asked: Timestamp) -> Vec<CutOff> {
        let all: Vec<CutOff> = self.cut_off.extract_if(.., |_, cut| cut.told_at <= asked).map(|(_, cut)| cut).collect();
        for cut in &all {
            self.forget_cut_off(&cut.group.key);
        }
        all
    }

    fn forget_cut_off(&mut self, key: &str) {
        self.out.writes.push(Write::Setting(format!("{CUT_OFF}{key}").into(), None));
    }

    /// A group that was cut off before the last end.
    pub(super) fn recall_cut_off(&mut self, stored: &str) {
        if let Ok(cut) = serde_json::from_str::<CutOff>(stored) {
            self.cut_off.insert(cut.group.key.clone(), cut);
        }
    }

    fn tell_cut_off(&mut self, cut: &CutOff, why: &str, now: Timestamp) {
        let fingerprints: Vec<Fingerprint> =
            self.groups.get(&cut.group.key).map(|all| all.iter().copied().collect()).unwrap_or_default();
        let text = format!("Alertmanager cut {} alerts off the group (max_alerts), and {why}", cut.truncated);
        let key = format!("{} (cut off)", cut.group.key);
        let mut sorted: Vec<Fingerprint> = fingerprints
            .into_iter()
            .filter(|one| self.levels.get(one).is_some_and(|known| known.level.firing()))
            .collect();
        sorted.sort();
        for fingerprint in sorted {
            self.join_or_open(None, &key, Err(Reason::new("alerts_cut_off", text.clone())), fingerprint, now);
        }
        self.decide_fresh(now);
    }

    /// An incident that no alert belongs to: a person closes it.
    fn without_alert(&mut self, key: &str, labels: &Labels, reason: Reason, now: Timestamp) {
        // A fingerprint that no alert has: nothing joins it, nothing resolves it.
        let id = self.join_or_open(None, key, Err(reason), Fingerprint(0), now);
        self.edit(id, |incident: &mut Incident| incident.alerts.clear());
        self.decide_fresh(now);
        self.edit(id, |incident: &mut Incident| incident.labels = labels.clone());
    }

    pub(super) fn reconsider(&mut self, id: IncidentId, code: &str, now: Timestamp) {
        if self.incidents.get(&id).is_some_and(|it| it.state == State::Held && it.reason.code == code) {
            self.consider(id, now);
        }
    }

    /// What Alertmanager's API said at `asked`: lost *resolved* are found, silenced alerts held, groups that were cut off completed.
    pub fn reconciled(&mut self, asked: Timestamp, known: &[KnownAlert], now: Timestamp) {
        let by_fingerprint: HashMap<Fingerprint, &KnownAlert> =
            known.iter().map(|known| (known.alert.fingerprint, known)).collect();
        let mut all: Vec<Fingerprint> = self.levels.keys().copied().collect();
        all.sort();
        for fingerprint in all {
            self.reconcile_one(fingerprint, by_fingerprint.get(&fingerprint).copied(), asked, now);
        }
        for cut in self.take_cut_off(asked) {
            for found in known.iter().filter(|found| cut.holds(found) && !found.suppressed) {
                if !self.levels.get(&found.alert.fingerprint).is_some_and(|known| known.level.firing()) {
                    self.observe(&found.alert, &cut.group, now);
                }
            }
        }
        self.decide_fresh(now);
    }

    fn reconcile_one(
        &mut self,
        fingerprint: Fingerprint,
        found: Option<&KnownAlert>,
        asked: Timestamp,
        now: Timestamp,
    ) {
        let Some(known) = self.levels.get_mut(&fingerprint) else { return };
        match found {
            Some(found) => {
                let was = (known.level.suppressed, known.level.unconfirmed);
                known.absent_since = None;
                known.level.suppressed = found.suppressed;
                // The API lists it: it is not gone.
                known.level.unconfirmed = false;
                known.level.last_seen = now;
                if was != (known.level.suppressed, false) {
                    let ids = known.incidents.clone();
                    self.keep_level(fingerprint);
                    for id in ids {
                        self.reconsider(id, "suppressed", now);
                        self.reconsider(id, "unconfirmed", now);
                    }
                }
            }
            // Told after we asked: the answer is older than the post.
            None if known.level.last_seen >= asked => {}
            // Alertmanager forgets what fires when it is restarted, until Prometheus sends it again: only a lasting absence counts.
            None if known.level.firing()
                && now.duration_since(*known.absent_since.get_or_insert(asked)) < ABSENT_FOR.signed() =>
            {
                if !known.level.unconfirmed {
                    known.level.unconfirmed = true;
                    self.keep_level(fingerprint);
                }
            }
            None if known.level.firing() => {
                known.absent_since = None;
                level::resolve(&mut known.level, asked, now);
                self.resolved(fingerprint, Reason::new("resolved", "Alertmanager's API no longer lists it"), now);
            }
            None => {
                if let Some(at) = known.level.refire_at.take() {
                    self.doubts.remove(&(at, fingerprint));
                    self.keep_level(fingerprint);
                }
            }
        }
    }

    /// Alertmanager's API could not be asked: people hear of groups that were cut off, and that nothing is reconciled.
    pub fn not_reconciled(&mut self, why: &str, now: Timestamp) {
        for cut in self.take_cut_off(now) {
            self.tell_cut_off(&cut, &format!("its API did not answer: {why}"), now);
        }
        let text = format!("Lost resolved notifications are not found while this lasts: {why}");
        self.tell_operators("alertmanager", "Alertmanager's API cannot be asked", &text, now);
    }

    /// An open incident that nothing spoke of for long escalates as stale.
    pub fn find_stale(&mut self, now: Timestamp) {
        let limit = self.config.incidents.stale_after;
        let mut stale: Vec<IncidentId> = self
            .incidents
            .values()
            .filter(|incident| !matches!(incident.state, State::Resolved | State::Escalated | State::Running))
            .filter(|incident| {
                let newest = self.levels_of(incident).map(|level| level.last_seen).max();
                newest.is_some_and(|seen| now.duration_since(seen) >= limit.signed())
            })
            .map(|incident| incident.id)
            .collect();
        stale.sort();
        for id in stale {
            let text = format!("nothing was heard of it for {limit}: is Alertmanager still there?");
            self.step(id, Event::HandedOver, Reason::new("stale", text), now);
        }
    }

    /// A new catalog is in force: alerts that no rule matched are routed again. That is how the runbook that was just written takes over.
    pub fn catalog_swapped(&mut self, catalog: Arc<crate::runbook::catalog::Catalog>, now: Timestamp) {
        self.catalog = catalog;
        self.ask_anew();
        self.route_unmatched(now);
        // A rule's windows may be others now.
        self.consider_held("freeze", now);
    }

    pub(super) fn route_unmatched(&mut self, now: Timestamp) {
        let mut unmatched: Vec<IncidentId> = self
            .incidents
            .values()
            .filter(|it| {
                it.rule.is_none()
                    && it.state == State::Escalated
                    && it.reason.code == "no_rule"
                    && it.acked_by.is_none()
            })
            .map(|it| it.id)
            .collect();
        unmatched.sort();
        for id in unmatched {
            self.route_again(id, now);
        }
    }

    fn route_again(&mut self, id: IncidentId, now: Timestamp) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let firing: Vec<Level> = self.levels_of(incident).filter(|level| level.firing()).cloned().collect();
        let matches = |level: &Level| {
            let labels = &level.alert.labels;
            !route::route(&self.catalog, labels, level.alert.fingerprint).matched.is_empty()
        };
        let (taken, left): (Vec<Level>, Vec<Level>) = firing.into_iter().partition(matches);
        if taken.is_empty() {
            return;
        }
        let names: Vec<Fingerprint> = taken.iter().map(|level| level.alert.fingerprint).collect();
        self.edit(id, |incident| incident.alerts.retain(|one| !names.contains(one)));
        for fingerprint in &names {
            if let Some(known) = self.levels.get_mut(fingerprint) {
                known.incidents.retain(|other| *other != id);
            }
            self.route(*fingerprint, &[], now);
        }
        self.decide_fresh(now);
        if left.is_empty() {
            let text = "a rule that was just written takes its alerts over";
            self.step(id, Event::Closed, Reason::new("taken_over", text), now);
        }
    }
}

impl CutOff {
    fn holds(&self, found: &KnownAlert) -> bool {
        let labels = &found.alert.labels;
        self.labels.iter().all(|(name, value)| labels.value(name) == value) && found.receivers.contains(&self.receiver)
    }
}

/// What an observation may change besides the status.
struct Flags {
    group: Arc<str>,
    unconfirmed: bool,
    suppressed: bool,
    refire_at: Option<Timestamp>,
    starts_at: Timestamp,
}

impl Level {
    fn clone_flags(&self) -> Flags {
        let Level { unconfirmed, suppressed, refire_at, .. } = *self;
        Flags { group: self.group.key.clone(), unconfirmed, suppressed, refire_at, starts_at: self.alert.starts_at }
    }
}

/// Alertmanager sends a receiver's name regex-escaped: `web\.hook`.
fn unescape(receiver: &str) -> String {
    let mut plain = String::with_capacity(receiver.len());
    let mut chars = receiver.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    plain
}
