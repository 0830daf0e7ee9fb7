//! What the journal says when a play is over: as a trace to compare, and judged.

use crate::files::Files;
use crate::oracle::Oracle;
use futures_util::FutureExt;
use runbookd::adapters::journal::memory::MemoryJournal;
use runbookd::model::incident::{Incident, State};
use runbookd::model::run::{Handler, Run, RunState};
use runbookd::model::step::{Intent, Outcome, Step};
use runbookd::ports::Journal;
use runbookd::runbook::evaluate::{Answer, Evaluator, Job, Next, Recorded};
use runbookd::runbook::program::Program;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Writes everything that the journal holds into the trace.
pub fn dump(oracle: &mut Oracle, journal: &MemoryJournal, incidents: &[Incident], runs: &[Run]) {
    for incident in incidents {
        let rule = incident.rule.as_deref().unwrap_or("no rule");
        oracle.note(|| format!("incident {} {} [{}] of {rule}", incident.id, incident.state, incident.key));
        for one in journal.transitions(incident.id).now_or_never().and_then(Result::ok).unwrap_or_default() {
            let from = one.from.map_or("·", |state| state.name());
            oracle.note(|| format!("  {} {from} → {}: {}", one.at, one.to, one.reason));
        }
    }
    for incident in incidents.iter().filter(|incident| incident.state != State::Resolved) {
        oracle.note(|| format!("left: {}", serde_json::to_string(incident).expect("an incident is plain data")));
        for fingerprint in &incident.alerts {
            let level = journal.level(*fingerprint).now_or_never().and_then(Result::ok).flatten();
            oracle.note(|| format!("  {}", serde_json::to_string(&level).expect("a level is plain data")));
        }
    }
    for run in runs {
        let steps = steps(journal, run);
        oracle.counts.steps += steps.len() as u64;
        oracle.note(|| {
            let why = run.reason.as_ref().map_or_else(String::new, ToString::to_string);
            format!(
                "run {} of {} {} {} attempt {} {:?} {why}",
                run.id,
                run.incident,
                run.runbook,
                run.handler.name(),
                run.attempt,
                run.state
            )
        });
        for step in steps {
            oracle.note(|| {
                let intent = step.intent.as_ref().map_or_else(String::new, ToString::to_string);
                let error = step.error.as_ref().map_or_else(String::new, ToString::to_string);
                let args = serde_json::to_string(&step.args).expect("arguments");
                format!(
                    "  {} {} {}{args} ⟨{intent}⟩ {:?} {error}",
                    step.started_at, step.seq, step.primitive, step.outcome
                )
            });
        }
    }
}

fn steps(journal: &MemoryJournal, run: &Run) -> Vec<Step> {
    journal.steps(run.id).now_or_never().and_then(Result::ok).unwrap_or_default()
}

/// 4: no two runs of one incident at a time.
pub fn one_at_a_time(oracle: &mut Oracle, runs: &[Run]) {
    let mut of: BTreeMap<_, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        of.entry(run.incident).or_default().push(run);
    }
    // The wall clock may have been set back in between.
    if oracle.set_back > 0 {
        return;
    }
    for (incident, runs) in of {
        for pair in runs.windows(2) {
            if pair[0].finished_at.is_none_or(|at| at > pair[1].started_at) {
                oracle.broken(4, format!("runs {} and {} of {incident} were at work at once", pair[0].id, pair[1].id));
            }
        }
    }
}

/// 3: cooldowns and budgets hold, over restarts too.
pub fn within_limits(oracle: &mut Oracle, journal: &MemoryJournal, incidents: &[Incident], runs: &[Run]) {
    // A wall clock that was set forward or back is no measure.
    if oracle.jumped {
        return;
    }
    let attempts: Vec<&Run> =
        runs.iter().filter(|run| run.handler != Handler::OnResolved && !run.shadow && run.undoes.is_none()).collect();
    let key = |run: &Run| incidents.iter().find(|incident| incident.id == run.incident).map(|incident| &incident.key);
    for (at, run) in attempts.iter().enumerate() {
        let Some(rule) = oracle.steady(&run.rule) else { continue };
        let before = || attempts[..at].iter().filter(|other| other.rule == run.rule);
        if let Some((count, secs)) = rule.budget {
            let within = |other: &&&Run| run.started_at.duration_since(other.started_at).as_secs() < secs as i64;
            let made = before().filter(within).count() + 1;
            if made > count as usize {
                return oracle
                    .broken(3, format!("run {} is attempt {made} in {secs} s, the budget is {count}", run.id));
            }
        }
        if let Some(secs) = rule.cooldown_secs.filter(|_| run.attempt == 1) {
            let of_key = before().filter(|other| other.incident != run.incident && key(other) == key(run));
            let effects = of_key
                .flat_map(|other| steps(journal, other))
                .filter(|step| step.outcome == Outcome::Applied && step.intent.as_ref().is_some_and(Intent::is_effect));
            let last = effects.filter_map(|step| step.finished_at).max();
            if last.is_some_and(|last| run.started_at.duration_since(last).as_secs() < secs as i64) {
                return oracle.broken(3, format!("run {} began within its cooldown of {secs} s", run.id));
            }
        }
    }
}

