//! What a logout ends, seen through the issuer: it must hold until the newest token has expired.

use super::*;
use sdrest_proto::identity::{Role, Subject};

#[test]
fn a_logout_with_an_old_token_outlives_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::open(folder.path()).unwrap();
    let key = SigningKey::load_or_make(&dir).unwrap();
    let access = AccessTokens::new(key, "urn:sdrest:test".to_owned(), 60);
    let issuer = TokenIssuer::load(&dir, access, Roles::default()).unwrap();
    let request = RequestId::random();
    let (id, now) = (SessionId::random(), audit::unix_now());
    let new = NewSession {
        subject: Subject::unix(1000, 1),
        name: "alice".to_owned(),
        uid: Some(1000),
        role: Role::User,
        access_until: now,
    };
    let first = issuer.lock().begin(id, new, now).unwrap();
    let old = issuer.refresh(&first, &request).unwrap();
    let new = issuer.refresh(&old.refresh_token, &request).unwrap();
    let newest = issuer.access.verify(&new.token).unwrap();
    issuer.logout(&old.token, &request).unwrap();
    assert_eq!(issuer.lock().revoked(newest.exp + SLACK / 2), vec![id]);
    assert!(issuer.lock().revoked(newest.exp + 3 * SLACK).is_empty());
    let again = issuer.logout(&new.token, &request).unwrap_err();
    assert_eq!(again.code, ErrorCode::TokenRevoked);
}
