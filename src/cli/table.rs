//! Tables and colours for people: aligned columns, colours on a terminal only, text from outside made harmless.

use crate::model::text::visible;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use jiff::Timestamp;
use std::io::IsTerminal;

/// Longer cells are cut: `--json` has everything.
const CELL: usize = 200;

/// A table with a heading and no borders.
pub fn table(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !colours() {
        table.force_no_tty();
    }
    table.set_header(heading.iter().map(|name| Cell::new(name.to_uppercase()).add_attribute(Attribute::Bold)));
    table
}

/// A cell with text from outside.
pub fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(visible(text.as_ref(), CELL))
}

/// A cell with the name of a state or outcome, in its colour.
pub fn state(name: &str) -> Cell {
    state_of(name, name)
}

/// The same with more words about it.
pub fn state_of(name: &str, text: impl ToString) -> Cell {
    let cell = Cell::new(text);
    match name {
        "resolved" | "done" | "applied" => cell.fg(Color::Green),
        "escalated" | "failed" | "denied" => cell.fg(Color::Red),
        "held" | "awaiting_approval" | "interrupted" | "in_doubt" => cell.fg(Color::Yellow),
        "running" | "verifying" | "suspended" | "waiting" | "recovered" => cell.fg(Color::Cyan),
        _ => cell,
    }
}

/// The lines of a table, without spaces at their ends.
pub fn print(table: &Table) {
    for line in table.to_string().lines() {
        println!("{}", line.trim_end());
    }
}

/// Colours on standard output: a terminal, and `NO_COLOR` (no-color.org) is not set.
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && no_color_unset()
}

pub fn colours_on_stderr() -> bool {
    std::io::stderr().is_terminal() && no_color_unset()
}

fn no_color_unset() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The name that serde gives a plain enum: `on_firing`, `applied`.
pub fn name_of(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|name| name.as_str().map(str::to_string)).unwrap_or_default()
}

/// An instant to the second, in UTC.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A length of time, as short as it is told apart: `4ms`, `2.1s`, `3m20s`, `4h10m`.
pub fn span(from: Timestamp, to: Timestamp) -> String {
    let millis = u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0);
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 => format!("{}.{}s", millis / 1_000, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", millis / 60_000, millis / 1_000 % 60),
        3_600_000..86_400_000 => format!("{}h{:02}m", millis / 3_600_000, millis / 60_000 % 60),
        _ => format!("{}d{:02}h", millis / 86_400_000, millis / 3_600_000 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let from = Timestamp::UNIX_EPOCH;
        for (millis, expect) in [
            (4, "4ms"),
            (2_140, "2.1s"),
            (200_000, "3m20s"),
            (15_000_000, "4h10m"),
            (100_000_000, "1d03h"),
            (-5, "0ms"),
        ] {
            let to = Timestamp::from_millisecond(millis).expect("an instant");
            assert_eq!(span(from, to), expect);
        }
    }

    #[test]
    fn text_from_outside_cannot_move_the_cursor() {
        let mut table = table(&["key"]);
        table.add_row([cell("a\u{1b}[2Jb\nc")]);
        let shown = table.to_string();
        assert!(!shown.contains('\u{1b}') && shown.lines().count() == 2, "{shown:?}");
    }
}
