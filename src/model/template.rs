//! A template is one label put into a field: `{{ service }}` or `{{ labels["a.b"] }}`. No expressions.

use super::label::Labels;

/// Text with labels in it. The author's text may hold globs (`*`); a label's value is compared literally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Label(String),
}

impl Template {
    /// Reads a template. The error says what is wrong with it.
    pub fn parse(source: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some(open) = rest.find("{{") {
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_string()));
            }
            let after = &rest[open + 2..];
            let close = after.find("}}").ok_or_else(|| format!("\"{{{{\" without \"}}}}\" in {source:?}"))?;
            parts.push(Part::Label(label_name(after[..close].trim())?));
            rest = &after[close + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_string()));
        }
        if parts.is_empty() {
            return Err("an empty template names nothing".to_string());
        }
        Ok(Template { source: source.to_string(), parts })
    }

    /// This text and nothing else; `None` for text that would stand for more.
    pub fn exact(text: &str) -> Option<Self> {
        let plain = !text.is_empty() && !text.contains(['*', '{']);
        plain.then(|| Template { source: text.to_string(), parts: vec![Part::Text(text.to_string())] })
    }

    /// The labels it needs.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Label(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The first label it needs that is missing or empty.
    pub fn missing<'a>(&'a self, labels: &Labels) -> Option<&'a str> {
        self.labels().find(|name| labels.value(name).is_empty())
    }

    /// The text with the labels put in. `Err` names a missing label: it is never "".
    pub fn render(&self, labels: &Labels) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Label(name) => match labels.value(name) {
                    "" => return Err(name.clone()),
                    value => text.push_str(value),
                },
            }
        }
        Ok(text)
    }

    /// The one target it names, if the author wrote no glob.
    pub fn literal(&self, labels: &Labels) -> Option<String> {
        let glob = self.parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('*')));
        if glob { None } else { self.render(labels).ok() }
    }

    /// Does it name `target`? `*` in the author's text stands for any characters; in a label's value for itself.
    pub fn names(&self, target: &str, labels: &Labels) -> bool {
        // The pattern as pieces between stars: every piece must be found, the first and last at the ends.
        let mut pieces = vec![String::new()];
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    for (at, piece) in text.split('*').enumerate() {
                        if at > 0 {
                            pieces.push(String::new());
                        }
                        pieces.last_mut().expect("never empty").push_str(piece);
                    }
                }
                Part::Label(name) => match labels.value(name) {
                    "" => return false,
                    value => pieces.last_mut().expect("never empty").push_str(value),
                },
            }
        }
        let (first, rest) = pieces.split_first().expect("never empty");
        let Some(mut left) = target.strip_prefix(first.as_str()) else { return false };
        let Some((last, middle)) = rest.split_last() else { return left.is_empty() };
        for piece in middle {
            let Some(at) = left.find(piece.as_str()) else { return false };
            left = &left[at + piece.len()..];
        }
        left.ends_with(last.as_str())
    }
}

/// The one label in a template, of what stands between its braces.
pub(super) fn label_name(text: &str) -> Result<String, String> {
    let plain = |name: &str| {
        let mut chars = name.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if let Some(quoted) = text.strip_prefix("labels[").and_then(|rest| rest.strip_suffix(']')) {
        let name: String = serde_json::from_str(quoted)
            .map_err(|_| format!("labels[…] needs a quoted name, as in {{{{ labels[\"a.b\"] }}}}, found {quoted}"))?;
        return if name.is_empty() { Err("a label name cannot be empty".to_string()) } else { Ok(name) };
    }
    if plain(text) {
        Ok(text.to_string())
    } else {
        Err(format!(
            "{text:?} is no label name; a template is one label, {{{{ service }}}} or {{{{ labels[\"a.b\"] }}}}, without expressions"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, labels: &[(&str, &str)], target: &str, expect: bool) {
        let labels: Labels = labels.iter().copied().collect();
        let template = Template::parse(template).expect("a valid template");
        assert_eq!(template.names(target, &labels), expect, "{template:?} on {target}");
    }

    #[test]
    fn a_grant_names_only_what_its_author_meant() {
        check("{{ service }}", &[("service", "web")], "web", true);
        check("{{ service }}", &[("service", "web")], "web2", false);
        check("{{ service }}", &[("service", "*")], "web", false);
        check("{{ service }}", &[("service", "*")], "*", true);
        check("{{ service }}", &[], "", false);
        check("web-*", &[], "web-1", true);
        check("web-*", &[], "my-web-1", false);
        check("*", &[], "anything", true);
        check("{{ stack }}_*", &[("stack", "shop")], "shop_web", true);
        check("{{ stack }}_*", &[("stack", "sh*p")], "shop_web", false);
        check("a*b*c", &[], "a-b-b-c", true);
        check("a*b*c", &[], "a-c", false);
        check("a*a", &[], "a", false);
        check("{{ labels[\"com.df.service\"] }}", &[("com.df.service", "x")], "x", true);
    }

    #[test]
    fn what_is_no_single_label_is_refused() {
        for source in ["", "{{ a", "{{ a + b }}", "{{ }}", "{{ labels[a] }}", "{{ labels[\"\"] }}", "{{ a.b }}"] {
            assert!(Template::parse(source).is_err(), "{source}");
        }
    }
}
