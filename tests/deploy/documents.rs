//! What is written for people names what is there: files, commands with their flags, keys, variables, metrics.

use clap::CommandFactory;
use runbookd::adapters::cluster::sim::World;
use runbookd::cli::Cli;
use runbookd::config::Config;
use runbookd::runbook::rules;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page, with its path below the repository.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages: Vec<PathBuf> = Vec::new();
    for folder in ["", "docs", "docs/flows"] {
        let entries = std::fs::read_dir(root().join(folder)).expect("a folder").flatten();
        pages.extend(entries.map(|entry| Path::new(folder).join(entry.file_name())));
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages.into_iter().map(|page| (page.clone(), read(&root().join(page)))).collect()
}

/// What of a page is code: the lines of its blocks, and what stands between backticks.
fn code(text: &str) -> Vec<&str> {
    let (mut fenced, mut code) = (false, Vec::new());
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            code.push(line.trim());
        } else {
            code.extend(line.split('`').skip(1).step_by(2));
        }
    }
    code
}

/// Calls `check` with each page and each piece of its code; all that is wrong is told at once. `least`: with fewer to look at the test sees nothing.
fn each(least: usize, check: impl Fn(&str) -> Vec<Result<(), String>>) {
    let (mut wrong, mut looked_at) = (Vec::new(), 0);
    for (page, text) in pages() {
        for found in code(&text).into_iter().flat_map(&check) {
            looked_at += 1;
            wrong.extend(found.err().map(|what| format!("{}: {what}", page.display())));
        }
    }
    assert!(looked_at >= least, "only {looked_at} were found: the test no longer sees them");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let (mut wrong, mut followed) = (Vec::new(), 0);
    for (page, text) in pages() {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            followed += 1;
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.with_file_name(path) };
            let target = root().join(target);
            let headings =
                || read(&target).lines().filter(|line| line.starts_with('#')).map(anchor).collect::<Vec<_>>();
            if !target.exists() || (!heading.is_empty() && !headings().iter().any(|known| known == heading)) {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(followed > 40, "only {followed} links were found: the test no longer sees them");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_that_is_named_is_there() {
    let folders = ["src/", "tests/", "docs/", "deploy/", "rules/", "runbooks/", "scripts/", "benches/", "fuzz/"];
    each(100, |code| {
        let words = code.split(|c: char| !c.is_ascii_alphanumeric() && !"/._-*{".contains(c));
        let paths = words.filter(|word| folders.iter().any(|folder| word.starts_with(folder)));
        let exact = paths.filter(|word| !word.contains(['*', '{'])).map(|word| word.trim_end_matches('.'));
        exact.map(|path| root().join(path).exists().then_some(()).ok_or(format!("there is no {path}"))).collect()
    });
}

/// The words after `runbookd` name commands and flags that it takes.
fn takes(words: &str) -> Result<(), String> {
    let root = Cli::command();
    // In a table a bar is written so.
    let words = words.replace("\\|", "|");
    let (mut command, mut named) = (&root, "runbookd".to_string());
    for word in words.split_whitespace().map(|word| word.trim_matches(['[', ']', ','])) {
        if let Some(flag) = word.strip_prefix("--") {
            let name = flag.split('=').next().unwrap_or_default();
            let known = command.get_arguments().chain(root.get_arguments());
            if !known.filter_map(|argument| argument.get_long()).any(|long| long == name) {
                return Err(format!("`{named}` has no --{name}"));
            }
        } else if command.has_subcommands() && word.starts_with(|c: char| c.is_ascii_lowercase()) {
            let all: Vec<_> = word.split('|').map(|name| command.find_subcommand(name).ok_or(name)).collect();
            if let Some(name) = all.iter().find_map(|found| found.err()) {
                return Err(format!("`{named}` has no command `{name}`"));
            }
            named = format!("{named} {word}");
            command = all[0].expect("looked at above");
        }
    }
    Ok(())
}

#[test]
fn every_command_is_one() {
    each(50, |code| {
        // A comment, and what follows in a pipe, is no part of it.
        let line = code.split(" #").next().unwrap_or_default().split([';', '\'', '"', '>']).next().unwrap_or_default();
        let after =
            line.split_once("runbookd ").filter(|(before, _)| before.is_empty() || before.ends_with(['/', ' ']));
        let own = line.split_once("cargo run --release -- ");
        own.or(after).map(|(_, words)| takes(words)).into_iter().collect()
    });
    // The list in README names the program once a row.
    let readme = read(&root().join("README.md"));
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `runbookd ")?.split(" | ").next());
    let listed: Vec<&str> = rows.flat_map(|row| row.split('`').step_by(2)).filter(|code| !code.is_empty()).collect();
    let wrong: Vec<String> =
        listed.iter().filter_map(|words| takes(words.trim_start_matches("runbookd ")).err()).collect();
    assert!(wrong.is_empty(), "README.md: {}", wrong.join("\n"));
    let first = |words: &&str| words.trim_start_matches("runbookd ").split_whitespace().next().map(str::to_string);
    let listed: BTreeSet<String> = listed.iter().filter_map(first).collect();
    let all = Cli::command().get_subcommands().map(|command| command.get_name().to_string()).collect();
    assert_eq!(listed, all, "left: in README.md's list of commands; right: the commands");
}

#[test]
fn every_bench_example_and_test_is_there() {
    let manifest = read(&root().join("Cargo.toml"));
    each(4, |code| {
        let words: Vec<&str> = code.split_whitespace().collect();
        let named = words.windows(2).filter(|pair| ["--bench", "--example", "--test"].contains(&pair[0]));
        let cargo = named.filter(|_| code.contains("cargo ") || code.starts_with("--bench"));
        let there = |name: &str| {
            let folder = root().join("tests").join(name);
            manifest.contains(&format!("name = \"{name}\"")) || folder.with_extension("rs").exists() || folder.exists()
        };
        cargo.map(|pair| there(pair[1]).then_some(()).ok_or(format!("there is no {} {}", pair[0], pair[1]))).collect()
    });
}

/// `brake.targets`, as a path of keys.
fn path_of_keys(word: &str) -> Option<Vec<&str>> {
    let path: Vec<&str> = word.trim_end_matches(':').split('.').collect();
    let plain = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let file = ["yaml", "yml", "json", "md", "rs", "rhai", "db"].iter().any(|end| path.last() == Some(end));
    (path.len() > 1 && !file && path.iter().all(plain)).then_some(path)
}

#[test]
fn every_key_is_one() {
    let config = serde_json::to_value(Config::default()).expect("a configuration is JSON");
    each(20, |code| {
        let Some(path) = path_of_keys(code).filter(|path| config.get(path[0]).is_some()) else { return Vec::new() };
        let found = path.iter().try_fold(&config, |at, key| at.get(key));
        vec![found.map(drop).ok_or(format!("the configuration has no {code}"))]
    });
    each(8, |code| {
        let path = path_of_keys(code).unwrap_or_default();
        let ["guards", key] = path[..] else { return Vec::new() };
        let (_, found) = rules::read("rule.yaml", &format!("rules: [{{ name: it, guards: {{ {key}: null }} }}]"));
        let unknown = found.into_iter().find(|finding| finding.code == "rule_unknown_key");
        vec![unknown.map_or(Ok(()), |finding| Err(finding.to_string()))]
    });
}

#[test]
fn what_is_shown_of_rules_and_the_configuration_can_be_read() {
    let keys = serde_json::to_value(Config::default()).expect("a configuration is JSON");
    let (mut wrong, mut rules_read, mut configs_read) = (Vec::new(), 0, 0);
    for (page, text) in pages() {
        for block in text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            let file = page.display().to_string();
            let own = if block.starts_with("- name:") { format!("rules:\n{block}") } else { block.to_string() };
            let Ok(Value::Object(shown)) = serde_saphyr::from_str(&own) else { continue };
            if own.starts_with("rules:\n") {
                rules_read += 1;
                // A page may show a part of a rule.
                let found = rules::read(&file, &own).1.into_iter().filter(|finding| finding.code != "rule_missing_key");
                wrong.extend(found.map(|finding| finding.to_string()));
            } else if shown.keys().all(|key| keys.get(key).is_some()) {
                configs_read += 1;
                let refused = serde_saphyr::from_str::<Config>(&own).err();
                wrong.extend(refused.map(|error| format!("{file}: {error}\n{own}")));
            }
        }
    }
    assert!(
        rules_read >= 3 && configs_read >= 8,
        "only {rules_read} and {configs_read} were found: the test no longer sees them"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_world_that_is_shown_is_one() {
    let text = read(&root().join("docs/simulator.md"));
    let block = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a world");
    let world = World::parse(block).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((world.services.len(), world.nodes().len(), world.jobs.len()), (3, 3, 1));
}

#[test]
fn every_metric_is_exposed() {
    let listed = read(&root().join("docs/metrics.md"));
    let exposed: BTreeSet<&str> =
        listed.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let is_there = |name: &str| {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        exposed.contains(name) || histogram.is_some_and(|name| exposed.contains(name))
    };
    let names = |text: &str| -> Vec<Result<(), String>> {
        let words =
            text.split(|c: char| !c.is_ascii_lowercase() && c != '_').filter(|word| word.starts_with("runbookd_"));
        words.map(|name| is_there(name).then_some(()).ok_or(format!("there is no metric {name}"))).collect()
    };
    // Elsewhere than in a table's or a sentence's code such a name is a volume, or a secret.
    each(40, |code| if code.contains(' ') { Vec::new() } else { names(code) });
    for file in ["prometheus-alerts.yml", "prometheus-alerts.test.yml"] {
        let text = read(&root().join("deploy").join(file));
        let found = names(&text);
        assert!(found.len() > 5, "{file} asks for {} metrics only", found.len());
        let wrong: Vec<String> = found.into_iter().filter_map(Result::err).collect();
        assert!(wrong.is_empty(), "{file}: {}", wrong.join("\n"));
    }
}
