//! Every verb of authd and of its admin socket, asked and answered.

use super::{Seed, answer, cancel, connection, request, request_id, seed, server_error};
use sdrest_proto::{
    accounts::{NewUser, UserInfo, UserName, UserState},
    api_key::{KeyHolder, KeyInfo, KeyName, MadeKey, NewKey, Scopes},
    authd::{
        AuthMode, AuthdAdminRequest, AuthdAdminResponse, AuthdDescription, AuthdRequest,
        AuthdResponse, Claims, Revocations, SignIn, Signature, VerifyingKey, Whose,
    },
    error::{ErrorCode, Fault},
    health::{Health, SandboxReport, Serving},
    id::{ConversationId, KeyId, SessionId, UserId},
    identity::{Permission, Role, Subject},
    login::{
        BeginLogin, ConversationRef, Echo, Grant, LoginMessage, LoginPrompt, LoginState,
        MessageStyle, PeerLogin, Poll, Respond, Step,
    },
    secret::{Answer, ApiKey, BearerToken, ConversationSecret, RefreshToken},
};

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let verbs = requests();
    for (at, verb) in verbs.iter().enumerate() {
        seeds.push(seed("authd_request", &format!("verb-{at:02}"), request(verb)));
    }
    seeds.push(seed("authd_request", "cancel", cancel()));
    let frames: Vec<_> = verbs.iter().take(4).map(request).collect();
    seeds.push(seed("authd_connection", "four-verbs", connection(&frames)));
    seeds.push(seed("authd_connection", "cancel", connection(&[frames[1].clone(), cancel()])));
    for (at, verb) in answers().iter().enumerate() {
        seeds.push(seed("authd_answer", &format!("verb-{at:02}"), answer(verb)));
    }
    seeds.push(seed("authd_answer", "server-error", server_error()));
    for (at, verb) in admin_requests().iter().enumerate() {
        seeds.push(seed("authd_admin_request", &format!("verb-{at:02}"), request(verb)));
    }
    for (at, verb) in admin_answers().iter().enumerate() {
        seeds.push(seed("authd_admin_answer", &format!("verb-{at:02}"), answer(verb)));
    }
    seeds
}

fn token() -> BearerToken {
    BearerToken::new("eyJhbGciOiJFZERTQSJ9.e30.c2ln".to_owned())
}

fn key_id() -> KeyId {
    KeyId::from_bytes([0x22; 16])
}

pub(super) fn key() -> ApiKey {
    ApiKey::compose(key_id(), &[7; 24])
}

fn conversation() -> ConversationRef {
    let secret = ConversationSecret::new("c2VjcmV0".to_owned());
    ConversationRef { id: ConversationId::from_bytes([0x33; 16]), secret }
}

fn password() -> Answer {
    Answer::new("correct horse".to_owned())
}

fn user() -> UserName {
    UserName::try_from("alice".to_owned()).unwrap()
}

fn scopes() -> Scopes {
    Scopes::try_from(vec![Permission::Generate, Permission::ModelsView]).unwrap()
}

pub(super) fn new_key() -> NewKey {
    let name = KeyName::try_from("my laptop".to_owned()).unwrap();
    NewKey { name, scopes: Some(scopes()), expires_in_days: Some(30) }
}

fn fault() -> Fault {
    Fault::new(ErrorCode::TooManyAttempts, "too many attempts; wait").retry_after(17)
}

