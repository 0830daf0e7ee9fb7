//! May we? Checks before a run and before each effect. Each answer names its guard and the figure (DESIGN §8).

mod at_once;
mod fleet;
mod freeze;
mod hands;

pub use at_once::{Company, Member, caps_services, nodes, stacks};
pub use fleet::Fleet;
pub use freeze::{Freezes, in_force};
pub use hands::{Hand, Updating};

use crate::config::ArbitrationConfig;
use crate::model::cluster::{self, Service, ServiceChange, ServiceIntent};
use crate::model::duration::Duration;
use crate::model::effect::Effect;
use crate::model::incident::{IncidentId, Reason};
use crate::model::label::Labels;
use crate::model::mode::Mode;
use crate::model::rule::Rule;
use jiff::Timestamp;

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Allow,
    /// Not now. Asked again at `until`, or when what it waits for comes.
    Hold {
        until: Option<Timestamp>,
        page: Page,
        reason: Reason,
    },
    /// Never for this incident: a person takes over.
    Deny(Reason),
    /// First find out what it would do: to tell people, or to ask them.
    Rehearse,
    /// Nothing of it fires any more.
    Resolved,
}

/// Who hears of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// A person, at once: a freeze must not swallow a page.
    Now,
    /// A person, after `hold_at_most`.
    Later,
    /// Nobody: a silence was a person's own doing, and of the fleet brake people are told once for all that it holds.
    Never,
}

impl Verdict {
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Hold { .. } => "hold",
            Verdict::Deny(_) => "deny",
            Verdict::Rehearse => "rehearse",
            Verdict::Resolved => "resolved",
        }
    }
}

/// What of an incident fires now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Firing {
    pub confirmed: usize,
    /// Absent from the last payload of its group: it may be gone.
    pub unconfirmed: usize,
    /// Silenced or inhibited.
    pub suppressed: usize,
}

impl Firing {
    pub fn any(self) -> bool {
        self.confirmed + self.unconfirmed + self.suppressed > 0
    }
}

/// What people or the calendar have stopped.
#[derive(Clone, Debug)]
pub struct Stops<'a> {
    /// Who pulled the kill switch, and why.
    pub paused: Option<String>,
    pub freezes: Freezes<'a>,
    /// What pulled the fleet brake, until a person releases it.
    pub braked: Option<&'a str>,
}

