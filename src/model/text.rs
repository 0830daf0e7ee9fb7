//! Text from outside, made fit to be shown: bounded, and without characters that cannot be seen or that reorder what is seen.

/// `text` on one line, cut to at most `max` characters (an ellipsis included), control characters shown as pictures (`␇`) or escapes.
pub fn visible(text: &str, max: usize) -> String {
    shown(text, max, false)
}

/// As [`visible`], but line breaks stay.
pub fn visible_lines(text: &str, max: usize) -> String {
    shown(text, max, true)
}

/// `text` cut to at most `max` characters, an ellipsis included.
pub fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_string(),
        Some(_) => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

fn shown(text: &str, max: usize, lines: bool) -> String {
    // Each character becomes at least one: more than `max + 1` of them are never looked at.
    let mut out = String::with_capacity(text.len().min(max * 4));
    for c in text.chars().take(max + 1) {
        match c {
            '\n' if lines => out.push('\n'),
            '\r' if lines => {}
            '\0'..='\x1f' => out.push(char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}')),
            '\x7f' => out.push('␡'),
            _ if c.is_control() || unseen(c) => out.extend(c.escape_unicode()),
            _ => out.push(c),
        }
    }
    cut(&out, max)
}

/// Line separators, the byte order mark, and what turns the direction of the text around it.
fn unseen(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_made_visible_and_the_length_is_bounded() {
        let table = [
            ("plain – 节点宕机 👍", 50, "plain – 节点宕机 👍"),
            ("bell \u{7} nul \0 del \u{7f}", 50, "bell ␇ nul ␀ del ␡"),
            ("a\r\nb", 50, "a␍␊b"),
            ("next\u{85}line", 50, "next\\u{85}line"),
            ("evil\u{202e}txt.exe", 50, "evil\\u{202e}txt.exe"),
            ("12345", 5, "12345"),
            ("123456", 5, "1234…"),
            ("\u{202e}", 4, "\\u{…"),
        ];
        for (text, max, expect) in table {
            assert_eq!(visible(text, max), expect, "{text:?}");
        }
        assert_eq!(visible_lines("a\r\nb\u{7}", 50), "a\nb␇");
        assert_eq!(visible(&"x".repeat(1_000), 200).chars().count(), 200);
    }
}
