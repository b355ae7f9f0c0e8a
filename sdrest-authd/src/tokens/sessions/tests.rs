//! Rotation, reuse and revocation, also across restarts, with a clock that the test moves.

use super::*;

const NOW: u64 = 1_000_000;

fn begin(sessions: &mut Sessions) -> (SessionId, RefreshToken) {
    begin_as(sessions, 1000, NOW)
}

fn begin_as(sessions: &mut Sessions, uid: u32, now: u64) -> (SessionId, RefreshToken) {
    let id = SessionId::random();
    let new = NewSession {
        subject: Subject::unix(uid, 1),
        name: "alice".into(),
        uid: Some(1000),
        role: Role::User,
        amr: by_pam(),
        access_until: NOW + 60,
    };
    (id, sessions.begin(id, new, now).unwrap())
}

fn refresh(
    sessions: &mut Sessions,
    token: &RefreshToken,
    access_until: u64,
    now: u64,
) -> Result<(SessionId, Session, RefreshToken), RefreshError> {
    sessions.refresh(token, Renewal { role: None, access_until }, now)
}

fn open(folder: &tempfile::TempDir) -> Sessions {
    Sessions::load(&StateDir::open(folder.path()).unwrap()).unwrap()
}

#[test]
fn a_lost_answer_is_given_again_and_theft_ends_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let mut sessions = open(&folder);
    let (id, first) = begin(&mut sessions);
    let (_, _, second) = refresh(&mut sessions, &first, NOW + 70, NOW + 10).unwrap();
    let (_, _, again) = refresh(&mut sessions, &first, NOW + 70, NOW + 20).unwrap();
    assert!(second.matches(&again), "the same successor within 30 s");
    let (_, session, third) = refresh(&mut sessions, &second, NOW + 80, NOW + 30).unwrap();
    assert_eq!((session.auth_time, session.access_until), (NOW, NOW + 80));
    // The first one is spent for good now.
    assert!(
        matches!(refresh(&mut sessions, &first, NOW, NOW + 31), Err(RefreshError::Reused(reused)) if reused == id)
    );
    assert!(matches!(refresh(&mut sessions, &third, NOW, NOW + 32), Err(RefreshError::Unknown)));
    assert_eq!(sessions.revoked(NOW + 32), vec![id]);
    assert!(sessions.revoked(NOW + 81).is_empty(), "its last token has expired");
}

#[test]
fn the_grace_ends_after_thirty_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let mut sessions = open(&folder);
    let (id, first) = begin(&mut sessions);
    refresh(&mut sessions, &first, NOW, NOW).unwrap();
    assert!(matches!(refresh(&mut sessions, &first, NOW, NOW + 30), Err(RefreshError::Reused(_))));
    assert!(sessions.is_revoked(id));
}

#[test]
fn a_restart_forgets_nothing_that_matters() {
    let folder = tempfile::tempdir().unwrap();
    let mut sessions = open(&folder);
    let (_, first) = begin(&mut sessions);
    let (gone, _) = begin(&mut sessions);
    let version = sessions.version();
    sessions.revoke(gone, &Subject::unix(1000, 1), NOW + 60).unwrap();
    assert!(sessions.version() > version);
    refresh(&mut sessions, &first, NOW, NOW).unwrap();
    let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
    assert!(!text.contains(first.expose("test")), "tokens are hashed at rest");

    let mut sessions = open(&folder);
    assert_eq!(sessions.revoked(NOW), vec![gone]);
    assert_eq!(sessions.version(), version + 1);
    // The answer was lost with the restart: within the grace the client is forgiven, with a fresh successor.
    let (_, _, next) = refresh(&mut sessions, &first, NOW, NOW + 5).unwrap();
    refresh(&mut sessions, &next, NOW, NOW + 6).unwrap();
    assert!(matches!(refresh(&mut sessions, &first, NOW, NOW + 7), Err(RefreshError::Reused(_))));
}

