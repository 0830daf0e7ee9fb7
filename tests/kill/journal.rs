//! What the journal says in the end, read over the API, and what must hold of it.

use super::alertmanager::Group;
use jiff::{SignedDuration, Timestamp};
use runbookd::adapters::cluster::sim::Applied;
use runbookd::http::view::{IncidentDetail, IncidentPage, RunDetail, RunPage, StepView};
use runbookd::model::alert::{Fingerprint, Status};
use runbookd::model::cluster::ServiceIntent;
use runbookd::model::incident::{IncidentId, State};
use runbookd::model::run::{Handler, RunId, RunState};
use runbookd::model::step::Outcome;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};

/// A verification whose deadline passed while nobody was there has minutes more: such an incident rests, too.
const GRACE: SignedDuration = SignedDuration::from_secs(100);

pub struct Api {
    pub http: reqwest::Client,
    pub url: String,
}

impl Api {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let url = format!("{}/api/v1/{path}", self.url);
        let answer = self.http.get(&url).send().await.map_err(|error| format!("{url}: {error}"))?;
        let (status, text) = (answer.status(), answer.text().await.map_err(|error| format!("{url}: {error}"))?);
        serde_json::from_str(&text).map_err(|error| format!("{url}: {status}, {error} in {text}"))
    }

    /// Is nothing at work, and does nothing wait for its time?
    pub async fn rests(&self) -> Result<(), String> {
        let page: IncidentPage =
            self.get("incidents?state=open,held,running,verifying,awaiting_approval,recovered&limit=500").await?;
        let late = Timestamp::now() + GRACE;
        let in_grace = |until: Option<Timestamp>| until.is_some_and(|until| until > late);
        match page.incidents.iter().find(|it| !(it.state == State::Verifying && in_grace(it.until))) {
            None => Ok(()),
            Some(busy) => Err(format!("incident {} is {}: {}", busy.id, busy.state, busy.reason)),
        }
    }
}

/// Everything that the journal holds.
pub struct Journal {
    /// In the order of their opening.
    pub incidents: Vec<IncidentDetail>,
    pub runs: BTreeMap<RunId, RunDetail>,
}

impl Journal {
    /// Read once nothing is at work any more.
    pub async fn read(api: &Api) -> Result<Journal, String> {
        api.rests().await?;
        let (mut incidents, mut before) = (Vec::new(), String::new());
        loop {
            let page: IncidentPage = api.get(&format!("incidents?limit=500{before}")).await?;
            for incident in page.incidents {
                incidents.push(api.get::<IncidentDetail>(&format!("incidents/{}", incident.id)).await?);
            }
            let Some(next) = page.next else { break };
            before = format!("&before={next}");
        }
        incidents.reverse();
        let (mut runs, mut before) = (BTreeMap::new(), String::new());
        loop {
            let page: RunPage = api.get(&format!("runs?limit=500{before}")).await?;
            for run in page.runs {
                if !run.state.ended() {
                    return Err(format!("run {} of incident {} is still at work", run.id, run.incident));
                }
                runs.insert(run.id, api.get::<RunDetail>(&format!("runs/{}", run.id)).await?);
            }
            let Some(next) = page.next else { break };
            before = format!("&before={next}");
        }
        // What was told may have set off something meanwhile.
        api.rests().await?;
        Ok(Journal { incidents, runs })
    }

    /// Every alert that was answered 2xx is known as it was told last, in an incident that people have, or that resolved.
    pub fn has_all(&self, told: &[Group]) -> Result<(), String> {
        let mut last: HashMap<Fingerprint, &IncidentDetail> = HashMap::new();
        for detail in &self.incidents {
            last.extend(detail.incident.alerts.iter().map(|alert| (*alert, detail)));
        }
        for alert in told.iter().flat_map(|group| &group.alerts).filter(|alert| alert.told) {
            let labels = &alert.labels;
            let detail = last.get(&alert.fingerprint()).ok_or(format!("{labels} is in no incident"))?;
            let (id, state) = (detail.incident.id, detail.incident.state);
            let level = detail.levels.iter().find(|level| level.fingerprint == alert.fingerprint());
            match level {
                Some(level) if (level.status == Status::Firing) == alert.firing => {}
                None if !alert.firing => {}
                _ => return Err(format!("{labels}, firing: {}, is known as {level:?} in {id}", alert.firing)),
            }
            // What has fired again since then is in a later incident.
            let here = |alert: &Fingerprint| last.get(alert).is_some_and(|last| last.incident.id == id);
            let fires = detail.levels.iter().any(|it| it.status == Status::Firing && here(&it.fingerprint));
            let good = match state {
                State::Resolved => !fires,
                State::Verifying => fires,
                // When nothing fires any more it is a run that people must look at.
                State::Escalated => fires || self.runs_of(id).any(|run| run.run.state != RunState::Done),
                _ => false,
            };
            if !good {
                return Err(format!("{labels} is in {id}, firing: {fires}\n{}", self.course(id)));
            }
        }
        Ok(())
    }

