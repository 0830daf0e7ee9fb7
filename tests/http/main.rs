//! The HTTP surface on a real listener: intake's contract, hostile clients, access, problem documents, lists and commands.

mod approvals;
mod doors;
mod hooks;
mod hostile;
mod intake;
mod join;
mod queries;
mod stage;
mod undo;
