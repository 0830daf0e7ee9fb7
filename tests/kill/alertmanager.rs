//! Alertmanager's side: groups whose alerts come and go, each post repeated until it is answered 2xx.

use jiff::Timestamp;
use runbookd::model::alert::Fingerprint;
use runbookd::model::label::Labels;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;

/// Before a post that failed is tried again; and the longest rest between two posts of a connection.
const RETRY: Duration = Duration::from_millis(5);
const REST_MS: u64 = 12;

/// SplitMix64: a sequence that one number replays.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// From `SEED`, or anew; printed, so that a failure can be replayed.
    pub fn seed() -> u64 {
        let seed = match std::env::var("SEED") {
            Ok(seed) => seed.parse().expect("SEED is a number"),
            Err(_) => u64::from(Timestamp::now().subsec_nanosecond().unsigned_abs()),
        };
        println!("SEED={seed}");
        seed
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// One alert, as it was last told and answered.
pub struct Alert {
    pub labels: Labels,
    pub firing: bool,
    /// It was told at all.
    pub told: bool,
    started: Timestamp,
}

impl Alert {
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.labels)
    }

    fn flip(&mut self) {
        self.firing = !self.firing;
        self.told = true;
        if self.firing {
            self.started = Timestamp::now();
        }
    }

    fn json(&self) -> Value {
        let ends_at = if self.firing { "0001-01-01T00:00:00Z".to_string() } else { Timestamp::now().to_string() };
        json!({
            "status": status(self.firing), "labels": self.labels, "annotations": { "summary": "a test" },
            "startsAt": self.started.to_string(), "endsAt": ends_at, "generatorURL": "",
            "fingerprint": self.fingerprint().to_string(),
        })
    }
}

fn status(firing: bool) -> &'static str {
    if firing { "firing" } else { "resolved" }
}

/// One of Alertmanager's groups: the alerts of one name about one service.
pub struct Group {
    key: String,
    pub alerts: Vec<Alert>,
}

impl Group {
    fn new(alertname: &str, service: &str) -> Group {
        let alert = |instance: usize| Alert {
            labels: [("alertname", alertname), ("service", service), ("instance", &instance.to_string())]
                .into_iter()
                .collect(),
            firing: false,
            told: false,
            started: Timestamp::UNIX_EPOCH,
        };
        let key = format!("{{}}:{{alertname=\"{alertname}\", service=\"{service}\"}}");
        Group { key, alerts: (0..2).map(alert).collect() }
    }

    pub fn fires(&self) -> bool {
        self.alerts.iter().any(|alert| alert.firing)
    }

    /// What Alertmanager posts: what fires, and those that just resolved.
    fn json(&self, changed: &[usize]) -> Value {
        let alerts: Vec<Value> = (self.alerts.iter().enumerate())
            .filter(|(at, alert)| alert.firing || changed.contains(at))
            .map(|(_, alert)| alert.json())
            .collect();
        json!({
            "version": "4", "groupKey": self.key, "truncatedAlerts": 0, "status": status(self.fires()),
            "receiver": "runbookd", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
            "externalURL": "http://alertmanager.example", "alerts": alerts,
        })
    }
}

/// All groups, in as many parts as there are connections. A service is told of over one of them, so that what was told last is known.
pub fn groups(services: usize, connections: usize) -> Vec<Vec<Group>> {
    let of = |at: usize| ["Slow", "Sick", "Unknown"].map(|name| Group::new(name, &format!("s{at}")));
    (0..connections).map(|part| (part..services).step_by(connections).flat_map(of).collect()).collect()
}

/// A connection to whatever process lives.
#[derive(Clone)]
pub struct Sender {
    pub http: reqwest::Client,
    /// The address of the process that lives, or lived last.
    pub url: watch::Receiver<String>,
}

impl Sender {
    /// Posts until it is answered 2xx. Alertmanager gives up on 4xx: there must be none.
    async fn post(&self, body: &Value) {
        loop {
            let url = format!("{}/api/v1/alertmanager", *self.url.borrow());
            match self.http.post(url).json(body).send().await {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) => assert!(answer.status().is_server_error(), "answered {}", answer.status()),
                Err(_) => {}
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Alerts come and go at random until `stop`. Returns when the last post is answered.
    pub async fn load(self, mut groups: Vec<Group>, mut random: Random, stop: watch::Receiver<bool>) -> Vec<Group> {
        while !*stop.borrow() {
            let group = random.below(groups.len() as u64) as usize;
            let group = &mut groups[group];
            let changed = random.below(group.alerts.len() as u64) as usize;
            group.alerts[changed].flip();
            self.post(&group.json(&[changed])).await;
            tokio::time::sleep(Duration::from_millis(random.below(REST_MS))).await;
        }
        groups
    }

    /// All alerts of a group resolve.
    pub async fn resolve(&self, group: &mut Group) {
        let firing: Vec<usize> = (0..group.alerts.len()).filter(|at| group.alerts[*at].firing).collect();
        if !firing.is_empty() {
            firing.iter().for_each(|at| group.alerts[*at].flip());
            self.post(&group.json(&firing)).await;
        }
    }
}
