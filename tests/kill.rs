//! The real process, killed with SIGKILL a hundred times under load, and stopped with SIGTERM: nothing that was answered is lost, nothing is done twice.
//! `SEED=n cargo test --test kill` replays what alerts come and when it is killed, as far as the machine does.

#[path = "kill/alertmanager.rs"]
mod alertmanager;
#[path = "kill/journal.rs"]
mod journal;
#[path = "kill/server.rs"]
mod server;

use alertmanager::{Group, Random, Sender, groups};
use journal::{Api, Journal};
use runbookd::adapters::journal::sqlite::SqliteJournal;
use runbookd::model::step::Outcome;
use runbookd::ports::{Journal as _, RunFilter};
use server::{Home, Server, until};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const KILLS: usize = 100;
const SERVICES: usize = 40;
const CONNECTIONS: usize = 4;

fn http() -> reqwest::Client {
    // The second test finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20));
    builder.build().expect("a client")
}

/// Everything around the process that comes and goes.
struct Stage {
    random: Random,
    http: reqwest::Client,
    home: Home,
    address: watch::Sender<String>,
    stop: watch::Sender<bool>,
    loads: Vec<JoinHandle<Vec<Group>>>,
}

impl Stage {
    /// Posts from all connections begin at once, and fail until there is a process.
    fn new() -> Stage {
        let mut random = Random::new(Random::seed());
        let (address, url) = watch::channel("http://127.0.0.1:9".to_string());
        let (stop, stopped) = watch::channel(false);
        let http = http();
        let loads = groups(SERVICES, CONNECTIONS).into_iter().map(|part| {
            let sender = Sender { http: http.clone(), url: url.clone() };
            tokio::spawn(sender.load(part, Random::new(random.next()), stopped.clone()))
        });
        let loads = loads.collect();
        Stage { random, http, home: Home::new(SERVICES), address, stop, loads }
    }

    async fn starts(&mut self) -> Server {
        let mut server = Server::start(&self.home);
        self.address.send_replace(server.listens().await);
        server
    }

    async fn is_ready(&self, server: &mut Server) {
        server.is_ready(&self.http, &self.address.borrow().clone()).await;
    }

    async fn lives_for(&mut self, from_ms: u64, to_ms: u64) {
        let life = from_ms + self.random.below(to_ms - from_ms);
        tokio::time::sleep(Duration::from_millis(life)).await;
    }

    /// The last life: half of what fires resolves, all comes to rest, then the rest resolves. Everything must be as it should at both times.
    async fn comes_to_rest(&mut self) -> Journal {
        self.stop.send_replace(true);
        let mut told = Vec::new();
        for load in self.loads.drain(..) {
            told.extend(load.await.expect("no post was refused"));
        }
        let sender = Sender { http: self.http.clone(), url: self.address.subscribe() };
        for group in told.iter_mut().filter(|group| group.fires()).step_by(2) {
            sender.resolve(group).await;
        }
        assert!(told.iter().any(Group::fires), "nothing is left to fire on");
        self.rests(&told).await;
        for group in &mut told {
            sender.resolve(group).await;
        }
        let journal = self.rests(&told).await;
        let log = self.home.log();
        assert!(!log.contains("panicked"), "a panic is in the log");
        journal
    }

    async fn rests(&self, told: &[Group]) -> Journal {
        let api = Api { http: self.http.clone(), url: self.address.borrow().clone() };
        let journal = until("every alert to be where it belongs", async || {
            let journal = Journal::read(&api).await?;
            journal.has_all(told)?;
            Ok(journal)
        });
        let journal = journal.await;
        let world = self.home.world();
        journal.explains(&world);
        journal.keeps_locks(&world);
        journal
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_under_load_lose_nothing_and_repeat_nothing() {
    let mut stage = Stage::new();
    for kill in 0..KILLS {
        // In turn: killed at any moment of its start, of its recovery, and of its work.
        match kill % 4 {
            0 => {
                let server = Server::start(&stage.home);
                stage.lives_for(0, 60).await;
                server.kill();
            }
            1 => {
                let server = stage.starts().await;
                stage.lives_for(0, 60).await;
                server.kill();
            }
            _ => {
                let mut server = stage.starts().await;
                stage.is_ready(&mut server).await;
                stage.lives_for(20, 300).await;
                server.kill();
            }
        }
    }
    let mut server = stage.starts().await;
    stage.is_ready(&mut server).await;
    let journal = stage.comes_to_rest().await;

    let resumed = journal.runs.values().filter(|run| run.run.resumes > 0).count();
    let steps: usize = journal.runs.values().map(|run| run.steps.len()).sum();
    println!("{} incidents, {} runs ({resumed} resumed), {steps} steps", journal.incidents.len(), journal.runs.len());
    assert!(resumed > 0, "no run was at work when it was killed: the test tests nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_stop_under_load_it_ends_soon_and_leaves_no_step_in_doubt() {
    let mut stage = Stage::new();
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let mut server = stage.starts().await;
        stage.is_ready(&mut server).await;
        stage.lives_for(100, 600).await;
        let (status, took) = server.terminate().await;
        assert!(status.success(), "it ended with {status}");
        assert!(took < Duration::from_secs(10), "it took {took:?} to stop");
        slowest = slowest.max(took);
        has_no_step_in_doubt(&stage.home).await;
    }
    println!("it stopped within {slowest:?}");
    let mut server = stage.starts().await;
    stage.is_ready(&mut server).await;
    let journal = stage.comes_to_rest().await;
    let resumed = journal.runs.values().filter(|run| run.run.resumes > 0).count();
    assert!(resumed > 0, "no run was at work when it was asked to stop: the test tests nothing");
}

/// Read from the journal itself while nobody has it: a process that started would settle what is in doubt.
async fn has_no_step_in_doubt(home: &Home) {
    let journal = SqliteJournal::open(home.journal()).expect("the journal is free and whole");
    let mut filter = RunFilter { limit: 500, ..RunFilter::default() };
    loop {
        let runs = journal.runs(&filter).await.expect("runs");
        let Some(oldest) = runs.last().map(|run| run.id) else { return };
        for run in runs.iter().filter(|run| !run.state.ended()) {
            for step in journal.steps(run.id).await.expect("steps") {
                assert_ne!(step.outcome, Outcome::InDoubt, "step {} of {}: {:?}", step.seq, run.id, step.intent);
            }
        }
        filter.before = Some(oldest);
    }
}
