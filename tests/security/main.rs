//! Attacks and mistakes that hurt others, replayed against sdrest with real parts: each test has the CVE or the issue
//! in its name. README.md beside this file lists all of them, also those that another suite has or that cannot
//! apply. Nothing here touches the host's /etc, and nothing is installed.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod accounts;
mod change;
mod dialogue;
mod directories;
mod enumeration;
mod examples;
mod forged_tokens;
mod frames;
mod guide;
mod hostile_flood;
mod hostile_front_end;
mod hostile_program;
mod lockout;
mod machine;
mod misbehaviour;
mod names;
mod over_http;
mod passwords;
mod place;
mod sentinel;
mod talk;
mod units;
