//! From a call to its intent: the absolute target of each service, decided on what was just observed.

use crate::model::cluster::{Mode, Service, ServiceChange, ServiceIntent, SpecFields, UpdateState};
use crate::model::step::{Intent, Outcome, Step, StepError};
use serde_json::Value;
use std::collections::BTreeMap;

/// Which services a mutating call is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    One(String),
    /// Every service that carries these labels.
    Labelled(BTreeMap<String, String>),
}

/// The targets of a call of an absolute primitive.
pub fn targets(primitive: &str, args: &[Value]) -> Result<Targets, StepError> {
    match (primitive, args.first()) {
        ("reschedule", Some(Value::Object(labels))) => {
            let labels: BTreeMap<String, String> = labels
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_string)))
                .collect();
            if labels.is_empty() {
                return Err(StepError::new(
                    "empty",
                    "reschedule needs at least one label: no filter would mean every service",
                ));
            }
            Ok(Targets::Labelled(labels))
        }
        (_, Some(Value::String(name))) if !name.is_empty() => Ok(Targets::One(name.clone())),
        _ => Err(StepError::new(
            "empty",
            format!("{primitive} was given no service: an empty target is an error, never \"all\""),
        )),
    }
}

/// The services of `all` that `labels` name, in order of their names. None is an error.
pub fn labelled(all: Vec<Service>, labels: &BTreeMap<String, String>) -> Result<Vec<Service>, StepError> {
    let mut found: Vec<Service> = all
        .into_iter()
        .filter(|service| labels.iter().all(|(name, value)| service.label(name) == Some(value)))
        .collect();
    if found.is_empty() {
        let wanted: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        return Err(StepError::new("empty", format!("no service carries the label {}", wanted.join(" and "))));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The intent of one call on one observed service.
pub fn of_service(primitive: &str, args: &[Value], service: &Service) -> Result<ServiceIntent, StepError> {
    let change = match primitive {
        "scale" => scale(args, service)?,
        "restart" | "reschedule" => ServiceChange::Restart { from: service.force_update, to: service.force_update + 1 },
        "rollback" => rollback(service)?,
        "update" => update(args, service)?,
        other => return Err(StepError::new("invalid", format!("{other} is no change of a service"))),
    };
    Ok(ServiceIntent { service: service.name.clone(), id: service.id.clone(), version: service.version, change })
}

fn scale(args: &[Value], service: &Service) -> Result<ServiceChange, StepError> {
    if service.mode != Mode::Replicated {
        let text = format!("{} is a global service: it runs on every node and has no number of replicas", service.name);
        return Err(StepError::new("invalid", text));
    }
    let to = args.get(1).and_then(Value::as_u64);
    let to = to.ok_or_else(|| StepError::new("invalid", "scale needs a number of replicas that is not negative"))?;
    Ok(ServiceChange::Scale { from: service.replicas, to })
}

fn rollback(service: &Service) -> Result<ServiceChange, StepError> {
    let name = &service.name;
    if service.update == UpdateState::RollbackStarted {
        let text =
            format!("{name} is being rolled back already; another rollback would lead to what it is rolled back from");
        return Err(StepError::new("refused", text));
    }
    let Some(previous) = &service.previous_template_hash else {
        return Err(StepError::new("refused", format!("{name} has no previous spec: it was never updated")));
    };
    if *previous == service.template_hash {
        let text = format!(
            "the previous spec of {name} has the same task template: its last change was a scale or a label, and rolling that back would not bring an older image"
        );
        return Err(StepError::new("refused", text));
    }
    Ok(ServiceChange::Rollback { from: service.template_hash.clone(), to: previous.clone() })
}

fn update(args: &[Value], service: &Service) -> Result<ServiceChange, StepError> {
    let mut asked = args.get(1).cloned().unwrap_or_default();
    let force = asked.as_object_mut().and_then(|map| map.remove("force")) == Some(Value::Bool(true));
    let mut to: SpecFields = serde_json::from_value(asked)
        .map_err(|error| StepError::new("invalid", format!("update of {}: {error}", service.name)))?;
    if force {
        to.force_update = Some(service.force_update + 1);
    }
    if to == SpecFields::default() {
        return Err(StepError::new("invalid", format!("update of {} names nothing to change", service.name)));
    }
    // The values of env that were there may be secrets: they stay out of the journal.
    let from = SpecFields {
        image: to.image.as_ref().map(|_| service.image.clone()),
        env: BTreeMap::new(),
        labels: to.labels.keys().map(|name| (name.clone(), service.labels.get(name).map(str::to_string))).collect(),
        limits: to.limits.as_ref().map(|_| service.limits.clone()),
        force_update: to.force_update.map(|_| service.force_update),
    };
    Ok(ServiceChange::Update { from, to })
}

/// Is what is asked for already so? Then nothing is sent.
pub fn already_so(change: &ServiceChange, service: &Service) -> bool {
    match change {
        ServiceChange::Scale { to, .. } => service.replicas == *to,
        ServiceChange::Update { to, .. } => fields_hold(to, service),
        // Each of these is a change by its nature.
        ServiceChange::Restart { .. } | ServiceChange::Rollback { .. } => false,
    }
}

/// Does the service carry every field that an update sets?
pub fn fields_hold(to: &SpecFields, service: &Service) -> bool {
    let image = to.image.as_ref().is_none_or(|image| same_image(image, &service.image));
    let env = to.env.iter().all(|(name, value)| service.env.get(name) == value.as_ref());
    let labels = to.labels.iter().all(|(name, value)| service.labels.get(name) == value.as_deref());
    let limits = to.limits.as_ref().is_none_or(|limits| {
        limits.nano_cpus.is_none_or(|cpus| service.limits.nano_cpus == Some(cpus))
            && limits.memory_bytes.is_none_or(|bytes| service.limits.memory_bytes == Some(bytes))
    });
    let force = to.force_update.is_none_or(|counter| service.force_update == counter);
    image && env && labels && limits && force
}

/// Docker may pin the tag that was asked for to a digest: `web:1` is then `web:1@sha256:…`.
fn same_image(asked: &str, found: &str) -> bool {
    asked == found || (!asked.contains('@') && found.split('@').next() == Some(asked))
}

/// Has another hand changed what this change is about since the run last looked? Names what was seen and what is.
pub fn changed_since(history: &[Step], change: &ServiceChange, service: &Service) -> Option<StepError> {
    let seen = last_seen(history, &service.name)?;
    let moved = |what: &str, then: String, now: String| {
        let name = &service.name;
        StepError::new(
            "changed",
            format!("another hand changed {name} meanwhile: {what} was {then} when this run looked, now it is {now}"),
        )
    };
    match change {
        ServiceChange::Scale { .. } => {
            let then = seen.replicas?;
            (then != service.replicas)
                .then(|| moved("the number of replicas", then.to_string(), service.replicas.to_string()))
        }
        ServiceChange::Update { to, .. } => {
            if let (Some(_), Some(then)) = (&to.image, &seen.image)
                && !same_image(then, &service.image)
            {
                return Some(moved("the image", then.clone(), service.image.clone()));
            }
            to.labels.keys().find_map(|label| {
                let (then, now) = (seen.label(label)?, service.labels.get(label).map(str::to_string));
                let said = |value: Option<String>| value.unwrap_or_else(|| "not there".to_string());
                (then != now).then(|| moved(&format!("the label {label}"), said(then), said(now)))
            })
        }
        // Where it leads hangs on what was there before: after another hand's update, a rollback takes that back.
        ServiceChange::Rollback { .. } => {
            let then = seen.templates?;
            let now = (service.template_hash.clone(), service.previous_template_hash.clone());
            let short = |hash: &str| hash.chars().take(8).collect::<String>();
            let said = |(now, before): (String, Option<String>)| {
                format!("{} after {}", short(&now), short(before.as_deref().unwrap_or("none")))
            };
            (then != now).then(|| moved("the task template", said(then), said(now)))
        }
        ServiceChange::Restart { .. } => None,
    }
}

#[derive(Default)]
struct Seen {
    replicas: Option<u64>,
    image: Option<String>,
    labels: BTreeMap<String, Option<String>>,
    /// Those are all the labels there were.
    all_labels: bool,
    /// The hash of the task template, and of the one before it.
    templates: Option<(String, Option<String>)>,
}

impl Seen {
    /// `None`: the run does not know; `Some(None)`: there was none.
    fn label(&self, name: &str) -> Option<Option<String>> {
        self.labels.get(name).cloned().or(self.all_labels.then_some(None))
    }
}

/// What the run last knew of a service: from a read, or from its own change.
fn last_seen(history: &[Step], name: &str) -> Option<Seen> {
    history.iter().rev().find_map(|step| match (&*step.primitive, step.outcome) {
        ("service", Outcome::Observed) => step.value.as_ref().filter(|value| value["name"] == name).map(seen_in),
        ("services", Outcome::Observed) => {
            let all = step.value.as_ref().and_then(Value::as_array)?;
            all.iter().find(|value| value["name"] == name).map(seen_in)
        }
        (_, Outcome::Applied | Outcome::Planned | Outcome::Unchanged) => match &step.intent {
            Some(Intent::Services(intents)) => {
                intents.iter().find(|intent| intent.service == name).map(|intent| match &intent.change {
                    ServiceChange::Scale { to, .. } => Seen { replicas: Some(*to), ..Seen::default() },
                    ServiceChange::Update { to, .. } => {
                        Seen { image: to.image.clone(), labels: to.labels.clone(), ..Seen::default() }
                    }
                    // Afterwards the run cannot know what is there without a look.
                    ServiceChange::Restart { .. } | ServiceChange::Rollback { .. } => Seen::default(),
                })
            }
            _ => None,
        },
        _ => None,
    })
}

fn seen_in(value: &Value) -> Seen {
    let text = |value: &Value| value.as_str().map(str::to_string);
    let labels = value["labels"].as_object();
    Seen {
        replicas: value["replicas"].as_u64(),
        image: text(&value["image"]),
        labels: labels.into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect(),
        all_labels: labels.is_some(),
        templates: text(&value["template_hash"]).map(|hash| (hash, text(&value["previous_template_hash"]))),
    }
}

/// What was there before, for people and for undo.
pub fn before(change: &ServiceChange) -> Value {
    match change {
        ServiceChange::Scale { from, .. } => serde_json::json!({ "replicas": from }),
        ServiceChange::Restart { from, .. } => serde_json::json!({ "force_update": from }),
        ServiceChange::Rollback { from, .. } => serde_json::json!({ "template_hash": from }),
        ServiceChange::Update { from, .. } => serde_json::to_value(from).unwrap_or_default(),
    }
}

/// A service as a runbook sees it. Its environment is left out: it may hold secrets, and what a runbook reads is journalled.
pub fn service_value(service: &Service) -> Value {
    serde_json::json!({
        "id": service.id,
        "name": service.name,
        "version": service.version,
        "image": service.image,
        "mode": service.mode,
        "replicas": service.replicas,
        "running": service.running,
        "labels": service.labels,
        "container_labels": service.container_labels,
        "update": service.update,
        "update_message": service.update_message,
        "limits": service.limits,
        "force_update": service.force_update,
        "template_hash": service.template_hash,
        "previous_template_hash": service.previous_template_hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::service;
    use crate::model::run::RunId;

    #[test]
    fn a_rollback_that_would_not_lead_back_is_refused() {
        let web = |previous: Option<&str>, update| {
            let previous_template_hash = previous.map(str::to_string);
            Service { template_hash: "bad".into(), previous_template_hash, update, ..service("web", 2) }
        };
        let check = |service: Service, expect: Result<&str, &str>| match (rollback(&service), expect) {
            (Ok(ServiceChange::Rollback { to, .. }), Ok(expected)) => assert_eq!(to, expected),
            (Err(error), Err(word)) => assert!(error.message.contains(word), "{error:?}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        };
        check(web(Some("good"), UpdateState::Updating), Ok("good"));
        check(web(Some("good"), UpdateState::Paused), Ok("good"));
        check(web(None, UpdateState::None), Err("never updated"));
        check(web(Some("bad"), UpdateState::None), Err("same task template"));
        // Another hand rolls it back at this moment: what is bad is the previous spec by now.
        check(web(Some("worse"), UpdateState::RollbackStarted), Err("being rolled back already"));
    }

    fn read(found: &Service) -> Step {
        Step {
            run: RunId(1),
            seq: 0,
            primitive: "service".into(),
            args: Vec::new(),
            intent: None,
            before: None,
            outcome: Outcome::Observed,
            value: Some(service_value(found)),
            error: None,
            started_at: jiff::Timestamp::UNIX_EPOCH,
            finished_at: None,
        }
    }

    fn labelled(found: Service, value: Option<&str>) -> Service {
        Service { labels: value.into_iter().map(|value| ("team", value)).collect(), ..found }
    }

    #[test]
    fn what_another_hand_changed_since_the_run_looked_is_not_changed() {
        let image = || SpecFields { image: Some("shop/web:2".into()), ..SpecFields::default() };
        let label =
            || SpecFields { labels: [("team".to_string(), Some("b".to_string()))].into(), ..SpecFields::default() };
        let update = |to: SpecFields| ServiceChange::Update { from: SpecFields::default(), to };
        let scale = || ServiceChange::Scale { from: 2, to: 3 };
        let rollback = || ServiceChange::Rollback { from: "now".into(), to: "then".into() };
        let web = || service("web", 2);
        let table: Vec<(&str, Service, Service, ServiceChange, Option<&str>)> = vec![
            ("nothing", web(), web(), scale(), None),
            ("the number", web(), service("web", 5), scale(), Some("the number of replicas was 2")),
            ("a number that is not asked for", web(), service("web", 5), update(image()), None),
            (
                "the image",
                web(),
                Service { image: "shop/web:9".into(), ..web() },
                update(image()),
                Some("the image was"),
            ),
            (
                "a digest is no change",
                web(),
                Service { image: "shop/web:1@sha256:1".into(), ..web() },
                update(image()),
                None,
            ),
            (
                "a label",
                labelled(web(), Some("a")),
                labelled(web(), Some("c")),
                update(label()),
                Some("the label team was a"),
            ),
            (
                "a label that came",
                web(),
                labelled(web(), Some("c")),
                update(label()),
                Some("the label team was not there"),
            ),
            ("a label that went", labelled(web(), Some("a")), web(), update(label()), Some("now it is not there")),
            ("a label that is not asked for", web(), labelled(web(), Some("c")), update(image()), None),
            ("nothing to roll back from", web(), web(), rollback(), None),
            (
                "an update before the rollback",
                web(),
                Service { template_hash: "theirs".into(), previous_template_hash: Some("now".into()), ..web() },
                rollback(),
                Some("the task template was now after then"),
            ),
            (
                "a rollback before the rollback",
                web(),
                Service { template_hash: "then".into(), previous_template_hash: Some("now".into()), ..web() },
                rollback(),
                Some("now it is then after now"),
            ),
        ];
        for (what, then, now, change, expect) in table {
            let found = changed_since(&[read(&then)], &change, &now).map(|error| error.message);
            let same = match (&found, expect) {
                (Some(found), Some(expect)) => found.contains(expect),
                (None, None) => true,
                _ => false,
            };
            assert!(same, "{what}: {found:?}");
        }
    }
}
