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

/// `{"mode", "methods":[{"name", "password", "conversation", "kernel"}]}`.
fn read(answer: &Value) -> Way {
    let methods = answer.get("methods").and_then(Value::as_array).map(Vec::as_slice);
    let methods = methods.unwrap_or_default();
    let any = |name: &str| {
        methods.iter().any(|method| method.get(name).and_then(Value::as_bool) == Some(true))
    };
    if answer.get("mode").and_then(Value::as_str) == Some("none") {
        Way::Open
    } else if any("password") || any("conversation") {
        Way::Conversation
    } else if any("kernel") {
        Way::Kernel
    } else {
        Way::KeysOnly
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
        let method = |name: &str, password: bool, conversation: bool, kernel: bool| json!({ "name": name, "password": password, "conversation": conversation, "kernel": kernel });
        let answer = |mode: &str, first: Value| json!({ "mode": mode, "methods": [first, method("api-key", false, false, false)] });
        let none = json!({ "mode": "none", "methods": [method("none", false, false, false)] });
        assert_eq!(read(&none), Way::Open);
        let keys = method("api-key", false, false, false);
        assert_eq!(read(&json!({ "mode": "api-key", "methods": [keys] })), Way::KeysOnly);
        assert_eq!(read(&answer("jwt", method("jwt", true, false, false))), Way::Conversation);
        assert_eq!(read(&answer("pam", method("pam", true, true, false))), Way::Conversation);
        assert_eq!(read(&answer("optional", method("jwt", true, false, false))), Way::Conversation);
        assert_eq!(read(&answer("unix", method("unix", true, true, false))), Way::Conversation);
        assert_eq!(read(&answer("unix", method("unix", false, false, true))), Way::Kernel);
    }
}
