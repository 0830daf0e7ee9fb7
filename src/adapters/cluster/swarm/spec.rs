//! A service's spec as Docker's JSON: what we read of it, and how one field is changed while every other one stays as it is.

use crate::model::cluster::{Limits, Mode, Port, Service, ServiceChange, SpecFields, Task, UpdateState};
use crate::ports::{ErrorReason, PortError, STEP_LABEL};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

/// The tasks of a service, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TaskCount {
    /// Those that Swarm wants to run.
    pub wanted: u64,
    /// Those that do.
    pub running: u64,
}

/// A service out of Docker's JSON. Fields that are missing are what Docker means by leaving them out.
pub fn read(raw: &Value, tasks: TaskCount) -> Service {
    let spec = &raw["Spec"];
    let template = &spec["TaskTemplate"];
    let container = &template["ContainerSpec"];
    let (mode, replicas) = mode(spec);
    let limits = &template["Resources"]["Limits"];
    let limit = |name: &str| limits[name].as_i64().filter(|limit| *limit != 0);
    Service {
        id: text(&raw["ID"]),
        name: text(&spec["Name"]),
        version: version(raw),
        image: text(&container["Image"]),
        mode,
        replicas: replicas.unwrap_or(tasks.wanted),
        running: tasks.running,
        labels: labels(&spec["Labels"]),
        container_labels: labels(&container["Labels"]),
        env: env(&container["Env"]),
        limits: Limits { nano_cpus: limit("NanoCPUs"), memory_bytes: limit("MemoryBytes") },
        force_update: template["ForceUpdate"].as_u64().unwrap_or(0),
        update: update_state(raw),
        update_message: text(&raw["UpdateStatus"]["Message"]),
        template_hash: template_hash(template),
        previous_template_hash: previous(raw).map(|previous| template_hash(&previous["TaskTemplate"])),
        ports: ports(raw),
    }
}

/// The published ports: as Swarm has settled them, or else as they were asked for.
fn ports(raw: &Value) -> Vec<Port> {
    let settled = raw["Endpoint"]["Ports"].as_array();
    let ports = settled.or_else(|| raw["Spec"]["EndpointSpec"]["Ports"].as_array());
    let number = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
    let show = |port: &Value| Port {
        protocol: port["Protocol"].as_str().unwrap_or("tcp").to_string(),
        target: number(&port["TargetPort"]),
        published: number(&port["PublishedPort"]),
        mode: port["PublishMode"].as_str().unwrap_or("ingress").to_string(),
    };
    ports.into_iter().flatten().map(show).collect()
}

/// A task out of Docker's JSON; `nodes` are names by id.
pub fn task(raw: &Value, service: &str, nodes: &HashMap<&str, &str>) -> Task {
    let node = raw["NodeID"].as_str().unwrap_or_default();
    let attachments = raw["NetworksAttachments"].as_array().into_iter().flatten();
    // `10.0.1.5/24`: what follows is the size of the network.
    let own = |attachment: &Value| -> Vec<String> {
        let all = attachment["Addresses"].as_array().into_iter().flatten();
        all.filter_map(|address| address.as_str()?.split('/').next()).map(str::to_string).collect()
    };
    let networks = attachments.clone().filter_map(|attachment| {
        Some((attachment["Network"]["Spec"]["Name"].as_str()?.to_string(), own(attachment).into_iter().next()?))
    });
    Task {
        id: text(&raw["ID"]),
        service: service.to_string(),
        node: nodes.get(node).unwrap_or(&node).to_string(),
        state: text(&raw["Status"]["State"]),
        desired_state: text(&raw["DesiredState"]),
        error: text(&raw["Status"]["Err"]),
        image: text(&raw["Spec"]["ContainerSpec"]["Image"]),
        addresses: attachments.clone().flat_map(own).collect(),
        networks: networks.collect(),
    }
}

/// Swarm's version index; 0 when there is none, which no update matches.
pub fn version(raw: &Value) -> u64 {
    raw["Version"]["Index"].as_u64().unwrap_or(0)
}

/// The spec that a rollback would go to.
pub fn previous(raw: &Value) -> Option<&Value> {
    raw.get("PreviousSpec").filter(|previous| previous.is_object())
}

