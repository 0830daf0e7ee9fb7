//! Label sets, as in Prometheus: names to values, sorted by name, a missing label reads as "".

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// An immutable set of labels, sorted by name; a copy shares it. Small on purpose: a hundred thousand of them are held at once.
///
/// One text holds all of it: how many numbers follow, where each name and each value ends (name, value, name, value …), then the names and
/// values themselves. Numbers are four characters of seven bits. An empty set has no text.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Option<Arc<str>>);

/// Characters of a number.
const NUMBER: usize = 4;
/// The largest number, and so the most bytes that a set may have: what enters is bounded far below.
const NUMBER_MAX: usize = (1 << (7 * NUMBER)) - 1;

fn number(packed: &str, at: usize) -> usize {
    let digits = packed.as_bytes()[NUMBER * at..NUMBER * (at + 1)].iter();
    digits.fold(0, |number, digit| number << 7 | usize::from(*digit))
}

fn push_number(packed: &mut String, number: usize) {
    assert!(number <= NUMBER_MAX, "a set of labels is longer than {NUMBER_MAX} bytes");
    for digit in (0..NUMBER).rev() {
        packed.push(char::from((number >> (7 * digit) & 0x7f) as u8));
    }
}

/// The name or value at a place: twice that of its label, or one more.
fn part(packed: &str, at: usize) -> &str {
    let start = if at == 0 { NUMBER * (number(packed, 0) + 1) } else { number(packed, at) };
    &packed[start..number(packed, at + 1)]
}

impl Labels {
    /// The value of `name`, or "" when the label is missing (Prometheus' semantics).
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The value of `name`, or `None` when the label is missing.
    pub fn get(&self, name: &str) -> Option<&str> {
        let packed = self.0.as_deref()?;
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match part(packed, 2 * middle).cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some(part(packed, 2 * middle + 1)),
            }
        }
        None
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let packed = self.0.as_deref().unwrap_or_default();
        (0..self.len()).map(move |at| (part(packed, 2 * at), part(packed, 2 * at + 1)))
    }

    pub fn len(&self) -> usize {
        self.0.as_deref().map_or(0, |packed| number(packed, 0) / 2)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The labels that both sets have with the same value.
    pub fn common(&self, other: &Labels) -> Labels {
        if self == other {
            return self.clone();
        }
        self.iter().filter(|(name, value)| other.get(name) == Some(value)).collect()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    /// Of two values for one name the later wins.
    ///
    /// # Panics
    /// When all of it together is longer than 256 MiB: what enters is bounded far below.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut all: Vec<(N, V)> = pairs.into_iter().collect();
        if all.is_empty() {
            return Labels(None);
        }
        // Stable: of equal names the last stays the last.
        all.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        let shadowed = |at: usize| all.get(at + 1).is_some_and(|next| next.0.as_ref() == all[at].0.as_ref());
        let unique = || (0..all.len()).filter(|at| !shadowed(*at)).map(|at| &all[at]);
        let parts = || unique().flat_map(|(name, value)| [name.as_ref(), value.as_ref()]);
        let count = 2 * unique().count();
        let mut end = NUMBER * (count + 1);
        let mut packed = String::with_capacity(end + parts().map(str::len).sum::<usize>());
        push_number(&mut packed, count);
        for part in parts() {
            end += part.len();
            push_number(&mut packed, end);
        }
        packed.extend(parts());
        Labels(Some(packed.into()))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Labels {
    /// `{a="1", b="2"}`, values escaped as Prometheus prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of label names and string values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs.into_iter().collect())
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_label_reads_as_empty_and_the_later_of_two_wins() {
        let labels: Labels = [("b", "2"), ("a", "1"), ("b", "3")].into_iter().collect();
        assert_eq!(labels.value("a"), "1");
        assert_eq!(labels.value("b"), "3");
        assert_eq!(labels.value("c"), "");
        assert_eq!(labels.get("c"), None);
        assert_eq!(labels.to_string(), r#"{a="1", b="3"}"#);
        let read: Labels = serde_json::from_str(r#"{"b":"3","a":"1"}"#).expect("valid labels");
        assert_eq!(read, labels);
    }

    #[test]
    fn common_labels_are_those_with_the_same_value() {
        let one: Labels = [("a", "1"), ("b", "2")].into_iter().collect();
        let two: Labels = [("a", "1"), ("b", "3"), ("c", "4")].into_iter().collect();
        assert_eq!(one.common(&two), [("a", "1")].into_iter().collect());
    }
}
