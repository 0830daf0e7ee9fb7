//! The time of a play. It passes with tokio's paused clock while a process lives, by what is said while none does, and the wall clock may jump.

use jiff::{SignedDuration, Timestamp};
use runbookd::clock::Clock;
use std::cell::Cell;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Clone, Copy)]
struct Time {
    /// What the wall clock showed when nothing had passed, jumps included.
    base: Timestamp,
    /// What passed before this life, and how much of it a process lived.
    before: Duration,
    lived: Duration,
    /// When this life began, as tokio counts.
    life: Option<Instant>,
}

thread_local! {
    // One play a thread at a time.
    static TIME: Cell<Time> = const { Cell::new(Time { base: Timestamp::UNIX_EPOCH, before: Duration::ZERO, lived: Duration::ZERO, life: None }) };
}

/// What the wall clock shows when a play begins, in seconds: a Thursday, half past eight.
const BEGINS: i64 = 1_767_256_200;

/// The application's clock.
pub const CLOCK: Clock = Clock::Driven(now);

/// A play begins.
pub fn begin() {
    let base = Timestamp::from_second(BEGINS).expect("a valid instant");
    TIME.set(Time { base, before: Duration::ZERO, lived: Duration::ZERO, life: None });
}

/// The wall clock.
pub fn now() -> Timestamp {
    TIME.get().base + SignedDuration::try_from(passed()).expect("a play is shorter than that")
}

/// What has passed since the play began. Never goes back.
pub fn passed() -> Duration {
    let time = TIME.get();
    time.before + time.life.map_or(Duration::ZERO, |life| Instant::now().duration_since(life))
}

/// In milliseconds.
pub fn millis() -> u64 {
    u64::try_from(passed().as_millis()).expect("a play is shorter than that")
}

/// When the wall clock showed this, in milliseconds, if nobody has set it.
pub fn at(wall: Timestamp) -> u64 {
    u64::try_from(wall.as_millisecond() - BEGINS * 1_000).unwrap_or(0)
}

/// For how long a process has lived so far, in milliseconds.
pub fn lived() -> u64 {
    let time = TIME.get();
    u64::try_from((time.lived + (passed() - time.before)).as_millis()).expect("a play is shorter than that")
}

/// A process begins to live; called within its runtime.
pub fn life_begins() {
    TIME.set(Time { life: Some(Instant::now()), ..TIME.get() });
}

/// It has ended; called within its runtime.
pub fn life_ends() {
    let (time, passed) = (TIME.get(), passed());
    TIME.set(Time { before: passed, lived: time.lived + (passed - time.before), life: None, ..time });
}

/// Time passes while no process lives.
pub fn pass_until(millis: u64) {
    let time = TIME.get();
    assert!(time.life.is_none(), "a living process has its own time");
    TIME.set(Time { before: time.before.max(Duration::from_millis(millis)), ..time });
}

/// Somebody sets the wall clock.
pub fn jump(secs: i64) {
    let time = TIME.get();
    TIME.set(Time { base: time.base + SignedDuration::from_secs(secs), ..time });
}
