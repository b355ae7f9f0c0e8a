//! The hostile front end: it has the account, the group and the sockets of `sdrest-api`, and speaks authd's own
//! protocol. Run by `hostile_front_end.rs`, never by itself. Whatever it tries is an assertion that it got nothing.

use crate::{
    forged_tokens::{self, Known},
    hostile_front_end::{ALICES_KEY, FRONT_END, RUN},
};
use harness::etc::{ALICE, BOB};
use sdrest_proto::{
    PROTOCOL,
    api_key::{KeyName, MadeKey, NewKey, Scopes},
    authd::{AuthdClient, Whose},
    bounds::Username,
    error::{ErrorCode, Fault},
    id::{ConversationId, KeyId, RequestId, SessionId},
    identity::{Permission, Role},
    login::{BeginLogin, ConversationRef, Grant, LoginState, PeerLogin, Poll, Respond, Step},
    secret::{Answer, ApiKey, BearerToken, ConversationSecret, RefreshToken},
    transport::{self, TrustedUids, deadline},
};
use std::{
    env,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};
use tarpc::context::Context;

pub(crate) const AUTHD: &str = "authd.sock";
const OTHER_DOORS: [&str; 3] = ["authd-admin.sock", "conversation.sock", "chauthtok.sock"];
/// The account of authd in the made-up /etc; root is who listened for it.
const AUTHD_UID: u32 = 60_702;

pub(crate) fn run_folder() -> PathBuf {
    assert_eq!(nix::unistd::geteuid().as_raw(), FRONT_END, "this is the front end's program");
    PathBuf::from(env::var_os(RUN).expect("run by hostile_front_end"))
}

fn patience() -> Context {
    deadline(Duration::from_secs(30))
}

/// authd, as the front end reaches it.
pub(crate) struct Front {
    pub(crate) client: AuthdClient,
}

impl Front {
    pub(crate) async fn connect() -> Self {
        let path = run_folder().join(AUTHD);
        let trusted = TrustedUids::new([0, AUTHD_UID]);
        let transport = transport::connect(&path, &trusted, transport::AUTHD).await.unwrap();
        Self { client: AuthdClient::new(tarpc::client::Config::default(), transport).spawn() }
    }

    pub(crate) fn wish(name: &str, password: Option<&str>, source: &str) -> BeginLogin {
        BeginLogin {
            username: Username::try_from(name.to_owned()).unwrap(),
            password: password.map(|text| Answer::new(text.to_owned())),
            source: Some(source.parse().unwrap()),
            request: RequestId::random(),
            wait_ms: 15_000,
        }
    }

    async fn begin(&self, name: &str, password: Option<&str>, source: &str) -> Result<Step, Fault> {
        self.client.begin(patience(), Self::wish(name, password, source)).await.unwrap()
    }

    async fn poll(&self, conversation: ConversationRef, after: u32) -> Result<Step, Fault> {
        let poll = Poll { conversation, after, wait_ms: 1000, request: RequestId::random() };
        self.client.poll(patience(), poll).await.unwrap()
    }

    async fn respond(
        &self,
        conversation: ConversationRef,
        (sequence, answers): (u32, &[&str]),
    ) -> Result<Step, Fault> {
        let respond = Respond {
            conversation,
            sequence,
            answers: answers.iter().map(|text| Answer::new((*text).to_owned())).collect(),
            wait_ms: 15_000,
            request: RequestId::random(),
        };
        self.client.respond(patience(), respond).await.unwrap()
    }

    /// A login with one password, to its end.
    async fn sign_in(&self, name: &str, password: &str, source: &str) -> Result<Grant, Fault> {
        let step = self.begin(name, Some(password), source).await?;
        match step.state {
            LoginState::Succeeded(grant) => Ok(grant),
            LoginState::Failed(fault) => Err(fault),
            state => panic!("{name} came to no end in time: {state:?}"),
        }
    }

    async fn make_key(
        &self,
        token: &str,
        scopes: Option<Vec<Permission>>,
    ) -> Result<MadeKey, Fault> {
        let new = NewKey {
            name: KeyName::try_from("a key".to_owned()).unwrap(),
            scopes: scopes.map(|scopes| Scopes::try_from(scopes).unwrap()),
            expires_in_days: None,
        };
        self.client.make_key(patience(), bearer(token), new, RequestId::random()).await.unwrap()
    }
}

fn bearer(token: &str) -> BearerToken {
    BearerToken::new(token.to_owned())
}

fn reference(id: ConversationId, secret: &str) -> ConversationRef {
    ConversationRef { id, secret: ConversationSecret::new(secret.to_owned()) }
}

