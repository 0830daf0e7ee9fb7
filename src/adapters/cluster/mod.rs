pub mod sim;
pub mod swarm;
