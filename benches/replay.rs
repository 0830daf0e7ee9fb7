//! How long it takes to find the next step of a run that has made 1,000: the list of its history, the way to the evaluator's thread and back, and
//! the replay. To reach: at most 2 ms. `cargo bench --bench replay`

use divan::{Bencher, black_box};
use runbookd::model::run::{Handler, Input, Sources};
use runbookd::runbook::evaluate::{Answer, Evaluator, Job, Next, Recorded};
use runbookd::runbook::program::Program;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn main() {
    divan::main();
}

/// Looks and scales in turn, as often as its history goes; then once more.
const RUNBOOK: &str = r#"//! A long run.
fn on_firing(alert, params) {
    for turn in 0..params.turns {
        let web = service(alert.labels.service);
        scale(web.name, web.replicas + 1);
    }
    restart(alert.labels.service);
}
"#;

fn job(steps: usize) -> Job {
    let sources = Sources { name: "long".into(), main: RUNBOOK.into(), modules: BTreeMap::new() };
    let (program, _) = Program::compile(Arc::new(sources)).expect("a runbook");
    let step = |at: usize| -> Recorded {
        let replicas = at / 2 + 2;
        let (primitive, args, value) = match at % 2 {
            0 => ("service", vec![json!("web")], service(replicas)),
            _ => ("scale", vec![json!("web"), json!(replicas + 1)], Value::Null),
        };
        Recorded { primitive: primitive.into(), args, answer: Answer::Value(value) }
    };
    let labels = json!({"alertname": "HighLatency", "service": "web", "severity": "critical"});
    let alert = json!({"labels": labels, "annotations": {}, "alerts": [{"labels": labels, "annotations": {}}]});
    let input = Arc::new(Input { alert, params: json!({"turns": steps / 2}) });
    Job {
        program: Arc::new(program),
        handler: Handler::OnFiring,
        input,
        history: (0..steps).map(|at| Arc::new(step(at))).collect(),
        poll: None,
    }
}

/// What a service looks like to a script.
fn service(replicas: usize) -> Value {
    json!({
        "name": "web", "image": "shop/web:1", "mode": "replicated", "replicas": replicas, "running": replicas, "version": 114,
        "labels": {"com.df.scaleMax": "2000"}, "container_labels": {}, "update": {"state": "none", "message": ""},
    })
}

#[divan::bench(args = [10, 100, 1_000])]
fn next_step(bencher: Bencher, steps: usize) {
    let (evaluator, job) = (Evaluator::pool(1), job(steps));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    bencher.bench_local(|| {
        let evaluation = runtime.block_on(evaluator.evaluate(black_box(&job).clone()));
        assert!(matches!(evaluation.next, Next::Call { primitive: "restart", .. }), "{:?}", evaluation.next);
    });
}
