//! Talks to a running server over its public API.

use crate::http::problem::Problem;
use crate::model::incident::IncidentId;
use anyhow::{Context, anyhow, bail};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the server is, and how to be let in.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// The server to ask [or the environment: RUNBOOKD_SERVER] [default: http://127.0.0.1:9095]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// A file with the server's bearer token [or the environment: RUNBOOKD_TOKEN_FILE, or the token itself: RUNBOOKD_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

// The environment is asked here: what clap reads from it, it lists among the arguments that a command was given too few of.
impl ServerArgs {
    fn server(&self) -> String {
        let set = || std::env::var("RUNBOOKD_SERVER").ok().filter(|set| !set.is_empty());
        self.server.clone().or_else(set).unwrap_or_else(|| "http://127.0.0.1:9095".to_string())
    }

    fn token_file(&self) -> Option<PathBuf> {
        self.token_file.clone().or_else(|| std::env::var_os("RUNBOOKD_TOKEN_FILE").map(PathBuf::from))
    }
}

/// Who commands.
#[derive(Clone, Debug, clap::Args)]
pub struct ByArgs {
    /// Who you are [default: USER or LOGNAME of the environment, else operator]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// A command to a server: who gives it, and why.
#[derive(Clone, Debug, clap::Args)]
pub struct CommandArgs {
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub by: ByArgs,
    #[command(flatten)]
    pub server: ServerArgs,
}

impl CommandArgs {
    pub async fn send<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        Client::new(&self.server)?.command(path, &self.by.name(), &self.reason).await
    }
}

/// A command about one incident.
#[derive(Clone, Debug, clap::Args)]
pub struct IncidentArgs {
    /// i42, or 42
    pub id: IncidentId,
    #[command(flatten)]
    pub command: CommandArgs,
}

impl ByArgs {
    pub fn name(&self) -> String {
        let user =
            || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
        self.by.clone().or_else(user).unwrap_or_else(|| "operator".to_string())
    }
}

/// The server's own answer to what it does not do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.detail)]
pub struct Refused(pub Problem);

/// A client of one server.
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Client {
    pub fn new(args: &ServerArgs) -> anyhow::Result<Self> {
        let token = match (args.token_file(), std::env::var("RUNBOOKD_TOKEN")) {
            (_, Ok(token)) if !token.trim().is_empty() => Some(token.trim().to_string()),
            (Some(file), _) => {
                let text = std::fs::read_to_string(&file)
                    .with_context(|| format!("the token cannot be read from {}", file.display()))?;
                Some(text.trim().to_string())
            }
            (None, _) => None,
        };
        Self::at(&args.server(), token)
    }

    pub fn at(base: &str, token: Option<String>) -> anyhow::Result<Self> {
        let base = base.trim_end_matches('/').to_string();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            bail!("{base} is no server; expected for example --server http://127.0.0.1:9095");
        }
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().context("the HTTP client cannot be made")?;
        Ok(Client { http, base, token })
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// Asks for `path`, which begins with a slash.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.send(self.http.request(Method::GET, format!("{}{path}", self.base))).await
    }

    /// As [`Client::get`], with parameters.
    pub async fn query<T: DeserializeOwned>(&self, path: &str, pairs: &[(&str, String)]) -> anyhow::Result<T> {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.base)).context("--server is no URL")?;
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        self.send(self.http.request(Method::GET, url)).await
    }

    /// Commands.
    pub async fn command<T: DeserializeOwned>(&self, path: &str, by: &str, reason: &str) -> anyhow::Result<T> {
        let body = json!({ "by": by, "reason": reason });
        self.send(self.http.request(Method::POST, format!("{}{path}", self.base)).json(&body)).await
    }

    /// Posts `body` as JSON.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> anyhow::Result<T> {
        self.send(self.http.request(Method::POST, format!("{}{path}", self.base)).json(body)).await
    }

    /// Posts a payload as Alertmanager does.
    pub async fn post_alerts(&self, payload: &'static str) -> anyhow::Result<Value> {
        let request = self.http.request(Method::POST, format!("{}/api/v1/alertmanager", self.base));
        self.send(request.header("Content-Type", "application/json").body(payload)).await
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return serde_json::from_slice(&body).with_context(|| {
                format!("{} answers, but not as this runbookd expects; are both of one release?", self.base)
            });
        }
        if status == StatusCode::UNAUTHORIZED {
            bail!("{} wants a token: name its file with --token-file, or set RUNBOOKD_TOKEN", self.base);
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(Refused(problem).into()),
            Err(_) => bail!("{} answers {status}; is it a runbookd?", self.base),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        if error.is_timeout() {
            return anyhow!("runbookd at {} did not answer within {} s", self.base, TIMEOUT.as_secs());
        }
        anyhow!(
            "no runbookd answers at {}: is it running? Start it with `runbookd serve`, or name it with --server URL",
            self.base
        )
    }
}

/// A path of these names, whatever is in them.
pub fn path_of(names: &[&str]) -> String {
    let mut url = reqwest::Url::parse("http://any/").expect("it is a URL");
    if let Ok(mut path) = url.path_segments_mut() {
        path.clear().extend(names);
    }
    url.path().to_string()
}

/// Prints an answer as it came.
pub fn print_json(value: &Value) {
    println!("{value:#}");
}
