//! sdrest-conversation: answers exactly one question of authd, mostly a PAM login, with the connection from authd as
//! its standard input, and ends. It is the only program of sdrest that calls libpam and NSS, and the only one that
//! computes with passwords. systemd (Accept=yes) or `sdrestctl serve`
//! starts one for each connection, so that a module that hangs, crashes, forks or leaks costs that one login.
//!
//! main reads as the security argument: give up what can be given up → take the socket off standard input →
//! know the peer → watch the clock → only then read the first frame. It must never print a secret, and never
//! say `Verified` other than at the end of a whole transaction.
#![cfg_attr(
    not(feature = "pam"),
    allow(dead_code, reason = "a build without PAM runs no login and reads no service file")
)]

mod accounts;
mod channel;
mod cli;
mod deadlines;
mod descendants;
mod first_frame;
mod hardening;
#[cfg(feature = "pam")]
mod pam;
mod passwords;
mod report;
mod service_file;
mod watchdog;

use channel::Channel;
use cli::{Command, Options};
use sdrest_proto::BUILD;
use std::{error::Error, io::Write, process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    let options = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Run(options)) => options,
        Ok(Command::Help) => return print(&format!("{}\n\n{}\n", cli::HELP, cli::PAM_LINE)),
        Ok(Command::Version) => return print(&format!("{BUILD}\n")),
        Err(error) => {
            report::line(&error.to_string());
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::line(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    if std::io::stdout().write_all(text.as_bytes()).is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    hardening::first()?;
    #[cfg(feature = "pam")]
    if !pam::clear_environment() {
        return Err("the environment cannot be cleared".into());
    }
    let channel = Arc::new(Channel::from_stdin()?);
    channel.check_peer(options.authd)?;
    descendants::adopt_orphans()?;
    match &options.no_sandbox {
        None => hardening::drop_privileges()?,
        Some(reason) => report::line(&format!("privileges are kept (--no-sandbox): {reason}")),
    }
    watchdog::start(Arc::clone(&channel), end_process)?;
    let answer = first_frame::answer(channel.receive()?, options, &channel)?;
    descendants::kill_all();
    channel.finish(&answer)?;
    Ok(())
}

/// Ends the process when a clock has run out.
#[cfg(feature = "pam")]
use pam::end_process;

/// Without libpam no module is loaded whose exit handler could hold the process up.
#[cfg(not(feature = "pam"))]
#[expect(clippy::disallowed_methods, reason = "the clock's thread cannot return from main")]
fn end_process(status: i32) -> ! {
    std::process::exit(status)
}
