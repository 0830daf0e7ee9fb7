//! Guards never allow what a stricter configuration denies: on random rules, limits and situations, each limit made stricter or left as it is.

use proptest::prelude::*;
use runbookd::config::{ArbitrationConfig, BrakeConfig, FreezeConfig};
use runbookd::engine::guard::{
    Bounds, Change, Company, Firing, Fleet, Freezes, Hand, Member, Situation, Stops, Updating, Verdict, before_change,
    before_effect, before_run,
};
use runbookd::engine::ledger::Ledger;
use runbookd::model::cluster::{Limits, Mode, Service, ServiceChange, ServiceIntent, UpdateState};
use runbookd::model::duration::Duration;
use runbookd::model::effect::{Effect, Way};
use runbookd::model::freeze::Window;
use runbookd::model::incident::IncidentId;
use runbookd::model::label::Labels;
use runbookd::model::rule::{Budget, Grant, Rule, Share};
use runbookd::model::run::RunId;
use runbookd::model::template::Template;
use std::collections::BTreeMap;

/// The instant at which everything is asked, in seconds.
const NOW: i64 = 1_767_225_600;
const SERVICES: [&str; 4] = ["a", "b", "c", "d"];

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(NOW + second).expect("an instant")
}

/// Everything that people can set.
#[derive(Clone, Debug)]
struct Settings {
    paused: bool,
    braked: bool,
    frozen: bool,
    /// Its mode is `approve`.
    asks: bool,
    breaker: bool,
    cooldown: Option<u64>,
    budget: Option<Budget>,
    target_budget: Option<Budget>,
    target: Option<Budget>,
    engine: Option<Budget>,
    brake_targets: Option<Budget>,
    brake_effects: Option<Budget>,
    hands: Option<u64>,
    opposite: Option<u64>,
    at_once: Option<u32>,
    percent: Option<u32>,
    of_rule: Option<(u64, u64)>,
    of_config: (u64, u64),
    label_max: Option<u64>,
    granted: [bool; 4],
}

/// How each setting is made stricter: `None` leaves it.
#[derive(Clone, Debug)]
struct Stricter {
    stop: [bool; 5],
    cooldown: Option<u64>,
    budgets: [Option<Budget>; 6],
    hands: [Option<u64>; 2],
    at_once: Option<u32>,
    percent: Option<u32>,
    replicas: Option<(u64, u64)>,
    label_max: Option<u64>,
    withdrawn: [bool; 4],
}

fn budget() -> impl Strategy<Value = Option<Budget>> {
    proptest::option::of(
        (1u32..6, 1u64..40).prop_map(|(count, minutes)| Budget { count, per: Duration::from_secs(minutes * 60) }),
    )
}

fn settings() -> impl Strategy<Value = Settings> {
    let stops = [(); 5].map(|()| prop::bool::weighted(0.1));
    let budgets = (budget(), budget(), budget(), budget(), budget(), budget());
    let shares = (proptest::option::of(1u32..5), proptest::option::of(1u32..=100));
    let range = || (0u64..6, 4u64..12);
    let replicas = (proptest::option::of(range()), range(), proptest::option::of(0u64..12), any::<[bool; 4]>());
    let times = [(); 3].map(|()| proptest::option::of(0u64..2_000));
    (stops, times, budgets, shares, replicas).prop_map(
        |(
            [paused, braked, frozen, asks, breaker],
            [cooldown, hands, opposite],
            budgets,
            (at_once, percent),
            (of_rule, of_config, label_max, granted),
        )| {
            let (budget, target_budget, target, engine, brake_targets, brake_effects) = budgets;
            Settings {
                paused,
                braked,
                frozen,
                asks,
                breaker,
                cooldown,
                budget,
                target_budget,
                target,
                engine,
                brake_targets,
                brake_effects,
                hands,
                opposite,
                at_once,
                percent,
                of_rule,
                of_config,
                label_max,
                granted,
            }
        },
    )
}

