//! Logins through both real programs: `matrix` with service files and passwords of the test's own, `pam_unix` with
//! the shipped service file over a made-up /etc, `internal`, `keys`, `modes` and `subjects` for what needs no PAM.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod hostile_program;
mod internal;
mod keys;
mod matrix;
mod modes;
mod pam_unix;
mod stack;
mod subjects;
