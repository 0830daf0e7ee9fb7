//! Has the last change of a service got where it was going? Decided from the service and its tasks, as Docker's JSON has them.
//!
//! | update status | tasks wanted running | verdict |
//! |---|---|---|
//! | paused, rollback paused | any | failed |
//! | rollback completed, and no previous spec | any | failed: Swarm went back by itself |
//! | updating, rollback started | any | progressing |
//! | completed, rollback completed, none | some carry another template, too many, too few or not yet running | progressing |
//! | completed, rollback completed, none | the right number, all running the template in force | converged |
//!
//! "None" alone says nothing: Swarm sets the status a moment after it has accepted an update, and never for a change of scale. A rollback that was asked
//! for leaves a previous spec (the one it left), one that Swarm started by itself leaves none.

use super::spec;
use crate::model::cluster::{Convergence, Mode, UpdateState};
use serde_json::Value;

/// How many different task errors are told.
const ERRORS_TOLD: usize = 3;

/// `tasks` are all of the service's, in any order.
pub fn judge(service: &Value, tasks: &[Value]) -> Convergence {
    let template = comparable(&service["Spec"]["TaskTemplate"]);
    let wanted: Vec<&Value> = tasks.iter().filter(|task| wanted(task)).collect();
    let fresh: Vec<&&Value> = wanted.iter().filter(|task| comparable(&task["Spec"]) == template).collect();
    let running = fresh.iter().filter(|task| state(task) == "running").count() as u64;
    let (mode, replicas) = spec::mode(&service["Spec"]);
    let replicas = replicas.unwrap_or(wanted.len() as u64);
    let message = service["UpdateStatus"]["Message"].as_str().unwrap_or_default();
    let progress = |what: String| {
        let errors = errors(tasks.iter().filter(|task| comparable(&task["Spec"]) == template));
        Convergence::Progressing(if errors.is_empty() { what } else { format!("{what}; tasks ended: {errors}") })
    };
    let failed = |own_rollback: bool| {
        // After Swarm's own rollback the tasks that failed carry the template that was left.
        let blamed = tasks.iter().filter(|task| (comparable(&task["Spec"]) != template) == own_rollback);
        let mut told = errors(blamed);
        if told.is_empty() {
            told = errors(tasks.iter());
        }
        let why = if own_rollback { "Swarm rolled the update back" } else { message };
        Convergence::Failed(if told.is_empty() { why.to_string() } else { format!("{why}; tasks ended: {told}") })
    };
    match spec::update_state(service) {
        UpdateState::Paused | UpdateState::RollbackPaused => failed(false),
        UpdateState::RollbackCompleted if spec::previous(service).is_none() => failed(true),
        UpdateState::Updating | UpdateState::RollbackStarted => {
            progress(format!("{message}: {running} of {replicas} tasks run the new template"))
        }
        // A global service before its first task has nothing to show.
        _ if mode == Mode::Global && wanted.is_empty() => progress("no task yet".into()),
        _ if fresh.len() < wanted.len() => {
            progress(format!("{} of {} tasks still have the old template", wanted.len() - fresh.len(), wanted.len()))
        }
        _ if wanted.len() as u64 > replicas => progress(format!("{} tasks of {replicas} wanted", wanted.len())),
        _ if running < replicas => progress(format!("{running} of {replicas} tasks run")),
        _ => Convergence::Converged,
    }
}

/// Does Swarm mean this task to run? `ready` waits for its turn after a failure.
pub fn wanted(task: &Value) -> bool {
    matches!(task["DesiredState"].as_str(), Some("running" | "ready" | "accepted"))
}

pub fn state(task: &Value) -> &str {
    task["Status"]["State"].as_str().unwrap_or_default()
}

/// What of a template decides whether a task has to be replaced: Swarm leaves tasks be whose placement alone changed, and names the default runtime
/// in services but not in tasks.
fn comparable(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(fields) = template.as_object_mut() {
        fields.remove("Placement");
        fields.remove("Runtime");
    }
    template
}

/// The different errors of tasks, newest first, with how often each came.
fn errors<'a>(tasks: impl Iterator<Item = &'a Value>) -> String {
    let mut tasks: Vec<&Value> = tasks.collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(created(task)));
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for error in tasks.iter().filter_map(|task| task["Status"]["Err"].as_str()).filter(|error| !error.is_empty()) {
        match counts.iter_mut().find(|(known, _)| *known == error) {
            Some((_, count)) => *count += 1,
            None => counts.push((error, 1)),
        }
    }
    let told: Vec<String> = counts
        .iter()
        .take(ERRORS_TOLD)
        .map(|(error, count)| if *count > 1 { format!("{error} ({count} times)") } else { error.to_string() })
        .collect();
    told.join("; ")
}

