//! The load program: what a real `runbookd serve --cluster sim` does over HTTP, with its journal synced to disk.
//!
//! `cargo bench --bench webhook` runs all sections (five minutes), `cargo bench --bench webhook -- effect-latency start` some of them:
//! `effect-latency effect-throughput intake-groups intake-single start reload idle suspended`. With `--url http://HOST:PORT/PATH` the intake sections
//! drive that webhook receiver instead, whatever it is, so that others can be measured beside runbookd; only what HTTP tells is shown then.
//! `--server PATH` measures that build of runbookd instead of the one that cargo built beside this program.
//! `--seconds N` shortens the floods, `--suspended N` and `--effects N` say how many runs there are.

mod client;
mod server;
mod table;

use client::{Connection, Target, load, payload};
use server::{Bare, Home, Server, own_cpu};
use std::fs;
use std::time::{Duration, Instant};
use table::{Table, at_least, at_most, millis, percentile};

const CONNECTIONS: usize = 64;
/// As long as a run without end may take in here.
const NO_LIMIT: Duration = Duration::from_secs(3600);
/// Services whose alerts a flood tells of, and instances of each: as many alerts as their product.
const FLOOD_SERVICES: usize = 1_000;
const FLOOD_INSTANCES: usize = 100;
/// How long the reloader waits for quiet after a change.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// After so long without posts the server has given back what it no longer needs.
const QUIET: Duration = Duration::from_secs(65);
const MIB: f64 = 1024.0 * 1024.0;

const SECTIONS: [&str; 8] =
    ["effect-latency", "effect-throughput", "intake-groups", "intake-single", "start", "reload", "idle", "suspended"];

struct Options {
    sections: Vec<String>,
    url: Option<Target>,
    seconds: u64,
    effects: usize,
    suspended: usize,
}

fn main() {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            std::process::exit(2);
        }
    };
    // One thread: the server needs the others.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut table = Table::default();
    for section in &options.sections {
        runtime.block_on(async {
            match section.as_str() {
                "effect-latency" => effect_latency(&mut table).await,
                "effect-throughput" => effect_throughput(&options, &mut table).await,
                "intake-groups" => intake_groups(&options, &mut table).await,
                "intake-single" => intake_single(&options, &mut table).await,
                "start" => start(&mut table).await,
                "reload" => reload(&mut table).await,
                "idle" => idle(&mut table).await,
                _ => suspended(&options, &mut table).await,
            }
        });
    }
    table.summary();
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { sections: Vec::new(), url: None, seconds: 30, effects: 30_000, suspended: 100_000 };
    while let Some(arg) = args.next() {
        let mut number =
            || args.next().and_then(|value| value.parse::<usize>().ok()).ok_or(format!("{arg} needs a number"));
        match arg.as_str() {
            // Said by cargo.
            "--bench" => {}
            "--seconds" => options.seconds = number()? as u64,
            "--effects" => options.effects = number()?,
            "--suspended" => options.suspended = number()?,
            "--server" => {
                let program = std::path::absolute(args.next().unwrap_or_default());
                let program = program.map_err(|error| format!("--server needs the path of a runbookd: {error}"))?;
                server::PROGRAM.set(program).map_err(|_| "--server is given twice")?;
            }
            "--url" => {
                let url = args.next().unwrap_or_default();
                options.url =
                    Some(Target::parse(&url).ok_or(format!("--url is {url:?}; expected http://HOST:PORT/PATH"))?);
            }
            section if SECTIONS.contains(&section) => options.sections.push(arg),
            other => return Err(format!("there is no section {other}; there are: {}", SECTIONS.join(" "))),
        }
    }
    if options.sections.is_empty() {
        let all: &[&str] = if options.url.is_some() { &["intake-groups", "intake-single"] } else { &SECTIONS };
        options.sections = all.iter().map(|section| section.to_string()).collect();
    }
    let foreign = options.url.is_some();
    match options.sections.iter().find(|section| foreign && !section.starts_with("intake-")) {
        Some(section) => {
            Err(format!("{section} needs a server of its own; with --url there are: intake-groups intake-single"))
        }
        None => Ok(options),
    }
}

