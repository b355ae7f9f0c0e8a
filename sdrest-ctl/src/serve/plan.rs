//! From the command line to everything that `serve` has to know before it touches anything: folders, models,
//! address, users. What cannot work is refused here, with the reason.

use super::{
    auth::{self, Auth, Circumstances},
    folders,
    listen::{self, Listen},
    models,
    privilege::{self, Privilege},
};
use crate::{cli::ServeArgs, paths};
use anyhow::Result;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) api: PathBuf,
    pub(crate) authd: PathBuf,
    pub(crate) conversation: PathBuf,
    pub(crate) worker: PathBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) listen: Listen,
    pub(crate) run_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    /// Where authd keeps users, keys and revocations, if not in the state folder.
    pub(crate) auth_data_dir: Option<PathBuf>,
    pub(crate) models: Vec<PathBuf>,
    pub(crate) auth: Auth,
    pub(crate) privilege: Privilege,
    pub(crate) programs: Programs,
    /// To be said before anything starts.
    notes: Vec<String>,
}

pub(crate) fn make(args: &ServeArgs) -> Result<Plan> {
    let mut notes = Vec::new();
    let listen = listen::address(args)?;
    let programs = Programs {
        api: paths::program("sdrest-api")?,
        authd: paths::program("sdrest-authd")?,
        conversation: paths::program("sdrest-conversation")?,
        worker: paths::program("sdrest-worker")?,
    };
    let privilege = privilege::settle(&mut notes)?;
    let build = auth::build(&programs.conversation)?;
    let around = Circumstances { listen: &listen, privilege: &privilege, build };
    let auth = auth::settle(args, &around, &mut notes)?;
    let run_dir = args.run_dir.clone().unwrap_or_else(paths::default_run_dir);
    let state_dir = args.state_dir.clone().map_or_else(paths::default_state_dir, Ok)?;
    let models = models::folders(&args.models, &mut notes)?;
    let data = args.auth_data_dir.as_deref();
    Ok(Plan {
        run_dir: folders::run_folder(&run_dir)?,
        state_dir: folders::folder(&state_dir)?,
        auth_data_dir: data.map(|path| folders::auth_data(path, &privilege)).transpose()?,
        listen,
        models,
        auth,
        privilege,
        programs,
        notes,
    })
}

impl Plan {
    pub(crate) fn notes(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().map(String::as_str)
    }

    /// Whether an expired password can be changed: PAM writes /etc/shadow then, which takes root.
    pub(crate) fn changes_passwords(&self) -> bool {
        self.auth.pam.is_some() && self.privilege.own_namespaces()
    }
}
