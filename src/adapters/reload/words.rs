//! Values of labels, as words of the languages that templates write. A value either becomes one word that means exactly itself, or is an error: there is
//! no value that breaks out.

use crate::model::duration::Duration;
use serde_json::Value;

/// Why a value cannot be written, to stand behind it: `"a b" is no port …`.
pub type Unfit = String;

/// A word that means itself in every language that templates write.
pub fn plain(text: &str) -> Result<String, Unfit> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_.:/@-".contains(c);
    match text {
        "" => Err("is empty".to_string()),
        text if text.starts_with('-') => Err("begins with -, as an option does".to_string()),
        text if text.chars().all(harmless) => Ok(text.to_string()),
        _ => Err("is no plain word: use a filter such as haproxy_word, nginx_word, yaml or json".to_string()),
    }
}

/// A name: letters, digits, `_`, `.` and `-`.
pub fn name(text: &str) -> Result<String, Unfit> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    match plain(text) {
        Ok(word) if word.chars().all(fits) => Ok(word),
        _ => Err("is no name of letters, digits, _, . and -".to_string()),
    }
}

pub fn port(text: &str) -> Result<String, Unfit> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port.to_string()),
        _ => Err("is no port from 1 to 65535".to_string()),
    }
}

pub fn duration(text: &str) -> Result<String, Unfit> {
    let parsed = Duration::parse(text).map_err(|_| "is no duration such as 30s or 5m".to_string())?;
    Ok(parsed.to_string())
}

/// One argument in HAProxy's configuration. Within single quotes everything stands for itself, and a single quote is written outside of them.
pub fn haproxy(text: &str) -> Result<String, Unfit> {
    match plain(text) {
        Ok(word) => Ok(word),
        Err(_) => one_line(text).map(|()| format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

/// One parameter in nginx' configuration. A `$` begins a variable there, and there is no way to write one that does not.
pub fn nginx(text: &str) -> Result<String, Unfit> {
    if let Ok(word) = plain(text) {
        return Ok(word);
    }
    one_line(text)?;
    if text.contains('$') {
        return Err("holds a $, which nginx takes for a variable wherever it stands".to_string());
    }
    Ok(format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"")))
}

fn one_line(text: &str) -> Result<(), Unfit> {
    match text {
        "" => Err("is empty".to_string()),
        text if text.starts_with('-') => Err("begins with -, as an option does".to_string()),
        text if text.chars().any(char::is_control) => {
            Err("holds a line break or another control character".to_string())
        }
        _ => Ok(()),
    }
}

/// JSON on one line, which is YAML as well: what YAML does not allow to stand as it is, is escaped.
pub fn json(value: &Value) -> String {
    let text = value.to_string();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Characters beyond ASCII stand in strings only.
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_becomes_one_word_or_an_error() {
        type Filter = fn(&str) -> Result<String, Unfit>;
        let check = |filter: Filter, text: &str, expected: Result<&str, &str>| match (filter(text), expected) {
            (Ok(word), Ok(expected)) => assert_eq!(word, expected, "{text:?}"),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{text:?}: {why}"),
            (found, expected) => panic!("{text:?}: found {found:?}, expected {expected:?}"),
        };
        check(plain, "10.0.0.1:80/api@x", Ok("10.0.0.1:80/api@x"));
        check(plain, "a b", Err("use a filter"));
        check(plain, "a\n", Err("use a filter"));
        check(plain, "", Err("is empty"));
        check(plain, "-f", Err("option"));
        check(name, "go-demo_api.1", Ok("go-demo_api.1"));
        check(name, "a/b", Err("no name"));
        check(port, "8080", Ok("8080"));
        check(port, "0", Err("no port"));
        check(port, "+80", Err("no port"));
        check(port, "80\nbind :1", Err("no port"));
        check(port, "65536", Err("no port"));
        check(duration, "90s", Ok("1m30s"));
        check(duration, "soon", Err("no duration"));
        check(haproxy, "/api", Ok("/api"));
        check(haproxy, "/a b#c\"$X %[src] {{ x }}", Ok("'/a b#c\"$X %[src] {{ x }}'"));
        check(haproxy, "/it's", Ok(r"'/it'\''s'"));
        check(haproxy, "/a\n    bind :1", Err("line break"));
        check(haproxy, "-f /etc/passwd", Err("option"));
        check(nginx, "/api", Ok("/api"));
        check(nginx, r#"/a; } "\"#, Ok(r#""/a; } \"\\""#));
        check(nginx, "/$host", Err("variable"));
        check(nginx, "/a\r\n", Err("line break"));
    }

    #[test]
    fn json_stays_on_one_line_and_is_yaml() {
        for text in
            ["plain", "a: b # c", "no", "\"\\\n\t", "{{ x }}", "\u{85}\u{2028}\u{7f}\u{feff}é👍\0", "- *a &b !c"]
        {
            let written = json(&Value::from(text));
            assert!(written.chars().all(|c| c == ' ' || !c.is_whitespace() && !c.is_control()), "{written:?}");
            assert_eq!(serde_json::from_str::<String>(&written).expect("JSON"), text);
            assert_eq!(serde_saphyr::from_str::<String>(&written).expect("YAML"), text);
        }
    }
}
