//! What is on disk, what is found again, and whose share it is.

use super::*;

const NOW: u64 = 1_000_000;

fn add(store: &Store, owner: &Subject) -> Result<(KeyId, ApiKey), AddError> {
    let id = KeyId::random();
    let key = ApiKey::compose(id, &[9; 24]);
    let record = Record {
        hash: hash(&key),
        name: KeyName::try_from("ci".to_owned()).unwrap(),
        owner: owner.clone(),
        username: "alice".to_owned(),
        uid: Some(1000),
        scopes: Scopes::all(sdrest_proto::identity::Role::User),
        created: NOW,
        expires: NOW + 90,
        last_used: None,
        revoked: false,
    };
    store.add(id, record).map(|()| (id, key))
}

#[test]
fn keys_are_hashed_at_rest_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::open(folder.path()).unwrap();
    let alice = Subject::unix(1000, 1);
    let store = Store::load(&dir).unwrap();
    let (id, key) = add(&store, &alice).unwrap();
    let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
    assert!(!text.contains(&key.expose("test")[30..]), "the key itself is not on disk");
    assert!(store.touch(id, NOW + 61) && !store.touch(id, NOW + 62));
    let minute = Some(NOW + 61 - (NOW + 61) % 60);
    assert_eq!(store.list(None, NOW)[0].last_used, minute, "told before it is on disk");
    store.save(NOW + 62, true).unwrap();

    let store = Store::load(&dir).unwrap();
    assert_eq!(store.find(id, &key).unwrap().last_used, minute);
    let other = ApiKey::compose(id, &[8; 24]);
    assert!(store.find(id, &other).is_none(), "the id alone opens nothing");
    store.revoke(id).unwrap();
    assert!(Store::load(&dir).unwrap().find(id, &key).unwrap().revoked);
    assert!(store.list(None, NOW).is_empty() && store.live(id, NOW).is_none());
    store.save(NOW + 90 + 24 * 3600, false).unwrap();
    assert!(store.find(id, &key).is_some(), "the clock may be ahead");
    store.save(NOW + 90 + 24 * 3600, true).unwrap();
    assert!(store.find(id, &key).is_none(), "forgotten a day after it expired");
}

#[test]
fn one_owner_has_a_share_also_of_revoked_keys() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::load(&StateDir::open(folder.path()).unwrap()).unwrap();
    let (alice, bob) = (Subject::unix(1000, 1), Subject::unix(1001, 1));
    let first = add(&store, &alice).unwrap().0;
    for _ in 1..MOST_OF_ONE {
        add(&store, &alice).unwrap();
    }
    assert!(matches!(add(&store, &alice), Err(AddError::OwnersShare)));
    add(&store, &bob).unwrap();
    store.revoke(first).unwrap();
    for _ in 0..3 {
        let (id, _) = add(&store, &alice).unwrap();
        store.revoke(id).unwrap();
    }
    assert_eq!(store.list(Some(&alice), NOW).len(), MOST_OF_ONE - 1);
    assert_eq!(store.remove_of(&alice).unwrap().len(), MOST_OF_ONE + 3);
    assert_eq!(store.list(None, NOW).len(), 1);
}
