//! API keys from making to revocation, with owners of both kinds; and HS256, whose secret the test knows, so that it
//! can write tokens as old as it likes.

use crate::{
    internal::{JWT, PASSWORD, name, sign_in, skip_if_missing, user},
    stack::{PATIENCE, Setup, Stack, conversation_program},
};
use sdrest_proto::{
    api_key::{KeyName, MadeKey, NewKey, Scopes},
    authd::{AuthdAdminClient, AuthdClient, Claims, Signature, UserState, Whose},
    error::ErrorCode,
    id::RequestId,
    identity::{Permission, Role},
    secret::{ApiKey, BearerToken},
    transport::deadline,
};
use std::fs;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn new(scopes: Option<Vec<Permission>>, days: Option<u32>) -> NewKey {
    NewKey {
        name: KeyName::try_from("ci".to_owned()).unwrap(),
        scopes: scopes.map(|scopes| Scopes::try_from(scopes).unwrap()),
        expires_in_days: days,
    }
}

fn copy(token: &BearerToken) -> BearerToken {
    BearerToken::new(token.expose("used again in a test").to_owned())
}

async fn make(
    client: &AuthdClient,
    token: &BearerToken,
    new: NewKey,
) -> Result<MadeKey, ErrorCode> {
    let made = client.make_key(deadline(PATIENCE), copy(token), new, RequestId::random()).await;
    made.unwrap().map_err(|fault| fault.code)
}

/// The role that a key has now, or why it has none.
async fn check(client: &AuthdClient, key: &ApiKey) -> Result<Role, ErrorCode> {
    let key = ApiKey::new(key.expose("used again in a test").to_owned());
    let checked = client.check_key(deadline(PATIENCE), key, RequestId::random()).await.unwrap();
    checked.map(|holder| holder.role).map_err(|fault| fault.code)
}

async fn add(admin: &AuthdAdminClient, username: &str, role: Role) {
    admin.add_user(deadline(PATIENCE), user(username, role)).await.unwrap().unwrap();
}

#[tokio::test]
async fn keys_are_made_used_listed_and_revoked() {
    skip_if_missing!();
    let stack = Stack::start(&JWT).unwrap();
    let (client, admin) = (stack.client().await, stack.admin().await);
    add(&admin, "alice", Role::User).await;
    add(&admin, "bob", Role::User).await;
    let alice = sign_in(&stack, "alice", PASSWORD).await;
    let bob = sign_in(&stack, "bob", PASSWORD).await;
    let made = make(&client, &alice.token, new(None, None)).await.unwrap();
    assert_eq!(made.info.expires - made.info.created, 90 * 24 * 3600);
    assert_eq!((&made.info.owner, made.info.last_used), (&alice.subject, None));
    assert_eq!(check(&client, &made.key).await, Ok(Role::User));
    let over = new(Some(vec![Permission::ModelsManage]), None);
    assert_eq!(make(&client, &alice.token, over).await.err(), Some(ErrorCode::ValidationFailed));
    for days in [0, 3651] {
        let refused = make(&client, &alice.token, new(None, Some(days))).await;
        assert_eq!(refused.err(), Some(ErrorCode::ValidationFailed), "{days}");
    }
    // What is no key of ours costs nothing and tells nothing.
    let text = made.key.expose("test");
    for bad in ["", "sdr_x", &text[..text.len() - 1], &text.replace("sdr_", "sdx_")] {
        let bad = ApiKey::new(bad.to_owned());
        assert_eq!(check(&client, &bad).await, Err(ErrorCode::TokenInvalid));
    }
    let forged = ApiKey::compose(made.info.id, &[0; 24]);
    assert_eq!(check(&client, &forged).await, Err(ErrorCode::TokenInvalid));

    let list = |token: BearerToken, whose| {
        client.list_keys(deadline(PATIENCE), token, whose, RequestId::random())
    };
    let own = list(copy(&alice.token), Whose::Own).await.unwrap().unwrap();
    assert!(own.len() == 1 && own[0].last_used.is_some());
    assert!(list(copy(&bob.token), Whose::Own).await.unwrap().unwrap().is_empty());
    let fault = list(copy(&alice.token), Whose::Everybodys).await.unwrap().unwrap_err();
    assert_eq!(fault.code, ErrorCode::Forbidden);
    let revoke = |token: BearerToken| {
        client.revoke_key(deadline(PATIENCE), token, made.info.id, RequestId::random())
    };
    assert_eq!(revoke(copy(&bob.token)).await.unwrap().unwrap_err().code, ErrorCode::NotFound);
    let before = client.revocations(deadline(PATIENCE), 0, 0).await.unwrap();
    revoke(copy(&alice.token)).await.unwrap().unwrap();
    let after = client.revocations(deadline(PATIENCE), before.version, 15_000).await.unwrap();
    assert!(after.version > before.version, "the front end is told");
    assert_eq!(check(&client, &made.key).await, Err(ErrorCode::TokenRevoked));
    let log = stack.log_with("api_key_revoked");
    assert!(log.contains("api_key_made") && log.contains("api_key_first_used"), "{log}");
    assert!(!log.contains(text), "a key is in the log");
}

