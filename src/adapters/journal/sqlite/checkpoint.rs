//! Moves the WAL into the database file, off the writer's thread, and keeps the WAL short.
//!
//! A passive checkpoint disturbs nobody, but under steady writing it never catches up, and only a WAL that is wholly moved starts anew. So when it
//! grows too long, the writer is held back for the little that a passive checkpoint has left over.

use rusqlite::Connection;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Pages (4 KiB) written since the last checkpoint that call for the next: 16 MiB.
const CHUNK_PAGES: u32 = 4_096;
/// Pages in the WAL at which the writer is held back: 64 MiB.
const LIMIT_PAGES: u32 = 16_384;

/// What the writer tells the checkpointer, and the gate by which it is held back.
#[derive(Default)]
pub(super) struct Wal {
    /// Pages of the WAL that are in the database file already.
    moved: AtomicU32,
    orders: Mutex<Orders>,
    changed: Condvar,
}

#[derive(Default)]
struct Orders {
    due: bool,
    stop: bool,
    /// The writer starts no transaction.
    held: bool,
}

impl Wal {
    /// After each commit: the WAL holds `pages` now.
    pub(super) fn grown(&self, pages: u32) {
        let mut moved = self.moved.load(Ordering::Relaxed);
        if pages < moved {
            // It has started anew.
            self.moved.store(0, Ordering::Relaxed);
            moved = 0;
        }
        if pages - moved >= CHUNK_PAGES {
            self.order(|orders| orders.due = true);
        }
    }

    /// Waits while the writer is held back.
    pub(super) fn pass(&self) {
        let orders = self.orders.lock().expect("no code panics while it holds the lock");
        drop(self.changed.wait_while(orders, |orders| orders.held).expect("no code panics while it holds the lock"));
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders.lock().expect("no code panics while it holds the lock"));
        self.changed.notify_all();
    }

    /// The next order; `false` to stop.
    fn next(&self) -> bool {
        let orders = self.orders.lock().expect("no code panics while it holds the lock");
        let waiting = self.changed.wait_while(orders, |orders| !orders.due && !orders.stop);
        let mut orders = waiting.expect("no code panics while it holds the lock");
        orders.due = false;
        !orders.stop
    }
}

/// Lets the writer on again, whatever happens.
struct Held<'a>(&'a Wal);

impl<'a> Held<'a> {
    fn back(wal: &'a Wal) -> Self {
        wal.order(|orders| orders.held = true);
        Held(wal)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.order(|orders| orders.held = false);
    }
}

pub(super) struct Checkpointer {
    wal: Arc<Wal>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(wal: Arc<Wal>, conn: Connection) -> std::io::Result<Self> {
        let orders = wal.clone();
        let thread = std::thread::Builder::new().name("journal-checkpoint".into()).spawn(move || {
            let mut failing = false;
            while orders.next() {
                match checkpoint(&conn, &orders) {
                    Ok(()) => failing = false,
                    Err(error) if !failing => {
                        failing = true;
                        // Nothing is lost: the WAL only grows.
                        tracing::warn!(%error, "cannot move the journal's WAL into its file; trying again after the next writes");
                    }
                    Err(_) => {}
                }
            }
        })?;
        Ok(Checkpointer { wal, thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wal.order(|orders| orders.stop = true);
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been printed; there is nothing more to do about it.
            let _ = thread.join();
        }
    }
}

fn checkpoint(conn: &Connection, wal: &Wal) -> rusqlite::Result<()> {
    let (pages, moved) = run(conn, "PRAGMA wal_checkpoint(PASSIVE)")?;
    wal.moved.store(moved, Ordering::Relaxed);
    if pages >= LIMIT_PAGES {
        let _held = Held::back(wal);
        let (_, moved) = run(conn, "PRAGMA wal_checkpoint(RESTART)")?;
        wal.moved.store(moved, Ordering::Relaxed);
    }
    Ok(())
}

/// Pages in the WAL, and how many of them are in the file.
fn run(conn: &Connection, pragma: &str) -> rusqlite::Result<(u32, u32)> {
    // The first column says that somebody was in the way: then the figures say how far it got.
    let pages = |value: i64| u32::try_from(value).unwrap_or(0);
    conn.query_row(pragma, [], |row| Ok((pages(row.get(1)?), pages(row.get(2)?))))
}