#[test]
fn sessions_end_after_a_week() {
    let folder = tempfile::tempdir().unwrap();
    let mut sessions = open(&folder);
    let (_, first) = begin(&mut sessions);
    assert!(matches!(
        refresh(&mut sessions, &first, NOW, NOW + LONGEST),
        Err(RefreshError::Unknown)
    ));
    sessions.sweep(NOW + LONGEST).unwrap();
    assert_eq!((sessions.count(), open(&folder).count()), (0, 0));
}

#[test]
fn one_subject_has_a_share_and_pushes_nobody_else_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut sessions = open(&folder);
    let (_, other) = begin_as(&mut sessions, 2000, NOW);
    let (_, oldest) = begin_as(&mut sessions, 1000, NOW + 1);
    let (_, second) = begin_as(&mut sessions, 1000, NOW + 2);
    for _ in 2..=MOST_OF_ONE {
        begin_as(&mut sessions, 1000, NOW + 3);
    }
    assert_eq!(sessions.count(), MOST_OF_ONE + 1);
    assert!(matches!(refresh(&mut sessions, &oldest, NOW, NOW + 4), Err(RefreshError::Unknown)));
    refresh(&mut sessions, &second, NOW, NOW + 4).unwrap();
    refresh(&mut sessions, &other, NOW, NOW + 4).unwrap();
}

#[test]
fn a_look_spends_nothing_and_a_refresh_takes_the_role_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let mut sessions = open(&folder);
    let (id, first) = begin(&mut sessions);
    assert_eq!(sessions.peek(&first, NOW).unwrap().0, id);
    assert_eq!(sessions.peek(&first, NOW).unwrap().1.role, Role::User);
    let renewal = Renewal { role: Some(Role::Operator), access_until: NOW };
    let (_, session, second) = sessions.refresh(&first, renewal, NOW).unwrap();
    assert_eq!(session.role, Role::Operator);
    assert!(sessions.peek(&first, NOW + 29).is_some() && sessions.peek(&first, NOW + 30).is_none());
    assert_eq!(open(&folder).peek(&second, NOW).unwrap().1.role, Role::Operator);
    assert!(sessions.peek(&second, NOW + LONGEST).is_none());
}

#[test]
fn all_sessions_of_somebody_end_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut sessions = open(&folder);
    let (one, _) = begin_as(&mut sessions, 1000, NOW);
    let (two, _) = begin_as(&mut sessions, 1000, NOW);
    let (_, other) = begin_as(&mut sessions, 2000, NOW);
    let alice = Subject::unix(1000, 1);
    let version = sessions.version();
    assert_eq!(sessions.revoke_where(|session| session.subject == alice, NOW + 60).unwrap(), 2);
    assert!(sessions.is_revoked(one) && sessions.is_revoked(two));
    assert!(sessions.peek(&other, NOW).is_some());
    assert_eq!(open(&folder).version(), version + 1);
}

#[test]
fn who_ends_sessions_without_end_waits_and_nobody_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut sessions = open(&folder);
    let (id, _) = begin(&mut sessions);
    let alice = Subject::unix(1000, 1);
    sessions.revoke(id, &alice, NOW + 60).unwrap();
    sessions.revoke(id, &alice, NOW + 60).unwrap();
    assert_eq!(sessions.stored.ended[&alice], [NOW + 60], "counted once");
    sessions.stored.ended.insert(alice.clone(), vec![NOW + 60; MOST_ENDED]);
    let new = |uid| NewSession {
        subject: Subject::unix(uid, 1),
        name: "alice".into(),
        uid: Some(uid),
        role: Role::User,
        amr: by_pam(),
        access_until: NOW + 60,
    };
    let refused = sessions.begin(SessionId::random(), new(1000), NOW);
    assert!(matches!(refused, Err(RefreshError::TooManyEnded(60))));
    sessions.begin(SessionId::random(), new(2000), NOW).unwrap();
    sessions.begin(SessionId::random(), new(1000), NOW + 60).unwrap();
}