fn stricter() -> impl Strategy<Value = Stricter> {
    let budgets = [budget(), budget(), budget(), budget(), budget(), budget()];
    let shares = (proptest::option::of(1u32..5), proptest::option::of(1u32..=100));
    let replicas = (proptest::option::of((0u64..6, 4u64..12)), proptest::option::of(0u64..12));
    let stop = [(); 5].map(|()| prop::bool::weighted(0.1));
    let times = [(); 3].map(|()| proptest::option::of(0u64..2_000));
    (stop, times, budgets, shares, replicas, any::<[bool; 4]>()).prop_map(
        |(stop, [cooldown, hands, opposite], budgets, (at_once, percent), (replicas, label_max), withdrawn)| Stricter {
            stop,
            cooldown,
            budgets,
            hands: [hands, opposite],
            at_once,
            percent,
            replicas,
            label_max,
            withdrawn,
        },
    )
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Fewer in a longer time.
fn tighter(one: Option<Budget>, other: Option<Budget>) -> Option<Budget> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Budget { count: one.count.min(other.count), per: one.per.max(other.per) }),
        (one, other) => one.or(other),
    }
}

impl Settings {
    fn tightened(&self, by: &Stricter) -> Settings {
        let range =
            |(min, max): (u64, u64)| by.replicas.map_or((min, max), |(low, high)| (min.max(low), max.min(high)));
        Settings {
            paused: self.paused || by.stop[0],
            braked: self.braked || by.stop[1],
            frozen: self.frozen || by.stop[2],
            asks: self.asks || by.stop[3],
            breaker: self.breaker || by.stop[4],
            cooldown: self.cooldown.max(by.cooldown),
            budget: tighter(self.budget, by.budgets[0]),
            target_budget: tighter(self.target_budget, by.budgets[1]),
            target: tighter(self.target, by.budgets[2]),
            engine: tighter(self.engine, by.budgets[3]),
            brake_targets: tighter(self.brake_targets, by.budgets[4]),
            brake_effects: tighter(self.brake_effects, by.budgets[5]),
            hands: self.hands.max(by.hands[0]),
            opposite: self.opposite.max(by.hands[1]),
            at_once: least(self.at_once, by.at_once),
            percent: least(self.percent, by.percent),
            of_rule: self.of_rule.map(range).or(by.replicas),
            of_config: range(self.of_config),
            label_max: least(self.label_max, by.label_max),
            granted: std::array::from_fn(|n| self.granted[n] && !by.withdrawn[n]),
        }
    }

    fn rule(&self) -> Rule {
        let granted = SERVICES.iter().zip(self.granted).filter(|(_, granted)| *granted);
        let grant = |service: &str| Grant {
            primitive: "scale".into(),
            target: Template::parse(service).expect("a name is a template"),
        };
        Rule {
            allow: granted.map(|(service, _)| grant(service)).collect(),
            cooldown: self.cooldown.map(Duration::from_secs),
            budget: self.budget,
            target_budget: self.target_budget,
            replicas: self.of_rule,
            ..Rule::matching("r", Vec::new())
        }
    }
}

/// What was and is, and what is asked.
#[derive(Clone, Debug)]
struct World {
    /// Seconds ago, on which service, by which rule, and which way.
    effects: Vec<(i64, usize, bool, Option<bool>)>,
    /// Seconds ago.
    hand: Option<i64>,
    updating: bool,
    /// Attempts of the rule, seconds ago.
    attempts: Vec<i64>,
    released: i64,
    attempt: u32,
    locked: bool,
    firing: Firing,
    asked: usize,
    busy: [bool; 4],
    from: u64,
    to: u64,
    gives_back: bool,
    counted: bool,
}

