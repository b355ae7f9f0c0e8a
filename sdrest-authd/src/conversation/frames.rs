//! Frames to and from one conversation program, read with tokio: a length (u32, little-endian), then bincode, as
//! proto's `conversation` says. The program is hostile as far as this file knows: a module may have written what
//! arrives. Every length is checked before memory is set aside, and a frame that is not well-formed ends the login.

use sdrest_proto::conversation::{
    self, FromConversation, MAX_FRAME, MAX_MESSAGES, MAX_TEXT, ToConversation, Verdict,
};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// The next frame; `None` at the end of the stream. Not cancel-safe: run it in a task of its own.
pub(super) async fn read(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<FromConversation>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > MAX_FRAME {
        return Err(invalid(format!("a frame of {length} bytes is over {MAX_FRAME}")));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    let frame = conversation::decode(&body)?;
    check(&frame)?;
    Ok(Some(frame))
}

/// Writes one frame; its bytes are wiped, also when the write is given up, since they may hold a password.
pub(super) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    frame: &ToConversation,
) -> io::Result<()> {
    let body = Zeroizing::new(conversation::encode(frame)?);
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 + body.len()));
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    to.write_all(&bytes).await
}

/// The bounds that bincode does not know.
fn check(frame: &FromConversation) -> io::Result<()> {
    let fits = |text: &str| text.len() <= MAX_TEXT;
    let fine = match frame {
        FromConversation::Message { text, .. } => fits(text),
        FromConversation::Prompts(prompts) => {
            (1..=MAX_MESSAGES).contains(&prompts.len())
                && prompts.iter().all(|prompt| fits(&prompt.text))
        }
        FromConversation::Verdict(Verdict::Verified(facts)) => fits(&facts.username),
        FromConversation::Verdict(Verdict::Denied { .. }) => true,
        FromConversation::Probed { fault, .. } => fault.as_deref().is_none_or(fits),
        FromConversation::Compared { .. } => true,
        FromConversation::Hashed { phc } => fits(phc),
    };
    if fine {
        Ok(())
    } else {
        Err(invalid("a frame's text or its number of prompts is over the limit".to_owned()))
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdrest_proto::{
        conversation::{Denial, Prompt},
        login::Echo,
        secret::Answer,
    };

    async fn read_bytes(bytes: &[u8]) -> io::Result<Option<FromConversation>> {
        let mut from = bytes;
        read(&mut from).await
    }

    fn framed(frame: &FromConversation) -> Vec<u8> {
        let mut bytes = Vec::new();
        conversation::write_frame(&mut bytes, frame).unwrap();
        bytes
    }

    #[tokio::test]
    async fn frames_go_both_ways() {
        let verdict = FromConversation::Verdict(Verdict::Denied {
            denial: Denial::AcctExpired,
            pam_code: 13,
        });
        let back = read_bytes(&framed(&verdict)).await.unwrap().unwrap();
        assert!(matches!(
            back,
            FromConversation::Verdict(Verdict::Denied {
                denial: Denial::AcctExpired,
                pam_code: 13
            })
        ));
        let mut bytes = Vec::new();
        write(&mut bytes, &ToConversation::Answers(vec![Answer::new("s3cret".into())]))
            .await
            .unwrap();
        let ToConversation::Answers(answers) =
            conversation::read_frame(&mut bytes.as_slice()).unwrap()
        else {
            panic!("answers were written");
        };
        assert_eq!(answers[0].expose("test"), "s3cret");
    }

    #[tokio::test]
    async fn hostile_frames_are_errors_and_never_panics() {
        assert!(read_bytes(&[]).await.unwrap().is_none());
        assert!(read_bytes(&u32::MAX.to_le_bytes()).await.is_err(), "length over the limit");
        assert!(read_bytes(&[9, 0, 0, 0, 1, 2]).await.is_err(), "cut short");
        assert!(read_bytes(&[3, 0, 0, 0, 200, 200, 200]).await.is_err(), "no such variant");
        let prompt = Prompt { echo: Echo::Off, text: String::new() };
        assert!(
            read_bytes(&framed(&FromConversation::Prompts(vec![prompt; 33]))).await.is_err(),
            "33 prompts"
        );
        assert!(
            read_bytes(&framed(&FromConversation::Prompts(Vec::new()))).await.is_err(),
            "no prompt"
        );
        let long = FromConversation::Probed { fault: Some("x".repeat(MAX_TEXT + 1)), pam: true };
        assert!(read_bytes(&framed(&long)).await.is_err(), "long text");
        let mut trailing = framed(&FromConversation::Probed { fault: None, pam: true });
        trailing.push(0);
        trailing[0] += 1;
        assert!(read_bytes(&trailing).await.is_err(), "trailing byte");
        // Every short frame of two bytes, whatever it holds.
        for high in 0..=255 {
            for low in 0..=255 {
                let _ = read_bytes(&[2, 0, 0, 0, high, low]).await;
            }
        }
    }
}
