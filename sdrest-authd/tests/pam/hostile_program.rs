//! A conversation program that was taken over by a module: what it writes costs its own login, and nobody else's.

use crate::stack::{PATIENCE, PLAIN, Setup, Stack, Talk, begin, conversation_program};
use sdrest_proto::{
    conversation::{FromConversation, MAX_TEXT, Prompt, write_frame},
    login::{Echo, LoginState, MessageStyle},
    transport::deadline,
};

/// All that was said is told in one answer, which has to fit a frame of the front end's connection.
#[tokio::test]
async fn more_text_than_one_answer_holds_ends_that_login_alone() {
    if conversation_program().is_none() {
        eprintln!("skipped: sdrest-conversation is not built; build the workspace first");
        return;
    }
    let mut says = Vec::new();
    let text = "A".repeat(MAX_TEXT);
    for _ in 0..70 {
        let message = FromConversation::Message { style: MessageStyle::Info, text: text.clone() };
        write_frame(&mut says, &message).unwrap();
    }
    let prompts = vec![Prompt { echo: Echo::Off, text: "Password: ".to_owned() }];
    write_frame(&mut says, &FromConversation::Prompts(prompts)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let frames = dir.path().join("frames");
    // In place of the program, once the frames are there: its socket is its standard input.
    let play = format!("[ -e {0} ] || exec \"$@\"; cat {0} >&0; exec sleep 20", frames.display());
    let wrapper = ["sh", "-c", &play, "sh"];
    let lines = "auth required pam_deny.so\naccount required pam_permit.so\n";
    let services = [("sdrest", lines.to_owned())];
    let setup = Setup { wrapper: &wrapper, services: &services, ..PLAIN };
    let stack = Stack::start(&setup).unwrap();
    std::fs::write(&frames, says).unwrap();
    let client = stack.client().await;
    let talk = Talk::begin(&client, begin("games", None)).await.unwrap();
    assert!(matches!(talk.end().await, LoginState::Failed(_)), "{}", stack.log());
    // The connection that everybody's requests share is still there.
    client.health(deadline(PATIENCE)).await.unwrap();
}
