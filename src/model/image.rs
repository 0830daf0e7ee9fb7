//! An image as registries and Swarm name it: `host/name:tag@digest`. What names one comes from outside and ends up in a service, so it is parsed.

use std::fmt;

/// Bytes that a repository's name may have, its host included: distribution's own limit.
const MAX_REPOSITORY: usize = 255;
/// Distribution's limit for tags.
const MAX_TAG: usize = 128;

/// The name of an image, and which of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The registry as clients name it, `registry:5000`; "" for Docker Hub's short names.
    pub host: String,
    /// `shop/web`.
    pub name: String,
    pub tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
}

impl Image {
    /// Reads `[host/]name[:tag][@digest]`. `Err` says what is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Image, String> {
        let wrong = |why: &str| format!("{:?} is no image: {why}", super::text::cut(text, 100));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon in front of a slash belongs to the port of the host.
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (rest, None),
        };
        let (host, name) = split_host(repository);
        let image = Image {
            host: host.to_string(),
            name: name.to_string(),
            tag: tag.map(str::to_string),
            digest: digest.map(str::to_string),
        };
        image.check().map_err(|why| wrong(&why))?;
        Ok(image)
    }

    /// Are its parts what registries accept? For an image put together from parts.
    pub fn check(&self) -> Result<(), String> {
        if !self.host.is_empty() && !is_host(&self.host) {
            return Err("the registry must be a host name or address, with a port if need be".to_string());
        }
        if self.host.len() + self.name.len() > MAX_REPOSITORY {
            return Err(format!("the repository is longer than {MAX_REPOSITORY} bytes"));
        }
        if !self.name.split('/').all(is_component) {
            return Err(
                "the repository's name must be lower-case letters, digits and . _ - between slashes".to_string()
            );
        }
        if self.tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(format!("the tag must be letters, digits and . _ -, at most {MAX_TAG} of them"));
        }
        if self.digest.as_deref().is_some_and(|digest| !is_digest(digest)) {
            return Err("the digest must be sha256: and 64 hexadecimal digits".to_string());
        }
        Ok(())
    }

    /// `registry:5000/shop/web`.
    pub fn repository(&self) -> String {
        if self.host.is_empty() { self.name.clone() } else { format!("{}/{}", self.host, self.name) }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Docker's own rule: the first component is a host if it looks like none of a name.
fn split_host(repository: &str) -> (&str, &str) {
    match repository.split_once('/') {
        Some((host, name)) if host.contains(['.', ':']) || host == "localhost" => (host, name),
        _ => ("", repository),
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = match address {
        Some(address) => !address.is_empty() && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':'),
        None => !host.is_empty() && host.chars().all(plain),
    };
    named && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_component(text: &str) -> bool {
    let small = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().copied().is_some_and(small) && bytes.last().copied().is_some_and(small);
    ends && bytes.iter().all(|c| small(*c) || b"._-".contains(c))
}

/// Is this a tag?
pub fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= MAX_TAG && text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// Is this a digest of the one kind that registries use?
pub fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:");
    hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf";

    /// Parsed, as `host|name|tag|digest?`, or why it is not.
    fn check(text: &str, expect: &str) {
        let shown = match Image::parse(text) {
            Ok(image) => {
                assert_eq!(image.to_string(), text);
                let digest = if image.digest.is_some() { "@" } else { "" };
                format!("{}|{}|{}|{digest}", image.host, image.name, image.tag.unwrap_or_default())
            }
            Err(why) => why,
        };
        assert!(shown.contains(expect), "{text:?}: {shown:?}, expected {expect:?}");
    }

    #[test]
    fn an_image_is_read_part_by_part() {
        for (text, expect) in [
            ("web", "|web||"),
            ("shop/web:1.2", "|shop/web|1.2|"),
            ("registry:5000/shop/web:1.2", "registry:5000|shop/web|1.2|"),
            ("registry:5000/web", "registry:5000|web||"),
            ("localhost/web:x_Y.z-1", "localhost|web|x_Y.z-1|"),
            ("[::1]:5000/web", "[::1]:5000|web||"),
            ("ghcr.io/octo/a__b-c", "ghcr.io|octo/a__b-c||"),
        ] {
            check(text, expect);
        }
        check(&format!("registry:5000/web:1@{DIGEST}"), "registry:5000|web|1|@");
        check(&format!("web@{DIGEST}"), "|web||@");
    }

    #[test]
    fn what_no_registry_accepts_is_refused_in_words() {
        for (text, why) in [
            ("", "lower-case"),
            ("Web", "lower-case"),
            ("a//b", "lower-case"),
            ("-web", "lower-case"),
            ("web:", "tag must be"),
            ("web:-1", "tag must be"),
            ("web:1 2", "tag must be"),
            ("web@sha256:12", "64 hexadecimal"),
            ("web@md5:fea8", "64 hexadecimal"),
            ("regi stry.io/web", "host name"),
            ("registry:99999/web", "host name"),
            ("web; rm -rf /", "lower-case"),
            ("wéb", "lower-case"),
        ] {
            check(text, why);
        }
        check(&"a".repeat(256), "longer than 255");
        check(&format!("web:{}", "1".repeat(129)), "at most 128");
    }
}
