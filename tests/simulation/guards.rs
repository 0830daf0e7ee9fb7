//! The judge of the guards that look over all rules: how much was changed within a window, how much at once, and what stands against another hand or another
//! rule. It counts what the durable journal intends and what leaves the process, by the time of the play. When exactly an effect was admitted it does not
//! know, only between which two moments: it speaks where every moment in between would have been too much.

use crate::plan::{Fleet, Plan};
use crate::rules::{Part, RuleSpec};
use crate::time::millis;
use runbookd::model::cluster::{Node, NodeChange, Service, ServiceChange};
use runbookd::model::incident::IncidentId;
use runbookd::model::node_group::GroupChange;
use runbookd::model::run::{Handler, Run, RunId};
use runbookd::model::step::{Intent, Step};
use std::collections::{BTreeMap, BTreeSet};

/// For so long everything of [`Fleet`] is counted.
const WINDOW: u64 = 600_000;
/// What was seen when an effect was admitted is no older than this.
const SEEN_BEFORE: u64 = 4_000;
/// What leaves later than this after it was admitted was admitted anew, and that not longer ago than this.
const ADMITTED_FOR: u64 = 15_000;
const COUNTED_FOR: u64 = 11_000;
/// What was changed within this time and is not whole counts as being changed. A little less than the guard says.
const LATELY: u64 = 3_500_000;
/// A change by another hand is noticed within this time, if nothing is in the way.
const NOTICED: u64 = 25_000;
/// A change that is noticed so soon after a step of ours is taken for that step's.
const OURS: u64 = 31_000;

#[derive(Default)]
pub struct Guards {
    fleet: Fleet,
    rules: Vec<RuleSpec>,
    /// Since when each step counts.
    known: BTreeMap<(RunId, u32), u64>,
    effects: Vec<Effect>,
    /// When each service and node was changed last, by whomever.
    moved: BTreeMap<String, u64>,
    /// What another hand changed, and when.
    hands: Vec<(String, u64)>,
}

#[derive(Clone)]
pub struct Effect {
    run: RunId,
    seq: u32,
    incident: IncidentId,
    rule: String,
    /// It was admitted for the first time not before this.
    first: u64,
    /// And last not before and not after this.
    from: u64,
    to: u64,
    /// It left last then, if it did.
    left: u64,
    /// Giving back is exempt from budgets.
    gives_back: bool,
    undo: bool,
    targets: Vec<String>,
    up: Option<bool>,
}

/// What is in the cluster as something leaves.
pub struct Around {
    pub services: Vec<Service>,
    pub nodes: Vec<Node>,
}

impl Effect {
    fn of(run: &Run, step: &Step, since: u64) -> Option<Effect> {
        let intent = step.intent.as_ref()?;
        let way = |from: u64, to: u64| (from != to).then_some(to > from);
        let (targets, up) = match intent {
            Intent::Services(all) => {
                let up = match all.first()?.change {
                    ServiceChange::Scale { from, to } => way(from, to),
                    _ => None,
                };
                (all.iter().map(|one| format!("service {}", one.service)).collect(), up)
            }
            Intent::Node(node) => (vec![format!("node {}", node.node)], None),
            Intent::Group(group) => {
                let up = match group.change {
                    GroupChange::Resize { from, to } => way(from, to),
                    GroupChange::Terminate { .. } => Some(false),
                };
                (vec![format!("group {}", group.group)], up)
            }
            Intent::Reload { target, .. } => (vec![format!("reload {target}")], None),
            Intent::Post { target, .. } => (vec![format!("post {target}")], None),
            Intent::Job(job) => (vec![format!("job {}", job.image)], None),
            Intent::Silence(_) => (vec!["silences".to_string()], None),
            Intent::Message { .. } | Intent::Until { .. } => return None,
        };
        Some(Effect {
            run: run.id,
            seq: step.seq,
            incident: run.incident,
            rule: run.rule.clone(),
            first: since,
            from: since,
            to: millis(),
            left: millis(),
            gives_back: run.handler == Handler::OnResolved,
            undo: run.undoes.is_some(),
            targets,
            up,
        })
    }

    fn name(&self) -> String {
        format!("step {} of run {} on {}", self.seq, self.run, self.targets.join(", "))
    }
}

impl Guards {
    pub fn new(plan: &Plan) -> Self {
        Guards { fleet: plan.fleet.clone(), rules: plan.rules.clone(), ..Guards::default() }
    }

    /// As the rule was made: what is never edited of it.
    fn rule(&self, name: &str) -> Option<&RuleSpec> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// An intent is durable: it counts from now on, whatever becomes of it; and anew when it leaves long after that. It was admitted since `since`; a person
    /// released the brake last at `released`. What it breaks, if the clock can be trusted.
    pub fn intended(&mut self, run: &Run, step: &Step, since: u64, released: u64) -> Option<String> {
        self.known.insert((run.id, step.seq), millis());
        let mut effect = Effect::of(run, step, since)?;
        if let Some(known) = self.effects.iter().position(|known| (known.run, known.seq) == (run.id, step.seq)) {
            effect.first = self.effects.remove(known).first;
            effect.from = since.min(millis().saturating_sub(COUNTED_FOR));
        }
        let broken = self.budgets(&effect).or_else(|| self.brake(&effect, released)).or_else(|| self.opposite(&effect));
        self.effects.push(effect);
        broken
    }

