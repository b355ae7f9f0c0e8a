//! The engine: one thread that owns every tensor (`thread`), the scheduler that lets jobs take turns by the
//! step (`slots`, `fairness`), and the board where the server and that thread meet (`board`, `events`). What
//! draws is behind `backend::Engine`: libtorch (`torch`, with `residency` for the models in memory, `hashes` for
//! what they are known by, and `guard` around their files) or, for tests of the other programs, plain drawings
//! (`fake`).

pub mod backend;
pub mod board;
pub mod events;
pub mod fairness;
pub mod fake;
mod guard;
mod hashes;
pub mod residency;
pub mod slots;
pub mod thread;
pub mod torch;
#[cfg(test)]
mod torch_tests;
