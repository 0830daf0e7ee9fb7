//! Values on their way into and out of scripts: JSON to Rhai and back.

use rhai::{Dynamic, Map};
use serde_json::Value;

/// How deep a value that leaves a script may be nested: beyond it, walking the value could exhaust the stack of whoever reads it.
pub const MAX_DEPTH: usize = 64;

/// JSON as a script sees it: `null` is `()`, a whole number an integer, everything else what it is.
pub fn to_dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => Dynamic::from_array(items.iter().map(to_dynamic).collect()),
        Value::Object(fields) => {
            Dynamic::from_map(fields.iter().map(|(name, value)| (name.as_str().into(), to_dynamic(value))).collect())
        }
    }
}

/// A script's value as JSON. The error says what cannot be written as JSON: a function, a range, an infinite number, endless nesting.
pub fn to_json(value: &Dynamic) -> Result<Value, String> {
    convert(value, MAX_DEPTH)
}

fn convert(value: &Dynamic, depth: usize) -> Result<Value, String> {
    if depth == 0 {
        return Err(format!("a value nested more than {MAX_DEPTH} deep"));
    }
    // A captured variable is shared: look behind the sharing instead of copying all of it.
    if value.is_shared() {
        return match value.read_lock::<Dynamic>() {
            Some(inner) => convert(&inner, depth - 1),
            None => Err("a value in use elsewhere".to_string()),
        };
    }
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(flag) = value.as_bool() {
        return Ok(flag.into());
    }
    if let Ok(whole) = value.as_int() {
        return Ok(whole.into());
    }
    if let Ok(number) = value.as_float() {
        return serde_json::Number::from_f64(number).map(Value::Number).ok_or_else(|| format!("the number {number}"));
    }
    if let Ok(letter) = value.as_char() {
        return Ok(letter.to_string().into());
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(text.as_str().into());
    }
    if let Ok(items) = value.as_array_ref() {
        return items.iter().map(|item| convert(item, depth - 1)).collect::<Result<_, _>>().map(Value::Array);
    }
    if let Ok(fields) = value.as_map_ref() {
        return convert_map(&fields, depth).map(Value::Object);
    }
    Err(kind_of(value).to_string())
}

fn convert_map(fields: &Map, depth: usize) -> Result<serde_json::Map<String, Value>, String> {
    fields.iter().map(|(name, value)| Ok((name.to_string(), convert(value, depth - 1)?))).collect()
}

/// What a value is, as people say it: "a string", "an integer" …
pub fn kind_of(value: &Dynamic) -> &'static str {
    match value.type_name() {
        "()" => "()",
        "bool" => "a bool",
        "i64" => "an integer",
        "f64" => "a number with a fraction",
        "char" => "a character",
        "string" => "a string",
        "array" => "an array",
        "map" => "a map",
        "Fn" => "a function",
        name if name.contains("Range") => "a range",
        _ => "a value of another type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_survives_the_way_in_and_out() {
        for value in [
            json!(null),
            json!(true),
            json!(-7),
            json!(9_007_199_254_740_993_i64),
            json!(0.5),
            json!("grüße\u{0}"),
            json!([1, [2, "x"], {}]),
            json!({"b": {"c": [null]}, "a": ""}),
        ] {
            assert_eq!(to_json(&to_dynamic(&value)), Ok(value));
        }
    }

    #[test]
    fn what_json_cannot_say_is_refused_by_name() {
        let mut deep = Dynamic::UNIT;
        for _ in 0..=MAX_DEPTH {
            deep = Dynamic::from_array(vec![deep]);
        }
        let cases: [(Dynamic, &str); 4] = [
            (rhai::FnPtr::new("f").expect("a name").into(), "a function"),
            (Dynamic::from(0..3_i64), "a range"),
            (f64::INFINITY.into(), "the number inf"),
            (deep, "nested more than 64 deep"),
        ];
        for (value, says) in cases {
            let error = to_json(&value).expect_err("no JSON");
            assert!(error.contains(says), "{error}");
        }
    }
}
