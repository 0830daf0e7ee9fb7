//! A group of machines behind programs of the config: for any provider that has a command line. No shell, and no word of a script: what is put into the
//! arguments comes from the config, from `describe`, or is a number.
//!
//! | exit status | meaning |
//! |---|---|
//! | 0 | done, or accepted |
//! | 75 (`EX_TEMPFAIL`) | nothing was done; it may work later |
//! | any other | nothing was done, and will not be |
//!
//! A program that is killed, or takes too long, may have done it: unknown.

use super::{PLAIN, is_plain};
use crate::config::CommandGroupConfig;
use crate::config::secret::SOURCES;
use crate::model::diagnostic::nearest;
use crate::model::node_group::{GroupChange, Instance, InstanceState, NodeGroup};
use crate::model::text::visible;
use crate::ports::{ErrorKind, ErrorReason, PortError};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// How long a program may take when the config does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// What `describe` may print, in bytes; and how many machines a group may have.
const PRINTED: u64 = 1 << 20;
const MACHINES: usize = 1_000;
/// What is read of a program's complaints, in bytes, and shown of the last line, in characters.
const COMPLAINT: u64 = 16 << 10;
const COMPLAINT_SHOWN: usize = 300;
/// sysexits.h: "temporary failure; the user is invited to retry".
const TRY_AGAIN: i32 = 75;

/// One group, and the programs that know it.
pub struct CommandGroup {
    name: String,
    describe: Argv,
    resize: Argv,
    terminate: Argv,
    timeout: Duration,
    min: u64,
    max: u64,
}

/// A program and its arguments, checked: every placeholder is one that its call has a value for.
struct Argv {
    /// `describe`, `resize` or `terminate`, for errors.
    call: &'static str,
    words: Vec<String>,
}

/// What `describe` prints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Printed {
    desired: u64,
    instances: Vec<PrintedInstance>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrintedInstance {
    id: String,
    #[serde(default)]
    node: Option<String>,
    state: InstanceState,
}

