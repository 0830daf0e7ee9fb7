//! A PromQL expression in which labels may stand: `p99:latency{service="{{ service }}"} < 0.5`. A template is the whole quoted value of a `=` or `!=`
//! matcher and nothing else, so that what a label says can only ever be compared.

use super::label::Labels;
use super::template::label_name;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Between quotes, which stand in the text around it.
    Label {
        name: String,
        quote: char,
    },
}

/// What is wrong with an expression, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub message: String,
    /// In characters, from 0.
    pub at: usize,
    pub length: usize,
}

impl Query {
    /// Reads an expression as far as templates can do harm: quotes, brackets and matchers. The rest is for Prometheus to judge.
    pub fn parse(source: &str) -> Result<Self, Malformed> {
        if source.trim().is_empty() {
            return Err(Malformed { message: "an empty expression asks nothing".into(), at: 0, length: 1 });
        }
        Scan { source, parts: Vec::new(), text: String::new(), open: Vec::new() }.run()
    }

    /// The labels it needs.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Label { name, .. } => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The expression with the labels put in, escaped. `Err` names a missing label: it is never "".
    pub fn render(&self, labels: &Labels) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Label { name, quote } => match labels.value(name) {
                    "" => return Err(name.clone()),
                    value => text.push_str(&escaped(value, *quote)),
                },
            }
        }
        Ok(text)
    }
}

/// A value as it stands between these quotes, single or double, of an expression. Prometheus refuses an escaped quote of the other kind.
pub fn escaped(value: &str, quote: char) -> String {
    value.chars().fold(String::with_capacity(value.len()), |mut out, c| {
        match c {
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
        out
    })
}

/// One reading of an expression.
struct Scan<'a> {
    source: &'a str,
    parts: Vec<Part>,
    /// What was read since the last label.
    text: String,
    /// The brackets that are open, with their places in bytes.
    open: Vec<(char, usize)>,
}

