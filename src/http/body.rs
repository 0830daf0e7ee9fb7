//! Reads request bodies: bounded in size and in time, copied once.

use crate::http::problem::Problem;
use crate::http::shared::Shared;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Commands are a few words.
const COMMAND_LIMIT: usize = 64 * 1024;

/// Why a body was not read whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    TooLarge,
    TooSlow,
    /// The client went away or broke the protocol; with what hyper says of it.
    Broken(String),
}

/// The whole body, if it is at most `limit` bytes and arrives within the time limit.
pub async fn read(shared: &Shared, body: Body, limit: usize) -> Result<Arc<[u8]>, Unread> {
    let whole = tokio::time::timeout(shared.time_limit, collect(body, limit)).await;
    whole.unwrap_or(Err(Unread::TooSlow))
}

async fn collect(body: Body, limit: usize) -> Result<Arc<[u8]>, Unread> {
    let size = body.size_hint();
    // A declared length over the limit is refused before a byte of it is read.
    if size.lower() > limit as u64 {
        return Err(Unread::TooLarge);
    }
    let exact = size.exact().and_then(|size| usize::try_from(size).ok());
    let broken = |error: axum::Error| Unread::Broken(error.to_string());
    let mut chunks = body.into_data_stream();
    let first = match chunks.next().await {
        None => return Ok(Arc::from([])),
        Some(chunk) => chunk.map_err(broken)?,
    };
    if exact == Some(first.len()) {
        return Ok(Arc::from(&*first));
    }
    // The declared length is a promise of the client's: memory is taken as bytes arrive, doubling.
    let mut whole = Vec::with_capacity(exact.unwrap_or(0).clamp(first.len(), limit.min(1 << 20)));
    whole.extend_from_slice(&first);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(broken)?;
        if whole.len() + chunk.len() > limit {
            return Err(Unread::TooLarge);
        }
        whole.extend_from_slice(&chunk);
    }
    if whole.len() > limit { Err(Unread::TooLarge) } else { Ok(whole.into()) }
}

/// The same, with an answer for whoever sent too much or too slowly.
pub async fn read_up_to(shared: &Shared, body: Body, limit: usize) -> Result<Arc<[u8]>, Problem> {
    read(shared, body, limit).await.map_err(|unread| match unread {
        Unread::TooLarge => Problem::too_large(format!("the body is at most {limit} bytes")),
        Unread::TooSlow => Problem::too_slow(format!("a request must be whole within {:?}", shared.time_limit)),
        Unread::Broken(why) => Problem::malformed(why),
    })
}

/// The body of a command, as JSON. A web page cannot send this type to another origin without asking first, so it cannot command a server
/// that listens on loopback.
pub async fn command<T: DeserializeOwned>(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(Problem::wrong_type("send a JSON object with \"Content-Type: application/json\""));
    }
    let bytes = read_up_to(shared, body, COMMAND_LIMIT).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::malformed(error.to_string()).at(error.line(), error.column()))
}
