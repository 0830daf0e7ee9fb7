//! The layers: imports point only downwards, the engine knows no adapter, clock or runtime, and the files keep to what `lib.rs` says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The rank of each module of `src/`: it may import its own rank's siblings of the same folder and everything below.
const RANKS: [(&str, u8); 10] = [
    ("model", 0),
    ("config", 1),
    ("ports", 1),
    ("clock", 1),
    ("runbook", 2),
    ("adapters", 2),
    ("engine", 3),
    ("app", 4),
    ("http", 5),
    ("cli", 5),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Each source file below `src/`: its top module and its text, comments and its own tests left out.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    found
        .into_iter()
        .filter(|path| !path.ends_with("lib.rs") && !path.ends_with("main.rs"))
        .filter(|path| !path.ends_with("tests.rs") && !path.ends_with("testing.rs"))
        .map(|path| {
            let below = path.strip_prefix(&root).expect("below src").to_path_buf();
            let top = below.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_string();
            let text = std::fs::read_to_string(&path).expect("a readable source");
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            (top, below, code)
        })
        .collect()
}

#[test]
fn imports_point_only_downwards() {
    let ranks: BTreeMap<&str, u8> = RANKS.into_iter().collect();
    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for (top, path, code) in sources() {
        let rank = ranks.get(top.as_str()).unwrap_or_else(|| panic!("{top} has no rank"));
        for (name, below) in &ranks {
            let imports = code.contains(&format!("crate::{name}::")) || code.contains(&format!("crate::{name};"));
            looked_at += usize::from(imports);
            // `cli` may start the server; nothing else imports a sibling of its rank.
            let sibling = below == rank && *name != top && !(top == "cli" && *name == "http");
            if imports && (below > rank || sibling) {
                wrong.push(format!("src/{} (rank {rank}) imports crate::{name} (rank {below})", path.display()));
            }
        }
    }
    assert!(looked_at > 100, "only {looked_at} imports were found: the test no longer sees them");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn decisions_have_no_clock_no_runtime_and_no_adapter() {
    let forbidden = [
        "tokio",
        "async ",
        "Timestamp::now",
        "SystemTime",
        "time::Instant",
        "std::fs",
        "std::env",
        "std::net",
        "crate::adapters",
    ];
    let mut wrong = Vec::new();
    for (_, path, code) in sources().into_iter().filter(|(top, ..)| ["engine", "model"].contains(&top.as_str())) {
        for word in forbidden.iter().filter(|word| code.contains(**word)) {
            wrong.push(format!("src/{} uses {word}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stands_in_one_small_file() {
    let with_unsafe: Vec<PathBuf> =
        sources().into_iter().filter(|(_, _, code)| code.contains("unsafe_code")).map(|(_, path, _)| path).collect();
    assert_eq!(with_unsafe, [Path::new("runbook/budget.rs")]);
}

#[test]
fn every_module_stands_in_the_tour_and_on_the_map() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tour = std::fs::read_to_string(root.join("src/lib.rs")).expect("lib.rs");
    let map = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    for (name, _) in RANKS {
        assert!(tour.contains(&format!("[`{name}`]")), "src/lib.rs does not tell of {name}");
        assert!(map.contains(&format!("src/{name}")), "ARCHITECTURE.md does not show src/{name}");
    }
}
