//! Reads the configuration: flags beat the environment, which beats the file, which beats the defaults.

use crate::config::secret::SOURCES;
use crate::config::{Config, show};
use crate::model::diagnostic::{Diagnostic, nearest};
use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use std::path::Path;

const PREFIX: &str = "RUNBOOKD_";
const RELOAD: &str = "RUNBOOKD_RELOAD_";
/// Variables of the command line, which are no keys of the configuration.
const OTHERS: [&str; 2] = ["RUNBOOKD_CONFIG", "RUNBOOKD_SERVER"];

/// The file that is read, if it exists, when none is named.
pub const DEFAULT_FILE: &str = "runbookd.yaml";

/// A configuration, and what in its sources was suspicious.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<String>,
    /// The file that was read.
    pub source: Option<Source>,
}

/// A file as it was read: findings about the whole point into it.
#[derive(Debug)]
pub struct Source {
    pub file: String,
    pub text: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{file} cannot be read: {error}")]
    Unreadable { file: String, error: std::io::Error },
    #[error("{0}")]
    File(Box<Diagnostic>),
    #[error("{variable} is {value:?}: {why}")]
    Variable { variable: String, value: String, why: String },
}

impl Config {
    /// Reads `file`, or `runbookd.yaml` if there is one, and lays the environment over it.
    pub fn load(file: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, ConfigError> {
        let source = match file {
            Some(file) => Some(source(file)?),
            None if Path::new(DEFAULT_FILE).exists() => Some(source(Path::new(DEFAULT_FILE))?),
            None => None,
        };
        let config = match &source {
            Some(Source { file, text }) => parse(file, text).map_err(ConfigError::File)?,
            None => Config::default(),
        };
        let loaded = Loaded { source, ..overlay(config, env)? };
        bounds(&loaded).map_or(Ok(()), |finding| Err(ConfigError::File(Box::new(finding))))?;
        Ok(loaded)
    }
}

fn source(file: &Path) -> Result<Source, ConfigError> {
    let shown = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Source { file: shown, text }),
        Err(error) => Err(ConfigError::Unreadable { file: shown, error }),
    }
}

/// Bounds that no number of replicas is within. Looked for when file and environment are laid over each other: each may set one of the two.
fn bounds(Loaded { config, source, .. }: &Loaded) -> Option<Diagnostic> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Written {
        bounds: WrittenBounds,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct WrittenBounds {
        replicas_min: Option<Spanned<u64>>,
        replicas_max: Option<Spanned<u64>>,
    }
    let (min, max) = (config.bounds.replicas_min, config.bounds.replicas_max);
    if min <= max {
        return None;
    }
    let message = format!("`replicas_min` {min} is above `replicas_max` {max}: nothing could be scaled");
    let file = source.as_ref().map_or("the configuration", |source| &source.file);
    let found = Diagnostic::error("config_value", file, message).help("lower `replicas_min`, or raise `replicas_max`");
    let written = source.as_ref().and_then(|source| serde_saphyr::from_str::<Written>(&source.text).ok());
    let place = written.and_then(|Written { bounds }| bounds.replicas_min.or(bounds.replicas_max));
    Some(match (source, place) {
        (Some(source), Some(at)) => {
            let length = at.value.to_string().len();
            found.at(&source.text, at.referenced.line() as usize, at.referenced.column() as usize, length)
        }
        _ => found,
    })
}

fn parse(file: &str, text: &str) -> Result<Config, Box<Diagnostic>> {
    // A file of comments alone is a file that changes nothing.
    if text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Config::default());
    }
    serde_saphyr::from_str(text).map_err(|error| Box::new(diagnostic(file, text, &error)))
}

fn diagnostic(file: &str, text: &str, error: &serde_saphyr::Error) -> Diagnostic {
    use serde_saphyr::Error;
    let place = error.location().map_or((0, 0), |at| (at.line() as usize, at.column() as usize));
    let (code, message, length, help) = match error.without_snippet() {
        Error::SerdeUnknownField { field, expected, .. } => {
            let help = match nearest(field, expected.iter().copied()) {
                Some(right) => format!("did you mean {right}?"),
                None => format!("there are {}", expected.join(", ")),
            };
            ("config_unknown_key", format!("there is no key {field}"), field.chars().count(), Some(help))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            let help = format!("expected one of {}", expected.join(", "));
            ("config_value", format!("{variant} is no value of this key"), variant.chars().count(), Some(help))
        }
        other => {
            let message = other.to_string();
            ("config_value", plain(message.lines().next().unwrap_or_default()), 1, None)
        }
    };
    let mut diagnostic = Diagnostic::error(code, file, message).at(text, place.0, place.1, length);
    diagnostic.help = help;
    diagnostic
}

