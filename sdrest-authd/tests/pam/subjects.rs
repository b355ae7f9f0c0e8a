//! Whose a key or a session is when accounts change behind authd's back, and that every revocation is told.

use crate::{
    internal::{JWT, PASSWORD, name, sign_in, skip_if_missing, user},
    stack::{PATIENCE, PLAIN, Setup, Stack, conversation_program},
};
use sdrest_proto::{
    api_key::{KeyName, NewKey},
    authd::AuthdClient,
    error::ErrorCode,
    id::{RequestId, SessionId},
    identity::Role,
    secret::{ApiKey, BearerToken},
    transport::deadline,
};
use std::{collections::BTreeSet, fs};

/// An account that every Linux has, and that is not root or nobody.
const SYSTEM: &str = "bin";
const PERMIT: &str = "auth required pam_permit.so\naccount required pam_permit.so\n";
const DENY: &str = "auth required pam_permit.so\naccount required pam_deny.so\n";

fn new() -> NewKey {
    let name = KeyName::try_from("ci".to_owned()).unwrap();
    NewKey { name, scopes: None, expires_in_days: None }
}

async fn check(client: &AuthdClient, key: &ApiKey) -> Result<Role, ErrorCode> {
    let key = ApiKey::new(key.expose("used again in a test").to_owned());
    let checked = client.check_key(deadline(PATIENCE), key, RequestId::random()).await.unwrap();
    checked.map(|holder| holder.role).map_err(|fault| fault.code)
}

#[tokio::test]
async fn a_key_does_not_pass_to_the_next_account_of_the_same_name_and_number() {
    skip_if_missing!();
    let mut stack = Stack::start(&JWT).unwrap();
    let admin = stack.admin().await;
    let made = admin.make_key_for(deadline(PATIENCE), name(SYSTEM), new()).await.unwrap().unwrap();
    assert_eq!(check(&stack.client().await, &made.key).await, Ok(Role::User));
    stack.restart(&JWT, |_| {});
    assert_eq!(check(&stack.client().await, &made.key).await, Ok(Role::User));
    // The uid was somebody else's meanwhile.
    stack.restart(&JWT, |state| {
        let file = state.join("subjects.json");
        let text = fs::read_to_string(&file).unwrap();
        let other = text.replace("\"epoch\":1", "\"epoch\":2").replace(SYSTEM, "another");
        assert_ne!(text, other);
        fs::write(&file, other).unwrap();
    });
    let client = stack.client().await;
    assert_eq!(check(&client, &made.key).await, Err(ErrorCode::AccountDenied));
    let admin = stack.admin().await;
    let own = admin.make_key_for(deadline(PATIENCE), name(SYSTEM), new()).await.unwrap().unwrap();
    assert_eq!(own.info.owner.as_str(), made.info.owner.as_str().replace(":1", ":3"));
    assert_eq!(check(&client, &own.key).await, Ok(Role::User));
}

#[tokio::test]
async fn in_modes_without_pam_logins_the_stack_still_says_who_may_use_a_key() {
    skip_if_missing!();
    for mode in ["jwt", "api-key"] {
        let services = [("sdrest", PERMIT.to_owned())];
        let setup = Setup { mode, services: &services, ..PLAIN };
        let mut stack = match Stack::start(&setup) {
            Ok(stack) => stack,
            Err(log) => panic!("{log}"),
        };
        let admin = stack.admin().await;
        let made = admin.make_key_for(deadline(PATIENCE), name(SYSTEM), new()).await.unwrap();
        let made = made.unwrap();
        assert_eq!(check(&stack.client().await, &made.key).await, Ok(Role::User));
        let file = stack.path("pam.d/sdrest");
        stack.restart(&setup, |_| fs::write(&file, DENY).unwrap());
        let client = stack.client().await;
        let described = client.describe(deadline(PATIENCE)).await.unwrap();
        assert!(!described.pam, "logins do not go through it");
        assert_eq!(check(&client, &made.key).await, Err(ErrorCode::AccountDenied), "{mode}");
        stack.restart(&setup, |_| fs::remove_file(&file).unwrap());
        assert_eq!(check(&stack.client().await, &made.key).await, Ok(Role::User), "{mode}");
        assert!(stack.log().contains("keys of system accounts are checked without PAM"));
    }
}

#[tokio::test]
async fn sessions_are_revoked_by_who_has_the_name_now() {
    skip_if_missing!();
    let stack = Stack::start(&JWT).unwrap();
    let (client, admin) = (stack.client().await, stack.admin().await);
    let revoke = async |of: &str| {
        admin.revoke_sessions(deadline(PATIENCE), name(of)).await.unwrap().unwrap()
    };
    let add = async |who: &str| {
        admin.add_user(deadline(PATIENCE), user(who, Role::User)).await.unwrap().unwrap();
    };
    add("alice").await;
    add("bob").await;
    sign_in(&stack, "alice", PASSWORD).await;
    admin.remove_user(deadline(PATIENCE), name("alice")).await.unwrap().unwrap();
    add("alice").await;
    let alice = sign_in(&stack, "alice", PASSWORD).await;
    let bob = sign_in(&stack, "bob", PASSWORD).await;
    assert_eq!(revoke("alice").await, 1, "the one before had none left");
    assert_eq!(revoke("alice").await, 0);
    assert_eq!(revoke("nobody-here").await, 0);
    let introspect = async |token: BearerToken| {
        client.introspect(deadline(PATIENCE), token, RequestId::random()).await.unwrap()
    };
    assert_eq!(introspect(alice.token).await.unwrap_err().code, ErrorCode::TokenRevoked);
    introspect(bob.token).await.unwrap();
}

#[tokio::test]
async fn the_longest_list_of_revocations_fits_its_frame() {
    skip_if_missing!();
    let mut stack = Stack::start(&JWT).unwrap();
    let ids: BTreeSet<SessionId> = (0..15_300).map(|_| SessionId::random()).collect();
    stack.restart(&JWT, |state| {
        let entries: Vec<String> = ids
            .iter()
            .map(|id| {
                format!(
                    r#""{id}":{{"past":{{"subject":"unix:1000:1","until":99999999999,"what":"revoked"}}}}"#
                )
            })
            .collect();
        fs::write(state.join("logins.json"), format!("{{{}}}", entries.join(","))).unwrap();
    });
    let client = stack.client().await;
    stack.admin().await.rotate_key(deadline(PATIENCE)).await.unwrap().unwrap();
    let told = client.revocations(deadline(PATIENCE), 0, 0).await.unwrap();
    assert_eq!((told.keys.len(), told.sessions.into_iter().collect()), (2, ids));
    // The store is full: who wants to sign in is told to wait, and nothing is forgotten.
    let admin = stack.admin().await;
    admin.add_user(deadline(PATIENCE), user("alice", Role::User)).await.unwrap().unwrap();
    let (code, _) = crate::stack::login(&client, "alice", PASSWORD).await;
    assert_eq!(code, "TOO_MANY_ATTEMPTS");
}
