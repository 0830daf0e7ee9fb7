pub mod console;
pub mod slack;
