//! A YAML document with the place of every key and value, so that each finding about it can point at what it means.

use crate::model::diagnostic::Diagnostic;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use std::fmt;

/// Lines and columns from 1, columns and length in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
    pub length: usize,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order written; keys are unique.
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub struct Key {
    pub place: Place,
    pub name: String,
}

impl Node {
    /// Reads one document. Booleans are `true` and `false` alone: `no`, `off` and the like are text.
    pub fn parse(file: &str, text: &str) -> Result<Node, Box<Diagnostic>> {
        if let Some(found) = lone_return(file, text) {
            return Err(found);
        }
        let options = serde_saphyr::options! { strict_booleans: true };
        match serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options) {
            Ok(root) => Ok(node(root)),
            Err(error) => Err(Box::new(finding(file, text, error.without_snippet()))),
        }
    }

    /// The entry of a map, with the place of its key.
    pub fn entry(&self, name: &str) -> Option<(Place, &Node)> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(key, _)| key.name == name).map(|(key, value)| (key.place, value))
    }

    pub fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(all) => Some(all),
            _ => None,
        }
    }

    /// What stands here, for a message.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number with a fraction",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    pub fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(value) => value.as_str().into(),
            Value::List(all) => all.iter().map(Node::json).collect(),
            Value::Map(all) => {
                serde_json::Value::Object(all.iter().map(|(key, value)| (key.name.clone(), value.json())).collect())
            }
        }
    }
}

impl Place {
    /// A part of the one-line text that is written here, from the character `at` on. The whole text where escapes or folding hide the part.
    pub fn within(self, text: &str, value: &str, at: usize, length: usize) -> Place {
        let line = text.lines().nth(self.line.saturating_sub(1)).unwrap_or("");
        let here = line.char_indices().nth(self.column.saturating_sub(1)).map_or("", |(byte, _)| &line[byte..]);
        let quote = usize::from(here.starts_with(['"', '\'']));
        match here.get(quote..).is_some_and(|written| written.starts_with(value)) {
            true => Place { line: self.line, column: self.column + quote + at, length },
            false => self,
        }
    }
}

fn place(at: Location) -> Place {
    let number = |value: u64| usize::try_from(value).unwrap_or(0);
    Place { line: number(at.line()), column: number(at.column()), length: at.span().len().try_into().unwrap_or(1) }
}

fn node(spanned: Spanned<Value>) -> Node {
    Node { place: place(spanned.referenced), value: spanned.value }
}

/// YAML ends a line at a carriage return alone, editors and everything else that counts lines here do not: places would be wrong.
fn lone_return(file: &str, text: &str) -> Option<Box<Diagnostic>> {
    let alone = |(at, _): &(usize, &str)| !text[at + 1..].starts_with('\n');
    let (at, _) = text.match_indices('\r').find(alone)?;
    let (line, start) = (text[..at].matches('\n').count() + 1, text[..at].rfind('\n').map_or(0, |end| end + 1));
    let message = "this is no valid YAML: a carriage return without a line feed, which would end the line";
    let found = Diagnostic::error("rule_yaml", file, message).at(text, line, text[start..at].chars().count() + 1, 1);
    Some(found.help("end lines with a line feed, or with both").into())
}

/// The parser's message without its own place and without advice for programmers.
fn finding(file: &str, text: &str, error: &serde_saphyr::Error) -> Diagnostic {
    let message = error.to_string();
    let end = [" at line ", ", set DuplicateKeyPolicy", "; use from_str_multiple"];
    let message = end.iter().fold(message.as_str(), |text, end| text.split(end).next().unwrap_or(text));
    let at = error.location().map(place).unwrap_or_default();
    let diagnostic = Diagnostic::error("rule_yaml", file, format!("this is no valid YAML: {message}"));
    let diagnostic = diagnostic.at(text, at.line, at.column, at.length);
    if diagnostic.source.contains(": {{") {
        return diagnostic.help("text that begins with {{ needs quotes: \"{{ service }}\"");
    }
    diagnostic
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Int(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::Text(value.to_string()))
            }
            fn visit_string<E>(self, value: String) -> Result<Value, E> {
                Ok(Value::Text(value))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(one) = all.next_element()? {
                    list.push(node(one));
                }
                Ok(Value::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
                let mut map = Vec::new();
                while let Some((key, value)) = all.next_entry::<Spanned<String>, _>()? {
                    map.push((Key { place: place(key.referenced), name: key.value }, node(value)));
                }
                Ok(Value::Map(map))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carriage_return_alone_is_refused_where_it_stands() {
        assert!(Node::parse("web.yaml", "rules:\r\n  []\r\n").is_ok());
        let found = Node::parse("web.yaml", "rules:\n  - name:\rweb\n").expect_err("it is refused");
        assert_eq!((found.line, found.column), (2, 10));
        assert!(found.message.contains("carriage return"), "{}", found.message);
    }
}
