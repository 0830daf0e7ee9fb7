//! How whoever reads a rendered file is told that it is new.

use super::http::HttpCall;
use super::program;
use super::signal::SignalCall;
use crate::config::DockerConfig;
use crate::config::reload::{HttpTarget, Socket, Then};
use crate::model::text::visible_lines;
use crate::ports::{ErrorReason, PortError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// How much of a socket's answer is read.
const ANSWER_BYTES: u64 = 16 * 1024;

pub struct Notice {
    how: How,
    timeout: Duration,
}

enum How {
    Http(HttpCall),
    Signal(SignalCall),
    Socket(Socket),
    Command(Vec<String>),
}

impl Notice {
    /// `key` is where it stands in the config. Errors (permanent) name it.
    pub fn new(key: &str, config: &Then, timeout: Duration, docker: &DockerConfig) -> Result<Self, PortError> {
        let how = match config {
            Then::Http(url) => {
                let target = HttpTarget { url: url.clone(), method: None, timeout: None };
                How::Http(HttpCall::new(key, &target, timeout)?)
            }
            Then::Signal(signal) => How::Signal(SignalCall::new(signal, docker)?),
            Then::Socket(socket) => How::Socket(socket.clone()),
            Then::Command(argv) => How::Command(argv.clone()),
        };
        Ok(Notice { how, timeout })
    }

    pub async fn send(&self, what: &str) -> Result<(), PortError> {
        match &self.how {
            How::Http(call) => call.send(what).await,
            How::Signal(call) => call.send(what).await,
            How::Socket(socket) => write_line(what, socket, self.timeout).await,
            How::Command(argv) => {
                let ended = program::run(what, argv, self.timeout).await?;
                if ended.status.success() {
                    return Ok(());
                }
                let (command, status, words) = (argv.join(" "), ended.status, ended.words);
                let message = format!("{what}: `{command}` failed ({status}). It said:\n{words}");
                Err(PortError::transient(ErrorReason::Refused, message))
            }
        }
    }
}

async fn write_line(what: &str, socket: &Socket, limit: Duration) -> Result<(), PortError> {
    let path = socket.path.display();
    let unreachable = |error: std::io::Error| {
        let message = format!("{what}: the socket {path}: {error}; does its program run?");
        PortError::transient(ErrorReason::Unreachable, message)
    };
    let talk = async {
        let mut stream = UnixStream::connect(&socket.path).await.map_err(unreachable)?;
        let line = format!("{}\n", socket.line);
        stream.write_all(line.as_bytes()).await.map_err(unreachable)?;
        stream.shutdown().await.map_err(unreachable)?;
        let mut answer = Vec::new();
        // A program that reads its configuration again may break the connection off: the line was taken.
        let _ = stream.take(ANSWER_BYTES).read_to_end(&mut answer).await;
        Ok(String::from_utf8_lossy(&answer).trim().to_string())
    };
    let answer = tokio::time::timeout(limit, talk).await.unwrap_or_else(|_| {
        let message = format!("{what}: the socket {path} did not end its answer within {limit:?}");
        Err(PortError::unknown(ErrorReason::Timeout, message))
    })?;
    // As HAProxy says that it knows no such line, that whoever asks may not, or that the new process did not start.
    let refusals = ["Unknown command", "Permission denied", "Success=0"];
    if refusals.iter().any(|words| answer.starts_with(words)) {
        let message = format!("{what}: the socket {path} refused. It said:\n{}", visible_lines(&answer, 2_000));
        return Err(PortError::transient(ErrorReason::Refused, message));
    }
    Ok(())
}
