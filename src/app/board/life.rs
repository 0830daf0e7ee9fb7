//! The life of incidents on the board: opening, the guards' verdicts, state changes and what they bring.

use super::verify::RECOVERED_AT_MOST;
use super::{Board, NO_RULE};
use crate::app::report;
use crate::engine::guard::{self, Page, Situation, Verdict};
use crate::engine::lifecycle::{self, Act, Event};
use crate::engine::route;
use crate::model::alert::{Fingerprint, Level};
use crate::model::duration::Duration;
use crate::model::effectiveness::Judgement;
use crate::model::incident::{Incident, IncidentId, Reason, State};
use crate::model::label::Labels;
use crate::model::rule::Rule;
use crate::ports::Write;
use jiff::Timestamp;
use std::sync::Arc;

/// How many rules an escalation names as having come close.
const NEAREST_RULES: usize = 3;

impl Board {
    /// Opens an incident for an alert that is on the board, or has it join the one that is open under that rule and key.
    /// What becomes of a new one is decided by [`Board::decide_fresh`].
    pub(super) fn join_or_open(
        &mut self,
        rule: Option<&Arc<Rule>>,
        key: &str,
        told: Result<(), Reason>,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) -> IncidentId {
        let name = rule.map_or(NO_RULE, |rule| &rule.name);
        let known = self.by_key.get(&(name.into(), key.into())).copied();
        let id = known.unwrap_or_else(|| self.open(rule, key, "it began to fire", now));
        self.join(id, fingerprint);
        let closed = self.incidents.get(&id).is_some_and(|incident| incident.state == State::Resolved);
        if (known.is_none() || closed) && !self.fresh.iter().any(|(fresh, _)| *fresh == id) {
            self.fresh.push((id, told));
        }
        id
    }

    /// All alerts of a post have joined: decides about the incidents that they opened or reopened.
    pub(super) fn decide_fresh(&mut self, now: Timestamp) {
        for (id, told) in std::mem::take(&mut self.fresh) {
            let Some(incident) = self.incidents.get(&id) else { continue };
            if incident.state == State::Resolved {
                self.refire(id, told, now);
                continue;
            }
            let mut all = self.levels_of(incident).map(|level| &level.alert.labels);
            let first = all.next().cloned().unwrap_or_default();
            let common = all.fold(first, |common, next| common.common(next));
            let no_rule = incident.rule.is_none();
            self.edit(id, |incident| incident.labels = common);
            match told {
                Err(reason) => self.step(id, Event::HandedOver, reason, now),
                Ok(()) if no_rule => {
                    self.step(id, Event::HandedOver, Reason::new("no_rule", "no rule matches it"), now);
                }
                Ok(()) => self.consider(id, now),
            }
        }
    }

    fn join(&mut self, id: IncidentId, fingerprint: Fingerprint) {
        // The level knows its incidents, which are few; an incident may have a great many alerts.
        if let Some(known) = self.levels.get_mut(&fingerprint)
            && !known.incidents.contains(&id)
        {
            known.incidents.push(id);
            self.edit(id, |incident| incident.alerts.push(fingerprint));
        }
    }

    pub(super) fn open(&mut self, rule: Option<&Arc<Rule>>, key: &str, why: &str, now: Timestamp) -> IncidentId {
        self.last_incident += 1;
        let id = IncidentId(self.last_incident);
        let incident = Incident {
            id,
            state: State::Open,
            reason: Reason::new("opened", why),
            rule: rule.map(|rule| rule.name.clone()),
            runbook: rule.and_then(|rule| rule.runbook.clone()),
            key: key.to_string(),
            labels: Labels::default(),
            // Most have one of each.
            alerts: Vec::with_capacity(1),
            runs: Vec::with_capacity(1),
            attempt: 0,
            flaps: 0,
            had_effect: false,
            effects: Vec::new(),
            gave_back: false,
            locks: Vec::new(),
            event: None,
            next_event: None,
            approval: None,
            acked_by: None,
            escalated: false,
            opened_at: now,
            since: now,
            until: None,
            held_since: None,
            closed_at: None,
        };
        self.by_key.insert(Self::key_of(&incident), id);
        self.record(id, now, None, State::Open, incident.reason.clone());
        *self.counts.entry(State::Open).or_default() += 1;
        self.counts_changed = true;
        self.dirty.insert(id);
        self.incidents.insert(id, Box::new(incident));
        id
    }

