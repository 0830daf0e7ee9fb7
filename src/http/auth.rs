//! Who may speak to the API: whoever has the bearer token; on a loopback address without one, whoever is on this machine.

use crate::config::secret::Secret;
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The expected token, as its digest: comparing digests takes the same time whatever was sent, lengths included.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    pub fn new(secret: &Secret) -> Self {
        Token(Sha256::digest(secret.expose().as_bytes()).into())
    }

    /// Does the request carry it?
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return false };
        let Some((scheme, token)) = value.as_bytes().split_at_checked(7) else { return false };
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return false;
        }
        let sent: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
        sent.ct_eq(&self.0).into()
    }
}

/// Refuses an address that others can reach without a token, unless told to accept that.
pub fn may_listen(address: SocketAddr, has_token: bool, insecure: bool) -> Result<(), String> {
    if has_token || insecure || address.ip().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "{address} can be reached from other machines and no token is set, so anybody there could post alerts and change the cluster.\n\
         Mend it with one of:\n  \
         token_file: FILE    in runbookd.yaml (RUNBOOKD_TOKEN_FILE), a file with a long random string: `openssl rand -hex 32 > token`\n  \
         listen: 127.0.0.1:{port}    to be reached from this machine only\n  \
         --insecure    if something in front of runbookd already keeps strangers out",
        port = address.port()
    ))
}

/// The layer before everything under `/api/v1` but intake, which counts what it refuses itself.
pub async fn require(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if shared.admits(request.headers()) { next.run(request).await } else { Problem::unauthorized().into_response() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_token_is_admitted() {
        let token = Token::new(&Secret::new("correct horse"));
        let cases = [
            (Some("Bearer correct horse"), true),
            (Some("bearer correct horse"), true),
            (Some("Bearer  correct horse "), true),
            (Some("Bearer correct hors"), false),
            (Some("Bearer correct horse2"), false),
            (Some("Bearer"), false),
            (Some("Bearer "), false),
            (Some("Basic correct horse"), false),
            (Some("correct horse"), false),
            (None, false),
        ];
        for (sent, expect) in cases {
            let mut headers = HeaderMap::new();
            if let Some(sent) = sent {
                headers.insert(header::AUTHORIZATION, sent.parse().expect("a header value"));
            }
            assert_eq!(token.admits(&headers), expect, "{sent:?}");
        }
    }

    #[test]
    fn an_address_that_others_reach_needs_a_token_or_an_explicit_word() {
        let cases = [
            ("127.0.0.1:9095", false, false, true),
            ("[::1]:9095", false, false, true),
            ("0.0.0.0:9095", false, false, false),
            ("[::]:9095", false, false, false),
            ("10.0.0.4:9095", false, false, false),
            ("0.0.0.0:9095", true, false, true),
            ("0.0.0.0:9095", false, true, true),
        ];
        for (address, token, insecure, expect) in cases {
            let verdict = may_listen(address.parse().expect("an address"), token, insecure);
            assert_eq!(verdict.is_ok(), expect, "{address} token={token} insecure={insecure}");
            if let Err(message) = verdict {
                assert!(message.contains("token_file") && message.contains("--insecure"), "{message}");
            }
        }
    }
}
