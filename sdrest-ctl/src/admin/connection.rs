//! RUN/authd-admin.sock: one connection, a few calls, one answer each.

use crate::{paths, users};
use anyhow::{Context, Result, anyhow, bail};
use sdrest_proto::{
    authd::AuthdAdminClient,
    error::Fault,
    transport::{self, AUTHD_ADMIN, TrustedUids},
};
use std::{
    future::Future,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};
use tarpc::{
    client::{Config, RpcError},
    context::Context as Call,
};
use tokio::runtime::Runtime;

/// A new password costs authd a conversation program and argon2.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Admin {
    runtime: Runtime,
    client: AuthdAdminClient,
    path: PathBuf,
}

impl Admin {
    pub(crate) fn connect(run_dir: Option<&Path>) -> Result<Self> {
        let run_dir = run_dir.map_or_else(paths::default_run_dir, Path::to_owned);
        let path = run_dir.join("authd-admin.sock");
        let own = nix::unistd::geteuid().as_raw();
        let trusted = TrustedUids::new([0, own].into_iter().chain(users::uid_of(users::AUTHD)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("no runtime can be made")?;
        let client = runtime.block_on(async {
            let transport = transport::connect(&path, &trusted, AUTHD_ADMIN).await?;
            Ok(AuthdAdminClient::new(Config::default(), transport).spawn())
        });
        let client = client.map_err(|error| unreachable(&path, error))?;
        Ok(Self { runtime, client, path })
    }

    /// One call. authd's refusal is an error with its message and code.
    pub(crate) fn ask<T, F>(&self, call: impl FnOnce(AuthdAdminClient, Call) -> F) -> Result<T>
    where
        F: Future<Output = Result<Result<T, Fault>, RpcError>>,
    {
        let answer = self
            .runtime
            .block_on(async { call(self.client.clone(), transport::deadline(PATIENCE)).await });
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(fault)) => bail!("{} ({})", fault.message, fault.code.as_str()),
            // authd closes a connection whose peer is no administrator before it says anything.
            Err(error) => Err(anyhow!(
                "authd gave no answer on {}: {error}; only root and members of the group {} may use it",
                self.path.display(),
                users::ADMINS
            )),
        }
    }
}

fn unreachable(path: &Path, error: std::io::Error) -> anyhow::Error {
    let shown = path.display();
    let why = match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
            "nobody listens on {shown}: is `sdrestctl serve` running? Its run folder can be named with --run-dir"
        ),
        ErrorKind::PermissionDenied => format!(
            "{shown} may not be used: only root and members of the group {} may",
            users::ADMINS
        ),
        // The listener let go before it said hello: that is how it answers a peer that is no administrator.
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => format!(
            "authd hung up on {shown}: only root and members of the group {} may use it",
            users::ADMINS
        ),
        _ => format!("{shown} cannot be used"),
    };
    anyhow::Error::new(error).context(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn silence_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let error = Admin::connect(Some(dir.path())).err().map(|error| format!("{error:#}"));
        let error = error.unwrap_or_default();
        assert!(error.contains("sdrestctl serve") && error.contains("authd-admin.sock"), "{error}");
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("authd-admin.sock"));
        drop(listener);
        // A child that another test starts has the listener too, until it becomes its program.
        let said = || Admin::connect(Some(dir.path())).err().map(|error| format!("{error:#}"));
        let until = Instant::now() + Duration::from_secs(20);
        while !said().is_some_and(|said| said.contains("nobody listens")) {
            assert!(Instant::now() < until, "{:?}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
