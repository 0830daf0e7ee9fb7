//! Findings as people read them: the source line with a caret, in the manner of rustc.

use crate::model::diagnostic::{Diagnostic, Severity};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// One finding, without a line end. `colour` only for a terminal.
pub fn diagnostic(finding: &Diagnostic, colour: bool) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(&finding.message).id(&finding.code);
    let group: Group = if finding.line == 0 {
        title.element(Origin::path(&finding.file))
    } else {
        let annotation = AnnotationKind::Primary.span(span(finding));
        let snippet = Snippet::source(&finding.source).line_start(finding.line).path(&finding.file);
        title.element(snippet.annotation(annotation))
    };
    let group = match &finding.help {
        Some(help) => group.element(Level::HELP.message(help)),
        None => group,
    };
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

/// All findings, and a line that counts them.
pub fn diagnostics(findings: &[Diagnostic], colour: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&diagnostic(finding, colour));
        text.push_str("\n\n");
    }
    text.push_str(&count(findings));
    text
}

/// `2 errors, 1 warning`.
pub fn count(findings: &[Diagnostic]) -> String {
    let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match (of(Severity::Error), of(Severity::Warning)) {
        (errors, 0) => many(errors, "error"),
        (0, warnings) => many(warnings, "warning"),
        (errors, warnings) => format!("{}, {}", many(errors, "error"), many(warnings, "warning")),
    }
}

/// From characters to bytes, within the line whatever the finding says.
fn span(finding: &Diagnostic) -> std::ops::Range<usize> {
    let byte =
        |character: usize| finding.source.char_indices().nth(character).map_or(finding.source.len(), |(byte, _)| byte);
    let start = finding.column.saturating_sub(1);
    byte(start)..byte(start + finding.length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_its_line_with_a_caret() {
        let text = "rules:\n  - näme: web\n";
        let finding = Diagnostic::error("rule_unknown_key", "rules/web.yaml", "a rule has no key `näme`")
            .at(text, 2, 5, 4)
            .help("did you mean `name`?");
        let expect = "\
error[rule_unknown_key]: a rule has no key `näme`
 --> rules/web.yaml:2:5
  |
2 |   - näme: web
  |     ^^^^
  |
  = help: did you mean `name`?";
        assert_eq!(diagnostic(&finding, false), expect);
    }

    #[test]
    fn a_finding_without_a_line_names_its_file() {
        let finding = Diagnostic::error("directory_missing", "rules", "the directory cannot be read").help("create it");
        let expect = "\
error[directory_missing]: the directory cannot be read
--> rules
 = help: create it";
        assert_eq!(diagnostic(&finding, false), expect);
    }

    #[test]
    fn a_place_beyond_the_line_breaks_nothing() {
        let finding = Diagnostic::error("x", "f", "m").at("ab\n", 1, 9, 9).warning();
        assert!(diagnostic(&finding, true).contains('m'));
        assert_eq!(count(&[finding.clone(), finding]), "2 warnings");
    }
}