    fn runs_of(&self, id: IncidentId) -> impl Iterator<Item = &RunDetail> {
        self.runs.values().filter(move |run| run.run.incident == id)
    }

    /// What became of an incident, for messages.
    fn course(&self, id: IncidentId) -> String {
        let transitions = self.incidents.iter().filter(|it| it.incident.id == id).flat_map(|it| &it.transitions);
        let mut lines: Vec<String> = transitions.map(|it| format!("{} {id} {}: {}", it.at, it.to, it.reason)).collect();
        for run in self.runs_of(id) {
            let (run, steps) = (&run.run, &run.steps);
            let ended = run.finished_at.map(|at| at.to_string());
            let (handler, resumes) = (run.handler.name(), run.resumes);
            lines.push(format!(
                "{} {} {handler} {:?}, {resumes} resumes, to {ended:?}",
                run.started_at, run.id, run.state
            ));
            for step in steps {
                lines
                    .push(format!("{} {}:{} {} {:?}", step.started_at, run.id, step.seq, step.primitive, step.outcome));
            }
        }
        lines.sort();
        lines.join("\n")
    }

    /// Each change in the cluster was made once, by a step whose intent says so, while its run was at work; and each applied step is there.
    pub fn explains(&self, world: &str) {
        let mut made: HashMap<(String, String), Applied> = HashMap::new();
        for applied in world.lines().filter_map(change) {
            let (service, label) = (applied.service.clone(), applied.step.clone());
            let (run, seq) = label.split_once(':').unwrap_or_else(|| panic!("{applied:?} was made by no step"));
            let run: RunId = run.parse().expect("a run's id");
            let run = self.runs.get(&run).unwrap_or_else(|| panic!("{applied:?}: no such run"));
            let step = run.steps.get(seq.parse::<usize>().expect("a number"));
            let intents = services(step.unwrap_or_else(|| panic!("{applied:?}: no such step")));
            let intended = intents.iter().any(|it| it.service == service && it.change == applied.change);
            assert!(intended, "{applied:?} is not what was intended: {intents:?}");
            let (began, ended) = (run.run.started_at, run.run.finished_at.expect("it has ended"));
            assert!(began <= applied.at && applied.at <= ended, "{applied:?} was made outside its run");
            if let Some(before) = made.insert((service, label), applied.clone()) {
                panic!("applied twice: {before:?} and {applied:?}");
            }
        }
        for run in self.runs.values() {
            for step in &run.steps {
                let label = format!("{}:{}", run.run.id, step.seq);
                match step.outcome {
                    Outcome::Applied => {
                        for intent in services(step) {
                            assert!(made.contains_key(&(intent.service, label.clone())), "{label} was never applied");
                        }
                    }
                    Outcome::InDoubt | Outcome::Waiting => {
                        assert_eq!(run.run.state, RunState::Interrupted, "{label} is {:?}", step.outcome);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Two incidents never work on one service at a time: neither their runs nor their verifications overlap. A run of `on_resolved` may have to
    /// wait for its turn, and is at work from its first change on.
    pub fn keeps_locks(&self, world: &str) {
        let mut first: HashMap<RunId, Timestamp> = HashMap::new();
        for applied in world.lines().filter_map(change) {
            let run = applied.step.split(':').next().unwrap_or_default().parse().expect("a run's id");
            first.entry(run).or_insert(applied.at);
        }
        let mut spans: HashMap<&str, Vec<(Timestamp, Timestamp, IncidentId)>> = HashMap::new();
        for detail in self.incidents.iter().filter(|detail| detail.incident.rule.is_some()) {
            let (id, key) = (detail.incident.id, detail.incident.key.as_str());
            let spans = spans.entry(key).or_default();
            for run in self.runs_of(id) {
                let began = match run.run.handler {
                    Handler::OnFiring | Handler::OnEvent => Some(run.run.started_at),
                    Handler::OnResolved | Handler::Verify => first.get(&run.run.id).copied(),
                };
                spans.extend(began.map(|began| (began, run.run.finished_at.expect("it has ended"), id)));
            }
            for pair in detail.transitions.windows(2) {
                if matches!(pair[0].to, State::Running | State::Verifying) {
                    spans.push((pair[0].at, pair[1].at, id));
                }
            }
        }
        for (service, mut spans) in spans {
            spans.sort();
            for pair in spans.windows(2) {
                let ((_, ended, one), (began, _, other)) = (pair[0], pair[1]);
                if one != other && ended > began {
                    let courses = (self.course(one), self.course(other));
                    panic!("{one} and {other} were both at work on {service}: {pair:?}\n{}\n{}", courses.0, courses.1);
                }
            }
        }
    }
}

/// A line of the world's memory that is a change.
fn change(line: &str) -> Option<Applied> {
    let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
    let change = line.get("applied").or(line.get("history"))?;
    Some(serde_json::from_value(change.clone()).expect("a change"))
}

/// What a step intended to change.
fn services(step: &StepView) -> Vec<ServiceIntent> {
    let intents = step.intent.as_ref().and_then(|intent| intent.what.get("services"));
    intents.map_or(Vec::new(), |all| serde_json::from_value(all.clone()).expect("intents"))
}
