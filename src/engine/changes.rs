//! What has changed in the cluster since it was last looked at, as events. Level, not edge: however a change came to be noticed, and however long nobody
//! looked, the difference between what was told and what is there now is what is told. Pure.
//!
//! | label `event` | when |
//! |---|---|
//! | `service_created` | a service is there that was not told of, or under its old name a new one |
//! | `service_updated` | its template, replicas or labels are others: `changed` names which |
//! | `service_removed` | it is gone; its last labels are the event's |
//! | `update_completed` `update_paused` `rollback_completed` `rollback_paused` | the update that was under way has come to that |
//! | `node_joined` `node_left` | a node is there, or gone |
//! | `node_up` `node_down` | its state became `ready`, or anything else |
//! | `node_updated` | its availability, role or labels are others |

use crate::model::cluster::{Node, Service, UpdateState};
use crate::model::event::{Event, On, Seen};
use crate::model::label::Labels;
use crate::ports::STEP_LABEL;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

const SERVICE: &str = "service ";
const NODE: &str = "node ";

/// A service as it was told last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SeenService {
    id: String,
    image: String,
    /// `None` for a service that has no number of its own.
    replicas: Option<u64>,
    template: String,
    /// Those of the container spec and, over them, those of the service.
    labels: Labels,
    /// The step of ours that changed it last, "" when another hand did.
    step: String,
    update: UpdateState,
    /// The update that goes on, or went on last, is ours.
    own: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SeenNode {
    id: String,
    role: String,
    availability: String,
    state: String,
    address: String,
    labels: Labels,
}

/// The events that lead from what was told (`seen`, by `service NAME` and `node NAME`) to what is there, services first, by name.
pub fn changes(seen: &BTreeMap<String, Value>, services: &[Service], nodes: &[Node], now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    let there: BTreeMap<String, SeenService> =
        services.iter().map(|service| (format!("{SERVICE}{}", service.name), of_service(service))).collect();
    let nodes: BTreeMap<String, SeenNode> =
        nodes.iter().map(|node| (format!("{NODE}{}", node.name), of_node(node))).collect();
    for (what, now_is) in there {
        let was = told::<SeenService>(seen, &what);
        events.extend(service_events(&what, was, now_is, now));
    }
    for (what, now_is) in &nodes {
        let was = told::<SeenNode>(seen, what);
        events.extend(node_events(what, was, now_is, now));
    }
    let names: std::collections::BTreeSet<&str> = services.iter().map(|service| service.name.as_str()).collect();
    for (what, state) in seen {
        if let Some(name) = what.strip_prefix(SERVICE).filter(|name| !names.contains(name)) {
            let labels = serde_json::from_value::<SeenService>(state.clone()).map(|was| was.labels).unwrap_or_default();
            events.push(event("service_removed", &labels, &[("service", name)], now, gone(what)));
        } else if what.starts_with(NODE) && !nodes.contains_key(what) {
            let labels = serde_json::from_value::<SeenNode>(state.clone()).map(|was| was.labels).unwrap_or_default();
            events.push(event("node_left", &labels, &[("node", &what[NODE.len()..])], now, gone(what)));
        }
    }
    events
}

/// What cannot be read was never told.
fn told<T: serde::de::DeserializeOwned>(seen: &BTreeMap<String, Value>, what: &str) -> Option<T> {
    seen.get(what).and_then(|state| serde_json::from_value(state.clone()).ok())
}

fn of_service(service: &Service) -> SeenService {
    let all = service.container_labels.iter().chain(service.labels.iter());
    SeenService {
        id: service.id.clone(),
        image: service.image.clone(),
        replicas: (service.mode == crate::model::cluster::Mode::Replicated).then_some(service.replicas),
        template: service.template_hash.clone(),
        labels: all.filter(|(name, _)| *name != STEP_LABEL).collect(),
        step: service.labels.value(STEP_LABEL).to_string(),
        update: service.update,
        own: false,
    }
}

fn of_node(node: &Node) -> SeenNode {
    let Node { id, role, availability, state, address, labels, .. } = node.clone();
    SeenNode { id, role, availability, state, address, labels }
}

fn gone(what: &str) -> Seen {
    Seen { what: what.to_string(), state: None }
}

/// The labels of the service or node are the event's; what we say of it wins over them.
fn event(name: &str, labels: &Labels, ours: &[(&str, &str)], now: Timestamp, seen: Seen) -> Event {
    let ours = ours.iter().copied().filter(|(_, value)| !value.is_empty()).chain([("event", name)]);
    let labels = labels.iter().chain(ours).collect();
    Event { seen: Some(seen), ..Event::new(On::Swarm, labels, now) }
}