impl Scan<'_> {
    fn run(mut self) -> Result<Query, Malformed> {
        let mut at = 0;
        while let Some(c) = self.source[at..].chars().next() {
            at = match c {
                '"' | '\'' | '`' => self.quoted(at, c)?,
                '#' => self.comment(at)?,
                '{' if self.source[at..].starts_with("{{") => return Err(self.outside(at)),
                _ => {
                    self.bracket(c, at)?;
                    self.text.push(c);
                    at + c.len_utf8()
                }
            };
        }
        if let Some((bracket, at)) = self.open.last() {
            return Err(self.malformed(format!("the {bracket} is never closed"), *at, 1));
        }
        if !self.text.is_empty() {
            self.parts.push(Part::Text(std::mem::take(&mut self.text)));
        }
        Ok(Query { source: self.source.to_string(), parts: self.parts })
    }

    fn bracket(&mut self, c: char, at: usize) -> Result<(), Malformed> {
        let opens = match c {
            '(' | '[' | '{' => {
                self.open.push((c, at));
                return Ok(());
            }
            ')' => '(',
            ']' => '[',
            '}' => '{',
            _ => return Ok(()),
        };
        match self.open.pop() {
            Some((open, _)) if open == opens => Ok(()),
            _ => Err(self.malformed(format!("the {c} closes nothing"), at, 1)),
        }
    }

    /// To the end of the line; nothing in it counts.
    fn comment(&mut self, at: usize) -> Result<usize, Malformed> {
        let end = self.source[at..].find('\n').map_or(self.source.len(), |length| at + length);
        if let Some(found) = self.source[at..end].find("{{") {
            return Err(self.outside(at + found));
        }
        self.text.push_str(&self.source[at..end]);
        Ok(end)
    }

    /// A string, whose opening quote stands at `at`. Returns where it is over.
    fn quoted(&mut self, at: usize, quote: char) -> Result<usize, Malformed> {
        let start = at + 1;
        // A template may have quotes of its own: {{ labels["a.b"] }}.
        let whole =
            self.source[start..].strip_prefix("{{").and_then(|rest| rest.find("}}")).map(|length| start + length + 4);
        let end = match whole.filter(|end| self.source[*end..].starts_with(quote)) {
            Some(end) => end,
            None => self.end_of_string(at, quote)?,
        };
        let value = &self.source[start..end];
        if !value.contains("{{") {
            self.text.push_str(&self.source[at..=end]);
            return Ok(end + 1);
        }
        let name = self.template(at, quote, value)?;
        self.text.push(quote);
        self.parts.push(Part::Text(std::mem::take(&mut self.text)));
        self.parts.push(Part::Label { name, quote });
        self.text.push(quote);
        Ok(end + 1)
    }

    fn end_of_string(&self, at: usize, quote: char) -> Result<usize, Malformed> {
        let mut inside = self.source[at + 1..].char_indices();
        loop {
            match inside.next() {
                None => return Err(self.malformed(format!("the {quote} is never closed"), at, 1)),
                Some((length, c)) if c == quote => return Ok(at + 1 + length),
                Some((_, '\\')) if quote != '`' => drop(inside.next()),
                Some(_) => {}
            }
        }
    }

    /// The label of a value that is a template, if a template may stand there.
    fn template(&self, at: usize, quote: char, value: &str) -> Result<String, Malformed> {
        let length = value.chars().count() + 2;
        let wrong = |message: &str| self.malformed(message.to_string(), at, length);
        let inner = value.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).filter(|it| !it.contains("{{"));
        let Some(inner) = inner else {
            return Err(wrong(
                "a template must be the whole quoted value of a matcher, as in {service=\"{{ service }}\"}",
            ));
        };
        if quote == '`' {
            return Err(wrong("nothing is escaped between backticks: put the template between double quotes"));
        }
        let before = self.text.trim_end();
        if before.ends_with('~') {
            return Err(wrong(
                "a label's value would be read as a regular expression here: a template needs `=` or `!=`",
            ));
        }
        let compares = before.ends_with('=') && !["==", ">=", "<="].iter().any(|other| before.ends_with(other));
        if !compares || self.open.last().is_none_or(|(bracket, _)| *bracket != '{') {
            return Err(wrong("a template is the value of a matcher, as in {service=\"{{ service }}\"}"));
        }
        label_name(inner.trim()).map_err(|message| self.malformed(message, at, length))
    }

    fn outside(&self, at: usize) -> Malformed {
        let rest = &self.source[at..];
        let length = rest.find("}}").map_or(2, |end| rest[..end + 2].chars().count());
        let message = "a template must stand between quotes, as the value of a matcher: {service=\"{{ service }}\"}";
        self.malformed(message.to_string(), at, length)
    }

    fn malformed(&self, message: String, byte: usize, length: usize) -> Malformed {
        Malformed { message, at: self.source[..byte].chars().count(), length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, labels: &[(&str, &str)], expect: &str) {
        let query = Query::parse(source).unwrap_or_else(|wrong| panic!("{source}: {wrong:?}"));
        let labels: Labels = labels.iter().copied().collect();
        let found = match query.render(&labels) {
            Ok(text) => text,
            Err(missing) => format!("missing {missing}"),
        };
        assert_eq!(found, expect, "{source}");
    }

    #[test]
    fn a_label_is_compared_and_nothing_else() {
        let web = [("service", "web")];
        check(r#"up{service="{{ service }}"} > 0"#, &web, r#"up{service="web"} > 0"#);
        check(r#"up{a="b",service != '{{service}}'}"#, &web, "up{a=\"b\",service != 'web'}");
        check(r#"up{s="{{ labels["a.b"] }}"}"#, &[("a.b", "x")], r#"up{s="x"}"#);
        check(r#"up{s="{{ a }}"} / on() up{s="{{ b }}"}"#, &[("a", "1"), ("b", "2")], r#"up{s="1"} / on() up{s="2"}"#);
        check(r#"up{s="{{ a }}"}"#, &[("a", r#"x"} or vector(1) #"#)], r#"up{s="x\"} or vector(1) #"}"#);
        check(r#"up{s="{{ a }}"}"#, &[("a", "x\\")], r#"up{s="x\\"}"#);
        check(r#"up{s="{{ a }}"}"#, &[("a", "it's")], r#"up{s="it's"}"#);
        check("up{s='{{ a }}'}", &[("a", "it's \"x\"")], r#"up{s='it\'s "x"'}"#);
        check(r#"up{s="{{ a }}"}"#, &[("a", "{{ b }}")], r#"up{s="{{ b }}"}"#);
        check("up{s=\"{{ a }}\"}", &[], "missing a");
        check("up{s=\"{{ a }}\"}", &[("a", "")], "missing a");
        // What is no template stays as it is.
        check("sum(rate(x{a=~\"b|c\"}[5m])) # it's \"half", &[], "sum(rate(x{a=~\"b|c\"}[5m])) # it's \"half");
        check("x{a=\"\\\"}\"} == bool 1", &[], "x{a=\"\\\"}\"} == bool 1");
    }

    #[test]
    fn a_template_anywhere_else_is_refused() {
        for (source, at, expect) in [
            (" ", 0, "asks nothing"),
            ("{{ metric }} > 1", 0, "between quotes"),
            ("up{service={{ service }}}", 11, "between quotes"),
            ("up > 1 # {{ service }}", 9, "between quotes"),
            ("up{service=~\"{{ service }}\"}", 12, "regular expression"),
            ("up{service!~\"{{ service }}\"}", 12, "regular expression"),
            ("up{service=\"x{{ service }}\"}", 11, "whole quoted value"),
            ("up{service=\"{{ a }}{{ b }}\"}", 11, "whole quoted value"),
            ("up{service=`{{ service }}`}", 11, "backticks"),
            ("label_replace(up, \"a\", \"{{ a }}\", \"b\", \"\")", 23, "value of a matcher"),
            ("count_values(\"{{ a }}\", up)", 13, "value of a matcher"),
            ("up == \"{{ a }}\"", 6, "value of a matcher"),
            ("up{service=\"{{ a + b }}\"}", 11, "no label name"),
            ("up{service=\"web}", 11, "never closed"),
            ("sum(up", 3, "never closed"),
            ("sum(up]", 6, "closes nothing"),
            ("ü{é=\"{{ a }} \"}", 4, "whole quoted value"),
        ] {
            let wrong = Query::parse(source).expect_err(source);
            assert_eq!(wrong.at, at, "{source}: {wrong:?}");
            assert!(wrong.message.contains(expect), "{source}: {wrong:?}");
        }
    }
}
