//! Why a script failed, in words and with the place: Rhai's errors, unwrapped.

use super::evaluate::{Failure, FailureKind};
use super::primitives;
use super::sandbox;
use super::session::shortened;
use super::value::{kind_of, to_json};
use rhai::{Dynamic, EvalAltResult, Position};
use serde_json::Value;

/// Longest message of a failure, in bytes.
const MAX_MESSAGE_BYTES: usize = 2_000;

/// The failure that an uncaught error is, with the innermost place known. `main` is the file of the outermost call.
pub fn of(error: &EvalAltResult, main: &str) -> Failure {
    let mut file = main.to_string();
    let mut place = error.position();
    let mut inner = error;
    loop {
        match inner {
            EvalAltResult::ErrorInFunctionCall(_, source, cause, _) => {
                if !cause.position().is_none() {
                    place = cause.position();
                    if !source.is_empty() {
                        file.clone_from(source);
                    }
                }
                inner = cause;
            }
            EvalAltResult::ErrorInModule(name, cause, _) => {
                if !cause.position().is_none() {
                    place = cause.position();
                    if !name.is_empty() {
                        file = sandbox::module_file(name);
                    }
                }
                inner = cause;
            }
            _ => break,
        }
    }
    let kind = match inner {
        EvalAltResult::ErrorTooManyOperations(..)
        | EvalAltResult::ErrorTooManyVariables(..)
        | EvalAltResult::ErrorTooManyModules(..)
        | EvalAltResult::ErrorStackOverflow(..)
        | EvalAltResult::ErrorDataTooLarge(..) => FailureKind::Limit,
        _ => FailureKind::Script,
    };
    Failure {
        kind,
        message: shortened(&message(inner), MAX_MESSAGE_BYTES),
        file,
        line: place.line().unwrap_or(0),
        column: place.position().unwrap_or(0),
    }
}

fn message(error: &EvalAltResult) -> String {
    match error {
        EvalAltResult::ErrorTooManyOperations(_) => {
            format!("the script does more than {} operations: is there an endless loop?", sandbox::MAX_OPERATIONS)
        }
        EvalAltResult::ErrorStackOverflow(_) => {
            format!(
                "functions call each other more than {} deep: is there an endless recursion?",
                sandbox::MAX_CALL_DEPTH
            )
        }
        EvalAltResult::ErrorDataTooLarge(what, _) => format!(
            "{} too large: a value may hold {} KiB of text, {} array elements and {} map entries in all",
            what.to_lowercase().replace("array/blob", "array"),
            sandbox::MAX_TEXT_BYTES / 1024,
            sandbox::MAX_ARRAY_ITEMS,
            sandbox::MAX_MAP_ENTRIES
        ),
        EvalAltResult::ErrorTooManyVariables(_) => {
            format!("more than {} variables at a time", sandbox::MAX_VARIABLES)
        }
        EvalAltResult::ErrorPropertyNotFound(name, _) => {
            format!(
                "there is no {name:?} here; ask first, as in `if {name:?} in labels`, or use `labels.get({name:?})`, which is () then"
            )
        }
        EvalAltResult::ErrorFunctionNotFound(signature, _) => unknown_function(signature),
        EvalAltResult::ErrorRuntime(value, _) => thrown(value),
        other => {
            // Rhai's own words, without its place: the place is told apart.
            let text = other.to_string();
            let end = match other.position() {
                Position::NONE => text.len(),
                position => text.rfind(&format!(" ({position})")).unwrap_or(text.len()),
            };
            text[..end].to_string()
        }
    }
}

fn unknown_function(signature: &str) -> String {
    let name = signature.split([' ', '(']).next().unwrap_or(signature);
    match primitives::find(name) {
        Some(primitive) => format!("{signature}: wrong number of arguments; it is {}", primitive.signature),
        None => format!("there is no function {signature}"),
    }
}

/// What a script threw: an error of a primitive, text, or any value.
fn thrown(value: &Dynamic) -> String {
    match to_json(value) {
        Ok(Value::String(text)) => text,
        Ok(Value::Null) => "the script threw ()".to_string(),
        Ok(Value::Object(fields)) => match (fields.get("kind"), fields.get("message")) {
            (Some(Value::String(kind)), Some(Value::String(message))) => format!("{kind}: {message}"),
            (None, Some(Value::String(message))) => message.clone(),
            _ => Value::Object(fields).to_string(),
        },
        Ok(value) => value.to_string(),
        Err(_) => format!("the script threw {}", kind_of(value)),
    }
}
