//! The arguments of a primitive's call, checked and in their canonical form: the same call always gives the same JSON.

use super::primitives::{ParamKind, Primitive};
use super::value::{kind_of, to_json};
use crate::model::diagnostic::nearest;
use crate::model::duration::Duration;
use crate::model::matcher::{Matcher, Op};
use crate::model::step::StepError;
use rhai::{Dynamic, FnPtr};
use serde_json::{Map, Value};

/// What a call asks for.
pub struct Arguments {
    /// Canonical; a closure is no part of it.
    pub values: Vec<Value>,
    pub closure: Option<FnPtr>,
}

const UPDATE_FIELDS: [&str; 5] = ["image", "env", "labels", "limits", "force"];
const JOB_FIELDS: [&str; 3] = ["args", "env", "timeout"];
const LIMIT_FIELDS: [&str; 2] = ["nano_cpus", "memory_bytes"];

/// Checks the arguments of a call. The error is thrown to the script at once and is no step: it depends on the script alone.
pub fn canonical(primitive: &Primitive, args: &[&mut Dynamic]) -> Result<Arguments, StepError> {
    let mut values = Vec::with_capacity(primitive.params.len());
    let mut closure = None;
    for (at, param) in primitive.params.iter().enumerate() {
        let Some(arg) = args.get(at) else {
            let default = param.default.expect("only arguments with a default are left out");
            values.push(serde_json::from_str(default).expect("a default is JSON"));
            continue;
        };
        if param.kind == ParamKind::Closure {
            closure = Some(function(primitive, param.name, arg)?);
        } else {
            values.push(match param.default {
                // `()` is how a script says that there is none.
                Some("null") if arg.is_unit() => Value::Null,
                _ => value(primitive, param.name, param.kind, arg)?,
            });
        }
    }
    Ok(Arguments { values, closure })
}

fn invalid(message: String) -> StepError {
    StepError::new("invalid", message)
}

fn wrong(primitive: &Primitive, name: &str, expected: &str, arg: &Dynamic) -> StepError {
    let signature = primitive.signature;
    invalid(format!("{signature}: {name} must be {expected}, found {}", shown(arg)))
}

/// A value as an error message shows it: what it is, and what it says if that is short.
fn shown(arg: &Dynamic) -> String {
    match to_json(arg) {
        Ok(Value::Null) => "()".to_string(),
        Ok(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) if value.to_string().len() <= 80 => {
            format!("{} {value}", kind_of(arg))
        }
        _ => kind_of(arg).to_string(),
    }
}

fn value(primitive: &Primitive, name: &str, kind: ParamKind, arg: &Dynamic) -> Result<Value, StepError> {
    match kind {
        ParamKind::Name => match text(arg) {
            Some(text) if !text.is_empty() => Ok(text.into()),
            _ => Err(wrong(primitive, name, "a name, that is a string that is not empty", arg)),
        },
        ParamKind::Text => text(arg).map(Value::from).ok_or_else(|| wrong(primitive, name, "a string", arg)),
        ParamKind::Replicas => match arg.as_int() {
            Ok(count) if count >= 0 => Ok(count.into()),
            _ => Err(wrong(primitive, name, "a whole number that is not negative", arg)),
        },
        ParamKind::Duration => {
            let written = text(arg).ok_or_else(|| wrong(primitive, name, "text such as \"90s\" or \"5m\"", arg))?;
            let length =
                Duration::parse(&written).map_err(|error| invalid(format!("{}: {error}", primitive.signature)))?;
            Ok(length.to_string().into())
        }
        ParamKind::Labels => labels(primitive, name, arg).map(Value::Object),
        ParamKind::SomeLabels => {
            let labels = labels(primitive, name, arg)?;
            if labels.is_empty() {
                return Err(StepError::new(
                    "empty",
                    format!("{} without a label would mean every service: name at least one label", primitive.name),
                ));
            }
            Ok(Value::Object(labels))
        }
        ParamKind::Fields => fields(primitive, arg),
        ParamKind::Matchers => matchers(primitive, name, arg),
        ParamKind::SomeMatchers => match matchers(primitive, name, arg)? {
            Value::Array(none) if none.is_empty() => {
                let message = format!("{} without a matcher would mean every alert: name at least one", primitive.name);
                Err(StepError::new("empty", message))
            }
            some => Ok(some),
        },
        ParamKind::JobFields => job_fields(primitive, name, arg),
        ParamKind::Values => object(primitive, name, arg).map(Value::Object),
        ParamKind::Answers => {
            let answers = match to_json(arg) {
                Ok(Value::Array(answers)) => answers,
                _ => return Err(wrong(primitive, name, "an array of texts, as in [\"yes\", \"no\"]", arg)),
            };
            let good = |one: &Value| one.as_str().is_some_and(|text| !text.trim().is_empty());
            if answers.is_empty() || !answers.iter().all(good) {
                return Err(wrong(primitive, name, "at least one text, none of them empty", arg));
            }
            Ok(Value::Array(answers))
        }
        ParamKind::Json => {
            to_json(arg).map_err(|what| invalid(format!("{}: {name} holds {what}", primitive.signature)))
        }
        ParamKind::Closure => unreachable!("a closure has no value"),
    }
}