/// The mode, and the replicas asked for if it has such a number.
pub fn mode(spec: &Value) -> (Mode, Option<u64>) {
    let mode = &spec["Mode"];
    if let Some(replicated) = mode.get("Replicated") {
        // Docker leaves a zero out of some answers.
        (Mode::Replicated, Some(replicated["Replicas"].as_u64().unwrap_or(0)))
    } else if mode.get("Global").is_some() {
        (Mode::Global, None)
    } else {
        (Mode::Other, None)
    }
}

pub fn update_state(raw: &Value) -> UpdateState {
    match raw["UpdateStatus"]["State"].as_str() {
        Some("updating") => UpdateState::Updating,
        Some("paused") => UpdateState::Paused,
        Some("completed") => UpdateState::Completed,
        Some("rollback_started") => UpdateState::RollbackStarted,
        Some("rollback_paused") => UpdateState::RollbackPaused,
        Some("rollback_completed") => UpdateState::RollbackCompleted,
        _ => UpdateState::None,
    }
}

/// SHA-256 of a task template's canonical JSON (keys sorted, no white space), every field of it included: a raised ForceUpdate makes another template, as
/// it does for Swarm.
pub fn template_hash(template: &Value) -> String {
    let mut json = Vec::new();
    canonical(template, &mut json);
    Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn canonical(value: &Value, out: &mut Vec<u8>) {
    let mut join = |open: u8, close: u8, parts: &mut dyn Iterator<Item = (Option<&String>, &Value)>| {
        out.push(open);
        for (at, (key, value)) in parts.enumerate() {
            if at > 0 {
                out.push(b',');
            }
            if let Some(key) = key {
                out.extend(Value::from(key.as_str()).to_string().into_bytes());
                out.push(b':');
            }
            canonical(value, out);
        }
        out.push(close);
    };
    match value {
        Value::Object(map) => {
            // The order of serde_json's own maps depends on a feature that any crate may turn on.
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            join(b'{', b'}', &mut sorted.into_iter().map(|(key, value)| (Some(key), value)));
        }
        Value::Array(all) => join(b'[', b']', &mut all.iter().map(|value| (None, value))),
        plain => out.extend(plain.to_string().into_bytes()),
    }
}

/// Makes one change in a spec, and labels it with its step. A rollback changes nothing here: Swarm has the spec it goes to.
pub fn change(spec: &mut Value, change: &ServiceChange, step: &str) -> Result<(), PortError> {
    match change {
        ServiceChange::Scale { to, .. } => {
            let name = text(&spec["Name"]);
            match mode(spec).0 {
                Mode::Replicated => spec["Mode"]["Replicated"]["Replicas"] = json!(to),
                Mode::Global => return Err(unscalable(&name, "a global service (one task on each node)")),
                Mode::Other => return Err(unscalable(&name, "a job")),
            }
        }
        ServiceChange::Restart { to, .. } => {
            object(spec, "TaskTemplate").insert("ForceUpdate".into(), json!(to)).map_or((), drop)
        }
        ServiceChange::Rollback { .. } => return Ok(()),
        ServiceChange::Update { to, .. } => update(spec, to),
    }
    object(spec, "Labels").insert(STEP_LABEL.into(), step.into());
    Ok(())
}

fn unscalable(name: &str, what: &str) -> PortError {
    PortError::permanent(ErrorReason::Invalid, format!("{name} is {what}: it cannot be scaled"))
}

fn update(spec: &mut Value, fields: &SpecFields) {
    let SpecFields { image, env, labels, limits, force_update } = fields;
    for (name, value) in labels {
        match value {
            Some(value) => object(spec, "Labels").insert(name.clone(), value.as_str().into()),
            None => object(spec, "Labels").remove(name),
        };
    }
    // What is not asked for must not be made, not even empty: it would be another template.
    let template = object(spec, "TaskTemplate");
    if let Some(force_update) = force_update {
        template.insert("ForceUpdate".into(), json!(force_update));
    }
    if let Some(image) = image {
        object_in(template, "ContainerSpec").insert("Image".into(), image.as_str().into());
    }
    if !env.is_empty() {
        let container = object_in(template, "ContainerSpec");
        let old = container.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
        container.insert("Env".into(), patched_env(old, env).into());
    }
    let Limits { nano_cpus, memory_bytes } = limits.clone().unwrap_or_default();
    for (name, limit) in [("NanoCPUs", nano_cpus), ("MemoryBytes", memory_bytes)] {
        if let Some(limit) = limit {
            object_in(object_in(template, "Resources"), "Limits").insert(name.into(), json!(limit));
        }
    }
}

/// `NAME=value` entries with some set and some removed; the others keep their place.
fn patched_env(old: Vec<Value>, change: &BTreeMap<String, Option<String>>) -> Vec<Value> {
    let entry = |name: &str, value: &str| Value::from(format!("{name}={value}"));
    let mut unset = change.clone();
    let mut all = Vec::with_capacity(old.len() + change.len());
    for line in old {
        let name = line.as_str().map(|line| line.split_once('=').map_or(line, |(name, _)| name)).unwrap_or_default();
        match change.get(name) {
            None => all.push(line),
            // A name can stand there twice: the first place gets the value, the others go.
            Some(_) => all.extend(unset.remove(name).flatten().map(|value| entry(name, &value))),
        }
    }
    all.extend(unset.iter().filter_map(|(name, value)| Some(entry(name, value.as_deref()?))));
    all
}

fn object<'a>(parent: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !parent.is_object() {
        *parent = json!({});
    }
    object_in(parent.as_object_mut().expect("made an object above"), key)
}

