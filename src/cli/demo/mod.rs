//! `runbookd demo`: the real server on a simulated Swarm, the repository's own rules and runbooks, captured Alertmanager payloads over HTTP. What is
//! printed is read from the journal over the API; of its own the demo says only what it posts, kills and starts.

mod follow;
mod server;

use crate::cli::client::Client;
use crate::cli::out;
use crate::cli::table::colours;
use crate::model::incident::State;
use crate::model::step::Outcome;
use anyhow::{Context, bail};
use follow::Journal;
use jiff::Timestamp;
use server::{Home, Launch, Server};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};

const SLOW: &str = include_str!("../../../tests/fixtures/alertmanager/1-firing-group.json");
const SLOW_PARTLY_RESOLVED: &str = include_str!("../../../tests/fixtures/alertmanager/4-partly-resolved.json");
const SLOW_RESOLVED: &str = include_str!("../../../tests/fixtures/alertmanager/5-resolved.json");
const DISK: &str = include_str!("../../../tests/fixtures/alertmanager/disk-almost-full-firing.json");
const UNHEALTHY: &str = include_str!("../../../tests/fixtures/alertmanager/service-unhealthy-firing.json");
const UNHEALTHY_RESOLVED: &str = include_str!("../../../tests/fixtures/alertmanager/service-unhealthy-resolved.json");

/// The simulated cluster. Its tasks take a second and a half to start.
const WORLD: &str = r#"services:
  web: { image: "shop/web:1", replicas: 2, labels: { com.df.scaleMax: "6" }, behaviour: { start: 1500ms } }
  api: { image: "shop/api:1", replicas: 2 }
nodes:
  node1: { role: manager }
  node2: {}
  node3: {}
"#;

/// Shows an alert becoming an action, an unknown alert reaching people, a guard holding a run back, and a kill -9 that loses nothing.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// The directory of rules
    #[arg(long, value_name = "DIR", default_value = "rules")]
    rules: PathBuf,
    /// The directory of runbooks
    #[arg(long, value_name = "DIR", default_value = "runbooks")]
    runbooks: PathBuf,
    /// End behind the last check instead of staying up
    #[arg(long)]
    exit: bool,
}

/// Exit code 0: everything that was promised happened; 1: something did not.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // The terminal was closed: nothing is left behind then, either.
    let mut hangup = signal(SignalKind::hangup())?;
    let rules = directory(&args.rules, "--rules")?;
    let runbooks = directory(&args.runbooks, "--runbooks")?;
    let home = Home::make()?;
    std::fs::write(home.path().join("world.yaml"), WORLD)?;

    let shown = tokio::select! {
        shown = Demo::show(&home, &rules, &runbooks) => shown,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
        _ = hangup.recv() => return Ok(ExitCode::from(129)),
    };
    let demo = match shown {
        Ok(demo) => demo,
        Err(_) if out::ended() => return Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("the server's log ends with\n{}", home.log());
            return Err(error);
        }
    };
    let good = demo.check();
    if args.exit || !good || out::ended() {
        return Ok(ExitCode::from(if good { 0 } else { 1 }));
    }
    demo.invite();
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    demo.server.end();
    Ok(ExitCode::SUCCESS)
}

fn directory(path: &Path, flag: &str) -> anyhow::Result<PathBuf> {
    if !path.is_dir() {
        bail!(
            "there is no directory {}; run the demo in runbookd's repository, or name it with {flag} DIR",
            path.display()
        );
    }
    path.canonicalize().with_context(|| format!("{} cannot be read", path.display()))
}

/// The demo at its end, for checking and for trying things out.
struct Demo {
    client: Client,
    server: Server,
    journal: Journal,
    killed_at: Timestamp,
    took: std::time::Duration,
}

