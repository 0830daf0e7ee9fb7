//! Nodes of a Swarm: what is seen of them, and their changes.

use super::connect::Connection;
use crate::model::cluster::{INSTANCE_LABEL, Node, NodeChange, NodeIntent};
use crate::model::label::Labels;
use crate::ports::{ErrorReason, PortError};
use bollard::query_parameters::DeleteNodeOptions;
use serde_json::Value;
use std::collections::HashMap;

/// All nodes. `running`: how many tasks run on each, by its id.
pub async fn list(connection: &Connection, running: &HashMap<String, u64>) -> Result<Vec<Node>, PortError> {
    let all = super::array(connection.get("list nodes", "/nodes").await?);
    Ok(all.iter().map(|raw| read(raw, running)).collect())
}

fn read(raw: &Value, running: &HashMap<String, u64>) -> Node {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let spec = &raw["Spec"];
    let id = text(&raw["ID"]);
    let labels: Labels = spec["Labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))
        .collect();
    // A manager is known by how the others reach it; its own status may say 0.0.0.0.
    let address = raw["ManagerStatus"]["Addr"].as_str().and_then(|addr| addr.rsplit_once(':')).map(|(host, _)| host);
    Node {
        name: text(&raw["Description"]["Hostname"]),
        role: text(&spec["Role"]),
        availability: text(&spec["Availability"]),
        state: text(&raw["Status"]["State"]),
        address: match raw["Status"]["Addr"].as_str() {
            None | Some("" | "0.0.0.0" | "127.0.0.1") => address.unwrap_or_default().to_string(),
            Some(address) => address.to_string(),
        },
        labels,
        version: raw["Version"]["Index"].as_u64().unwrap_or(0),
        running: running.get(&id).copied().unwrap_or(0),
        instance: raw["Description"]["Engine"]["Labels"][INSTANCE_LABEL].as_str().map(str::to_string),
        id,
    }
}

/// Makes one change, at the version it was decided on.
pub async fn apply(connection: &Connection, intent: &NodeIntent) -> Result<(), PortError> {
    let NodeIntent { node, id, version, change } = intent;
    let (field, to) = match change {
        NodeChange::Availability { to, .. } => ("Availability", to),
        NodeChange::Role { to, .. } => ("Role", to),
        NodeChange::Remove => return remove(connection, node, id).await,
    };
    let raw = connection.get(&format!("read node {node}"), &format!("/nodes/{id}")).await?;
    let now = raw["Version"]["Index"].as_u64().unwrap_or(0);
    if now != *version {
        let message = format!("node {node} has changed meanwhile: it is at version {now}, not {version}");
        return Err(PortError::transient(ErrorReason::Conflict, message));
    }
    let mut spec = raw["Spec"].clone();
    spec[field] = to.as_str().into();
    let path = format!("/nodes/{id}/update?version={version}");
    connection.post(&format!("update node {node}"), &path, &spec).await.map(drop)
}

/// The engine has made sure that nothing runs there; Swarm itself would refuse a drained node that is still up.
async fn remove(connection: &Connection, node: &str, id: &str) -> Result<(), PortError> {
    let options = Some(DeleteNodeOptions { force: true });
    let what = format!("remove node {node}");
    match connection.read(&what, |docker| async move { docker.delete_node(id, options).await }).await {
        // A read is never "unknown", a removal is: it may have arrived.
        Err(error) if error.reason == ErrorReason::Timeout => Err(PortError::unknown(error.reason, error.message)),
        Err(error) if error.reason == ErrorReason::NotFound => Ok(()),
        other => other,
    }
}
