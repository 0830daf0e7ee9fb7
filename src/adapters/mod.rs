//! Everything that leaves the process, one folder a port.

pub mod cluster;
pub mod humans;
pub mod journal;
pub mod metrics;
pub mod reload;
