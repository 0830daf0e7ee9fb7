//! Reloads by one HTTP request, such as Prometheus' `POST /-/reload`.

use crate::config::reload::HttpTarget;
use crate::ports::{ErrorReason, PortError};
use reqwest::{Client, Method, StatusCode, Url};
use std::time::Duration;

/// One request that can be sent again and again.
pub struct HttpCall {
    url: Url,
    method: Method,
    timeout: Duration,
    http: Client,
}

impl HttpCall {
    /// `key` is where it stands in the config. Errors (permanent) name it; the URL itself may hold a secret and is never told.
    pub fn new(key: &str, config: &HttpTarget, timeout: Duration) -> Result<Self, PortError> {
        let HttpTarget { url, method, .. } = config;
        let url = parse(&format!("{key}.http"), url)?;
        let method = method.as_deref().unwrap_or("POST");
        // reqwest takes any token; a misspelt one would only show at the first reload.
        let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"].contains(&method);
        let parsed = Method::from_bytes(method.as_bytes()).ok().filter(|_| known);
        let method = parsed.ok_or_else(|| {
            wrong(format!("{key}.method is {method:?}, expected GET, POST, PUT, PATCH, DELETE or HEAD"))
        })?;
        Ok(HttpCall { url, method, timeout, http: client()? })
    }

    /// Sends it; anything but an answer of 2xx is an error. `what` begins the message: "reload prometheus".
    pub async fn send(&self, what: &str) -> Result<(), PortError> {
        let status = send(&self.http, self.method.clone(), self.url.clone(), self.timeout, what).await?;
        judge(status, what)
    }
}

fn wrong(message: String) -> PortError {
    PortError::permanent(ErrorReason::Invalid, message)
}

/// An `http://` or `https://` URL. The error names `key` and never the URL.
pub fn parse(key: &str, url: &str) -> Result<Url, PortError> {
    let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| wrong(format!("{key} is no http:// or https:// URL")))
}

/// A redirect is no success: the reload would not have reached who it was meant for.
pub fn client() -> Result<Client, PortError> {
    // The client needs one; in `main` it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build();
    http.map_err(|error| wrong(format!("reload: the HTTP client cannot be made: {error}")))
}

/// The status of the answer, if there was one.
pub async fn send(
    http: &Client,
    method: Method,
    url: Url,
    timeout: Duration,
    what: &str,
) -> Result<StatusCode, PortError> {
    let answer = http.request(method, url).timeout(timeout).send().await;
    answer.map(|answer| answer.status()).map_err(|error| unanswered(&error, timeout, what))
}

/// The answer to a GET, its body with it; one of more than `most` bytes is an error.
pub async fn fetch(
    http: &Client,
    url: Url,
    timeout: Duration,
    most: usize,
    what: &str,
) -> Result<(StatusCode, Vec<u8>), PortError> {
    let broken = |error: reqwest::Error| unanswered(&error, timeout, what);
    let mut answer = http.get(url).timeout(timeout).send().await.map_err(broken)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > most {
            return Err(wrong(format!("{what}: the answer is longer than {most} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((answer.status(), body))
}

fn unanswered(error: &reqwest::Error, timeout: Duration, what: &str) -> PortError {
    let message = |how: &str| format!("{what}: {how}; is the address under `reload:` right?");
    if error.is_connect() {
        PortError::transient(ErrorReason::Unreachable, message("it cannot be reached"))
    } else if error.is_timeout() {
        PortError::unknown(ErrorReason::Timeout, message(&format!("no answer within {timeout:?}")))
    } else {
        PortError::unknown(ErrorReason::Unreachable, message("the connection broke"))
    }
}

/// 2xx is a reload, and nothing else is.
pub fn judge(status: StatusCode, what: &str) -> Result<(), PortError> {
    let message = format!("{what}: the answer was {status}, expected 2xx");
    match status.as_u16() {
        200..=299 => Ok(()),
        401 | 403 => Err(PortError::permanent(ErrorReason::Unauthorized, message)),
        404 => Err(PortError::permanent(ErrorReason::NotFound, message)),
        429 => Err(PortError::transient(ErrorReason::Throttled, message)),
        300..=499 => Err(PortError::permanent(ErrorReason::Refused, message)),
        _ => Err(PortError::transient(ErrorReason::Other, message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::ErrorKind::{self, Permanent, Transient, Unknown};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn reload(url: String, method: Option<&str>) -> Result<HttpCall, PortError> {
        let target = HttpTarget { url, method: method.map(str::to_string), timeout: None };
        HttpCall::new("reload.prometheus", &target, Duration::from_secs(5))
    }

    /// A target that gives one answer (`None`: none at all); returns what came and how the reload went.
    async fn asked(method: Option<&str>, answer: Option<&str>) -> (String, Result<(), PortError>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let answer =
            answer.map(|status| format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.expect("a request");
            if let Some(answer) = answer {
                stream.write_all(answer.as_bytes()).await.expect("answered");
            } else {
                // The paused clock runs to the time limit while the connection stays open.
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            String::from_utf8_lossy(&request[..count]).lines().next().unwrap_or_default().to_string()
        };
        let reload = reload(format!("http://{address}/-/reload?token=hush"), method).expect("a valid target");
        tokio::join!(server, reload.send("reload prometheus"))
    }

    #[tokio::test]
    async fn a_2xx_is_a_reload_and_nothing_else_is() {
        let check = async |status: &str, expected: Result<(), (ErrorKind, ErrorReason)>| {
            let (request, result) = asked(None, Some(status)).await;
            assert_eq!(request, "POST /-/reload?token=hush HTTP/1.1");
            if let Err(error) = &result {
                assert!(error.message.contains("prometheus") && !error.message.contains("hush"), "{error}");
            }
            assert_eq!(result.map_err(|error| (error.kind, error.reason)), expected, "{status}");
        };
        check("200 OK", Ok(())).await;
        check("204 No Content", Ok(())).await;
        check("302 Found", Err((Permanent, ErrorReason::Refused))).await;
        check("403 Forbidden", Err((Permanent, ErrorReason::Unauthorized))).await;
        check("404 Not Found", Err((Permanent, ErrorReason::NotFound))).await;
        check("500 Internal Server Error", Err((Transient, ErrorReason::Other))).await;
        assert_eq!(asked(Some("PUT"), Some("200 OK")).await.0, "PUT /-/reload?token=hush HTTP/1.1");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_unknown() {
        let error = asked(None, None).await.1.expect_err("no answer");
        assert_eq!((error.kind, error.reason), (Unknown, ErrorReason::Timeout), "{error}");
    }

    #[tokio::test]
    async fn a_target_that_is_not_there_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let reload = reload(format!("http://{address}/hush"), None).expect("a valid target");
        let error = reload.send("reload prometheus").await.expect_err("nobody there");
        assert_eq!((error.kind, error.reason), (Transient, ErrorReason::Unreachable));
        assert!(error.message.contains("prometheus") && !error.message.contains("hush"), "{error}");
    }

    #[test]
    fn a_wrong_target_is_refused_at_once() {
        for (http, method, expected) in [
            ("prometheus:9090/hush", None, "reload.prometheus.http"),
            ("ftp://prometheus/hush", None, "reload.prometheus.http"),
            ("http://prometheus/hush", Some("post"), "reload.prometheus.method is \"post\""),
        ] {
            let error = reload(http.to_string(), method).err().expect(http);
            assert!(error.message.contains(expected) && !error.message.contains("hush"), "{error}");
        }
    }
}
