//! A build's own word: `POST /api/v1/deploy`. Strict, because somebody writes it by hand and reads the answer.

use super::labels;
use crate::model::diagnostic::nearest;
use crate::model::event::{Event, On};
use crate::model::image::{Image, is_digest, is_tag};
use jiff::Timestamp;
use serde_json::{Map, Value};

/// What a deployment can say.
pub const KEYS: [&str; 7] = ["service", "repository", "image", "tag", "digest", "commit", "author"];

/// The event that these fields make. `Err` says what is wrong and how to mend it.
///
/// It must say what is deployed (a service, a repository or an image) and which version (a tag, a digest, or an image with one of them). Where the
/// repository is known, the event's label `image` is the whole reference.
pub fn decode(fields: &Map<String, Value>, at: Timestamp) -> Result<Event, String> {
    for (name, value) in fields {
        if !KEYS.contains(&name.as_str()) {
            return Err(match nearest(name, KEYS) {
                Some(right) => format!("there is no key {name:?}; did you mean {right:?}?"),
                None => format!("there is no key {name:?}; there are {}", KEYS.join(", ")),
            });
        }
        if !value.is_string() && !value.is_null() {
            return Err(format!("{name:?} must be text"));
        }
    }
    let told = |name: &str| fields.get(name).and_then(Value::as_str).map_or("", str::trim);
    let image = image(told)?;
    let (tag, digest) = match &image {
        Some(image) => (image.tag.as_deref().unwrap_or_default(), image.digest.as_deref().unwrap_or_default()),
        None => (told("tag"), told("digest")),
    };
    if tag.is_empty() && digest.is_empty() {
        return Err("it names no version: give \"tag\", \"digest\", or an \"image\" with one of them".to_string());
    }
    if !tag.is_empty() && !is_tag(tag) {
        return Err("\"tag\" must be letters, digits and . _ -".to_string());
    }
    if !digest.is_empty() && !is_digest(digest) {
        return Err("\"digest\" must be sha256: and 64 hexadecimal digits".to_string());
    }
    if image.is_none() && told("service").is_empty() {
        return Err("it does not say what is deployed: give \"service\", \"repository\" or \"image\"".to_string());
    }
    let repository = image.as_ref().map(Image::repository).unwrap_or_default();
    let whole = image.as_ref().map(Image::to_string).unwrap_or_default();
    let labels = labels(&[
        ("event", "deploy"),
        ("source", "api"),
        ("service", told("service")),
        ("repository", &repository),
        ("image", &whole),
        ("tag", tag),
        ("digest", digest),
        ("commit", told("commit")),
        ("author", told("author")),
    ])?;
    Ok(Event::new(On::Deploy, labels, at))
}

/// The image that `image`, or `repository` with `tag` and `digest`, names; `None` when neither is given.
fn image<'a>(told: impl Fn(&str) -> &'a str) -> Result<Option<Image>, String> {
    let repository = match (told("image"), told("repository")) {
        ("", "") => return Ok(None),
        ("", repository) => repository,
        (image, "") => image,
        _ => return Err("give \"repository\" with \"tag\" or \"digest\", or \"image\", not both".to_string()),
    };
    let mut image = Image::parse(repository)?;
    for (name, own) in [("tag", &mut image.tag), ("digest", &mut image.digest)] {
        let also = told(name);
        match own {
            Some(own) if !also.is_empty() && own != also => {
                return Err(format!("{name:?} is {also:?}, but {repository:?} already has {own:?}"));
            }
            None if !also.is_empty() => *own = Some(also.to_string()),
            _ => {}
        }
    }
    image.check()?;
    Ok(Some(image))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DIGEST: &str = "sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf";

    /// The labels of the event, or why there is none.
    fn check(fields: Value, expect: &str) {
        let fields = fields.as_object().expect("an object");
        let found = match decode(fields, Timestamp::UNIX_EPOCH) {
            Ok(event) => event.labels.to_string(),
            Err(why) => why,
        };
        assert!(found.contains(expect), "{fields:?}: {found}, expected {expect}");
    }

    #[test]
    fn a_deployment_names_what_and_which_version() {
        for (fields, expect) in [
            (
                json!({ "service": "web", "image": "registry:5000/shop/web:1.4", "commit": "abc", "author": "ann" }),
                r#"{author="ann", commit="abc", event="deploy", image="registry:5000/shop/web:1.4", repository="registry:5000/shop/web", service="web", source="api", tag="1.4"}"#,
            ),
            (json!({ "service": "web", "tag": "1.4" }), r#"{event="deploy", service="web", source="api", tag="1.4"}"#),
            (json!({ "repository": "shop/web", "tag": "1.4" }), r#"image="shop/web:1.4""#),
            (json!({ "image": "shop/web", "tag": "1.4", "commit": null }), r#"image="shop/web:1.4""#),
            (json!({ "image": "shop/web:1.4", "tag": "1.4" }), r#"image="shop/web:1.4""#),
        ] {
            check(fields, expect);
        }
        check(json!({ "repository": "shop/web", "digest": DIGEST }), &format!(r#"image="shop/web@{DIGEST}""#));
        let both = json!({ "image": "shop/web:1.4", "digest": DIGEST });
        check(both, &format!(r#"image="shop/web:1.4@{DIGEST}""#));
    }

    #[test]
    fn what_is_missing_or_misspelt_is_said() {
        for (fields, expect) in [
            (json!({ "service": "web" }), "names no version"),
            (json!({ "image": "shop/web" }), "names no version"),
            (json!({ "service": "web", "image": null, "tag": " " }), "names no version"),
            (json!({ "tag": "1.4" }), "does not say what is deployed"),
            (json!({ "servce": "web", "tag": "1" }), "did you mean \"service\"?"),
            (json!({ "environment": "prod" }), "there are service, repository, image"),
            (json!({ "service": "web", "tag": 1 }), "\"tag\" must be text"),
            (json!({ "service": "web", "tag": "a b" }), "\"tag\" must be letters"),
            (json!({ "service": "web", "digest": "sha256:1" }), "64 hexadecimal"),
            (json!({ "image": "shop/web:1", "tag": "2" }), "already has \"1\""),
            (json!({ "image": "shop/web:1", "repository": "shop/web" }), "not both"),
            (json!({ "image": "Shop Web:1" }), "is no image"),
            (json!({ "service": "a\nb", "tag": "1" }), "control character"),
            (json!({ "service": "web", "tag": "1", "author": "x".repeat(2_000) }), "author is longer"),
        ] {
            check(fields, expect);
        }
    }
}