#[tokio::test]
async fn a_key_lives_no_longer_than_its_time_and_its_owner() {
    skip_if_missing!();
    let mut stack = Stack::start(&JWT).unwrap();
    let admin = stack.admin().await;
    add(&admin, "alice", Role::Operator).await;
    add(&admin, "bob", Role::User).await;
    let key_for = |user| admin.make_key_for(deadline(PATIENCE), name(user), new(None, Some(1)));
    let alice = key_for("alice").await.unwrap().unwrap();
    let bob = key_for("bob").await.unwrap().unwrap();
    // A system account, whom nobody is asked a password for.
    let games = key_for("games").await.unwrap().unwrap();
    // A name service that is set up and does not run makes this a matter of not knowing.
    let unknown = key_for("nobody-here").await.unwrap().unwrap_err().code;
    assert!(matches!(unknown, ErrorCode::NotFound | ErrorCode::PamAuthUnavailable), "{unknown:?}");
    assert_eq!(key_for("root").await.unwrap().unwrap_err().code, ErrorCode::NotFound);
    let client = stack.client().await;
    assert_eq!(check(&client, &alice.key).await, Ok(Role::Operator));
    assert_eq!(check(&client, &games.key).await, Ok(Role::User));
    assert_eq!(check(&client, &bob.key).await, Ok(Role::User));
    admin.set_user_role(deadline(PATIENCE), name("alice"), Role::User).await.unwrap().unwrap();
    assert_eq!(check(&client, &alice.key).await, Ok(Role::User), "the role is the owner's now");
    admin
        .set_user_state(deadline(PATIENCE), name("alice"), UserState::Disabled)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(check(&client, &alice.key).await, Err(ErrorCode::AccountDenied));
    admin
        .set_user_state(deadline(PATIENCE), name("alice"), UserState::Enabled)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(check(&client, &alice.key).await, Ok(Role::User));
    admin.remove_user(deadline(PATIENCE), name("alice")).await.unwrap().unwrap();
    assert_eq!(check(&client, &alice.key).await, Err(ErrorCode::TokenInvalid));
    assert_eq!(admin.list_all_keys(deadline(PATIENCE)).await.unwrap().unwrap().len(), 2);
    admin.revoke_any_key(deadline(PATIENCE), games.info.id).await.unwrap().unwrap();

    let expires = format!("\"expires\":{}", bob.info.expires);
    stack.restart(&JWT, |state| {
        let file = state.join("api-keys.json");
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains(bob.key.expose("test")));
        let past = format!("\"expires\":{}", bob.info.created - 1);
        fs::write(&file, text.replacen(&expires, &past, 2)).unwrap();
    });
    let client = stack.client().await;
    assert_eq!(check(&client, &bob.key).await, Err(ErrorCode::TokenExpired));
    assert_eq!(check(&client, &games.key).await, Err(ErrorCode::TokenRevoked));
}

/// A stack that signs with HS256; the secret comes in a file.
fn hs256(folder: &tempfile::TempDir, secret: &str) -> Result<Stack, String> {
    let file = folder.path().join("secret");
    fs::write(&file, format!("{secret}\n")).unwrap();
    let flags = ["--jwt-secret-file", file.to_str().unwrap()];
    Stack::start(&Setup { flags: &flags, ..JWT })
}

fn signed(claims: &Claims) -> BearerToken {
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.typ = Some("at+jwt".to_owned());
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    BearerToken::new(jsonwebtoken::encode(&header, claims, &key).unwrap())
}