fn service_events(what: &str, was: Option<SeenService>, mut is: SeenService, now: Timestamp) -> Vec<Event> {
    let name = &what[SERVICE.len()..];
    let mut events = Vec::new();
    let was = match was {
        Some(was) if was.id != is.id => {
            events.push(event("service_removed", &was.labels, &[("service", name)], now, gone(what)));
            None
        }
        was => was,
    };
    let changed = was.as_ref().map(|was| {
        let differs = [
            ("image", was.image != is.image),
            ("replicas", was.replicas != is.replicas),
            ("labels", was.labels != is.labels),
            ("template", was.template != is.template && was.image == is.image),
        ];
        let names: Vec<&str> = differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
        names.join(",")
    });
    let stepped = was.as_ref().is_some_and(|was| !is.step.is_empty() && was.step != is.step);
    is.own = match (&was, &changed) {
        (Some(_), Some(changed)) if !changed.is_empty() || stepped => stepped,
        (Some(was), _) => was.own,
        (None, _) => false,
    };
    let seen = || Seen { what: what.to_string(), state: serde_json::to_value(&is).ok() };
    let ours = [("service", name), ("image", is.image.as_str())];
    match changed.as_deref() {
        None => events.push(event("service_created", &is.labels, &ours, now, seen())),
        Some("") => {}
        Some(changed) => {
            let ours = [ours[0], ours[1], ("changed", changed)];
            events.push(event("service_updated", &is.labels, &ours, now, seen()));
        }
    }
    let was_update = was.as_ref().map_or(UpdateState::None, |was| was.update);
    let came_to = match is.update {
        UpdateState::Completed => Some("update_completed"),
        UpdateState::Paused => Some("update_paused"),
        UpdateState::RollbackCompleted => Some("rollback_completed"),
        UpdateState::RollbackPaused => Some("rollback_paused"),
        UpdateState::None | UpdateState::Updating | UpdateState::RollbackStarted => None,
    };
    // How an update ended before anybody looked is no news of a service that is told of for the first time.
    let template_moved = was.as_ref().is_some_and(|was| was.template != is.template);
    if let Some(name) = came_to.filter(|_| was.is_some() && (was_update != is.update || template_moved)) {
        events.push(event(name, &is.labels, &ours, now, seen()));
    }
    for event in &mut events {
        event.own = is.own;
    }
    // Nothing to tell, and still something to remember: an update has begun.
    if events.is_empty() && was.as_ref() != Some(&is) {
        events.push(Event { seen: Some(seen()), ..Event::new(On::Swarm, Labels::default(), now) });
    }
    events
}