/// When a task was made; tasks without a readable time count as oldest.
pub fn created(task: &Value) -> Option<jiff::Timestamp> {
    task["CreatedAt"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(replicas: Option<u64>, image: &str, update: &str, previous: bool) -> Value {
        let mode =
            replicas.map_or(json!({ "Global": {} }), |replicas| json!({ "Replicated": { "Replicas": replicas } }));
        json!({
            "Spec": { "Mode": mode, "TaskTemplate": { "ContainerSpec": { "Image": image }, "Runtime": "container", "Placement": {} } },
            "PreviousSpec": previous.then(|| json!({})),
            "UpdateStatus": { "State": update, "Message": format!("the update is {update}") },
        })
    }

    /// `image desired state error`
    fn tasks(lines: &[&str]) -> Vec<Value> {
        let task = |(at, line): (usize, &&str)| {
            let mut words = line.splitn(4, ' ');
            let mut word = || words.next().unwrap_or_default();
            json!({
                "Spec": { "ContainerSpec": { "Image": word() } }, "DesiredState": word(),
                "Status": { "State": word(), "Err": word() }, "CreatedAt": format!("2026-01-01T00:00:{at:02}.5Z"),
            })
        };
        lines.iter().enumerate().map(task).collect()
    }

    fn check(service: Value, lines: &[&str], expected: (&str, &str)) {
        let (word, told) = match judge(&service, &tasks(lines)) {
            Convergence::Converged => ("converged", String::new()),
            Convergence::Progressing(told) => ("progressing", told),
            Convergence::Failed(told) => ("failed", told),
        };
        assert_eq!(word, expected.0, "{service} {lines:?}: {told}");
        assert!(told.contains(expected.1), "{told}");
    }

    #[test]
    fn a_service_has_converged_when_the_tasks_wanted_run_the_template_in_force() {
        let (up, old, gone) = ("b running running", "a running running", "a shutdown shutdown");
        for update in ["", "completed"] {
            check(service(Some(2), "b", update, true), &[up, up, gone], ("converged", ""));
            check(service(Some(2), "b", update, true), &[up, gone], ("progressing", "1 of 2 tasks run"));
            check(
                service(Some(2), "b", update, true),
                &[up, "b running starting"],
                ("progressing", "1 of 2 tasks run"),
            );
            check(service(Some(2), "b", update, true), &[up, "b ready ready"], ("progressing", "1 of 2 tasks run"));
            check(service(Some(2), "b", update, true), &[old, old], ("progressing", "2 of 2 tasks still have the old"));
            check(service(Some(1), "b", update, true), &[up, up], ("progressing", "2 tasks of 1 wanted"));
            check(service(Some(0), "b", update, true), &[gone], ("converged", ""));
            check(service(None, "b", update, true), &[up, gone], ("converged", ""));
            check(service(None, "b", update, true), &[], ("progressing", "no task yet"));
        }
        check(service(Some(2), "b", "updating", true), &[up, up], ("progressing", "is updating: 2 of 2"));
        check(service(Some(2), "b", "rollback_started", true), &[up, up], ("progressing", "rollback_started"));
    }

    #[test]
    fn an_update_that_stopped_or_went_back_has_failed_with_its_tasks_errors() {
        let (up, bad, worse) = ("a running running", "b shutdown rejected no such image", "b shutdown failed exit 1");
        let told = "the update is paused; tasks ended: exit 1; no such image (2 times)";
        check(service(Some(2), "b", "paused", true), &[up, bad, bad, worse], ("failed", told));
        check(service(Some(2), "b", "paused", true), &[up, up], ("failed", "the update is paused"));
        check(service(Some(2), "b", "rollback_paused", false), &[up, bad], ("failed", "no such image"));
        let own = service(Some(2), "a", "rollback_completed", false);
        check(
            own,
            &[up, up, bad, "a shutdown failed long ago"],
            ("failed", "rolled the update back; tasks ended: no such image"),
        );
        check(service(Some(2), "a", "rollback_completed", true), &[up, up, bad], ("converged", ""));
        // A scale whose tasks die is never given up by Swarm: the error must still be told.
        check(service(Some(2), "b", "", true), &["b running running", worse], ("progressing", "tasks ended: exit 1"));
    }
}
