//! The page of `docs/` that says what a runbook can call, written from the table and the limits themselves.

use super::primitives::{PRIMITIVES, Primitive};
use super::{budget, sandbox, session};
use crate::model::step::{EffectClass, StepError};

/// The text of `docs/primitives.md`.
pub fn page() -> String {
    use std::fmt::Write;
    let mut page = String::from(
        "# Primitives\n\n<!-- Written from the table in src/runbook/primitives.rs: `UPDATE=1 cargo test --lib reference` writes it anew. -->\n\n\
         What a runbook can call. Each call but those of class *none* is a step: journalled, and answered from the journal when a run is \
         continued. Durations are Prometheus' (`90s`, `5m`, `1h30m`).\n\n\
         | primitive | class | |\n|---|---|---|\n",
    );
    let mut line = |text: std::fmt::Arguments<'_>| page.write_fmt(text).expect("a String takes everything");
    for Primitive { name, class, doc, .. } in PRIMITIVES {
        let first = doc.split_once(". ").map_or(*doc, |(first, _)| first).trim_end_matches('.');
        line(format_args!("| [`{name}`](#{name}) | {} | {first} |\n", class_name(*class)));
    }
    line(format_args!("\n| class | what it does | a step in doubt after a crash |\n|---|---|---|\n"));
    for (class, does, in_doubt) in CLASSES {
        line(format_args!("| {} | {does} | {in_doubt} |\n", class_name(class)));
    }
    for Primitive { name, class, signature, doc, returns, example, .. } in PRIMITIVES {
        line(format_args!("\n## {name}\n\n`{signature}` ({})\n\n{doc}\n\nReturns {returns}.\n", class_name(*class)));
        line(format_args!("\n```rhai\n{example}\n```\n"));
    }
    line(format_args!(
        "\n## Errors\n\nA primitive that fails throws a map with `kind`, `message` and `primitive`:\n\n\
         ```rhai\ntry {{\n    wait_healthy(\"web\", \"2m\");\n}} catch (error) {{\n    \
         if error.kind != \"timeout\" {{ throw error; }}\n    escalate(`web does not come up: ${{error.message}}`);\n}}\n```\n\n\
         | kind | meaning |\n|---|---|\n"
    ));
    for (kind, meaning) in StepError::KINDS {
        line(format_args!("| `{kind}` | {meaning} |\n"));
    }
    line(format_args!("{HANDLERS}"));
    line(format_args!(
        "\n## Limits\n\nOf one evaluation, the replay of the steps so far included. Beyond them the run fails and people are asked.\n\n"
    ));
    line(format_args!("| limit | |\n|---|---|\n"));
    let kib = |bytes: usize| format!("{} KiB", bytes >> 10);
    for (what, limit) in [
        ("operations (about one for each expression)", sandbox::MAX_OPERATIONS.to_string()),
        ("functions calling each other", sandbox::MAX_CALL_DEPTH.to_string()),
        (
            "levels of expressions and blocks within each other (a nested array takes up to three)",
            sandbox::MAX_EXPRESSION_DEPTH.to_string(),
        ),
        ("text in one value, all its parts together", kib(sandbox::MAX_TEXT_BYTES)),
        ("array elements in one value, all its parts together", sandbox::MAX_ARRAY_ITEMS.to_string()),
        ("map entries in one value, all its parts together", sandbox::MAX_MAP_ENTRIES.to_string()),
        ("variables at a time", sandbox::MAX_VARIABLES.to_string()),
        ("modules that one runbook reaches", sandbox::MAX_MODULES.to_string()),
        ("functions in one file, closures included", sandbox::MAX_FUNCTIONS.to_string()),
        ("one file", kib(sandbox::MAX_SOURCE_BYTES)),
        ("memory", format!("{} MiB", budget::MEMORY_LIMIT_BYTES >> 20)),
        ("computing time", format!("{} s", sandbox::TIME_LIMIT.as_secs())),
        ("lines of log", session::MAX_LOG_LINES.to_string()),
        ("one line of log", format!("{} bytes", session::MAX_LOG_LINE_BYTES)),
    ] {
        line(format_args!("| {what} | {limit} |\n"));
    }
    page
}

const HANDLERS: &str = r#"
## What a handler is given

`on_firing(alert, params)` and `on_resolved(alert, params)` are called with:

- `alert`: what fired when the attempt started. `alert.labels` and `alert.annotations` are those that all its alerts share,
  `alert.alerts` the alerts one by one, then `starts_at` and `generator_url`. It does not change while the run goes on.
- `params`: what `defaults()` declares, with the rule's `params` on top.

A label that is missing is an error, not `()`: `alert.labels.service` ends the run when there is no `service`. Ask first
(`"service" in alert.labels`), or use `alert.labels.get("service")`, which is `()` then.

A runbook is functions, constants and imports of `runbooks/lib/`. A function reads a constant of its file as `global::NAME`.
"#;

const CLASSES: [(EffectClass, &str, &str); 8] = [
    (EffectClass::Read, "looks; the only class that a `wait_until` closure may call", "is read again"),
    (
        EffectClass::Absolute,
        "sets a target; needs a grant in the rule's `allow`",
        "is observed, and applied if it was not",
    ),
    (
        EffectClass::Reload,
        "reloads a target; needs a grant in the rule's `allow`",
        "is repeated: a reload is idempotent",
    ),
    (
        EffectClass::Keyed,
        "asks for something under a key of its step; needs a grant in the rule's `allow`",
        "is asked for by its key: what is there is not made again",
    ),
    (
        EffectClass::Unsafe,
        "does what cannot be looked at; needs a grant in the rule's `allow`",
        "is not repeated: the run hands over to people",
    ),
    (EffectClass::Notify, "tells people", "is sent again, marked as such"),
    (EffectClass::Wait, "waits, holding nothing", "goes on to its original deadline"),
    (EffectClass::None, "is no step", "cannot be"),
];

fn class_name(class: EffectClass) -> &'static str {
    match class {
        EffectClass::Read => "read",
        EffectClass::Absolute => "absolute",
        EffectClass::Keyed => "keyed",
        EffectClass::Unsafe => "unsafe",
        EffectClass::Reload => "reload",
        EffectClass::Notify => "notify",
        EffectClass::Wait => "wait",
        EffectClass::None => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_that_of_the_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/primitives.md");
        let page = page();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().expect("in docs/")).expect("docs/ can be made");
            std::fs::write(&path, &page).expect("docs/primitives.md can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == page, "docs/primitives.md is not that of the table: UPDATE=1 cargo test --lib reference");
    }
}
