//! The one table of primitives: bindings, checks, documentation and tests all come from it.

use crate::model::duration::Duration;
use crate::model::step::EffectClass;

/// One host function that a runbook can call.
pub struct Primitive {
    pub name: &'static str,
    pub class: EffectClass,
    /// As people write it: `scale(service, replicas)`.
    pub signature: &'static str,
    pub doc: &'static str,
    /// What the script gets.
    pub returns: &'static str,
    /// Lines of a runbook that use it.
    pub example: &'static str,
    /// Those with a default are optional, and last.
    pub params: &'static [Param],
}

/// One argument of a primitive.
pub struct Param {
    pub name: &'static str,
    pub kind: ParamKind,
    /// As JSON: what it is when it is left out. `None`: it cannot be left out.
    pub default: Option<&'static str>,
}

/// What an argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// The name of a service or of a reload target: a string that is not empty.
    Name,
    /// Any string.
    Text,
    /// A whole number, not negative.
    Replicas,
    /// A map of labels that a service must all have.
    Labels,
    /// As `Labels`, and at least one.
    SomeLabels,
    /// The fields that `update` sets.
    Fields,
    /// Alertmanager's matchers: a map of labels, or an array of texts such as `severity=~"page|critical"`.
    Matchers,
    /// As `Matchers`, and at least one.
    SomeMatchers,
    /// The fields of a job: `args`, `env`, `timeout`.
    JobFields,
    /// A map of values for a query.
    Values,
    /// At least one text, none of them empty.
    Answers,
    /// Anything that can be written as JSON.
    Json,
    /// Text in Prometheus' notation: `90s`, `5m`, `1h30m`.
    Duration,
    /// A function without arguments. It is no part of the step.
    Closure,
}

impl Primitive {
    /// The fewest and the most arguments it takes.
    pub fn arity(&self) -> (usize, usize) {
        let needed = self.params.iter().filter(|param| param.default.is_none()).count();
        (needed, self.params.len())
    }
}

/// How long `wait_healthy` waits when the script does not say.
pub const WAIT_HEALTHY_DEFAULT: Duration = Duration::from_secs(300);

const fn needed(name: &'static str, kind: ParamKind) -> Param {
    Param { name, kind, default: None }
}

const SERVICE: Param = needed("service", ParamKind::Name);
const NODE: Param = needed("node", ParamKind::Name);
const TIMEOUT: Param = needed("timeout", ParamKind::Duration);

