//! How long it takes to load 1,000 rules and 1,000 runbooks. To reach: a start within 100 ms, a changed file in force within 50 ms. `cargo bench --bench load`

use divan::Bencher;
use runbookd::runbook::catalog::{Catalog, Offers};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn main() {
    divan::main();
}

const FILES: usize = 1_000;

/// A rule a file and a runbook for each: the shipped `scale_out`, with its library.
fn lay(home: &Path) -> (PathBuf, PathBuf) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks");
    let (rules, runbooks) = (home.join("rules"), home.join("runbooks"));
    fs::create_dir(&rules).expect("a directory");
    fs::create_dir_all(runbooks.join("lib")).expect("a directory");
    for module in fs::read_dir(shipped.join("lib")).expect("the shipped library") {
        let module = module.expect("an entry");
        fs::copy(module.path(), runbooks.join("lib").join(module.file_name())).expect("a copy");
    }
    let runbook = fs::read_to_string(shipped.join("scale_out.rhai")).expect("the shipped runbook");
    for at in 0..FILES {
        let rule = format!(
            "rules:\n  - name: rule-{at}\n    match: ['alertname = \"HighLatency\"', 'service = \"s{at}\"', 'severity !~ \"info|none\"']\n    \
             by: [service]\n    runbook: r{at}\n    params: {{ step: 1, ceiling: 8 }}\n    allow: [{{ scale: \"{{{{ service }}}}\" }}]\n    \
             guards: {{ cooldown: 5m, budget: 3 per 1h }}\n    attempts: 3\n"
        );
        fs::write(rules.join(format!("{at}.yaml")), rule).expect("a file of rules");
        fs::write(runbooks.join(format!("r{at}.rhai")), format!("{runbook}// {at}\n")).expect("a runbook");
    }
    (rules, runbooks)
}

fn load(rules: &Path, runbooks: &Path, previous: Option<&Catalog>) -> Catalog {
    let catalog = Catalog::load(rules, runbooks, &Offers::default(), previous).expect("valid files");
    assert_eq!((catalog.rules.len(), catalog.programs.len()), (FILES, FILES));
    catalog
}

#[divan::bench(sample_count = 20)]
fn start(bencher: Bencher) {
    let home = TempDir::new().expect("a temporary directory");
    let (rules, runbooks) = lay(home.path());
    bencher.bench_local(|| load(&rules, &runbooks, None));
}

/// What a reload costs after its debounce when one runbook of a thousand has changed.
#[divan::bench(sample_count = 20)]
fn one_file_changed(bencher: Bencher) {
    let home = TempDir::new().expect("a temporary directory");
    let (rules, runbooks) = lay(home.path());
    let mut running = load(&rules, &runbooks, None);
    let mut version = 0;
    let file = runbooks.join("r7.rhai");
    let text = fs::read_to_string(&file).expect("a runbook");
    bencher.bench_local(|| {
        version += 1;
        fs::write(&file, format!("{text}// version {version}\n")).expect("a change");
        let next = load(&rules, &runbooks, Some(&running));
        assert_ne!(next.digest, running.digest);
        running = next;
    });
}