    pub fn knows(&self, step: &Step) -> bool {
        self.known.contains_key(&(step.run, step.seq))
    }

    /// It leaves once more.
    pub fn leaves(&mut self, step: &Step) {
        if let Some(known) = self.effects.iter_mut().find(|known| (known.run, known.seq) == (step.run, step.seq)) {
            known.left = millis();
        }
    }

    /// It leaves: was it admitted just before?
    pub fn is_new(&self, step: &Step) -> bool {
        self.known.get(&(step.run, step.seq)).is_none_or(|at| millis() > at + ADMITTED_FOR)
    }

    /// A process begins: from the journal it counts what was not denied and not so already.
    pub fn recount(&mut self, counts: impl Fn(RunId, u32) -> bool) {
        self.effects.retain(|effect| counts(effect.run, effect.seq));
    }

    /// Of the others within the window before `effect` those that it must have been counted with. `alike`: it is under the same limit, so that whichever of the
    /// two came later must have been.
    fn within<'a>(
        &'a self,
        effect: &'a Effect,
        window: u64,
        alike: impl Fn(&Effect) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Effect> {
        let within = move |other: &&Effect| effect.to < other.from + window;
        self.effects.iter().filter(within).filter(move |other| alike(other) || other.to <= effect.from)
    }

    fn budgets(&self, effect: &Effect) -> Option<String> {
        if effect.gives_back {
            return None;
        }
        let too_many = |made: usize, count: u32, of: &str| {
            let text =
                format!("{} is effect {} within the window, the budget {of} is {count}", effect.name(), made + 1);
            (made >= count as usize).then_some(text)
        };
        let of_config = |other: &Effect| !other.gives_back;
        if let Some(count) = self.fleet.engine
            && let Some(text) = too_many(self.within(effect, WINDOW, of_config).count(), count, "of the engine")
        {
            return Some(text);
        }
        let budget = self.rule(&effect.rule).and_then(|rule| rule.target_budget).filter(|_| !effect.undo);
        for target in &effect.targets {
            let on = |other: &&Effect| other.targets.contains(target);
            if let Some(count) = self.fleet.target
                && let Some(text) =
                    too_many(self.within(effect, WINDOW, of_config).filter(on).count(), count, "of a target")
            {
                return Some(text);
            }
            let of_rule = |other: &Effect| other.rule == effect.rule && !other.gives_back && !other.undo;
            if let Some((count, secs)) = budget
                && let Some(text) =
                    too_many(self.within(effect, secs * 1_000, of_rule).filter(on).count(), count, "of its rule")
            {
                return Some(text);
            }
        }
        None
    }

    fn brake(&self, effect: &Effect, released: u64) -> Option<String> {
        let all = || self.within(effect, WINDOW, |_| true).filter(|other| other.from >= released);
        if let Some(limit) = self.fleet.brake_effects
            && all().count() >= limit as usize
        {
            return Some(format!(
                "{} is effect {}, brake.effects is {limit}, and nobody has released it",
                effect.name(),
                all().count() + 1
            ));
        }
        let limit = self.fleet.brake_targets?;
        let targets: BTreeSet<&String> = all().flat_map(|other| &other.targets).chain(&effect.targets).collect();
        let text = || format!("{}: {targets:?} are changed, brake.targets is {limit}", effect.name());
        (targets.len() > limit as usize).then(text)
    }

    fn opposite(&self, effect: &Effect) -> Option<String> {
        let (up, window) = (effect.up?, self.fleet.opposite_secs? * 1_000);
        let against = |other: &&Effect| {
            other.rule != effect.rule
                && other.up == Some(!up)
                && other.targets.iter().any(|it| effect.targets.contains(it))
        };
        let other = self.within(effect, window, |_| true).find(against)?;
        Some(format!(
            "{} of rule {} is the opposite of {} of rule {}",
            effect.name(),
            effect.rule,
            other.name(),
            other.rule
        ))
    }

    /// Somebody changes a service or a node.
    pub fn moved(&mut self, target: String) {
        self.moved.insert(target, millis());
    }

    fn has_rested(&self, target: &str, effect: &Effect) -> bool {
        self.moved.get(target).is_none_or(|at| at + SEEN_BEFORE < effect.from)
    }

