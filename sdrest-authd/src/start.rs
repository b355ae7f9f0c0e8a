//! From a configuration to a service that can answer: what is on disk is loaded, the conversation program is asked
//! what it can do, and nothing is served before that fits the mode.

use crate::{
    api_keys::ApiKeys,
    config::{Config, SecretSource},
    conversation::{
        ConversationSocket, Limits, Pacing, PamWay, Probed, Slots, Surroundings, Table,
    },
    random,
    service::{Service, Ways},
    standing::Standings,
    state_dir::StateDir,
    throttle::Throttle,
    tokens::{AccessTokens, Signer, TokenIssuer},
    users::Users,
};
use anyhow::{Context, bail};
use sdrest_proto::{authd::AuthMode, secret::Answer, transport::TrustedUids};
use sdrest_sandbox::Sandboxed;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

/// How long the conversation socket may take to come up.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);
/// Bounds of an HS256 secret in bytes (RFC 7518, section 3.2, asks for the first).
const SHORTEST_SECRET: usize = 32;
const LONGEST_SECRET: usize = 4096;

/// Reads the secret for HS256 whole. One line end after the text of a file does not belong to it.
pub(crate) fn read_secret(source: &SecretSource) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let (name, path, is_file) = match source {
        SecretSource::File(path) => ("jwt-secret-file", path.clone(), true),
        // Opened anew by its name: from the beginning, and without taking it over.
        SecretSource::Descriptor(number) => {
            ("jwt-secret-fd", PathBuf::from(format!("/proc/self/fd/{number}")), false)
        }
    };
    if is_file && fs::metadata(&path).is_ok_and(|meta| meta.mode() & 0o007 != 0) {
        tracing::warn!("`--{name}` can be read by every account of this machine; make it 0600");
    }
    let read = fs::read(&path);
    let mut secret = Zeroizing::new(read.with_context(|| format!("`--{name}` cannot be read"))?);
    if let SecretSource::Descriptor(number) = source
        && let Ok(number) = i32::try_from(*number)
    {
        nix::unistd::close(number).context("`--jwt-secret-fd` cannot be closed")?;
    }
    if is_file && secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    if !(SHORTEST_SECRET..=LONGEST_SECRET).contains(&secret.len()) {
        bail!(
            "`--{name}` must hold {SHORTEST_SECRET} to {LONGEST_SECRET} bytes, got {}",
            secret.len()
        );
    }
    Ok(secret)
}

/// What is on disk.
pub(crate) struct Stores {
    data: StateDir,
    users: Arc<Users>,
    tokens: Arc<TokenIssuer>,
    throttle: Arc<Throttle>,
}

impl Stores {
    pub(crate) fn load(
        config: &Config,
        state: &StateDir,
        data: StateDir,
        secret: Option<Zeroizing<Vec<u8>>>,
    ) -> anyhow::Result<Self> {
        let signer = Signer::load(&data, secret.as_ref().map(|secret| secret.as_slice()))?;
        let lifetime = config.token_lifetime.as_secs();
        let access = AccessTokens::new(signer, config.issuer.clone(), lifetime);
        let users = Arc::new(Users::load(&data)?);
        let admission = Arc::new(config.admission.clone());
        let tokens = TokenIssuer::load(&data, access, admission, Arc::clone(&users))?;
        Ok(Self {
            data,
            users,
            tokens: Arc::new(tokens),
            throttle: Arc::new(Throttle::load(state, config.throttle)?),
        })
    }
}

