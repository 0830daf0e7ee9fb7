//! Drop-in doors: the addresses, parameters and answers of the programs that Docker Flow stacks are made of, so that such a stack need only be pointed
//! here. What they ask for becomes events for rules with `on: manual` (or `swarm`), on the ordinary path with all guards: the answer says that it is
//! journalled, not that it is done.
//!
//! Off unless `doors.enabled`. The originals ask for no token; here the rule of the API holds.

pub mod jenkins;
pub mod scaler;
pub mod swarm_listener;

use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::model::event::{Event, On};
use crate::model::label::Labels;
use axum::extract::{Query, Request};
use axum::http::{HeaderMap, Uri};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Replicas or nodes that can be asked for at once. More is a slip, whatever the bounds allow.
const MOST: u32 = 100;
/// Bytes of a service's name; Docker's own limit is 63.
const MAX_NAME: usize = 63;

/// What answers in the place of a closed door.
pub async fn closed(request: Request) -> Problem {
    Problem::not_found(format!(
        "{} is an address of a Docker Flow stack, and those are closed: doors.enabled: true in runbookd.yaml opens them",
        request.uri().path()
    ))
}

/// May this request come in? `token`: one that was sent in the address, where the original had it there.
fn admit(shared: &Shared, headers: &HeaderMap, token: Option<&str>) -> Result<(), Problem> {
    // The originals take requests that any web page can send, and on loopback without a token a page in somebody's browser would be let in.
    let from_a_page = ["sec-fetch-site", "origin"].iter().any(|name| headers.contains_key(*name));
    if from_a_page {
        return Err(Problem::forbidden("this address is for programs, and the request comes from a web page"));
    }
    let in_address = |token: &str| shared.keys.api.as_ref().is_some_and(|key| key.is(token.as_bytes()));
    if shared.keys.admit(headers) || token.is_some_and(in_address) {
        return Ok(());
    }
    Err(Problem::unauthorized())
}

/// The parameters of an address; of two with one name the later counts, and unknown ones are let through, as the originals do.
fn parameters(uri: &Uri) -> Result<BTreeMap<String, String>, Problem> {
    match Query::<Vec<(String, String)>>::try_from_uri(uri) {
        Ok(Query(pairs)) => Ok(pairs.into_iter().collect()),
        // Not the library's words: they can quote the address, and a token stands in it.
        Err(_) => Err(Problem::malformed("the query string cannot be read")),
    }
}

/// The name of a service, as Docker accepts them.
fn service(name: &str) -> Result<&str, Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(plain) {
        return Ok(name);
    }
    Err(Problem::malformed(format!("{:?} is no name of a service", crate::model::text::cut(name, 100))))
}

/// How many, from 1.
fn count(name: &str, text: &str) -> Result<u32, Problem> {
    let count = text.trim().parse().ok().filter(|count| (1..=MOST).contains(count));
    count.ok_or_else(|| {
        let text = crate::model::text::cut(text, 30);
        Problem::malformed(format!("{name} is {text:?}; expected a whole number from 1 to {MOST}"))
    })
}

/// What somebody asks for through a door; pairs without a value are left out.
fn asked(pairs: &[(&str, &str)], at: Timestamp) -> Event {
    let labels: Labels = pairs.iter().copied().filter(|(_, value)| !value.is_empty()).collect();
    Event::new(On::Manual, labels, at)
}
