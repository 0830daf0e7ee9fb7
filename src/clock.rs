//! The one source of time. Real in production; in tests it follows tokio's clock, which tests pause.

use jiff::Timestamp;
use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
pub enum Clock {
    System,
    /// `base` at `start`, then on with tokio's clock.
    Simulated {
        base: Timestamp,
        start: Instant,
    },
    /// Whatever this says: a simulation's own time, which may jump as wall clocks do.
    Driven(fn() -> Timestamp),
}

impl Clock {
    /// A clock for tests: 2026-01-01T00:00:00Z now, moving with tokio's (paused) time.
    pub fn simulated() -> Self {
        let base = Timestamp::from_second(1_767_225_600).expect("a valid instant");
        Clock::Simulated { base, start: Instant::now() }
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => Timestamp::now(),
            Clock::Simulated { base, start } => {
                let passed = Instant::now().duration_since(*start);
                *base + jiff::SignedDuration::try_from(passed).unwrap_or(jiff::SignedDuration::MAX)
            }
            Clock::Driven(now) => now(),
        }
    }

    /// Waits until `at`. A wall clock that jumps is noticed within a minute.
    pub async fn sleep_until(&self, at: Timestamp) {
        loop {
            let left = std::time::Duration::try_from(at.duration_since(self.now())).unwrap_or_default();
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(std::time::Duration::from_secs(60))).await;
        }
    }
}