fn node_events(what: &str, was: Option<SeenNode>, is: &SeenNode, now: Timestamp) -> Vec<Event> {
    let name = &what[NODE.len()..];
    let ours = [
        ("node", name),
        ("role", is.role.as_str()),
        ("availability", is.availability.as_str()),
        ("state", is.state.as_str()),
        ("address", is.address.as_str()),
    ];
    let told = |name: &str| {
        let seen = Seen { what: what.to_string(), state: serde_json::to_value(is).ok() };
        event(name, &is.labels, &ours, now, seen)
    };
    let Some(was) = was.filter(|was| was.id == is.id) else { return vec![told("node_joined")] };
    let mut events = Vec::new();
    match ((was.state == "ready"), (is.state == "ready")) {
        (false, true) => events.push(told("node_up")),
        (true, false) => events.push(told("node_down")),
        _ => {}
    }
    let others =
        |node: &SeenNode| (node.availability.clone(), node.role.clone(), node.labels.clone(), node.address.clone());
    if others(&was) != others(is) {
        events.push(told("node_updated"));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::service;

    /// Told of once, then changed: what is told then, `own` marked with a `*`.
    struct Watched(BTreeMap<String, Value>);

    impl Watched {
        fn look(&mut self, services: &[Service], nodes: &[Node]) -> Vec<String> {
            let events = changes(&self.0, services, nodes, Timestamp::UNIX_EPOCH);
            events
                .into_iter()
                .filter_map(|event| {
                    if let Some(Seen { what, state }) = event.seen.clone() {
                        match state {
                            Some(state) => self.0.insert(what, state),
                            None => self.0.remove(&what),
                        };
                    }
                    let about = [event.labels.value("service"), event.labels.value("node")].concat();
                    let changed = event.labels.get("changed").map_or(String::new(), |changed| format!(" {changed}"));
                    let own = if event.own { "*" } else { "" };
                    (!event.labels.is_empty()).then(|| format!("{own}{} {about}{changed}", event.name()))
                })
                .collect()
        }
    }

    fn labelled(mut service: Service, labels: &[(&str, &str)]) -> Service {
        service.labels = service.labels.iter().chain(labels.iter().copied()).collect();
        service
    }

    fn node(name: &str, state: &str, availability: &str) -> Node {
        Node {
            id: format!("id-{name}"),
            name: name.into(),
            role: "worker".into(),
            availability: availability.into(),
            state: state.into(),
            ..Node::default()
        }
    }

    #[test]
    fn a_service_is_told_of_from_its_creation_to_its_end_each_change_once() {
        let mut watched = Watched(BTreeMap::new());
        let nothing: Vec<String> = Vec::new();
        let web = service("web", 2);
        assert_eq!(watched.look(std::slice::from_ref(&web), &[]), ["service_created web"]);
        assert_eq!(watched.look(std::slice::from_ref(&web), &[]), nothing);
        let three = Service { replicas: 3, ..web.clone() };
        assert_eq!(watched.look(std::slice::from_ref(&three), &[]), ["service_updated web replicas"]);
        let ours = labelled(Service { replicas: 4, ..web.clone() }, &[(STEP_LABEL, "r1:0")]);
        assert_eq!(watched.look(std::slice::from_ref(&ours), &[]), ["*service_updated web replicas"]);
        // Another hand leaves the label of our step as it was.
        let theirs = Service { replicas: 5, ..ours.clone() };
        assert_eq!(watched.look(std::slice::from_ref(&theirs), &[]), ["service_updated web replicas"]);
        let tagged = labelled(theirs, &[("com.df.notify", "true")]);
        assert_eq!(watched.look(std::slice::from_ref(&tagged), &[]), ["service_updated web labels"]);
        let anew = Service { id: "another".into(), ..tagged };
        assert_eq!(watched.look(std::slice::from_ref(&anew), &[]), ["service_removed web", "service_created web"]);
        assert_eq!(watched.look(&[], &[]), ["service_removed web"]);
        assert_eq!(watched.look(&[], &[]), nothing);
    }

    #[test]
    fn the_end_of_an_update_is_told_even_if_nobody_saw_it_go_on() {
        let mut watched = Watched(BTreeMap::new());
        let old = Service { update: UpdateState::Completed, ..service("web", 2) };
        assert_eq!(watched.look(std::slice::from_ref(&old), &[]), ["service_created web"]);
        let newer = |update, step: &str| {
            let new = Service { image: "web:2".into(), template_hash: "two".into(), update, ..old.clone() };
            labelled(new, &[(STEP_LABEL, step)])
        };
        let seen = watched.look(&[newer(UpdateState::Completed, "r1:0")], &[]);
        assert_eq!(seen, ["*service_updated web image", "*update_completed web"]);
        let gone_back = Service { update: UpdateState::RollbackCompleted, ..old.clone() };
        let seen = watched.look(&[labelled(gone_back, &[(STEP_LABEL, "r1:0")])], &[]);
        assert_eq!(seen, ["service_updated web image", "rollback_completed web"]);
    }

    #[test]
    fn a_removed_service_is_told_of_with_its_last_labels() {
        let mut watched = Watched(BTreeMap::new());
        watched.look(&[labelled(service("web", 2), &[("com.df.port", "80")])], &[]);
        let events = changes(&watched.0, &[], &[], Timestamp::UNIX_EPOCH);
        assert_eq!((events.len(), events[0].labels.value("com.df.port")), (1, "80"));
    }

    #[test]
    fn nodes_join_fail_come_back_and_leave() {
        let mut watched = Watched(BTreeMap::new());
        let mut check = |nodes: &[Node], expect: &[&str]| assert_eq!(watched.look(&[], nodes), expect, "{nodes:?}");
        check(&[node("one", "ready", "active")], &["node_joined one"]);
        check(&[node("one", "ready", "active"), node("two", "ready", "active")], &["node_joined two"]);
        check(&[node("one", "down", "active"), node("two", "ready", "drain")], &["node_down one", "node_updated two"]);
        check(&[node("one", "unknown", "active"), node("two", "ready", "drain")], &[]);
        check(&[node("one", "ready", "active"), node("two", "ready", "active")], &["node_up one", "node_updated two"]);
        check(&[node("two", "ready", "active")], &["node_left one"]);
    }

    #[test]
    fn a_label_of_a_service_cannot_pass_for_what_happened() {
        let hostile = labelled(service("web", 2), &[("event", "node_down"), ("service", "db")]);
        let events = changes(&BTreeMap::new(), &[hostile], &[], Timestamp::UNIX_EPOCH);
        assert_eq!((events[0].name(), events[0].labels.value("service")), ("service_created", "web"));
    }
}
