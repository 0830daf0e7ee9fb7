//! Alertmanager's webhook payload, version 4, decoded. Hostile until it has passed here.

use super::alert::{Alert, Fingerprint, Status};
use super::label::Labels;
use super::text;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// Labels (or annotations) that one alert may have.
pub const MAX_LABELS: usize = 256;
/// Bytes that a name or value may have.
pub const MAX_TEXT_BYTES: usize = 64 << 10;
/// Unreadable alerts of one post that are told one by one; the rest are counted.
pub const MAX_MALFORMED: usize = 100;
/// Characters of an unreadable alert that are shown.
const EXCERPT_CHARS: usize = 200;
/// Characters of a decoder's message that are shown: it can quote what was sent.
const WHY_CHARS: usize = 300;

/// One post: a group of alerts, and those of it that could not be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub key: String,
    /// As Alertmanager sends it: regex-escaped text.
    pub receiver: String,
    pub external_url: String,
    /// How many alerts Alertmanager cut off (`max_alerts`).
    pub truncated: u64,
    pub group_labels: Labels,
    pub common_labels: Labels,
    pub common_annotations: Labels,
    pub alerts: Vec<Alert>,
    pub malformed: Vec<Malformed>,
}

/// An alert in a readable envelope that could not be read itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Malformed {
    /// Its index in `alerts`, from 0.
    pub index: usize,
    pub why: String,
    /// The beginning of what was sent.
    pub excerpt: String,
}

/// Why a post can never be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message} at line {line}, column {column}")]
pub struct DecodeError {
    pub message: String,
    /// From 1.
    pub line: usize,
    /// In bytes, from 1; 0 when the line ended too early.
    pub column: usize,
}

impl From<&serde_json::Error> for DecodeError {
    fn from(error: &serde_json::Error) -> Self {
        DecodeError { message: without_place(error), line: error.line(), column: error.column() }
    }
}

/// Decodes one post.
///
/// The envelope must be a JSON object with an array `alerts`; unknown fields are accepted, missing ones tolerated, and of two values for one key the
/// later wins. An alert that cannot be read costs no other: it is told in `malformed`.
pub fn decode(body: &[u8]) -> Result<Group, DecodeError> {
    let body = std::str::from_utf8(body).map_err(|error| not_utf8(body, error.valid_up_to()))?;
    // Nearly every post is whole: only one that is not pays for being read alert by alert.
    if let Ok(envelope) = serde_json::from_str::<Envelope<Whole>>(body) {
        return Ok(group(envelope.0, envelope.1.0, Vec::new()));
    }
    match serde_json::from_str::<Envelope<Tolerant>>(body) {
        Ok(Envelope(head, alerts)) => Ok(group(head, alerts.good, alerts.bad)),
        Err(error) => Err(DecodeError::from(&error)),
    }
}

fn not_utf8(body: &[u8], at: usize) -> DecodeError {
    let before = &body[..at];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    DecodeError {
        message: format!("the body is not UTF-8: unexpected byte 0x{:02x}", body[at]),
        line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        column: 1 + at - line_start,
    }
}

/// The decoder's words without its " at line 1 column 2", bounded and visible.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let whole = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text::visible(whole.strip_suffix(&place).unwrap_or(&whole), WHY_CHARS)
}

fn group(head: Head, alerts: Vec<Alert>, malformed: Vec<Malformed>) -> Group {
    let common_labels = head.common_labels.unwrap_or_else(|| {
        let mut all = alerts.iter().map(|alert| &alert.labels);
        let first = all.next().cloned().unwrap_or_default();
        all.fold(first, |common, labels| common.common(labels))
    });
    let key = match head.group_key {
        Some(key) if !key.is_empty() => key,
        // Must stay the same from post to post while the alerts in the group come and go: of the common labels only the name does.
        _ => {
            let stable = head.group_labels.clone().unwrap_or_else(|| {
                common_labels.get("alertname").map(|name| ("alertname", name)).into_iter().collect()
            });
            format!("{}:{stable}", head.receiver)
        }
    };
    Group {
        key,
        receiver: head.receiver,
        external_url: head.external_url,
        truncated: head.truncated,
        group_labels: head.group_labels.unwrap_or_default(),
        common_labels,
        common_annotations: head.common_annotations,
        alerts,
        malformed,
    }
}

/// The envelope without its alerts.
#[derive(Default)]
struct Head {
    group_key: Option<String>,
    receiver: String,
    external_url: String,
    truncated: u64,
    group_labels: Option<Labels>,
    common_labels: Option<Labels>,
    common_annotations: Labels,
}

