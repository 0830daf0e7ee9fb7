//! What people read about rules, runbooks and other files they write: a code, a place, what was expected, how to mend it.

use serde::{Deserialize, Serialize};

/// One finding in a file. Lines and columns count from 1, columns in characters; 0 means that the place is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    pub severity: Severity,
    /// `rule_unknown_key`, `runbook_syntax` … A closed set.
    pub code: String,
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// How many characters the caret underlines; at least 1.
    pub length: usize,
    /// The source line, when there is one.
    pub source: String,
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

impl Diagnostic {
    pub fn error(code: &str, file: &str, message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            code: code.to_string(),
            file: file.to_string(),
            line: 0,
            column: 0,
            length: 1,
            source: String::new(),
            message: message.into(),
            help: None,
        }
    }

    /// Puts it at a place of `text`, the whole file.
    pub fn at(mut self, text: &str, line: usize, column: usize, length: usize) -> Self {
        self.source = text.lines().nth(line.saturating_sub(1)).unwrap_or("").to_string();
        (self.line, self.column, self.length) = (line, column, length.max(1));
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

impl std::fmt::Display for Diagnostic {
    /// One line, for logs: `rules/web.yaml:3:5: message`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {} [{}]", self.message, self.code)
    }
}

/// The known name nearest to a misspelt one, if any is near.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| {
            let shorter = name.len().min(wrong.len());
            // Of a word of three letters, two others are another word.
            *distance <= (1 + shorter / 3).min(shorter.saturating_sub(2)).max(1)
        })
        .min()
        .map(|(_, name)| name)
}
