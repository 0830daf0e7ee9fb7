//! A whole server on port 0: the real router, server and application, a journal in memory, a simulated cluster.

use arc_swap::ArcSwap;
use runbookd::adapters::cluster::sim::{SimCluster, SimReload, World};
use runbookd::adapters::humans::console::ConsoleHumans;
use runbookd::adapters::journal::memory::MemoryJournal;
use runbookd::adapters::posts::SimPosts;
use runbookd::app::metrics::Metrics;
use runbookd::app::{App, Parts};
use runbookd::clock::Clock;
use runbookd::config::Config;
use runbookd::config::secret::Secret;
use runbookd::http::auth::{Keys, Token};
use runbookd::http::router::router;
use runbookd::http::server::{self, Limits};
use runbookd::http::shared::{Live, Shared};
use runbookd::model::duration::Duration;
use runbookd::model::event::Event;
use runbookd::model::join::JoinRole;
use runbookd::ports::Journal;
use runbookd::runbook::catalog::{Catalog, Offers};
use runbookd::runbook::evaluate::Evaluator;
use serde_json::Value;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const FIRING: &str = include_str!("../fixtures/alertmanager/1-firing-group.json");
pub const TOKEN: &str = "a-token-for-tests";
pub const HOOKS_TOKEN: &str = "a-token-for-hooks";
pub const JOIN_TOKEN: &str = "a-token-for-machines";
pub const GITHUB_SECRET: &str = "a-secret-of-github";

/// How the server of a test is set up.
pub struct Setup {
    pub token: bool,
    pub timeout: Duration,
    pub body_limit_mib: u32,
    pub live: bool,
    /// Secrets of their own for the hooks.
    pub hooks: bool,
    /// A machine with the token for joining may join as this.
    pub join: Option<JoinRole>,
    pub doors: bool,
    /// The shipped runbooks, with the shipped rules for doors, instead of none: those on the cluster's own changes would begin by themselves.
    pub shipped: bool,
    /// These rules instead of the shipped ones.
    pub rules: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        let timeout = Duration::from_secs(20);
        Setup {
            token: false,
            timeout,
            body_limit_mib: 32,
            live: true,
            hooks: false,
            join: None,
            doors: false,
            shipped: false,
            rules: "",
        }
    }
}

/// A running server.
pub struct Stage {
    pub address: SocketAddr,
    pub journal: Arc<MemoryJournal>,
    pub shared: Arc<Shared>,
    /// What people were told.
    pub told: Told,
    app: Option<App>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It is the problem document of this status; its detail.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.head.to_lowercase().contains("content-type: application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("urn:runbookd:problem:")), "{problem}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
        problem["detail"].as_str().expect("a detail").to_string()
    }
}

/// What the console printed.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Vec<u8>>>);