fn code<T>(answer: Result<T, Fault>, what: &str) -> ErrorCode {
    match answer {
        Ok(_) => panic!("authd took {what}"),
        Err(fault) => fault.code,
    }
}

fn alices_key() -> KeyId {
    env::var(ALICES_KEY).expect("run by hostile_front_end").parse().unwrap()
}

#[tokio::test]
#[ignore = "run by hostile_front_end with the front end's account"]
async fn with_the_front_ends_socket() {
    let front = Front::connect().await;
    nobody_without_a_password(&front).await;
    conversations_cannot_be_guessed(&front).await;
    the_kernels_word_is_not_asked_for(&front).await;
    what_bob_showed_is_bobs_alone(&front).await;
    forgeries_open_nothing(&front).await;
    a_delay_stays(&front).await;
    another_source_for_each_guess_is_delayed(&front).await;
    guesses_that_hang_up_count(&front).await;
}

async fn nobody_without_a_password(front: &Front) {
    for name in ["alice", "bob", "root"] {
        let step = front.begin(name, None, "198.51.100.1").await.unwrap();
        let secret = step.secret.as_ref().unwrap().expose("one's own").to_owned();
        assert!(matches!(step.state, LoginState::Waiting { .. }), "{name}: {:?}", step.state);
        for _ in 0..2 {
            let polled = front.poll(reference(step.id, &secret), step.sequence).await.unwrap();
            assert!(matches!(polled.state, LoginState::Waiting { .. }), "{:?}", polled.state);
        }
        let none = front.respond(reference(step.id, &secret), (step.sequence, &[])).await;
        assert_eq!(code(none, "no answer at all"), ErrorCode::ValidationFailed);
        let wrong = front
            .respond(reference(step.id, &secret), (step.sequence, &["a guess"]))
            .await
            .unwrap();
        let LoginState::Failed(fault) = wrong.state else { panic!("{name}: {:?}", wrong.state) };
        assert_eq!(fault.code, ErrorCode::AuthenticationFailed);
        let after = front.poll(reference(step.id, &secret), 0).await;
        assert_eq!(code(after, "a conversation that is over"), ErrorCode::ConversationGone);
    }
    let empty = front.begin("alice", Some(""), "198.51.100.1").await;
    assert_eq!(code(empty, "an empty password"), ErrorCode::MissingPassword);
}

async fn conversations_cannot_be_guessed(front: &Front) {
    let alices = front.begin("alice", None, "198.51.100.2").await.unwrap();
    let bobs = front.begin("bob", None, "198.51.100.3").await.unwrap();
    let bobs_secret = bobs.secret.as_ref().unwrap().expose("one's own").to_owned();
    let made_up = "A".repeat(43);
    let mut guesses: Vec<(ConversationId, &str)> =
        (0..200).map(|_| (ConversationId::random(), bobs_secret.as_str())).collect();
    guesses.extend([(alices.id, bobs_secret.as_str()), (alices.id, ""), (alices.id, &made_up)]);
    for (id, secret) in guesses {
        let polled = front.poll(reference(id, secret), 0).await;
        assert_eq!(code(polled, "a guess"), ErrorCode::ConversationGone);
        let answered = front.respond(reference(id, secret), (alices.sequence, &["x"])).await;
        assert_eq!(code(answered, "a guess"), ErrorCode::ConversationGone);
        let named = reference(id, secret);
        let cancelled = front.client.cancel(patience(), named, RequestId::random()).await.unwrap();
        assert_eq!(code(cancelled, "a guess"), ErrorCode::ConversationGone);
    }
}

async fn the_kernels_word_is_not_asked_for(front: &Front) {
    for (uid, name) in [(ALICE.uid, "alice"), (0, "root"), (FRONT_END, "sdrest-api")] {
        let login = PeerLogin {
            uid,
            username: Username::try_from(name.to_owned()).unwrap(),
            request: RequestId::random(),
        };
        let answer = front.client.login_peer(patience(), login).await.unwrap();
        assert_eq!(code(answer, name), ErrorCode::Forbidden);
    }
}

