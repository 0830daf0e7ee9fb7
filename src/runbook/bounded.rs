//! Functions of Rhai's library whose result one call could make too large for memory, replaced by ones that look first.
//!
//! Rhai checks the size of a value after a function returned it. That is enough where a result is at most a few times as large as
//! its arguments, and too late for these: 64 KiB of text whose every character is replaced by 64 KiB of text is 4 GiB.

use super::session::Session;
use super::{budget, sandbox};
use rhai::{
    Array, Dynamic, EvalAltResult, FuncRegistration, INT, ImmutableString, Module, NativeCallContext, Position,
};

type Thrown = Box<EvalAltResult>;

pub fn replace_unbounded(library: &mut Module) {
    let replace = || FuncRegistration::new("replace");
    replace().set_into_module(library, |text: &mut ImmutableString, find: &str, by: &str| replaced(text, find, by));
    replace().set_into_module(library, |text: &mut ImmutableString, find: &str, by: char| {
        replaced(text, find, by.encode_utf8(&mut [0; 4]))
    });
    replace().set_into_module(library, |text: &mut ImmutableString, find: char, by: &str| {
        replaced(text, find.encode_utf8(&mut [0; 4]), by)
    });
    replace().set_into_module(library, |text: &mut ImmutableString, find: char, by: char| {
        replaced(text, find.encode_utf8(&mut [0; 4]), by.encode_utf8(&mut [0; 4]))
    });
    FuncRegistration::new("pad").set_into_module(library, pad);
}

/// Replaces in place, as Rhai's own does.
fn replaced(text: &mut ImmutableString, find: &str, by: &str) -> Result<(), Thrown> {
    let found = text.matches(find).count();
    let size = (text.len() - found * find.len()).saturating_add(found.saturating_mul(by.len()));
    if size > sandbox::MAX_TEXT_BYTES {
        return Err(EvalAltResult::ErrorDataTooLarge("Length of string".to_string(), Position::NONE).into());
    }
    *text = text.replace(find, by).into();
    Ok(())
}

/// Lengthens an array with copies of an item. Rhai's own counts neither what a function pointer carries nor what the copies hold in memory.
fn pad(context: NativeCallContext, array: &mut Array, length: INT, item: Dynamic) -> Result<(), Thrown> {
    let length = usize::try_from(length).unwrap_or(0);
    if length > sandbox::MAX_ARRAY_ITEMS {
        return Err(EvalAltResult::ErrorDataTooLarge("Size of array".to_string(), context.call_position()).into());
    }
    while array.len() < length {
        array.push(item.clone());
        if budget::exceeded() {
            // Not left to the next operation: there may be none, and the script would end well with half an array.
            return Err(sandbox::out_of_memory(Session::of(&context).as_ref()));
        }
    }
    Ok(())
}
