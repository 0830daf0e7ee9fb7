//! Programs that the config names, run without a shell, for a limited time, and heard to a limited extent.

use crate::model::text::visible_lines;
use crate::ports::{ErrorReason, PortError};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// How much is kept of what a program says, and how much of that is told.
const KEPT_BYTES: usize = 16 * 1024;
const TOLD_CHARS: usize = 2_000;
/// How long what it said is waited for once it has ended: whatever it left running may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// All that a program sees of the environment, where secrets may be.
const ENVIRONMENT: [&str; 2] = ["PATH", "HOME"];

/// How a program ended.
pub struct Ended {
    pub status: ExitStatus,
    /// What it wrote to standard error and standard output, fit to be shown.
    pub words: String,
}

/// Runs it to its end. Errors: it cannot be started (permanent), or does not end in time and is killed (`Timeout`, unknown).
pub async fn run(what: &str, argv: &[String], limit: Duration) -> Result<Ended, PortError> {
    let (program, arguments) = argv.split_first().unwrap_or((&argv[0], &[]));
    let mut command = Command::new(program);
    let environment = ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.args(arguments).env_clear().envs(environment).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        let message = format!("{what}: {program:?} cannot be run: {error}; is it installed where runbookd runs?");
        PortError::permanent(ErrorReason::Invalid, message)
    })?;
    let said: [Said; 2] = Default::default();
    let ears = [
        child.stderr.take().map(|pipe| listen(pipe, &said[0])),
        child.stdout.take().map(|pipe| listen(pipe, &said[1])),
    ];
    let ended = tokio::time::timeout(limit, child.wait()).await;
    let heard = async {
        for ear in ears.into_iter().flatten() {
            let _ = ear.await;
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, heard).await;
    let words = said.iter().map(|said| {
        let said = said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).trim().to_string()
    });
    let words = words.filter(|words| !words.is_empty()).collect::<Vec<_>>().join("\n");
    let words = visible_lines(&words, TOLD_CHARS);
    match ended {
        Ok(Ok(status)) => Ok(Ended { status, words }),
        Ok(Err(error)) => {
            Err(PortError::unknown(ErrorReason::Other, format!("{what}: {program:?} cannot be waited for: {error}")))
        }
        Err(_) => {
            let message = format!("{what}: {program:?} did not end within {limit:?} and was killed. It said: {words}");
            Err(PortError::unknown(ErrorReason::Timeout, message))
        }
    }
}

type Said = Arc<Mutex<Vec<u8>>>;

/// Keeps the beginning of what is said, and goes on listening: a program must not stop because nobody reads it.
fn listen(mut pipe: impl AsyncRead + Unpin + Send + 'static, said: &Said) -> tokio::task::JoinHandle<()> {
    let said = said.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            let room = KEPT_BYTES - said.len();
            said.extend_from_slice(&buffer[..count.min(room)]);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::ErrorKind;

    async fn ran(script: &str, limit: Duration) -> Result<Ended, PortError> {
        let argv = ["sh", "-c", script].map(String::from);
        run("check x", &argv, limit).await
    }

    #[tokio::test]
    async fn what_a_program_says_is_kept_to_an_extent() {
        let long = Duration::from_secs(60);
        let ended = ran("echo fine; echo '[ALERT] line 3' >&2; exit 3", long).await.expect("it ends");
        assert_eq!((ended.status.code(), ended.words.as_str()), (Some(3), "[ALERT] line 3\nfine"));
        let ended = ran("head -c 1000000 /dev/zero | tr '\\0' x", long).await.expect("it is read to its end");
        assert!(ended.status.success());
        assert_eq!(ended.words.chars().count(), TOLD_CHARS);
        let ended = ran("sleep 60 & echo left one behind", long).await.expect("it is not waited for");
        assert_eq!(ended.words, "left one behind");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_or_is_not_there_is_an_error() {
        let error = ran("echo begun; exec sleep 60", Duration::from_millis(300)).await.err().expect("it does not end");
        assert_eq!((error.kind, error.reason), (ErrorKind::Unknown, ErrorReason::Timeout), "{error}");
        let error = run("check x", &["no-such-program".into()], Duration::from_secs(1)).await.err().expect("not there");
        assert_eq!((error.kind, error.reason), (ErrorKind::Permanent, ErrorReason::Invalid));
        assert!(error.message.contains("no-such-program"), "{error}");
    }

    #[tokio::test]
    async fn a_program_sees_nothing_of_the_environment_but_what_it_needs() {
        let ended = ran("env", Duration::from_secs(60)).await.expect("it ends");
        let names: Vec<&str> = ended.words.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        // The shell sets the rest by itself.
        let own = ["PATH", "HOME", "PWD", "OLDPWD", "SHLVL", "_"];
        assert!(names.contains(&"PATH") && names.iter().all(|name| own.contains(name)), "{names:?}");
    }
}
