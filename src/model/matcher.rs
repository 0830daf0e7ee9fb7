//! Alertmanager's label matchers: `=`, `!=`, `=~`, `!~`, a missing label reads as "", expressions are anchored.

use super::label::Labels;
use regex::Regex;
use std::fmt;

#[derive(Clone, Debug)]
pub struct Matcher {
    pub name: String,
    pub op: Op,
    pub value: String,
    /// For `=~` and `!~`.
    expression: Option<Expression>,
}

/// An anchored expression. Most are simpler than a regular expression, which takes long to compile and is needed a thousand times.
#[derive(Clone, Debug)]
enum Expression {
    /// Plain words between bars, sorted; one may be empty.
    Words(Vec<Box<str>>),
    /// `.+`
    Something,
    /// `.*`
    Anything,
    Regex(Box<Regex>),
}

impl Expression {
    fn new(text: &str) -> Result<Self, regex::Error> {
        let special = |c| r"\.+*?()[]{}^$".contains(c);
        Ok(match text {
            ".+" => Expression::Something,
            ".*" => Expression::Anything,
            _ if !text.contains(special) => {
                let mut words: Vec<Box<str>> = text.split('|').map(Box::from).collect();
                words.sort_unstable();
                words.dedup();
                Expression::Words(words)
            }
            _ => Expression::Regex(Box::new(anchored(text)?)),
        })
    }

    fn matches(&self, value: &str) -> bool {
        match self {
            Expression::Words(words) => words.iter().any(|word| **word == *value),
            Expression::Something => !value.is_empty() && !value.contains('\n'),
            Expression::Anything => !value.contains('\n'),
            Expression::Regex(regex) => regex.is_match(value),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Equal,
    NotEqual,
    Matches,
    NotMatches,
}

impl Op {
    pub fn sign(self) -> &'static str {
        match self {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Matches => "=~",
            Op::NotMatches => "!~",
        }
    }
}

/// What is wrong with a matcher's text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}, at character {}", .at + 1)]
pub struct MatcherError {
    /// In characters from 0.
    pub at: usize,
    /// How many characters are wrong; at least 1.
    pub length: usize,
    /// A sentence without the place.
    pub message: String,
}

impl Matcher {
    /// Builds a matcher. The error says what is wrong with the expression.
    pub fn new(name: &str, op: Op, value: &str) -> Result<Self, String> {
        let compile = || {
            let wrong =
                |error: regex::Error| format!("{value:?} is no regular expression: {}", last_line(&error.to_string()));
            Expression::new(value).map_err(wrong)
        };
        let expression = match op {
            Op::Equal | Op::NotEqual => None,
            Op::Matches | Op::NotMatches => Some(compile()?),
        };
        Ok(Matcher { name: name.to_string(), op, value: value.to_string(), expression })
    }

    /// Reads Alertmanager's notation: `name = "value"`, the spaces optional, the name and the value quoted or bare.
    pub fn parse(text: &str) -> Result<Self, MatcherError> {
        Reader { text, at: 0 }.matcher()
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.value(&self.name))
    }

    pub fn matches_value(&self, value: &str) -> bool {
        let expression = || self.expression.as_ref().expect("built with an expression").matches(value);
        match self.op {
            Op::Equal => value == self.value,
            Op::NotEqual => value != self.value,
            Op::Matches => expression(),
            Op::NotMatches => !expression(),
        }
    }

    /// The only values it can match, when there are few and none is "": of `=`, and of `=~` with plain words between bars.
    pub fn literals(&self) -> Option<Vec<&str>> {
        match (self.op, &self.expression) {
            (Op::Equal, _) => (!self.value.is_empty()).then(|| vec![self.value.as_str()]),
            (Op::Matches, Some(Expression::Words(words))) => {
                words.iter().map(|word| (!word.is_empty()).then_some(&**word)).collect()
            }
            _ => None,
        }
    }
}