pub static PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "service",
        class: EffectClass::Read,
        signature: "service(name)",
        doc: "Looks at a service. Throws `not_found` when there is none by that name.",
        returns: "a map: `id name version image mode replicas running labels container_labels limits force_update update \
                  update_message template_hash previous_template_hash`",
        example: "let web = service(\"web\");\nlog(`${web.name} runs ${web.running} of ${web.replicas} replicas`);",
        params: &[needed("name", ParamKind::Name)],
    },
    Primitive {
        name: "services",
        class: EffectClass::Read,
        signature: "services() · services(#{label: \"value\"})",
        doc: "Looks at all services, or at those that have all of these labels.",
        returns: "an array of maps as `service` returns them, by name",
        example: "for shop in services(#{tier: \"shop\"}) {\n    log(shop.name);\n}",
        params: &[Param { name: "labels", kind: ParamKind::Labels, default: Some("{}") }],
    },
    Primitive {
        name: "tasks",
        class: EffectClass::Read,
        signature: "tasks(service)",
        doc: "Looks at the tasks of a service, the failed ones of late included.",
        returns: "an array of maps: `id service node state desired_state error image`",
        example: "let failed = tasks(\"web\").filter(|task| task.state == \"failed\");\nif failed.len() > 0 { log(failed[0].error); }",
        params: &[SERVICE],
    },
    Primitive {
        name: "nodes",
        class: EffectClass::Read,
        signature: "nodes()",
        doc: "Looks at the nodes of the cluster.",
        returns: "an array of maps: `id name role availability state address labels version running instance`, `running` the tasks on it, `instance` the machine of a group",
        example: "let down = nodes().filter(|node| node.state == \"down\");",
        params: &[],
    },
    Primitive {
        name: "node_group",
        class: EffectClass::Read,
        signature: "node_group(name)",
        doc: "Looks at a group of machines that the configuration names: an auto-scaling group, or what commands of the configuration say of it.",
        returns: "a map: `name desired min max instances`, each instance a map of `id node state`",
        example: "let workers = node_group(\"workers\");\nlog(`${workers.desired} of at most ${workers.max} machines`);",
        params: &[needed("name", ParamKind::Name)],
    },
    Primitive {
        name: "promql",
        class: EffectClass::Read,
        signature: "promql(expr) · promql(expr, #{name: value})",
        doc: "Asks Prometheus now. `$name` in the expression stands for a value of the map, put in as the text of a label's value, escaped: write it \
              between quotes.",
        returns: "an array of maps: `labels value`; empty when nothing matches",
        example: "let slow = promql(\"p99:latency{service=\\\"$service\\\"} > 0.5\", #{service: \"web\"});\nif slow.len() > 0 { log(`${slow[0].value}`); }",
        params: &[
            needed("expr", ParamKind::Text),
            Param { name: "values", kind: ParamKind::Values, default: Some("{}") },
        ],
    },
    Primitive {
        name: "alerts",
        class: EffectClass::Read,
        signature: "alerts() · alerts(matchers)",
        doc: "Asks Alertmanager which alerts fire now: all, or those that match a map of labels or an array of matchers in Alertmanager's syntax.",
        returns: "an array of maps: `labels annotations starts_at suppressed`",
        example: "let pages = alerts([\"severity=~\\\"page|critical\\\"\"]);",
        params: &[Param { name: "matchers", kind: ParamKind::Matchers, default: Some("[]") }],
    },
    Primitive {
        name: "now",
        class: EffectClass::Read,
        signature: "now()",
        doc: "The time. It is a step like any other: a run that is continued sees the time it saw before.",
        returns: "whole seconds since 1970-01-01 00:00 UTC",
        example: "let started = now();",
        params: &[],
    },
    Primitive {
        name: "scale",
        class: EffectClass::Absolute,
        signature: "scale(service, replicas)",
        doc: "Sets the number of replicas of a service. It is the number to have, not a number to add. Returns when the cluster has \
              accepted it: `wait_healthy` waits until they run.",
        returns: "()",
        example: "let web = service(\"web\");\nscale(web.name, web.replicas + 1);",
        params: &[SERVICE, needed("replicas", ParamKind::Replicas)],
    },
    Primitive {
        name: "update",
        class: EffectClass::Absolute,
        signature: "update(service, #{image, env, labels, limits, force})",
        doc: "Changes a service: `image` a string; `env` and `labels` maps of strings, where `()` removes one; `limits` \
              `#{nano_cpus, memory_bytes}`, whole numbers; `force: true` replaces every task even if nothing else changes. What is not \
              named stays as it is.",
        returns: "()",
        example: "update(\"web\", #{image: \"shop/web:1.4\", env: #{CACHE: \"off\", DEBUG: ()}});",
        params: &[SERVICE, needed("fields", ParamKind::Fields)],
    },
    Primitive {
        name: "restart",
        class: EffectClass::Absolute,
        signature: "restart(service)",
        doc: "Replaces every task of a service, in the order and at the pace that its update configuration sets.",
        returns: "()",
        example: "restart(\"web\");\nwait_healthy(\"web\");",
        params: &[SERVICE],
    },
    Primitive {
        name: "rollback",
        class: EffectClass::Absolute,
        signature: "rollback(service)",
        doc: "Goes back to the specification before the last change. Every change, of scale too, is such a change: a rollback after a \
              `scale` undoes the scale, and is refused.",
        returns: "()",
        example: "rollback(\"web\");",
        params: &[SERVICE],
    },
    Primitive {
        name: "reschedule",
        class: EffectClass::Absolute,
        signature: "reschedule(#{label: \"value\"})",
        doc: "Replaces every task of all the services that have these labels, so that the scheduler spreads them anew. Without a label, \
              or when no service has them, it throws `empty`.",
        returns: "()",
        example: "reschedule(#{\"com.df.reschedule\": \"true\"});",
        params: &[needed("labels", ParamKind::SomeLabels)],
    },
    Primitive {
        name: "drain",
        class: EffectClass::Absolute,
        signature: "drain(node)",
        doc: "Takes a node out of service: its tasks move to other nodes, and none is put on it. The last active node is not drained.",
        returns: "()",
        example: "drain(\"node3\");\nwait_until(\"5m\", || nodes().find(|node| node.name == \"node3\").running == 0);",
        params: &[NODE],
    },
    Primitive {
        name: "activate",
        class: EffectClass::Absolute,
        signature: "activate(node)",
        doc: "Puts a node back into service. Tasks do not move back to it by themselves: see `reschedule`.",
        returns: "()",
        example: "activate(\"node3\");",
        params: &[NODE],
    },
    Primitive {
        name: "promote",
        class: EffectClass::Absolute,
        signature: "promote(node)",
        doc: "Makes a node a manager.",
        returns: "()",
        example: "promote(\"node2\");",
        params: &[NODE],
    },
    Primitive {
        name: "demote",
        class: EffectClass::Absolute,
        signature: "demote(node)",
        doc: "Makes a manager a worker. The last manager is not demoted.",
        returns: "()",
        example: "demote(\"node2\");",
        params: &[NODE],
    },
    Primitive {
        name: "add_node",
        class: EffectClass::Absolute,
        signature: "add_node(group, n)",
        doc: "Asks for `n` more machines in a group. What is recorded and asked for is the number to have, so that nothing is added twice. Returns \
              when the provider has accepted: `wait_nodes` waits until they are nodes. Beyond the group's maximum it is denied.",
        returns: "how many machines the group is to have",
        example: "let wanted = add_node(\"workers\", 1);\nwait_nodes(\"workers\", wanted, \"10m\");",
        params: &[needed("group", ParamKind::Name), needed("n", ParamKind::Replicas)],
    },
    Primitive {
        name: "remove_node",
        class: EffectClass::Absolute,
        signature: "remove_node(node) · remove_node(group, node)",
        doc: "With one argument: takes a node that is down, or drained and empty, out of the Swarm's list. With a group: ends the machine of that node, and \
              lowers the number of machines that the group is to have. A node that still has tasks is refused: `drain` it first, and wait.",
        returns: "()",
        example: "remove_node(\"workers\", \"node4\");\nwait_until(\"5m\", || nodes().find(|node| node.name == \"node4\")?.state != \"ready\");\nremove_node(\"node4\");",
        params: &[
            needed("node", ParamKind::Name),
            Param { name: "group", kind: ParamKind::Name, default: Some("null") },
        ],
    },
    Primitive {
        name: "silence",
        class: EffectClass::Keyed,
        signature: "silence(matchers, duration, comment)",
        doc: "Silences alerts in Alertmanager for a time; it ends by itself. Matchers are a map of labels or an array in Alertmanager's syntax, at least one. A \
              rule grants it on the matchers as text, such as `silence: 'service=\"web\"'`.",
        returns: "()",
        example: "silence(#{service: \"web\"}, \"30m\", \"web is being moved\");",
        params: &[
            needed("matchers", ParamKind::SomeMatchers),
            needed("duration", ParamKind::Duration),
            needed("comment", ParamKind::Text),
        ],
    },
    Primitive {
        name: "job",
        class: EffectClass::Keyed,
        signature: "job(image) · job(image, #{args, env, timeout})",
        doc: "Runs a container once, somewhere in the Swarm, and waits for its end: the safe way to run what no primitive covers. `args` an array of strings, \
              `env` a map of strings, `timeout` a duration (5m). Throws `timeout` when it does not end in time, and removes it then. A rule grants it on \
              the image. An exit code other than 0 is no error: look at it.",
        returns: "a map: `exit_code error log`, the log its last lines",
        example: "let done = job(\"tools/backup:3\", #{args: [\"--now\"], timeout: \"10m\"});\nif done.exit_code != 0 { fail(`the backup failed: ${done.log}`); }",
        params: &[
            needed("image", ParamKind::Name),
            Param { name: "fields", kind: ParamKind::JobFields, default: Some("{\"timeout\":\"5m\"}") },
        ],
    },
    Primitive {
        name: "http_post",
        class: EffectClass::Unsafe,
        signature: "http_post(target, body)",
        doc: "Posts JSON to a target of the configuration's `http_targets`. When it is not known whether it arrived, it is not sent again: the run hands over to \
              people.",
        returns: "a map: `status body`",
        example: "http_post(\"ticketing\", #{title: \"web was rolled back\"});",
        params: &[needed("target", ParamKind::Name), needed("body", ParamKind::Json)],
    },
    Primitive {
        name: "reload",
        class: EffectClass::Reload,
        signature: "reload(target) · reload(target, service)",
        doc: "Brings a target of the configuration's `reload` section up to date: asks it to read its own configuration again, renders its file \
              from the live services and nodes first if it is a template (nothing is sent when the file does not change), or tells a Docker Flow \
              target of one service, or of all that carry `com.df.notify=true`. Only a Docker Flow target takes a service; others throw `invalid`.",
        returns: "()",
        example: "reload(\"prometheus\");",
        params: &[
            needed("target", ParamKind::Name),
            Param { name: "service", kind: ParamKind::Name, default: Some("null") },
        ],
    },
    Primitive {
        name: "notify",
        class: EffectClass::Notify,
        signature: "notify(text)",
        doc: "Tells people, in the thread of the incident. Nobody has to act.",
        returns: "()",
        example: "notify(\"web has two more replicas\");",
        params: &[needed("text", ParamKind::Text)],
    },
    Primitive {
        name: "escalate",
        class: EffectClass::Notify,
        signature: "escalate(reason)",
        doc: "Hands over to people, who must act, and ends the run there. It cannot be caught.",
        returns: "nothing: the run ends",
        example: "escalate(\"web is at its ceiling and still slow\");",
        params: &[needed("reason", ParamKind::Text)],
    },
    Primitive {
        name: "sleep",
        class: EffectClass::Wait,
        signature: "sleep(duration)",
        doc: "Waits that long. A run that sleeps costs nothing, and a restart does not lengthen it.",
        returns: "()",
        example: "sleep(\"1m30s\");",
        params: &[needed("duration", ParamKind::Duration)],
    },
    Primitive {
        name: "wait_until",
        class: EffectClass::Wait,
        signature: "wait_until(timeout, || closure)",
        doc: "Waits until the closure returns something else than `false` or `()`. The closure is run again and again, apart from the run: it may \
              only read, what it reads is fresh each time, and what it writes to variables outside is lost. Throws `timeout` when the time \
              runs out.",
        returns: "what the closure returned",
        example: "wait_until(\"2m\", || service(\"web\").running >= 3);",
        params: &[TIMEOUT, needed("closure", ParamKind::Closure)],
    },
    Primitive {
        name: "wait_healthy",
        class: EffectClass::Wait,
        signature: "wait_healthy(service) · wait_healthy(service, timeout)",
        doc: "Waits until the last change of the service has converged: every task wanted runs, health checks are green, and no update is under \
              way. Without a timeout it waits up to 5m. Throws `timeout`, or `failed` with the tasks' own errors when it will not get there.",
        returns: "()",
        example: "restart(\"web\");\nwait_healthy(\"web\", \"3m\");",
        params: &[SERVICE, Param { name: "timeout", kind: ParamKind::Duration, default: Some("\"5m\"") }],
    },
    Primitive {
        name: "wait_nodes",
        class: EffectClass::Wait,
        signature: "wait_nodes(group, n, timeout)",
        doc: "Waits until `n` machines of a group are nodes that are ready. Throws `timeout` when the time runs out.",
        returns: "()",
        example: "wait_nodes(\"workers\", 3, \"10m\");",
        params: &[needed("group", ParamKind::Name), needed("n", ParamKind::Replicas), TIMEOUT],
    },
    Primitive {
        name: "wait_resolved",
        class: EffectClass::Wait,
        signature: "wait_resolved(timeout)",
        doc: "Waits until no alert of the incident fires any more. Throws `timeout` when the time runs out.",
        returns: "()",
        example: "wait_resolved(\"5m\");",
        params: &[TIMEOUT],
    },
    Primitive {
        name: "ask",
        class: EffectClass::Wait,
        signature: "ask(question, timeout) · ask(question, timeout, answers)",
        doc: "Asks people, in the incident's thread, and waits for one of the answers: `yes` or `no`, unless others are given. Whoever may approve the \
              rule's runs may answer. Throws `timeout` when nobody does in time. A rehearsal takes the first answer.",
        returns: "the answer, as text",
        example: "if ask(\"Fail over to the other site?\", \"15m\") == \"yes\" {\n    scale(\"web-b\", 6);\n}",
        params: &[
            needed("question", ParamKind::Text),
            TIMEOUT,
            Param { name: "answers", kind: ParamKind::Answers, default: Some("[\"yes\",\"no\"]") },
        ],
    },
    Primitive {
        name: "log",
        class: EffectClass::None,
        signature: "log(text)",
        doc: "Writes a line to the run's log. `print` and `debug` do the same.",
        returns: "()",
        example: "log(\"looked at web: nothing to do\");",
        params: &[needed("text", ParamKind::Text)],
    },
    Primitive {
        name: "fail",
        class: EffectClass::None,
        signature: "fail(reason)",
        doc: "Ends the run as failed: the next attempt follows, or people are asked. It cannot be caught.",
        returns: "nothing: the run ends",
        example: "if service(\"web\").mode != \"replicated\" { fail(\"web cannot be scaled\"); }",
        params: &[needed("reason", ParamKind::Text)],
    },
];