fn world() -> impl Strategy<Value = World> {
    let past = (
        prop::collection::vec((1i64..2_500, 0usize..4, any::<bool>(), any::<Option<bool>>()), 0..8),
        prop::collection::vec(1i64..2_500, 0..6),
        prop_oneof![Just(100_000i64), 1i64..2_500],
        (proptest::option::of(1i64..2_500), prop::bool::weighted(0.1)),
    );
    let firing = (0usize..3, 0usize..2, 0usize..2).prop_map(|(confirmed, unconfirmed, suppressed)| Firing {
        confirmed,
        unconfirmed,
        suppressed,
    });
    let now = (0u32..2, prop::bool::weighted(0.1), firing, 0usize..4, any::<[bool; 4]>());
    let change = (0u64..12, 0u64..12, prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (past, now, change).prop_map(
        |(
            (effects, attempts, released, (hand, updating)),
            (attempt, locked, firing, asked, busy),
            (from, to, gives_back, counted),
        )| {
            World {
                effects,
                hand,
                updating,
                attempts,
                released,
                attempt,
                locked,
                firing,
                asked,
                busy,
                from,
                to,
                gives_back,
                counted,
            }
        },
    )
}

/// Which of the three allow it: the guards before the run, before the change, before the effect.
fn asked(settings: &Settings, world: &World) -> [bool; 3] {
    let rule = settings.rule();
    let mut past = world.effects.clone();
    past.sort_by_key(|(ago, ..)| std::cmp::Reverse(*ago));
    let way = |up: bool| if up { Way::Up } else { Way::Down };
    let effect = |ago: i64, rule: &str, run: u64, service: usize, up: Option<bool>| Effect {
        at: at(-ago),
        rule: rule.into(),
        incident: IncidentId(run),
        run: RunId(run),
        seq: 0,
        targets: vec![format!("service {}", SERVICES[service])],
        way: up.map(way),
    };
    let mut ledger = Ledger::default();
    for (run, (ago, service, own, up)) in (1..).zip(past) {
        ledger.note(&effect(ago, if own { "r" } else { "other" }, run, service, up));
    }
    let frozen = FreezeConfig {
        when: vec![Window::parse("2025-12-31 00:00 - 2026-01-02 00:00").expect("a window")],
        reason: "for the test".into(),
        rules: Vec::new(),
        tags: Vec::new(),
    };
    let configured: BTreeMap<String, FreezeConfig> =
        settings.frozen.then(|| ("f".to_string(), frozen)).into_iter().collect();
    let stops = Stops {
        paused: settings.paused.then(|| "by ann".to_string()),
        freezes: Freezes { configured: &configured, one_off: &[] },
        braked: settings.braked.then_some("why"),
    };
    let brake = BrakeConfig { targets: settings.brake_targets, effects: settings.brake_effects };
    let name = SERVICES[world.asked];
    let targets = [format!("service {name}")];
    let fleet = Fleet {
        ledger: &ledger,
        target: settings.target,
        engine: settings.engine,
        brake: &brake,
        released_at: at(-world.released),
        targets: &targets,
    };
    let arbitration = ArbitrationConfig {
        hands: settings.hands.map(Duration::from_secs),
        opposite: settings.opposite.map(Duration::from_secs),
    };
    let hand = world.hand.map(|ago| Hand { service: name.into(), at: at(-ago), changed: "image".into() });
    let asks = effect(0, "r", 99, world.asked, (world.to != world.from).then_some(world.to > world.from));
    let window = rule.budget.map_or(0, |budget| i64::try_from(budget.per.millis / 1_000).expect("minutes"));
    let situation = Situation {
        now: at(0),
        stops: stops.clone(),
        firing: world.firing,
        mode: if settings.asks { runbookd::model::mode::Mode::Approve } else { runbookd::model::mode::Mode::Auto },
        approved: false,
        breaker: settings.breaker.then_some("why"),
        attempt: world.attempt,
        last_effect: world.effects.iter().map(|(ago, ..)| at(-ago)).max().map(|at| (at, "scaled")),
        attempts_in_window: u32::try_from(world.attempts.iter().filter(|ago| **ago < window).count()).expect("few"),
        fleet,
        locked: world.locked.then_some(("service x", IncidentId(9))),
        updating: if world.updating { Updating::Service("x") } else { Updating::None },
        hand: hand.as_ref(),
        arbitration: &arbitration,
    };
    let member = |(n, name): (usize, &&str)| Member {
        name: name.to_string(),
        target: format!("service {name}"),
        asked: n == world.asked,
        busy: world.busy[n],
        whole: true,
        held: false,
    };
    let shares = [settings.at_once.map(Share::Count), settings.percent.map(Share::Percent)];
    let company = Company {
        what: "services of the stack s".into(),
        members: SERVICES.iter().enumerate().map(member).collect(),
        caps: shares.into_iter().flatten().map(|share| (share, "x".to_string())).collect(),
    };
    let change = Change {
        now: at(0),
        stops,
        fleet,
        effect: &asks,
        arbitration: &arbitration,
        companies: &[company],
        counted: world.counted,
        gives_back: world.gives_back,
    };
    let service = service(name, world.from, settings.label_max);
    let scale = ServiceChange::Scale { from: world.from, to: world.to };
    let intent = ServiceIntent { service: name.into(), id: name.into(), version: 1, change: scale };
    let bounds = Bounds { replicas_min: settings.of_config.0, replicas_max: settings.of_config.1 };
    [
        before_run(&rule, &situation).1 == Verdict::Allow,
        before_change(Some(&rule), &change).1 == Verdict::Allow,
        before_effect(Some(&rule), &Labels::default(), bounds, "scale", &[(intent, service)]).is_ok(),
    ]
}

fn service(name: &str, replicas: u64, label_max: Option<u64>) -> Service {
    Service {
        id: name.into(),
        name: name.into(),
        version: 1,
        image: "shop/web:1".into(),
        mode: Mode::Replicated,
        replicas,
        running: replicas,
        labels: label_max.map(|max| ("com.df.scaleMax".to_string(), max.to_string())).into_iter().collect(),
        container_labels: Labels::default(),
        env: BTreeMap::new(),
        limits: Limits::default(),
        force_update: 0,
        update: UpdateState::None,
        update_message: String::new(),
        template_hash: String::new(),
        previous_template_hash: None,
        ports: Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]
    #[test]
    fn what_a_stricter_configuration_allows_the_laxer_one_allows(lax in settings(), by in stricter(), world in world()) {
        let strict = lax.tightened(&by);
        let (allowed, allows) = (asked(&strict, &world), asked(&lax, &world));
        for (n, guards) in ["before a run", "before a change", "before an effect"].iter().enumerate() {
            prop_assert!(!allowed[n] || allows[n], "{} the stricter allow and the laxer do not: {:?}", guards, strict);
        }
    }
}

/// A property that holds because nothing is ever allowed, or denied, would say nothing.
#[test]
fn random_settings_allow_some_and_deny_some() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut allowed, mut narrowed, cases) = ([0; 3], [0; 3], 2_000);
    for _ in 0..cases {
        let mut draw = |strategy: BoxedStrategy<(Settings, Stricter, World)>| {
            strategy.new_tree(&mut runner).expect("a value").current()
        };
        let (lax, by, world) = draw((settings(), stricter(), world()).boxed());
        let (before, after) = (asked(&lax, &world), asked(&lax.tightened(&by), &world));
        for n in 0..3 {
            allowed[n] += u32::from(before[n]);
            narrowed[n] += u32::from(before[n] && !after[n]);
        }
    }
    for n in 0..3 {
        assert!(allowed[n] > 50 && allowed[n] < cases - 50, "of {cases}: {allowed:?}");
        assert!(narrowed[n] > 20, "of {cases}: {narrowed:?}");
    }
}
