//! The tarpc sockets: one connection each, closed at once. Who listens there must be root, the caller, or the
//! daemon's own system user.

use super::{PATIENCE, Report};
use crate::users;
use anyhow::{Context, Result};
use sdrest_proto::{
    authd::{AuthdAdminClient, AuthdClient},
    transport::{self, AUTHD, AUTHD_ADMIN, TrustedUids, WORKER},
    worker::WorkerClient,
};
use std::{path::Path, time::Instant};
use tarpc::client::Config;

fn trusted() -> TrustedUids {
    let own = nix::unistd::geteuid().as_raw();
    let daemons = [users::AUTHD, users::WORKER].into_iter().filter_map(users::uid_of);
    TrustedUids::new([0, own].into_iter().chain(daemons))
}

pub(super) async fn authd(path: &Path, report: &mut Report) -> Result<()> {
    let client =
        AuthdClient::new(Config::default(), transport::connect(path, &trusted(), AUTHD).await?)
            .spawn();
    let begun = Instant::now();
    let health = client.health(transport::deadline(PATIENCE)).await.context("health")?;
    report.take(health, begun.elapsed());
    report.authd = Some(client.describe(transport::deadline(PATIENCE)).await.context("describe")?);
    Ok(())
}

pub(super) async fn authd_admin(path: &Path, report: &mut Report) -> Result<()> {
    let transport = transport::connect(path, &trusted(), AUTHD_ADMIN).await?;
    let client = AuthdAdminClient::new(Config::default(), transport).spawn();
    let begun = Instant::now();
    let health = client.health(transport::deadline(PATIENCE)).await.context("health")?;
    report.take(health, begun.elapsed());
    Ok(())
}

pub(super) async fn worker(path: &Path, report: &mut Report) -> Result<()> {
    let client =
        WorkerClient::new(Config::default(), transport::connect(path, &trusted(), WORKER).await?)
            .spawn();
    let begun = Instant::now();
    let health = client.health(transport::deadline(PATIENCE)).await.context("health")?;
    report.take(health, begun.elapsed());
    let description = client.describe(transport::deadline(PATIENCE)).await.context("describe")?;
    let models = client.list_models(transport::deadline(PATIENCE)).await.context("list_models")?;
    report.worker = Some((description, models));
    Ok(())
}