pub fn find(name: &str) -> Option<&'static Primitive> {
    PRIMITIVES.iter().find(|primitive| primitive.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::Sources;
    use crate::runbook::program::Program;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[test]
    fn every_example_compiles_and_uses_its_primitive() {
        for Primitive { name, example, .. } in PRIMITIVES {
            assert!(example.contains(&format!("{name}(")), "{name}: {example}");
            let main = format!("//! Example.\nfn on_firing(alert, params) {{\n{example}\n}}");
            let sources = Sources { name: "example".into(), main: main.into(), modules: BTreeMap::new() };
            if let Err(errors) = Program::compile(Arc::new(sources)) {
                panic!("{name}: {}", errors[0]);
            }
        }
    }

    #[test]
    fn the_table_is_consistent() {
        for (at, primitive) in PRIMITIVES.iter().enumerate() {
            let Primitive { name, signature, params, class, .. } = primitive;
            assert!(PRIMITIVES[..at].iter().all(|other| other.name != *name), "{name} twice");
            assert!(std::ptr::eq(find(name).expect("found"), primitive));
            assert!(signature.starts_with(&format!("{name}(")), "{signature}");
            let first_optional = params.iter().position(|param| param.default.is_some()).unwrap_or(params.len());
            assert!(
                params[first_optional..].iter().all(|param| param.default.is_some()),
                "{name}: optional ones are last"
            );
            for param in params.iter().filter(|param| param.kind != ParamKind::Fields && !signature.contains("#{")) {
                assert!(signature.contains(param.name), "{signature} names {}", param.name);
            }
            if class.mutates() {
                let targets = [ParamKind::Name, ParamKind::SomeLabels, ParamKind::SomeMatchers];
                assert!(targets.contains(&params[0].kind), "{name}: an effect has a target");
            }
        }
        let healthy = find("wait_healthy").expect("is there").params[1].default.expect("has one");
        assert_eq!(healthy, format!("\"{WAIT_HEALTHY_DEFAULT}\""));
    }
}
