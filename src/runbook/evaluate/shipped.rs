//! The runbooks that users copy, run against a small world that answers their calls.

use super::*;
use crate::model::run::Sources;
use serde_json::json;

fn shipped(name: &str) -> Arc<Program> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks");
    let read = |file: &str| -> Arc<str> { std::fs::read_to_string(folder.join(file)).expect(file).into() };
    let modules = [("lib/services.rhai".to_string(), read("lib/services.rhai"))].into();
    let sources = Sources { name: name.to_string(), main: read(&format!("{name}.rhai")), modules };
    let (program, warnings) = Program::compile(Arc::new(sources)).map_err(|it| it[0].to_string()).expect(name);
    assert!(warnings.is_empty(), "{warnings:?}");
    Arc::new(program)
}

/// The service `web`, changed by what the runbook does to it.
struct World {
    web: Value,
    tasks: Value,
    /// What `wait_healthy` comes to.
    healthy: Answer,
}

impl World {
    fn new(changes: &Value) -> Self {
        let mut web = json!({
            "name": "web", "mode": "replicated", "image": "shop/web:2", "replicas": 2, "running": 2, "labels": {},
            "container_labels": {}, "update": "none", "update_message": "", "template_hash": "b", "previous_template_hash": "a",
        });
        for (name, value) in changes.as_object().expect("a map") {
            web[name] = value.clone();
        }
        World { web, tasks: json!([{"error": ""}]), healthy: Answer::Value(Value::Null) }
    }

    fn answer(&mut self, primitive: &str, args: &[Value]) -> Answer {
        match primitive {
            "service" => return Answer::Value(self.web.clone()),
            "tasks" => return Answer::Value(self.tasks.clone()),
            "wait_healthy" => return self.healthy.clone(),
            "scale" => self.web["replicas"] = args[1].clone(),
            "rollback" => self.web["image"] = json!("shop/web:1"),
            _ => {}
        }
        Answer::Value(Value::Null)
    }
}

/// Runs a handler to its end. The trace has what acts on the world or on people, and the end.
fn run_to_end(name: &str, handler: Handler, params: &Value, world: &mut World) -> Vec<String> {
    let program = shipped(name);
    let mut all = serde_json::Map::from_iter(program.defaults.clone());
    all.extend(params.as_object().expect("a map").clone());
    let input = Arc::new(Input { alert: json!({"labels": {"service": "web"}}), params: Value::Object(all) });
    let mut history: Vec<Arc<Recorded>> = Vec::new();
    let mut trace = Vec::new();
    loop {
        let job = Job { program: program.clone(), handler, input: input.clone(), history: history.clone(), poll: None };
        match sandbox::on_deep_stack(|| guarded(job)).next {
            Next::Call { primitive, args, .. } => {
                if !["service", "tasks"].contains(&primitive) {
                    let args: Vec<String> = args.iter().map(|arg| arg.to_string().replace('"', "")).collect();
                    trace.push(format!("{primitive} {}", args.join(" ")));
                }
                let answer = world.answer(primitive, &args);
                history.push(Arc::new(Recorded { primitive: primitive.into(), args, answer }));
            }
            Next::Done(_) => trace.push("done".into()),
            Next::Escalated(_) => trace.push("escalated".into()),
            Next::Failed(failure) => trace.push(format!("failed {}", failure.message)),
            other => panic!("{other:?}"),
        }
        if trace.last().is_some_and(|last| ["done", "escalated"].contains(&last.as_str()) || last.starts_with("failed"))
        {
            return trace;
        }
    }
}

fn check(name: &str, handler: Handler, params: Value, mut world: World, expect: &[&str]) {
    assert_eq!(run_to_end(name, handler, &params, &mut world), expect, "{name} {params}");
}

fn unhealthy(changes: Value) -> World {
    let mut world = World::new(&changes);
    world.tasks = json!([{"error": "no space"}, {"error": ""}, {"error": "no space"}]);
    world.healthy = Answer::Error(StepError::new("timeout", "1 of 2 run"));
    world
}

