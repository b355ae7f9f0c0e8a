//! Logins through both real programs and libpam: `matrix` with service files and passwords of the test's own, and
//! `pam_unix` with the shipped service file over a made-up /etc.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod matrix;
mod pam_unix;
mod stack;
