//! What only a journal on disk can do: be locked, be full, be of another release, be cut off in the middle.

#[path = "journal/samples.rs"]
mod samples;

use futures_util::FutureExt;
use runbookd::adapters::journal::sqlite::{OpenError, SqliteJournal};
use runbookd::model::alert::Status;
use runbookd::model::incident::{IncidentId, State};
use runbookd::model::run::{RunId, RunState};
use runbookd::model::step::Outcome;
use runbookd::ports::{IncidentFilter, Journal, Write};
use samples::*;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn open(path: impl AsRef<Path>) -> SqliteJournal {
    SqliteJournal::open(path.as_ref()).expect("a journal opens")
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn a_second_process_is_kept_out_until_the_first_has_ended() {
    let dir = directory();
    let path = dir.path().join("runbookd.db");
    let first = open(&path);
    match SqliteJournal::open(&path) {
        Err(OpenError::Locked { path: named }) => assert_eq!(named, path),
        other => panic!("expected Locked, got {:?}", other.err()),
    }
    drop(first);
    open(&path);
}

#[test]
fn what_is_no_journal_of_ours_is_refused_and_left_alone() {
    let dir = directory();
    let check = |name: &str, sql: Option<&str>, expect: &str| {
        let path = dir.path().join(name);
        match sql {
            Some(sql) => {
                rusqlite::Connection::open(&path).and_then(|conn| conn.execute_batch(sql)).expect("a database")
            }
            None => {
                std::fs::write(&path, "not a database, but long enough to be looked at\n".repeat(99)).expect("a file")
            }
        }
        let before = std::fs::read(&path).expect("a file");
        let error = SqliteJournal::open(&path).err().expect("refused").to_string();
        assert!(error.contains(expect) && error.contains(name), "{error}");
        assert_eq!(std::fs::read(&path).expect("a file"), before, "{name} was touched");
    };
    check("foreign.db", Some("CREATE TABLE t (a); INSERT INTO t VALUES (1)"), "no journal of runbookd's");
    check(
        "newer.db",
        Some("PRAGMA application_id = 1919052644; PRAGMA user_version = 999; CREATE TABLE t (a)"),
        "of a later release (version 999; this one knows versions up to",
    );
    check("text.db", None, "not a database");
    let missing = SqliteJournal::open(dir.path().join("no/such/dir/j.db")).err().expect("refused").to_string();
    assert!(missing.contains("its directory must exist and be writable"), "{missing}");
}

#[cfg(unix)]
#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = directory();
    let _journal = open(dir.path().join("j.db"));
    for name in ["j.db", "j.db-wal"] {
        let mode = std::fs::metadata(dir.path().join(name)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_intake_and_keeps_what_is_staged() {
    let dir = directory();
    let path = dir.path().join("j.db");
    let journal = open(&path);
    assert_eq!(journal.intake(post(b"fits", 0)).await.expect("stored"), 1);
    journal.limit_pages(NonZeroU32::new(1));
    let refused = journal.intake(post(&[7; 100_000], 0)).await.expect_err("refused").to_string();
    assert!(refused.contains("j.db") && refused.contains("make room on its disk"), "{refused}");
    assert_eq!(journal.health().expect_err("in trouble").to_string(), refused);
    // Staged meanwhile, in order; its ticket waits; what would read it is told why it cannot.
    for n in 1..=300 {
        let mut written = incident(1, State::Open);
        written.attempt = n;
        let note = "x".repeat(2_000);
        let transition = transition(1, i64::from(n), None, State::Open);
        let transition = runbookd::model::incident::Transition {
            reason: runbookd::model::incident::Reason::new("firing", note),
            ..transition
        };
        journal.stage(vec![Write::Incident(Box::new(written)), Write::Transition(transition)]);
    }
    let mut ticket = journal.commit();
    assert!(journal.incident(IncidentId(1)).await.is_err());
    assert!(journal.intake(post(b"small", 0)).await.is_err(), "what was staged goes first");
    assert!((&mut ticket).now_or_never().is_none());
    assert!((1..=600).contains(&journal.backlog()));
    assert_eq!(*journal.intakes().borrow(), 1);

    journal.limit_pages(None);
    assert_eq!(journal.intake(post(b"fits again", 0)).await.expect("stored"), 2);
    ticket.await.expect("commits");
    journal.health().expect("healthy");
    assert_eq!(journal.backlog(), 0);
    drop(journal);
    let journal = open(&path);
    assert_eq!(journal.incident(IncidentId(1)).await.expect("reads").expect("there").attempt, 300);
    let lines = journal.transitions(IncidentId(1)).await.expect("reads");
    assert_eq!(lines.iter().map(|one| one.at).collect::<Vec<_>>(), (1..=300).map(at).collect::<Vec<_>>());
    let bodies = journal.intake_after(0, 9).await.expect("reads");
    assert_eq!(bodies.iter().map(|one| &*one.post.body).collect::<Vec<_>>(), [&b"fits"[..], b"fits again"]);
}

#[tokio::test]
async fn a_failure_ends_by_itself_when_there_is_room_again() {
    let dir = directory();
    let journal = open(dir.path().join("j.db"));
    journal.limit_pages(NonZeroU32::new(1));
    journal.intake(post(&[7; 100_000], 0)).await.expect_err("refused");
    let ticket = journal.commit();
    journal.limit_pages(None);
    // Nobody posts anything: the writer finds out, a second later at the latest.
    tokio::time::timeout(Duration::from_secs(60), ticket).await.expect("in time").expect("commits");
    journal.health().expect("healthy");
}

#[tokio::test]
async fn a_ticket_of_a_closed_journal_fails_and_does_not_hang() {
    let dir = directory();
    let journal = open(dir.path().join("j.db"));
    journal.limit_pages(NonZeroU32::new(1));
    journal.stage(vec![Write::Setting("large".into(), Some("x".repeat(1 << 20)))]);
    let ticket = journal.commit();
    drop(journal);
    assert!(ticket.await.expect_err("not durable").to_string().contains("closed"));
    let found = open(dir.path().join("j.db")).recover(at(0)).await.expect("recovers");
    assert!(found.settings.is_empty());
}

#[tokio::test]
async fn what_is_only_staged_becomes_durable_by_itself() {
    let dir = directory();
    let journal = open(dir.path().join("j.db"));
    journal.stage(vec![Write::Incident(Box::new(incident(1, State::Open)))]);
    let written = async {
        while journal.backlog() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), written).await.expect("in time");
    let kept = copy(&dir.path().join("j.db"), &dir.path().join("copy"));
    assert!(open(kept).incident(IncidentId(1)).await.expect("reads").is_some());
}

/// What `kill -9` would leave: the file and its log as they are now.
fn copy(path: &Path, to: &Path) -> PathBuf {
    std::fs::create_dir_all(to).expect("a directory");
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", path.display());
        std::fs::copy(from, to.join(format!("j.db{suffix}"))).expect("copies");
    }
    to.join("j.db")
}

#[tokio::test]
async fn a_killed_process_leaves_what_was_committed_and_never_half_a_transaction() {
    let dir = directory();
    let path = dir.path().join("j.db");
    let journal = open(&path);
    let mut staged = 0;
    for round in 0..20 {
        let durable = staged;
        // Committed, and then some that may or may not be.
        for _ in 0..50 {
            staged += 1;
            journal.stage(vec![
                Write::Incident(Box::new(incident(staged, State::Open))),
                Write::Run(Box::new(run(staged, staged, RunState::Running))),
                Write::Transition(transition(staged, 1, None, State::Open)),
            ]);
        }
        let ticket = journal.commit();
        let intake = journal.intake(post(b"{}", round)).await.expect("stored");
        let kept = open(copy(&path, &dir.path().join(format!("copy{round}"))));
        ticket.await.expect("commits");
        assert_eq!(*kept.intakes().borrow(), intake, "a ticket resolves after the commit");
        let found = kept.recover(at(0)).await.expect("recovers");
        assert!((durable..=staged).contains(&found.last_incident), "{} of {durable}..={staged}", found.last_incident);
        assert_eq!(found.incidents.len() as u64, found.last_incident, "in order, without a gap");
        assert_eq!(found.runs.len(), found.incidents.len());
        for incident in &found.incidents {
            assert_eq!(kept.transitions(incident.id).await.expect("reads").len(), 1);
        }
    }
}

#[tokio::test]
async fn a_long_burst_is_written_checkpointed_and_read_back() {
    let dir = directory();
    let path = dir.path().join("j.db");
    let journal = open(&path);
    // About 100 MiB: several checkpoints, and more than the WAL may hold before it starts anew.
    let body = vec![b'x'; 256 << 10];
    for n in 1..=400u64 {
        assert_eq!(journal.intake(post(&body, n as i64)).await.expect("stored"), n);
    }
    let wal = std::fs::metadata(dir.path().join("j.db-wal")).expect("a log").len();
    assert!(wal < 96 << 20, "the log has grown to {wal} bytes");
    let (mut after, mut read) = (0, 0);
    loop {
        let page = journal.intake_after(after, 1_000).await.expect("reads");
        let Some(last) = page.last() else { break };
        assert_eq!(page[0].id, after + 1);
        after = last.id;
        read += page.len();
        assert!(page.iter().all(|one| *one.post.body == *body));
    }
    assert_eq!(read, 400);
}

/// The recorded journals hold this.
fn recorded() -> Vec<Write> {
    vec![
        Write::Level(Box::new(level("web", Status::Firing))),
        Write::Incident(Box::new(incident(1, State::Running))),
        Write::Incident(Box::new(closed(2, 60))),
        Write::Transition(transition(1, 1, None, State::Open)),
        Write::Transition(transition(1, 2, Some(State::Open), State::Running)),
        Write::Program(hash("one"), sources("scale_out.rhai")),
        Write::Run(Box::new(run(1, 1, RunState::Suspended))),
        Write::Run(Box::new(run(2, 2, RunState::Done))),
        Write::Step(Box::new(looked(1, 0))),
        Write::Step(Box::new(scaled(1, 1, Outcome::InDoubt, 0))),
        Write::Step(Box::new(scaled(2, 0, Outcome::Applied, 20))),
        Write::Message(1, Box::new(message(Some(1), "escalated"))),
        Write::Sent { id: 1, at: at(30), thread: Some((IncidentId(1), thread("1.1"))) },
        Write::Message(2, Box::new(message(None, "news"))),
        Write::Setting("paused".into(), Some("by me".into())),
        Write::Handled(1),
    ]
}

/// `UPDATE=1` records the journal of this release if it is not there yet. Those of earlier releases are never changed.
#[tokio::test]
async fn journals_of_earlier_releases_open_and_replay() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let newest = data.join("journal-v1.db");
    if std::env::var_os("UPDATE").is_some() && !newest.exists() {
        let dir = directory();
        let journal = open(dir.path().join("j.db"));
        journal.intake(post(b"{}", 1)).await.expect("stored");
        journal.intake(post(b"{\"later\":true}", 2)).await.expect("stored");
        journal.stage(recorded());
        journal.commit().await.expect("commits");
        drop(journal);
        std::fs::copy(dir.path().join("j.db"), &newest).expect("records");
    }
    for version in 1..=1 {
        let dir = directory();
        let path = dir.path().join("j.db");
        std::fs::copy(data.join(format!("journal-v{version}.db")), &path).expect("a recorded journal");
        let journal = open(&path);
        let found = journal.recover(at(0)).await.expect("recovers");
        assert_eq!((found.handled, found.last_incident, found.last_run, found.last_message), (1, 2, 2, 2));
        assert_eq!(found.levels, [level("web", Status::Firing)]);
        assert_eq!(found.incidents, [incident(1, State::Running), closed(2, 60)]);
        assert_eq!(found.runs, [run(1, 1, RunState::Suspended), run(2, 2, RunState::Done)]);
        assert_eq!(found.last_effects.iter().map(|one| one.at).collect::<Vec<_>>(), [at(20)]);
        assert_eq!(found.settings, [("paused".to_string(), "by me".to_string())]);
        let steps = journal.steps(RunId(1)).await.expect("reads");
        assert_eq!(steps, [looked(1, 0), scaled(1, 1, Outcome::InDoubt, 0)]);
        assert_eq!(journal.transitions(IncidentId(1)).await.expect("reads").len(), 2);
        assert_eq!(journal.program(&hash("one")).await.expect("reads").as_ref(), Some(&*sources("scale_out.rhai")));
        assert_eq!(journal.thread(IncidentId(1)).await.expect("reads"), Some(thread("1.1")));
        assert_eq!(journal.outbox(0, 9).await.expect("reads")[0].message, message(None, "news"));
        let listed = IncidentFilter { states: vec![State::Running], limit: 9, ..Default::default() };
        assert_eq!(journal.incidents(&listed).await.expect("reads").len(), 1);
        let later = journal.intake_after(1, 9).await.expect("reads");
        assert_eq!(
            later.iter().map(|one| (one.id, &*one.post.body)).collect::<Vec<_>>(),
            [(2, &b"{\"later\":true}"[..])]
        );
        assert_eq!(journal.intake(post(b"{}", 3)).await.expect("stored"), 3);
    }
}
