//! A file rendered from the live cluster: rendered → compared → written beside → checked → put in place → told of. What is in force stays in force until
//! its successor has passed its check.

use super::live::Live;
use super::notice::Notice;
use super::{program, render};
use crate::config::DockerConfig;
use crate::config::reload::{OUTPUT, TemplateTarget};
use crate::ports::{Cluster, ErrorKind, ErrorReason, PortError, Reloaded};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

/// The longest template that is read.
const TEMPLATE_BYTES: u64 = 1024 * 1024;

pub struct TemplateReload {
    template: PathBuf,
    output: PathBuf,
    /// The new file, until it replaces the old one: beside it, because a rename does not cross file systems.
    fresh: PathBuf,
    /// There from before the new file is in place until whoever reads it has been told: what must survive a crash in between.
    due: PathBuf,
    check: Vec<String>,
    then: Option<Notice>,
    limit: Duration,
    cluster: Arc<dyn Cluster>,
    /// Two at once would write the same files.
    turn: Mutex<()>,
}

impl TemplateReload {
    /// `name` is that of the target. Errors (permanent) name the key that is wrong.
    pub fn new(
        name: &str,
        config: &TemplateTarget,
        limit: Duration,
        docker: &DockerConfig,
        cluster: Arc<dyn Cluster>,
    ) -> Result<Self, PortError> {
        let TemplateTarget { template, output, check, then, .. } = config;
        let key = format!("reload.{name}");
        let file = output
            .file_name()
            .and_then(|file| file.to_str())
            .ok_or_else(|| PortError::permanent(ErrorReason::Invalid, format!("{key}.output is no path of a file")))?;
        let then = then.as_ref().map(|then| Notice::new(&format!("{key}.then"), then, limit, docker)).transpose()?;
        Ok(TemplateReload {
            // Hidden, and with an ending of their own: no `*.cfg` of a program includes them.
            fresh: output.with_file_name(format!(".{file}.new")),
            due: output.with_file_name(format!(".{file}.due")),
            template: template.clone(),
            output: output.clone(),
            check: check.clone(),
            then,
            limit,
            cluster,
            turn: Mutex::new(()),
        })
    }

    pub async fn reload(&self, what: &str) -> Result<Reloaded, PortError> {
        let _turn = self.turn.lock().await;
        let text = rendered(what, &self.template, &*self.cluster).await?;
        let old = match fs::read(&self.output).await {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error(what, "read", &self.output, &error)),
        };
        let same = old.is_some_and(|old| old == text.as_bytes());
        if same && !(self.then.is_some() && fs::try_exists(&self.due).await.unwrap_or(true)) {
            return Ok(Reloaded::Unchanged);
        }
        if !same {
            self.write(what, &text).await?;
            let checked = self.check(what).await;
            if checked.is_err() {
                let _ = fs::remove_file(&self.fresh).await;
            }
            checked?;
            self.put_in_place(what).await?;
        }
        let Some(then) = &self.then else { return Ok(Reloaded::Done) };
        then.send(what).await.map_err(|error| {
            let told =
                "is in place and passed its check, but whoever reads it was not told: the next reload tells again";
            PortError { message: format!("{} ({} {told})", error.message, self.output.display()), ..error }
        })?;
        match fs::remove_file(&self.due).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(what, "remove", &self.due, &error)),
            _ => Ok(Reloaded::Done),
        }
    }

    /// The new file, beside the old one and as readable as it, on the disk.
    async fn write(&self, what: &str, text: &str) -> Result<(), PortError> {
        let write = async {
            // What a crash left behind.
            match fs::remove_file(&self.fresh).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&self.fresh).await?;
            // Before there is anything in it that the old one would not show.
            if let Ok(old) = fs::metadata(&self.output).await {
                file.set_permissions(old.permissions()).await?;
            }
            file.write_all(text.as_bytes()).await?;
            file.sync_all().await
        };
        write.await.map_err(|error| io_error(what, "write", &self.fresh, &error))
    }

    async fn check(&self, what: &str) -> Result<(), PortError> {
        if self.check.is_empty() {
            return Ok(());
        }
        let fresh = self.fresh.display().to_string();
        let argv: Vec<String> = self.check.iter().map(|argument| argument.replace(OUTPUT, &fresh)).collect();
        let stays = format!("the old {} stays in force", self.output.display());
        // Nothing has happened yet, however long it took.
        let ended = program::run(&format!("{what}: {stays}: the check"), &argv, self.limit).await.map_err(|error| {
            let kind = if error.kind == ErrorKind::Unknown { ErrorKind::Transient } else { error.kind };
            PortError { kind, ..error }
        })?;
        if ended.status.success() {
            return Ok(());
        }
        let (command, status, words) = (argv.join(" "), ended.status, ended.words);
        let message =
            format!("{what}: {stays}: what was rendered did not pass `{command}` ({status}). It said:\n{words}");
        Err(PortError::permanent(ErrorReason::Refused, message))
    }

    async fn put_in_place(&self, what: &str) -> Result<(), PortError> {
        let put = async {
            if self.then.is_some() {
                let mut due = fs::File::create(&self.due).await?;
                due.write_all(b"The file beside this one is new, and whoever reads it is still to be told.\n").await?;
                due.sync_all().await?;
            }
            fs::rename(&self.fresh, &self.output).await?;
            let folder = self.output.parent().filter(|folder| !folder.as_os_str().is_empty());
            fs::File::open(folder.unwrap_or(Path::new("."))).await?.sync_all().await
        };
        put.await.map_err(|error| io_error(what, "replace", &self.output, &error))
    }
}

/// What a template makes of the live cluster. `what` begins the message of an error.
pub async fn rendered(what: &str, template: &Path, cluster: &dyn Cluster) -> Result<String, PortError> {
    let invalid = |message: String| PortError::permanent(ErrorReason::Invalid, format!("{what}: {message}"));
    let mut text = String::new();
    let read = async { fs::File::open(template).await?.take(TEMPLATE_BYTES + 1).read_to_string(&mut text).await };
    read.await.map_err(|error| io_error(what, "read", template, &error))?;
    let file = template.display().to_string();
    if text.len() as u64 > TEMPLATE_BYTES {
        return Err(invalid(format!("{file} is longer than {TEMPLATE_BYTES} bytes")));
    }
    let live = Arc::new(Live::look(cluster).await?);
    // A template may compute for a while: not on a thread that others wait for.
    let rendered = tokio::task::spawn_blocking(move || render::render(&file, &text, &live)).await;
    rendered.unwrap_or_else(|error| Err(format!("the rendering broke off: {error}"))).map_err(invalid)
}

fn io_error(what: &str, verb: &str, path: &Path, error: &io::Error) -> PortError {
    let message = format!("{what}: cannot {verb} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PortError::transient(ErrorReason::Other, message),
        _ => PortError::permanent(ErrorReason::Invalid, message),
    }
}
