//! Secrets: from a file or the environment, never printed.

use crate::config::Config;
use std::fmt;
use std::path::Path;

/// A value that must not appear in a log, a page, a message or the journal.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Secret(value.into())
    }

    /// The value, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where a secret can come from: its environment variable beats its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// What it is, for people.
    pub what: &'static str,
    pub variable: &'static str,
    /// The key of the configuration that names its file.
    pub key: &'static str,
}

pub const TOKEN: Source = Source { what: "the bearer token of the API", variable: "RUNBOOKD_TOKEN", key: "token_file" };
pub const SLACK_TOKEN: Source =
    Source { what: "Slack's bot token", variable: "RUNBOOKD_SLACK_TOKEN", key: "slack.token_file" };
pub const SLACK_WEBHOOK: Source =
    Source { what: "Slack's incoming webhook", variable: "RUNBOOKD_SLACK_WEBHOOK_URL", key: "slack.webhook_url_file" };
pub const HEARTBEAT: Source =
    Source { what: "the heartbeat's URL", variable: "RUNBOOKD_HEARTBEAT_URL", key: "heartbeat.url_file" };
pub const ALERTMANAGER: Source = Source {
    what: "the token for Alertmanager's API",
    variable: "RUNBOOKD_ALERTMANAGER_TOKEN",
    key: "alertmanager.token_file",
};

pub const PROMETHEUS: Source = Source {
    what: "the token for Prometheus' API",
    variable: "RUNBOOKD_PROMETHEUS_TOKEN",
    key: "prometheus.token_file",
};
pub const HOOKS: Source =
    Source { what: "the bearer token of the hooks", variable: "RUNBOOKD_HOOKS_TOKEN", key: "hooks.token_file" };
pub const GITHUB: Source = Source {
    what: "the secret of GitHub's webhook",
    variable: "RUNBOOKD_GITHUB_SECRET",
    key: "hooks.github_secret_file",
};
pub const JOIN: Source = Source {
    what: "the bearer token with which machines ask to join",
    variable: "RUNBOOKD_JOIN_TOKEN",
    key: "join.token_file",
};

/// Every secret there is.
pub const SOURCES: [Source; 9] =
    [TOKEN, SLACK_TOKEN, SLACK_WEBHOOK, HEARTBEAT, ALERTMANAGER, PROMETHEUS, HOOKS, GITHUB, JOIN];

/// The secrets of one process, read once at start.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    pub token: Option<Secret>,
    pub slack_token: Option<Secret>,
    pub slack_webhook_url: Option<Secret>,
    pub heartbeat_url: Option<Secret>,
    pub alertmanager_token: Option<Secret>,
    pub prometheus_token: Option<Secret>,
    /// By the name of their `http_targets`.
    pub target_tokens: std::collections::BTreeMap<String, Secret>,
    pub hooks_token: Option<Secret>,
    pub github_secret: Option<Secret>,
    pub join_token: Option<Secret>,
}

impl Secrets {
    /// Reads every secret that is set. `Err` says which could not be read and how to mend it.
    pub fn load(config: &Config, env: &dyn Fn(&str) -> Option<String>) -> Result<Secrets, String> {
        let read = |source: Source| read(source, source.file(config), env);
        Ok(Secrets {
            token: read(TOKEN)?,
            slack_token: read(SLACK_TOKEN)?,
            slack_webhook_url: read(SLACK_WEBHOOK)?,
            heartbeat_url: read(HEARTBEAT)?,
            alertmanager_token: read(ALERTMANAGER)?,
            prometheus_token: read(PROMETHEUS)?,
            target_tokens: target_tokens(config)?,
            hooks_token: read(HOOKS)?,
            github_secret: read(GITHUB)?,
            join_token: read(JOIN)?,
        })
    }
}

impl Source {
    pub fn file(self, config: &Config) -> Option<&Path> {
        match self.key {
            "token_file" => config.token_file.as_deref(),
            "slack.token_file" => config.slack.token_file.as_deref(),
            "slack.webhook_url_file" => config.slack.webhook_url_file.as_deref(),
            "heartbeat.url_file" => config.heartbeat.url_file.as_deref(),
            "prometheus.token_file" => config.prometheus.token_file.as_deref(),
            "hooks.token_file" => config.hooks.token_file.as_deref(),
            "hooks.github_secret_file" => config.hooks.github_secret_file.as_deref(),
            "join.token_file" => config.join.token_file.as_deref(),
            _ => config.alertmanager.token_file.as_deref(),
        }
    }

    /// Whether it is set and from where, without reading it: for `runbookd config`.
    pub fn state(self, config: &Config, env: &dyn Fn(&str) -> Option<String>) -> String {
        match (env(self.variable).filter(|value| !value.trim().is_empty()), self.file(config)) {
            (Some(_), _) => "(set, from environment)".to_string(),
            (None, Some(file)) => format!("(set, from file {})", file.display()),
            (None, None) => "(not set)".to_string(),
        }
    }
}

fn read(source: Source, file: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Secret>, String> {
    let Source { what, variable, key } = source;
    if let Some(value) = env(variable) {
        let value = value.trim();
        if !value.is_empty() {
            return Ok(Some(Secret::new(value)));
        }
    }
    file.map(|file| from_file(what, key, file)).transpose()
}

fn from_file(what: &str, key: &str, file: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{what} cannot be read from {} ({key}): {error}", file.display()))?;
    match text.trim() {
        "" => Err(format!("{} ({key}) is empty; it should hold {what}", file.display())),
        value => Ok(Secret::new(value)),
    }
}

fn target_tokens(config: &Config) -> Result<std::collections::BTreeMap<String, Secret>, String> {
    let with_file = config.http_targets.iter().filter_map(|(name, target)| Some((name, target.token_file.as_deref()?)));
    with_file
        .map(|(name, file)| {
            let secret = from_file("the token of a target", &format!("http_targets.{name}.token_file"), file)?;
            Ok((name.clone(), secret))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_beats_the_file_and_nothing_prints_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("token");
        std::fs::write(&file, "from-file\n").expect("written");
        let config = Config { token_file: Some(file), ..Config::default() };
        let none = |_: &str| None;
        let some = |name: &str| (name == "RUNBOOKD_TOKEN").then(|| "from-env".to_string());
        let token = |env: &dyn Fn(&str) -> Option<String>| {
            Secrets::load(&config, env).expect("readable").token.expect("set").expose().to_string()
        };
        assert_eq!((token(&none).as_str(), token(&some).as_str()), ("from-file", "from-env"));
        let shown = format!("{:?} {}", Secrets::load(&config, &some), TOKEN.state(&config, &some));
        assert!(!shown.contains("from-env") && shown.contains("(set, from environment)"), "{shown}");
    }

    #[test]
    fn a_missing_or_empty_file_is_an_error_that_names_the_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let empty = dir.path().join("empty");
        std::fs::write(&empty, " \n").expect("written");
        for file in [dir.path().join("missing"), empty] {
            let config = Config { token_file: Some(file), ..Config::default() };
            let error = Secrets::load(&config, &|_| None).expect_err("nothing there");
            assert!(error.contains("(token_file)"), "{error}");
        }
    }
}
