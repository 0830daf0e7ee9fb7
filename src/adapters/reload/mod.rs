//! The reload port: tells something outside to read its configuration again.

pub mod http;

use crate::model::diagnostic::nearest;
use crate::ports::{ErrorReason, PortError};

/// The error for a target that the config does not name.
pub fn unknown_target(target: &str, known: &[String]) -> PortError {
    let help = match (nearest(target, known.iter().map(String::as_str)), known) {
        (Some(near), _) => format!("did you mean {near:?}? The config names: {}", known.join(", ")),
        (None, []) => "the config names none; add it under `reload:`".to_string(),
        (None, _) => format!("the config names: {}", known.join(", ")),
    };
    PortError::permanent(ErrorReason::NotFound, format!("there is no reload target {target:?}; {help}"))
}
