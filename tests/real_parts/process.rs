//! Processes that a test starts, and that end with it.

use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long real parts may take for what takes them seconds.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A process that is killed when it goes out of scope. Its output is in a file, shown when the test fails.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub fn start(command: &mut Command, log: PathBuf) -> Process {
        let out = File::options().create(true).append(true).open(&log).expect("a log file");
        let err = out.try_clone().expect("the same file");
        let child = command.stdout(out).stderr(err).spawn();
        Process { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")), log }
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!("--- {}\n{}", self.log.display(), lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// Asks again and again until the answer is good; panics with the last bad one.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(error) if tokio::time::Instant::now() > deadline => panic!("waited {PATIENCE:?} for {what}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// GET of text from loopback.
pub async fn text(url: &str) -> Result<String, String> {
    let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if status.is_success() { Ok(text) } else { Err(format!("{url}: {status} {text}")) }
}

/// The real `runbookd serve`, with its configuration in `dir`.
pub struct Runbookd {
    process: Process,
    dir: PathBuf,
    url: String,
}

impl Runbookd {
    pub async fn start(dir: &Path, port: u16) -> Runbookd {
        let mut runbookd =
            Runbookd { process: spawn(dir), dir: dir.to_path_buf(), url: format!("http://127.0.0.1:{port}") };
        runbookd.ready().await;
        runbookd
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// The same command on the same journal.
    pub async fn start_again(&mut self) {
        self.process = spawn(&self.dir);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let url = format!("{}/readyz", self.url);
        until("runbookd to be ready", async || {
            if let Some(status) = self.process.ended() {
                panic!("runbookd serve ended with {status}: {}", self.process.said());
            }
            text(&url).await.map(drop)
        })
        .await;
    }

    /// GET of JSON from the API.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let text = text(&format!("{}{path}", self.url)).await?;
        serde_json::from_str(&text).map_err(|error| format!("{path}: {error} in {text}"))
    }
}

fn spawn(dir: &Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runbookd"));
    command.arg("serve").arg("--config").arg(dir.join("runbookd.yaml")).current_dir(dir);
    Process::start(&mut command, dir.join("runbookd.log"))
}

/// A webhook that passes on what is posted to it.
pub async fn webhook() -> (String, mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let post = axum::routing::post(async move |body: String| drop(sender.send(body)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/", post)).await });
    (url, receiver)
}
