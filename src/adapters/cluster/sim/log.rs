//! The memory of a simulated world: a file of JSON lines, one write() a line before the change is answered.
//!
//! | line | meaning |
//! |---|---|
//! | `{"world":1}` | the first line: the format |
//! | `{"nodes":[…]}` | as the port shows them |
//! | `{"node_groups":{…}}` | with their machines, as they were when this was written |
//! | `{"jobs":{…}}`, `{"job_behaviours":{…}}` | jobs that were started and not removed; how jobs go |
//! | `{"service":{…}}` | one service, whole, as it was when the file was last rewritten |
//! | `{"history":{…}}` | a change accepted before that: already in the service |
//! | `{"applied":{…}}` | a change accepted since |
//! | `{"group_history":{…}}`, `{"group_applied":{…}}` | the same, for changes of groups: `at intent` |
//!
//! `nodes`, `node_groups` and `jobs` stand there again, whole, when one of them has changed: the last one counts, and holds every change of a group that
//! stands before it.
//!
//! `history` and `applied` hold `at service step version change`: `step` is the step's label (`<run>:<seq>`), "" for another hand, `version` the one the
//! change made. Each accepted change is in exactly one of them, in order, up to the newest 200,000. Nothing is synced to disk: the process may die,
//! the machine may not.

use super::groups::{GroupApplied, SimGroup};
use super::job::{JobBehaviour, SimJob};
use super::service::SimService;
use crate::model::cluster::{Node, ServiceChange};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is wrong with a world file or a world's log, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", file.display())]
pub struct WorldError {
    pub file: PathBuf,
    pub message: String,
}

impl WorldError {
    pub fn new(file: &Path, message: impl Into<String>) -> Self {
        WorldError { file: file.to_path_buf(), message: message.into() }
    }
}

/// One accepted change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    pub at: Timestamp,
    pub service: String,
    /// The step's label, "" when it was another hand.
    pub step: String,
    /// The version index that it made.
    pub version: u64,
    pub change: ServiceChange,
}

