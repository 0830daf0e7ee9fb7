//! Runbooks against random histories: the same history gives the same next step, and a script that was recorded is met again where it was.

use super::*;
use crate::model::step::EffectClass;
use crate::runbook::primitives;
use proptest::prelude::*;
use serde_json::json;
use std::path::Path;
use std::sync::LazyLock;

/// Every runbook that is shipped or that the simulation runs, with each of its handlers that has a history.
static HANDLERS: LazyLock<Vec<(Arc<Program>, Handler)>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for (name, main) in ["runbooks", "tests/simulation/runbooks"].into_iter().flat_map(texts) {
        let modules =
            texts("runbooks/lib").into_iter().map(|(name, text)| (format!("lib/{name}.rhai"), text)).collect();
        let sources = crate::model::run::Sources { name: name.clone(), main, modules };
        let (program, _) = Program::compile(Arc::new(sources)).map_err(|found| found[0].to_string()).expect(&name);
        let program = Arc::new(program);
        let handlers = program.handlers.iter().filter(|handler| **handler != Handler::Verify);
        all.extend(handlers.map(|handler| (program.clone(), *handler)));
    }
    all
});

static POOL: LazyLock<Evaluator> = LazyLock::new(|| Evaluator::pool(2));

/// The runbooks of a folder with their names.
fn texts(folder: &str) -> Vec<(String, Arc<str>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries =
        std::fs::read_dir(&folder).expect("a folder of runbooks").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = entries.filter(|path| path.is_file()).collect();
    paths.sort();
    let name = |path: &Path| path.file_stem().expect("a name").to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).expect("a runbook").into())).collect()
}

/// What becomes of a call that the history lacks.
#[derive(Clone, Copy, Debug)]
enum Course {
    /// It returns what the primitive may well return; the number varies it.
    Likely(u64),
    /// It returns something, of whatever type.
    Unlikely(u64),
    /// It throws an error of this kind.
    Throws(usize),
    /// If it is a wait: it has no answer yet, and is polled so often.
    Waits(usize),
    /// The history is found to hold another call.
    Diverges,
}

fn course() -> impl Strategy<Value = Course> {
    prop_oneof![
        16 => (0..6u64).prop_map(Course::Likely),
        2 => (0..8u64).prop_map(Course::Unlikely),
        2 => (0..StepError::KINDS.len()).prop_map(Course::Throws),
        4 => (0..4usize).prop_map(Course::Waits),
        1 => Just(Course::Diverges),
    ]
}

fn likely(primitive: &str, n: u64) -> Value {
    let service = json!({
        "name": "web", "mode": "replicated", "image": "shop/web:2", "replicas": n, "running": n, "update": "none",
        "labels": { "com.df.scaleMax": "6", "com.df.scaleMin": "1" }, "container_labels": {}, "update_message": "",
        "template_hash": "b", "previous_template_hash": "a", "version": 7,
    });
    let node = |at: u64| {
        json!({
            "name": format!("node{at}"), "role": if at == 0 { "manager" } else { "worker" }, "availability": "active",
            "state": if at == n { "down" } else { "ready" }, "address": "10.0.0.1", "labels": {}, "running": at,
            "instance": format!("i-{at}"),
        })
    };
    match primitive {
        "service" => service,
        "services" => json!([service]),
        "tasks" => {
            json!([{ "id": "t1", "slot": 1, "node": "node1", "state": "running", "desired": "running", "error": "" }])
        }
        "nodes" => (0..=n).map(node).collect(),
        "node_group" => json!({
            "name": "workers", "desired": n, "min": 1, "max": 5,
            "instances": [{ "id": "i-1", "node": "node1", "state": "in_service" }],
        }),
        "promql" => json!([{ "labels": { "service": "web" }, "value": n }]),
        "alerts" => json!([{ "labels": { "alertname": "HighLatency", "service": "web" }, "annotations": {} }]),
        "job" => json!({ "exit_code": n / 3, "error": "", "log": "" }),
        "ask" => json!(if n < 3 { "yes" } else { "no" }),
        "now" => json!(1_767_225_600 + n),
        "wait_until" => json!(true),
        "add_node" => json!(n),
        _ => Value::Null,
    }
}

fn unlikely(n: u64) -> Value {
    let all =
        [json!(null), json!(-1), json!(0.1), json!("no"), json!([]), json!({ "name": 7 }), json!([[{}]]), json!(true)];
    all[usize::try_from(n).expect("a small number") % all.len()].clone()
}

fn error(kind: usize) -> StepError {
    let (kind, what) = StepError::KINDS[kind];
    if kind == "denied" { StepError::denied(what) } else { StepError::new(kind, what) }
}

