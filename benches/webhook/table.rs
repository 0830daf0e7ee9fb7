//! What was measured, as it is printed: a figure a line, its target, and whether it is met.

use crate::client::Posted;
use std::time::Duration;

#[derive(Default)]
pub struct Table {
    missed: Vec<String>,
    met: usize,
}

impl Table {
    pub fn section(&mut self, title: &str) {
        println!("\n{title}");
    }

    /// A figure without a target.
    pub fn figure(&mut self, what: &str, figure: String) {
        self.row(what, &figure, "", None);
    }

    pub fn judged(&mut self, what: &str, figure: Duration, most: Duration) {
        self.row(what, &millis(figure), &format!("≤ {}", millis(most)), Some(figure <= most));
    }

    pub fn row(&mut self, what: &str, figure: &str, target: &str, met: Option<bool>) {
        let verdict = match met {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        println!("  {what:<50} {figure:>24}   {target:<24} {verdict}");
        self.met += usize::from(met == Some(true));
        if met == Some(false) {
            self.missed.push(format!("{what}: {figure}, {target}"));
        }
    }

    /// What HTTP tells of a load.
    pub fn http(&mut self, posted: &Posted, alerts_each: usize) {
        let mut times = posted.times.clone();
        let rate = posted.accepted as f64 / posted.took.as_secs_f64();
        self.figure("posts answered 2xx", format!("{} ({rate:.0} /s)", posted.accepted));
        if alerts_each > 1 {
            self.figure("alerts in them", format!("{:.0} /s", rate * alerts_each as f64));
        }
        self.figure("posts answered otherwise", posted.refused.to_string());
        let (half, most) = (percentile(&mut times, 50), percentile(&mut times, 99));
        self.figure("answer p50 / p99", format!("{} / {}", millis(half), millis(most)));
    }

    pub fn cpu(&mut self, load: Duration, server: Duration) {
        let secs = |time: Duration| time.as_secs_f64();
        self.figure("processor time: load / server", format!("{:.1} s / {:.1} s", secs(load), secs(server)));
    }

    pub fn summary(&self) {
        println!("\n{} targets met, {} missed", self.met, self.missed.len());
        self.missed.iter().for_each(|missed| println!("  missed: {missed}"));
    }
}

pub fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// The time that so many percent do not exceed; sorts them.
pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}

pub fn at_least(figure: f64, least: f64) -> bool {
    figure >= least
}

pub fn at_most(figure: f64, most: f64) -> bool {
    figure <= most
}
