pub mod alertmanager;
pub mod api;
pub mod prometheus;
