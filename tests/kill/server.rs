//! The real `runbookd serve` on a simulated cluster, in a directory of its own: started, killed and asked to stop again and again.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long anything may take on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// Two rules for one service each, so that their runs meet at its lock. `Unknown` alerts match none.
const RULES: &str = r#"
rules:
  - name: scale-out
    match: ['alertname = "Slow"', 'service =~ ".+"']
    by: [service]
    runbook: scale_out
    allow: [{ scale: "{{ service }}" }, { restart: "{{ service }}" }]
    guards: { hold_at_most: 3s }
    attempts: 2
    retry_after: 50ms
    verify: { resolved_within: 1s }
  - name: heal
    match: ['alertname = "Sick"', 'service =~ ".+"']
    by: [service]
    runbook: heal
    allow: [{ restart: "{{ service }}" }, { scale: "{{ service }}" }]
    guards: { hold_at_most: 3s }
    attempts: 2
    retry_after: 50ms
    verify: { resolved_within: 1s }
"#;

const SCALE_OUT: &str = r#"//! Two effects and two waits; what it took is given back.
fn on_firing(alert, params) {
    let svc = service(alert.labels.service);
    scale(svc.name, if svc.replicas >= 8 { 2 } else { svc.replicas + 1 });
    sleep("5ms");
    wait_healthy(svc.name, "1m");
    restart(svc.name);
    wait_healthy(svc.name, "1m");
    notify(`${svc.name} scaled out for ${alert.labels.alertname}`);
}

fn on_resolved(alert, params) {
    scale(alert.labels.service, 2);
    wait_healthy(alert.labels.service, "1m");
}
"#;

const HEAL: &str = r#"//! Two effects, a condition, and a message between them.
fn on_firing(alert, params) {
    let name = alert.labels.service;
    restart(name);
    wait_until("1m", || service(name).running == service(name).replicas);
    notify(`${name} was restarted`);
    sleep("20ms");
    scale(name, service(name).replicas % 8 + 1);
    wait_healthy(name, "1m");
}
"#;

/// Where a server keeps everything. Goes when it is dropped.
pub struct Home(tempfile::TempDir);

impl Home {
    /// A cluster of `services`, named `s0` and so on, whose tasks take 30 ms to start.
    pub fn new(services: usize) -> Home {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below the directory")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        let of = |at| format!("  s{at}: {{ image: \"shop/s:1\", replicas: 2, behaviour: {{ start: 30ms }} }}\n");
        write("world.yaml", &format!("services:\n{}", (0..services).map(of).collect::<String>()));
        write("rules/rules.yaml", RULES);
        write("runbooks/scale_out.rhai", SCALE_OUT);
        write("runbooks/heal.rhai", HEAL);
        Home(dir)
    }

    pub fn journal(&self) -> PathBuf {
        self.0.path().join("journal.db")
    }

    /// The memory of the simulated cluster.
    pub fn world(&self) -> String {
        std::fs::read_to_string(self.0.path().join("journal.db.world")).expect("the world's memory")
    }

    /// What all servers logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.0.path().join("log")).unwrap_or_default()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runbookd"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUNBOOKD_")) {
            command.env_remove(name);
        }
        let log = File::options().create(true).append(true).open(self.path().join("log")).expect("a log file");
        command
            .args(["serve", "--cluster", "sim", "--world", "world.yaml", "--journal", "sqlite://journal.db"])
            .args(["--listen", "127.0.0.1:0"])
            .env("RUNBOOKD_RUNS_POLL_EVERY", "20ms")
            // Alerts come and go within seconds here: that is no reason to leave them to people, and what resolved is soon over.
            .env("RUNBOOKD_INCIDENTS_FLAPS", "1000000")
            .env("RUNBOOKD_INCIDENTS_FLAP_WINDOW", "1s")
            .env("RUNBOOKD_BRAKE_TARGETS", "")
            .env("RUNBOOKD_BRAKE_EFFECTS", "")
            .env("RUNBOOKD_LOG_LEVEL", "warn")
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        command
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the server's log ends with\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// One life of the process. Killed when dropped.
pub struct Server {
    child: Child,
    first_line: Option<oneshot::Receiver<String>>,
}

impl Server {
    pub fn start(home: &Home) -> Server {
        let mut child = home.command().spawn().expect("it can be started");
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        let (tell, first_line) = oneshot::channel();
        // Reads on to the end, so that messages to people never block the server.
        std::thread::spawn(move || {
            let mut lines = output.lines().map_while(Result::ok);
            if let Some(line) = lines.next() {
                let _ = tell.send(line);
            }
            lines.for_each(drop);
        });
        Server { child, first_line: Some(first_line) }
    }

    /// Its address, once it listens.
    pub async fn listens(&mut self) -> String {
        let told = self.first_line.take().expect("asked once");
        let line = tokio::time::timeout(PATIENCE, told).await.expect("it comes up in time").expect("it comes up");
        line.strip_prefix("listening on ").unwrap_or_else(|| panic!("its first line is {line:?}")).to_string()
    }

    pub async fn is_ready(&mut self, http: &reqwest::Client, url: &str) {
        until("readyz to be green", async || {
            assert!(self.child.try_wait().expect("our child").is_none(), "it ended while it started");
            let answer = http.get(format!("{url}/readyz")).send().await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = answer.text().await.unwrap_or_default();
            if status.is_success() { Ok(()) } else { Err(format!("{status} {body}")) }
        })
        .await;
    }

    /// `kill -9`. It must not have ended by itself before.
    pub fn kill(mut self) {
        assert_eq!(self.child.try_wait().expect("our child"), None, "it ended by itself");
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("its end");
    }

    /// SIGTERM; how it ended, and how long that took.
    pub async fn terminate(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        // The shell's own kill: no machine is without it.
        let asked = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.child.id())).status();
        assert!(asked.expect("a shell").success(), "it cannot be asked to stop");
        let ended = until("its end after SIGTERM", async || {
            self.child.try_wait().expect("our child").ok_or("it still runs".to_string())
        });
        (ended.await, began.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until the answer is good; panics with the last bad one.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(error) if Instant::now() > deadline => panic!("waited {PATIENCE:?} for {what}: {error}"),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}
