//! The cluster port: Docker Swarm, and a simulator that behaves like one.

pub mod sim;
pub mod swarm;