#[test]
fn scale_out_adds_replicas_up_to_the_ceiling() {
    let firing =
        |params: Value, world: World, expect: &[&str]| check("scale_out", Handler::OnFiring, params, world, expect);
    firing(
        json!({}),
        World::new(&json!({})),
        &["scale web 3", "wait_healthy web 5m", "notify web: 2 → 3 replicas", "done"],
    );
    firing(
        json!({"step": 4, "ceiling": 5}),
        World::new(&json!({})),
        &["scale web 5", "wait_healthy web 5m", "notify web: 2 → 5 replicas", "done"],
    );
    let ceiling = "escalate web has 2 replicas, its ceiling is 2, and the alert still fires";
    firing(json!({"ceiling": 2}), World::new(&json!({})), &[ceiling, "escalated"]);
    firing(json!({}), World::new(&json!({"labels": {"com.df.scaleMax": "2"}})), &[ceiling, "escalated"]);
    firing(json!({}), World::new(&json!({"container_labels": {"com.df.scaleMax": "2"}})), &[ceiling, "escalated"]);
    let label = World::new(&json!({"labels": {"com.df.scaleMax": "many"}}));
    firing(json!({}), label, &["scale web 3", "wait_healthy web 5m", "notify web: 2 → 3 replicas", "done"]);
    firing(json!({"step": 0}), World::new(&json!({})), &["failed the parameter step is 0; it must be at least 1"]);
    let global = World::new(&json!({"mode": "global"}));
    firing(json!({}), global, &["failed web is global: its number of replicas cannot be set"]);
    firing(
        json!({}),
        unhealthy(json!({})),
        &[
            "scale web 3",
            "wait_healthy web 5m",
            "escalate web was scaled to 3, but: 1 of 2 run (no space)",
            "escalated",
        ],
    );
}

#[test]
fn scale_out_gives_replicas_back_only_when_told_how_many_to_keep() {
    let resolved =
        |params: Value, world: World, expect: &[&str]| check("scale_out", Handler::OnResolved, params, world, expect);
    resolved(json!({}), World::new(&json!({"replicas": 5})), &["done"]);
    let steps = [
        "sleep 10m",
        "scale web 4",
        "wait_healthy web 5m",
        "sleep 1m",
        "scale web 3",
        "wait_healthy web 5m",
        "notify web is quiet: 4 → 3 replicas",
        "done",
    ];
    resolved(json!({"floor": 3}), World::new(&json!({"replicas": 5})), &steps);
    let label = json!({"replicas": 5, "labels": {"com.df.scaleMin": "4"}});
    let one = ["sleep 10m", "scale web 4", "wait_healthy web 5m", "notify web is quiet: 5 → 4 replicas", "done"];
    resolved(json!({"floor": 2}), World::new(&label), &one);
    resolved(json!({}), World::new(&label), &one);
    resolved(json!({"floor": 3}), World::new(&json!({})), &["done"]);
}

#[test]
fn restart_unhealthy_restarts_what_is_not_in_an_update() {
    let firing =
        |world: World, expect: &[&str]| check("restart_unhealthy", Handler::OnFiring, json!({}), world, expect);
    firing(
        World::new(&json!({})),
        &["restart web", "wait_healthy web 5m", "notify web was restarted: 2 tasks replaced", "done"],
    );
    firing(
        World::new(&json!({"update": "paused", "update_message": "task failed"})),
        &["escalate web is unhealthy in the middle of an update (paused): task failed", "escalated"],
    );
    firing(
        World::new(&json!({"replicas": 0})),
        &["escalate web is scaled to 0 replicas: there is nothing to restart", "escalated"],
    );
    firing(
        unhealthy(json!({})),
        &[
            "restart web",
            "wait_healthy web 5m",
            "escalate web does not come up after a restart: 1 of 2 run (no space)",
            "escalated",
        ],
    );
}

#[test]
fn rollback_bad_update_goes_back_once_and_never_to_the_bad_version() {
    let firing =
        |world: World, expect: &[&str]| check("rollback_bad_update", Handler::OnFiring, json!({}), world, expect);
    let told = "notify web was rolled back: shop/web:2 → shop/web:1. The rolled back version needs a look before it is deployed again";
    firing(World::new(&json!({})), &["rollback web", "wait_healthy web 5m", told, "done"]);
    firing(
        World::new(&json!({"update": "rollback_completed", "update_message": "rolled back"})),
        &[
            "wait_healthy web 5m",
            "escalate web was rolled back by the cluster, and the alert still fires: rolled back",
            "escalated",
        ],
    );
    for previous in [json!(null), json!("b")] {
        firing(
            World::new(&json!({"previous_template_hash": previous})),
            &[
                "escalate web has no earlier version to go back to: the alert has another cause than an update",
                "escalated",
            ],
        );
    }
}
