//! A matcher: what is read prints so that it reads the same.

use runbookd::model::matcher::Matcher;

pub fn run(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let matcher = match Matcher::parse(text) {
        Ok(matcher) => matcher,
        Err(error) => {
            assert!(error.at <= text.chars().count() && error.length >= 1, "{error:?}");
            return;
        }
    };
    let printed = matcher.to_string();
    let read = Matcher::parse(&printed).unwrap_or_else(|error| panic!("{matcher:?} prints as {printed}: {error}"));
    assert_eq!((&read.name, read.op, &read.value), (&matcher.name, matcher.op, &matcher.value), "{printed}");
    assert_eq!(read.literals(), matcher.literals());
    for value in ["", "web", &matcher.value, text] {
        assert_eq!(read.matches_value(value), matcher.matches_value(value), "{printed} on {value:?}");
        if let Some(literals) = matcher.literals() {
            assert_eq!(literals.contains(&value), matcher.matches_value(value), "{printed} on {value:?}");
        }
    }
}
