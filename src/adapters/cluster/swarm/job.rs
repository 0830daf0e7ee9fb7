//! One-off jobs: a service in the mode of replicated jobs, with one task that runs once.

use super::connect::Connection;
use crate::model::cluster::{JobIntent, JobState};
use crate::model::text::visible;
use crate::ports::{ErrorReason, PortError, STEP_LABEL};
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

/// The label of the services that are jobs of ours.
const JOB_LABEL: &str = "runbookd.job";
/// The last lines of a job's output that are kept, and characters of each.
const LOG_LINES: usize = 20;
const LINE_CHARS: usize = 500;
/// Docker's log of a task is given up after this: the exit code counts more.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// Creates the service. Under a name that there is already it is the same job.
pub async fn start(connection: &Connection, job: &JobIntent, step: &str) -> Result<(), PortError> {
    let env: Vec<String> = job.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let spec = json!({
        "Name": job.name,
        "Labels": { STEP_LABEL: step, JOB_LABEL: "true" },
        "Mode": { "ReplicatedJob": { "MaxConcurrent": 1, "TotalCompletions": 1 } },
        "TaskTemplate": {
            "ContainerSpec": { "Image": job.image, "Args": job.args, "Env": env },
            // Whoever wrote the runbook decides whether to try again.
            "RestartPolicy": { "Condition": "none" },
        },
    });
    match connection.post(&format!("start {}", job.name), "/services/create", &spec).await {
        Err(error) if error.reason == ErrorReason::Conflict => Ok(()),
        other => other.map(drop),
    }
}

/// How far it has got.
pub async fn look(connection: &Connection, service: &Value, tasks: &[Value]) -> JobState {
    // The newest: a task may have been replaced because its node went.
    let Some(task) = tasks.iter().max_by_key(|task| task["CreatedAt"].as_str().unwrap_or_default().to_string()) else {
        return JobState::Running("it has no task yet".to_string());
    };
    let status = &task["Status"];
    let (state, error) = (status["State"].as_str().unwrap_or_default(), status["Err"].as_str().unwrap_or_default());
    let exit_code = status["ContainerStatus"]["ExitCode"].as_i64();
    match state {
        "complete" | "failed" | "rejected" | "shutdown" | "orphaned" | "remove" => {
            let log = log(connection, task["ID"].as_str().unwrap_or_default()).await;
            let ran = matches!(state, "complete" | "failed" | "shutdown");
            // A task that ended well may tell no code: Docker leaves zeros out.
            let exit_code = if ran { Some(exit_code.unwrap_or(0)) } else { None };
            JobState::Ended { exit_code, error: visible(error, LINE_CHARS), log }
        }
        state => {
            let name = service["Spec"]["Name"].as_str().unwrap_or_default();
            let why = if error.is_empty() { String::new() } else { format!(": {}", visible(error, LINE_CHARS)) };
            JobState::Running(format!("{name} is {state}{why}"))
        }
    }
}

/// The last lines of a task's output; none when they cannot be had.
async fn log(connection: &Connection, task: &str) -> Vec<String> {
    let read = async {
        let docker = connection.docker("read the log of a job").ok()?;
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&LOG_LINES.to_string()).build();
        let mut chunks = Box::pin(docker.task_logs(task, Some(options)));
        let mut text = String::new();
        while let Some(Ok(chunk)) = chunks.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk.into_bytes()));
        }
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        Some(last.iter().map(|line| visible(line, LINE_CHARS)).collect())
    };
    tokio::time::timeout(LOG_TIMEOUT, read).await.ok().flatten().unwrap_or_default()
}

/// The names of all that there are.
pub async fn names(connection: &Connection) -> Result<Vec<String>, PortError> {
    let all = super::array(connection.get("list jobs", "/services").await?);
    let ours = all.iter().filter(|raw| raw["Spec"]["Labels"][JOB_LABEL] == "true");
    Ok(ours.filter_map(|raw| raw["Spec"]["Name"].as_str()).map(str::to_string).collect())
}

/// Removes the service, its task with it.
pub async fn remove(connection: &Connection, name: &str) -> Result<(), PortError> {
    let what = format!("remove {name}");
    match connection.read(&what, |docker| async move { docker.delete_service(name).await }).await {
        Err(error) if error.reason == ErrorReason::NotFound => Ok(()),
        other => other,
    }
}
