//! A journal of either kind that can be closed and opened again.

use runbookd::adapters::journal::memory::MemoryJournal;
use runbookd::adapters::journal::sqlite::SqliteJournal;
use runbookd::ports::Journal;
use std::ops::Deref;
use tempfile::TempDir;

pub enum Bed {
    Memory(Box<MemoryJournal>),
    /// Fields are dropped in order: the journal before its directory.
    Sqlite(SqliteJournal, TempDir),
}

impl Bed {
    pub fn memory() -> Self {
        Bed::Memory(Box::new(MemoryJournal::new()))
    }

    pub fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Bed::Sqlite(open(&dir), dir)
    }

    /// As another process would find it after this one has ended.
    pub fn reopen(self) -> Self {
        match self {
            Bed::Memory(journal) => Bed::Memory(Box::new(journal.crash())),
            Bed::Sqlite(journal, dir) => {
                drop(journal);
                Bed::Sqlite(open(&dir), dir)
            }
        }
    }
}

fn open(dir: &TempDir) -> SqliteJournal {
    SqliteJournal::open(dir.path().join("runbookd.db")).expect("a journal opens")
}

impl Deref for Bed {
    type Target = dyn Journal;
    fn deref(&self) -> &Self::Target {
        match self {
            Bed::Memory(journal) => &**journal,
            Bed::Sqlite(journal, _) => journal,
        }
    }
}