/// Alertmanager compiles `^(?:…)$` with Go's RE2 and without the `s` flag, so "." stops at line ends and "$" is the very end of the text; both are
/// Rust's defaults too. Known differences: `\d \w \s` know all of Unicode here, and `\Q…\E` and `\C` do not exist.
fn anchored(value: &str) -> Result<Regex, regex::Error> {
    // Alertmanager would take "a)|(b" and lose the anchors: such text must be an expression by itself.
    if value.contains(')') {
        bounded(value)?;
    }
    bounded(&format!("^(?:{value})$"))
}

fn bounded(expression: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(expression).size_limit(1 << 20).build()
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ")
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(reserved) {
            true => f.write_str(&quoted(&self.name))?,
            false => f.write_str(&self.name)?,
        }
        f.write_str(self.op.sign())?;
        match self.expression {
            None => f.write_str(&quoted(&self.value)),
            // Only the escapes that an expression's text knows: any other would become part of the expression.
            Some(_) => {
                let escaped = self.value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
                write!(f, "\"{escaped}\"")
            }
        }
    }
}

/// A text in quotes that reads back. Rust writes a NUL as `\0`, which would be read together with a digit that follows.
fn quoted(text: &str) -> String {
    let parts: Vec<String> = text.split('\0').map(|part| format!("{part:?}")).collect();
    format!("\"{}\"", parts.iter().map(|part| &part[1..part.len() - 1]).collect::<Vec<_>>().join(r"\u{0}"))
}

/// What ends a bare word (Alertmanager's `matcher/parse` lexer).
fn reserved(c: char) -> bool {
    c.is_whitespace() || "{}!=~,\\\"'`".contains(c)
}

/// Which escapes a quoted text knows.
#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    /// Go's and JSON's; any other is an error.
    Go,
    /// Only `\"`, `\\` and `\n`; any other is left to the expression, so that `"10\.0\..+"` works as Alertmanager's classic parser has it.
    Expression,
}

struct Reader<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
}