    /// It fires again within the flap window.
    pub(super) fn refire(&mut self, id: IncidentId, told: Result<(), Reason>, now: Timestamp) {
        if told.is_ok() && self.decays(id, now) {
            return self.fires_still(id, now);
        }
        if let Some(run) = self.live.get(&id) {
            self.out.stops.push(*run);
        }
        self.judge_flap(id, now);
        let limit = self.config.incidents.flaps;
        let mut flaps = 0;
        self.edit(id, |incident| {
            incident.flaps += 1;
            incident.closed_at = None;
            incident.acked_by = None;
            incident.escalated = false;
            flaps = incident.flaps;
        });
        if let Err(reason) = told {
            return self.step(id, Event::Refired { too_often: true }, reason, now);
        }
        let window = self.config.incidents.flap_window;
        let too_often = flaps >= limit;
        let text = if too_often {
            format!("it has fired again {flaps} times, each within {window} of resolving")
        } else {
            format!("it fires again within {window} of resolving (flap {flaps} of {limit})")
        };
        let code = if too_often { "flapping" } else { "refired" };
        self.step(id, Event::Refired { too_often }, Reason::new(code, text), now);
    }

    /// What it fires for is older than what was done about it: no flap, and no new attempt before that has had its time to show.
    fn fires_still(&mut self, id: IncidentId, now: Timestamp) {
        self.edit(id, |incident| incident.closed_at = None);
        self.lock_again(id);
        let text = "it fires since before its last run had its effect, which is given its time to show";
        self.step(id, Event::Decaying, Reason::new("decaying", text), now);
    }