impl CommandGroup {
    /// Starts nothing. Errors (permanent) name the key that is wrong.
    pub fn new(name: &str, config: &CommandGroupConfig) -> Result<Self, PortError> {
        let CommandGroupConfig { describe, resize, terminate, timeout, min, max } = config;
        if min > max {
            let message = format!("node_groups.{name}.command: min is {min}, above max, which is {max}");
            return Err(PortError::permanent(ErrorReason::Invalid, message));
        }
        Ok(CommandGroup {
            name: name.to_string(),
            describe: Argv::new(name, "describe", describe, &["group"], &[])?,
            resize: Argv::new(name, "resize", resize, &["group", "desired"], &["desired"])?,
            terminate: Argv::new(name, "terminate", terminate, &["group", "instance", "node"], &["instance"])?,
            timeout: timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.std()),
            min: *min,
            max: *max,
        })
    }

    pub async fn describe(&self) -> Result<NodeGroup, PortError> {
        let printed = self.run(&self.describe, &[("group", &self.name)], false).await?;
        let wrong = |what: String| {
            let message = format!("{}: its output {what}; docs/nodes.md shows what is expected", self.at("describe"));
            PortError::permanent(ErrorReason::Invalid, message)
        };
        if printed.len() as u64 > PRINTED {
            return Err(wrong(format!("is longer than {PRINTED} bytes")));
        }
        let Printed { desired, instances } =
            serde_json::from_slice(&printed).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if instances.len() > MACHINES {
            return Err(wrong(format!("has more than {MACHINES} instances")));
        }
        let mut seen = BTreeSet::new();
        for PrintedInstance { id, node, .. } in &instances {
            // They come back to us in intents, and from there go into arguments.
            if let Some(bad) = [Some(id), node.as_ref()].into_iter().flatten().find(|value| !is_plain(value)) {
                return Err(wrong(format!("names {:?}; {PLAIN}", visible(bad, 60))));
            }
            if !seen.insert(id.as_str()) {
                return Err(wrong(format!("has instance {id} twice")));
            }
        }
        let instances =
            instances.into_iter().map(|PrintedInstance { id, node, state }| Instance { id, node, state }).collect();
        Ok(NodeGroup { name: self.name.clone(), desired, min: self.min, max: self.max, instances })
    }

    /// Makes one change that was found to be left to do.
    pub async fn change(&self, change: &GroupChange) -> Result<(), PortError> {
        let group = ("group", self.name.as_str());
        match change {
            GroupChange::Resize { to, .. } => {
                self.run(&self.resize, &[group, ("desired", &to.to_string())], true).await.map(drop)
            }
            GroupChange::Terminate { node, instance, .. } => {
                self.run(&self.terminate, &[group, ("instance", instance), ("node", node)], true).await.map(drop)
            }
        }
    }

    fn at(&self, call: &str) -> String {
        format!("node_groups.{}.command.{call}", self.name)
    }

    /// What the program printed, one byte more than allowed if it was too much.
    async fn run(&self, argv: &Argv, values: &[(&str, &str)], writes: bool) -> Result<Vec<u8>, PortError> {
        let at = self.at(argv.call);
        let words = argv.filled(values).map_err(|why| {
            PortError::permanent(ErrorReason::Invalid, format!("{at}: {why}, so the command was not started"))
        })?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        for source in SOURCES {
            command.env_remove(source.variable);
        }
        let mut child = command.spawn().map_err(|error| {
            let message = format!("{at}: {} cannot be started: {error}; is it installed and in PATH?", words[0]);
            PortError::permanent(ErrorReason::Invalid, message)
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = async { tokio::join!(read(stdout, PRINTED + 1), read(stderr, COMPLAINT), child.wait()) };
        // Dropped at the time limit, the program is killed.
        let Ok((printed, complaint, status)) = tokio::time::timeout(self.timeout, ended).await else {
            let message = format!("{at}: it did not end within {:?} and was killed", self.timeout);
            return Err(in_doubt(writes, ErrorReason::Timeout, message));
        };
        let status = status.map_err(|error| in_doubt(writes, ErrorReason::Other, format!("{at}: {error}")))?;
        if status.success() { Ok(printed) } else { Err(failed(&at, status, &complaint, writes)) }
    }
}

/// A change may have been made; a reading changes nothing.
fn in_doubt(writes: bool, reason: ErrorReason, message: String) -> PortError {
    PortError::new(if writes { ErrorKind::Unknown } else { ErrorKind::Transient }, reason, message)
}

fn failed(at: &str, status: ExitStatus, complaint: &[u8], writes: bool) -> PortError {
    let text = String::from_utf8_lossy(complaint);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    let message = format!("{at} failed ({status}): {}", visible(last.trim(), COMPLAINT_SHOWN));
    match status.code() {
        Some(TRY_AGAIN) => PortError::transient(ErrorReason::Throttled, message),
        Some(_) => PortError::permanent(ErrorReason::Refused, message),
        None => in_doubt(writes, ErrorReason::Other, message),
    }
}

/// Reads to the end and keeps the beginning: a program that prints too much must not be left waiting for us.
async fn read(from: Option<impl AsyncRead + Unpin>, keep: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        // A pipe that breaks ends what was printed; the exit status tells the rest.
        let _ = (&mut from).take(keep).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    kept
}

impl Argv {
    fn new(
        group: &str,
        call: &'static str,
        words: &[String],
        known: &[&str],
        needed: &[&str],
    ) -> Result<Self, PortError> {
        let wrong = |why: String| {
            PortError::permanent(ErrorReason::Invalid, format!("node_groups.{group}.command.{call}: {why}"))
        };
        let Some(program) = words.first().filter(|program| !program.is_empty()) else {
            return Err(wrong("it is empty; expected a program and its arguments, as a list".to_string()));
        };
        if let Some(name) = placeholders(program).next() {
            return Err(wrong(format!("{{{name}}} in the program itself; only its arguments can have values put in")));
        }
        if let Some(name) = words.iter().flat_map(|word| placeholders(word)).find(|name| !known.contains(name)) {
            let help = match nearest(name, known.iter().copied()) {
                Some(right) => format!("did you mean {{{right}}}?"),
                None => format!("here there are {{{}}}", known.join("} {")),
            };
            return Err(wrong(format!("there is no {{{name}}}; {help}")));
        }
        match needed.iter().find(|name| !words.iter().any(|word| placeholders(word).any(|found| found == **name))) {
            Some(name) => Err(wrong(format!("no argument has {{{name}}}, so it could not do what is asked"))),
            None => Ok(Argv { call, words: words.to_vec() }),
        }
    }

    /// The words with the values put in, in one pass: a value is never looked into. `Err` says which value is not fit for an argument.
    fn filled(&self, values: &[(&str, &str)]) -> Result<Vec<String>, String> {
        self.words.iter().map(|word| fill(word, values)).collect()
    }
}

fn fill(word: &str, values: &[(&str, &str)]) -> Result<String, String> {
    let mut filled = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, name, after)) = placeholder(rest) {
        filled.push_str(before);
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) if is_plain(value) => filled.push_str(value),
            Some((_, value)) => return Err(format!("{{{name}}} would be {:?}; {PLAIN}", visible(value, 60))),
            None => return Err(format!("there is no value for {{{name}}}")),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The first `{name}` of a word, with what is before and behind it. Other braces, as in JSON, stand for themselves.
fn placeholder(word: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(open) = word[from..].find('{').map(|at| from + at) {
        let inner = &word[open + 1..];
        let name = &inner[..inner.len() - inner.trim_start_matches(|c: char| c.is_ascii_lowercase() || c == '_').len()];
        if !name.is_empty() && inner[name.len()..].starts_with('}') {
            return Some((&word[..open], name, &inner[name.len() + 1..]));
        }
        from = open + 1;
    }
    None
}

fn placeholders(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(word);
    std::iter::from_fn(move || {
        let (_, name, after) = placeholder(rest?)?;
        rest = Some(after);
        Some(name)
    })
}

#[cfg(test)]
#[path = "command/tests.rs"]
mod tests;