/// The parser's message in words for people: without the place, which is shown beside it, and without the parser's own names of things.
fn plain(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or(message);
    if let Some(key) = message.strip_prefix("missing field ") {
        return format!("the key {key} is missing here");
    }
    if let Some(rest) = message.strip_prefix("duplicate mapping key: ") {
        return format!("the key {} is written twice", rest.split(", set ").next().unwrap_or(rest));
    }
    let said = match message {
        "expected mapping start" => "expected keys with values, as in `key: value`",
        "expected sequence start" => "expected a list, as in [a, b]",
        "expected string scalar" => "expected text",
        "invalid boolean" => "expected true or false",
        "invalid u8" | "invalid u16" | "invalid u32" | "invalid u64" | "invalid usize" => {
            "expected a whole number that is not negative"
        }
        other => other,
    };
    said.to_string()
}

/// Lays `RUNBOOKD_…` variables over a configuration.
fn overlay(config: Config, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, ConfigError> {
    let mut set: Vec<(String, String)> = env.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    set.sort();
    // A reload target can need several variables: they are looked at together, when all are set.
    let (reload, plain): (Vec<_>, Vec<_>) = set.into_iter().partition(|(name, _)| name.starts_with(RELOAD));
    let mut warnings = Vec::new();
    let mut tree = serde_json::to_value(&config).expect("a configuration is plain data");
    let mut config = config;
    let names = variables(&config);
    let pointer_of =
        |variable: &str| names.iter().find(|(name, _)| name == variable).map(|(_, pointer)| pointer.clone());
    for (variable, value) in plain {
        let Some(pointer) = pointer_of(&variable) else {
            if !known_elsewhere(&variable) {
                warnings.push(unknown(&variable, &names));
            }
            continue;
        };
        let wrong = |why: String| ConfigError::Variable { variable: variable.clone(), value: value.clone(), why };
        let absent = tree.pointer(&pointer).is_some_and(Value::is_null);
        put(&mut tree, &pointer, &value).map_err(&wrong)?;
        let mut read = serde_json::from_value(tree.clone());
        if let (true, Err(_), Ok(number)) = (absent, &read, value.trim().parse::<u64>()) {
            // What is absent does not say whether it would be text or a number.
            *tree.pointer_mut(&pointer).expect("it was there just now") = number.into();
            read = serde_json::from_value(tree.clone());
        }
        config = read.map_err(|error| wrong(error.to_string()))?;
    }
    let mut touched = Vec::new();
    for (variable, value) in reload {
        let Some(pointer) = pointer_of(&variable).or_else(|| reload_pointer(&variable, &mut tree)) else {
            warnings.push(unknown(&variable, &names));
            continue;
        };
        let wrong = |why| ConfigError::Variable { variable: variable.clone(), value: show::url(&value), why };
        put(&mut tree, &pointer, &value).map_err(wrong)?;
        let target = pointer.split('/').nth(2).unwrap_or_default().to_string();
        touched.push((target, variable, value));
    }
    for (target, variable, value) in touched {
        let read = serde_json::from_value(tree["reload"][&target].clone());
        let wrong = |error: serde_json::Error| ConfigError::Variable {
            variable,
            value: show::url(&value),
            why: error.to_string(),
        };
        config.reload.insert(target, read.map_err(wrong)?);
    }
    Ok(Loaded { config, warnings, source: None })
}

/// Sets the leaf at a pointer that was made from this tree.
fn put(tree: &mut Value, pointer: &str, text: &str) -> Result<(), String> {
    let leaf = tree.pointer_mut(pointer).expect("the pointer was made from this tree");
    *leaf = typed(leaf, text)?;
    Ok(())
}

/// The variable of every leaf of the configuration, with the leaf's JSON pointer.
pub fn variables(config: &Config) -> Vec<(String, String)> {
    fn walk(value: &Value, name: &str, pointer: &str, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(fields) => {
                for (key, field) in fields {
                    walk(field, &format!("{name}_{}", key.to_uppercase()), &format!("{pointer}/{key}"), found);
                }
            }
            _ => found.push((name.to_string(), pointer.to_string())),
        }
    }
    let mut found = Vec::new();
    let tree = serde_json::to_value(config).expect("a configuration is plain data");
    walk(&tree, PREFIX.trim_end_matches('_'), "", &mut found);
    found
}

