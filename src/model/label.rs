//! Label sets, as in Prometheus: names to values, sorted by name, a missing label reads as "".

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// An immutable set of labels, sorted by name; a copy shares it. Small on purpose: a hundred thousand of them are held at once.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Option<Arc<Packed>>);

/// All names and values in one text. An empty set has none.
#[derive(PartialEq, Eq, Hash)]
struct Packed {
    /// Where each name and each value ends in `text`: name, value, name, value …
    ends: Box<[u32]>,
    text: Box<str>,
}

impl Packed {
    fn part(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start as usize..self.ends[at] as usize]
    }
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
            match packed.part(2 * middle).cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some(packed.part(2 * middle + 1)),
            }
        }
        None
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let packed = self.0.as_deref().into_iter();
        packed.flat_map(|all| (0..all.ends.len() / 2).map(|at| (all.part(2 * at), all.part(2 * at + 1))))
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |packed| packed.ends.len() / 2)
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
    /// When all of it together is longer than 4 GiB: what enters is bounded far below.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut all: Vec<(N, V)> = pairs.into_iter().collect();
        // Stable: of equal names the last stays the last.
        all.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        let mut ends = Vec::with_capacity(2 * all.len());
        let mut text =
            String::with_capacity(all.iter().map(|(name, value)| name.as_ref().len() + value.as_ref().len()).sum());
        for (at, (name, value)) in all.iter().enumerate() {
            if all.get(at + 1).is_some_and(|next| next.0.as_ref() == name.as_ref()) {
                continue;
            }
            for part in [name.as_ref(), value.as_ref()] {
                text.push_str(part);
                ends.push(u32::try_from(text.len()).expect("labels are bounded where they enter"));
            }
        }
        let packed = || Arc::new(Packed { ends: ends.into_boxed_slice(), text: text.into_boxed_str() });
        Labels((!all.is_empty()).then(packed))
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
