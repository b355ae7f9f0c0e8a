//! What a logout ends, seen through the issuer: it must hold until the newest token has expired.

use super::*;

fn issuer(dir: &StateDir) -> TokenIssuer {
    let signer = Signer::load(dir, None).unwrap();
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
    let first = issuer.grant_system(&account(&[]), &request);
    let old = issuer.refresh(&first.refresh_token.unwrap(), Some(Role::User), &request).unwrap();
    let new = issuer.refresh(&old.refresh_token.unwrap(), Some(Role::User), &request).unwrap();
    let newest = issuer.introspect(&new.token).unwrap();
    issuer.logout(&old.token, &request).unwrap();
    issuer.sessions.sweep(newest.exp + SLACK / 2).unwrap();
    assert_eq!(issuer.sessions.revoked(), [first.session]);
    let fault = issuer.introspect(&new.token).unwrap_err();
    assert_eq!(fault.code, ErrorCode::TokenRevoked);
    let again = issuer.logout(&new.token, &request).unwrap_err();
    assert_eq!(again.code, ErrorCode::TokenRevoked);
    issuer.sessions.sweep(newest.exp + 3 * SLACK).unwrap();
    assert!(issuer.sessions.revoked().is_empty());
}

#[test]
fn a_uid_that_is_given_to_somebody_else_takes_no_session_along() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = issuer(&StateDir::open(folder.path()).unwrap());
    let request = RequestId::random();
    let alices = issuer.grant_system(&account(&[]), &request);
    let bobs = issuer.grant_system(&bob(), &request);
    assert_eq!(alices.subject, Subject::unix(1000, 1));
    assert_eq!(bobs.subject, Subject::unix(1000, 2));
    let fault = issuer.introspect(&alices.token).unwrap_err();
    assert_eq!(fault.code, ErrorCode::TokenRevoked);
    assert!(issuer.session_of(&alices.refresh_token.unwrap()).is_none());
    issuer.introspect(&bobs.token).unwrap();
    assert!(issuer.subjects_named("alice").is_empty());
    assert_eq!(issuer.subjects_named("bob"), [bobs.subject]);
}

#[test]
fn a_take_over_that_could_not_be_written_is_finished_by_the_next_login() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = issuer(&StateDir::open(folder.path()).unwrap());
    let request = RequestId::random();
    let alices = issuer.grant_system(&account(&[]), &request);
    // In the way of the list of sessions, and of no other file.
    let in_the_way = folder.path().join("logins.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    issuer.subject_of(&bob()).unwrap_err();
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(issuer.subject_of(&bob()).unwrap(), Subject::unix(1000, 2));
    let fault = issuer.introspect(&alices.token).unwrap_err();
    assert_eq!(fault.code, ErrorCode::TokenRevoked);
}

/// HS256: other programs know the secret too, and a session of theirs is known nowhere here.
#[test]
fn a_logout_of_an_unknown_session_lasts_as_long_as_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::open(folder.path()).unwrap();
    let signer = || Signer::load(&dir, Some(&[1; 32])).unwrap();
    let issuer_with = |lifetime, dir: &StateDir| {
        let access = AccessTokens::new(signer(), "urn:sdrest:test".to_owned(), lifetime);
        let users = Arc::new(Users::load(dir).unwrap());
        TokenIssuer::load(dir, access, Arc::default(), users).unwrap()
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let other = issuer_with(6000, &StateDir::open(elsewhere.path()).unwrap());
    let (issuer, request) = (issuer_with(60, &dir), RequestId::random());
    let foreign = other.grant_system(&account(&[]), &request);
    let exp = issuer.introspect(&foreign.token).unwrap().exp;
    issuer.logout(&foreign.token, &request).unwrap();
    issuer.sessions.sweep(exp - 1).unwrap();
    let fault = issuer.introspect(&foreign.token).unwrap_err();
    assert_eq!(fault.code, ErrorCode::TokenRevoked);
}

impl TokenIssuer {
    fn grant_system(&self, account: &KnownAccount, request: &RequestId) -> Grant {
        let login = self.system_login(account, How::Pam, request).unwrap();
        self.begin(login, request).unwrap()
    }
}

/// With the uid that was alice's.
fn bob() -> KnownAccount {
    KnownAccount { username: Username::try_from("bob".to_owned()).unwrap(), ..account(&[]) }
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
    assert_eq!(issuer.introspect(&grant.token).unwrap().amr, ["peer"]);
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
