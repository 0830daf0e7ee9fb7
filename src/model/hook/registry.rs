//! Notifications of a Docker registry (distribution), `application/vnd.docker.distribution.events.v1+json`.
//!
//! Distribution sends until it is answered with 2xx, and everything behind it waits: what is told of here without concern, or cannot be read in
//! itself, costs no other notification and no answer.

use super::{Decoded, MAX_EVENTS, annotations, labels, or_empty};
use crate::model::event::{Event, On};
use crate::model::image::Image;
use crate::model::payload::{self, DecodeError, Malformed};
use crate::model::text;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What distribution sends its notifications as.
pub const MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v1+json";

/// Media types of what a tag can name; layers and configurations are others.
const MANIFESTS: [&str; 6] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
];
/// Characters of an unreadable notification that are shown.
const EXCERPT_CHARS: usize = 200;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "a notification (an object)")]
struct Notification {
    id: Option<String>,
    action: Option<String>,
    #[serde(default)]
    target: Target,
    request: Option<Request>,
    actor: Option<Actor>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    media_type: Option<String>,
    digest: Option<String>,
    repository: Option<String>,
    url: Option<String>,
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    /// The registry as the client that pushed named it.
    host: Option<String>,
}

#[derive(Deserialize)]
struct Actor {
    name: Option<String>,
}

/// Decodes one post. Each pushed manifest with a tag becomes an event `image_pushed`; pulls, mounts, deletions, layers, and manifests that only a
/// digest names (the parts of an image for several platforms) are ignored.
pub fn decode(body: &[u8], at: Timestamp) -> Result<Decoded, DecodeError> {
    // An array would be read too, as the fields in their order.
    if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        let message = "expected an object with an array \"events\", as a registry's notifications have".to_string();
        return Err(DecodeError { message, line: 1, column: 1 });
    }
    let envelope: Envelope = serde_json::from_slice(body).map_err(|error| DecodeError::from(&error))?;
    if envelope.events.len() > MAX_EVENTS {
        let message = format!("{} notifications in one post; at most {MAX_EVENTS} are taken", envelope.events.len());
        return Err(DecodeError { message, line: 1, column: 1 });
    }
    let mut decoded = Decoded::default();
    for (index, raw) in envelope.events.iter().enumerate() {
        let read = serde_json::from_str::<Notification>(raw.get()).map_err(|error| payload::without_place(&error));
        match read.and_then(|notification| pushed(&notification, at)) {
            Ok(Some(event)) => decoded.events.push(event),
            Ok(None) => decoded.ignored += 1,
            Err(why) => {
                decoded.malformed.push(Malformed { index, why, excerpt: text::visible(raw.get(), EXCERPT_CHARS) });
            }
        }
    }
    Ok(decoded)
}