/// One alert at a time, from before its POST is sent until this program sees the simulator's line of the accepted change; after each, a bare sync.
async fn effect_latency(table: &mut Table) {
    const WARM_UP: usize = 200;
    const ALERTS: usize = 2_000;
    let home = Home::with_runbook(WARM_UP + ALERTS, "scale(alert.labels.service, 3);");
    let server = Server::start(&home);
    let mut connection = Connection::open(&server.address).await;
    connection.ready().await;
    let (mut effects, mut bare) = (server.effects(), Bare::beside(&home));
    let (mut answers, mut times) = (Vec::new(), Vec::new());
    let (own, its) = (own_cpu(), server.cpu());
    for at in 0..WARM_UP + ALERTS {
        let body = payload(at, [(at, 1)]);
        let sent = Instant::now();
        assert_eq!(connection.post("/api/v1/alertmanager", &body).await, 200, "{body}");
        answers.push(sent.elapsed());
        while effects.count() <= at {
            assert!(sent.elapsed() < Duration::from_secs(10), "alert {at} has no effect");
            std::thread::sleep(Duration::from_micros(20));
        }
        times.push(sent.elapsed());
        bare.sync();
    }
    let (answers, times, bare) = (&mut answers[WARM_UP..], &mut times[WARM_UP..], &mut bare.times[WARM_UP..]);
    table.section(&format!(
        "effect-latency: {ALERTS} alerts, one at a time, each with an effect; a bare sync after each"
    ));
    let (bare_50, bare_99) = (percentile(bare, 50), percentile(bare, 99));
    table.figure("bare fdatasync p50 / p99", format!("{} / {}", millis(bare_50), millis(bare_99)));
    table.figure(
        "alert -> 200 p50 / p99",
        format!("{} / {}", millis(percentile(answers, 50)), millis(percentile(answers, 99))),
    );
    let limit = Duration::from_millis(2);
    table.judged("alert -> effect p50", percentile(times, 50), limit);
    table.judged("alert -> effect p99", percentile(times, 99), limit + 2 * bare_99);
    table.cpu(own_cpu() - own, server.cpu() - its);
    server.stop();
}

/// As many alerts as there are services, posted as fast as they are answered; over when the last effect is accepted.
async fn effect_throughput(options: &Options, table: &mut Table) {
    let alerts = options.effects;
    let home = Home::with_runbook(alerts, "scale(alert.labels.service, 3);");
    let server = Server::start(&home);
    Connection::open(&server.address).await.ready().await;
    let mut effects = server.effects();
    let (own, its) = (own_cpu(), server.cpu());
    let start = Instant::now();
    let target = Target::runbookd(&server.address);
    let posted = load(&target, CONNECTIONS, NO_LIMIT, |at| (at < alerts).then(|| payload(at, [(at, 1)]))).await;
    let mut last = (0, Instant::now());
    while last.0 < alerts {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let count = effects.count();
        if count > last.0 {
            last = (count, Instant::now());
        }
        assert!(last.1.elapsed() < Duration::from_secs(20), "{} of {alerts} alerts had an effect", last.0);
    }
    let took = last.1 - start;
    table.section(&format!("effect-throughput: {alerts} alerts over {CONNECTIONS} connections, each with an effect"));
    table.http(&posted, 1);
    let rate = alerts as f64 / took.as_secs_f64();
    table.row("alert -> effect", &format!("{rate:.0} /s"), "≥ 3000 /s (aim 5000)", Some(at_least(rate, 3_000.0)));
    table.figure("effects still to come after the last answer took", millis(took.saturating_sub(posted.took)));
    table.cpu(own_cpu() - own, server.cpu() - its);
    server.stop();
}

