//! What can be written on the command line, and nothing of what it does. The names follow the table
//! "Commands" of the project's HTTP and command contract; what is not built yet is refused by name.

mod accounts;
mod generate;
mod launch;
mod serve;
mod server;
mod status;

pub(crate) use accounts::{
    AuthTestArgs, KeyAdd, KeyArgs, KeyVerb, RotateKeyArgs, SessionsArgs, SessionsVerb, UserArgs,
    UserVerb,
};
pub(crate) use generate::GenerateArgs;
pub(crate) use launch::{LaunchArgs, LaunchConversationArgs, LaunchFirstArgs};
pub(crate) use serve::{ModelArgs, SecretText, ServeArgs};
pub(crate) use server::{CallerArgs, ServerArgs};
pub(crate) use status::{OutputFormat, StatusArgs};

use clap::{Parser, Subcommand};

/// Starts sdrest, looks at it, and draws pictures with it.
#[derive(Debug, Parser)]
#[command(name = "sdrestctl", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine in the foreground
    Serve(Box<ServeArgs>),
    /// Ask every socket for its health (exit code: 0 ok, 1 degraded, 2 down)
    #[command(visible_aliases = ["sockets", "check"])]
    Status(StatusArgs),
    /// Sign in, draw one prompt and save the picture
    Generate(Box<GenerateArgs>),
    /// Manage the internal user database (for root and the group sdrest-admin)
    User(UserArgs),
    /// Make, list and revoke API keys
    Key(Box<KeyArgs>),
    /// End sessions (for root and the group sdrest-admin)
    Sessions(SessionsArgs),
    /// Make a new signing key; tokens of the one before stay good until they expire
    RotateKey(RotateKeyArgs),
    /// Sign in step by step and tell each step (exit code: 0 signed in, 1 not)
    AuthTest(AuthTestArgs),
    #[command(hide = true)]
    Launch(LaunchArgs),
    #[command(hide = true)]
    LaunchConversation(LaunchConversationArgs),
    #[command(hide = true)]
    LaunchFirst(LaunchFirstArgs),
}
