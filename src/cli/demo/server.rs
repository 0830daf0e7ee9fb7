//! The demo's server: this very program as a child process, in a directory of its own that goes with it.

use anyhow::{Context, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How long the server may take to listen, on a machine that is busy with other things.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end after Ctrl-C, which reaches it too.
const END: Duration = Duration::from_secs(5);
const LISTENING: &str = "listening on http://";

/// Where the server keeps its journal and its world. Removed when dropped.
pub struct Home(PathBuf);

impl Home {
    pub fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("runbookd-demo-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Home(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The end of the server's log.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.0.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the server is started with.
pub struct Launch<'a> {
    pub home: &'a Home,
    pub rules: &'a Path,
    pub runbooks: &'a Path,
    /// `127.0.0.1:0` at first; the same port again after a crash.
    pub listen: &'a str,
}

/// A running server. Killed when dropped.
pub struct Server {
    child: Child,
    pub address: String,
    lines: Receiver<String>,
}

impl Server {
    /// Starts it and waits until it listens.
    pub fn start(launch: &Launch) -> anyhow::Result<Self> {
        let home = launch.home.path();
        let log = std::fs::File::options().create(true).append(true).open(home.join("log"))?;
        let mut command = Command::new(std::env::current_exe().context("this program's own path is not known")?);
        // Neither the user's configuration nor the user's Slack: only what is set here.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUNBOOKD_")) {
            command.env_remove(name);
        }
        command
            .args(["serve", "--cluster", "sim", "--world", "world.yaml", "--journal", "sqlite://journal.db"])
            .arg("--listen")
            .arg(launch.listen)
            .arg("--rules")
            .arg(launch.rules)
            .arg("--runbooks")
            .arg(launch.runbooks)
            .env("RUNBOOKD_RUNS_POLL_EVERY", "100ms")
            .env("RUNBOOKD_LOG_LEVEL", "info")
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command.spawn().context("the server cannot be started")?;
        let stdout = child.stdout.take().expect("it was asked for");
        let (tell, lines) = channel();
        std::thread::spawn(move || relay(BufReader::new(stdout), &tell));
        let mut server = Server { child, address: String::new(), lines };
        match server.lines.recv_timeout(START).ok().as_deref().and_then(|line| line.strip_prefix(LISTENING)) {
            Some(address) => server.address = address.to_string(),
            None => bail!("the server does not come up; its log ends with\n{}", launch.home.log()),
        }
        Ok(server)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed since it was last asked: the messages to people.
    pub fn printed(&self) -> impl Iterator<Item = String> {
        self.lines.try_iter()
    }

    /// `kill -9`, and what it had printed until then.
    pub fn kill(mut self) -> anyhow::Result<Vec<String>> {
        self.child.kill()?;
        self.child.wait()?;
        // The thread that reads ends with the pipe: everything comes, then the channel closes.
        Ok(self.lines.iter().collect())
    }

    /// It ended by itself, which it should not.
    pub fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// Waits for it to end after Ctrl-C, which reached it too; kills it if it does not.
    pub fn end(mut self) {
        let deadline = Instant::now() + END;
        while !self.ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn relay(output: impl BufRead, tell: &Sender<String>) {
    for line in output.lines() {
        let Ok(line) = line else { return };
        if tell.send(line).is_err() {
            return;
        }
    }
}