fn text(arg: &Dynamic) -> Option<String> {
    arg.clone().into_immutable_string().ok().map(|text| text.to_string())
}

fn function(primitive: &Primitive, name: &str, arg: &Dynamic) -> Result<FnPtr, StepError> {
    arg.clone()
        .try_cast::<FnPtr>()
        .ok_or_else(|| wrong(primitive, name, "a closure, as in || service(\"web\").running > 0", arg))
}

fn object(primitive: &Primitive, name: &str, arg: &Dynamic) -> Result<Map<String, Value>, StepError> {
    if !arg.is_map() {
        return Err(wrong(primitive, name, "a map, as in #{tier: \"shop\"}", arg));
    }
    match to_json(arg) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(wrong(primitive, name, "a map", arg)),
        Err(what) => Err(invalid(format!("{}: {name} holds {what}", primitive.signature))),
    }
}

fn labels(primitive: &Primitive, name: &str, arg: &Dynamic) -> Result<Map<String, Value>, StepError> {
    let labels = object(primitive, name, arg)?;
    for (label, value) in &labels {
        if !value.is_string() {
            return Err(invalid(format!(
                "{}: the value of label {label:?} must be a string, found {value}",
                primitive.signature
            )));
        }
    }
    Ok(labels)
}

/// Matchers in Alertmanager's syntax, sorted, each once. A map of labels means equality.
fn matchers(primitive: &Primitive, name: &str, arg: &Dynamic) -> Result<Value, StepError> {
    let mut all: Vec<String> = if arg.is_map() {
        let mut all = Vec::new();
        for (label, value) in labels(primitive, name, arg)? {
            let value = value.as_str().unwrap_or_default();
            let matcher = Matcher::new(&label, Op::Equal, value).expect("equality has no expression to go wrong");
            all.push(matcher.to_string());
        }
        all
    } else {
        let Ok(Value::Array(items)) = to_json(arg) else {
            let expected = "a map of labels or an array of matchers, as in [\"severity=~\\\"page|critical\\\"\"]";
            return Err(wrong(primitive, name, expected, arg));
        };
        let mut all = Vec::new();
        for item in items {
            let read = item.as_str().ok_or_else(|| "it is no text".to_string());
            let read = read.and_then(|text| Matcher::parse(text).map_err(|error| error.message));
            let matcher = read.map_err(|why| invalid(format!("{}: the matcher {item}: {why}", primitive.name)))?;
            all.push(matcher.to_string());
        }
        all
    };
    all.sort();
    all.dedup();
    Ok(all.into())
}

/// The fields of `job`, with its time limit.
fn job_fields(primitive: &Primitive, name: &str, arg: &Dynamic) -> Result<Value, StepError> {
    let mut fields = object(primitive, name, arg)?;
    for (name, value) in &fields {
        match name.as_str() {
            "args" => {
                if !value.as_array().is_some_and(|args| args.iter().all(Value::is_string)) {
                    return Err(invalid(format!("job: args must be an array of strings, found {value}")));
                }
            }
            "env" => {
                if !value.as_object().is_some_and(|env| env.values().all(Value::is_string)) {
                    return Err(invalid("job: env must be a map of strings".to_string()));
                }
            }
            "timeout" => {}
            unknown => return Err(unknown_key("job", unknown, &JOB_FIELDS)),
        }
    }
    let timeout = fields.get("timeout").cloned().unwrap_or_else(|| "5m".into());
    let timeout = timeout.as_str().ok_or_else(|| "it is no text".to_string()).and_then(Duration::parse);
    let timeout = timeout.map_err(|why| invalid(format!("job: timeout: {why}")))?;
    fields.insert("timeout".to_string(), timeout.to_string().into());
    Ok(Value::Object(fields))
}