    /// An effect that was just counted leaves: is it too much at once? `works`: is a run of another incident at work on a target, or verified?
    pub fn at_once(&self, step: &Step, around: &Around, works: impl Fn(&str, IncidentId) -> bool) -> Option<String> {
        let effect = self.effects.last().filter(|effect| (effect.run, effect.seq) == (step.run, step.seq))?;
        match step.intent.as_ref()? {
            Intent::Services(_) => self.services_at_once(effect, around, works),
            Intent::Node(node) => match &node.change {
                NodeChange::Remove => self.nodes_at_once(effect, &node.node, around),
                NodeChange::Availability { to, .. } if to == "drain" => self.nodes_at_once(effect, &node.node, around),
                _ => None,
            },
            Intent::Group(group) => match &group.change {
                GroupChange::Terminate { node, .. } => self.nodes_at_once(effect, node, around),
                GroupChange::Resize { .. } => None,
            },
            _ => None,
        }
    }

    fn services_at_once(
        &self,
        effect: &Effect,
        around: &Around,
        works: impl Fn(&str, IncidentId) -> bool,
    ) -> Option<String> {
        let stack_of =
            |service: &Service| service.labels.get("com.docker.stack.namespace").unwrap_or_default().to_string();
        let asked = |service: &&Service| effect.targets.contains(&format!("service {}", service.name));
        let mut stacks: BTreeMap<String, Vec<&Service>> = BTreeMap::new();
        for service in around.services.iter().filter(asked) {
            stacks.entry(stack_of(service)).or_default().push(service);
        }
        for (stack, asked) in stacks {
            let members: Vec<&Service> = around.services.iter().filter(|one| stack_of(one) == stack).collect();
            let label = |service: &&Service| service.labels.get("runbookd.at_once")?.parse().ok().map(Part::Count);
            let of_rule = self.rule(&effect.rule).filter(|_| !effect.undo).and_then(|rule| rule.services_at_once);
            let caps = self.fleet.services_at_once.into_iter().chain(of_rule).chain(asked.iter().filter_map(label));
            let Some(cap) = caps.map(|cap| cap.of(members.len())).min() else { continue };
            let busy = |service: &&&Service| {
                let target = format!("service {}", service.name);
                if asked.iter().any(|one| one.name == service.name) {
                    return false;
                }
                let ours = self.effects.iter().filter(|other| other.targets.contains(&target));
                let before = || ours.clone().filter(|other| other.to <= effect.from);
                let worked_on =
                    before().any(|other| other.incident != effect.incident && works(&target, other.incident));
                let lately = before().any(|other| effect.to < other.from + LATELY);
                let rests = self.has_rested(&target, effect);
                let whole = service.running >= service.replicas;
                worked_on || (rests && (service.update.in_progress() || (lately && !whole)))
            };
            let others: Vec<&str> = members.iter().filter(busy).map(|one| one.name.as_str()).collect();
            if asked.len() + others.len() > cap {
                return Some(format!(
                    "{}: {} of {} services of the stack {stack:?} may be changed at once, and {others:?} are being changed",
                    effect.name(),
                    cap,
                    members.len()
                ));
            }
        }
        None
    }

    fn nodes_at_once(&self, effect: &Effect, asked: &str, around: &Around) -> Option<String> {
        let of_rule = self.rule(&effect.rule).filter(|_| !effect.undo).and_then(|rule| rule.nodes_at_once);
        let cap = self.fleet.nodes_at_once.into_iter().chain(of_rule).min()? as usize;
        let out = |node: &&Node| {
            let idle = node.role == "worker" && node.availability != "active";
            node.name != asked
                && (node.state != "ready" || idle)
                && self.has_rested(&format!("node {}", node.name), effect)
        };
        let others: Vec<&str> = around.nodes.iter().filter(out).map(|node| node.name.as_str()).collect();
        let text = || format!("{}: {cap} nodes may be out of work at once, and {others:?} are", effect.name());
        (others.len() + 1 > cap).then(text)
    }

    /// Another hand has changed a service, so that it is another now.
    pub fn hand(&mut self, service: &str) {
        self.hands.push((service.to_string(), millis()));
    }

    /// Was a service, which every rule in force then names literally, changed by another hand just before its run began? `quiet`: between these two moments
    /// nothing was in the way of noticing that.
    pub fn left_alone(&self, service: &str, began: u64, quiet: impl Fn(u64, u64) -> bool) -> Option<String> {
        let window = self.fleet.hands_secs? * 1_000;
        let (_, at) = self.hands.iter().rfind(|(of, at)| of == service && at + NOTICED <= began)?;
        let target = format!("service {service}");
        let near =
            |other: &&Effect| other.targets.contains(&target) && other.left + OURS > *at && other.first < at + NOTICED;
        let ours = self.effects.iter().find(near);
        let another = self
            .hands
            .iter()
            .any(|(of, other)| of == service && other != at && other + 2 * NOTICED > *at && *other <= began);
        if began >= at + window || ours.is_some() || another || !quiet(*at, began) {
            return None;
        }
        Some(format!("its run began {} s after another hand had changed {service}", (began - at) / 1_000))
    }
}
