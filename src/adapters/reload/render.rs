//! Templates, rendered from what is live. A value gets into the text as a plain word or through a filter that makes one word of it; anything else is an
//! error, so that no label of a service can write configuration.

use super::live::{Live, LiveService};
use super::routes::{Routing, port, servers};
use super::{alerts, words};
use crate::model::text::{cut, visible};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// Work that one rendering may do: an instruction each, and about 64 bytes of text each.
const FUEL: u64 = 2_000_000;
/// Macros within macros.
const DEPTH: usize = 50;

/// Renders the text of a template; `file` names it in errors. The error is for people: where, which value of which label, and why.
pub fn render(file: &str, text: &str, live: &Arc<Live>) -> Result<String, String> {
    let environment = environment(live);
    let told = |error: &Error| explain(file, error, live);
    let template = environment.template_from_named_str(file, text).map_err(|error| told(&error))?;
    template.render(shown(&**live)).map_err(|error| told(&error))
}

fn environment(live: &Arc<Live>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    // A line that holds only a block leaves nothing behind.
    let mut syntax = SyntaxConfig::builder();
    let syntax = syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    environment.set_syntax(syntax.expect("the usual delimiters"));
    // What a macro or a block has written was made of words already: it counts as safe where there is any escaping.
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("word".into()));
    environment.set_formatter(write_word);
    let filters: [(&'static str, Filter); 6] = [
        ("word", words::plain),
        ("name", words::name),
        ("port", words::port),
        ("duration", words::duration),
        ("haproxy_word", words::haproxy),
        ("nginx_word", words::nginx),
    ];
    for (name, filter) in filters {
        environment.add_filter(name, move |value: Value| word(filter, &value));
    }
    // JSON is YAML.
    environment.add_filter("json", json);
    environment.add_filter("yaml", json);
    environment.add_function("fail", |why: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, visible(&why, 500)))
    });
    let known = live.clone();
    environment
        .add_function("alerts", move |service: Value| alerts::of(of(&known, &service)?).map(shown).map_err(invalid));
    let known = live.clone();
    environment.add_function("servers", move |service: Value, label: String| {
        let service = of(&known, &service)?;
        let port = port(service, &label).map_err(invalid)?;
        let (servers, dns) = servers(&known, service, port);
        Ok::<_, Error>(minijinja::context! { port, servers => shown(servers), dns })
    });
    let known = live.clone();
    environment.add_function("routing", move || Routing::of(&known).map(shown).map_err(invalid));
    environment
}

type Filter = fn(&str) -> Result<String, words::Unfit>;

fn shown(value: impl Serialize) -> Value {
    Value::from(Serde(value))
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// The live service that a value of a template is.
fn of<'a>(live: &'a Live, service: &Value) -> Result<&'a LiveService, Error> {
    let name = service.get_attr("name")?;
    let found = name.as_str().and_then(|name| live.service(name));
    found.ok_or_else(|| invalid("expected one of `services`".to_string()))
}

/// A value that cannot be written, and why.
#[derive(Debug)]
struct Unwritable {
    value: String,
    why: words::Unfit,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", cut(&self.value, 100), self.why)
    }
}

impl std::error::Error for Unwritable {}

fn unwritable(value: &Value, why: impl Into<words::Unfit>) -> Error {
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    Error::new(ErrorKind::InvalidOperation, "a value cannot be written")
        .with_source(Unwritable { value, why: why.into() })
}

fn text_of(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_string()),
        ValueKind::Number | ValueKind::Bool => Ok(value.to_string()),
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        kind => Err(unwritable(value, format!("is a {kind}, expected text or a number"))),
    }
}

fn word(filter: Filter, value: &Value) -> Result<Value, Error> {
    let word = filter(&text_of(value)?).map_err(|why| unwritable(value, why))?;
    Ok(Value::from_safe_string(word))
}

fn json(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let value = serde_json::to_value(value).map_err(|error| unwritable(value, error.to_string()))?;
    Ok(Value::from_safe_string(words::json(&value)))
}

/// What `{{ … }}` writes.
fn write_word(out: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    let text = match value.is_safe() {
        true => value.as_str().unwrap_or_default().to_string(),
        false => words::plain(&text_of(value)?).map_err(|why| unwritable(value, why))?,
    };
    out.write_str(&text).map_err(Error::from)
}

/// An error with its place, and with the labels that the value comes from.
fn explain(file: &str, error: &Error, live: &Live) -> String {
    let place = error.line().map_or(file.to_string(), |line| format!("{file}:{line}"));
    let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let Some(unwritable) = causes.find_map(|cause| cause.downcast_ref::<Unwritable>()) else {
        let detail =
            error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
        return format!("{place}: {}", visible(&detail, 1_000));
    };
    let sources = live.sources(&unwritable.value);
    let sources = if sources.is_empty() { "a value".to_string() } else { sources.join(", ") };
    format!("{place}: {sources}: {}", visible(&unwritable.to_string(), 500))
}
