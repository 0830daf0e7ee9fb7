//! What is shipped in `deploy/`, and what is written for people, fits what is built.

#[path = "deploy/documents.rs"]
mod documents;
#[path = "deploy/user_data.rs"]
mod user_data;

use runbookd::config::Config;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every key of the configuration, as a path.
fn keys(value: &Value, path: &[&str]) -> Vec<Vec<String>> {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().flat_map(|(key, value)| keys(value, &[path, &[key.as_str()]].concat())).collect()
        }
        _ => vec![path.iter().map(|part| part.to_string()).collect()],
    }
}

fn all_keys() -> Vec<Vec<String>> {
    keys(&serde_json::to_value(Config::default()).expect("a configuration is JSON"), &[])
}

#[test]
fn the_example_configuration_has_every_key_with_its_default() {
    let text = shipped("runbookd.yaml");
    let config: Config = serde_saphyr::from_str(&text).expect("it can be read");
    assert_eq!(config, Config::default());
    let told: Value = serde_saphyr::from_str(&text).expect("it can be read");
    let told: BTreeSet<Vec<String>> = keys(&told, &[]).into_iter().collect();
    assert_eq!(told, all_keys().into_iter().collect(), "left: in the file; right: in the configuration");
}

#[test]
fn what_is_set_by_the_environment_is_a_key() {
    let mut known: BTreeSet<String> =
        all_keys().iter().map(|key| format!("RUNBOOKD_{}", key.join("_").to_uppercase())).collect();
    // Secrets, and the path of the file itself, are no keys.
    known.extend(["RUNBOOKD_CONFIG", "RUNBOOKD_HEARTBEAT_URL"].map(String::from));
    known.extend(
        [
            "SLACK_TOKEN",
            "SLACK_WEBHOOK_URL",
            "TOKEN",
            "ALERTMANAGER_TOKEN",
            "PROMETHEUS_TOKEN",
            "HOOKS_TOKEN",
            "GITHUB_SECRET",
            "JOIN_TOKEN",
        ]
        .map(|name| format!("RUNBOOKD_{name}")),
    );
    for file in ["runbookd.stack.yml", "runbookd.service", "runbookd.yaml"] {
        let text = shipped(file);
        let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        let set: Vec<&str> =
            words.filter(|word| word.starts_with("RUNBOOKD_") && word.len() > "RUNBOOKD_".len()).collect();
        assert!(!set.is_empty(), "{file} sets nothing");
        for name in set {
            // Under `reload` the names are the user's own.
            let own = name.starts_with("RUNBOOKD_RELOAD_");
            assert!(own || known.contains(name), "{file}: {name} is no key of the configuration");
        }
    }
}
