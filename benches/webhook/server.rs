//! The server under load: a real `runbookd serve --cluster sim`, in a directory of its own, and what `/proc` says of it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What is measured: the program that cargo built beside this one, unless another is named.
pub static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

const LISTENING: &str = "listening on http://";

/// Where one server lives: `rules/`, `runbooks/`, the world, the journal. In the build directory: a temporary one may be in memory, where a
/// sync costs nothing.
pub struct Home(TempDir);

impl Home {
    /// A world of services `s0`, `s1`, … of two replicas each, one rule for all of them, and its runbook with the given handler.
    pub fn with_runbook(services: usize, handler: &str) -> Home {
        let home = Home::empty(services);
        let rule = "rules:\n  - name: load\n    match: ['alertname = \"HighLatency\"', 'service =~ \".+\"']\n    by: [service]\n    \
                    runbook: load\n    allow: [{ scale: \"{{ service }}\" }]\n";
        home.write("rules/load.yaml", rule);
        let runbook = format!("//! What the load program asks for.\n\nfn on_firing(alert, params) {{ {handler} }}\n");
        home.write("runbooks/load.rhai", &runbook);
        home
    }

    /// The rules and runbooks that runbookd comes with.
    pub fn shipped() -> Home {
        let home = Home::empty(3);
        for directory in ["rules", "runbooks", "runbooks/lib"] {
            for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).expect("shipped files") {
                let path = entry.expect("an entry").path();
                if path.is_file() {
                    let to = home.path().join(directory).join(path.file_name().expect("a file has a name"));
                    fs::copy(&path, to).expect("a copy");
                }
            }
        }
        home
    }

    /// As many files of one rule each, and as many runbooks: the shipped `scale_out`.
    pub fn with_files(files: usize) -> Home {
        let home = Home::shipped();
        let shipped = fs::read_dir(home.path().join("rules")).expect("the rules just copied");
        shipped.for_each(|entry| fs::remove_file(entry.expect("an entry").path()).expect("may be removed"));
        let runbook = fs::read_to_string(home.path().join("runbooks/scale_out.rhai")).expect("the shipped runbook");
        for at in 0..files {
            let rule = format!(
                "rules:\n  - name: rule-{at}\n    match: ['alertname = \"HighLatency\"', 'service = \"s{at}\"', 'severity !~ \"info|none\"']\n    \
                 by: [service]\n    runbook: r{at}\n    params: {{ step: 1, ceiling: 8 }}\n    allow: [{{ scale: \"{{{{ service }}}}\" }}]\n    \
                 guards: {{ cooldown: 5m, budget: 3 per 1h }}\n    attempts: 3\n"
            );
            home.write(&format!("rules/{at}.yaml"), &rule);
            home.write(&format!("runbooks/r{at}.rhai"), &format!("{runbook}// {at}\n"));
        }
        home
    }

    fn empty(services: usize) -> Home {
        let home = Home(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory"));
        for directory in ["rules", "runbooks/lib"] {
            fs::create_dir_all(home.path().join(directory)).expect("a directory");
        }
        let mut world = String::from("services:\n");
        for at in 0..services {
            writeln!(world, "  s{at}: {{ image: \"shop/s:1\", replicas: 2 }}").expect("a string takes it");
        }
        world.push_str("nodes: { node1: { role: manager }, node2: {} }\n");
        home.write("world.yaml", &world);
        home
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, file: &str, text: &str) {
        fs::write(self.path().join(file), text).expect("a file is written");
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// A running server. Killed when dropped.
pub struct Server<'a> {
    child: Child,
    home: &'a Home,
    pub address: String,
    pub started: Instant,
}

impl<'a> Server<'a> {
    /// Starts it and waits until it listens. It logs warnings only, as under load it would.
    pub fn start(home: &'a Home) -> Server<'a> {
        let log = fs::File::options().create(true).append(true).open(home.path().join("log")).expect("a log");
        let mut command = Command::new(PROGRAM.get_or_init(|| env!("CARGO_BIN_EXE_runbookd").into()));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RUNBOOKD_")) {
            command.env_remove(name);
        }
        command
            .args(["serve", "--cluster", "sim", "--world", "world.yaml", "--journal", "sqlite://journal.db"])
            .args(["--listen", "127.0.0.1:0", "--rules", "rules", "--runbooks", "runbooks"])
            // As many effects as it can make: that is what is measured.
            .env("RUNBOOKD_BRAKE_TARGETS", "")
            .env("RUNBOOKD_BRAKE_EFFECTS", "")
            .env("RUNBOOKD_LOG_LEVEL", "warn")
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let started = Instant::now();
        let mut child = command.spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("the server says where it listens");
        let address = line.trim().strip_prefix(LISTENING).unwrap_or_else(|| panic!("no server: {}", home.log()));
        let address = address.to_string();
        // Messages to people go to standard output: they must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Server { child, home, address, started }
    }

    /// The simulator's file, read from its present end on.
    pub fn effects(&self) -> Effects {
        let path = self.home.path().join("journal.db.world");
        let mut file = fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        file.seek(SeekFrom::End(0)).expect("a file has an end");
        Effects { file, unread: Vec::new(), lines: 0 }
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Duration {
        cpu_of(&format!("/proc/{}/stat", self.child.id()))
    }

    /// Waits until it does next to nothing for two seconds.
    pub fn settle(&self) {
        let mut busy = self.cpu();
        loop {
            std::thread::sleep(Duration::from_secs(2));
            let now = self.cpu();
            if now - busy <= Duration::from_millis(60) {
                return;
            }
            busy = now;
        }
    }

    /// Ends it as `docker stop` would, and waits for it.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("kill is there");
        self.child.wait().expect("a child can be waited for");
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of this process: what the load itself costs.
pub fn own_cpu() -> Duration {
    cpu_of("/proc/self/stat")
}

fn cpu_of(stat: &str) -> Duration {
    let text = fs::read_to_string(stat).expect("Linux tells it");
    // The name, in brackets, may hold blanks. User and system time are fields 14 and 15 of all, in hundredths of a second.
    let fields: Vec<&str> = text.rsplit(')').next().expect("there is a name").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// The effects that the simulated cluster has accepted: one line each, written before it answers.
pub struct Effects {
    file: fs::File,
    unread: Vec<u8>,
    lines: usize,
}

impl Effects {
    /// How many there are so far.
    pub fn count(&mut self) -> usize {
        self.unread.clear();
        self.file.read_to_end(&mut self.unread).expect("the file can be read");
        self.lines += self.unread.iter().filter(|byte| **byte == b'\n').count();
        self.lines
    }
}

/// One file of the journal's disk, to time a bare sync on.
pub struct Bare {
    file: fs::File,
    next: u64,
    pub times: Vec<Duration>,
}

impl Bare {
    pub fn beside(home: &Home) -> Bare {
        let path: PathBuf = home.path().join("bare");
        fs::write(&path, vec![1; 4 << 20]).expect("a file is written");
        let file = fs::File::options().write(true).open(path).expect("it was just written");
        file.sync_all().expect("syncs");
        Bare { file, next: 0, times: Vec::new() }
    }

    /// Writes 4 KiB in place, as a commit does at least, and times `fdatasync`.
    pub fn sync(&mut self) {
        use std::os::unix::fs::FileExt;
        self.file.write_all_at(&[2; 4096], self.next % 1_000 * 4096).expect("writes");
        self.next += 1;
        let start = Instant::now();
        self.file.sync_data().expect("syncs");
        self.times.push(start.elapsed());
    }
}