/// The fields of `update`: every one known, each of its type, and at least one that changes something.
fn fields(primitive: &Primitive, arg: &Dynamic) -> Result<Value, StepError> {
    let mut fields = object(primitive, "fields", arg)?;
    for (name, value) in &fields {
        let bad = |expected: &str| Err(invalid(format!("update: {name} must be {expected}, found {value}")));
        match name.as_str() {
            "image" if value.as_str().is_none_or(str::is_empty) => return bad("the name of an image"),
            "force" if !value.is_boolean() => return bad("true or false"),
            "env" | "labels" => texts(name, value)?,
            "limits" => limits(value)?,
            "image" | "force" => {}
            unknown => return Err(unknown_key("update", unknown, &UPDATE_FIELDS)),
        }
    }
    // What says nothing is left out, so that one meaning has one form.
    fields.retain(|_, value| *value != Value::Bool(false) && value.as_object().is_none_or(|map| !map.is_empty()));
    if fields.is_empty() {
        return Err(invalid(format!("update: nothing to change; name one of {}", UPDATE_FIELDS.join(", "))));
    }
    Ok(Value::Object(fields))
}

fn texts(field: &str, value: &Value) -> Result<(), StepError> {
    let Some(pairs) = value.as_object() else {
        return Err(invalid(format!("update: {field} must be a map of strings, found {value}")));
    };
    // The value of an environment variable may be a secret: the message names its type only.
    match pairs.iter().find(|(_, value)| !value.is_string() && !value.is_null()) {
        Some((name, value)) => Err(invalid(format!(
            "update: {field}.{name} must be a string, or () to remove it, found {}",
            match value {
                Value::Number(_) => "a number: write it in quotes",
                Value::Bool(_) => "a bool: write it in quotes",
                Value::Array(_) => "an array",
                _ => "a map",
            }
        ))),
        None => Ok(()),
    }
}

fn limits(value: &Value) -> Result<(), StepError> {
    let Some(limits) = value.as_object() else {
        return Err(invalid(format!("update: limits must be a map, found {value}")));
    };
    for (name, value) in limits {
        if !LIMIT_FIELDS.contains(&name.as_str()) {
            return Err(unknown_key("update: limits", name, &LIMIT_FIELDS));
        }
        if value.as_i64().is_none_or(|limit| limit < 0) {
            return Err(invalid(format!("update: limits.{name} must be a whole number, 0 for none, found {value}")));
        }
    }
    Ok(())
}

