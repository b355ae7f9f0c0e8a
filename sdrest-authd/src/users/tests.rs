//! What is kept, what is refused by name, and who may be compared.

use super::*;

fn name(text: &str) -> UserName {
    UserName::try_from(text.to_owned()).unwrap()
}

fn candidate(users: &Users, typed: &str) -> Candidate {
    users.candidate(&Username::try_from(typed.to_owned()).unwrap())
}

fn phc(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

#[test]
fn records_outlive_a_restart_and_mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::open(folder.path()).unwrap();
    let users = Users::load(&dir).unwrap();
    let alice = users.add(name("alice"), Role::User, &phc("one")).unwrap();
    let fault = users.add(name("alice"), Role::Admin, &phc("two")).unwrap_err();
    assert_eq!(fault.code, ErrorCode::Conflict);
    assert!(fault.message.contains("`username`") && fault.message.contains("alice"));
    let fault = users.set_role(&name("bob"), Role::Admin).unwrap_err();
    assert_eq!(fault.code, ErrorCode::NotFound);
    assert!(fault.message.contains("bob"));
    users.set_role(&name("alice"), Role::Operator).unwrap();

    let users = Users::load(&dir).unwrap();
    assert_eq!(users.by_id(alice.id).unwrap().role, Role::Operator);
    assert_eq!(users.list().len(), 1);
    users.remove(&name("alice")).unwrap();
    // The same name again is somebody else.
    assert_ne!(users.add(name("alice"), Role::User, &phc("x")).unwrap().id, alice.id);
}

#[test]
fn unknown_and_disabled_names_meet_the_dummy() {
    let folder = tempfile::tempdir().unwrap();
    let users = Users::load(&StateDir::open(folder.path()).unwrap()).unwrap();
    users.set_dummy(phc("dummy"));
    users.add(name("alice"), Role::User, &phc("hers")).unwrap();
    users.add(name("gone"), Role::User, &phc("theirs")).unwrap();
    users.set_state(&name("gone"), UserState::Disabled).unwrap();
    let known = candidate(&users, "alice");
    assert!(known.user.is_some() && known.phc.as_str() == "hers");
    for typed in ["gone", "nobody", "ALICE", "../alice", "alice "] {
        let dummy = candidate(&users, typed);
        assert!(dummy.user.is_none() && dummy.phc.as_str() == "dummy", "{typed}");
    }
}

#[test]
fn a_password_that_was_replaced_meanwhile_signs_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let users = Users::load(&StateDir::open(folder.path()).unwrap()).unwrap();
    let id = users.add(name("alice"), Role::User, &phc("old")).unwrap().id;
    assert!(users.confirm(id, &phc("old")).is_some());
    users.set_password(&name("alice"), &phc("new")).unwrap();
    assert!(users.confirm(id, &phc("old")).is_none() && users.confirm(id, &phc("new")).is_some());
    users.set_state(&name("alice"), UserState::Disabled).unwrap();
    assert!(users.confirm(id, &phc("new")).is_none());
}

#[test]
fn passwords_have_bounds() {
    for (length, fine) in [(0, false), (7, false), (8, true), (511, true), (512, false)] {
        let checked = check_password(&Answer::new("x".repeat(length)));
        assert_eq!(checked.is_ok(), fine, "{length}");
    }
    let fault = check_password(&Answer::new("short".to_owned())).unwrap_err();
    assert!(fault.message.contains("8 to 511") && !fault.message.contains("short"));
    assert!(check_password(&Answer::new("nul\0in the way".to_owned())).is_err());
}
