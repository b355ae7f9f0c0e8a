//! sdrest-conversation: runs exactly one PAM login, with the connection from authd as its standard input, and
//! ends. It is the only program of sdrest that calls libpam and NSS. systemd (Accept=yes) or `sdrestctl serve`
//! starts one for each connection, so that a module that hangs, crashes, forks or leaks costs that one login.
//!
//! main reads as the security argument: give up what can be given up → take the socket off standard input →
//! know the peer → watch the clock → only then read the first frame. It must never print a secret, and never
//! say `Verified` other than at the end of a whole transaction.
#![cfg_attr(
    not(feature = "pam"),
    allow(dead_code, reason = "a build without PAM only answers probes")
)]

mod accounts;
mod channel;
mod cli;
mod deadlines;
mod descendants;
mod hardening;
#[cfg(feature = "pam")]
mod pam;
mod report;
mod service_file;
mod watchdog;

use channel::Channel;
use cli::{Command, Options};
use sdrest_proto::{
    BUILD,
    conversation::{FromConversation, Start, ToConversation},
};
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
    #[cfg(feature = "pam")]
    watchdog::start(Arc::clone(&channel), pam::end_process)?;
    let answer = match channel.receive()? {
        ToConversation::Start(start) => login(&start, options, &channel),
        ToConversation::Probe { service } => {
            let fault = probe(&service, options);
            FromConversation::Probed { fault }
        }
        ToConversation::Answers(_) => {
            return Err("authd's first frame must be Start or Probe".into());
        }
    };
    descendants::kill_all();
    channel.finish(&answer)?;
    Ok(())
}

#[cfg(feature = "pam")]
fn login(start: &Start, options: &Options, channel: &Arc<Channel>) -> FromConversation {
    use sdrest_proto::conversation::{Denial, Verdict};
    channel.deadlines.set(start.step_deadline_ms, start.total_deadline_ms);
    // libpam would fall back to the service `other` if the file were gone.
    if let Err(error) = service_file::check_present(&start.service, options.confdir.as_deref()) {
        report::line(&error.to_string());
        return FromConversation::Verdict(Verdict::Denied {
            denial: Denial::Unavailable,
            pam_code: 0,
        });
    }
    let rules = pam::Rules { confdir: options.confdir.as_deref(), accounts: options.accounts };
    FromConversation::Verdict(pam::run(start, &rules, channel))
}

#[cfg(not(feature = "pam"))]
fn login(_start: &Start, _options: &Options, _channel: &Arc<Channel>) -> FromConversation {
    use sdrest_proto::conversation::{Denial, Verdict};
    FromConversation::Verdict(Verdict::Denied { denial: Denial::Unavailable, pam_code: 0 })
}

fn probe(service: &str, options: &Options) -> Option<String> {
    if cfg!(feature = "pam") {
        service_file::probe(service, options.confdir.as_deref())
            .err()
            .map(|error| error.to_string())
    } else {
        Some("sdrest-conversation was built without the feature `pam`".to_owned())
    }
}