/// Evaluates a job twice on the spot and once on the pool. `None`: the machine is too busy, which is no part of what is evaluated.
fn evaluated(job: &Job) -> Option<Evaluation> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let inline = || runtime.block_on(Evaluator::inline().evaluate(job.clone()));
    let all = [inline(), inline(), runtime.block_on(POOL.evaluate(job.clone()))];
    let busy = |one: &Evaluation| matches!(&one.next, Next::Failed(it) if it.kind == FailureKind::Resources);
    if all.iter().any(busy) {
        return None;
    }
    let [first, again, on_the_pool] = all;
    assert_eq!(first, again, "{} with {:?}", job.program.name, job.history);
    assert_eq!(first, on_the_pool, "{} on the pool, with {:?}", job.program.name, job.history);
    Some(first)
}

/// Polls the wait at the end of the history: each look is asked what it reads, up to so many times.
fn poll(job: &Job, looks: usize) {
    let mut seen = Vec::new();
    for look in 0..=looks {
        let Some(evaluation) = evaluated(&Job { poll: Some(seen.clone()), ..job.clone() }) else { return };
        match evaluation.next {
            Next::Read { primitive, args } => {
                let n = u64::try_from(look).expect("a small number");
                let answer = if look == 3 { Err(error(look)) } else { Ok(likely(primitive, n)) };
                seen.push(Observation { primitive: primitive.into(), args, answer });
            }
            Next::Polled(_) | Next::Waiting | Next::Failed(_) => return,
            other => panic!("{}: a poll came to {other:?}", job.program.name),
        }
    }
}

/// Lets a handler take a course.
fn take(mut job: Job, courses: Vec<Course>) {
    for course in courses {
        let Some(evaluation) = evaluated(&job) else { return };
        let Next::Call { primitive, args, .. } = evaluation.next else {
            // Whatever it is, it is not that the script did something else than what was recorded of it.
            assert!(
                !matches!(evaluation.next, Next::Diverged { .. } | Next::Waiting),
                "{:?} after {:?}",
                evaluation.next,
                job.history
            );
            return;
        };
        let seq = job.history.len();
        let waits = primitives::find(primitive).is_some_and(|it| it.class == EffectClass::Wait);
        let mut with = |args: &[Value], answer: Answer| {
            job.history.truncate(seq);
            job.history.push(Arc::new(Recorded { primitive: primitive.into(), args: args.to_vec(), answer }));
            job.clone()
        };
        match course {
            Course::Likely(n) => drop(with(&args, Answer::Value(likely(primitive, n)))),
            Course::Unlikely(n) => drop(with(&args, Answer::Value(unlikely(n)))),
            Course::Throws(kind) => drop(with(&args, Answer::Error(error(kind)))),
            Course::Waits(looks) => {
                if waits {
                    let waiting = with(&args, Answer::Waiting);
                    let Some(evaluation) = evaluated(&waiting) else { return };
                    assert_eq!(evaluation.next, Next::Waiting, "{}: {primitive}", job.program.name);
                    poll(&waiting, looks);
                }
                with(&args, Answer::Value(likely(primitive, 2)));
            }
            Course::Diverges => {
                let other = with(&[json!("another call")], Answer::Value(Value::Null));
                let Some(evaluation) = evaluated(&other) else { return };
                let at = matches!(evaluation.next, Next::Diverged { seq: at, .. } if at as usize == seq);
                assert!(at, "{}: {:?} instead of diverging at {seq}", job.program.name, evaluation.next);
                with(&args, Answer::Value(likely(primitive, 1)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_same_history_gives_the_same_next_step(
        which in any::<prop::sample::Index>(),
        courses in prop::collection::vec(course(), 0..16),
        step in 0..4u64,
    ) {
        let (program, handler) = which.get(&HANDLERS).clone();
        let labels = json!({
            "alertname": "HighLatency", "service": "web", "node": "node1", "group": "workers", "event": "image_pushed",
            "image": "shop/web:3", "repository": "shop/web", "tag": "3",
        });
        let alert = json!({ "labels": labels, "annotations": {}, "alerts": [{ "labels": labels, "annotations": {} }], "on": "deploy" });
        let mut params: serde_json::Map<String, Value> = program.defaults.clone().into_iter().collect();
        if params.contains_key("step") {
            params.insert("step".to_string(), step.into());
        }
        let input = Arc::new(Input { alert, params: params.into() });
        let job = Job { program, handler, input, history: Vec::new(), poll: None };
        // One thread for all of it.
        sandbox::on_deep_stack(|| take(job, courses));
    }
}