/// Groups of 100 alerts for half a minute: at first all new, then repeats. Each service's first alert also starts a run.
async fn intake_groups(options: &Options, table: &mut Table) {
    let bodies: Vec<String> = (0..FLOOD_SERVICES)
        .map(|service| payload(service, (0..FLOOD_INSTANCES).map(|instance| (service, instance))))
        .collect();
    let limit = Duration::from_secs(options.seconds);
    let title = format!(
        "intake-groups: groups of {FLOOD_INSTANCES} alerts ({} KiB) for {} s over {CONNECTIONS} connections, {} different alerts",
        bodies[0].len() >> 10,
        options.seconds,
        FLOOD_SERVICES * FLOOD_INSTANCES
    );
    let flood = |at: usize| Some(bodies[at % FLOOD_SERVICES].clone());
    flooded(options, table, &title, FLOOD_INSTANCES, limit, &flood, (50_000.0, "≥ 50000 /s")).await;
}

/// One alert a post.
async fn intake_single(options: &Options, table: &mut Table) {
    const ALERTS: usize = 10_000;
    let bodies: Vec<String> = (0..ALERTS).map(|at| payload(at, [(at % FLOOD_SERVICES, at / FLOOD_SERVICES)])).collect();
    let limit = Duration::from_secs(options.seconds.min(10));
    let title = format!(
        "intake-single: posts of one alert for {} s over {CONNECTIONS} connections, {ALERTS} different alerts",
        limit.as_secs()
    );
    let flood = |at: usize| Some(bodies[at % ALERTS].clone());
    flooded(options, table, &title, 1, limit, &flood, (5_000.0, "≥ 5000 /s (aim 10000)")).await;
}

async fn flooded(
    options: &Options,
    table: &mut Table,
    title: &str,
    alerts_each: usize,
    limit: Duration,
    body: &impl Fn(usize) -> Option<String>,
    (least, target_text): (f64, &str),
) {
    let own = own_cpu();
    if let Some(url) = &options.url {
        let posted = load(url, CONNECTIONS, limit, body).await;
        table.section(&format!("{title}, at {}", url.address));
        table.http(&posted, alerts_each);
        table.figure("processor time: the load", format!("{:.1} s", (own_cpu() - own).as_secs_f64()));
        return;
    }
    let home = Home::with_runbook(FLOOD_SERVICES, "scale(alert.labels.service, 3);");
    let server = Server::start(&home);
    let mut connection = Connection::open(&server.address).await;
    connection.ready().await;
    let its = server.cpu();
    let posted = load(&Target::runbookd(&server.address), CONNECTIONS, limit, body).await;
    let over = Instant::now();
    // It was silent all the while, and may have been closed for it.
    connection = Connection::open(&server.address).await;
    // Everything that was accepted is reflected when each of its alerts has been counted by what it changed.
    let all = (posted.accepted * alerts_each as u64) as f64;
    while connection.metric("runbookd_alerts_total", "").await < all {
        assert!(over.elapsed() < Duration::from_secs(300), "the backlog is not worked off");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let backlog = over.elapsed();
    table.section(title);
    table.http(&posted, alerts_each);
    let rate = all / posted.took.as_secs_f64();
    table.row("alerts journalled", &format!("{rate:.0} /s"), target_text, Some(at_least(rate, least)));
    table.figure("time to work off the backlog", millis(backlog));
    table.cpu(own_cpu() - own, server.cpu() - its);
    table.figure("memory of the server afterwards", format!("{:.1} MiB", server.memory() as f64 / MIB));
    server.stop();
}

/// From the start of the process until `/readyz` is green; the median of several starts, each with a journal of its own.
async fn start(table: &mut Table) {
    let home = Home::with_files(1_000);
    let mut times = Vec::new();
    for _ in 0..7 {
        for file in fs::read_dir(home.path()).expect("the home").flatten().map(|entry| entry.path()) {
            if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal.db")) {
                fs::remove_file(file).expect("may be removed");
            }
        }
        let server = Server::start(&home);
        Connection::open(&server.address).await.ready().await;
        times.push(server.started.elapsed());
        server.stop();
    }
    table.section("start: 1000 files of rules and 1000 runbooks, from exec to /readyz, the median of 7");
    table.judged("start", percentile(&mut times, 50), Duration::from_millis(100));
}

