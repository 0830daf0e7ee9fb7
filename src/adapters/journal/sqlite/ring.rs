//! The newest intakes, kept in memory so that the dispatcher need not read back what was written a moment ago.

use crate::ports::Intake;
use std::collections::VecDeque;

/// Rows and bytes of bodies that are kept at most.
const ROWS_MAX: usize = 4_096;
const BYTES_MAX: usize = 64 << 20;

pub(super) struct Ring {
    rows: VecDeque<Intake>,
    /// Of the bodies.
    bytes: usize,
    /// Every committed intake above this id is in `rows`.
    floor: u64,
}

impl Ring {
    pub(super) fn above(floor: u64) -> Self {
        Ring { rows: VecDeque::new(), bytes: 0, floor }
    }

    /// Adds an intake just committed; ids come in order.
    pub(super) fn push(&mut self, intake: Intake) {
        self.bytes += intake.post.body.len();
        self.rows.push_back(intake);
        while self.rows.len() > ROWS_MAX || self.bytes > BYTES_MAX {
            self.pop();
        }
    }

    /// Lets go of what nobody will ask for again.
    pub(super) fn handled(&mut self, id: u64) {
        while self.rows.front().is_some_and(|row| row.id <= id) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(row) = self.rows.pop_front() {
            self.bytes -= row.post.body.len();
            self.floor = row.id;
        }
    }

    /// The intakes above `after`, at most `limit`; `None` when some of them are no longer here.
    pub(super) fn after(&self, after: u64, limit: usize) -> Option<Vec<Intake>> {
        if after < self.floor {
            return None;
        }
        let from = self.rows.partition_point(|row| row.id <= after);
        Some(self.rows.range(from..).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::NewIntake;

    fn intake(id: u64, bytes: usize) -> Intake {
        let post = NewIntake {
            received_at: jiff::Timestamp::UNIX_EPOCH,
            source: "alertmanager".into(),
            body: vec![0; bytes].into(),
            group: None,
        };
        Intake { id, post }
    }

    fn ids(ring: &Ring, after: u64, limit: usize) -> Option<Vec<u64>> {
        ring.after(after, limit).map(|rows| rows.iter().map(|row| row.id).collect())
    }

    #[test]
    fn what_has_left_the_ring_is_not_mistaken_for_nothing() {
        let mut ring = Ring::above(7);
        assert_eq!(ids(&ring, 7, 9), Some(vec![]));
        assert_eq!(ids(&ring, 6, 9), None);
        (8..=12).for_each(|id| ring.push(intake(id, 1)));
        assert_eq!(ids(&ring, 7, 9), Some(vec![8, 9, 10, 11, 12]));
        assert_eq!(ids(&ring, 9, 2), Some(vec![10, 11]));
        ring.handled(9);
        assert_eq!(ids(&ring, 8, 9), None);
        assert_eq!(ids(&ring, 9, 9), Some(vec![10, 11, 12]));
        ring.handled(100);
        assert_eq!(ids(&ring, 12, 9), Some(vec![]));
    }

    #[test]
    fn rows_and_bytes_are_bounded() {
        let mut ring = Ring::above(0);
        (1..=ROWS_MAX as u64 + 10).for_each(|id| ring.push(intake(id, 1)));
        assert_eq!((ring.rows.len(), ring.floor), (ROWS_MAX, 10));
        ring.push(intake(9_999, BYTES_MAX - 1));
        assert_eq!((ring.rows.len(), ring.bytes), (2, BYTES_MAX));
        ring.push(intake(10_000, BYTES_MAX + 1));
        assert_eq!((ring.rows.len(), ring.bytes, ring.floor), (0, 0, 10_000));
    }
}