/// Everything that the guards before a run look at.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    pub now: Timestamp,
    pub stops: Stops<'a>,
    pub firing: Firing,
    /// How far the rule may go by itself now: `Shadow`, `Approve` or `Auto`.
    pub mode: Mode,
    /// A person has approved the run.
    pub approved: bool,
    /// Why the rule's breaker is open, if it is.
    pub breaker: Option<&'a str>,
    /// Attempts made within this incident: later ones are exempt from the cooldown.
    pub attempt: u32,
    /// When a run of this rule and key last had an effect, and which.
    pub last_effect: Option<(Timestamp, &'a str)>,
    /// Attempts of this rule within the budget's window, and when the oldest of them leaves it.
    pub attempts_in_window: u32,
    pub fleet: Fleet<'a>,
    /// The first target that another incident has locked.
    pub locked: Option<(&'a str, IncidentId)>,
    /// The first target that is, or may be, in the middle of an update.
    pub updating: Updating<'a>,
    /// Who else changed one of the targets last.
    pub hand: Option<&'a Hand>,
    pub arbitration: &'a ArbitrationConfig,
}

type Guard = fn(&Rule, &Situation) -> Verdict;

/// The guards before a run, in order; the first that does not allow decides.
pub fn before_run(rule: &Rule, situation: &Situation) -> (&'static str, Verdict) {
    if let stop @ (_, Verdict::Hold { .. }) = stopped(Some(rule), &situation.stops, situation.now) {
        return stop;
    }
    let guards: [(&'static str, Guard); 10] = [
        ("still_firing", still_firing),
        ("mode", shadow),
        ("breaker", breaker),
        ("cooldown", cooldown),
        ("budget", budget),
        ("lock", lock),
        ("updating", |_, situation| hands::updating(situation.updating)),
        ("another_hand", |_, situation| hands::hand(situation.hand, situation.arbitration, situation.now)),
        ("brake", |_, situation| fleet::brake(&situation.fleet, false, situation.now)),
        ("approval", approval),
    ];
    for (name, guard) in guards {
        match guard(rule, situation) {
            Verdict::Allow => {}
            verdict => return (name, verdict),
        }
    }
    ("all", Verdict::Allow)
}

/// The guards that come first, before a run and before each effect alike: what stops one stops the other. `None`: the rule is not there any more.
pub fn stopped(rule: Option<&Rule>, stops: &Stops, now: Timestamp) -> (&'static str, Verdict) {
    // A brake that was pulled comes this early so that what waits for a lock meanwhile escalates no single incident.
    let asked = [
        ("paused", paused(stops)),
        ("freeze", freeze::freeze(rule, stops.freezes, now)),
        ("brake", fleet::braked(stops.braked)),
    ];
    let holds = asked.into_iter().find(|(_, verdict)| *verdict != Verdict::Allow);
    holds.unwrap_or(("all", Verdict::Allow))
}

fn paused(stops: &Stops) -> Verdict {
    match &stops.paused {
        None => Verdict::Allow,
        Some(why) => Verdict::Hold {
            until: None,
            page: Page::Now,
            reason: Reason::new("paused", format!("runbookd is paused ({why}); it goes on with `runbookd resume`")),
        },
    }
}

fn still_firing(_: &Rule, situation: &Situation) -> Verdict {
    let firing = situation.firing;
    if !firing.any() {
        return Verdict::Resolved;
    }
    if firing.confirmed > 0 {
        return Verdict::Allow;
    }
    if firing.unconfirmed > 0 {
        let text = "Alertmanager's last post of the group no longer lists it: it may be gone";
        return Verdict::Hold { until: None, page: Page::Later, reason: Reason::new("unconfirmed", text) };
    }
    let text = "it is silenced or inhibited in Alertmanager";
    Verdict::Hold { until: None, page: Page::Never, reason: Reason::new("suppressed", text) }
}

/// A rehearsal changes nothing: it needs no lock, and no cooldown or budget counts it.
fn shadow(_: &Rule, situation: &Situation) -> Verdict {
    if situation.mode == Mode::Shadow { Verdict::Rehearse } else { Verdict::Allow }
}

/// Asked last: people are not asked about what could not run.
fn approval(_: &Rule, situation: &Situation) -> Verdict {
    if situation.mode == Mode::Approve && !situation.approved { Verdict::Rehearse } else { Verdict::Allow }
}

fn breaker(_: &Rule, situation: &Situation) -> Verdict {
    match situation.breaker {
        None => Verdict::Allow,
        Some(why) => Verdict::Deny(Reason::new("breaker", why)),
    }
}

fn cooldown(rule: &Rule, situation: &Situation) -> Verdict {
    let (Some(cooldown), Some((at, what)), 0) = (rule.cooldown, situation.last_effect, situation.attempt) else {
        return Verdict::Allow;
    };
    let until = at + cooldown.signed();
    if until <= situation.now {
        return Verdict::Allow;
    }
    let (ago, left) = (Duration::between(at, situation.now), Duration::between(situation.now, until));
    let text = format!("{what} {ago} ago, {left} of {cooldown} to go");
    Verdict::Hold { until: Some(until), page: Page::Later, reason: Reason::new("cooldown", text) }
}

fn budget(rule: &Rule, situation: &Situation) -> Verdict {
    match rule.budget {
        Some(budget) if situation.attempts_in_window >= budget.count => {
            let made = situation.attempts_in_window;
            let s = if made == 1 { "" } else { "s" };
            let text =
                format!("{made} attempt{s} of rule {} in the last {}, the budget is {budget}", rule.name, budget.per);
            Verdict::Deny(Reason::new("budget", text))
        }
        _ => fleet::budgets(rule, &situation.fleet, situation.now),
    }
}

/// Everything that is looked at before an effect besides the effect itself.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    pub now: Timestamp,
    pub stops: Stops<'a>,
    pub fleet: Fleet<'a>,
    pub effect: &'a Effect,
    pub arbitration: &'a ArbitrationConfig,
    /// What the targets belong to, where that is capped.
    pub companies: &'a [Company],
    /// It was counted already: it goes on after a restart, or is sent again.
    pub counted: bool,
    /// Giving back what was taken is exempt from budgets.
    pub gives_back: bool,
}

/// The guards before an effect that look at everything else that was changed, in order; the first that does not allow decides.
pub fn before_change(rule: Option<&Rule>, change: &Change) -> (&'static str, Verdict) {
    if let stop @ (_, Verdict::Hold { .. }) = stopped(rule, &change.stops, change.now) {
        return stop;
    }
    let rule = match still_there(rule) {
        Ok(rule) => rule,
        Err((guard, reason)) => return (guard, Verdict::Deny(reason)),
    };
    if change.counted {
        return ("all", Verdict::Allow);
    }
    if !change.gives_back
        && let denied @ Verdict::Deny(_) = fleet::budgets(rule, &change.fleet, change.now)
    {
        return ("budget", denied);
    }
    match hands::opposite(change.effect, change.fleet.ledger, change.arbitration, change.now) {
        Verdict::Allow => {}
        verdict => return ("opposite", verdict),
    }
    let capped = change.companies.iter().map(|company| at_once::at_once(company, change.fleet.ledger, change.now));
    if let Some(verdict) = capped.into_iter().find(|verdict| *verdict != Verdict::Allow) {
        return ("at_once", verdict);
    }
    match fleet::brake(&change.fleet, true, change.now) {
        Verdict::Allow => ("all", Verdict::Allow),
        verdict => ("brake", verdict),
    }
}

fn lock(_: &Rule, situation: &Situation) -> Verdict {
    match situation.locked {
        None => Verdict::Allow,
        Some((target, holder)) => Verdict::Hold {
            until: None,
            page: Page::Later,
            reason: Reason::new("lock", format!("{target} is being worked on by incident {holder}")),
        },
    }
}

/// The engine's own bounds, and the rule's, and the labels': the narrowest holds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub replicas_min: u64,
    pub replicas_max: u64,
}

