//! Standard output and standard error, which may end before a command does: `runbookd runs | head` closes the one, a full disk refuses it.
//!
//! In `cli`, `println!`, `print!` and `eprintln!` are the ones from here: they never panic. What was the matter is kept, a command goes on to its end
//! and drops what it holds, and [`end`] says at the end what its exit code is to be.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// Why nothing can be written any more. Whatever comes later is not written.
static ENDED: OnceLock<std::io::Error> = OnceLock::new();

macro_rules! print {
    ($($text:tt)*) => { $crate::cli::out::write(format_args!($($text)*), "") };
}

macro_rules! println {
    () => { $crate::cli::out::write(format_args!(""), "\n") };
    ($($text:tt)*) => { $crate::cli::out::write(format_args!($($text)*), "\n") };
}

macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::out::complain(format_args!($($text)*)) };
}

/// Writes to standard output, while somebody takes it.
pub fn write(text: Arguments, end: &str) {
    if ENDED.get().is_none() {
        let mut out = std::io::stdout().lock();
        note(out.write_fmt(text).and_then(|()| out.write_all(end.as_bytes())));
    }
}

/// Writes a line to standard error. When that is closed, there is nobody left to tell.
pub fn complain(text: Arguments) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn note(written: std::io::Result<()>) {
    if let Err(error) = written {
        let _ = ENDED.set(error);
    }
}

/// Whoever read has gone: what only goes on for their sake can end.
pub fn ended() -> bool {
    ENDED.get().is_some()
}

/// The exit code of a command that had come to `code`. Who reads no further, as `head` does, has read enough: no word about that, and no failure.
pub fn end(code: ExitCode) -> ExitCode {
    if !ended() {
        note(std::io::stdout().lock().flush());
    }
    match ENDED.get() {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(format_args!("runbookd: standard output cannot be written: {error}"));
            ExitCode::FAILURE
        }
        _ => code,
    }
}

/// An error of a command that itself wrote to standard output: the same as if it had printed.
pub fn taken(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    let kind = kind.or_else(|| error.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind));
    kind == Some(ErrorKind::BrokenPipe)
}
