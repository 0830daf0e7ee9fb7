//! News for the operators: what no incident is about. Each is told once an hour, over restarts too: a process that does not come up for long would page
//! with every start.

use super::Board;
use crate::app::report;
use crate::model::duration::Duration;
use crate::ports::Write;
use jiff::Timestamp;

const EVERY: Duration = Duration::from_secs(3600);
/// Settings of the journal, followed by the key.
pub(super) const NEWS: &str = "news ";

impl Board {
    /// Tells them, once per `key` and hour.
    pub fn tell_operators(&mut self, key: &str, title: &str, text: &str, now: Timestamp) {
        if self.is_news(key, now) {
            self.send(report::operators(title, text, now));
        }
    }

    pub fn tell_good_news(&mut self, title: &str, text: &str, now: Timestamp) {
        self.send(report::good_news(title, text, now));
    }

    /// Was nothing told under this key within the last hour? It counts as told now.
    pub(super) fn is_news(&mut self, key: &str, now: Timestamp) -> bool {
        // What was told later than now was told before somebody set the clock back.
        let due = |told: &Timestamp| *told > now || now.duration_since(*told) >= EVERY.signed();
        if !self.news.get(key).is_none_or(due) {
            return false;
        }
        let writes = &mut self.out.writes;
        self.news.retain(|known, told| {
            let old = due(told);
            if old && known != key {
                writes.push(Write::Setting(format!("{NEWS}{known}").into(), None));
            }
            !old
        });
        writes.push(Write::Setting(format!("{NEWS}{key}").into(), Some(now.to_string())));
        self.news.insert(key.to_string(), now);
        true
    }

    pub(super) fn recall_news(&mut self, key: &str, stored: &str) {
        // What cannot be read is told again.
        if let Ok(told) = stored.parse() {
            self.news.insert(key.to_string(), told);
        }
    }
}
