//! The journal on disk: what a lone commit costs beside a bare sync, and how much goes through when many share one.
//!
//! `cargo bench --bench journal`. The latencies are printed first; divan's table follows.

#[path = "../tests/journal/samples.rs"]
mod samples;

use divan::counter::ItemsCount;
use runbookd::adapters::journal::sqlite::SqliteJournal;
use runbookd::model::alert::{Fingerprint, Status};
use runbookd::model::incident::State;
use runbookd::model::run::RunState;
use runbookd::model::step::Outcome;
use runbookd::ports::{Journal, Write};
use samples::*;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn main() {
    latency();
    divan::main();
}

/// In the build directory: a temporary directory may be in memory, where a sync costs nothing.
fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory")
}

fn open(dir: &TempDir) -> SqliteJournal {
    SqliteJournal::open(dir.path().join("bench.db")).expect("a journal opens")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// One commit at a time, beside `fdatasync` of as many bytes in place.
fn latency() {
    let dir = directory();
    let file = std::fs::File::create(dir.path().join("bare")).expect("a file");
    file.write_all_at(&vec![1; 4 << 20], 0).and_then(|()| file.sync_all()).expect("writes");
    let bare = percentiles((0..1_000).map(|n| {
        file.write_all_at(&[2; 4_096], n % 1_000 * 4_096).expect("writes");
        timed(|| file.sync_data().expect("syncs"))
    }));
    let journal = open(&dir);
    let commits = block_on(async {
        let mut times = Vec::new();
        for n in 0..1_000 {
            journal.stage(vec![Write::Step(Box::new(scaled(1, n, Outcome::InDoubt, 0)))]);
            let start = Instant::now();
            journal.commit().await.expect("commits");
            times.push(start.elapsed());
        }
        percentiles(times.into_iter())
    });
    println!("bare fdatasync  p50 {:>7.3} ms   p99 {:>7.3} ms", bare.0, bare.1);
    println!("lone commit     p50 {:>7.3} ms   p99 {:>7.3} ms", commits.0, commits.1);
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The median and the 99th percentile, in milliseconds.
fn percentiles(times: impl Iterator<Item = Duration>) -> (f64, f64) {
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// What an alert writes before its effect, and after it; with its post 11 rows.
fn alert(id: u64) -> [Vec<Write>; 2] {
    let mut told = level("web", Status::Firing);
    told.alert.fingerprint = Fingerprint(id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let begin = vec![
        Write::Level(Box::new(told)),
        Write::Incident(Box::new(incident(id, State::Running))),
        Write::Transition(transition(id, 1, None, State::Running)),
        Write::Program(hash("one"), sources("scale_out.rhai")),
        Write::Run(Box::new(run(id, id, RunState::Running))),
        Write::Step(Box::new(looked(id, 0))),
        Write::Step(Box::new(scaled(id, 1, Outcome::InDoubt, 0))),
        Write::Handled(id),
    ];
    let end = vec![
        Write::Step(Box::new(scaled(id, 1, Outcome::Applied, 20))),
        Write::Run(Box::new(run(id, id, RunState::Done))),
        Write::Incident(Box::new(incident(id, State::Verifying))),
    ];
    [begin, end]
}

/// 4,000 alerts from post to effect, 64 at a time, each waiting for its post, its intent and nothing else. Items are rows.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn alerts_to_effects(bencher: divan::Bencher) {
    const ALERTS: u64 = 4_000;
    bencher.counter(ItemsCount::new(ALERTS * 11)).with_inputs(directory).bench_local_values(|dir| {
        let journal = open(&dir);
        let body = vec![b'x'; 1_024];
        block_on(async {
            let one = async |id: u64| {
                journal.intake(post(&body, 0)).await.expect("stored");
                let [begin, end] = alert(id);
                journal.stage(begin);
                journal.commit().await.expect("commits");
                journal.stage(end);
            };
            let lane = async |lane: u64| {
                for id in (lane..ALERTS).step_by(64) {
                    one(id + 1).await;
                }
            };
            futures_util::future::join_all((0..64).map(lane)).await;
            journal.commit().await.expect("commits");
        });
        drop(journal);
        dir
    });
}

/// 100,000 levels of changed alerts in stages of 100, as a flood of groups writes them. Items are rows.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn levels_in_groups(bencher: divan::Bencher) {
    const ROWS: u64 = 100_000;
    bencher.counter(ItemsCount::new(ROWS)).with_inputs(directory).bench_local_values(|dir| {
        let journal = open(&dir);
        for group in 0..ROWS / 100 {
            let row = |n| {
                let [mut begin, _] = alert(group * 100 + n);
                begin.swap_remove(0)
            };
            journal.stage((0..100).map(row).collect());
        }
        block_on(journal.commit()).expect("commits");
        drop(journal);
        dir
    });
}

/// 2,000 posts of 50 KiB (100 alerts each), 16 at a time. Items are posts.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn large_posts(bencher: divan::Bencher) {
    bencher.counter(ItemsCount::new(2_000u64)).with_inputs(directory).bench_local_values(|dir| {
        let journal = open(&dir);
        let body = vec![b'x'; 50 << 10];
        block_on(async {
            for n in 0..2_000 / 16 {
                let posts = (0..16).map(|_| journal.intake(post(&body, 0)));
                futures_util::future::try_join_all(posts).await.expect("stored");
                journal.stage(vec![Write::Handled(n * 16)]);
            }
        });
        drop(journal);
        dir
    });
}

/// Opening a journal with 20,000 suspended runs and reading them back. Items are runs.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn recovery(bencher: divan::Bencher) {
    const RUNS: u64 = 20_000;
    let dir = directory();
    let journal = open(&dir);
    for id in 1..=RUNS {
        journal.stage(vec![Write::Run(Box::new(run(id, id, RunState::Suspended)))]);
    }
    drop(journal);
    bencher.counter(ItemsCount::new(RUNS)).bench_local(|| {
        let journal = open(&dir);
        let found = block_on(journal.recover(at(0))).expect("recovers");
        assert_eq!(found.runs.len() as u64, RUNS);
    });
}
