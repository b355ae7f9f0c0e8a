//! `sdrestctl auth-test USER`: one whole login in the terminal, each step with the time when it came, as a person
//! who sets up PAM wants to see it. It goes through HTTP as everybody's login does, and signs out at the end.

use crate::{
    cli::AuthTestArgs,
    session::{
        client::{Answer, Client},
        conversation::{self, Ending, Person},
        login::{self, Way},
        server,
        terminal::{self, Echo, Source, printable, say},
    },
};
use anyhow::Result;
use serde_json::{Value, json};
use std::{process::ExitCode, time::Instant};

pub(crate) fn run(args: &AuthTestArgs) -> Result<ExitCode> {
    let url = server::url(&args.server)?;
    let mut client = Client::new(&url);
    let way = login::way(&client)?;
    let mut steps = Steps {
        begun: Instant::now(),
        source: if args.answers_stdin { Source::Lines } else { Source::Terminal },
    };
    steps.line("begin", &format!("{} at {url}", args.username));
    let ending = match way {
        Way::Open => {
            steps.line("result", "this server has no authentication: everybody is `anonymous`");
            return Ok(ExitCode::FAILURE);
        }
        Way::KeysOnly => {
            steps.line("result", "this server takes API keys only: nobody signs in");
            return Ok(ExitCode::FAILURE);
        }
        Way::Kernel => {
            steps.line("info", "no password: the kernel says who is at the other end");
            let answer =
                client.post_with("/auth/login", &json!({ "username": args.username }), None)?;
            if answer.is_success() {
                Ending::SignedIn(answer.body)
            } else {
                Ending::Refused(answer)
            }
        }
        Way::Conversation => conversation::run(&client, &args.username, &mut steps)?,
    };
    match ending {
        Ending::Refused(answer) => {
            steps.refused(&answer);
            Ok(ExitCode::FAILURE)
        }
        Ending::SignedIn(answer) => {
            client.set_token(conversation::token(&answer)?);
            steps.signed_in(&client.get("/auth/me")?);
            client.post("/auth/logout", &json!({}))?;
            steps.line("end", "signed out again");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Every step as a line: seconds since the beginning, what it is, its text.
struct Steps {
    begun: Instant,
    source: Source,
}

impl Steps {
    fn line(&self, kind: &str, text: &str) {
        let seconds = self.begun.elapsed().as_secs_f64();
        for part in printable(text).lines() {
            say(&format!("{seconds:8.3} s  {kind:8}  {part}"));
        }
    }

    fn refused(&self, answer: &Answer) {
        let (code, message) = answer.refusal().unwrap_or(("no code", "no message"));
        self.line("result", &format!("refused: {code}: {message}"));
        self.line("meaning", meaning(code));
    }

    /// What the token is worth, as the server sees it.
    fn signed_in(&self, me: &Value) {
        let text = |pointer: &str| {
            me.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown").to_owned()
        };
        let list = |pointer: &str| {
            let words = me.pointer(pointer).and_then(Value::as_array);
            words.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        };
        self.line("result", &format!("signed in as {}", text("/user/username")));
        self.line("subject", &text("/user/id"));
        self.line("role", &text("/user/role"));
        self.line("may", &list("/user/permissions"));
        self.line("methods", &list("/methods"));
        if let Some(seconds) = me.get("expires_in").and_then(Value::as_u64) {
            self.line("expires", &format!("in {seconds} s"));
        }
    }
}

impl Person for Steps {
    fn told(&mut self, style: &str, text: &str) {
        self.line(style, text);
    }

    fn asked(&mut self, text: &str, echo: Echo) -> Result<String> {
        let kind = match echo {
            Echo::On => "prompt",
            Echo::Off => "secret",
        };
        self.line(kind, text);
        let answer = terminal::ask(self.source, text, echo)?;
        self.line("answer", if answer.is_empty() { "empty" } else { "given" });
        Ok(answer)
    }
}

/// What an administrator should look at.
fn meaning(code: &str) -> &'static str {
    match code {
        "AUTHENTICATION_FAILED" => {
            "a wrong name or password, a locked or disabled account, or a PAM module's policy. The answer is the same for \
             all of them on purpose; authd's log has the PAM code"
        }
        "ACCOUNT_EXPIRED" => "the password was right, but the account has expired (chage -E)",
        "CREDENTIAL_EXPIRED" => {
            "the password was right, but it has expired and was not changed: the new one was refused, or this server \
             cannot change it (only as root, with a `password` line in the service file)"
        }
        "ACCOUNT_DENIED" => {
            "the password was right, but the account phase said no: pam_access, pam_time, root, a system account, or \
             an account that this server does not let in"
        }
        "TOO_MANY_ATTEMPTS" => "this user or address has failed too often; wait, then try again",
        "AUTH_TIMEOUT" => "an answer took too long, or a module did",
        "PAM_AUTH_UNAVAILABLE" => {
            "PAM is not in this build, or its service file cannot be used; `sdrestctl status` says which"
        }
        "CONVERSATION_GONE" => "the login was given up meanwhile",
        "MISSING_PASSWORD" => "the answer was empty",
        "VALIDATION_FAILED" | "BAD_REQUEST" => "the server does not take such a request",
        _ => "see the table of errors in the documentation",
    }
}
