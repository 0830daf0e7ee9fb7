//! Errors as people's programs read them: problem documents of RFC 9457.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What went wrong, as an answer. `detail` says how to mend it, and holds no secret and no body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:runbookd:problem:` and a word of a closed set.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// For a body that cannot be read: the place, both from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

impl Problem {
    fn new(status: StatusCode, word: &str, title: &str, detail: impl Into<String>) -> Self {
        Problem {
            kind: format!("urn:runbookd:problem:{word}"),
            title: title.to_string(),
            status: status.as_u16(),
            detail: detail.into(),
            line: None,
            column: None,
        }
    }

    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "The request cannot be read", detail)
    }

    pub fn at(mut self, line: usize, column: usize) -> Self {
        (self.line, self.column) = (Some(line), Some(column));
        self
    }

    pub fn unauthorized() -> Self {
        let detail = "send the token of `token_file` as \"Authorization: Bearer TOKEN\"";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "A valid bearer token is required", detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "This is not allowed", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such thing", detail)
    }

    pub fn wrong_method(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "This method is not offered here", detail)
    }

    pub fn too_slow(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "The request did not arrive in time", detail)
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "The command does not fit the state", detail)
    }

    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body is too large", detail)
    }

    pub fn wrong_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong_type", "The body has the wrong type", detail)
    }

    pub fn too_many(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", "Too many have asked, try again in a minute", detail)
    }

    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", "There is nothing that would do this", detail)
    }

    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "runbookd made a mistake", detail)
    }

    pub fn bad_gateway(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "cluster", "The cluster did not answer", detail)
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not possible now, try again", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, json!(self).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        if matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE) {
            // What is left of the body is not read: the connection is of no more use.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<crate::ports::JournalError> for Problem {
    fn from(error: crate::ports::JournalError) -> Self {
        Problem::unavailable(format!("the journal cannot be read: {error}"))
    }
}

impl From<crate::ports::PortError> for Problem {
    fn from(error: crate::ports::PortError) -> Self {
        Problem::bad_gateway(error.message)
    }
}

impl From<crate::app::CommandError> for Problem {
    fn from(error: crate::app::CommandError) -> Self {
        use crate::app::CommandError;
        match &error {
            CommandError::NotFound(_)
            | CommandError::NoRun(_)
            | CommandError::NoFreeze(_)
            | CommandError::NoRule(_) => Problem::not_found(error.to_string()),
            CommandError::Conflict(_) => Problem::conflict(error.to_string()),
            CommandError::Unavailable(_) | CommandError::Stopping => Problem::unavailable(error.to_string()),
        }
    }
}