/// Everything that the verbs stand on, once the conversation program has said what it can do.
pub(crate) async fn service(
    config: Config,
    stores: Stores,
    sandbox: Sandboxed,
) -> anyhow::Result<Service> {
    let socket = |path: PathBuf| ConversationSocket {
        path,
        trusted: TrustedUids::new([0, config.conversation_uid]),
    };
    let program = socket(config.conversation_socket.clone());
    let asked = asked_of_pam(&config, &program).await?;
    let ways = Ways { mode: config.mode, pam: asked == AskedOfPam::Logins };
    let (admission, limits) = (Arc::new(config.admission.clone()), Limits::default());
    let pam = ways.pam.then(|| PamWay {
        service: config.pam_service.clone(),
        change: config.change_socket.clone().map(socket),
    });
    let around = Surroundings {
        socket: program,
        pam,
        account_service: (asked != AskedOfPam::Nothing).then(|| config.pam_service.clone()),
        pacing: Pacing {
            failure_floor: config.failure_floor,
            step: config.step,
            total: config.total,
            password_prompt: config.password_prompt,
            expose_pam_errors: config.expose_pam_errors,
        },
        throttle: Arc::clone(&stores.throttle),
        admission: Arc::clone(&admission),
        slots: Slots::new(limits.running),
        reachable: AtomicBool::new(true),
    };
    let table = Table::new(around, limits);
    if ways.internal() {
        let nobody = Answer::new(random::text().context("random numbers")?);
        let dummy = table.questions().hash(nobody).await;
        stores.users.set_dummy(dummy.context("passwords of internal users cannot be compared")?);
    }
    let standings = Arc::new(Standings {
        users: Arc::clone(&stores.users),
        tokens: Arc::clone(&stores.tokens),
        questions: table.questions(),
        admission,
    });
    let keys = ApiKeys::load(&stores.data, Arc::clone(&stores.tokens), Arc::clone(&standings))?;
    Ok(Service {
        ways,
        realm: config.realm,
        public_paths: config.public_paths,
        guests: config.guests,
        tokens: stores.tokens,
        users: stores.users,
        keys: Arc::new(keys),
        standings,
        table,
        throttle: stores.throttle,
        sandbox,
        began: Instant::now(),
        refused_peers: AtomicU64::new(0),
    })
}

/// What PAM is there for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AskedOfPam {
    Nothing,
    /// Whether a system account that has an API key may still sign in.
    Accounts,
    /// That, and logins.
    Logins,
}

/// What PAM is asked in this mode, and can be.
async fn asked_of_pam(config: &Config, program: &ConversationSocket) -> anyhow::Result<AskedOfPam> {
    if config.mode == AuthMode::None {
        return Ok(AskedOfPam::Nothing);
    }
    let plain = ask(program, None).await?;
    if let Some(fault) = plain.fault {
        bail!("logins cannot run: {fault}");
    }
    if !plain.pam {
        if config.mode == AuthMode::Pam {
            tracing::warn!("PAM is not built in; logins answer PAM_AUTH_UNAVAILABLE");
        }
        return Ok(AskedOfPam::Nothing);
    }
    match (config.mode, ask(program, Some(&config.pam_service)).await?.fault) {
        (AuthMode::Jwt | AuthMode::ApiKey, None) => Ok(AskedOfPam::Accounts),
        (AuthMode::Jwt | AuthMode::ApiKey, Some(fault)) => {
            tracing::info!("keys of system accounts are checked without PAM: {fault}");
            Ok(AskedOfPam::Nothing)
        }
        (_, None) => Ok(AskedOfPam::Logins),
        (AuthMode::Optional, Some(fault)) => {
            tracing::warn!("PAM logins are off, internal users sign in: {fault}");
            Ok(AskedOfPam::Nothing)
        }
        (_, Some(fault)) => bail!("PAM logins cannot run: {fault}"),
    }
}

/// Asks until the program answers, for a while.
async fn ask(program: &ConversationSocket, service: Option<&str>) -> anyhow::Result<Probed> {
    let give_up = Instant::now() + PROBE_PATIENCE;
    loop {
        match program.probe(service).await {
            Ok(probed) => return Ok(probed),
            Err(error) if Instant::now() >= give_up => bail!("logins cannot run: {error}"),
            Err(error) => tracing::debug!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
