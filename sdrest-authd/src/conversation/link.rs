//! The connection to one conversation program. Whoever listens on the socket starts a fresh program for it, with
//! the connection as its standard input; dropping the link closes the connection, and the program ends itself and
//! all that it started. The peer's uid is checked before the first byte (unix(7), SO_PEERCRED).

use super::frames;
use sdrest_proto::{
    conversation::{FromConversation, Start, ToConversation},
    transport::{TrustedUids, check_peer},
};
use std::{io, path::PathBuf, time::Duration};
use thiserror::Error;
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// pam_faillock's probe may touch a slow disk.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, Error)]
pub(crate) enum LinkError {
    #[error("the conversation socket {path} cannot be used: {cause}")]
    Connect { path: String, cause: io::Error },
    #[error("the conversation program ended or spoke out of turn: {0}")]
    Protocol(io::Error),
    #[error("the conversation program said nothing within {0} s")]
    Silent(u64),
}

/// Where conversation programs are started, and who may start them.
#[derive(Clone, Debug)]
pub(crate) struct ConversationSocket {
    pub(crate) path: PathBuf,
    pub(crate) trusted: TrustedUids,
}

impl ConversationSocket {
    async fn connect(&self) -> Result<UnixStream, LinkError> {
        let failed = |cause| LinkError::Connect { path: self.path.display().to_string(), cause };
        let stream = timeout(CONNECT_TIMEOUT, UnixStream::connect(&self.path))
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        check_peer(&stream, &self.trusted).map_err(failed)?;
        Ok(stream)
    }

    /// Starts a program for this login.
    pub(super) async fn start(&self, start: Start) -> Result<Link, LinkError> {
        let (reader, mut writer) = self.connect().await?.into_split();
        frames::write(&mut writer, &ToConversation::Start(start))
            .await
            .map_err(LinkError::Protocol)?;
        Ok(Link { reader, writer })
    }

    /// Asks whether logins can run, with this PAM service or without PAM.
    pub(crate) async fn probe(&self, service: Option<&str>) -> Result<Probed, LinkError> {
        let probe = ToConversation::Probe { service: service.map(str::to_owned) };
        match self.ask(probe, PROBE_TIMEOUT).await? {
            FromConversation::Probed { fault, pam } => Ok(Probed { fault, pam }),
            _ => Err(LinkError::Protocol(io::ErrorKind::InvalidData.into())),
        }
    }

    /// One question, one answer, and the program is done.
    pub(super) async fn ask(
        &self,
        question: ToConversation,
        patience: Duration,
    ) -> Result<FromConversation, LinkError> {
        let mut stream = self.connect().await?;
        let exchange = async {
            frames::write(&mut stream, &question).await?;
            frames::read(&mut stream).await
        };
        timeout(patience, exchange)
            .await
            .map_err(|_| LinkError::Silent(patience.as_secs()))?
            .map_err(LinkError::Protocol)?
            .ok_or_else(|| LinkError::Protocol(io::ErrorKind::UnexpectedEof.into()))
    }
}

/// What the program says of itself.
#[derive(Debug)]
pub(crate) struct Probed {
    /// Why logins cannot run.
    pub(crate) fault: Option<String>,
    /// Whether PAM is built in.
    pub(crate) pam: bool,
}

/// One running program. Dropping it ends the program.
pub(super) struct Link {
    pub(super) reader: OwnedReadHalf,
    pub(super) writer: OwnedWriteHalf,
}
