//! sdrestctl: the command of admins and newcomers. It starts all of sdrest on one machine (`serve`), looks at
//! it through its sockets (`status`), manages accounts (`user`, `key`, `sessions`), and draws pictures through its
//! HTTP interface (`generate`).
//!
//! The hidden subcommands `launch…` run between fork and exec of the other programs: single-threaded, before
//! any runtime, without `unsafe`. This program holds no key, decodes no model and calls no PAM function.
#![forbid(unsafe_code)]

mod admin;
mod auth_test;
mod cli;
mod clock;
mod columns;
mod dial;
mod generate;
mod key;
mod launch;
mod paths;
mod probe;
mod record;
mod serve;
mod session;
mod status;
mod users;

use clap::{CommandFactory, FromArgMatches};
use session::terminal::printable;
use std::{ffi::OsString, io::Write, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let arguments = arguments();
    let outcome = match parse(&arguments).command {
        cli::Command::Serve(args) => serve::run(&args).map(|()| ExitCode::SUCCESS),
        cli::Command::Status(args) => status::run(&args),
        cli::Command::Generate(args) => generate::run(&args).map(|()| ExitCode::SUCCESS),
        cli::Command::User(args) => admin::users::run(&args).map(|()| ExitCode::SUCCESS),
        cli::Command::Key(args) => key::run(&args).map(|()| ExitCode::SUCCESS),
        cli::Command::Sessions(args) => admin::sessions::run(&args).map(|()| ExitCode::SUCCESS),
        cli::Command::RotateKey(args) => {
            admin::sessions::rotate_key(&args).map(|()| ExitCode::SUCCESS)
        }
        cli::Command::AuthTest(args) => auth_test::run(&args),
        cli::Command::Launch(args) => launch::daemon::run(&args).map(|never| match never {}),
        cli::Command::LaunchConversation(args) => launch::conversation::run(&args),
        cli::Command::LaunchFirst(args) => launch::first::run(&args).map(|never| match never {}),
    };
    outcome.unwrap_or_else(|error| {
        // Where nobody reads standard error any more, the exit code has to do.
        let _ = writeln!(std::io::stderr(), "sdrestctl: {}", printable(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}

/// The help of `serve` says whether PAM is in this build; only then the program that knows is asked.
fn parse(arguments: &[OsString]) -> cli::Cli {
    let mut command = cli::Cli::command();
    if arguments.iter().any(|word| word == "--help" || word == "-h" || word == "help") {
        let line = serve::pam_line();
        command = command.mut_subcommand("serve", |serve| serve.after_help(line));
    }
    let matches = command.get_matches_from(arguments);
    cli::Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The guides call the server `stable-diffusion-rest` and `stable-diffusion-rest-server`: under these names
/// the subcommand `serve` need not be written.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().and_then(|first| Path::new(first).file_name()).unwrap_or_default();
    let is_server = name == "stable-diffusion-rest" || name == "stable-diffusion-rest-server";
    let has_subcommand =
        arguments.get(1).is_some_and(|first| !first.to_string_lossy().starts_with('-'));
    if is_server && !has_subcommand {
        arguments.insert(1, "serve".into());
    }
    arguments
}