/// A runbook in a thousand is written anew; over when the server counts the new set as read.
async fn reload(table: &mut Table) {
    let home = Home::with_files(1_000);
    let server = Server::start(&home);
    let mut connection = Connection::open(&server.address).await;
    connection.ready().await;
    server.settle();
    connection = Connection::open(&server.address).await;
    let text = fs::read_to_string(home.path().join("runbooks/r7.rhai")).expect("it is there");
    let mut times = Vec::new();
    for version in 0..9 {
        let before = connection.metric("runbookd_reload_total", "accepted").await;
        home.write("runbooks/r7.rhai", &format!("{text}// version {version}\n"));
        let written = Instant::now();
        tokio::time::sleep(DEBOUNCE).await;
        while connection.metric("runbookd_reload_total", "accepted").await <= before {
            assert!(written.elapsed() < Duration::from_secs(20), "the change is not taken over");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(written.elapsed() - DEBOUNCE);
    }
    table.section("reload: one of 1000 runbooks changes, from its writing until it is in force, less the debounce of 300 ms, the median of 9");
    table.judged("reload", percentile(&mut times, 50), Duration::from_millis(50));
    table.figure("the slowest", millis(percentile(&mut times, 100)));
    server.stop();
}

async fn idle(table: &mut Table) {
    let home = Home::shipped();
    let server = Server::start(&home);
    Connection::open(&server.address).await.ready().await;
    let its = server.cpu();
    tokio::time::sleep(Duration::from_secs(60)).await;
    table.section("idle: the shipped rules and runbooks, 60 s after the start");
    let memory = server.memory() as f64 / MIB;
    table.row("resident memory", &format!("{memory:.1} MiB"), "≤ 25 MB", Some(at_most(memory * MIB, 25e6)));
    table.figure("processor time in these 60 s", millis(server.cpu() - its));
    server.stop();
}

/// As many incidents, each with a run that sleeps.
async fn suspended(options: &Options, table: &mut Table) {
    let runs = options.suspended;
    let home = Home::with_runbook(1, "sleep(\"2h\");");
    let server = Server::start(&home);
    let mut connection = Connection::open(&server.address).await;
    connection.ready().await;
    let before = server.memory();
    let start = Instant::now();
    let group = |at: usize| payload(at, (at * 100..(at * 100 + 100).min(runs)).map(|service| (service, 1)));
    let posted = load(&Target::runbookd(&server.address), 4, NO_LIMIT, |at| (at * 100 < runs).then(|| group(at))).await;
    assert_eq!(posted.refused, 0);
    server.settle();
    let slept = start.elapsed();
    // States are counted every half minute; a connection that was silent meanwhile may have been closed.
    while Connection::open(&server.address).await.metric("runbookd_incidents", "running").await < runs as f64 {
        assert!(start.elapsed() < Duration::from_secs(300), "not every alert has a run at work");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    table.section(&format!("suspended: {runs} incidents, each with a run in sleep(\"2h\")"));
    table.figure("until all slept", format!("{:.1} s", slept.as_secs_f64()));
    // The first quiet half minute gives back what the burst left.
    tokio::time::sleep(QUIET).await;
    let judge = |table: &mut Table, what: &str, memory: u64| {
        let memory = memory as f64;
        table.row(what, &format!("{:.1} MiB", memory / MIB), "≤ 200 MB", Some(at_most(memory, 200e6)));
    };
    judge(table, "resident memory, a minute later", server.memory());
    table.figure(
        "a run, with its incident and alert",
        format!("{:.2} KiB", (server.memory() - before) as f64 / 1024.0 / runs as f64),
    );
    server.stop();
    let again = Server::start(&home);
    Connection::open(&again.address).await.ready().await;
    let took = again.started.elapsed();
    again.settle();
    tokio::time::sleep(QUIET).await;
    table.figure("a restart until ready", millis(took));
    judge(table, "resident memory, a minute later", again.memory());
    again.stop();
}