fn requests() -> Vec<AuthdRequest> {
    let username = || "alice".to_owned().try_into().unwrap();
    let login = |password, source: &str| BeginLogin {
        username: username(),
        password,
        source: source.parse().ok(),
        request: request_id(),
        wait_ms: 2_000,
    };
    vec![
        AuthdRequest::Describe {},
        AuthdRequest::Begin { login: login(Some(password()), "192.0.2.7") },
        AuthdRequest::Begin { login: login(None, "2001:db8::7") },
        AuthdRequest::Respond {
            respond: Respond {
                conversation: conversation(),
                sequence: 3,
                answers: vec![password(), Answer::new("123456".to_owned())],
                wait_ms: 2_000,
                request: request_id(),
            },
        },
        AuthdRequest::Poll {
            poll: Poll {
                conversation: conversation(),
                after: 2,
                wait_ms: 30_000,
                request: request_id(),
            },
        },
        AuthdRequest::Cancel { conversation: conversation(), request: request_id() },
        AuthdRequest::LoginPeer {
            login: PeerLogin { uid: 1000, username: username(), request: request_id() },
        },
        AuthdRequest::Introspect { token: token(), request: request_id() },
        AuthdRequest::CheckKey { key: key(), request: request_id() },
        AuthdRequest::MakeKey { token: token(), new: new_key(), request: request_id() },
        AuthdRequest::ListKeys { token: token(), whose: Whose::Own, request: request_id() },
        AuthdRequest::ListKeys { token: token(), whose: Whose::Everybodys, request: request_id() },
        AuthdRequest::RevokeKey { token: token(), key: key_id(), request: request_id() },
        AuthdRequest::Refresh {
            token: RefreshToken::new("cmVmcmVzaA".to_owned()),
            request: request_id(),
        },
        AuthdRequest::Logout { token: token(), request: request_id() },
        AuthdRequest::Revocations { after: 3, wait_ms: 30_000 },
        AuthdRequest::Health {},
    ]
}

fn step(state: LoginState) -> Step {
    Step {
        id: ConversationId::from_bytes([0x33; 16]),
        secret: Some(ConversationSecret::new("c2VjcmV0".to_owned())),
        sequence: 4,
        state,
        messages: vec![LoginMessage {
            sequence: 3,
            style: MessageStyle::Info,
            text: "Welcome".to_owned(),
        }],
        expires_in_ms: 180_000,
        step_expires_in_ms: 59_500,
    }
}

fn grant() -> Grant {
    Grant {
        token: token(),
        refresh_token: Some(RefreshToken::new("cmVmcmVzaA".to_owned())),
        subject: Subject::unix(1000, 1),
        username: "alice".to_owned().try_into().unwrap(),
        role: Role::Operator,
        session: SessionId::from_bytes([0x44; 16]),
        expires_in: 3600,
    }
}

fn verifying_key() -> VerifyingKey {
    VerifyingKey { kid: "the-key".to_owned(), public: [9; 32] }
}

fn description() -> AuthdDescription {
    AuthdDescription {
        mode: AuthMode::Optional,
        sign_in: SignIn::Conversation,
        pam: true,
        api_keys: true,
        signature: Signature::EdDsa,
        realm: "sdrest".to_owned(),
        public_paths: vec!["/api/health".to_owned(), "/api/models".to_owned()],
        guests: true,
        issuer: "sdrest-authd".to_owned(),
        audience: "sdrest-api".to_owned(),
        keys: vec![verifying_key(), verifying_key()],
    }
}

pub(super) fn claims() -> Claims {
    Claims {
        iss: "sdrest-authd".to_owned(),
        aud: "sdrest-api".to_owned(),
        sub: Subject::internal(UserId::from_bytes([0x55; 16])),
        name: "alice".to_owned(),
        uid: Some(1000),
        roles: vec![Role::User],
        amr: vec!["pam".to_owned()],
        sid: SessionId::from_bytes([0x44; 16]),
        jti: "j".to_owned(),
        iat: 1_700_000_000,
        nbf: 1_700_000_000,
        exp: 1_700_003_600,
        auth_time: 1_700_000_000,
    }
}

fn key_info() -> KeyInfo {
    KeyInfo {
        id: key_id(),
        name: new_key().name,
        owner: Subject::unix(1000, 1),
        username: "alice".to_owned(),
        scopes: scopes(),
        created: 1_700_000_000,
        expires: 1_700_003_600,
        last_used: None,
    }
}

fn key_holder() -> KeyHolder {
    KeyHolder {
        id: key_id(),
        subject: Subject::unix(1000, 1),
        username: "alice".to_owned(),
        role: Role::User,
        scopes: scopes(),
        expires: 1_700_003_600,
    }
}