    /// It is verified again, so its targets are its own again until that ends. One that another incident has taken meanwhile stays with that one: to verify
    /// changes nothing, and the next attempt asks for its locks as any does. After a restart between the two only what the rule names literally is known.
    fn lock_again(&mut self, id: IncidentId) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let mut targets = self.rule_of(incident).map_or_else(Vec::new, |rule| Self::literal_targets(&rule, incident));
        targets.extend(self.attempts.get(&id).into_iter().flat_map(|attempt| attempt.released.iter().cloned()));
        targets.sort();
        targets.dedup();
        self.lock_free(id, targets);
    }

    /// Asks the guards before a run.
    pub(super) fn consider(&mut self, id: IncidentId, now: Timestamp) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let approved = Self::is_approved(incident);
        if !matches!(incident.state, State::Open | State::Held) && !approved {
            return;
        }
        if let Some(who) = incident.acked_by.clone().filter(|_| !approved) {
            return self.step(id, Event::HandedOver, Reason::new("acknowledged", format!("{who} has it")), now);
        }
        let Some(rule) = self.rule_of(incident) else {
            let reason = match &incident.rule {
                None => Reason::new("no_rule", "no rule matches it"),
                Some(name) => Reason::new("rule_deleted", format!("its rule {name} is no longer there")),
            };
            return self.step(id, Event::HandedOver, reason, now);
        };
        if rule.runbook.is_none() {
            let reason = Reason::new("no_runbook", format!("rule {} routes it to people", rule.name));
            return self.step(id, Event::HandedOver, reason, now);
        }
        if let Some(run) = self.live.get(&id) {
            let text = format!("its run {run} is still ending");
            let hold = Verdict::Hold { until: None, page: Page::Later, reason: Reason::new("lock", text) };
            return self.hold_or_start(id, &rule, ("lock", hold), Vec::new(), now);
        }
        let targets = Self::literal_targets(&rule, incident);
        let attempts_in_window = self.attempts_in_window(&rule, now);
        let Some(incident) = self.incidents.get(&id) else { return };
        let breaker = self.open_breaker(&rule.name);
        let services = Self::literal_services(&rule, incident);
        let updating = self.updating_of(&services);
        let hands = services.iter().filter_map(|(_, name)| self.hands.get(name));
        let key = Self::key_of(incident);
        let situation = Situation {
            now,
            stops: self.stops.view(&self.config),
            breaker: breaker.as_deref(),
            firing: self.firing(incident),
            mode: self.mode_of(&rule),
            approved,
            attempt: incident.attempt,
            last_effect: self.effects.get(&key).map(|(at, what)| (*at, what.as_str())),
            attempts_in_window,
            fleet: self.fleet(&targets),
            locked: self.locks.taken(id, &targets),
            updating,
            hand: hands.max_by_key(|hand| hand.at),
            arbitration: &self.config.arbitration,
        };
        let verdict = guard::before_run(&rule, &situation);
        if let ("lock", Some((target, _))) = (verdict.0, situation.locked) {
            let target = target.to_string();
            self.locks.wait(id, &target);
        }
        if let ("brake", Verdict::Hold { reason, .. }) = &verdict {
            self.pull_brake(&reason.text.clone(), now);
        }
        self.hold_or_start(id, &rule, verdict, targets, now);
    }

    fn hold_or_start(
        &mut self,
        id: IncidentId,
        rule: &Arc<Rule>,
        (guard, verdict): (&'static str, Verdict),
        targets: Vec<String>,
        now: Timestamp,
    ) {
        self.metrics.verdict(guard, verdict.name());
        match verdict {
            Verdict::Allow => {
                let text = format!("rule {} runs {}", rule.name, rule.runbook.as_deref().unwrap_or_default());
                self.lock(id, &targets);
                self.step(id, Event::Allowed, Reason::new("allowed", text), now);
            }
            Verdict::Rehearse => self.rehearse(id, rule, now),
            Verdict::Deny(reason) => self.step(id, Event::Denied, reason, now),
            Verdict::Resolved => {
                self.step(id, Event::Resolved, Reason::new("resolved", "nothing of it fires any more"), now)
            }
            Verdict::Hold { until, page, reason } => self.hold(id, rule, until, page, reason, now),
        }
    }

    fn hold(
        &mut self,
        id: IncidentId,
        rule: &Rule,
        until: Option<Timestamp>,
        page: Page,
        reason: Reason,
        now: Timestamp,
    ) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let since = incident.held_since.unwrap_or(now);
        let too_long = since + rule.hold_at_most.signed();
        if page == Page::Later && too_long <= now {
            let text = format!(
                "held for {}, longer than {} at most; {}",
                Duration::between(since, now),
                rule.hold_at_most,
                reason.text
            );
            return self.step(id, Event::WaitedTooLong, Reason { text, ..reason }, now);
        }
        let until = match page {
            Page::Later => Some(until.map_or(too_long, |until| until.min(too_long))),
            Page::Now | Page::Never => until,
        };
        let (same, paged) = (incident.state == State::Held && incident.reason.code == reason.code, incident.escalated);
        if !same {
            self.step(id, Event::Held, reason.clone(), now);
        }
        self.edit(id, |incident| {
            incident.until = until;
            incident.reason = reason.clone();
            // A hold that people have heard of does not run out; it begins anew when it is one that can.
            incident.held_since = (page == Page::Later).then_some(since);
            incident.escalated |= page == Page::Now;
        });
        if page == Page::Now && !paged {
            self.metrics.escalation(reason.code.to_string());
            self.report(id, now, |facts| report::held(facts, &reason));
        }
    }

    /// Takes an incident to its next state and does what that brings.
    pub(super) fn step(&mut self, id: IncidentId, event: Event, reason: Reason, now: Timestamp) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let from = incident.state;
        let Some((to, act)) = lifecycle::next(from, event) else {
            tracing::debug!(incident = %id, state = %from, ?event, "ignored: the state does not know this event");
            return;
        };
        if to != from || act != Act::Nothing {
            self.record(id, now, Some(from), to, reason.clone());
            self.edit(id, |incident| {
                incident.state = to;
                incident.reason = reason.clone();
                incident.since = now;
                incident.until = None;
                if !matches!(to, State::Held) {
                    incident.held_since = None;
                }
            });
        }
        if from == State::Verifying && to != from {
            self.stop_verifying(id);
        }
        if from == State::Verifying && matches!(event, Event::Resolved | Event::Recovered) {
            self.judge(id, Judgement::Helped, now);
        }
        self.act(id, act, from, &reason, now);
    }

    fn act(&mut self, id: IncidentId, act: Act, from: State, reason: &Reason, now: Timestamp) {
        match act {
            Act::Nothing | Act::Wait => {}
            Act::Start if self.begin_undo(id, now) => {}
            Act::Start => self.start_run(id, now),
            Act::Consider => self.consider(id, now),
            Act::Verify => {
                let Some(rule) = self.incidents.get(&id).and_then(|incident| self.rule_of(incident)) else {
                    let reason = Reason::new("rule_deleted", "its rule is no longer there");
                    return self.step(id, Event::HandedOver, reason, now);
                };
                self.verify(id, &rule, now);
            }
            Act::Escalate => {
                self.release(id, now);
                let mut told = false;
                self.edit(id, |incident| {
                    told = std::mem::replace(&mut incident.escalated, true);
                    // A person has it: what was asked before a run is void.
                    incident.approval.take_if(|asked| asked.run.is_none() && asked.verdict.is_none());
                });
                // Whoever acknowledged it has it: nobody is paged.
                if told && reason.code == "acknowledged" {
                    return self.report(id, now, report::state_update);
                }
                self.metrics.escalation(reason.code.to_string());
                self.report(id, now, |facts| report::escalation(facts, reason));
            }
            Act::Close => self.close(id, from, now),
        }
    }

    fn close(&mut self, id: IncidentId, from: State, now: Timestamp) {
        let until = now + self.config.incidents.flap_window.signed();
        let mut told = false;
        self.edit(id, |incident| {
            incident.closed_at = Some(now);
            incident.until = Some(until);
            incident.approval = None;
            told = incident.escalated;
        });
        tracing::debug!(incident = %id, %from, "resolved");
        if told {
            self.report(id, now, report::state_update);
        }
        // Closed by a person, it may fire still: what was done about it is theirs.
        let fires = self.incidents.get(&id).is_some_and(|incident| self.fires(incident));
        if fires || !self.give_back(id, now) {
            self.release(id, now);
        }
    }

    /// Frees the locks of an incident and asks for those who waited. A run at work keeps them to its end.
    pub(super) fn release(&mut self, id: IncidentId, now: Timestamp) {
        if self.live.contains_key(&id) {
            return;
        }
        if self.incidents.get(&id).is_some_and(|incident| !incident.locks.is_empty()) {
            let mut released = Vec::new();
            self.edit(id, |incident| released = std::mem::take(&mut incident.locks));
            if let Some(attempt) = self.attempts.get_mut(&id) {
                attempt.released = released;
            }
        }
        for waiting in self.locks.release(id) {
            self.consider(waiting, now);
        }
    }

    /// An incident's own time has come.
    pub(super) fn due(&mut self, id: IncidentId, now: Timestamp) {
        let Some(incident) = self.incidents.get(&id) else { return };
        match incident.state {
            State::Held if incident.reason.code == "retry" => {
                self.edit(id, |incident| incident.held_since = None);
                self.consider(id, now);
            }
            State::Held | State::Open => self.consider(id, now),
            State::Verifying => self.not_resolved_in_time(id, now),
            State::Recovered => {
                let text = format!("its expectation was met, yet it fires on after {RECOVERED_AT_MOST}");
                self.step(id, Event::WaitedTooLong, Reason::new("still_firing", text), now);
            }
            State::Resolved => self.forget(id),
            State::AwaitingApproval => self.expire(id, now),
            State::Running | State::Escalated => {}
        }
    }

    /// An attempt did not help: the next one, or a person.
    pub(super) fn not_helped(&mut self, id: IncidentId, reason: Reason, now: Timestamp) {
        // One that had counted as helped, and decayed too slowly, did not after all.
        self.judge(id, Judgement::DidNotHelp, now);
        self.judge_flap(id, now);
        let Some(incident) = self.incidents.get(&id) else { return };
        let rule = self.rule_of(incident);
        let attempts = rule.as_ref().map_or(0, |rule| rule.attempts);
        if incident.attempt >= attempts {
            return self.step(id, Event::NotHelped { retry: false }, reason, now);
        }
        let wait = rule.map_or(Rule::RETRY_AFTER, |rule| rule.retry_after);
        let text = format!("{}; attempt {} of {attempts} follows in {wait}", reason.text, incident.attempt + 1);
        self.step(id, Event::NotHelped { retry: true }, Reason::new("retry", text), now);
        self.edit(id, |incident| {
            incident.until = Some(now + wait.signed());
            incident.held_since = None;
        });
    }

    /// After the flap window nothing can reopen it: it leaves the board.
    pub(super) fn forget(&mut self, id: IncidentId) {
        if self.live.contains_key(&id) {
            // `on_resolved` is still at work: look again when it has ended.
            return;
        }
        let Some(incident) = self.incidents.remove(&id) else { return };
        if self.dirty.remove(&id) {
            self.out.writes.push(Write::Incident(incident.clone()));
        }
        self.counts_changed = true;
        if let Some(at) = incident.until {
            self.timers.remove(&(at, id));
        }
        *self.counts.entry(incident.state).or_default() -= 1;
        self.attempts.remove(&id);
        let key = Self::key_of(&incident);
        if self.by_key.get(&key) == Some(&id) {
            self.by_key.remove(&key);
        }
        for fingerprint in &incident.alerts {
            let Some(known) = self.levels.get_mut(fingerprint) else { continue };
            known.incidents.retain(|other| *other != id);
            if known.incidents.is_empty() && !known.level.firing() && known.level.refire_at.is_none() {
                self.forget_level(*fingerprint);
            }
        }
    }

    fn forget_level(&mut self, fingerprint: Fingerprint) {
        let Some(known) = self.levels.remove(&fingerprint) else { return };
        if let Some(group) = self.groups.get_mut(&known.level.group.key) {
            group.remove(&fingerprint);
            if group.is_empty() {
                self.groups.remove(&known.level.group.key);
            }
        }
        self.out.writes.push(Write::ForgetLevel(fingerprint));
    }

    /// Sends a message about an incident, with the facts it needs.
    pub(super) fn report(
        &mut self,
        id: IncidentId,
        now: Timestamp,
        make: impl FnOnce(&report::Facts) -> crate::model::message::Message,
    ) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let alerts: Vec<&Level> = self.levels_of(incident).collect();
        let near: Vec<(String, String)> = match incident.rule {
            Some(_) => Vec::new(),
            None => route::closest(&self.catalog, None, &incident.labels, NEAREST_RULES)
                .into_iter()
                .map(|near| (near.rule, near.kept_from.join("; ")))
                .collect(),
        };
        let rule = self.rule_of(incident);
        let facts = report::Facts {
            incident,
            alerts: &alerts,
            near: &near,
            steps: &incident.effects,
            truncated: 0,
            channel: rule.as_ref().and_then(|rule| rule.channel.as_deref()),
            severity: rule.as_ref().and_then(|rule| rule.severity.as_deref()),
            external_url: self.config.external_url.as_deref(),
            now,
        };
        let message = make(&facts);
        self.send(message);
    }
}
