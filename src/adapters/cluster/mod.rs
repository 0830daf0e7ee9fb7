//! The cluster port: Docker Swarm, a simulator that behaves like one, and an overlay for rehearsals.

pub mod overlay;
pub mod sim;
pub mod swarm;