#[tokio::test]
async fn a_shared_secret_stays_in_authd_which_verifies_for_the_front_end() {
    skip_if_missing!();
    let folder = tempfile::tempdir().unwrap();
    let refused = hs256(&folder, &SECRET[1..]).err().unwrap();
    assert!(
        refused.contains("`--jwt-secret-file` must hold 32 to 4096 bytes, got 31"),
        "{refused}"
    );
    let stack = hs256(&folder, SECRET).unwrap();
    let (client, admin) = (stack.client().await, stack.admin().await);
    let described = client.describe(deadline(PATIENCE)).await.unwrap();
    assert!(described.signature == Signature::Hs256 && described.keys.is_empty());
    add(&admin, "alice", Role::User).await;
    let grant = sign_in(&stack, "alice", PASSWORD).await;
    let introspect =
        |token: BearerToken| client.introspect(deadline(PATIENCE), token, RequestId::random());
    let claims = introspect(copy(&grant.token)).await.unwrap().unwrap();
    assert_eq!(claims.sub, grant.subject);
    make(&client, &grant.token, new(None, None)).await.unwrap();

    // The same login, but five minutes ago; one by the kernel's word; one of nobody.
    let old = signed(&Claims { auth_time: claims.auth_time - 301, ..claims.clone() });
    assert_eq!(make(&client, &old, new(None, None)).await.err(), Some(ErrorCode::Forbidden));
    let peer = signed(&Claims { amr: vec!["peer".to_owned()], ..claims.clone() });
    assert_eq!(make(&client, &peer, new(None, None)).await.err(), Some(ErrorCode::Forbidden));
    let over = signed(&Claims { exp: claims.iat - 1, ..claims.clone() });
    assert_eq!(introspect(over).await.unwrap().unwrap_err().code, ErrorCode::TokenExpired);
    let other = signed(&Claims { iss: "urn:other".to_owned(), ..claims.clone() });
    assert_eq!(introspect(other).await.unwrap().unwrap_err().code, ErrorCode::TokenInvalid);
    let fault = admin.rotate_key(deadline(PATIENCE)).await.unwrap().unwrap_err();
    assert_eq!(fault.code, ErrorCode::Conflict);
    client
        .logout(deadline(PATIENCE), copy(&grant.token), RequestId::random())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        introspect(copy(&grant.token)).await.unwrap().unwrap_err().code,
        ErrorCode::TokenRevoked
    );
    assert_eq!(
        make(&client, &grant.token, new(None, None)).await.err(),
        Some(ErrorCode::TokenRevoked)
    );
    assert!(!stack.log().contains(SECRET));
}

#[tokio::test]
async fn a_rotated_key_verifies_across_a_restart() {
    skip_if_missing!();
    let mut stack = Stack::start(&JWT).unwrap();
    let (client, admin) = (stack.client().await, stack.admin().await);
    add(&admin, "alice", Role::User).await;
    let old = sign_in(&stack, "alice", PASSWORD).await;
    let before = client.revocations(deadline(PATIENCE), 0, 0).await.unwrap();
    let kid = admin.rotate_key(deadline(PATIENCE)).await.unwrap().unwrap();
    let after = client.revocations(deadline(PATIENCE), before.version, 15_000).await.unwrap();
    assert_eq!((before.keys.len(), after.keys.len(), &after.keys[0].kid), (1, 2, &kid));
    let fault = admin.rotate_key(deadline(PATIENCE)).await.unwrap().unwrap_err();
    assert!(fault.code == ErrorCode::Conflict && fault.retry_after.is_some(), "{fault}");
    let new = sign_in(&stack, "alice", PASSWORD).await;
    let kid_of =
        |token: &BearerToken| jsonwebtoken::decode_header(token.expose("test")).unwrap().kid;
    assert_eq!(kid_of(&new.token).as_deref(), Some(kid.as_str()));
    assert_ne!(kid_of(&old.token), kid_of(&new.token));

    stack.restart(&JWT, |_| {});
    let client = stack.client().await;
    assert_eq!(client.describe(deadline(PATIENCE)).await.unwrap().keys, after.keys);
    for token in [old.token, new.token] {
        client.introspect(deadline(PATIENCE), token, RequestId::random()).await.unwrap().unwrap();
    }
    assert!(stack.log().contains("signing_key_rotated"));
}