/// The guards before an effect on services, on the resolved intent. `rule` is the one now in force by the run's rule name; a deleted rule denies.
/// `labels` are those the templates of the grant are filled with.
pub fn before_effect(
    rule: Option<&Rule>,
    labels: &Labels,
    bounds: Bounds,
    primitive: &str,
    targets: &[(ServiceIntent, Service)],
) -> Result<(), (&'static str, Reason)> {
    let rule = still_there(rule)?;
    for (intent, service) in targets {
        granted(rule, labels, primitive, &intent.service)?;
        within_bounds(rule, bounds, intent, service).map_err(|reason| ("bounds", reason))?;
    }
    Ok(())
}

fn still_there(rule: Option<&Rule>) -> Result<&Rule, (&'static str, Reason)> {
    rule.ok_or_else(|| ("grant", Reason::new("grant", "its rule is no longer there: a deleted rule allows nothing")))
}

/// The grant alone, for effects that are not on services.
pub fn before_call(
    rule: Option<&Rule>,
    labels: &Labels,
    primitive: &str,
    target: &str,
) -> Result<(), (&'static str, Reason)> {
    granted(still_there(rule)?, labels, primitive, target)
}

fn granted(rule: &Rule, labels: &Labels, primitive: &str, target: &str) -> Result<(), (&'static str, Reason)> {
    let mut of_primitive = rule.allow.iter().filter(|grant| grant.primitive == primitive).peekable();
    if of_primitive.peek().is_none() {
        let text = format!("rule {} does not allow {primitive}; add `- {primitive}: …` to its `allow`", rule.name);
        return Err(("grant", Reason::new("grant", text)));
    }
    let mut patterns = Vec::new();
    for grant in of_primitive {
        if grant.target.names(target, labels) {
            return Ok(());
        }
        patterns.push(grant.target.source.as_str());
    }
    let text = format!("rule {} allows {primitive} on {} only, not on {target:?}", rule.name, patterns.join(", "));
    Err(("grant", Reason::new("grant", text)))
}

fn within_bounds(rule: &Rule, bounds: Bounds, intent: &ServiceIntent, service: &Service) -> Result<(), Reason> {
    let ServiceChange::Scale { from, to } = intent.change else { return Ok(()) };
    let name = &intent.service;
    if service.mode != cluster::Mode::Replicated {
        return Err(Reason::new(
            "bounds",
            format!("{name} is not a replicated service: it has no number of replicas to set"),
        ));
    }
    let mut floors = vec![(bounds.replicas_min, "the configuration's bounds.replicas_min".to_string())];
    let mut ceilings = vec![(bounds.replicas_max, "the configuration's bounds.replicas_max".to_string())];
    if let Some((min, max)) = rule.replicas {
        floors.push((min, format!("rule {}", rule.name)));
        ceilings.push((max, format!("rule {}", rule.name)));
    }
    for (label, into) in [("com.df.scaleMin", &mut floors), ("com.df.scaleMax", &mut ceilings)] {
        // Both places count, and the narrowest holds: the two are set by different people.
        for value in [service.labels.get(label), service.container_labels.get(label)].into_iter().flatten() {
            let bound = value.trim().parse().map_err(|_| {
                Reason::new(
                    "bounds",
                    format!("the label {label}={value:?} of {name} is no number; expected for example 5"),
                )
            })?;
            into.push((bound, format!("the label {label} of {name}")));
        }
    }
    // Only the bound in the direction of travel is asked: scaling a service back into its bounds must stay possible.
    let (floor, whose_floor) = floors.into_iter().max_by_key(|(bound, _)| *bound).expect("at least one");
    let (ceiling, whose_ceiling) = ceilings.into_iter().min_by_key(|(bound, _)| *bound).expect("at least one");
    if to < floor && to < from {
        return Err(Reason::new(
            "bounds",
            format!("{name}: {to} replicas are fewer than {floor}, the least that {whose_floor} allows"),
        ));
    }
    if to > ceiling && to > from {
        return Err(Reason::new(
            "bounds",
            format!("{name}: {to} replicas are more than {ceiling}, the most that {whose_ceiling} allows"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
