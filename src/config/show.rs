//! Prints the effective configuration, as a file that can be read back, without a secret.

use crate::config::Config;
use crate::config::secret::SOURCES;
use serde_json::Value;
use std::fmt::Write;

/// Words in the name of a URL's parameter that make its value a secret.
const SECRET_WORDS: [&str; 6] = ["token", "secret", "password", "passwd", "key", "auth"];

impl Config {
    /// As JSON, without passwords and tokens in URLs.
    pub fn redacted(&self) -> Value {
        let mut tree = serde_json::to_value(self).expect("a configuration is plain data");
        redact(&mut tree);
        tree
    }

    /// As YAML, with where each secret comes from as comments.
    pub fn to_yaml(&self, env: &dyn Fn(&str) -> Option<String>) -> String {
        let redacted: Config = serde_json::from_value(self.redacted()).expect("redaction keeps every type");
        let mut text = serde_saphyr::to_string(&redacted).expect("a configuration is plain data");
        text.push_str("# secrets\n");
        for source in SOURCES {
            let _ = writeln!(text, "#   {}, {}: {}", source.variable, source.what, source.state(self, env));
        }
        text
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(redact),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) if text.contains("://") => *text = url(text),
        _ => {}
    }
}

/// A URL without its password and without the values of parameters that are secrets.
pub fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_string() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}:***@{host}", user.split(':').next().unwrap_or_default()),
        None => authority.to_string(),
    };
    let tail = match tail.split_once('?') {
        Some((path, query)) => {
            let pairs: Vec<String> = query.split('&').map(parameter).collect();
            format!("{path}?{}", pairs.join("&"))
        }
        None => tail.to_string(),
    };
    format!("{scheme}://{authority}{tail}")
}

fn parameter(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if SECRET_WORDS.iter().any(|word| name.to_lowercase().contains(word)) => format!("{name}=***"),
        _ => pair.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AwsGroupConfig, CommandGroupConfig, NodeGroupConfig};

    #[test]
    fn urls_keep_all_but_their_secrets() {
        for (text, expect) in [
            ("http://alertmanager:9093", "http://alertmanager:9093"),
            ("http://me:pass@host:1/p?x=1", "http://me:***@host:1/p?x=1"),
            ("http://tok@host/", "http://tok:***@host/"),
            ("http://h/build?token=abc&service=web", "http://h/build?token=***&service=web"),
            ("postgres://u:p%40q@db/x", "postgres://u:***@db/x"),
            ("sqlite://runbookd.db", "sqlite://runbookd.db"),
        ] {
            assert_eq!(url(text), expect);
        }
    }

    #[test]
    fn what_is_printed_can_be_read_back_and_holds_no_secret() {
        let mut config = Config { token_file: Some("/run/secrets/token".into()), ..Config::default() };
        let target = |text: &str| serde_saphyr::from_str(text).expect("a target");
        let http = "http://u:hunter2@p/-/reload";
        config.reload.insert("prometheus".into(), target(&format!("http: {http}")));
        config.reload.insert("proxy".into(), target("docker_flow_proxy: 'http://proxy?token=hunter2'"));
        let file = format!(
            "{{ template: a.j2, output: a.cfg, check: [curl, '{http}?{{output}}'], then: {{ http: '{http}' }} }}"
        );
        config.reload.insert("file".into(), target(&file));
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let groups = [
            NodeGroupConfig::Command(CommandGroupConfig {
                describe: words(&["curl", "https://u:hunter2@cloud/{group}"]),
                resize: words(&["resize", "--to={desired}"]),
                terminate: words(&["terminate", "{instance}"]),
                timeout: None,
                min: 0,
                max: 3,
            }),
            NodeGroupConfig::Aws(AwsGroupConfig {
                auto_scaling_group: "workers".into(),
                region: None,
                endpoint_url: Some("http://u:hunter2@moto".into()),
                min: None,
                max: Some(7),
            }),
        ];
        config.node_groups = ["lab".to_string(), "workers".to_string()].into_iter().zip(groups).collect();
        let env = |name: &str| (name == "RUNBOOKD_SLACK_TOKEN").then(|| "xoxb-hunter2".to_string());
        let text = config.to_yaml(&env);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("Slack's bot token: (set, from environment)"), "{text}");
        assert!(text.contains("(set, from file /run/secrets/token)"), "{text}");
        let read: Config = serde_saphyr::from_str(&text).expect("it can be read back");
        assert_eq!(read.listen, config.listen);
        assert_eq!(read.redacted(), config.redacted());
    }
}
