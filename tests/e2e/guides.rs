//! The two authentication guides that sdrest follows, line by line: each command line is started as it is written (its
//! places put here: folders, port, address), and each request is sent and answered as documented. `README.md` beside
//! this file lists which test has which line, and the lines that differ on purpose.

use crate::alone;
use anyhow::{Context, Result, ensure};
use harness::{
    Answer, Stack,
    etc::{ALICE, BOB, EXPIRED, MUST_CHANGE},
    is_root, skip,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// Eight routes that a server with authentication keeps closed unless told otherwise.
const CLOSED: [&str; 8] = [
    "/api/models",
    "/api/models/types",
    "/api/models/directories",
    "/api/samplers",
    "/api/schedulers",
    "/api/parameters",
    "/api/queue/status",
    "/api/queue/job/0195b8a0-0000-7000-8000-000000000000",
];

fn serve(line: &str) -> Result<Stack> {
    Stack::builder().written(line).start().with_context(|| line.to_owned())
}

fn open(stack: &Stack, paths: &[&str]) -> Result<()> {
    for path in paths {
        let answer = stack.api().get(path)?;
        ensure!(answer.status == 200, "{path} must be public: {}", answer.status);
    }
    Ok(())
}

fn closed(stack: &Stack, paths: &[&str]) -> Result<()> {
    for path in paths {
        refused(&stack.api().get(path)?, path)?;
    }
    Ok(())
}

fn refused(answer: &Answer, what: &str) -> Result<()> {
    ensure!(
        (answer.status, answer.code().as_str()) == (401, "AUTH_REQUIRED"),
        "{what}: {} {}",
        answer.status,
        String::from_utf8_lossy(&answer.bytes)
    );
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    ensure!(challenge.contains("realm="), "{what}: no realm in {challenge:?}");
    Ok(())
}

/// `{"error":{"message","code","timestamp"}}`, the timestamp in whole Unix seconds.
fn has_the_error_shape(answer: &Answer) -> Result<()> {
    let body = answer.json()?;
    let error = body["error"].as_object().context("no error object")?;
    ensure!(error["message"].is_string() && error["code"].is_string(), "{body}");
    ensure!(error["timestamp"].as_u64().is_some_and(|at| at > 1_600_000_000), "{body}");
    Ok(())
}

/// The answer of a login, member by member.
fn is_a_login(body: &Value, name: &str, kind: &str) -> Result<String> {
    ensure!(body["success"] == true && body["expires_in"] == 3600, "{body}");
    ensure!(body["token_type"] == "Bearer" && body["token_kind"] == kind, "{body}");
    let user = &body["user"];
    ensure!(user["id"].is_string() && user["username"] == name && user["role"] == "user", "{body}");
    let permissions = user["permissions"].as_array().context("no permissions")?;
    ensure!(
        ["generate", "models_view"].iter().all(|one| permissions.contains(&json!(one))),
        "{body}"
    );
    Ok(body["token"].as_str().context("no token")?.to_owned())
}

#[test]
fn security_guide_defaults_close_everything_but_health_and_status() -> Result<()> {
    let _alone = alone();
    let mut stack = serve("./stable-diffusion-rest --models-dir /data/SD_MODELS --auth jwt")?;
    open(&stack, &["/api/health", "/api/status"])?;
    closed(&stack, &CLOSED)?;
    stack.add_user("carol", "a password of carol", "user")?;
    let body = stack.api().try_login("carol", "a password of carol")?.expect(200)?;
    let token = is_a_login(&body, "carol", "jwt")?;
    let carol = stack.api().with_token(&token);
    for path in &CLOSED[..7] {
        carol.get(path)?.expect(200)?;
    }
    ensure!(carol.get(CLOSED[7])?.status == 404, "a job that is not there");
    stack.stop()?;
    Ok(())
}

#[test]
fn security_guide_public_paths_open_what_they_name_and_no_more() -> Result<()> {
    let _alone = alone();
    let base = "./stable-diffusion-rest --models-dir /data/SD_MODELS --auth jwt --public-paths";
    for (paths, opened, still) in [
        (
            "/api/health,/api/status,/api/models",
            &["/api/health", "/api/status", "/api/models", "/api/models/types"][..],
            &["/api/samplers", "/api/queue/status", "/api/modelsX"][..],
        ),
        (
            "/api/health,/api/status,/api/docs,/api/openapi.json",
            &["/api/docs", "/api/openapi.json", "/api/health"],
            &["/api/models", "/api/samplers"],
        ),
        (
            "/api/health,/api/status,/api/queue/status",
            &["/api/queue/status"],
            &["/api/models", CLOSED[7]],
        ),
        (
            "/api/health,/api/status,/api/models,/api/samplers",
            &["/api/models", "/api/samplers"],
            &["/api/schedulers", "/api/auth/me"],
        ),
        ("/", &CLOSED[..7], &["/api/auth/api-keys", "/api/jobs"]),
    ] {
        let mut stack = serve(&format!("{base} \"{paths}\""))?;
        open(&stack, opened).with_context(|| paths.to_owned())?;
        for path in still {
            let answer = stack.api().get(path)?;
            ensure!(matches!(answer.status, 401 | 404), "{paths} opens {path}: {}", answer.status);
        }
        stack.stop()?;
    }
    Ok(())
}

#[test]
fn security_guide_verbose_shows_why_a_request_was_refused() -> Result<()> {
    let _alone = alone();
    let mut stack =
        serve("./stable-diffusion-rest --models-dir /data/SD_MODELS --auth jwt --verbose")?;
    closed(&stack, &["/api/models"])?;
    stack.add_user("carol", "a password of carol", "user")?;
    let wrong = stack.api().try_login("carol", "not the password")?;
    ensure!((wrong.status, wrong.code().as_str()) == (401, "AUTHENTICATION_FAILED"));
    stack.stop()?;
    let log = stack.log();
    for words in ["AUTH_REQUIRED", "AUTHENTICATION_FAILED"] {
        ensure!(log.contains(words), "the log does not tell of {words}");
    }
    ensure!(!log.contains("not the password"), "the log holds a password");
    Ok(())
}

#[test]
fn security_guide_options_are_taken() -> Result<()> {
    let _alone = alone();
    let data = tempfile::tempdir()?;
    let line = format!(
        "./stable-diffusion-rest --models-dir /data/SD_MODELS --auth jwt --jwt-secret {} \
         --jwt-expiration 5 --enable-guest-access --auth-data-dir {}",
        "0123456789abcdef0123456789abcdef-guide",
        data.path().join("auth").display()
    );
    let mut stack = serve(&line)?;
    stack.add_user("carol", "a password of carol", "user")?;
    let body = stack.api().try_login("carol", "a password of carol")?.expect(200)?;
    ensure!(body["expires_in"] == 300, "{body}");
    stack
        .api()
        .with_token(body["token"].as_str().unwrap_or_default())
        .get("/api/models")?
        .expect(200)?;
    let guest = stack.api().get("/api/auth/me")?.expect(200)?;
    ensure!(guest.to_string().contains("guest"), "{guest}");
    ensure!(fs::read_dir(data.path().join("auth"))?.next().is_some(), "--auth-data-dir is empty");
    for process in stack.processes() {
        let words = process.command.join(" ");
        ensure!(!words.contains("0123456789abcdef"), "the secret is on a command line: {words}");
    }
    stack.stop()?;
    Ok(())
}

#[test]
fn pam_guide_unix_and_pam_modes_sign_in_with_a_password() -> Result<()> {
    let _alone = alone();
    for (line, kind) in [
        (
            "./stable-diffusion-rest-server --auth unix --pam-service-name stable-diffusion-rest --port 8080",
            "unix",
        ),
        (
            "./stable-diffusion-rest-server --auth pam --pam-service-name stable-diffusion-rest --port 8080",
            "jwt",
        ),
        ("./build/stable-diffusion-rest-server --auth unix", "unix"),
        (
            "./stable-diffusion-rest-server --models-dir /data/SD_MODELS --checkpoints checkpoints --auth pam \
             --pam-service-name stable-diffusion-rest --port 8080 --host 0.0.0.0",
            "jwt",
        ),
    ] {
        let mut stack = serve(line)?;
        let body = stack.api().try_login(ALICE.name, ALICE.password)?.expect(200)?;
        let token = is_a_login(&body, ALICE.name, kind).context(line)?;
        let models = stack.api().with_token(&token).get("/api/v1/models")?.expect(200)?;
        ensure!(models["models"].as_array().is_some_and(|models| !models.is_empty()), "{models}");
        let missing = stack.api().post("/api/auth/login", &json!({ "username": ALICE.name }))?;
        ensure!((missing.status, missing.code().as_str()) == (400, "MISSING_PASSWORD"), "{line}");
        has_the_error_shape(&missing)?;
        let wrong = stack.api().try_login(ALICE.name, "not her password")?;
        ensure!((wrong.status, wrong.code().as_str()) == (401, "AUTHENTICATION_FAILED"), "{line}");
        has_the_error_shape(&wrong)?;
        stack.stop()?;
    }
    Ok(())
}

#[test]
fn pam_guide_account_states_have_their_codes() -> Result<()> {
    if !is_root() {
        skip("without root PAM can check one account only");
        return Ok(());
    }
    let _alone = alone();
    let mut stack = serve(
        "./stable-diffusion-rest-server --auth pam --pam-service-name stable-diffusion-rest --port 8080",
    )?;
    let expired = stack.api().try_login(EXPIRED.name, EXPIRED.password)?;
    ensure!((expired.status, expired.code().as_str()) == (403, "ACCOUNT_EXPIRED"));
    has_the_error_shape(&expired)?;
    // "Credential expired" has no code in the guide: here it goes on as a conversation that changes it.
    let must_change = stack.api().try_login(MUST_CHANGE.name, MUST_CHANGE.password)?;
    ensure!(must_change.status == 202, "{}", String::from_utf8_lossy(&must_change.bytes));
    stack.stop()?;
    Ok(())
}

#[test]
fn pam_guide_optional_mode_takes_both() -> Result<()> {
    let _alone = alone();
    let mut stack = serve(
        "./stable-diffusion-rest-server --models-dir /data/SD_MODELS --checkpoints checkpoints --auth optional \
         --pam-service-name stable-diffusion-rest --enable-guest-access --port 8080",
    )?;
    open(&stack, &["/api/models", "/api/samplers"])?;
    let alice = stack.api().login(ALICE.name, ALICE.password)?;
    let me = alice.get("/api/auth/me")?.expect(200)?;
    ensure!(me["user"]["username"] == ALICE.name, "{me}");
    let wrong = stack.api().with_token("not.a.token").get("/api/models")?;
    ensure!(wrong.status == 401, "wrong credentials are not a guest's: {}", wrong.status);
    ensure!(stack.api().try_login(ALICE.name, "not her password")?.status == 401);
    stack.stop()?;
    Ok(())
}

#[test]
fn pam_guide_deprecated_flags_work_and_name_the_new_one() -> Result<()> {
    let _alone = alone();
    for (flag, now, kind) in
        [("--enable-unix-auth", "--auth unix", "unix"), ("--enable-pam-auth", "--auth pam", "jwt")]
    {
        let mut stack = serve(&format!("./stable-diffusion-rest-server {flag} --port 8080"))?;
        let body = stack.api().try_login(ALICE.name, ALICE.password)?.expect(200)?;
        is_a_login(&body, ALICE.name, kind).context(flag)?;
        ensure!(stack.log().contains(now), "{flag}: the log does not name {now}");
        stack.stop()?;
    }
    Ok(())
}

#[test]
fn pam_guide_debugging_writes_the_log_file() -> Result<()> {
    let _alone = alone();
    let mut stack = serve(
        "./stable-diffusion-rest-server --models-dir /data/SD_MODELS --checkpoints checkpoints \
         --auth-method pam --verbose --log-file /tmp/stable-diffusion-auth.log",
    )?;
    stack.api().login(ALICE.name, ALICE.password)?;
    stack.api().try_login(ALICE.name, "sentinel-of-a-wrong-password")?;
    stack.stop()?;
    let log = stack.written_log();
    ensure!(log.contains("alice") && log.contains("AUTHENTICATION_FAILED"), "{log}");
    ensure!(
        !log.contains(ALICE.password) && !log.contains("sentinel-of"),
        "a password is in the log"
    );
    Ok(())
}

/// The guide's `my-custom-service`, as an administrator would write it.
fn with_a_custom_service(etc: &Path) -> Result<()> {
    fs::write(
        etc.join("pam.d/my-custom-service"),
        "auth required pam_unix.so nodelay\naccount required pam_unix.so\n",
    )?;
    Ok(())
}

#[test]
fn pam_guide_custom_service_name() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder()
        .edit_etc(with_a_custom_service)
        .written(
            "./stable-diffusion-rest-server --models-dir /data/SD_MODELS --checkpoints checkpoints --auth pam \
             --pam-service-name my-custom-service",
        )
        .start()?;
    stack.api().login(ALICE.name, ALICE.password)?;
    stack.stop()?;
    Ok(())
}