/// One accepted change of whatever kind.
#[derive(Clone, Debug)]
pub enum Accepted {
    Service(Box<Applied>),
    Group(GroupApplied),
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WriteLine<'a> {
    World(u32),
    Nodes(&'a [Node]),
    Jobs(&'a BTreeMap<String, SimJob>),
    JobBehaviours(&'a BTreeMap<String, JobBehaviour>),
    NodeGroups(&'a BTreeMap<String, SimGroup>),
    Service(&'a SimService),
    History(&'a Applied),
    Applied(&'a Applied),
    GroupHistory(&'a GroupApplied),
    GroupApplied(&'a GroupApplied),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReadLine {
    World(u32),
    Nodes(Vec<Node>),
    Jobs(BTreeMap<String, SimJob>),
    JobBehaviours(BTreeMap<String, JobBehaviour>),
    NodeGroups(BTreeMap<String, SimGroup>),
    Service(Box<SimService>),
    History(Applied),
    Applied(Applied),
    GroupHistory(GroupApplied),
    GroupApplied(GroupApplied),
}

/// What a log holds.
#[derive(Default)]
pub struct Lines {
    pub nodes: Vec<Node>,
    pub jobs: BTreeMap<String, SimJob>,
    pub job_behaviours: BTreeMap<String, JobBehaviour>,
    pub groups: BTreeMap<String, SimGroup>,
    pub services: Vec<SimService>,
    /// Each with whether `services` and `groups` already have it.
    pub accepted: Vec<(Accepted, bool)>,
}

impl Lines {
    /// Groups as of here: they have what was accepted before.
    fn hold(&mut self, groups: BTreeMap<String, SimGroup>) {
        self.groups = groups;
        for (accepted, made) in &mut self.accepted {
            *made |= matches!(accepted, Accepted::Group(_));
        }
    }
}

/// The open file, locked against a second process.
pub struct WorldLog {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines: where to cut after a failed write.
    len: u64,
}

impl WorldLog {
    /// Opens or makes the file and locks it.
    pub fn open(path: &Path) -> Result<Self, WorldError> {
        let wrong =
            |error: std::io::Error| WorldError::new(path, format!("the simulated world cannot be opened: {error}"));
        loop {
            let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(wrong)?;
            file.try_lock().map_err(|error| {
                WorldError::new(path, format!("another runbookd holds this simulated world ({error}); stop it first"))
            })?;
            // A rewrite puts a new file in place: the lock counts only if this is still the one at the path.
            let there = std::fs::metadata(path).map(|there| there.ino());
            if there.ok() == Some(file.metadata().map_err(wrong)?.ino()) {
                return Ok(WorldLog { path: path.to_path_buf(), file, len: 0 });
            }
        }
    }

    /// All whole lines; `None` when the file is new. A last line without its end was torn by a crash and was never answered.
    pub fn read(&mut self) -> Result<Option<Lines>, WorldError> {
        let mut bytes = Vec::new();
        let read = self.file.read_to_end(&mut bytes);
        read.map_err(|error| WorldError::new(&self.path, format!("the simulated world cannot be read: {error}")))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole == 0 {
            return Ok(None);
        }
        let mut lines = Lines::default();
        for (at, line) in bytes[..whole - 1].split(|byte| *byte == b'\n').enumerate() {
            let wrong = |what: &str| {
                let mend = "delete the file to start from the world file again";
                WorldError::new(&self.path, format!("line {}: {what}; {mend}", at + 1))
            };
            match serde_json::from_slice(line).map_err(|error| wrong(&error.to_string()))? {
                ReadLine::World(1) if at == 0 => {}
                ReadLine::World(_) => return Err(wrong("this build reads format 1 only")),
                _ if at == 0 => return Err(wrong("no simulated world: expected {\"world\":1}")),
                ReadLine::Nodes(nodes) => lines.nodes = nodes,
                ReadLine::Jobs(jobs) => lines.jobs = jobs,
                ReadLine::JobBehaviours(behaviours) => lines.job_behaviours = behaviours,
                ReadLine::NodeGroups(groups) => lines.hold(groups),
                ReadLine::Service(service) => lines.services.push(*service),
                ReadLine::History(applied) => lines.accepted.push((Accepted::Service(applied.into()), true)),
                ReadLine::Applied(applied) => lines.accepted.push((Accepted::Service(applied.into()), false)),
                ReadLine::GroupHistory(applied) => lines.accepted.push((Accepted::Group(applied), true)),
                ReadLine::GroupApplied(applied) => lines.accepted.push((Accepted::Group(applied), false)),
            }
        }
        Ok(Some(lines))
    }

    /// Puts a file in place that holds the same world in its present state. A crash leaves the old one or the new one.
    pub(super) fn rewrite<'a>(
        &mut self,
        head: impl IntoIterator<Item = WriteLine<'a>>,
        services: &'a [SimService],
        applied: impl IntoIterator<Item = &'a Applied>,
        group_applied: impl IntoIterator<Item = &'a GroupApplied>,
    ) -> Result<(), WorldError> {
        let head = std::iter::once(WriteLine::World(1)).chain(head);
        let lines = head.chain(services.iter().map(WriteLine::Service));
        let mut bytes = Vec::new();
        let history = applied.into_iter().map(WriteLine::History);
        for line in lines.chain(history).chain(group_applied.into_iter().map(WriteLine::GroupHistory)) {
            push(&mut bytes, &line);
        }
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let replace = || -> std::io::Result<File> {
            std::fs::write(&beside, &bytes)?;
            let file = OpenOptions::new().append(true).open(&beside)?;
            // Held before it is in place: nobody else ever finds it unlocked.
            file.lock()?;
            std::fs::rename(&beside, &self.path)?;
            Ok(file)
        };
        let wrong = |error: std::io::Error| format!("the simulated world cannot be rewritten: {error}");
        self.file = replace().map_err(|error| WorldError::new(&self.path, wrong(error)))?;
        self.len = bytes.len() as u64;
        Ok(())
    }

    /// One line in one write; on failure the file is as before.
    pub(super) fn append(&mut self, line: &WriteLine) -> std::io::Result<()> {
        let mut bytes = Vec::with_capacity(256);
        push(&mut bytes, line);
        let written = self.file.write(&bytes).and_then(|count| match count == bytes.len() {
            true => Ok(()),
            false => Err(std::io::ErrorKind::StorageFull.into()),
        });
        match written {
            Ok(()) => self.len += bytes.len() as u64,
            // Half a line must not stay in front of the next one.
            Err(_) => self.file.set_len(self.len)?,
        }
        written
    }
}

fn push(bytes: &mut Vec<u8>, line: &WriteLine<'_>) {
    serde_json::to_writer(&mut *bytes, line).expect("maps with string keys and plain values are always JSON");
    bytes.push(b'\n');
}
