//! Values put into a PromQL expression: as the text of a label's value, escaped, and nowhere else.

use crate::model::promql;
use serde_json::{Map, Value};

/// Puts a value in for each `$name` in a string of the expression. What is quoted stays quoted, whatever the value says; a `$name` outside of quotes
/// is refused, since there a value could be anything.
pub fn filled(expr: &str, values: &Map<String, Value>) -> Result<String, String> {
    let mut out = String::with_capacity(expr.len());
    let mut quote: Option<char> = None;
    let mut rest = expr.char_indices();
    let mut used = Vec::new();
    while let Some((at, c)) = rest.next() {
        match (c, quote) {
            ('\\', Some('"' | '\'')) => {
                out.push(c);
                out.extend(rest.next().map(|(_, c)| c));
            }
            ('"' | '\'' | '`', None) => {
                quote = Some(c);
                out.push(c);
            }
            (c, Some(open)) if c == open => {
                quote = None;
                out.push(c);
            }
            ('$', _) => {
                let name: String =
                    expr[at + 1..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if name.is_empty() {
                    out.push(c);
                    continue;
                }
                for _ in 0..name.len() {
                    rest.next();
                }
                let value = values.get(&name).ok_or_else(|| {
                    let known: Vec<&str> = values.keys().map(String::as_str).collect();
                    format!("promql: there is no value for ${name}; the map has: {}", known.join(", "))
                })?;
                out.push_str(&escaped(&name, value, quote)?);
                used.push(name);
            }
            (c, _) => out.push(c),
        }
    }
    match values.keys().find(|name| !used.contains(name)) {
        Some(unused) => {
            Err(format!("promql: the value {unused} is used nowhere; write \"${unused}\" in the expression"))
        }
        None => Ok(out),
    }
}

fn escaped(name: &str, value: &Value, quote: Option<char>) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => return Err(format!("promql: the value of ${name} must be text or a number")),
    };
    match quote {
        // A number is a number anywhere.
        None if value.is_number() => Ok(text),
        None => Err(format!("promql: ${name} must stand between quotes: {{label=\"${name}\"}}")),
        Some('`') if text.contains('`') => Err(format!(
            "promql: the value of ${name} has a backtick, which nothing escapes between backticks: use \"\""
        )),
        Some('`') => Ok(text),
        Some(quote) => Ok(promql::escaped(&text, quote)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(expr: &str, values: Value, expect: Result<&str, &str>) {
        let filled = filled(expr, values.as_object().expect("a map"));
        match (&filled, expect) {
            (Ok(filled), Ok(expect)) => assert_eq!(filled, expect),
            (Err(said), Err(expect)) => assert!(said.contains(expect), "{said}"),
            _ => panic!("{expr}: {filled:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn a_value_is_the_text_of_a_label_and_nothing_else() {
        check(r#"up{job="$job"} > $least"#, json!({"job": "web", "least": 0.5}), Ok(r#"up{job="web"} > 0.5"#));
        check(r#"up{job="$job"}"#, json!({"job": "x\"} or vector(1) #"}), Ok(r#"up{job="x\"} or vector(1) #"}"#));
        check(r#"up{job="$job"}"#, json!({"job": "x\\"}), Ok(r#"up{job="x\\"}"#));
        check("up{job='$job'}", json!({"job": "it's"}), Ok(r"up{job='it\'s'}"));
        // Prometheus refuses an escaped quote of the other kind.
        check(r#"up{job="$job"}"#, json!({"job": "it's"}), Ok(r#"up{job="it's"}"#));
        check("up{job='$job'}", json!({"job": "\"x\""}), Ok(r#"up{job='"x"'}"#));
        check(r#"up{a="\"$job"}"#, json!({"job": "\""}), Ok(r#"up{a="\"\""}"#));
        check("rate(x[5m]) # costs 5$", json!({}), Ok("rate(x[5m]) # costs 5$"));
        check("up{job=$job}", json!({"job": "web"}), Err("must stand between quotes"));
        check(r#"up{job="$jbo"}"#, json!({"job": "web"}), Err("no value for $jbo"));
        check("up", json!({"job": "web"}), Err("is used nowhere"));
        check("up{job=`$job`}", json!({"job": "a`b"}), Err("backtick"));
        check(r#"up{job="$job"}"#, json!({"job": [1]}), Err("must be text or a number"));
    }
}