/// The object under `key`, made if it is missing or null.
fn object_in<'a>(parent: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let child = parent.entry(key).or_insert(Value::Null);
    if !child.is_object() {
        *child = json!({});
    }
    child.as_object_mut().expect("made an object above")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn labels(value: &Value) -> crate::model::label::Labels {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())).collect()
}

fn env(value: &Value) -> BTreeMap<String, String> {
    let lines = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    lines
        .map(|line| line.split_once('=').unwrap_or((line, "")))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        json!({
            "Name": "web", "Labels": { "team": "shop" }, "Mode": { "Replicated": { "Replicas": 2 } },
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": "web:1@sha256:abc", "Env": ["A=1", "FLAG", "B=x=y", "A=2"], "Healthcheck": { "Test": ["CMD", "true"] }
                },
                "Resources": { "Limits": { "NanoCPUs": 500_000_000, "Pids": 7 }, "Reservations": {} },
                "SomethingNew": [1, { "z": null, "a": 0.5 }]
            },
            "EndpointSpec": { "Mode": "vip" }
        })
    }

    fn check(asked: ServiceChange, expected: &[(&str, Value)]) {
        let mut changed = spec();
        change(&mut changed, &asked, "7:3").expect("it can be changed");
        let mut wanted = spec();
        for (pointer, value) in expected.iter().cloned().chain([("/Labels/runbookd.step", json!("7:3"))]) {
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
            let parent = wanted.pointer_mut(parent).and_then(Value::as_object_mut).expect(pointer);
            match value {
                Value::Null => parent.remove(key),
                value => parent.insert(key.to_string(), value),
            };
        }
        assert_eq!(changed, wanted, "{asked:?}");
    }

    fn fields(to: SpecFields) -> ServiceChange {
        ServiceChange::Update { from: SpecFields::default(), to }
    }

    #[test]
    fn a_change_touches_its_field_and_the_step_label_alone() {
        let container = "/TaskTemplate/ContainerSpec";
        check(ServiceChange::Scale { from: 2, to: 3 }, &[("/Mode/Replicated/Replicas", json!(3))]);
        check(ServiceChange::Restart { from: 0, to: 1 }, &[("/TaskTemplate/ForceUpdate", json!(1))]);
        let image = SpecFields { image: Some("web:2".into()), ..SpecFields::default() };
        check(fields(image), &[(&format!("{container}/Image"), json!("web:2"))]);
        let env = [("A", Some("3")), ("B", None), ("C", Some("4")), ("D", None)];
        let env = env.map(|(name, value)| (name.to_string(), value.map(str::to_string))).into();
        let env = SpecFields { env, ..SpecFields::default() };
        check(fields(env), &[(&format!("{container}/Env"), json!(["A=3", "FLAG", "C=4"]))]);
        let labels = [("team".to_string(), None), ("tier".to_string(), Some("1".to_string()))].into();
        let labels = SpecFields { labels, ..SpecFields::default() };
        check(fields(labels), &[("/Labels/team", Value::Null), ("/Labels/tier", json!("1"))]);
        let limits = Some(Limits { nano_cpus: None, memory_bytes: Some(1 << 20) });
        let limits = SpecFields { limits, ..SpecFields::default() };
        check(fields(limits), &[("/TaskTemplate/Resources/Limits/MemoryBytes", json!(1 << 20))]);
        check(fields(SpecFields::default()), &[]);
    }

    #[test]
    fn what_has_no_number_of_replicas_is_not_scaled() {
        for (mode, word) in [(json!({ "Global": {} }), "global"), (json!({ "ReplicatedJob": {} }), "job")] {
            let mut spec = json!({ "Name": "logs", "Mode": mode });
            let error = change(&mut spec, &ServiceChange::Scale { from: 1, to: 2 }, "1:1").expect_err("refused");
            assert_eq!(error.reason, ErrorReason::Invalid);
            assert!(error.message.contains("logs is a") && error.message.contains(word), "{error}");
        }
    }

    #[test]
    fn a_service_is_read_from_docker_s_json() {
        let raw = json!({
            "ID": "abc", "Version": { "Index": 114 }, "Spec": spec(),
            "PreviousSpec": { "TaskTemplate": spec()["TaskTemplate"] },
            "UpdateStatus": { "State": "paused", "Message": "update paused" }
        });
        let service = read(&raw, TaskCount { wanted: 5, running: 1 });
        let env: Vec<(&str, &str)> = service.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(env, [("A", "2"), ("B", "x=y"), ("FLAG", "")]);
        assert_eq!((service.version, service.replicas, service.running), (114, 2, 1));
        assert_eq!((service.image.as_str(), service.update), ("web:1@sha256:abc", UpdateState::Paused));
        assert_eq!(service.limits, Limits { nano_cpus: Some(500_000_000), memory_bytes: None });
        assert_eq!(service.previous_template_hash, Some(service.template_hash.clone()));

        let mut forced = raw.clone();
        forced["Spec"]["TaskTemplate"]["ForceUpdate"] = json!(1);
        forced["Spec"]["Mode"] = json!({ "Global": {} });
        forced["PreviousSpec"] = Value::Null;
        let forced = read(&forced, TaskCount { wanted: 5, running: 1 });
        assert_ne!(forced.template_hash, service.template_hash);
        assert_eq!((forced.mode, forced.replicas, forced.previous_template_hash), (Mode::Global, 5, None));
    }

    #[test]
    fn a_task_is_read_with_its_address_in_each_network() {
        let raw = json!({
            "ID": "t1", "NodeID": "n1", "DesiredState": "running", "Status": { "State": "running" },
            "NetworksAttachments": [
                { "Network": { "Spec": { "Name": "monitor" } }, "Addresses": ["10.0.1.5/24", "fd00::5/64"] },
                { "Network": { "Spec": { "Name": "ingress" } } },
                { "Addresses": ["10.0.2.5/24"] }
            ]
        });
        let task = task(&raw, "web", &HashMap::from([("n1", "node1")]));
        assert_eq!((task.node.as_str(), task.state.as_str()), ("node1", "running"));
        assert_eq!(task.addresses, ["10.0.1.5", "fd00::5", "10.0.2.5"]);
        assert_eq!(task.networks, [("monitor".to_string(), "10.0.1.5".to_string())].into());
    }

    #[test]
    fn the_hash_of_a_template_does_not_depend_on_the_order_of_its_keys() {
        let one: Value = serde_json::from_str(r#"{"b":[1,{"y":"\u0001\"","x":null}],"a":0.5}"#).expect("JSON");
        let two: Value = serde_json::from_str(r#"{"a":0.5,"b":[1,{"x":null,"y":"\u0001\""}]}"#).expect("JSON");
        assert_eq!(template_hash(&one), template_hash(&two));
        let mut json = Vec::new();
        canonical(&one, &mut json);
        assert_eq!(String::from_utf8(json).expect("text"), r#"{"a":0.5,"b":[1,{"x":null,"y":"\u0001\""}]}"#);
    }
}