/// The keys of a reload target as variables end with them; the longer of two that fit first.
const RELOAD_KEYS: [&str; 15] = [
    "then/signal/pid_file",
    "then/signal/container",
    "then/signal/name",
    "then/socket/path",
    "then/socket/line",
    "then/command",
    "then/http",
    "check",
    "docker_flow_monitor",
    "docker_flow_proxy",
    "template",
    "output",
    "method",
    "timeout",
    "http",
];

/// `RUNBOOKD_RELOAD_PROMETHEUS_HTTP` names a target that the file need not have.
fn reload_pointer(variable: &str, tree: &mut Value) -> Option<String> {
    let rest = variable.strip_prefix(RELOAD)?.to_lowercase();
    let lists = ["check", "then/command"];
    let (target, key) = RELOAD_KEYS.iter().find_map(|key| {
        let target = rest.strip_suffix(&key.replace('/', "_"))?.strip_suffix('_')?;
        (!target.is_empty()).then_some((target, *key))
    })?;
    let mut place = tree.get_mut("reload")?;
    for step in [target].into_iter().chain(key.split('/')) {
        let fields = place.as_object_mut()?;
        place = fields.entry(step).or_insert_with(|| Value::Object(Map::new()));
    }
    *place = if lists.contains(&key) { Value::Array(Vec::new()) } else { Value::Null };
    Some(format!("/reload/{target}/{key}"))
}

/// The text of a variable as the type that its leaf has. What may be absent is text; "" takes it away.
fn typed(leaf: &Value, text: &str) -> Result<Value, String> {
    match leaf {
        Value::Bool(_) => match text.to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true.into()),
            "false" | "0" | "no" | "off" | "" => Ok(false.into()),
            _ => Err("expected true or false".to_string()),
        },
        Value::Number(_) => text.trim().parse::<u64>().map(Value::from).map_err(|_| "expected a number".to_string()),
        Value::Array(_) => serde_json::from_str::<Vec<String>>(text)
            .map(Value::from)
            .map_err(|_| "expected a list of texts, as in [\"haproxy\", \"-c\"]".to_string()),
        Value::Null if text.is_empty() => Ok(Value::Null),
        _ => Ok(text.into()),
    }
}

fn known_elsewhere(variable: &str) -> bool {
    OTHERS.contains(&variable)
        || SOURCES.iter().any(|source| source.variable == variable)
        // Set by and for the project's own tests.
        || variable.starts_with("RUNBOOKD_TEST_")
}

