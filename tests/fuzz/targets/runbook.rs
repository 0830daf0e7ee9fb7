//! A runbook: compiled, checked, and evaluated with nothing recorded yet, in bounded time and memory, to the same next step each time.

use futures_util::FutureExt;
use runbookd::model::run::{Input, Sources};
use runbookd::runbook::budget;
use runbookd::runbook::evaluate::{Evaluator, Failure, FailureKind, Job, Next};
use runbookd::runbook::program::Program;
use runbookd::runbook::sandbox::TIME_LIMIT;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// What a runbook may import.
const MODULES: [(&str, &str); 3] = [
    ("lib/images.rhai", include_str!("../../../runbooks/lib/images.rhai")),
    ("lib/nodes.rhai", include_str!("../../../runbooks/lib/nodes.rhai")),
    ("lib/services.rhai", include_str!("../../../runbooks/lib/services.rhai")),
];

/// The limit is looked at between operations, and one operation can at most copy what is there.
const MOST_BYTES: usize = 3 * budget::MEMORY_LIMIT_BYTES;

pub fn run(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let modules = MODULES.map(|(path, text)| (path.to_string(), Arc::from(text))).into();
    let sources = Sources { name: "fuzz".to_string(), main: text.into(), modules };
    let program = match Program::compile(Arc::new(sources)) {
        Ok((program, _)) => Arc::new(program),
        Err(found) => {
            assert!(!found.is_empty(), "an error says what is wrong");
            for finding in &found {
                assert!(!finding.to_string().is_empty());
            }
            return;
        }
    };
    let params: Value = program.defaults.clone().into_iter().collect::<serde_json::Map<_, _>>().into();
    let labels = json!({ "alertname": "HighLatency", "service": "web", "node": "node1" });
    let alert = json!({ "labels": labels, "annotations": {}, "alerts": [{ "labels": labels }] });
    let input = Arc::new(Input { alert, params });
    for handler in program.handlers.clone() {
        let job = Job { program: program.clone(), handler, input: input.clone(), history: vec![], poll: None };
        let evaluate = || {
            let started = Instant::now();
            let evaluation = Evaluator::inline().evaluate(job.clone()).now_or_never().expect("it waits for nothing");
            // Many times the limit: a busy machine is no fault of the script's.
            assert!(started.elapsed() < 10 * TIME_LIMIT, "{:?}", started.elapsed());
            if let Next::Failed(Failure { message, .. }) = &evaluation.next {
                assert!(!message.contains("panicked"), "{message}");
            }
            evaluation
        };
        let (first, again) = (evaluate(), evaluate());
        let resources = |next: &Next| matches!(next, Next::Failed(Failure { kind: FailureKind::Resources, .. }));
        // Time and memory are no part of what is evaluated.
        if !resources(&first.next) && !resources(&again.next) {
            assert_eq!(first, again);
        }
        assert!(budget::highest_peak_bytes() < MOST_BYTES, "{} bytes at most", budget::highest_peak_bytes());
    }
}
