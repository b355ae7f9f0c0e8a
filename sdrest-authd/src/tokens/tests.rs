//! What a logout ends, seen through the issuer: it must hold until the newest token has expired.

use super::*;

fn issuer(dir: &StateDir) -> TokenIssuer {
    let signer = Signer::EdDsa(Box::new(KeyRing::load_or_make(dir).unwrap()));
    let access = AccessTokens::new(signer, "urn:sdrest:test".to_owned(), 60);
    let users = Arc::new(Users::load(dir).unwrap());
    TokenIssuer::load(dir, access, Arc::default(), users).unwrap()
}

#[test]
fn a_logout_with_an_old_token_outlives_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::open(folder.path()).unwrap();
    let issuer = issuer(&dir);
    let request = RequestId::random();
    let (id, now) = (SessionId::random(), audit::unix_now());
    let new = NewSession {
        subject: Subject::unix(1000, 1),
        name: "alice".to_owned(),
        uid: Some(1000),
        role: Role::User,
        amr: vec![PAM.to_owned()],
        access_until: now,
    };
    let first = issuer.lock().begin(id, new, now).unwrap();
    let old = issuer.refresh(&first, None, &request).unwrap();
    let new = issuer.refresh(&old.refresh_token.unwrap(), None, &request).unwrap();
    let newest = issuer.introspect(&new.token).unwrap();
    issuer.logout(&old.token, &request).unwrap();
    assert_eq!(issuer.lock().revoked(newest.exp + SLACK / 2), vec![id]);
    assert!(issuer.lock().revoked(newest.exp + 3 * SLACK).is_empty());
    let fault = issuer.introspect(&new.token).unwrap_err();
    assert_eq!(fault.code, ErrorCode::TokenRevoked);
    let again = issuer.logout(&new.token, &request).unwrap_err();
    assert_eq!(again.code, ErrorCode::TokenRevoked);
}

fn account(groups: &[&str]) -> KnownAccount {
    KnownAccount {
        username: Username::try_from("alice".to_owned()).unwrap(),
        uid: 1000,
        groups: groups.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_kernels_word_gives_a_user_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = issuer(&StateDir::open(folder.path()).unwrap());
    let grant = issuer.grant_peer(&account(&["sdrest-admin"]), &RequestId::random()).unwrap();
    assert_eq!(grant.role, Role::User);
    assert!(grant.refresh_token.is_none());
    assert_eq!(issuer.introspect(&grant.token).unwrap().amr, [PEER]);
}

#[tokio::test]
async fn a_rotation_moves_the_version_and_both_keys_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::open(folder.path()).unwrap();
    let issuer = issuer(&dir);
    let request = RequestId::random();
    let before = issuer.revocations(0, Duration::ZERO).await;
    let old = issuer.grant_peer(&account(&[]), &request).unwrap();
    let kid = issuer.rotate_key().unwrap();
    issuer.settle_key();
    let after = issuer.revocations(before.version, Duration::from_secs(20)).await;
    assert!(after.version > before.version);
    assert_eq!(after.keys.len(), 2);
    assert_eq!(after.keys[0].kid, kid);
    issuer.introspect(&old.token).unwrap();
    drop(issuer);
    super::tests::issuer(&dir).introspect(&old.token).unwrap();
}