fn unknown_key(place: &str, wrong: &str, known: &[&str]) -> StepError {
    let hint = match nearest(wrong, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("there are {}", known.join(", ")),
    };
    invalid(format!("{place}: no field {wrong:?}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runbook::primitives::find;
    use crate::runbook::value::to_dynamic;
    use serde_json::json;

    fn call(name: &str, args: &Value) -> Result<Vec<Value>, StepError> {
        let mut args: Vec<Dynamic> = args.as_array().expect("an array").iter().map(to_dynamic).collect();
        let args: Vec<&mut Dynamic> = args.iter_mut().collect();
        canonical(find(name).expect(name), &args).map(|arguments| arguments.values)
    }

    #[test]
    fn a_call_has_one_form() {
        for (name, args, values) in [
            ("service", json!(["web"]), json!(["web"])),
            ("services", json!([]), json!([{}])),
            ("services", json!([{"b": "2", "a": "1"}]), json!([{"a": "1", "b": "2"}])),
            ("scale", json!(["web", 0]), json!(["web", 0])),
            ("sleep", json!(["90s"]), json!(["1m30s"])),
            ("sleep", json!(["0"]), json!(["0s"])),
            ("wait_healthy", json!(["web"]), json!(["web", "5m"])),
            ("wait_healthy", json!(["web", "120s"]), json!(["web", "2m"])),
            ("now", json!([]), json!([])),
            ("alerts", json!([]), json!([[]])),
            ("alerts", json!([{"b": "2", "a": "1"}]), json!([["a=\"1\"", "b=\"2\""]])),
            ("alerts", json!([["b =~ \"1|2\"", "a=1", "a = \"1\""]]), json!([["a=\"1\"", "b=~\"1|2\""]])),
            ("job", json!(["tools:1"]), json!(["tools:1", {"timeout": "5m"}])),
            (
                "job",
                json!(["tools:1", {"args": ["-v"], "timeout": "90s"}]),
                json!(["tools:1", {"args": ["-v"], "timeout": "1m30s"}]),
            ),
            ("remove_node", json!(["node4"]), json!(["node4", null])),
            ("remove_node", json!(["workers", "node4"]), json!(["workers", "node4"])),
            ("reload", json!(["proxy"]), json!(["proxy", null])),
            ("reload", json!(["proxy", null]), json!(["proxy", null])),
            ("reload", json!(["proxy", "web"]), json!(["proxy", "web"])),
            ("notify", json!([""]), json!([""])),
            (
                "update",
                json!(["web", {"image": "a:1", "env": {"A": "1", "B": null}, "labels": {}, "force": false}]),
                json!(["web", {"env": {"A": "1", "B": null}, "image": "a:1"}]),
            ),
            (
                "update",
                json!(["web", {"limits": {"nano_cpus": 5}, "force": true}]),
                json!(["web", {"force": true, "limits": {"nano_cpus": 5}}]),
            ),
        ] {
            assert_eq!(call(name, &args).map(Value::Array), Ok(values), "{name}{args}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        for (name, args, kind, says) in [
            ("service", json!([""]), "invalid", "name must be a name"),
            ("service", json!([7]), "invalid", "found an integer 7"),
            ("service", json!([null]), "invalid", "found ()"),
            (
                "scale",
                json!(["web", -1]),
                "invalid",
                "replicas must be a whole number that is not negative, found an integer -1",
            ),
            ("scale", json!(["web", 1.5]), "invalid", "found a number with a fraction 1.5"),
            ("scale", json!(["web", "3"]), "invalid", "found a string \"3\""),
            ("reload", json!(["proxy", ""]), "invalid", "service must be a name"),
            ("sleep", json!([90]), "invalid", "text such as \"90s\""),
            ("sleep", json!(["soon"]), "invalid", "\"soon\" is no duration"),
            ("wait_until", json!(["5m", true]), "invalid", "closure must be a closure"),
            ("services", json!([{"a": 1}]), "invalid", "the value of label \"a\" must be a string, found 1"),
            ("silence", json!([{}, "5m", "x"]), "empty", "would mean every alert"),
            ("silence", json!([["a=~("], "5m", "x"]), "invalid", "the matcher"),
            ("alerts", json!([7]), "invalid", "a map of labels or an array of matchers"),
            ("job", json!(["x", {"arg": []}]), "invalid", "did you mean \"args\"?"),
            ("job", json!(["x", {"args": "ls"}]), "invalid", "args must be an array of strings"),
            ("job", json!(["x", {"timeout": "soon"}]), "invalid", "timeout"),
            ("reschedule", json!([{}]), "empty", "would mean every service"),
            ("update", json!(["web", {"imgae": "x"}]), "invalid", "did you mean \"image\"?"),
            ("update", json!(["web", {"limits": {"cpus": 1}}]), "invalid", "limits: no field \"cpus\""),
            ("update", json!(["web", {"limits": {"nano_cpus": -1}}]), "invalid", "limits.nano_cpus must be"),
            (
                "update",
                json!(["web", {"env": {"A": 1}}]),
                "invalid",
                "env.A must be a string, or () to remove it, found a number",
            ),
            ("update", json!(["web", {"image": ""}]), "invalid", "image must be the name of an image"),
            ("update", json!(["web", {"force": "yes"}]), "invalid", "force must be true or false"),
            ("update", json!(["web", {"force": false}]), "invalid", "nothing to change"),
            ("update", json!(["web", "x"]), "invalid", "fields must be a map"),
        ] {
            let error = call(name, &args).expect_err(name);
            assert_eq!(error.kind, kind, "{name}{args}");
            assert!(error.message.contains(says), "{name}{args}: {}", error.message);
        }
    }
}
