//! The files that rules and runbooks are written in, read in one pass: what is read is what is hashed, parsed and compiled.

use crate::model::diagnostic::Diagnostic;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A larger file is no rule and no runbook.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What both directories hold, by path below the directory (`web.yaml`, `scale_out.rhai`, `lib/load.rhai`), in order of it.
#[derive(Default)]
pub struct Files {
    pub rules: BTreeMap<String, Arc<str>>,
    pub runbooks: BTreeMap<String, Arc<str>>,
    /// Those below `lib/`.
    pub modules: BTreeMap<String, Arc<str>>,
    /// What could not be read.
    pub unreadable: Vec<Diagnostic>,
    /// Over every path and content, and over what could not be read: tells one state of the files from another.
    pub digest: String,
}

impl Files {
    /// Reads `rules/*.yaml`, `rules/*.yml`, `runbooks/*.rhai` and `runbooks/lib/**/*.rhai`. Hidden files and editors' backups are no part of them.
    pub fn read(rules: &Path, runbooks: &Path) -> Files {
        let mut unreadable = Vec::new();
        let mut directory = Directory { root: rules, endings: &["yaml", "yml"], unreadable: &mut unreadable };
        let read_rules = directory.read("rules", Path::new(""), false);
        let mut directory = Directory { root: runbooks, endings: &["rhai"], unreadable: &mut unreadable };
        let read_runbooks = directory.read("runbooks", Path::new(""), false);
        let modules = if runbooks.join("lib").is_dir() {
            directory.read("runbooks", Path::new("lib"), true)
        } else {
            BTreeMap::new()
        };
        let mut files =
            Files { rules: read_rules, runbooks: read_runbooks, modules, unreadable, digest: String::new() };
        files.digest = files.hash();
        files
    }

    fn hash(&self) -> String {
        let mut hash = Sha256::new();
        // Lengths keep the borders: ("ab", "c") is not ("a", "bc").
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        for part in [&self.rules, &self.runbooks, &self.modules] {
            for (path, text) in part {
                add(path);
                add(text);
            }
            add("");
        }
        self.unreadable.iter().for_each(|finding| add(&finding.to_string()));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

struct Directory<'a> {
    root: &'a Path,
    endings: &'a [&'a str],
    unreadable: &'a mut Vec<Diagnostic>,
}

impl Directory<'_> {
    /// The files of `root/below` with the right endings, by path below `root`.
    fn read(&mut self, what: &str, below: &Path, deep: bool) -> BTreeMap<String, Arc<str>> {
        let mut files = BTreeMap::new();
        let directory = self.root.join(below);
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                let (code, help) = match error.kind() {
                    ErrorKind::NotFound => (
                        "directory_missing",
                        format!("create it, or name another with --{what} or the key `{what}` of runbookd.yaml"),
                    ),
                    ErrorKind::NotADirectory => {
                        ("directory_missing", "name the directory, not a file in it".to_string())
                    }
                    _ => ("file_unreadable", "runbookd's user must be able to read it".to_string()),
                };
                self.finding(code, &directory, format!("the directory of {what} cannot be read: {error}"), help);
                return files;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.finding("file_unreadable", &directory, format!("cannot be listed: {error}"), String::new());
                    continue;
                }
            };
            let name = entry.file_name();
            // A name that is not UTF-8 has no ending that we know either, unless it does: then it is shown with what can be shown.
            let name = name.to_string_lossy();
            if name.starts_with('.') || name.starts_with('#') || name.ends_with('~') {
                continue;
            }
            let path = below.join(&*name);
            // Kubernetes' mounts are nothing but links: what counts is where they lead. One that leads nowhere is read, and says so.
            let kind = entry.file_type().ok().filter(|kind| !kind.is_symlink());
            let kind = kind.or_else(|| entry.path().metadata().ok().map(|meta| meta.file_type()));
            if kind.is_some_and(|kind| kind.is_dir()) {
                if deep {
                    files.extend(self.read(what, &path, true));
                }
            } else if self.endings.iter().any(|ending| path.extension().is_some_and(|is| is == *ending)) {
                // Opening a pipe would wait for its writer.
                if kind.is_some_and(|kind| !kind.is_file()) {
                    let help = "remove it, or give it another ending".to_string();
                    self.finding("file_unreadable", &entry.path(), "is no regular file".to_string(), help);
                } else if let Some(text) = self.file(&entry.path()) {
                    files.insert(path.to_string_lossy().into_owned(), text);
                }
            }
        }
        files
    }

    fn file(&mut self, path: &PathBuf) -> Option<Arc<str>> {
        let mut bytes = Vec::with_capacity(4096);
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            let help = "runbookd's user must be able to read it".to_string();
            self.finding("file_unreadable", path, format!("cannot be read: {error}"), help);
            return None;
        }
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let message = "is larger than 1 MiB".to_string();
            self.finding("file_too_large", path, message, "split it into several files".to_string());
            return None;
        }
        match String::from_utf8(bytes) {
            Ok(text) => Some(text.into()),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
                let message = format!("is not UTF-8: the first wrong byte is on line {line}");
                self.finding("file_not_utf8", path, message, "save it as UTF-8".to_string());
                None
            }
        }
    }

    fn finding(&mut self, code: &str, path: &Path, message: String, help: String) {
        let finding = Diagnostic::error(code, &path.display().to_string(), message);
        self.unreadable.push(if help.is_empty() { finding } else { finding.help(help) });
    }
}

/// Findings about files themselves.
pub const CODES: &[(&str, &str)] = &[
    ("directory_missing", "the directory of rules or runbooks does not exist"),
    ("file_unreadable", "a file cannot be read"),
    ("file_too_large", "a file is larger than 1 MiB"),
    ("file_not_utf8", "a file is not UTF-8"),
];