/// 6: evaluated again on its history, each run takes the step that it took, and comes to the end that it came to. 7: each ran a text that was valid.
pub fn same_again(oracle: &mut Oracle, journal: &MemoryJournal, runs: &[Run], files: &Files) {
    let evaluator = Evaluator::inline();
    let mut programs: BTreeMap<_, Arc<Program>> = BTreeMap::new();
    // What an undo runs is made up for it.
    for run in runs.iter().filter(|run| run.state.ended() && run.undoes.is_none()) {
        let Some(program) = program(&mut programs, journal, run, files) else {
            oracle.broken(7, format!("run {} ran a text of {} that was never valid", run.id, run.runbook));
            continue;
        };
        let steps = steps(journal, run);
        let history: Vec<Arc<Recorded>> = steps.iter().map(|step| Arc::new(recorded(step))).collect();
        let evaluate = |upto: usize| {
            let (program, input) = (program.clone(), run.input.clone());
            let job = Job { program, handler: run.handler, input, history: history[..upto].to_vec(), poll: None };
            evaluator.evaluate(job).now_or_never().expect("inline").next
        };
        if !steps.is_empty() {
            // One of its steps: which, its number says.
            let at = run.id.0 as usize % steps.len();
            match evaluate(at) {
                Next::Call { primitive, args, .. } if primitive == steps[at].primitive && args == steps[at].args => {}
                other => oracle.broken(
                    6,
                    format!("step {at} of run {} was {}, and is now {other:?}", run.id, steps[at].primitive),
                ),
            }
        }
        let end = evaluate(steps.len());
        // What a wait saw last, and failed on, is not kept.
        let waits = steps.last().is_some_and(|step| step.outcome == Outcome::Waiting);
        let same = waits
            || match run.state {
                RunState::Done => matches!(end, Next::Done(_)),
                RunState::Failed
                    if run.reason.as_ref().is_some_and(|why| {
                        why.code == "failed" || why.code == "run_failed" || why.code == "denied"
                    }) =>
                {
                    matches!(end, Next::Failed(_))
                }
                _ => true,
            };
        if !same {
            oracle.broken(6, format!("run {} ended {:?} ({:?}), and would now {end:?}", run.id, run.state, run.reason));
        }
    }
}

fn program(
    programs: &mut BTreeMap<String, Arc<Program>>,
    journal: &MemoryJournal,
    run: &Run,
    files: &Files,
) -> Option<Arc<Program>> {
    if let Some(known) = programs.get(&*run.program.0) {
        return Some(known.clone());
    }
    let sources = journal.program(&run.program).now_or_never()?.ok()??;
    if !files.ever_valid(&sources.main) {
        return None;
    }
    let of_catalog = files.catalog().programs.get(&run.runbook).filter(|known| known.hash == run.program).cloned();
    let program = match of_catalog {
        Some(program) => program,
        None => Arc::new(Program::compile(Arc::new(sources)).ok()?.0),
    };
    programs.insert(run.program.0.to_string(), program.clone());
    Some(program)
}

fn recorded(step: &Step) -> Recorded {
    let answer = match (&step.error, step.outcome) {
        (Some(error), _) => Answer::Error(error.clone()),
        (None, Outcome::InDoubt | Outcome::Waiting) => Answer::Waiting,
        (None, _) => Answer::Value(step.value.clone().unwrap_or(Value::Null)),
    };
    Recorded { primitive: step.primitive.clone(), args: step.args.clone(), answer }
}