/// The programs of this build, with a conversation program that has no PAM.
fn programs_without_pam() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    for name in ["sdrestctl", "sdrest-api", "sdrest-authd", "sdrest-worker"] {
        fs::copy(harness::programs::find(name)?, folder.path().join(name))?;
    }
    let built = harness::programs::without_pam()?;
    fs::copy(built, folder.path().join("sdrest-conversation"))?;
    Ok(folder)
}

/// A login by the name alone, from a process of this uid. Bash is the one client that every user here can run.
fn login_as(uid: u32, url: &str, name: &str) -> Result<Value> {
    let (host, port) = url
        .strip_prefix("http://")
        .and_then(|address| address.split_once(':'))
        .with_context(|| format!("no address in {url}"))?;
    let body = json!({ "username": name }).to_string();
    let request = format!(
        "POST /api/auth/login HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let id = uid.to_string();
    let script = "exec 3<>/dev/tcp/$0/$1; printf %s \"$2\" >&3; cat <&3";
    let output = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "bash", "-c", script])
        .args([host, port, &request])
        .output()?;
    let answer = String::from_utf8_lossy(&output.stdout);
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("{answer:?}, {}", String::from_utf8_lossy(&output.stderr)))?;
    serde_json::from_str(body).with_context(|| answer.into_owned())
}

