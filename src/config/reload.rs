//! The targets of `reload:`, told apart by their keys. Programs and their arguments stand here and nowhere else: a script names a target only.

use crate::model::duration::Duration;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What stands in an argument of `check` for the file that is to be checked.
pub const OUTPUT: &str = "{output}";

/// One entry of `reload:`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum ReloadTarget {
    Http(HttpTarget),
    DockerFlow(DockerFlowTarget),
    Template(Box<TemplateTarget>),
}

/// One HTTP request, such as Prometheus' `POST /-/reload`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpTarget {
    pub url: String,
    /// `POST` when it is not said.
    pub method: Option<String>,
    pub timeout: Option<Duration>,
}

/// Docker Flow Proxy or Docker Flow Monitor.
#[derive(Clone, Debug, PartialEq)]
pub struct DockerFlowTarget {
    pub kind: DockerFlow,
    /// Up to the port, or to the prefix in front of `/v1/`.
    pub url: String,
    pub timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DockerFlow {
    Proxy,
    Monitor,
}

/// A file that is rendered from the live cluster, checked, put in place, and told of.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateTarget {
    pub template: PathBuf,
    pub output: PathBuf,
    /// A program and its arguments; none: the file is not checked.
    pub check: Vec<String>,
    pub then: Option<Then>,
    /// For the check, and again for what comes after it.
    pub timeout: Option<Duration>,
}

/// How whoever reads the file is told that it is new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Posts to this URL.
    Http(String),
    Signal(Signal),
    Socket(Socket),
    /// Runs a program with its arguments.
    Command(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenSignal", into = "WrittenSignal")]
pub struct Signal {
    pub to: Recipient,
    pub name: SignalName,
}

/// Whom a signal is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Recipient {
    /// The process whose number stands in this file.
    PidFile(PathBuf),
    /// Running containers of the Docker engine that runbookd talks to: one by its name, or all with a label (`name=value`).
    Container(String),
}

/// The signals by which programs are asked to read their configuration again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SignalName {
    #[default]
    Hup,
    Usr1,
    Usr2,
    Winch,
}

/// One line to a unix socket, such as HAProxy's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    pub path: PathBuf,
    pub line: String,
}

impl ReloadTarget {
    /// Can a reload of it be about one service?
    pub fn takes_service(&self) -> bool {
        matches!(self, ReloadTarget::DockerFlow(_))
    }
}

impl SignalName {
    /// As `kill` knows it, without `SIG`.
    pub fn name(self) -> &'static str {
        match self {
            SignalName::Hup => "HUP",
            SignalName::Usr1 => "USR1",
            SignalName::Usr2 => "USR2",
            SignalName::Winch => "WINCH",
        }
    }
}

/// A target as the file has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    docker_flow_proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    docker_flow_monitor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    then: Option<Then>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Duration>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSignal {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    #[serde(default)]
    name: SignalName,
}

impl TryFrom<Written> for ReloadTarget {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { http, method, docker_flow_proxy, docker_flow_monitor, template, output, check, then, timeout } =
            written;
        let foreign = |kind: &str, present: &[(&str, bool)]| match present.iter().find(|(_, is)| *is) {
            Some((key, _)) => Err(format!("`{key}` does not go with `{kind}` in a reload target")),
            None => Ok(()),
        };
        let of_template = [("output", output.is_some()), ("check", check.is_some()), ("then", then.is_some())];
        match (http, docker_flow_proxy, docker_flow_monitor, template) {
            (Some(url), None, None, None) => {
                foreign("http", &of_template)?;
                Ok(ReloadTarget::Http(HttpTarget { url, method, timeout }))
            }
            (None, Some(url), None, None) => {
                foreign("docker_flow_proxy", &[&of_template[..], &[("method", method.is_some())]].concat())?;
                Ok(ReloadTarget::DockerFlow(DockerFlowTarget { kind: DockerFlow::Proxy, url, timeout }))
            }
            (None, None, Some(url), None) => {
                foreign("docker_flow_monitor", &[&of_template[..], &[("method", method.is_some())]].concat())?;
                Ok(ReloadTarget::DockerFlow(DockerFlowTarget { kind: DockerFlow::Monitor, url, timeout }))
            }
            (None, None, None, Some(template)) => {
                foreign("template", &[("method", method.is_some())])?;
                let output = output.ok_or("a reload target with `template` needs `output`, the file to write")?;
                let target = TemplateTarget { template, output, check: programs(check, then.as_ref())?, then, timeout };
                Ok(ReloadTarget::Template(Box::new(target)))
            }
            _ => Err(
                "a reload target has exactly one of `http`, `docker_flow_proxy`, `docker_flow_monitor` and `template`"
                    .to_string(),
            ),
        }
    }
}

/// The check, once it and the command of `then` can be run.
fn programs(check: Option<Vec<String>>, then: Option<&Then>) -> Result<Vec<String>, String> {
    let runnable = |key: &str, argv: &[String]| match argv.first() {
        Some(program) if !program.is_empty() => Ok(()),
        _ => Err(format!("`{key}` of a reload target is a program and its arguments, as in [\"haproxy\", \"-c\"]")),
    };
    if let Some(Then::Command(argv)) = then {
        runnable("command", argv)?;
    }
    let Some(check) = check else { return Ok(Vec::new()) };
    runnable("check", &check)?;
    if !check.iter().any(|argument| argument.contains(OUTPUT)) {
        return Err(format!(
            "`check` of a reload target must have {OUTPUT} in an argument: it stands for the new file"
        ));
    }
    Ok(check)
}

