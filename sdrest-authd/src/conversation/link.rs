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
    #[error("{0}")]
    Fault(String),
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

    /// Asks whether logins can run; a fault carries the program's own reason.
    pub(crate) async fn probe(&self, service: &str) -> Result<(), LinkError> {
        let mut stream = self.connect().await?;
        let exchange = async {
            frames::write(&mut stream, &ToConversation::Probe { service: service.to_owned() })
                .await?;
            frames::read(&mut stream).await
        };
        let frame = timeout(PROBE_TIMEOUT, exchange)
            .await
            .map_err(|_| LinkError::Silent(PROBE_TIMEOUT.as_secs()))?
            .map_err(LinkError::Protocol)?;
        match frame {
            Some(FromConversation::Probed { fault: None }) => Ok(()),
            Some(FromConversation::Probed { fault: Some(fault) }) => Err(LinkError::Fault(fault)),
            Some(_) => Err(LinkError::Protocol(io::ErrorKind::InvalidData.into())),
            None => Err(LinkError::Protocol(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// One running program. Dropping it ends the program.
pub(super) struct Link {
    pub(super) reader: OwnedReadHalf,
    pub(super) writer: OwnedWriteHalf,
}