impl Told {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panicked")).into_owned()
    }
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Stage {
    pub async fn start() -> Stage {
        Stage::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Stage {
        let mut config = Config::default();
        config.intake.timeout = setup.timeout;
        config.intake.body_limit_mib = setup.body_limit_mib;
        let metrics = Arc::new(Metrics::new());
        config.doors.enabled = setup.doors;
        // Nobody waits a minute between what two doors ask for.
        config.arbitration.opposite = None;
        config.join.role = setup.join.unwrap_or(config.join.role);
        config.join.per_minute = 3;
        let token = |set: bool, text: &str| set.then(|| Token::new(&Secret::new(text)));
        let keys = Keys {
            api: token(setup.token, TOKEN),
            hooks: token(setup.hooks, HOOKS_TOKEN),
            github: setup.hooks.then(|| Secret::new(GITHUB_SECRET)),
            join: token(setup.join.is_some(), JOIN_TOKEN),
        };
        let shared = Arc::new(Shared::new(metrics.clone(), Clock::System, &config, keys));
        let journal = Arc::new(MemoryJournal::new());
        let told = Told::default();
        let mut app = None;
        if setup.live {
            let catalog = if setup.shipped { shipped(setup.rules) } else { Catalog::default() };
            let parts = parts(config, journal.clone(), metrics, &told, catalog);
            let (cluster, catalog) = (parts.cluster.clone(), parts.catalog.clone());
            let started = App::start(parts).await.expect("an empty journal can be read back");
            shared.go_live(Live { journal: journal.clone(), cluster, catalog, app: Some(started.clone()) });
            app = Some(started);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let limits = Limits { headers: setup.timeout.std(), ..Limits::default() };
        let serving = tokio::spawn(server::serve(listener, router(shared.clone()), limits, async {
            let _ = stopped.await;
        }));
        Stage { address, journal, shared, told, app, stop: Some(stop), serving }
    }

    /// Shuts everything down, last in first out.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.serving.await.expect("the server does not panic");
        if let Some(app) = self.app.take() {
            app.stop().await;
        }
    }

    /// Sends these bytes on a connection of their own and reads the answer.
    pub async fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("the server listens");
        // A refusal may come, and the connection close, before all is written.
        let _ = stream.write_all(request).await;
        read(&mut stream).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.raw(&request("GET", path, "", b"")).await
    }

    pub async fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.raw(&request("POST", path, "Content-Type: application/json\r\n", body)).await
    }

    pub async fn intake(&self, body: &[u8]) -> Answer {
        self.post("/api/v1/alertmanager", body).await
    }

    /// The events of each post that was journalled, oldest post first, each as its kind and labels.
    pub async fn journalled(&self) -> Vec<Vec<String>> {
        let posts = self.journal.intake_after(0, 1_000).await.expect("readable");
        let shown = |event: &Event| format!("{} {}", event.on, event.labels);
        posts
            .iter()
            .map(|intake| {
                assert_eq!(intake.post.source, "event");
                let events: Vec<Event> = serde_json::from_slice(&intake.post.body).expect("an array of events");
                events.iter().map(shown).collect()
            })
            .collect()
    }

    /// Asks again and again until the answer is as wanted: what happens behind a 2xx takes its own time.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let asking = async {
            loop {
                let answer = self.get(path).await.json();
                if wanted(&answer) {
                    return answer;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), asking).await.expect("it comes within a minute")
    }

    /// A line of `/metrics`.
    pub async fn metric(&self, name: &str) -> String {
        let page = self.get("/metrics").await.body;
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}")).trim().to_string()
    }
}

fn shipped(instead: &str) -> Catalog {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let written = tempfile::tempdir().expect("a directory");
    let doors = std::fs::read_to_string(root.join("rules/doors.yaml")).expect("it is shipped");
    let rules = if instead.is_empty() { &doors } else { instead };
    std::fs::write(written.path().join("rules.yaml"), rules).expect("written");
    Catalog::load(written.path(), &root.join("runbooks"), &Offers::default(), None).expect("what is shipped is valid")
}

fn parts(config: Config, journal: Arc<MemoryJournal>, metrics: Arc<Metrics>, told: &Told, catalog: Catalog) -> Parts {
    let world = "services:
  web:
    image: shop/web:1
    replicas: 2
    env: { KEY: hunter2 }
    labels: { com.df.notify: 'true', com.df.port: '8080', com.df.scaleMax: '4' }
  worker: { image: shop/worker:1, replicas: 1 }
";
    let world = World::parse(world).expect("a valid world");
    let world = Arc::new(SimCluster::new(world, Clock::System));
    Parts {
        config: Arc::new(config),
        clock: Clock::System,
        journal,
        cluster: world.clone(),
        groups: world.clone(),
        reload: Arc::new(SimReload::new(&Default::default(), world)),
        posts: Arc::new(SimPosts::default()),
        alerts: None,
        queries: None,
        humans: Arc::new(ConsoleHumans::new(told.clone())),
        fallback: Arc::new(ConsoleHumans::new(told.clone())),
        evaluator: Arc::new(Evaluator::inline()),
        catalog: Arc::new(ArcSwap::from_pointee(catalog)),
        metrics,
    }
}

/// A request that asks for the connection to be closed behind the answer.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Reads an answer to the end of the connection.
pub async fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A connection that is reset behind the answer has given it.
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_string(), body: body.to_string() }
}