/// `None`: it is no image that was pushed.
fn pushed(told: &Notification, at: Timestamp) -> Result<Option<Event>, String> {
    let target = &told.target;
    let tag = or_empty(&target.tag);
    let manifest = MANIFESTS.contains(&or_empty(&target.media_type));
    if told.action.as_deref() != Some("push") || !manifest || tag.is_empty() {
        return Ok(None);
    }
    let digest = target.digest.clone().ok_or("a pushed image without a digest")?;
    let host = told.request.as_ref().map_or("", |request| or_empty(&request.host));
    let name = or_empty(&target.repository);
    let image =
        Image { host: host.to_string(), name: name.to_string(), tag: Some(tag.to_string()), digest: Some(digest) };
    image.check()?;
    let labels = labels(&[
        ("event", "image_pushed"),
        ("source", "registry"),
        ("registry", host),
        ("repository", &image.repository()),
        ("name", name),
        ("tag", tag),
        ("digest", or_empty(&image.digest)),
        ("image", &image.to_string()),
        ("actor", told.actor.as_ref().map_or("", |actor| or_empty(&actor.name))),
    ])?;
    let annotations = annotations(&[("notification", or_empty(&told.id)), ("url", or_empty(&target.url))]);
    Ok(Some(Event { annotations, ..Event::new(On::Deploy, labels, at) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const DIGEST: &str = "sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf";

    /// A push as distribution tells it, with these fields over it (by JSON pointer; `null` takes one away).
    fn push(over: &[(&str, Value)]) -> Value {
        let mut told = json!({
            "id": "320678d8-ca14-430f-8bb6-4ca139cd83f7",
            "timestamp": "2026-11-23T05:00:00.402973972Z",
            "action": "push",
            "target": {
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "size": 708, "length": 708, "digest": DIGEST, "repository": "shop/web",
                "url": "http://registry:5000/v2/shop/web/manifests/x", "tag": "1.4"
            },
            "request": { "id": "6df24a34", "addr": "10.0.0.9:42961", "host": "registry:5000", "method": "PUT" },
            "actor": { "name": "ci" },
            "source": { "addr": "a1b2:5000", "instanceID": "a53db899" }
        });
        for (pointer, value) in over {
            *told.pointer_mut(pointer).expect(pointer) = value.clone();
        }
        told
    }

    /// What became of one notification: the labels, `ignored`, or why it is malformed.
    fn check(told: Value, expect: &str) {
        let body = json!({ "events": [told] }).to_string();
        let decoded = decode(body.as_bytes(), Timestamp::UNIX_EPOCH).expect("a readable envelope");
        let found = match (&decoded.events[..], decoded.ignored, &decoded.malformed[..]) {
            ([event], 0, []) => event.labels.to_string(),
            ([], 1, []) => "ignored".to_string(),
            ([], 0, [bad]) => bad.why.clone(),
            _ => panic!("one of the three: {decoded:?}"),
        };
        assert!(found.contains(expect), "{body}: {found}");
    }

    #[test]
    fn a_tagged_manifest_that_was_pushed_is_an_event_that_can_be_deployed_by_digest() {
        check(
            push(&[]),
            &format!(
                r#"{{actor="ci", digest="{DIGEST}", event="image_pushed", image="registry:5000/shop/web:1.4@{DIGEST}", name="shop/web", registry="registry:5000", repository="registry:5000/shop/web", source="registry", tag="1.4"}}"#
            ),
        );
        check(push(&[("/request", Value::Null), ("/actor", Value::Null)]), r#"repository="shop/web""#);
        for kind in ["oci.image.index.v1+json", "docker.distribution.manifest.list.v2+json"] {
            let kind = format!("application/vnd.{kind}");
            check(push(&[("/target/mediaType", kind.into())]), "image_pushed");
        }
    }

    #[test]
    fn everything_else_is_ignored() {
        let layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        for over in [
            ("/action", "pull".into()),
            ("/action", "mount".into()),
            ("/action", "delete".into()),
            ("/action", Value::Null),
            ("/target/tag", Value::Null),
            ("/target/tag", "".into()),
            ("/target/mediaType", layer.into()),
            ("/target/mediaType", Value::Null),
        ] {
            check(push(&[over]), "ignored");
        }
        check(json!({}), "ignored");
    }

    #[test]
    fn what_names_no_image_is_malformed_by_itself() {
        for (pointer, value, why) in [
            ("/target/digest", Value::Null, "without a digest"),
            ("/target/digest", "sha256:../../etc".into(), "64 hexadecimal"),
            ("/target/repository", "Shop/Web; reboot".into(), "lower-case"),
            ("/target/repository", Value::Null, "lower-case"),
            ("/target/tag", "a b".into(), "tag must be"),
            ("/target/tag", 7.into(), "expected a string"),
            ("/request/host", "evil host/x".into(), "host name"),
            ("/actor/name", "a\u{7}b".into(), "control character"),
            ("/actor/name", "x".repeat(1_025).into(), "longer than 1024"),
        ] {
            check(push(&[(pointer, value)]), why);
        }
        check(json!("push"), "invalid type");
        let good = push(&[]);
        let body = json!({ "events": [good, 7, good] }).to_string();
        let decoded = decode(body.as_bytes(), Timestamp::UNIX_EPOCH).expect("a readable envelope");
        assert_eq!((decoded.events.len(), decoded.malformed[0].index), (2, 1));
    }

    #[test]
    fn an_envelope_that_cannot_be_read_has_its_place() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        let many = json!({ "events": vec![0; MAX_EVENTS + 1] }).to_string();
        for (body, why) in [
            (&b""[..], "EOF"),
            (b"{}", "events"),
            (b"[]", "events"),
            (br#"{"events":7}"#, "invalid type"),
            (b"{\"events\":[\"\xff\"]}", ""),
            (&deep, ""),
            (many.as_bytes(), "1001 notifications"),
        ] {
            let error = decode(body, Timestamp::UNIX_EPOCH).expect_err("unreadable");
            assert!(error.message.contains(why) && error.line > 0, "{error}");
        }
    }
}
