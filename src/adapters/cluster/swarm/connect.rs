//! The way to Docker's API: bollard where its types lose nothing, plain JSON over the same socket where they do. Time limits, version and errors are settled here.

use crate::config::DockerConfig;
use crate::ports::{ErrorReason, PortError};
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use reqwest::{Certificate, Client, Identity, Method, StatusCode};
use serde_json::Value;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// The oldest API that this build speaks: that of Engine 20.10.
const OLDEST: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };

/// Both clients of one Docker endpoint. Nothing is sent before the first call.
pub struct Connection {
    /// Made by the first call that finds the socket: bollard refuses one that is not there yet.
    docker: OnceLock<Docker>,
    tls: Option<Tls>,
    http: Client,
    /// What URLs of `http` begin with.
    base: String,
    /// As configured, for errors.
    host: String,
    timeout: Duration,
    /// As negotiated; forgotten when the daemon goes away, since another one may come back.
    version: Mutex<Option<ClientVersion>>,
}

/// Paths of the certificates for TCP with TLS.
struct Tls {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

enum Transport<'a> {
    Unix(&'a str),
    Tcp(&'a str),
}

impl<'a> Transport<'a> {
    fn of(host: &'a str) -> Option<Self> {
        match host.split_once("://")? {
            ("unix", path) if path.starts_with('/') => Some(Transport::Unix(path)),
            ("tcp" | "http" | "https", address) if !address.is_empty() => {
                Some(Transport::Tcp(address.trim_end_matches('/')))
            }
            _ => None,
        }
    }
}

impl Connection {
    /// Prepares both clients. Errors (permanent): an address that is none, certificates that cannot be read.
    pub fn new(config: &DockerConfig) -> Result<Self, PortError> {
        // Both clients need one; in `main` it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (host, timeout) = (config.host.as_str(), config.timeout.std());
        let wrong = |what: &str, error: &dyn std::fmt::Display| {
            PortError::permanent(ErrorReason::Invalid, format!("docker.host {host}: {what}: {error}"))
        };
        let Some(transport) = Transport::of(host) else {
            return Err(wrong("no address", &"expected unix:///var/run/docker.sock or tcp://host:2376"));
        };
        let client = Client::builder().timeout(timeout).no_proxy();
        let (http, base, tls) = match (transport, &config.tls_dir) {
            (Transport::Unix(path), _) => (client.unix_socket(path), "http://docker".to_string(), None),
            (Transport::Tcp(address), None) => (client, format!("http://{address}"), None),
            (Transport::Tcp(address), Some(dir)) => {
                let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| dir.join(name));
                let roots = Certificate::from_pem_bundle(&read(&ca)?).map_err(|error| wrong("ca.pem", &error))?;
                let pair = [read(&cert)?, read(&key)?].concat();
                let identity = Identity::from_pem(&pair).map_err(|error| wrong("cert.pem and key.pem", &error))?;
                let client = client.tls_certs_only(roots).identity(identity);
                (client, format!("https://{address}"), Some(Tls { ca, cert, key }))
            }
        };
        // Where no CA certificates are installed it wants some, even for a socket, and only the cause says so.
        let http = http.build().map_err(|error| wrong("HTTP client", &chain(&error)))?;
        let (docker, host) = (OnceLock::new(), host.to_string());
        Ok(Connection { docker, tls, http, base, host, timeout, version: Mutex::default() })
    }

    /// bollard's client, for streams: whoever reads them sets the limits.
    pub fn docker(&self, what: &str) -> Result<Docker, PortError> {
        if let Some(docker) = self.docker.get() {
            return Ok(docker.clone());
        }
        // bollard counts in whole seconds; the exact limit is set around each call.
        let secs = self.timeout.as_secs().saturating_add(1);
        let made = match (Transport::of(&self.host), &self.tls) {
            (Some(Transport::Tcp(address)), None) => Docker::connect_with_http(address, secs, API_DEFAULT_VERSION),
            (Some(Transport::Tcp(address)), Some(Tls { ca, cert, key })) => {
                Docker::connect_with_ssl(address, key, cert, ca, secs, API_DEFAULT_VERSION)
            }
            (_, _) => Docker::connect_with_unix(&self.host, secs, API_DEFAULT_VERSION),
        };
        let docker = made.map_err(|error| self.unreachable(what, &error))?;
        Ok(self.docker.get_or_init(|| docker).clone())
    }

    /// A reading call by bollard.
    pub async fn read<T, F>(&self, what: &str, call: impl FnOnce(Docker) -> F) -> Result<T, PortError>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        use bollard::errors::Error;
        let call = call(self.docker(what)?);
        let error = match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(Error::DockerResponseServerError { status_code, message })) => {
                let status = StatusCode::from_u16(status_code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                answer_error(&self.host, what, status, &message, false)
            }
            Err(_) | Ok(Err(Error::RequestTimeoutError)) => {
                let message = format!("{what}: Docker at {} did not answer within {:?}", self.host, self.timeout);
                PortError::transient(ErrorReason::Timeout, message)
            }
            Ok(Err(error)) => self.unreachable(what, &error),
        };
        Err(self.noted(error))
    }

    /// GET of plain JSON. `path` begins with `/` and has no version.
    pub async fn get(&self, what: &str, path: &str) -> Result<Value, PortError> {
        self.call(what, Method::GET, path, None).await
    }

    /// POST of plain JSON; an answer that does not come, or is broken off, is `Unknown`.
    pub async fn post(&self, what: &str, path: &str, body: &Value) -> Result<Value, PortError> {
        self.call(what, Method::POST, path, Some(body)).await
    }

    async fn call(&self, what: &str, method: Method, path: &str, body: Option<&Value>) -> Result<Value, PortError> {
        let writes = body.is_some();
        let ClientVersion { major_version, minor_version } = self.version().await?;
        let url = format!("{}/v{major_version}.{minor_version}{path}", self.base);
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let received = match request.send().await {
            Ok(response) => {
                let status = response.status();
                response.bytes().await.map(|bytes| (status, bytes))
            }
            Err(error) => Err(error),
        };
        let (status, bytes) = received.map_err(|error| self.noted(self.transport_error(what, &error, writes)))?;
        if !status.is_success() {
            let told = serde_json::from_slice::<Value>(&bytes).ok();
            let message = told.as_ref().and_then(|told| told["message"].as_str()).unwrap_or("no reason given");
            return Err(self.noted(answer_error(&self.host, what, status, message, writes)));
        }
        // A change of a node is answered by nothing.
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            let message = format!("{what}: Docker at {} answered {status} with no JSON: {error}", self.host);
            match writes {
                true => PortError::unknown(ErrorReason::Other, message),
                false => PortError::transient(ErrorReason::Other, message),
            }
        })
    }

    /// The newest API version that both sides speak.
    async fn version(&self) -> Result<ClientVersion, PortError> {
        if let Some(version) = *self.known() {
            return Ok(version);
        }
        let negotiated = self.read("negotiate the API version", Docker::negotiate_version).await?;
        let version = negotiated.client_version();
        if version < OLDEST {
            let message = format!(
                "Docker at {} speaks API {version} at most; runbookd needs {OLDEST} (Docker Engine 20.10) or newer",
                self.host
            );
            return Err(PortError::permanent(ErrorReason::Invalid, message));
        }
        *self.known() = Some(version);
        Ok(version)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<ClientVersion>> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever answers after this may be another daemon.
    fn noted(&self, error: PortError) -> PortError {
        if matches!(error.reason, ErrorReason::Unreachable | ErrorReason::Timeout | ErrorReason::Invalid) {
            *self.known() = None;
        }
        error
    }

    fn transport_error(&self, what: &str, error: &reqwest::Error, writes: bool) -> PortError {
        if error.is_connect() {
            return self.unreachable(what, error);
        }
        let (reason, how) = match error.is_timeout() {
            true => (ErrorReason::Timeout, format!("no answer within {:?}", self.timeout)),
            false => (ErrorReason::Unreachable, format!("the connection broke: {}", chain(error))),
        };
        let message = format!("{what}: Docker at {}: {how}", self.host);
        match writes {
            true => PortError::unknown(reason, message),
            false => PortError::transient(reason, message),
        }
    }

    fn unreachable(&self, what: &str, error: &(dyn std::error::Error + 'static)) -> PortError {
        let message = format!("{what}: Docker at {} cannot be reached: {}", self.host, chain(error));
        PortError::transient(ErrorReason::Unreachable, message)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PortError> {
    std::fs::read(path).map_err(|error| {
        let message = format!("docker.tls_dir: {} cannot be read: {error}", path.display());
        PortError::permanent(ErrorReason::Invalid, message)
    })
}

/// What an answer that is no success means. Docker's words are kept: they name the service and the cause.
fn answer_error(host: &str, what: &str, status: StatusCode, told: &str, writes: bool) -> PortError {
    let message = |hint: &str| format!("{what}: Docker at {host} answered {}: {told}{hint}", status.as_u16());
    if told.contains("update out of sequence") {
        // Comes as a 500.
        return PortError::transient(ErrorReason::Conflict, message(" (another hand was faster)"));
    }
    // It was refused before anything was done.
    let unmanaged = ["not a swarm manager", "not part of a swarm", "does not have a leader", "needs to be unlocked"];
    if unmanaged.iter().any(|words| told.contains(words)) {
        let hint = "; point docker.host at a healthy Swarm manager";
        return PortError::transient(ErrorReason::Unreachable, message(hint));
    }
    match status.as_u16() {
        404 => PortError::permanent(ErrorReason::NotFound, message("")),
        401 | 403 => PortError::permanent(ErrorReason::Unauthorized, message("")),
        409 => PortError::transient(ErrorReason::Conflict, message("")),
        429 => PortError::transient(ErrorReason::Throttled, message("")),
        400..=499 => PortError::permanent(ErrorReason::Invalid, message("")),
        _ if writes => PortError::unknown(ErrorReason::Other, message("")),
        _ => PortError::transient(ErrorReason::Other, message("")),
    }
}

/// An error with all that caused it: the outermost alone says only "client error (Connect)".
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(error), |error| error.source()) {
        let told = cause.to_string();
        if !words.iter().any(|word| word.contains(&told)) {
            words.push(told);
        }
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::ErrorKind::{self, Permanent, Transient, Unknown};
    use crate::ports::ErrorReason::*;

    #[test]
    fn docker_s_answers_say_whether_to_try_again() {
        let check = |status: u16, told: &str, reading: (ErrorKind, ErrorReason), writing: (ErrorKind, ErrorReason)| {
            for (writes, expected) in [(false, reading), (true, writing)] {
                let status = StatusCode::from_u16(status).expect("a status");
                let error = answer_error("unix:///d.sock", "scale web", status, told, writes);
                assert_eq!((error.kind, error.reason), expected, "{status} {told}");
                assert!(error.message.contains(told) && error.message.contains("scale web"), "{error}");
            }
        };
        let both = |status, told, expected| check(status, told, expected, expected);
        both(500, "rpc error: code = Unknown desc = update out of sequence", (Transient, Conflict));
        both(404, "service nobody not found", (Permanent, NotFound));
        both(503, "This node is not a swarm manager. Use \"docker swarm init\"", (Transient, Unreachable));
        both(406, "This node is not part of a swarm", (Transient, Unreachable));
        both(500, "rpc error: The swarm does not have a leader.", (Transient, Unreachable));
        both(400, "Number of replicas must be non-negative", (Permanent, Invalid));
        both(403, "no", (Permanent, Unauthorized));
        check(500, "rpc error: context deadline exceeded", (Transient, Other), (Unknown, Other));
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_out_of_reach_and_nothing_was_done() {
        let dir = tempfile::tempdir().expect("a directory");
        let host = format!("unix://{}/none.sock", dir.path().display());
        let connection = Connection::new(&DockerConfig { host, ..DockerConfig::default() }).expect("an address");
        let body = Value::Null;
        let error = connection.post("scale web", "/services/x/update", &body).await.expect_err("nobody there");
        assert_eq!((error.kind, error.reason), (Transient, Unreachable), "{error}");
        assert!(error.message.contains("none.sock"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_says_nothing_is_given_up_in_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deaf.sock");
        let _listener = tokio::net::UnixListener::bind(&path).expect("bound");
        let host = format!("unix://{}", path.display());
        let connection = Connection::new(&DockerConfig { host, ..DockerConfig::default() }).expect("an address");
        *connection.known() = Some(OLDEST);
        let error = connection.get("read web", "/services/web").await.expect_err("silence");
        assert_eq!((error.kind, error.reason), (Transient, Timeout), "{error}");
        *connection.known() = Some(OLDEST);
        let error = connection.post("scale web", "/services/web/update", &Value::Null).await.expect_err("silence");
        assert_eq!((error.kind, error.reason), (Unknown, Timeout), "{error}");
        assert_eq!(*connection.known(), None, "the next call negotiates again");
    }

    #[test]
    fn a_wrong_address_or_a_missing_certificate_is_named() {
        let check = |host: &str, tls_dir: Option<&str>, expected: &str| {
            let tls_dir = tls_dir.map(Into::into);
            let config = DockerConfig { host: host.into(), tls_dir, ..DockerConfig::default() };
            let error = Connection::new(&config).err().expect(host);
            assert_eq!((error.kind, error.reason), (Permanent, Invalid));
            assert!(error.message.contains(expected), "{error}");
        };
        check("/var/run/docker.sock", None, "expected unix:///var/run/docker.sock");
        check("unix://docker.sock", None, "expected unix:///var/run/docker.sock");
        check("ssh://manager", None, "expected unix:///var/run/docker.sock");
        check("tcp://manager:2376", Some("/nonexistent"), "ca.pem");
    }
}