impl<'a> Reader<'a> {
    fn matcher(mut self) -> Result<Matcher, MatcherError> {
        self.skip_spaces();
        if self.rest().starts_with('{') {
            return Err(self.wrong("a matcher stands alone, without braces: name = \"value\"; write several as a list"));
        }
        let name_at = self.at;
        let name = match self.rest().starts_with('"') {
            true => self.quoted(Escapes::Go)?,
            false => self.bare().to_string(),
        };
        if name.is_empty() {
            let found = self.found();
            return Err(self
                .wrong_from(name_at, format!("expected a label name, as in severity = \"critical\", found {found}")));
        }
        self.skip_spaces();
        let op = self.op(&name)?;
        self.skip_spaces();
        let value_at = self.at;
        let value = if self.rest().starts_with('"') {
            let escapes = match op {
                Op::Equal | Op::NotEqual => Escapes::Go,
                Op::Matches | Op::NotMatches => Escapes::Expression,
            };
            self.quoted(escapes)?
        } else {
            let word = self.bare().to_string();
            if word.is_empty() {
                let found = self.found();
                return Err(self.wrong(format!("expected a value in double quotes, found {found}")));
            }
            word
        };
        let value_end = self.at;
        self.skip_spaces();
        if !self.rest().is_empty() {
            let found = self.found();
            return Err(self.wrong(match self.rest().starts_with(',') {
                true => "one matcher to an entry: write the next one as a list entry of its own".to_string(),
                false => format!("expected the end of the matcher, found {found}; a value with special characters needs double quotes"),
            }));
        }
        Matcher::new(&name, op, &value).map_err(|message| {
            self.at = value_end;
            self.wrong_from(value_at, message)
        })
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn bare(&mut self) -> &'a str {
        let rest = self.rest();
        let word = &rest[..rest.find(reserved).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn op(&mut self, name: &str) -> Result<Op, MatcherError> {
        let rest = self.rest();
        if rest.starts_with("==") {
            return Err(self.wrong_over(2, "there is no ==; equality is a single ="));
        }
        for op in [Op::Matches, Op::NotEqual, Op::NotMatches, Op::Equal] {
            if rest.starts_with(op.sign()) {
                self.at += op.sign().len();
                return Ok(op);
            }
        }
        let found = self.found();
        Err(self.wrong(format!("expected =, !=, =~ or !~ after {name:?}, found {found}")))
    }

    /// Reads a quoted text, standing at its opening quote.
    fn quoted(&mut self, escapes: Escapes) -> Result<String, MatcherError> {
        let open = self.at;
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let Some(c) = self.rest().chars().next() else {
                return Err(self.wrong_from(open, "the quote that opens here is never closed".to_string()));
            };
            match c {
                '"' => break,
                '\\' if escapes == Escapes::Go => self.escape(&mut bytes)?,
                '\\' => self.classic_escape(&mut bytes),
                _ => {
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    self.at += c.len_utf8();
                }
            }
        }
        self.at += 1;
        // `\xff` can write any byte.
        String::from_utf8(bytes)
            .map_err(|_| self.wrong_from(open, "the escapes in this text do not make UTF-8".to_string()))
    }

    fn classic_escape(&mut self, bytes: &mut Vec<u8>) {
        let next = self.rest()[1..].chars().next();
        match next {
            Some('"') => bytes.push(b'"'),
            Some('\\') => bytes.push(b'\\'),
            Some('n') => bytes.push(b'\n'),
            _ => {
                bytes.push(b'\\');
                self.at += 1;
                return;
            }
        }
        self.at += 2;
    }

    /// One escape of Go's `strconv.Unquote`, JSON's `\/` and surrogate pairs, and Rust's `\u{…}` (which is how this program prints).
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), MatcherError> {
        let rest = &self.rest()[1..];
        let simple = rest.chars().next().and_then(|c| {
            Some(match c {
                'a' => 7,
                'b' => 8,
                'f' => 12,
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                'v' => 11,
                '\\' | '"' | '/' => c as u8,
                _ => return None,
            })
        });
        if let Some(byte) = simple {
            bytes.push(byte);
            self.at += 2;
            return Ok(());
        }
        let hex = |from: usize, digits: usize| {
            rest.get(from..from + digits)
                .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|text| u32::from_str_radix(text, 16).ok())
        };
        let mut push = |code: u32, length: usize| {
            let c = char::from_u32(code)?;
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            Some(length)
        };
        let length = match rest.as_bytes().first() {
            Some(b'u') if rest[1..].starts_with('{') => {
                rest.find('}').filter(|end| (3..=8).contains(end)).and_then(|end| push(hex(2, end - 2)?, end + 1))
            }
            Some(b'u') => hex(1, 4).and_then(|high| match rest.get(5..7) {
                Some("\\u") if (0xd800..0xdc00).contains(&high) => {
                    let low = hex(7, 4).filter(|low| (0xdc00..0xe000).contains(low))?;
                    push(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00), 11)
                }
                _ => push(high, 5),
            }),
            Some(b'U') => hex(1, 8).and_then(|code| push(code, 9)),
            Some(b'x') => hex(1, 2).map(|byte| {
                bytes.push(byte as u8);
                3
            }),
            Some(b'0') if !rest[1..].starts_with(|c: char| c.is_digit(8)) => push(0, 1),
            Some(b'0'..=b'3') => rest.get(..3).and_then(|text| u8::from_str_radix(text, 8).ok()).map(|byte| {
                bytes.push(byte);
                3
            }),
            _ => None,
        };
        let Some(length) = length else {
            let shown: String = self.rest().chars().take(2).collect();
            return Err(self.wrong_over(2, format!("{shown} is no escape; write \\\\ for a backslash itself")));
        };
        self.at += 1 + length;
        Ok(())
    }

    /// What stands here, for a message.
    fn found(&self) -> String {
        match self.rest().chars().next() {
            None => "the end".to_string(),
            Some('\'' | '`') => "a quote that is not \"".to_string(),
            Some(c) => format!("{:?}", c.to_string()),
        }
    }

    fn wrong(&self, message: impl Into<String>) -> MatcherError {
        self.wrong_over(1, message)
    }

    fn wrong_over(&self, length: usize, message: impl Into<String>) -> MatcherError {
        MatcherError { at: self.text[..self.at].chars().count(), length, message: message.into() }
    }

    /// From the byte `from` to here.
    fn wrong_from(&self, from: usize, message: String) -> MatcherError {
        let length = self.text[from..self.at].chars().count().max(1);
        MatcherError { at: self.text[..from].chars().count(), length, message }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn good(text: &str, name: &str, op: Op, value: &str) {
        let matcher = Matcher::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((matcher.name.as_str(), matcher.op, matcher.value.as_str()), (name, op, value), "{text}");
    }

    #[test]
    fn alertmanagers_notation_is_read() {
        good(r#"alertname = "HighLatency""#, "alertname", Op::Equal, "HighLatency");
        good(r#"alertname="HighLatency""#, "alertname", Op::Equal, "HighLatency");
        good("  severity  !=  info  ", "severity", Op::NotEqual, "info");
        good("service=~.+", "service", Op::Matches, ".+");
        good(r#"severity !~ "info|none""#, "severity", Op::NotMatches, "info|none");
        good(r#""a.b" = "x""#, "a.b", Op::Equal, "x");
        good("a.b=x", "a.b", Op::Equal, "x");
        good(r#""with \"quotes\"" = """#, "with \"quotes\"", Op::Equal, "");
        good(r#"a = "tab\there \\ \u00e9 \U0001F600 \xc3\xa9 \101""#, "a", Op::Equal, "tab\there \\ é 😀 é A");
        good(r#"a = "\ud83d\ude00 \u{1f600} \0""#, "a", Op::Equal, "😀 😀 \0");
        good(r#"a =~ "10\.0\.\d+""#, "a", Op::Matches, r"10\.0\.\d+");
        good(r#"a =~ "10\\.0""#, "a", Op::Matches, r"10\.0");
        good("größe=\"ä\"", "größe", Op::Equal, "ä");
    }

    fn bad(text: &str, at: usize, length: usize, message: &str) {
        let error = Matcher::parse(text).expect_err(text);
        assert_eq!((error.at, error.length), (at, length), "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        bad("", 0, 1, "expected a label name, as in severity = \"critical\", found the end");
        bad("= \"x\"", 0, 1, "expected a label name");
        bad("{a=\"b\"}", 0, 1, "without braces");
        bad("alertname", 9, 1, "expected =, !=, =~ or !~ after \"alertname\", found the end");
        bad("alertname is \"x\"", 10, 1, "expected =, !=, =~ or !~ after \"alertname\", found \"i\"");
        bad("a == \"x\"", 2, 2, "equality is a single =");
        bad("a ~ \"x\"", 2, 1, "found \"~\"");
        bad("a = ", 4, 1, "expected a value in double quotes, found the end");
        bad("a = 'x'", 4, 1, "found a quote that is not \"");
        bad("a = \"x", 4, 2, "never closed");
        bad("ä = \"\\q\"", 5, 2, "\\q is no escape");
        bad("a = \"\\xff\"", 4, 6, "do not make UTF-8");
        bad("a = \"x\" b", 8, 1, "expected the end of the matcher, found \"b\"");
        bad("a = \"x\", b = \"y\"", 7, 1, "one matcher to an entry");
        bad("a = two words", 8, 1, "needs double quotes");
        bad("a =~ \"(\"", 5, 3, "is no regular expression: unclosed group");
        bad("a =~ \"x)|(y\"", 5, 7, "unopened group");
        bad("a =~ \"(?:x{1000}){1000}\"", 5, 19, "size limit");
    }

    fn check(matcher: &str, value: Option<&str>, expect: bool) {
        let labels: Labels = value.iter().map(|value| ("a", *value)).collect();
        assert_eq!(Matcher::parse(matcher).expect(matcher).matches(&labels), expect, "{matcher} on {value:?}");
    }

    #[test]
    fn a_missing_label_is_empty_and_expressions_are_anchored() {
        check("a=\"\"", None, true);
        check("a!=\"x\"", None, true);
        check("a=~\".+\"", None, false);
        check("a=~\".*\"", None, true);
        check("a!~\".+\"", None, true);
        check("a!~\"info|none\"", None, true);
        check("a=~\"x\"", Some("xx"), false);
        check("a=~\"x|y\"", Some("y"), true);
        check("a=~\"x|y\"", Some("xy"), false);
        // Alertmanager has no `s` flag: "." is not a line's end, and "$" is the end of the text, not of a line.
        check("a=~\".*\"", Some("two\nlines"), false);
        check("a=~\"x\"", Some("x\n"), false);
        check("a=~\"(?i)WEB\"", Some("web"), true);
    }

    #[test]
    fn few_possible_values_are_known() {
        let check = |text: &str, expect: Option<&[&str]>| {
            assert_eq!(Matcher::parse(text).expect(text).literals().as_deref(), expect, "{text}");
        };
        check("a=x", Some(&["x"]));
        check("a=\"\"", None);
        check("a!=x", None);
        check("a=~\"y|x|y\"", Some(&["x", "y"]));
        check("a=~\"web-1|web-2\"", Some(&["web-1", "web-2"]));
        check("a=~\"x|\"", None);
        check("a=~\"x.\"", None);
        check("a!~\"x|y\"", None);
    }

    pub(crate) const OPS: [Op; 4] = [Op::Equal, Op::NotEqual, Op::Matches, Op::NotMatches];

    /// Patterns that a naive reading understands too: words of `a`, `b`, `.`, `.*`, between bars.
    pub(crate) fn naive(op: Op, pattern: &str, value: &str) -> bool {
        fn word(pattern: &[u8], text: &[u8]) -> bool {
            match pattern {
                [] => text.is_empty(),
                [b'.', b'*', rest @ ..] => (0..=text.len()).any(|skip| word(rest, &text[skip..])),
                [b'.', rest @ ..] => !text.is_empty() && word(rest, &text[1..]),
                [c, rest @ ..] => text.first() == Some(c) && word(rest, &text[1..]),
            }
        }
        let matched = || pattern.split('|').any(|one| word(one.as_bytes(), value.as_bytes()));
        match op {
            Op::Equal => pattern == value,
            Op::NotEqual => pattern != value,
            Op::Matches => matched(),
            Op::NotMatches => !matched(),
        }
    }

    proptest! {
        #[test]
        fn a_matcher_is_what_a_naive_reading_says(
            op in prop::sample::select(&OPS[..]),
            pattern in "(a|b|\\.|\\.\\*|\\|){0,6}",
            value in prop::option::of("[ab]{0,4}"),
        ) {
            let labels: Labels = value.iter().map(|value| ("x", value.as_str())).collect();
            let matcher = Matcher::new("x", op, &pattern).expect("a valid expression");
            let seen = value.as_deref().unwrap_or("");
            prop_assert_eq!(matcher.matches(&labels), naive(op, &pattern, seen));
            if let Some(literals) = matcher.literals() {
                prop_assert_eq!(literals.contains(&seen), matcher.matches(&labels));
            }
        }

        #[test]
        fn a_shortcut_is_what_the_expression_says(pattern in "[ab|.+*&#~ -]{0,4}", value in "[ab&#~ \n-]{0,3}") {
            if let Ok(regex) = anchored(&pattern) {
                let matcher = Matcher::new("x", Op::Matches, &pattern).expect("the same expression");
                prop_assert_eq!(matcher.matches_value(&value), regex.is_match(&value));
            }
        }

        #[test]
        fn what_is_printed_reads_back(
            name in "(\\PC|[\\x00 ]){1,8}",
            op in prop::sample::select(&OPS[..]),
            value in "(\\PC|[\t\n\r\\x00\"\\\\]){0,12}",
        ) {
            let Ok(matcher) = Matcher::new(&name, op, &value) else { return Ok(()) };
            let read = Matcher::parse(&matcher.to_string()).expect("what was printed");
            prop_assert_eq!((read.name, read.op, read.value), (name, op, value));
        }

        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,30}|[a =!~\"\\\\u{}x0-9]{0,20}") {
            if let Err(error) = Matcher::parse(&text) {
                prop_assert!(error.at <= text.chars().count() && error.length >= 1);
            }
        }
    }
}
