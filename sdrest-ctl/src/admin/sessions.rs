//! `sdrestctl sessions` and `sdrestctl rotate-key`.

use super::connection::Admin;
use crate::{
    cli::{RotateKeyArgs, SessionsArgs, SessionsVerb},
    session::terminal::say,
};
use anyhow::Result;

pub(crate) fn run(args: &SessionsArgs) -> Result<()> {
    let admin = Admin::connect(args.place.run_dir.as_deref())?;
    let SessionsVerb::Revoke { name } = &args.verb;
    let user = name.clone();
    let ended =
        admin.ask(|client, call| async move { client.revoke_sessions(call, user).await })?;
    say(&format!("{}: {ended} session{} ended", name.as_str(), if ended == 1 { "" } else { "s" }));
    Ok(())
}

pub(crate) fn rotate_key(args: &RotateKeyArgs) -> Result<()> {
    let admin = Admin::connect(args.place.run_dir.as_deref())?;
    let kid = admin.ask(|client, call| async move { client.rotate_key(call).await })?;
    say(&format!("new tokens are signed with key {kid}; older ones stay good until they expire"));
    Ok(())
}