/// Bob signs in while the front end is hostile: that token it has, and nothing that bob could not do.
async fn what_bob_showed_is_bobs_alone(front: &Front) {
    let as_alice = front.sign_in("alice", BOB.password, "198.51.100.4").await;
    assert_eq!(code(as_alice, "bob's password for alice"), ErrorCode::AuthenticationFailed);
    let grant = front.sign_in("bob", BOB.password, "198.51.100.4").await.unwrap();
    let token = grant.token.expose("what bob was given");
    assert_eq!((grant.role, grant.username.as_str()), (Role::User, "bob"));
    let request = RequestId::random();
    let everybodys = front.client.list_keys(patience(), bearer(token), Whose::Everybodys, request);
    assert_eq!(code(everybodys.await.unwrap(), "everybody's keys"), ErrorCode::Forbidden);
    let own = front.client.list_keys(patience(), bearer(token), Whose::Own, request);
    assert!(own.await.unwrap().unwrap().is_empty(), "bob has no key");
    let revoked = front.client.revoke_key(patience(), bearer(token), alices_key(), request);
    assert_eq!(code(revoked.await.unwrap(), "alice's key"), ErrorCode::NotFound);
    for over in Permission::ALL.into_iter().filter(|one| !Role::User.may(*one)) {
        if !Scopes::NEVER.contains(&over) {
            let made = front.make_key(token, Some(vec![over])).await;
            assert_eq!(code(made, over.as_str()), ErrorCode::ValidationFailed);
        }
    }
    let made = front.make_key(token, None).await.unwrap();
    assert_eq!(made.info.owner, grant.subject);
    let text = made.key.expose("a key of bob's").to_owned();
    let holder = front.client.check_key(patience(), ApiKey::new(text.clone()), request);
    let holder = holder.await.unwrap().unwrap();
    assert_eq!((holder.role, holder.username.as_str()), (Role::User, "bob"));
    assert!(holder.scopes.iter().all(|scope| Scopes::all(Role::User).contains(scope)));
    // A key is no token.
    assert!(front.make_key(&text, None).await.is_err());
    let refresh = grant.refresh_token.as_ref().unwrap().expose("bob's").to_owned();
    let again = front.client.refresh(patience(), RefreshToken::new(refresh), request);
    let again = again.await.unwrap().unwrap();
    assert_eq!((again.role, again.subject), (Role::User, grant.subject));
    let gone = front.client.revoke_key(patience(), bearer(token), made.info.id, request);
    gone.await.unwrap().unwrap();
}

async fn forgeries_open_nothing(front: &Front) {
    let grant = front.sign_in("bob", BOB.password, "198.51.100.5").await.unwrap();
    let token = grant.token.expose("what bob was given").to_owned();
    let request = RequestId::random();
    let claims =
        front.client.introspect(patience(), bearer(&token), request).await.unwrap().unwrap();
    let description = front.client.describe(patience()).await.unwrap();
    let revoked = front.client.revocations(patience(), 0, 0).await.unwrap().sessions;
    assert!(!revoked.is_empty(), "the test wants a session that was ended");
    let key = description.keys.first().unwrap();
    let known = Known { token: &token, claims: &claims, key, revoked: &revoked };
    for (how, forged) in forged_tokens::all(&known) {
        nothing_takes(front, (&forged, &how)).await;
    }
    let secret = "A".repeat(43);
    let sessions = revoked.iter().copied().chain([claims.sid, SessionId::random()]);
    for guess in sessions
        .flat_map(|id| [id.to_string(), format!("{id}.{secret}"), secret.clone(), token.clone()])
    {
        let refreshed = front.client.refresh(patience(), RefreshToken::new(guess), request);
        assert_eq!(
            code(refreshed.await.unwrap(), "a made-up refresh token"),
            ErrorCode::TokenInvalid
        );
    }
    let secrets = [[0; 24], [255; 24]];
    for key in secrets.map(|secret| ApiKey::compose(alices_key(), &secret)) {
        let checked = front.client.check_key(patience(), key, request).await.unwrap();
        assert_eq!(code(checked, "alice's key without its secret"), ErrorCode::TokenInvalid);
    }
    for text in [String::new(), "sdr_".to_owned(), alices_key().to_string(), token.clone()] {
        let checked = front.client.check_key(patience(), ApiKey::new(text), request);
        assert_eq!(code(checked.await.unwrap(), "no key"), ErrorCode::TokenInvalid);
    }
    // All that left bob's own token as it was.
    front.client.introspect(patience(), bearer(&token), request).await.unwrap().unwrap();
}

/// Every verb that takes a token refuses this one.
async fn nothing_takes(front: &Front, (forged, how): (&str, &str)) {
    let request = RequestId::random();
    let (client, token) = (&front.client, || bearer(forged));
    let codes = [
        code(client.introspect(patience(), token(), request).await.unwrap(), how),
        code(client.logout(patience(), token(), request).await.unwrap(), how),
        code(front.make_key(forged, None).await, how),
        code(client.list_keys(patience(), token(), Whose::Own, request).await.unwrap(), how),
        code(client.revoke_key(patience(), token(), alices_key(), request).await.unwrap(), how),
    ];
    assert_eq!(codes, [ErrorCode::TokenInvalid; 5], "{how}");
}

