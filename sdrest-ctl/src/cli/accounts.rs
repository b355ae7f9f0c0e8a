//! The flags of the commands about accounts: users, keys, sessions, and a login to look at. No password is ever a
//! flag: the process list is everybody's to read.

use super::{
    server::{CallerArgs, PlaceArgs, ServerArgs},
    status::OutputFormat,
};
use clap::{Args, Subcommand};
use sdrest_proto::{
    accounts::UserName,
    api_key::{KeyName, MAX_DAYS, Scopes},
    id::KeyId,
    identity::{Permission, Role},
};
use std::str::FromStr;

#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    #[command(subcommand)]
    pub(crate) verb: UserVerb,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserVerb {
    /// Add a user
    Add {
        #[arg(value_parser = user_name)]
        name: UserName,
        /// guest, user, operator or admin
        #[arg(long, default_value = "user", value_parser = Role::from_str)]
        role: Role,
        /// Read the password from standard input, one line
        #[arg(long)]
        password_stdin: bool,
    },
    /// Change a password; the user's sessions end
    Passwd {
        #[arg(value_parser = user_name)]
        name: UserName,
        /// Read the password from standard input, one line
        #[arg(long)]
        password_stdin: bool,
    },
    /// Show all users
    List {
        #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
        output: OutputFormat,
    },
    /// Let a user sign in no more; sessions end, keys are refused
    Disable {
        #[arg(value_parser = user_name)]
        name: UserName,
    },
    /// Let a disabled user sign in again
    Enable {
        #[arg(value_parser = user_name)]
        name: UserName,
    },
    /// Change what a user may do
    Role {
        #[arg(value_parser = user_name)]
        name: UserName,
        /// guest, user, operator or admin
        #[arg(value_parser = Role::from_str)]
        role: Role,
    },
    /// Remove a user with all sessions and keys
    Remove {
        #[arg(value_parser = user_name)]
        name: UserName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    pub(crate) verb: KeyVerb,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// Make a key; it is shown once, alone on standard output
    Add(KeyAdd),
    /// Show one's own keys
    List {
        /// Everybody's, through authd's admin socket
        #[arg(long, conflicts_with_all = ["user", "password_stdin"])]
        all: bool,
        #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
        output: OutputFormat,
        #[command(flatten)]
        caller: CallerArgs,
    },
    /// Revoke a key by the id that `list` shows
    Revoke {
        id: KeyId,
        /// Anybody's, through authd's admin socket
        #[arg(long, conflicts_with_all = ["user", "password_stdin"])]
        as_admin: bool,
        #[command(flatten)]
        caller: CallerArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeyAdd {
    /// What the key is for, to know it by in lists
    #[arg(long, default_value = "sdrestctl", value_parser = key_name)]
    pub(crate) name: KeyName,
    /// What the key may do, with commas between (default: all that a key can)
    #[arg(long, value_name = "A,B", value_parser = scopes)]
    pub(crate) scopes: Option<Scopes>,
    /// Its life (default: 90)
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DAYS)))]
    pub(crate) days: Option<u32>,
    /// For this user, through authd's admin socket
    #[arg(long = "for", value_name = "USER", value_parser = user_name, conflicts_with_all = ["user", "password_stdin"])]
    pub(crate) owner: Option<UserName>,
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    pub(crate) verb: SessionsVerb,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsVerb {
    /// End all sessions of a user
    Revoke {
        #[arg(value_name = "USER", value_parser = user_name)]
        name: UserName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RotateKeyArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AuthTestArgs {
    /// Who signs in
    #[arg(value_name = "USER")]
    pub(crate) username: String,
    /// Read the answers to prompts from standard input, a line each
    #[arg(long)]
    pub(crate) answers_stdin: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

fn user_name(text: &str) -> Result<UserName, String> {
    UserName::try_from(text.to_owned())
}

fn key_name(text: &str) -> Result<KeyName, String> {
    KeyName::try_from(text.to_owned())
}

fn scopes(text: &str) -> Result<Scopes, String> {
    let named = text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(|word| {
        Permission::named(word).ok_or_else(|| {
            let grantable = Permission::ALL.into_iter().filter(|one| !Scopes::NEVER.contains(one));
            let known: Vec<&str> = grantable.map(Permission::as_str).collect();
            format!("must be some of {}, got {word:?}", known.join(", "))
        })
    });
    let scopes = named.collect::<Result<Vec<_>, _>>()?;
    if scopes.is_empty() {
        return Err("must name at least one permission".to_owned());
    }
    Scopes::try_from(scopes)
}
