//! Suspended runs: who sleeps until when. A sleeper is a few words of memory; the rest of it is in the journal.

use super::Resume;
use crate::model::run::RunId;
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

#[derive(Default)]
pub struct Sleepers {
    inner: Mutex<Inner>,
    earlier: Notify,
}

#[derive(Default)]
struct Inner {
    by_time: BTreeSet<(Timestamp, RunId)>,
    by_run: HashMap<RunId, Sleeper>,
}

/// Which targets it has locked is not among it: the first step after its sleep that changes something asks again, and is given what its incident holds.
struct Sleeper {
    at: Timestamp,
    resume: Resume,
}

impl Sleepers {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, at: Timestamp, run: RunId, resume: Resume) {
        let mut inner = self.inner();
        inner.by_time.insert((at, run));
        inner.by_run.insert(run, Sleeper { at, resume });
        if inner.by_time.first() == Some(&(at, run)) {
            self.earlier.notify_one();
        }
    }

    /// Takes one out before its time.
    pub fn take(&self, run: RunId) -> Option<Resume> {
        let mut inner = self.inner();
        let sleeper = inner.by_run.remove(&run)?;
        inner.by_time.remove(&(sleeper.at, run));
        Some(sleeper.resume)
    }

    /// Takes out all whose time has come.
    pub fn due(&self, now: Timestamp) -> Vec<(RunId, Resume)> {
        let mut due = Vec::new();
        let mut inner = self.inner();
        while let Some(&(at, run)) = inner.by_time.first().filter(|(at, _)| *at <= now) {
            inner.by_time.remove(&(at, run));
            if let Some(sleeper) = inner.by_run.remove(&run) {
                due.push((run, sleeper.resume));
            }
        }
        due
    }

    /// When the first wakes, and what resolves when another is to wake before it.
    pub fn next(&self) -> (Option<Timestamp>, impl Future<Output = ()> + '_) {
        let at = self.inner().by_time.first().map(|(at, _)| *at);
        (at, self.earlier.notified())
    }
}
