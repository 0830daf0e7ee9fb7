//! The one table of primitives: bindings, checks, documentation and tests all come from it.

use crate::model::step::EffectClass;

/// One host function that a runbook can call.
pub struct Primitive {
    pub name: &'static str,
    pub class: EffectClass,
    /// As people write it: `scale(service, replicas)`.
    pub signature: &'static str,
    pub doc: &'static str,
    /// Lines of a runbook that use it.
    pub example: &'static str,
}

pub static PRIMITIVES: &[Primitive] = &[];

pub fn find(name: &str) -> Option<&'static Primitive> {
    PRIMITIVES.iter().find(|primitive| primitive.name == name)
}