fn unknown(variable: &str, names: &[(String, String)]) -> String {
    let known = names.iter().map(|(name, _)| name.as_str()).chain(SOURCES.iter().map(|source| source.variable));
    match nearest(variable, known) {
        Some(right) => format!("{variable} is set, but there is no such key; did you mean {right}?"),
        None => format!("{variable} is set, but there is no such key; `runbookd config` lists them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClusterKind, LogFormat, NodeGroupConfig};
    use crate::model::duration::Duration;

    fn env(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn every_key_can_be_set_by_the_environment() {
        let names = variables(&Config::default());
        assert!(names.len() > 30, "{names:?}");
        for (variable, pointer) in names {
            let leaf = serde_json::to_value(Config::default()).expect("json").pointer(&pointer).cloned();
            let leaf = leaf.expect("a leaf");
            // A value of the leaf's type that is not the default.
            let value = match (&leaf, variable.as_str()) {
                (_, "RUNBOOKD_CLUSTER") => "sim".to_string(),
                (_, "RUNBOOKD_LOG_FORMAT") => "json".to_string(),
                (_, "RUNBOOKD_JOIN_ROLE") => "manager".to_string(),
                (_, "RUNBOOKD_MAX_MODE") => "shadow".to_string(),
                (_, "RUNBOOKD_ARBITRATION_HANDS") => "17s".to_string(),
                (_, name) if name.starts_with("RUNBOOKD_BOUNDS_AT_ONCE_") => "25%".to_string(),
                (_, name) if ["RUNBOOKD_BUDGETS_", "RUNBOOKD_BRAKE_"].iter().any(|start| name.starts_with(start)) => {
                    "7 per 17m".to_string()
                }
                (Value::Bool(set), _) => (!set).to_string(),
                (Value::Number(number), _) => (number.as_u64().expect("whole") + 1).to_string(),
                (Value::Array(_), _) => r#"["alertname=Watchdog"]"#.to_string(),
                (Value::String(text), _) if Duration::parse(text).is_ok() => "17s".to_string(),
                _ => "else/where".to_string(),
            };
            let loaded = overlay(Config::default(), env(&[(&variable, &value)])).expect(&variable);
            assert_ne!(loaded.config, Config::default(), "{variable} changes nothing");
            assert_eq!(loaded.warnings, Vec::<String>::new());
        }
    }

    #[test]
    fn an_empty_variable_takes_a_limit_away() {
        let set = env(&[("RUNBOOKD_BRAKE_TARGETS", ""), ("RUNBOOKD_BUDGETS_ENGINE", "5 per 1h")]);
        let config = overlay(Config::default(), set).expect("valid").config;
        assert_eq!((config.brake.targets, config.brake.effects), (None, Config::default().brake.effects));
        assert_eq!(config.budgets.engine, "5 per 1h".parse().ok());
        let wrong = overlay(Config::default(), env(&[("RUNBOOKD_BRAKE_EFFECTS", "5 per 1s")])).expect_err("too short");
        assert!(wrong.to_string().contains("per 1m to 30d"), "{wrong}");
    }

    #[test]
    fn the_environment_beats_the_file() {
        let file = "listen: 127.0.0.1:1\ncluster: sim\nlog: { format: json }\nslack: { channel: '#a' }\n";
        let config = parse("runbookd.yaml", file).expect("valid");
        let set = env(&[("RUNBOOKD_LISTEN", "127.0.0.1:2"), ("RUNBOOKD_RUNS_POLL_EVERY", "100ms"), ("HOME", "/")]);
        let Loaded { config, warnings, .. } = overlay(config, set).expect("valid");
        assert_eq!((config.listen.as_str(), config.slack.channel.as_str()), ("127.0.0.1:2", "#a"));
        assert_eq!((config.cluster, config.log.format), (ClusterKind::Sim, LogFormat::Json));
        assert_eq!(config.runs.poll_every, Duration::from_millis(100));
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn the_watchdog_is_named_by_matchers() {
        let watchdog = |text: &str| parse("runbookd.yaml", text).expect("valid").watchdog.parsed();
        assert_eq!(watchdog("watchdog: { match: ['alertname = Watchdog'] }\n").map(|all| all.len()), Ok(1));
        assert_eq!(watchdog("watchdog: { every: 1m }\n").map(|all| all.len()), Ok(0));
        let wrong = watchdog("watchdog: { match: ['alertname'] }\n").map(|all| all.len()).expect_err("no matcher");
        assert!(wrong.starts_with("watchdog.match: \"alertname\": "), "{wrong}");
    }

    #[test]
    fn reload_targets_can_come_from_the_environment_alone() {
        let set = [
            ("RUNBOOKD_RELOAD_MY_PROM_HTTP", "http://p/-/reload"),
            ("RUNBOOKD_RELOAD_MY_PROM_TIMEOUT", "3s"),
            ("RUNBOOKD_RELOAD_LB_CHECK", "[\"haproxy\", \"-c\", \"-f\", \"{output}\"]"),
            ("RUNBOOKD_RELOAD_LB_OUTPUT", "/etc/haproxy/haproxy.cfg"),
            ("RUNBOOKD_RELOAD_LB_TEMPLATE", "haproxy.cfg.j2"),
            ("RUNBOOKD_RELOAD_LB_THEN_SIGNAL_PID_FILE", "/run/haproxy.pid"),
            ("RUNBOOKD_RULES", "elsewhere"),
        ];
        let config = overlay(Config::default(), env(&set)).expect("valid").config;
        let expected = "
            my_prom: { http: http://p/-/reload, timeout: 3s }
            lb:
              template: haproxy.cfg.j2
              output: /etc/haproxy/haproxy.cfg
              check: [haproxy, -c, -f, '{output}']
              then: { signal: { pid_file: /run/haproxy.pid } }";
        assert_eq!(config.reload, serde_saphyr::from_str(expected).expect("targets"));
        assert_eq!(config.rules, std::path::Path::new("elsewhere"));
    }

    #[test]
    fn the_environment_beats_the_file_in_a_reload_target_too() {
        let file = "reload: { lb: { template: a.j2, output: a.cfg, check: [a, '{output}'], timeout: 5s } }\n";
        let config = parse("runbookd.yaml", file).expect("valid");
        let set = [("RUNBOOKD_RELOAD_LB_CHECK", "[\"b\", \"{output}\"]"), ("RUNBOOKD_RELOAD_LB_OUTPUT", "b.cfg")];
        let config = overlay(config, env(&set)).expect("valid").config;
        let expected = "lb: { template: a.j2, output: b.cfg, check: [b, '{output}'], timeout: 5s }";
        assert_eq!(config.reload, serde_saphyr::from_str(expected).expect("targets"));
    }

    #[test]
    fn a_group_of_machines_is_of_one_kind_and_the_environment_changes_its_keys() {
        let file = "node_groups:\n  workers: { aws: { auto_scaling_group: w, max: 5 } }\n  lab:\n    command:\n      describe: [a, b]\n      \
                    resize: [a, '{desired}']\n      terminate: [a, '{instance}']\n      min: 0\n      max: 3\n";
        let config = parse("runbookd.yaml", file).expect("valid");
        let set = [
            ("RUNBOOKD_NODE_GROUPS_WORKERS_AWS_REGION", "eu-central-1"),
            ("RUNBOOKD_NODE_GROUPS_WORKERS_AWS_MIN", "2"),
            ("RUNBOOKD_NODE_GROUPS_LAB_COMMAND_DESCRIBE", r#"["c", "d e"]"#),
            ("RUNBOOKD_NODE_GROUPS_LAB_COMMAND_MAX", "4"),
        ];
        let config = overlay(config, env(&set)).expect("valid").config;
        let NodeGroupConfig::Aws(aws) = &config.node_groups["workers"] else { panic!("{config:?}") };
        assert_eq!((aws.region.as_deref(), aws.min, aws.max), (Some("eu-central-1"), Some(2), Some(5)));
        let NodeGroupConfig::Command(lab) = &config.node_groups["lab"] else { panic!("{config:?}") };
        assert_eq!((lab.describe.as_slice(), lab.max), (&["c".to_string(), "d e".to_string()][..], 4));

        for (text, word) in [
            ("node_groups: { w: { gcp: {} } }", "gcp is no value"),
            ("node_groups: { w: { aws: { auto_scaling_grup: w } } }", "there is no key auto_scaling_grup"),
            ("node_groups: { w: { command: { describe: a } } }", ""),
        ] {
            let found = parse("runbookd.yaml", text).expect_err(text);
            assert!(found.message.contains(word), "{text}: {found}");
        }
        let variable = "RUNBOOKD_NODE_GROUPS_LAB_COMMAND_RESIZE";
        let error = overlay(config, env(&[(variable, "a b")])).expect_err("no array").to_string();
        assert!(error.starts_with(variable) && error.contains("expected a list of texts"), "{error}");
    }

    #[test]
    fn bounds_that_nothing_is_within_are_refused_wherever_they_come_from() {
        let check = |text: &str, set: &[(&str, &str)], place: Option<(usize, usize)>| {
            let config = parse("runbookd.yaml", text).expect("valid by itself");
            let source = Source { file: "runbookd.yaml".into(), text: text.into() };
            let loaded = Loaded { source: Some(source), ..overlay(config, env(set)).expect("valid by itself") };
            let found = bounds(&loaded);
            assert_eq!(found.as_ref().map(|found| (found.line, found.column)), place, "{text}: {found:?}");
        };
        check("bounds: { replicas_min: 2, replicas_max: 2 }\n", &[], None);
        check("bounds: { replicas_min: 5, replicas_max: 2 }\n", &[], Some((1, 25)));
        check("bounds:\n  replicas_max: 2\n", &[("RUNBOOKD_BOUNDS_REPLICAS_MIN", "5")], Some((2, 17)));
        check("listen: a\n", &[("RUNBOOKD_BOUNDS_REPLICAS_MAX", "1")], None);
        let set = [("RUNBOOKD_BOUNDS_REPLICAS_MAX", "1"), ("RUNBOOKD_BOUNDS_REPLICAS_MIN", "2")];
        check("listen: a\n", &set, Some((0, 0)));
        check("bounds: { replicas_min: 5 }\n", &[("RUNBOOKD_BOUNDS_REPLICAS_MIN", "1")], None);
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        for (variable, value, word) in [
            ("RUNBOOKD_RUNS_POLL_EVERY", "soon", "duration"),
            ("RUNBOOKD_INTAKE_BODY_LIMIT_MIB", "many", "number"),
            ("RUNBOOKD_INSECURE", "perhaps", "true or false"),
            ("RUNBOOKD_CLUSTER", "podman", "docker"),
            ("RUNBOOKD_RELOAD_LB_TEMPLATE", "a.j2", "needs `output`"),
            ("RUNBOOKD_RELOAD_LB_CHECK", "haproxy -c", "expected a list"),
        ] {
            let error = overlay(Config::default(), env(&[(variable, value)])).expect_err(variable).to_string();
            assert!(error.starts_with(variable) && error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_warned_of_with_the_right_one() {
        let set = [("RUNBOOKD_LISTN", "x"), ("RUNBOOKD_SLACK_TOKEN", "x"), ("RUNBOOKD_CONFIG", "x")];
        let warnings = overlay(Config::default(), env(&set)).expect("valid").warnings;
        assert_eq!(warnings, ["RUNBOOKD_LISTN is set, but there is no such key; did you mean RUNBOOKD_LISTEN?"]);
    }

    #[test]
    fn an_error_in_the_file_has_its_place_and_the_nearest_right_key() {
        let cases = [
            ("slack:\n  chanel: '#x'\n", 2, 3, "did you mean channel?"),
            ("cluster: podman\n", 1, 10, "expected one of docker, sim"),
            ("listen: a\nrules: [\n", 0, 0, ""),
            ("runs: { poll_every: soon }\n", 0, 0, "\"soon\" is no duration; expected for example 90s, 5m or 1h30m"),
            ("alertmanager: x\n", 0, 0, "expected keys with values, as in `key: value`"),
            ("groups: { sre: ann }\n", 0, 0, "expected a list, as in [a, b]"),
            ("intake: { body_limit_mib: many }\n", 0, 0, "expected a whole number that is not negative"),
            ("bounds: { replicas_max: -1 }\n", 0, 0, "expected a whole number that is not negative"),
            ("insecure: perhaps\n", 0, 0, "expected true or false"),
            ("listen: [a]\n", 0, 0, "expected text"),
            ("freezes: { a: { reason: x } }\n", 0, 0, "the key `when` is missing here"),
            ("freezes: { a: { when: 5, reason: x } }\n", 0, 0, "expected a window of time, or a list of them"),
            ("brake: { targets: 3 }\n", 0, 0, "\"3\" is no budget; write for example `3 per 1h`"),
            ("reload: { a: { template: a.j2 } }\n", 0, 0, ""),
            ("listen: a\nlisten: b\n", 0, 0, "the key listen is written twice"),
        ];
        for (text, line, column, says) in cases {
            let found = parse("runbookd.yaml", text).expect_err(text);
            if line > 0 {
                assert_eq!((found.line, found.column), (line, column), "{found}");
                assert_eq!(found.help.as_deref(), Some(says));
            } else if !says.is_empty() {
                assert_eq!(found.message, says, "{text}");
            }
            assert!(found.line > 0 && !found.message.is_empty(), "{found:?}");
        }
        assert_eq!(parse("runbookd.yaml", "# nothing\n\n").expect("nothing"), Config::default());
    }

    #[test]
    fn the_documented_file_has_every_key_with_its_default() {
        let text = include_str!("../../deploy/runbookd.yaml");
        assert_eq!(parse("deploy/runbookd.yaml", text).expect("valid"), Config::default());
        let mut path: Vec<&str> = Vec::new();
        let mut documented = Vec::new();
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let Some((key, value)) = line.split_once(": ").or(line.strip_suffix(':').map(|key| (key, ""))) else {
                continue;
            };
            path.truncate((key.len() - key.trim_start().len()) / 2);
            path.push(key.trim());
            // `reload: {}` is a map without a leaf.
            if !value.is_empty() && value != "{}" {
                documented.push(format!("/{}", path.join("/")));
            }
        }
        let mut keys: Vec<String> = variables(&Config::default()).into_iter().map(|(_, pointer)| pointer).collect();
        keys.sort();
        documented.sort();
        assert_eq!(documented, keys);
        for source in SOURCES {
            assert!(text.contains(source.variable), "{} is not documented", source.variable);
        }
    }
}
