//! `runbookd serve`: the server, from its configuration to its last commit.

use crate::app::metrics::Metrics;
use crate::app::wiring::{self, WiringError};
use crate::cli::{render, table};
use crate::clock::Clock;
use crate::config::read::Loaded;
use crate::config::secret::Secrets;
use crate::config::{ClusterKind, Config, LogFormat};
use crate::http::auth::{self, Keys};
use crate::http::router::router;
use crate::http::server::{self, Limits};
use crate::http::shared::{Live, Shared};
use anyhow::{Context, anyhow};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Receives alerts and acts on them. Flags beat the environment, which beats the file.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Where to listen [default: 127.0.0.1:9095]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The directory of rules [default: rules]
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// The directory of runbooks [default: runbooks]
    #[arg(long, value_name = "DIR")]
    runbooks: Option<PathBuf>,
    /// Where everything is written down [default: sqlite://runbookd.db]
    #[arg(long, value_name = "URL")]
    journal: Option<String>,
    /// The cluster: docker or sim [default: docker]
    #[arg(long, value_name = "KIND", value_parser = ["docker", "sim"])]
    cluster: Option<String>,
    /// The simulator's start state
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// Accept that anybody who reaches the address may post alerts
    #[arg(long)]
    insecure: bool,
}

impl ServeArgs {
    fn over(self, config: &mut Config) {
        config.listen = self.listen.unwrap_or_else(|| std::mem::take(&mut config.listen));
        config.rules = self.rules.unwrap_or_else(|| std::mem::take(&mut config.rules));
        config.runbooks = self.runbooks.unwrap_or_else(|| std::mem::take(&mut config.runbooks));
        config.journal.url = self.journal.unwrap_or_else(|| std::mem::take(&mut config.journal.url));
        config.world = self.world.or(config.world.take());
        config.insecure |= self.insecure;
        match self.cluster.as_deref() {
            Some("sim") => config.cluster = ClusterKind::Sim,
            Some(_) => config.cluster = ClusterKind::Docker,
            None => {}
        }
    }
}

pub fn run(args: ServeArgs, loaded: Loaded) -> anyhow::Result<ExitCode> {
    let Loaded { mut config, warnings, .. } = loaded;
    args.over(&mut config);
    log_to_stderr(&config)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // Two workers serve more posts than the journal's disk commits; each more costs memory while idle.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .thread_keep_alive(std::time::Duration::from_secs(5))
        .enable_all()
        .build()?;
    let code = runtime.block_on(serve(config));
    // What still blocks has nothing to say any more.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code
}

fn log_to_stderr(config: &Config) -> anyhow::Result<()> {
    let level = &config.log.level;
    let filter = tracing_subscriber::EnvFilter::try_new(level)
        .map_err(|error| anyhow!("log.level is {level:?}: {error}; expected for example info or runbookd=debug"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match config.log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| anyhow!("the log cannot be set up: {error}"))
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    // Signals that come while starting are not lost.
    let stop = signals()?;
    let secrets = Secrets::load(&config, &|name| std::env::var(name).ok()).map_err(|why| anyhow!(why))?;
    let listener = listen(&config, &secrets).await?;
    let metrics = Arc::new(Metrics::new());
    let shared = Arc::new(Shared::new(metrics.clone(), Clock::System, &config, Keys::new(&secrets)));
    let prepared = match wiring::prepare(config, &secrets, Clock::System, metrics) {
        Ok(prepared) => prepared,
        Err(error) => return refuse(error),
    };

    let address = listener.local_addr()?;
    let (closing, mut closed) = watch::channel(false);
    let accepting = tokio::spawn(server::serve(listener, router(shared.clone()), Limits::default(), async move {
        let _ = closed.wait_for(|closed| *closed).await;
    }));
    announce(&format!("listening on http://{address}"));

    let mut stopped = stop.clone();
    let started = tokio::select! {
        started = start(prepared, &shared) => started,
        _ = stopped.wait_for(|stop| *stop) => Ok(None),
    };
    let code = match started {
        Ok(Some(running)) => {
            tracing::info!(%address, "runbookd is ready");
            let _ = stopped.wait_for(|stop| *stop).await;
            tracing::info!("stopping: no new work, what is in flight ends and is journalled");
            closing.send_replace(true);
            let _ = accepting.await;
            shared.wait_for("shutting down");
            running.stop().await;
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Ok(None) => Ok(ExitCode::SUCCESS),
        Err(error) => refuse(error),
    };
    closing.send_replace(true);
    code
}

async fn start(prepared: wiring::Prepared, shared: &Shared) -> Result<Option<wiring::Running>, WiringError> {
    let running = prepared
        .start(|why| {
            tracing::warn!("{why}; waiting for it");
            shared.wait_for(format!("{why}; waiting for it"));
        })
        .await?;
    let parts = &running.app.parts;
    shared.go_live(Live {
        journal: parts.journal.clone(),
        cluster: parts.cluster.clone(),
        catalog: parts.catalog.clone(),
        app: Some(running.app.clone()),
    });
    Ok(Some(running))
}

/// Binds the address, if it may be bound.
async fn listen(config: &Config, secrets: &Secrets) -> anyhow::Result<TcpListener> {
    let listen = &config.listen;
    let addresses: Vec<_> = tokio::net::lookup_host(listen)
        .await
        .with_context(|| format!("listen is {listen:?}, which is no address; expected for example 127.0.0.1:9095"))?
        .collect();
    for address in &addresses {
        auth::may_listen(*address, secrets.token.is_some(), config.insecure).map_err(|why| anyhow!(why))?;
    }
    TcpListener::bind(&addresses[..]).await.with_context(|| {
        format!("cannot listen on {listen}: is another runbookd running? Choose another with --listen")
    })
}

/// What keeps the server from starting, where the person who starts it looks.
fn refuse(error: WiringError) -> anyhow::Result<ExitCode> {
    if let WiringError::Catalog(findings) = &error {
        eprintln!("{}", render::diagnostics(findings, table::colours_on_stderr()));
    }
    Err(error.into())
}

/// One line on standard output, which whoever started this process may read. That it is closed is no reason to stop.
fn announce(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Turns true at SIGTERM or SIGINT; a second one ends the process at once.
fn signals() -> anyhow::Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (tell, told) = watch::channel(false);
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                tell.send_replace(true);
            }
        }
        // A crash is safe at any moment: the journal has everything.
        std::process::exit(130);
    });
    Ok(told)
}