#[test]
fn pam_guide_without_pam_the_kernel_names_the_caller() -> Result<()> {
    if !is_root() {
        skip("only root can ask as two users");
        return Ok(());
    }
    let _alone = alone();
    let programs = programs_without_pam()?;
    let start = |line: &str| Stack::builder().programs(programs.path()).written(line).start();
    let mut stack =
        start("./build/stable-diffusion-rest-server --auth unix --models-dir /data/SD_MODELS")?;
    let body = login_as(ALICE.uid, stack.url(), ALICE.name)?;
    let token = is_a_login(&body, ALICE.name, "unix")?;
    ensure!(body["refresh_token"].is_null(), "{body}");
    stack.api().with_token(&token).get("/api/models")?.expect(200)?;
    // Nobody can name somebody else, and root is nobody here.
    for (uid, name) in [(ALICE.uid, BOB.name), (0, "root"), (0, ALICE.name)] {
        let refused = login_as(uid, stack.url(), name)?;
        ensure!(
            refused["error"]["code"] == "AUTHENTICATION_FAILED",
            "uid {uid} as {name}: {refused}"
        );
    }
    stack.stop()?;
    let mut stack =
        start("./stable-diffusion-rest-server --auth pam --models-dir /data/SD_MODELS")?;
    let answer = stack.api().try_login(ALICE.name, ALICE.password)?;
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    ensure!((answer.status, answer.code().as_str()) == (503, "PAM_AUTH_UNAVAILABLE"), "{text}");
    ensure!(text.contains("PAM_NOT_AVAILABLE"), "the older name is not told: {text}");
    stack.stop()?;
    Ok(())
}

#[test]
fn pam_guide_help_says_whether_pam_is_in_the_build() -> Result<()> {
    let help =
        Command::new(harness::programs::find("sdrestctl")?).args(["serve", "--help"]).output()?;
    let text = String::from_utf8_lossy(&help.stdout);
    let line = text.lines().find(|line| line.to_lowercase().contains("pam:"));
    ensure!(line.is_some_and(|line| line.contains("built in")), "{text}");
    Ok(())
}
