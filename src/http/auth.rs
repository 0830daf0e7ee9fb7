//! Who may speak to the API: whoever has the bearer token; on a loopback address without one, whoever is on this machine.

use crate::config::secret::{Secret, Secrets};
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
        scheme.eq_ignore_ascii_case(b"bearer ") && self.is(token.trim_ascii())
    }

    /// Is it this one?
    pub fn is(&self, sent: &[u8]) -> bool {
        let sent: [u8; 32] = Sha256::digest(sent).into();
        sent.ct_eq(&self.0).into()
    }
}

/// Who is let in where.
#[derive(Clone, Default)]
pub struct Keys {
    /// Opens everything. `None`: everybody who reaches the address may do everything.
    pub api: Option<Token>,
    /// Opens the hooks and nothing else.
    pub hooks: Option<Token>,
    /// What GitHub signs with.
    pub github: Option<Secret>,
    /// Tells a machine how to join the Swarm, and nothing else.
    pub join: Option<Token>,
}

impl Keys {
    pub fn new(secrets: &Secrets) -> Self {
        Keys {
            api: secrets.token.as_ref().map(Token::new),
            hooks: secrets.hooks_token.as_ref().map(Token::new),
            github: secrets.github_secret.clone(),
            join: secrets.join_token.as_ref().map(Token::new),
        }
    }

    /// May whoever sent these headers speak to the API?
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        self.api.as_ref().is_none_or(|token| token.admits(headers))
    }

    /// May whoever sent these headers post to the hooks? With a token of their own that one is needed, or the API's.
    pub fn admit_hook(&self, headers: &HeaderMap) -> bool {
        let hooks = self.hooks.as_ref();
        hooks.is_some_and(|token| token.admits(headers))
            || self.api.as_ref().map_or(hooks.is_none(), |token| token.admits(headers))
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
    if shared.keys.admit(request.headers()) { next.run(request).await } else { Problem::unauthorized().into_response() }
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
    fn the_token_of_the_hooks_opens_the_hooks_only_and_that_of_the_api_opens_both() {
        let token = |text: &str| Some(Token::new(&Secret::new(text)));
        // Whether the API, and whether the hooks, are open to: nobody's token, that of the hooks, that of the API.
        for (api, hooks, expect) in [
            (None, None, [(true, true), (true, true), (true, true)]),
            (None, token("hooks"), [(true, false), (true, true), (true, false)]),
            (token("api"), None, [(false, false), (false, false), (true, true)]),
            (token("api"), token("hooks"), [(false, false), (false, true), (true, true)]),
        ] {
            let keys = Keys { api, hooks, ..Keys::default() };
            for (sent, expect) in ["", "Bearer hooks", "Bearer api"].into_iter().zip(expect) {
                let mut headers = HeaderMap::new();
                headers.insert(header::AUTHORIZATION, sent.parse().expect("a header value"));
                assert_eq!((keys.admit(&headers), keys.admit_hook(&headers)), expect, "{sent:?}");
            }
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
