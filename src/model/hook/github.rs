//! GitHub's webhooks: an image was published (`registry_package`, `package`), or a workflow ended well (`workflow_run`).

use super::{Decoded, annotations, labels, or_empty};
use crate::model::event::{Event, On};
use crate::model::image::{Image, is_digest};
use crate::model::label::Labels;
use crate::model::payload::{DecodeError, Malformed};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::Deserialize;
use sha2::Sha256;
use std::collections::BTreeMap;

/// Did whoever knows the secret sign this very body? `header` is that of `X-Hub-Signature-256`: `sha256=` and hexadecimal digits. The comparison takes
/// the same time wherever the two differ.
pub fn signed(secret: &[u8], body: &[u8], header: &[u8]) -> bool {
    let mut sent = [0; 32];
    let read = header.strip_prefix(b"sha256=").map(|digits| hex::decode_to_slice(digits, &mut sent));
    if read.is_none_or(|read| read.is_err()) {
        return false;
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of every length");
    mac.update(body);
    mac.verify_slice(&sent).is_ok()
}

/// Decodes a delivery of the kind that `X-GitHub-Event` names. Kinds that deploy nothing are ignored.
pub fn decode(kind: &str, body: &[u8], at: Timestamp) -> Result<Decoded, DecodeError> {
    let read = match kind {
        "registry_package" | "package" => published(&parse(body)?, at),
        "workflow_run" => succeeded(&parse(body)?, at),
        _ => Ok(None),
    };
    Ok(match read {
        Ok(Some(event)) => Decoded { events: vec![event], ..Decoded::default() },
        Ok(None) => Decoded { ignored: 1, ..Decoded::default() },
        Err(why) => {
            let malformed = Malformed { index: 0, why, excerpt: kind.to_string() };
            Decoded { malformed: vec![malformed], ..Decoded::default() }
        }
    })
}

fn parse(body: &[u8]) -> Result<Delivery, DecodeError> {
    serde_json::from_slice(body).map_err(|error| DecodeError::from(&error))
}

#[derive(Deserialize)]
#[serde(expecting = "an object, as GitHub delivers")]
struct Delivery {
    action: Option<String>,
    #[serde(alias = "package")]
    registry_package: Option<Package>,
    workflow_run: Option<Run>,
    repository: Option<Repository>,
    sender: Option<Account>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: Option<String>,
}

#[derive(Deserialize)]
struct Account {
    login: Option<String>,
}

#[derive(Deserialize)]
struct Package {
    html_url: Option<String>,
    package_version: Option<Version>,
}

#[derive(Deserialize)]
struct Version {
    /// The digest of a container's manifest.
    version: Option<String>,
    target_commitish: Option<String>,
    target_oid: Option<String>,
    /// `ghcr.io/octo/web:1.4`.
    package_url: Option<String>,
    author: Option<Account>,
    /// Only packages that are images have it.
    container_metadata: Option<Container>,
}

#[derive(Deserialize)]
struct Container {
    tag: Option<Tag>,
    labels: Option<ImageLabels>,
    manifest: Option<Manifest>,
}

#[derive(Deserialize)]
struct Tag {
    name: Option<String>,
    digest: Option<String>,
}

#[derive(Deserialize)]
struct ImageLabels {
    description: Option<String>,
    revision: Option<String>,
    /// Of every type: what the image's author wrote.
    all_labels: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct Manifest {
    digest: Option<String>,
}

#[derive(Deserialize)]
struct Run {
    name: Option<String>,
    head_branch: Option<String>,
    head_sha: Option<String>,
    /// What started it: `push`, `schedule`, `workflow_dispatch` …
    event: Option<String>,
    conclusion: Option<String>,
    html_url: Option<String>,
    actor: Option<Account>,
    head_commit: Option<Commit>,
    head_repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Commit {
    message: Option<String>,
}

fn login(account: &Option<Account>) -> &str {
    account.as_ref().map_or("", |account| or_empty(&account.login))
}

fn full_name(repository: &Option<Repository>) -> &str {
    repository.as_ref().map_or("", |repository| or_empty(&repository.full_name))
}

/// A published image with a tag. Packages of other kinds, and manifests that only their digest names, are none.
fn published(told: &Delivery, at: Timestamp) -> Result<Option<Event>, String> {
    let Some(package) = &told.registry_package else { return Ok(None) };
    let Some(version) = &package.package_version else { return Ok(None) };
    let Some(container) = &version.container_metadata else { return Ok(None) };
    let tag = container.tag.as_ref().map_or("", |tag| or_empty(&tag.name));
    if !matches!(or_empty(&told.action), "published" | "updated") || tag.is_empty() {
        return Ok(None);
    }
    let image = image(version, container, tag)?;
    let author = [login(&version.author), login(&told.sender)].into_iter().find(|login| !login.is_empty());
    let labels = labels(&[
        ("event", "image_pushed"),
        ("source", "github"),
        ("registry", &image.host),
        ("repository", &image.repository()),
        ("name", &image.name),
        ("tag", tag),
        ("digest", or_empty(&image.digest)),
        ("image", &image.to_string()),
        ("commit", commit(version, container)),
        ("branch", or_empty(&version.target_commitish)),
        ("author", author.unwrap_or_default()),
        ("git_repository", full_name(&told.repository)),
    ])?;
    let description = container.labels.as_ref().map_or("", |labels| or_empty(&labels.description));
    let annotations = annotations(&[("description", description), ("url", or_empty(&package.html_url))]);
    Ok(Some(Event { annotations, ..Event::new(On::Deploy, labels, at) }))
}

/// The image as it is pulled. GitHub writes owners as they are spelt, its registry knows lower case only.
fn image(version: &Version, container: &Container, tag: &str) -> Result<Image, String> {
    let url = or_empty(&version.package_url).to_lowercase();
    let untagged = match url.rsplit_once(':') {
        Some((untagged, tag)) if !tag.contains('/') => untagged,
        _ => &url,
    };
    let mut image = Image::parse(untagged).map_err(|why| format!("package_url: {why}"))?;
    image.tag = Some(tag.to_string());
    let told = [
        container.tag.as_ref().map(|tag| or_empty(&tag.digest)),
        container.manifest.as_ref().map(|manifest| or_empty(&manifest.digest)),
        Some(or_empty(&version.version)),
    ];
    image.digest = told.into_iter().flatten().find(|digest| is_digest(digest)).map(str::to_string);
    image.check()?;
    Ok(image)
}

/// The commit that the image says it was made from; failing that, the one that GitHub thinks of. "" when neither is one.
fn commit<'a>(version: &'a Version, container: &'a Container) -> &'a str {
    let labels = container.labels.as_ref();
    let all = labels.and_then(|labels| labels.all_labels.as_ref());
    let revision = all.and_then(|all| all.get("org.opencontainers.image.revision")).and_then(|it| it.as_str());
    let said = [labels.map(|labels| or_empty(&labels.revision)), revision, Some(or_empty(&version.target_oid))];
    let is_commit = |text: &&str| text.len() == 40 && text.bytes().all(|c| c.is_ascii_hexdigit());
    said.into_iter().flatten().find(is_commit).unwrap_or_default()
}

/// A workflow that ended well. A run of a fork's code is ignored: whoever opens a pull request names its branch, and would choose what is deployed.
fn succeeded(told: &Delivery, at: Timestamp) -> Result<Option<Event>, String> {
    let Some(run) = &told.workflow_run else { return Ok(None) };
    let repository = full_name(&told.repository);
    let ended_well = or_empty(&told.action) == "completed" && or_empty(&run.conclusion) == "success";
    if !ended_well || full_name(&run.head_repository) != repository {
        return Ok(None);
    }
    if repository.is_empty() {
        return Err("a workflow run without repository.full_name".to_string());
    }
    let labels: Labels = labels(&[
        ("event", "workflow_run"),
        ("source", "github"),
        ("repository", repository),
        ("workflow", or_empty(&run.name)),
        ("conclusion", or_empty(&run.conclusion)),
        ("trigger", or_empty(&run.event)),
        ("branch", or_empty(&run.head_branch)),
        ("commit", or_empty(&run.head_sha)),
        ("author", login(&run.actor)),
    ])?;
    let message = run.head_commit.as_ref().map_or("", |commit| or_empty(&commit.message));
    let annotations = annotations(&[("message", message), ("url", or_empty(&run.html_url))]);
    Ok(Some(Event { annotations, ..Event::new(On::Deploy, labels, at) }))
}

#[cfg(test)]
mod tests;
