//! Signals: to the process of a pid file, or to containers through Docker's API.

use crate::adapters::cluster::swarm::Connection;
use crate::config::DockerConfig;
use crate::config::reload::{Recipient, Signal, SignalName};
use crate::ports::{ErrorReason, PortError};
use bollard::query_parameters::{KillContainerOptionsBuilder, ListContainersOptionsBuilder};
use rustix::process::{Pid, kill_process};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A signal, and whom it is for.
pub struct SignalCall {
    name: SignalName,
    to: To,
}

enum To {
    PidFile(PathBuf),
    Container(String, Box<Connection>),
}

impl SignalCall {
    /// Errors (permanent): a Docker address that is none.
    pub fn new(config: &Signal, docker: &DockerConfig) -> Result<Self, PortError> {
        let to = match &config.to {
            Recipient::PidFile(file) => To::PidFile(file.clone()),
            Recipient::Container(container) => To::Container(container.clone(), Box::new(Connection::new(docker)?)),
        };
        Ok(SignalCall { name: config.name, to })
    }

    pub async fn send(&self, what: &str) -> Result<(), PortError> {
        match &self.to {
            To::PidFile(file) => {
                let text = tokio::fs::read_to_string(file).await;
                self.send_to_process(what, file, text)
            }
            To::Container(container, docker) => self.send_to_containers(what, container, docker).await,
        }
    }

    fn send_to_process(&self, what: &str, file: &Path, text: std::io::Result<String>) -> Result<(), PortError> {
        let (shown, name) = (file.display(), self.name.name());
        // Whoever writes the file may just be starting.
        let absent =
            |why: String| PortError::transient(ErrorReason::NotFound, format!("{what}: {name} by {shown}: {why}"));
        let text = text.map_err(|error| absent(format!("it cannot be read: {error}")))?;
        // 0 and negative numbers would be groups of processes, and 1 is the first of them all.
        let pid = text.trim().parse().ok().filter(|pid| *pid > 1).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| absent("it holds no number of a process".to_string()))?;
        let signal = match self.name {
            SignalName::Hup => rustix::process::Signal::HUP,
            SignalName::Usr1 => rustix::process::Signal::USR1,
            SignalName::Usr2 => rustix::process::Signal::USR2,
            SignalName::Winch => rustix::process::Signal::WINCH,
        };
        kill_process(pid, signal).map_err(|error| match error {
            rustix::io::Errno::SRCH => absent(format!("there is no process {}", pid.as_raw_nonzero())),
            error => {
                let message = format!("{what}: {name} to process {} of {shown}: {error}", pid.as_raw_nonzero());
                PortError::permanent(ErrorReason::Unauthorized, message)
            }
        })
    }

    /// To every running container that is meant; none is an error.
    async fn send_to_containers(&self, what: &str, container: &str, docker: &Connection) -> Result<(), PortError> {
        let label = container.contains('=');
        let filter = if label { "label" } else { "name" };
        let filters = HashMap::from([(filter, vec![container]), ("status", vec!["running"])]);
        let options = ListContainersOptionsBuilder::new().filters(&filters).build();
        let list = |docker: bollard::Docker| async move { docker.list_containers(Some(options)).await };
        let found = docker.read(&format!("{what}: find container {container}"), list).await?;
        // Docker's filter matches parts of names.
        let exact =
            |names: &Option<Vec<String>>| names.iter().flatten().any(|name| name.trim_start_matches('/') == container);
        let ids: Vec<String> =
            found.into_iter().filter(|one| label || exact(&one.names)).filter_map(|one| one.id).collect();
        if ids.is_empty() {
            let message = format!(
                "{what}: no running container has the {filter} {container} on the Docker engine of docker.host"
            );
            return Err(PortError::transient(ErrorReason::NotFound, message));
        }
        for id in ids {
            let options = KillContainerOptionsBuilder::new().signal(self.name.name()).build();
            let kill = |docker: bollard::Docker| async move { docker.kill_container(&id, Some(options)).await };
            docker.read(&format!("{what}: signal container {container}"), kill).await?;
        }
        Ok(())
    }
}
