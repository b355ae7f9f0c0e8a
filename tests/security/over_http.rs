//! What the replay list has of HTTP and sessions, against a whole stack: the front end, authd and PAM together. Their
//! rooms' own suites go further into each.

use anyhow::{Context, Result, ensure};
use harness::{
    Answer, Program, Stack,
    etc::{ALICE, BOB, service},
    is_root, skip,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};

const CONVERSATIONS: &str = "/api/v1/auth/conversations";

fn with_a_short_floor(etc: &Path) -> Result<()> {
    fs::create_dir_all(etc.join("sdrest"))?;
    Ok(fs::write(etc.join("sdrest/sdrest.toml"), "[authd]\nfailure_floor_ms = 300\n")?)
}

fn stack() -> Result<Stack> {
    Stack::builder().pam_service(service::PLAIN).edit_etc(with_a_short_floor).start()
}

fn is(answer: &Answer, status: u16, code: &str) -> Result<()> {
    ensure!(
        (answer.status, answer.code().as_str()) == (status, code),
        "not {status} {code}: {} {}",
        answer.status,
        String::from_utf8_lossy(&answer.bytes)
    );
    Ok(())
}

fn text(body: &Value, member: &str) -> Result<String> {
    body[member].as_str().map(str::to_owned).with_context(|| format!("no {member}: {body}"))
}

/// Another client's guess, an end that is asked for again, and a restart of authd in the middle.
#[test]
fn replay_21_a_conversation_is_its_clients_alone_and_ends_once() -> Result<()> {
    let mut stack = stack()?;
    let answer = |begun: &Value, secret: &str| -> Result<Answer> {
        let path = format!("{CONVERSATIONS}/{}/answers", text(begun, "id")?);
        let pid = &begun["prompts"][0]["pid"];
        let answers = json!([{ "pid": pid, "value": ALICE.password }]);
        let body = json!({ "seq": begun["seq"], "answers": answers }).to_string();
        let headers = [("X-Sdrest-Conversation", secret), ("Content-Type", "application/json")];
        stack.api().request("POST", &path, &headers, Some(body.as_bytes()))
    };
    // A step that takes longer than a request waits is told as running first.
    let settled = |mut step: Value, secret: &str| -> Result<Value> {
        while step["state"] == "running" {
            let path =
                format!("{CONVERSATIONS}/{}?after={}&wait=5", text(&step, "id")?, step["seq"]);
            let headers = [("X-Sdrest-Conversation", secret)];
            step = stack.api().request("GET", &path, &headers, None)?.expect(200)?;
        }
        Ok(step)
    };
    let begin = || -> Result<(Value, String)> {
        let wish = json!({ "username": ALICE.name });
        let begun = stack.api().post(CONVERSATIONS, &wish)?.expect(201)?;
        let secret = text(&begun, "secret")?;
        Ok((settled(begun, &secret)?, secret))
    };
    let ((own, own_secret), (other, other_secret)) = (begin()?, begin()?);
    is(&answer(&own, &other_secret)?, 410, "CONVERSATION_GONE")?;
    let done = settled(answer(&own, &own_secret)?.expect(200)?, &own_secret)?;
    ensure!(done["state"] == "succeeded", "{done}");
    is(&answer(&own, &own_secret)?, 410, "CONVERSATION_GONE")?;

    let authd = stack.kill(Program::Authd, Signal::SIGKILL)?;
    stack.wait_for_new(Program::Authd, authd)?;
    stack.wait_healthy()?;
    is(&answer(&other, &other_secret)?, 410, "CONVERSATION_GONE")?;
    stack.stop()?;
    Ok(())
}

/// CVE-2019-3804: cockpit crashed over base64 that was none. Here it is one refusal like another.
#[test]
fn replay_24_cve_2019_3804_a_malformed_authorization_is_refused() -> Result<()> {
    let mut stack = stack()?;
    let front_end = stack.process(Program::Api).context("no front end")?.pid;
    let long = format!("Bearer {}", "A".repeat(6000));
    let mut sent = 0;
    for value in [
        "Basic",
        "Basic =",
        "Basic ====",
        "Basic YWxpY2U",
        "Basic YWxpY2U6",
        "Basic Og==",
        "Basic \u{7f}",
        "Basic !!!!",
        "Negotiate YII",
        "Bearer",
        "Bearer ",
        "Bearer ..",
        "Bearer =.=.=",
        "Bearer a.b.c",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "bearer sdr_",
        ",",
        "Digest username=alice",
        &long,
    ] {
        // Some of these no client library lets out.
        let headers = [("Authorization", value)];
        let Ok(answer) = stack.api().request("GET", "/api/v1/auth/me", &headers, None) else {
            continue;
        };
        sent += 1;
        ensure!(matches!(answer.status, 400 | 401 | 431), "{value:?}: {}", answer.status);
    }
    ensure!(sent > 12, "only {sent} of them were sent");
    let now = stack.process(Program::Api).context("no front end")?.pid;
    ensure!(now == front_end, "the front end did not live through it");
    stack.stop()?;
    Ok(())
}

