//! Signing in the way that the server asks for: not at all, by a conversation, or by the kernel's word. Which it is,
//! `/auth/methods` says.

use super::{
    client::Client,
    conversation::{self, Ending, Person},
    terminal::{self, Echo, Source},
};
use crate::{cli::CallerArgs, users};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How a server wants its callers to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nobody signs in.
    Open,
    /// With an API key, which is never typed.
    KeysOnly,
    /// Prompts and answers.
    Conversation,
    /// The kernel says who is at the other end.
    Kernel,
}

/// What this server wants.
pub(crate) fn way(client: &Client) -> Result<Way> {
    Ok(read(&client.get("/auth/methods")?))
}

/// `{"mode", "methods":[{"name", "password", "conversation"}]}`.
fn read(answer: &Value) -> Way {
    let mode = answer.get("mode").and_then(Value::as_str).unwrap_or_default();
    let methods = answer.get("methods").and_then(Value::as_array);
    let asks = methods.into_iter().flatten().any(|method| {
        let flag = |name: &str| method.get(name).and_then(Value::as_bool) == Some(true);
        flag("password") || flag("conversation")
    });
    match mode {
        "none" => Way::Open,
        _ if asks => Way::Conversation,
        "api-key" => Way::KeysOnly,
        "unix" => Way::Kernel,
        _ => Way::Conversation,
    }
}

/// Signs in, and leaves the client with the token. False where the server asks nobody to.
pub(crate) fn sign_in(client: &mut Client, caller: &CallerArgs) -> Result<bool> {
    let way = way(client)?;
    if way == Way::Open {
        return Ok(false);
    }
    if way == Way::KeysOnly {
        bail!(
            "this server takes API keys only: an administrator makes one with `sdrestctl key add --for USER`; give it \
             as SDREST_API_KEY in the environment"
        );
    }
    let username = match &caller.user {
        Some(name) => name.clone(),
        None => own_name()?,
    };
    let answer = if way == Way::Kernel {
        client.post("/auth/login", &json!({ "username": username }))?
    } else {
        let source = if caller.password_stdin { Source::Lines } else { Source::Terminal };
        match conversation::run(client, &username, &mut Quiet(source))? {
            Ending::SignedIn(answer) => answer,
            Ending::Refused(answer) => return Err(answer.error()),
        }
    };
    client.set_token(conversation::token(&answer)?);
    Ok(true)
}

/// The token expires by itself; a failed sign-out must not hide what was done before.
pub(crate) fn sign_out(client: &Client) {
    if let Err(error) = client.post("/auth/logout", &json!({})) {
        terminal::tell(&format!("sdrestctl: signing out failed: {error:#}"));
    }
}

fn own_name() -> Result<String> {
    users::name_of(nix::unistd::getuid().as_raw()).context("name the user with --user")
}

/// Shows what a module says, and its prompts, as they are.
struct Quiet(Source);

impl Person for Quiet {
    fn told(&mut self, _style: &str, text: &str) {
        terminal::tell(text);
    }

    fn asked(&mut self, text: &str, echo: Echo) -> Result<String> {
        terminal::ask(self.0, text, echo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_how_to_sign_in() {
        let answer = |mode: &str, password: bool, conversation: bool| {
            let method =
                json!({ "name": mode, "password": password, "conversation": conversation });
            json!({ "mode": mode, "methods": [method] })
        };
        assert_eq!(read(&answer("none", false, false)), Way::Open);
        assert_eq!(read(&answer("api-key", false, false)), Way::KeysOnly);
        assert_eq!(read(&answer("jwt", true, false)), Way::Conversation);
        assert_eq!(read(&answer("pam", true, true)), Way::Conversation);
        assert_eq!(read(&answer("unix", true, true)), Way::Conversation);
        assert_eq!(read(&answer("unix", false, false)), Way::Kernel);
        assert_eq!(read(&answer("optional", true, false)), Way::Conversation);
    }
}