pub(super) fn health() -> Health {
    Health {
        serving: Serving::Degraded,
        detail: "PAM cannot be used".to_owned(),
        build: "sdrest".to_owned(),
        pid: 4321,
        uid: 990,
        uptime_seconds: 86_400,
        sandbox: SandboxReport { closed: true, seccomp: 2, ..SandboxReport::default() },
        figures: vec![("live conversations".to_owned(), 3), ("refused peers".to_owned(), 0)],
    }
}

fn answers() -> Vec<AuthdResponse> {
    let prompts = vec![
        LoginPrompt { echo: Echo::Off, text: "Password: ".to_owned() },
        LoginPrompt { echo: Echo::On, text: "One-time code: ".to_owned() },
    ];
    let (sessions, keys) = (vec![SessionId::from_bytes([0x44; 16]); 3], vec![verifying_key()]);
    vec![
        AuthdResponse::Describe(description()),
        AuthdResponse::Begin(Ok(step(LoginState::Waiting { prompts }))),
        AuthdResponse::Begin(Err(fault())),
        AuthdResponse::Respond(Ok(step(LoginState::Running))),
        AuthdResponse::Poll(Ok(step(LoginState::Succeeded(grant())))),
        AuthdResponse::Poll(Ok(step(LoginState::Failed(fault())))),
        AuthdResponse::Cancel(Ok(())),
        AuthdResponse::LoginPeer(Ok(grant())),
        AuthdResponse::Introspect(Ok(claims())),
        AuthdResponse::CheckKey(Ok(key_holder())),
        AuthdResponse::MakeKey(Ok(MadeKey { key: key(), info: key_info() })),
        AuthdResponse::ListKeys(Ok(vec![key_info(), key_info()])),
        AuthdResponse::RevokeKey(Err(fault())),
        AuthdResponse::Refresh(Ok(grant())),
        AuthdResponse::Logout(Ok(())),
        AuthdResponse::Revocations(Revocations { version: 4, sessions, keys }),
        AuthdResponse::Health(health()),
    ]
}

fn admin_requests() -> Vec<AuthdAdminRequest> {
    let new = NewUser { username: user(), password: password(), role: Role::User };
    vec![
        AuthdAdminRequest::Health {},
        AuthdAdminRequest::AddUser { new },
        AuthdAdminRequest::ListUsers {},
        AuthdAdminRequest::SetPassword { user: user(), password: password() },
        AuthdAdminRequest::SetUserState { user: user(), state: UserState::Disabled },
        AuthdAdminRequest::SetUserRole { user: user(), role: Role::Admin },
        AuthdAdminRequest::RemoveUser { user: user() },
        AuthdAdminRequest::MakeKeyFor { user: user(), new: new_key() },
        AuthdAdminRequest::ListAllKeys {},
        AuthdAdminRequest::RevokeAnyKey { key: key_id() },
        AuthdAdminRequest::RotateKey {},
        AuthdAdminRequest::RevokeSessions { user: user() },
    ]
}

fn admin_answers() -> Vec<AuthdAdminResponse> {
    let info = || UserInfo {
        id: UserId::from_bytes([0x55; 16]),
        username: user(),
        role: Role::User,
        state: UserState::Enabled,
        created: 1_700_000_000,
        password_changed: 1_700_000_000,
    };
    vec![
        AuthdAdminResponse::Health(health()),
        AuthdAdminResponse::AddUser(Ok(info())),
        AuthdAdminResponse::ListUsers(Ok(vec![info(), info()])),
        AuthdAdminResponse::SetPassword(Err(fault())),
        AuthdAdminResponse::MakeKeyFor(Ok(MadeKey { key: key(), info: key_info() })),
        AuthdAdminResponse::ListAllKeys(Ok(vec![key_info()])),
        AuthdAdminResponse::RotateKey(Ok("the-key".to_owned())),
        AuthdAdminResponse::RevokeSessions(Ok(2)),
    ]
}