impl From<ReloadTarget> for Written {
    fn from(target: ReloadTarget) -> Self {
        let none = Written::default();
        match target {
            ReloadTarget::Http(HttpTarget { url, method, timeout }) => {
                Written { http: Some(url), method, timeout, ..none }
            }
            ReloadTarget::DockerFlow(DockerFlowTarget { kind, url, timeout }) => match kind {
                DockerFlow::Proxy => Written { docker_flow_proxy: Some(url), timeout, ..none },
                DockerFlow::Monitor => Written { docker_flow_monitor: Some(url), timeout, ..none },
            },
            ReloadTarget::Template(target) => {
                let TemplateTarget { template, output, check, then, timeout } = *target;
                let check = (!check.is_empty()).then_some(check);
                Written { template: Some(template), output: Some(output), check, then, timeout, ..none }
            }
        }
    }
}

impl TryFrom<WrittenSignal> for Signal {
    type Error = String;

    fn try_from(written: WrittenSignal) -> Result<Self, String> {
        let to = match (written.pid_file, written.container) {
            (Some(file), None) => Recipient::PidFile(file),
            (None, Some(name)) if !name.is_empty() => Recipient::Container(name),
            _ => return Err("`signal` of a reload target has exactly one of `pid_file` and `container`".to_string()),
        };
        Ok(Signal { to, name: written.name })
    }
}

impl From<Signal> for WrittenSignal {
    fn from(signal: Signal) -> Self {
        let Signal { to, name } = signal;
        match to {
            Recipient::PidFile(file) => WrittenSignal { pid_file: Some(file), container: None, name },
            Recipient::Container(container) => WrittenSignal { pid_file: None, container: Some(container), name },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Targets = BTreeMap<String, ReloadTarget>;

    #[test]
    fn each_kind_is_read_and_printed_as_it_was_written() {
        for (text, takes_service) in [
            ("http: http://p:9090/-/reload\nmethod: PUT\ntimeout: 3s", false),
            ("docker_flow_proxy: http://proxy:8080", true),
            ("docker_flow_monitor: http://monitor:8080\ntimeout: 3s", true),
            ("template: a.j2\noutput: a.cfg", false),
            (
                "template: a.j2\noutput: a.cfg\ncheck: [haproxy, -c, -f, '{output}']\nthen: { http: http://p/-/reload }",
                false,
            ),
            ("template: a.j2\noutput: a.cfg\nthen: { signal: { pid_file: /run/a.pid } }", false),
            ("template: a.j2\noutput: a.cfg\nthen: { signal: { container: 'role=proxy', name: USR2 } }", false),
            ("template: a.j2\noutput: a.cfg\nthen: { socket: { path: /run/a.sock, line: reload } }", false),
            ("template: a.j2\noutput: a.cfg\nthen: { command: [nginx, -s, reload] }\ntimeout: 1m", false),
        ] {
            let text = format!("x:\n  {}\n", text.replace('\n', "\n  "));
            let targets: Targets = serde_saphyr::from_str(&text).expect(&text);
            assert_eq!(targets["x"].takes_service(), takes_service, "{text}");
            let printed = serde_saphyr::to_string(&targets).expect("plain data");
            assert_eq!(serde_saphyr::from_str::<Targets>(&printed).expect(&printed), targets, "{printed}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused_with_the_reason() {
        for (text, expected) in [
            ("{}", "exactly one of `http`"),
            ("{ http: a, template: b }", "exactly one of `http`"),
            ("{ docker_flow_proxy: a, docker_flow_monitor: b }", "exactly one of `http`"),
            ("{ http: a, output: b }", "`output` does not go with `http`"),
            ("{ docker_flow_proxy: a, method: PUT }", "`method` does not go with `docker_flow_proxy`"),
            ("{ template: a, output: b, method: PUT }", "`method` does not go with `template`"),
            ("{ template: a }", "needs `output`"),
            ("{ template: a, output: b, check: [] }", "`check` of a reload target is a program"),
            ("{ template: a, output: b, check: [haproxy, -c] }", "must have {output}"),
            ("{ template: a, output: b, then: { command: [] } }", "`command` of a reload target is a program"),
            (
                "{ template: a, output: b, then: { signal: { name: HUP } } }",
                "exactly one of `pid_file` and `container`",
            ),
            ("{ template: a, output: b, then: { signal: { pid_file: c, name: KILL } } }", "KILL"),
            ("{ template: a, output: b, then: { http: c, command: [d] } }", ""),
            ("{ template: a, output: b, then: { shell: c } }", "shell"),
            ("{ template: a, output: b, chekc: [c] }", "chekc"),
            ("{ template: a, output: b, check: 'haproxy -c' }", ""),
        ] {
            let error = serde_saphyr::from_str::<Targets>(&format!("x: {text}")).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