/// Wrong answers for bob from one address: then the right password has to wait, whatever is done meanwhile.
async fn a_delay_stays(front: &Front) {
    let here = "203.0.113.9";
    let mut last = 0;
    // 2, 4, 8 and 16 seconds: long enough for all that follows.
    while last < 15 {
        let fault = front.sign_in("bob", "a guess", here).await.unwrap_err();
        match fault.code {
            ErrorCode::AuthenticationFailed => {}
            ErrorCode::TooManyAttempts => {
                last = fault.retry_after.unwrap();
                if last < 15 {
                    tokio::time::sleep(Duration::from_secs(last.into())).await;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let right = front.sign_in("bob", BOB.password, here).await;
    assert_eq!(code(right, "a right password within the delay"), ErrorCode::TooManyAttempts);
    // A success elsewhere, a logout, an abandoned conversation and another connection change nothing.
    let elsewhere = front.sign_in("bob", BOB.password, "198.51.100.6").await.unwrap();
    let token = BearerToken::new(elsewhere.token.expose("bob's").to_owned());
    front.client.logout(patience(), token, RequestId::random()).await.unwrap().unwrap();
    let open = front.begin("bob", None, "198.51.100.6").await.unwrap();
    let named = reference(open.id, open.secret.as_ref().unwrap().expose("one's own"));
    front.client.cancel(patience(), named, RequestId::random()).await.unwrap().unwrap();
    let again = Front::connect().await.sign_in("bob", BOB.password, here).await;
    assert_eq!(code(again, "a right password within the delay"), ErrorCode::TooManyAttempts);
}

/// The front end says where a login comes from. Where it names another network for each guess, the delay of the user
/// is left: short, and there for whatever source is named next.
async fn another_source_for_each_guess_is_delayed(front: &Front) {
    let (mut failures, mut last) = (0, 0);
    for guess in 0..200 {
        let elsewhere = format!("198.18.{guess}.1");
        let fault = front.sign_in("bob", "a guess", &elsewhere).await.unwrap_err();
        match fault.code {
            ErrorCode::AuthenticationFailed => failures += 1,
            ErrorCode::TooManyAttempts => {
                last = fault.retry_after.unwrap();
                if last > 2 {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(last.into())).await;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        last > 2,
        "{failures} guesses from as many networks, and no delay of more than {last} s"
    );
    assert!(failures < 60, "{failures} guesses before it");
    // A network that was never named.
    let right = front.sign_in("bob", BOB.password, "192.0.2.200").await;
    assert_eq!(code(right, "a right password within the delay"), ErrorCode::TooManyAttempts);
}

/// Hanging up once a module has the answer, and before it says what it thinks of it, is a guess like another.
async fn guesses_that_hang_up_count(front: &Front) {
    let here = "203.0.113.77";
    for _ in 0..40 {
        let begun = match front.begin("alice", None, here).await {
            Ok(begun) => begun,
            Err(fault) => return assert_eq!(fault.code, ErrorCode::TooManyAttempts, "{fault:?}"),
        };
        let secret = begun.secret.as_ref().unwrap().expose("one's own").to_owned();
        let respond = Respond {
            conversation: reference(begun.id, &secret),
            sequence: begun.sequence,
            answers: vec![Answer::new("a guess".to_owned())],
            wait_ms: 1,
            request: RequestId::random(),
        };
        // The guess before may have been counted since this one began.
        let step = match front.client.respond(patience(), respond).await.unwrap() {
            Ok(step) => step,
            Err(fault) => return assert_eq!(fault.code, ErrorCode::TooManyAttempts, "{fault:?}"),
        };
        assert!(matches!(step.state, LoginState::Running), "{:?}", step.state);
        let named = reference(begun.id, &secret);
        front.client.cancel(patience(), named, RequestId::random()).await.unwrap().unwrap();
    }
    panic!("forty guesses that hung up, and no delay");
}

/// Their modes keep the front end's account out already.
#[test]
#[ignore = "run by hostile_front_end with the front end's account"]
fn at_the_other_doors() {
    for door in OTHER_DOORS {
        let error = UnixStream::connect(run_folder().join(door)).expect_err(door);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{door}: {error}");
    }
}

/// And where their modes fail, the kernel's word does: hung up without a byte.
#[test]
#[ignore = "run by hostile_front_end with the front end's account"]
fn at_the_other_doors_when_their_modes_are_wrong() {
    let hello = [b"sdrest\0\0".as_slice(), &PROTOCOL.to_le_bytes(), &[0; 52]].concat();
    for door in OTHER_DOORS {
        for bytes in [hello.as_slice(), &[0; 64], &hello[..20], &[]] {
            let mut stream = UnixStream::connect(run_folder().join(door)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            // It may be closed already.
            let _ = stream.write_all(bytes);
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{door}"),
            }
            assert!(answer.is_empty(), "{door} answered {answer:?}");
        }
    }
}