/// The whole post; `A` says how its alerts are read.
struct Envelope<A>(Head, A);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum EnvelopeKey {
    GroupKey,
    Receiver,
    #[serde(rename = "externalURL")]
    ExternalUrl,
    TruncatedAlerts,
    GroupLabels,
    CommonLabels,
    CommonAnnotations,
    Alerts,
    #[serde(other)]
    Other,
}

impl<'de, A: Deserialize<'de>> Deserialize<'de> for Envelope<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<A>(PhantomData<A>);
        impl<'de, A: Deserialize<'de>> Visitor<'de> for Fields<A> {
            type Value = Envelope<A>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object with an array \"alerts\", as Alertmanager's webhook sends")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Envelope<A>, M::Error> {
                let mut head = Head::default();
                let mut alerts = None;
                while let Some(key) = map.next_key()? {
                    match key {
                        EnvelopeKey::GroupKey => head.group_key = Some(map.next_value_seed(Text("groupKey"))?.into()),
                        EnvelopeKey::Receiver => head.receiver = map.next_value_seed(Text("receiver"))?.into(),
                        EnvelopeKey::ExternalUrl => {
                            head.external_url = map.next_value_seed(Text("externalURL"))?.into()
                        }
                        EnvelopeKey::TruncatedAlerts => {
                            head.truncated = map
                                .next_value::<Option<u64>>()
                                .map_err(|error| within("truncatedAlerts", error))?
                                .unwrap_or(0);
                        }
                        EnvelopeKey::GroupLabels => head.group_labels = map.next_value_seed(Pairs("groupLabels"))?,
                        EnvelopeKey::CommonLabels => head.common_labels = map.next_value_seed(Pairs("commonLabels"))?,
                        EnvelopeKey::CommonAnnotations => {
                            head.common_annotations =
                                map.next_value_seed(Pairs("commonAnnotations"))?.unwrap_or_default();
                        }
                        EnvelopeKey::Alerts => alerts = Some(map.next_value()?),
                        EnvelopeKey::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let alerts = alerts.ok_or_else(|| M::Error::missing_field("alerts"))?;
                Ok(Envelope(head, alerts))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Reads every alert, or fails at the first that is bad.
struct Whole(Vec<Alert>);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<One>::deserialize(deserializer)?;
        Ok(Whole(all.into_iter().map(|one| one.0).collect()))
    }
}

/// Reads each alert by itself: a bad one costs no other. What it keeps of bad ones is bounded.
struct Tolerant {
    good: Vec<Alert>,
    bad: Vec<Malformed>,
}

impl<'de> Deserialize<'de> for Tolerant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = Tolerant;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an array of alerts in \"alerts\"")
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Tolerant, S::Error> {
                let mut alerts = Tolerant { good: Vec::new(), bad: Vec::new() };
                let (mut index, mut untold) = (0, 0);
                while let Some(item) = items.next_element::<&RawValue>()? {
                    match serde_json::from_str::<One>(item.get()) {
                        Ok(one) => alerts.good.push(one.0),
                        Err(_) if alerts.bad.len() >= MAX_MALFORMED => untold += 1,
                        Err(error) => alerts.bad.push(Malformed {
                            index,
                            why: without_place(&error),
                            excerpt: text::visible(item.get(), EXCERPT_CHARS),
                        }),
                    }
                    index += 1;
                }
                if let Some(last) = alerts.bad.last_mut().filter(|_| untold > 0) {
                    last.why.push_str(&format!("; {untold} more alerts of this post could not be read either"));
                }
                Ok(alerts)
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

/// One alert as the webhook writes it.
struct One(Alert);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum AlertKey {
    Status,
    Labels,
    Annotations,
    StartsAt,
    EndsAt,
    #[serde(rename = "generatorURL")]
    GeneratorUrl,
    Fingerprint,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = One;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an alert (an object)")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<One, M::Error> {
                let (mut status, mut starts_at, mut ends_at) = (None, None, None);
                let (mut labels, mut annotations) = (Labels::default(), Labels::default());
                let mut generator_url = Box::default();
                let mut fingerprint = None;
                while let Some(key) = map.next_key()? {
                    match key {
                        AlertKey::Status => {
                            status = Some(map.next_value::<Status>().map_err(|error| within("status", error))?);
                        }
                        AlertKey::Labels => labels = map.next_value_seed(Pairs("label"))?.unwrap_or_default(),
                        AlertKey::Annotations => {
                            annotations = map.next_value_seed(Pairs("annotation"))?.unwrap_or_default();
                        }
                        AlertKey::StartsAt => starts_at = map.next_value_seed(Instant("startsAt"))?,
                        AlertKey::EndsAt => ends_at = map.next_value_seed(Instant("endsAt"))?,
                        AlertKey::GeneratorUrl => generator_url = map.next_value_seed(Text("generatorURL"))?,
                        AlertKey::Fingerprint => fingerprint = map.next_value::<Identity>()?.0,
                        AlertKey::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                if labels.is_empty() {
                    return Err(M::Error::custom("the alert has no labels"));
                }
                let status = status.ok_or_else(|| M::Error::missing_field("status"))?;
                let starts_at = starts_at.ok_or_else(|| M::Error::missing_field("startsAt"))?;
                Ok(One(Alert {
                    fingerprint: fingerprint.unwrap_or_else(|| Fingerprint::of(&labels)),
                    status,
                    labels,
                    annotations,
                    starts_at,
                    // Other senders write when a firing alert would end if nobody spoke of it again.
                    ends_at: ends_at.filter(|_| status == Status::Resolved),
                    generator_url,
                }))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

fn within<E: Error>(field: &str, error: E) -> E {
    E::custom(format_args!("{field}: {error}"))
}

/// A bounded string; `null` reads as "". Holds the name of its field, for errors.
struct Text(&'static str);

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Box<str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Box<str>, D::Error> {
        let text = Option::<String>::deserialize(deserializer).map_err(|error| within(self.0, error))?;
        let text = text.unwrap_or_default();
        if text.len() > MAX_TEXT_BYTES {
            return Err(D::Error::custom(format_args!("{} is longer than {MAX_TEXT_BYTES} bytes", self.0)));
        }
        Ok(text.into_boxed_str())
    }
}

/// An instant; `null` and Go's zero time (`0001-01-01T00:00:00Z`) read as none.
struct Instant(&'static str);

impl<'de> DeserializeSeed<'de> for Instant {
    type Value = Option<Timestamp>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        /// Seconds from 1970 back to the year 1.
        const GO_ZERO: i64 = -62_135_596_800;
        let at = Option::<Timestamp>::deserialize(deserializer).map_err(|error| within(self.0, error))?;
        Ok(at.filter(|at| at.as_second() != GO_ZERO))
    }
}

/// A bounded set of labels or annotations; `null` reads as none. Holds the word for one of them, for errors.
struct Pairs(&'static str);

impl<'de> DeserializeSeed<'de> for Pairs {
    type Value = Option<Labels>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Labels>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pairs {
    type Value = Option<Labels>;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "an object of names and strings for each {}", self.0)
    }
    fn visit_unit<E: Error>(self) -> Result<Option<Labels>, E> {
        Ok(None)
    }
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Option<Labels>, M::Error> {
        let what = self.0;
        let mut pairs: Vec<(Cow<'de, str>, Cow<'de, str>)> = Vec::with_capacity(16);
        while let Some(Lent(name)) = map.next_key()? {
            let Lent(value) = map.next_value().map_err(|error| {
                M::Error::custom(format_args!("{what} {:?} must be a string: {error}", text::cut(&name, 60)))
            })?;
            if name.len() > MAX_TEXT_BYTES || value.len() > MAX_TEXT_BYTES {
                let name = text::cut(&name, 60);
                return Err(M::Error::custom(format_args!("{what} {name:?} is longer than {MAX_TEXT_BYTES} bytes")));
            }
            if pairs.len() == MAX_LABELS {
                return Err(M::Error::custom(format_args!("more than {MAX_LABELS} of {what}")));
            }
            pairs.push((name, value));
        }
        Ok(Some(pairs.into_iter().collect()))
    }
}

/// A string, borrowed from the body where it holds no escapes.
struct Lent<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Lent<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Lent<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Lent<'de>, E> {
                Ok(Lent(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Lent<'de>, E> {
                Ok(Lent(Cow::Owned(text.to_string())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// A fingerprint, or whatever text stands in its place.
struct Identity(Option<Fingerprint>);

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;
        impl<'de> Visitor<'de> for Hex {
            type Value = Identity;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Identity, E> {
                Ok(Identity(Fingerprint::parse(text)))
            }
            fn visit_unit<E: Error>(self) -> Result<Identity, E> {
                Ok(Identity(None))
            }
        }
        deserializer.deserialize_any(Hex).map_err(|error| within("fingerprint", error))
    }
}