impl Demo {
    async fn show(home: &Home, rules: &Path, runbooks: &Path) -> anyhow::Result<Demo> {
        let began = Instant::now();
        let mut journal = Journal::default();
        let launch = Launch { home, rules, runbooks, listen: "127.0.0.1:0" };
        let mut server = Server::start(&launch)?;
        let client = Client::at(&format!("http://{}", server.address), None)?;
        ready(&client).await?;
        heading(&format!(
            "`runbookd serve` is up at http://{}, on a simulated Swarm where web has 2 replicas",
            server.address
        ));

        heading("Alertmanager posts: HighLatency of web is firing");
        client.post_alerts(SLOW).await?;
        let scaled = |journal: &Journal| {
            journal.step_of("HighLatency", "scale").is_some_and(|step| step.outcome == Outcome::Applied)
        };
        journal.until(&client, &mut server, "web to be scaled", scaled).await?;

        heading(
            "Alertmanager posts: ServiceUnhealthy of web is firing, too; its rule would restart what is just being scaled",
        );
        client.post_alerts(UNHEALTHY).await?;
        let held = |journal: &Journal| {
            journal.incident("ServiceUnhealthy").is_some_and(|detail| detail.incident.state == State::Held)
        };
        journal.until(&client, &mut server, "a guard to hold the restart back", held).await?;

        heading("Both of a pair of Alertmanagers post: DiskAlmostFull on three nodes, for which there is no rule");
        client.post_alerts(DISK).await?;
        client.post_alerts(DISK).await?;
        let verifying = |journal: &Journal| {
            journal.incident("HighLatency").is_some_and(|detail| detail.incident.state == State::Verifying)
        };
        let told = |journal: &Journal| {
            journal.incident("DiskAlmostFull").is_some_and(|detail| detail.incident.state == State::Escalated)
                && escalations(journal, "DiskAlmostFull") > 0
        };
        journal
            .until(&client, &mut server, "the escalation and the scaled service", |journal| {
                verifying(journal) && told(journal)
            })
            .await?;

        heading("Alertmanager posts: HighLatency of web is resolved, first on one instance, then on both");
        client.post_alerts(SLOW_PARTLY_RESOLVED).await?;
        client.post_alerts(SLOW_RESOLVED).await?;
        let waits = |journal: &Journal| {
            journal.step_of("ServiceUnhealthy", "wait_healthy").is_some_and(|step| step.outcome == Outcome::Waiting)
        };
        journal.until(&client, &mut server, "the restart to wait for its tasks", waits).await?;

        heading(&format!("kill -9 {}: the server dies in the middle of that run", server.id()));
        let listen = server.address.clone();
        let last_words = server.kill()?;
        let killed_at = Timestamp::now();
        journal.tell(last_words);
        heading("`runbookd serve` again, on the same journal");
        let mut server = Server::start(&Launch { listen: &listen, ..launch })?;
        ready(&client).await?;
        let goes_on = |journal: &Journal| {
            journal.incident("ServiceUnhealthy").is_some_and(|detail| detail.incident.state == State::Verifying)
        };
        journal.until(&client, &mut server, "the run to go on to its end", goes_on).await?;

        heading("Alertmanager posts: ServiceUnhealthy of web is resolved");
        client.post_alerts(UNHEALTHY_RESOLVED).await?;
        let resolved = |journal: &Journal| {
            ["HighLatency", "ServiceUnhealthy"]
                .iter()
                .all(|name| journal.incident(name).is_some_and(|detail| detail.incident.state == State::Resolved))
        };
        journal.until(&client, &mut server, "both incidents to be resolved", resolved).await?;
        Ok(Demo { client, server, journal, killed_at, took: began.elapsed() })
    }

    /// Did what the demo promises happen? Answered from the journal.
    fn check(&self) -> bool {
        let journal = &self.journal;
        let passed = |alertname: &str, state: State| {
            journal.incident(alertname).is_some_and(|detail| detail.transitions.iter().any(|line| line.to == state))
        };
        let applied = |alertname: &str, primitive: &str| {
            let runs = journal.incident(alertname).map_or(&[][..], |detail| &detail.incident.runs);
            let steps = runs.iter().filter_map(|id| journal.runs.get(id)).flat_map(|run| &run.steps);
            steps.filter(|step| step.primitive == primitive && step.outcome == Outcome::Applied).count()
        };
        let disk = journal.incident("DiskAlmostFull");
        let lock = journal.incident("ServiceUnhealthy").is_some_and(|detail| {
            detail.transitions.iter().any(|line| line.to == State::Held && line.reason.code == "lock")
        });
        let waited_over_the_crash = journal.step_of("ServiceUnhealthy", "wait_healthy").is_some_and(|step| {
            step.started_at < self.killed_at && step.finished_at.is_some_and(|end| end > self.killed_at)
        });
        let checks = [
            (
                "a slow service was scaled out once, waited for, and its incident resolved",
                applied("HighLatency", "scale") == 1 && passed("HighLatency", State::Resolved),
            ),
            (
                "an unknown alert of three nodes, told twice, was escalated once for its group",
                escalations(journal, "DiskAlmostFull") == 1
                    && disk.is_some_and(|detail| detail.incident.alerts.len() == 3)
                    && journal.incidents.len() == 3,
            ),
            ("a guard held a run back until the other was done with the service, and said why", lock),
            (
                "the killed run went on at the very step: the wait begun before the crash ended after it",
                waited_over_the_crash && applied("ServiceUnhealthy", "restart") == 1,
            ),
        ];
        heading(&format!("What the journal shows, after {:.1} s", self.took.as_secs_f64()));
        for (what, good) in checks {
            println!("  {} {what}", if good { "yes" } else { "NO " });
        }
        checks.iter().all(|(_, good)| *good)
    }

    fn invite(&self) {
        let url = self.client.base();
        let program = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or("runbookd".into());
        heading(&format!("It stays up at {url}; Ctrl-C ends it and leaves nothing behind. In another terminal, try"));
        println!("  export RUNBOOKD_SERVER={url}");
        for command in [
            "incidents",
            "incidents show i2",
            "runs",
            "runs show r2",
            "pause 'just looking'",
            "resume",
            "incidents ack i3",
        ] {
            println!("  {program} {command}");
        }
        for path in ["/api/v1/incidents?state=escalated", "/api/v1/services", "/metrics", "/readyz"] {
            println!("  curl -s '{url}{path}'");
        }
    }
}

/// How many messages asked a person to act on this alert.
fn escalations(journal: &Journal, alertname: &str) -> usize {
    journal.messages.iter().filter(|line| line.contains("ESCALATION") && line.contains(alertname)).count()
}

async fn ready(client: &Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + std::time::Duration::from_secs(30);
    while client.get::<serde_json::Value>("/readyz").await.is_err() {
        if Instant::now() > deadline {
            bail!("the server does not become ready");
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Ok(())
}

fn heading(text: &str) {
    let (on, off) = if colours() { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
    println!("\n{on}■ {text}{off}");
}
