//! The functions that the fuzzer calls (`scripts/fuzz`), called by plain `cargo test` with every seed, every input that once found something, and a few
//! thousand mutations of them, the same each time.
//!
//! An input that found something stays in `corpus/`, in a file named after it. `SEEDS_TO=DIR cargo test --test fuzz` writes the seeds for
//! the fuzzer, `MUTATIONS=N` makes so many of each instead.

/// One function a file: it takes whatever bytes come, and panics when what it found breaks a promise.
mod targets {
    pub mod hooks;
    pub mod matcher;
    pub mod payload;
    pub mod rules;
    pub mod runbook;
    pub mod world;
}

use fastrand::Rng;
use serde_json::Value;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

/// What breaks readers.
const WORDS: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"\\u",
    b"{",
    b"}",
    b"[",
    b"]",
    b"(",
    b")",
    b":",
    b",",
    b"|",
    b"*",
    b"&a ",
    b"*a",
    b"- ",
    b"#{",
    b"=~",
    b"!~",
    b"${",
    b"`",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"\xe2\x80\xa8",
    b"null",
    b"~",
    b"true",
    b"-1",
    b"18446744073709551615",
    b"1e999",
    b"0.1",
    b"{{ service }}",
    b"9999999h",
    b"loop {",
    b"|x| x",
    b"for i in 0..99999 {",
    b"throw",
    b"return",
    b"import \"lib/nodes\" as n;",
];

/// All files below a folder, in order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder of seeds").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

/// A seed and the name it is written under.
type Seed = (String, Vec<u8>);

fn seeds_in(folders: &[&str]) -> Vec<Seed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths = folders.iter().flat_map(|folder| files(&root.join(folder)));
    let name = |path: &Path| path.strip_prefix(root).expect("below the root").display().to_string().replace('/', "-");
    paths.map(|path| (name(&path), std::fs::read(&path).expect("a seed"))).collect()
}

/// What the scenarios have under a key: one text, or a map of them.
fn in_scenarios(key: &str) -> Vec<Seed> {
    let mut all = Vec::new();
    for (name, text) in seeds_in(&["tests/scenarios"]).into_iter().filter(|(name, _)| name.ends_with(".yaml")) {
        let scenario: Value = serde_saphyr::from_slice(&text).expect(&name);
        match scenario.get(key) {
            Some(Value::String(text)) => all.push((name, text.clone().into_bytes())),
            Some(Value::Object(texts)) => {
                let texts = texts.iter().filter_map(|(part, text)| Some((part, text.as_str()?)));
                all.extend(texts.map(|(part, text)| (format!("{name}-{part}"), text.as_bytes().to_vec())));
            }
            _ => {}
        }
    }
    assert!(!all.is_empty(), "no scenario has {key}");
    all
}

/// Puts a range of one input out, in again, into another, or spoils a byte of it.
fn mutated(rng: &mut Rng, seeds: &[Seed]) -> Vec<u8> {
    let mut bytes = rng.choice(seeds).expect("seeds").1.clone();
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(0..=bytes.len());
        let length = rng.usize(..64);
        let end = bytes.len().min(at + length);
        match rng.u8(..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            3 => {
                let other = &rng.choice(seeds).expect("seeds").1;
                let from = rng.usize(0..=other.len());
                let to = rng.usize(from..=other.len().min(from + 200));
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => {
                let word = rng.choice(WORDS).expect("words");
                bytes.splice(at..end.min(at + word.len()), word.iter().copied());
            }
        }
    }
    bytes
}

/// Calls a target with its corpus, these seeds, and so many mutations of both.
fn check(target: &str, run: fn(&[u8]), seeds: Vec<Seed>, mutations: usize) {
    let seeds = [seeds_in(&[&format!("tests/fuzz/corpus/{target}")]), seeds].concat();
    if let Some(folder) = std::env::var_os("SEEDS_TO") {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder).expect("a folder for seeds");
        for (name, bytes) in &seeds {
            std::fs::write(folder.join(name), bytes).expect("a written seed");
        }
    }
    let tried = |name: &str, bytes: &[u8]| {
        if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| run(bytes))) {
            eprintln!("{target}: {name} broke it: {}", bytes.escape_ascii());
            panic::resume_unwind(panic);
        }
    };
    for (name, bytes) in &seeds {
        tried(name, bytes);
    }
    let mutations = std::env::var("MUTATIONS").map_or(mutations, |count| count.parse().expect("MUTATIONS is a number"));
    let mut rng = Rng::with_seed(4);
    for at in 0..mutations {
        tried(&format!("mutation {at}"), &mutated(&mut rng, &seeds));
    }
}

#[test]
fn whatever_is_posted_as_alerts_is_read_or_told() {
    check("payload", targets::payload::run, seeds_in(&["tests/fixtures/alertmanager"]), 4_000);
}

#[test]
fn whatever_a_hook_is_sent_is_read_or_told() {
    check("hooks", targets::hooks::run, Vec::new(), 4_000);
}

#[test]
fn whatever_reads_as_a_matcher_prints_so_that_it_reads_the_same() {
    check("matcher", targets::matcher::run, Vec::new(), 10_000);
}

#[test]
fn whatever_stands_in_a_file_of_rules_is_read_or_found() {
    check("rules", targets::rules::run, [seeds_in(&["rules", "deploy/rules"]), in_scenarios("rules")].concat(), 1_000);
}

#[test]
fn whatever_stands_in_a_runbook_is_found_or_ends_the_same_each_time() {
    let seeds = seeds_in(&["runbooks", "tests/simulation/runbooks"]);
    check("runbook", targets::runbook::run, [seeds, in_scenarios("runbooks")].concat(), 1_000);
}

#[test]
fn whatever_stands_in_a_world_file_is_refused_or_a_world() {
    check("world", targets::world::run, in_scenarios("world"), 1_000);
}
