//! Everything that leaves the process, one folder a port.

pub mod cluster;
pub mod humans;
pub mod journal;
pub mod metrics;
pub mod nodes;
pub mod posts;
pub mod reload;

/// The innermost cause of an error, bounded: the layers around it say less, and repeat URLs, which can be secrets.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    crate::model::text::visible(&cause.to_string(), 200)
}