/// A1111 17411: its configuration was there for everybody.
#[test]
fn replay_28_nothing_of_the_configuration_is_told_to_strangers() -> Result<()> {
    let mut stack = stack()?;
    let alice = stack.api().login(ALICE.name, ALICE.password)?;
    let places = [stack.run_dir(), stack.state_dir(), harness::programs::demo_model()];
    let mut private: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    private.extend(
        [service::PLAIN, ALICE.name, ALICE.password, "sdrest.toml", "signing"].map(str::to_owned),
    );
    private.push(alice.token().context("no token")?.to_owned());
    let mut routes: Vec<String> =
        ["/", "/api", "/api/config", "/internal/sysinfo", "/config", "/.env", "/sdapi/v1/options"]
            .map(str::to_owned)
            .to_vec();
    let document = alice.get("/api/v1/openapi.json")?.expect(200)?;
    routes.extend(document["paths"].as_object().context("no paths")?.keys().cloned());
    for route in routes {
        for method in ["GET", "POST", "DELETE"] {
            let answer = stack.api().request(
                method,
                &route,
                &[],
                Some(b"{}".as_slice()).filter(|_| method == "POST"),
            )?;
            let told = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.bytes));
            let document = route.ends_with("openapi.json") || route.ends_with("/docs");
            for word in private.iter().filter(|_| !document) {
                ensure!(!told.contains(word.as_str()), "{method} {route} tells {word:?}: {told}");
            }
        }
    }
    stack.stop()?;
    Ok(())
}

#[test]
fn replay_29_after_a_logout_nothing_of_the_session_counts() -> Result<()> {
    let mut stack = stack()?;
    let login = stack.api().try_login(ALICE.name, ALICE.password)?.expect(200)?;
    let alice = stack.api().with_token(&text(&login, "token")?);
    alice.get("/api/v1/auth/me")?.expect(200)?;
    alice.post("/api/v1/auth/logout", &json!({}))?.expect(200)?;
    is(&alice.get("/api/v1/auth/me")?, 401, "TOKEN_REVOKED")?;
    let refresh = json!({ "refresh_token": text(&login, "refresh_token")? });
    let again = stack.api().post("/api/v1/auth/refresh", &refresh)?;
    ensure!(again.status == 401, "a refresh after the logout: {}", again.status);
    for cookie in ["token", "session", "sdrest"] {
        let cookie = format!("{cookie}={}", text(&login, "token")?);
        let answer = stack.api().request("GET", "/api/v1/auth/me", &[("Cookie", &cookie)], None)?;
        is(&answer, 401, "AUTH_REQUIRED")?;
    }
    stack.stop()?;
    Ok(())
}

/// An account that ended while its owner was signed in: the refresh says so, and what it ended counts nowhere.
#[test]
fn a_refused_refresh_ends_the_session_at_the_front_end_at_once() -> Result<()> {
    if !is_root() {
        skip("only root can let pam_unix look at other people's accounts");
        return Ok(());
    }
    let mut stack = stack()?;
    let login = stack.api().try_login(ALICE.name, ALICE.password)?.expect(200)?;
    let bob = stack.api().login(BOB.name, BOB.password)?;
    let alice = stack.api().with_token(&text(&login, "token")?);
    alice.get("/api/v1/auth/me")?.expect(200)?;
    let shadow = stack.etc().folder().join("shadow");
    let mut ended = String::new();
    for line in fs::read_to_string(&shadow)?.lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        if fields[0] == ALICE.name {
            // The day on which the account ends, long ago (shadow(5)).
            fields[7] = "1";
        }
        ended += &(fields.join(":") + "\n");
    }
    fs::write(&shadow, ended)?;
    let refresh = json!({ "refresh_token": text(&login, "refresh_token")? });
    let refused = stack.api().post("/api/v1/auth/refresh", &refresh)?;
    ensure!((401..=403).contains(&refused.status), "it was refreshed: {}", refused.status);
    // The front end hears it from authd, and not when it happens to ask again.
    stack.wait_until("the session's token is refused", Duration::from_secs(10), || {
        is(&alice.get("/api/v1/auth/me").ok()?, 401, "TOKEN_REVOKED").ok()
    })?;
    bob.get("/api/v1/auth/me")?.expect(200)?;
    stack.stop()?;
    Ok(())
}

#[test]
fn replay_30_a_refresh_token_that_is_used_again_ends_the_whole_family() -> Result<()> {
    let mut stack = stack()?;
    let refresh =
        |token: &str| stack.api().post("/api/v1/auth/refresh", &json!({ "refresh_token": token }));
    let login = stack.api().try_login(ALICE.name, ALICE.password)?.expect(200)?;
    let first = text(&login, "refresh_token")?;
    let second = text(&refresh(&first)?.expect(200)?, "refresh_token")?;
    let third = refresh(&second)?.expect(200)?;
    let stolen = refresh(&first)?;
    ensure!(stolen.status == 401, "a spent token was taken: {}", stolen.status);
    let last = refresh(&text(&third, "refresh_token")?)?;
    ensure!(last.status == 401, "the family lives on: {}", last.status);
    for token in [text(&login, "token")?, text(&third, "token")?] {
        // authd's news are on their way to the front end.
        stack.wait_until("the family's tokens are refused", Duration::from_secs(10), || {
            let answer = stack.api().with_token(&token).get("/api/v1/auth/me").ok()?;
            is(&answer, 401, "TOKEN_REVOKED").ok()
        })?;
    }
    stack.stop()?;
    Ok(())
}
