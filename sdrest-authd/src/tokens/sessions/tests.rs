//! Rotation, reuse and revocation, also across restarts, with a clock that the test moves.

use super::*;

const NOW: u64 = 1_000_000;
const UNTIL: u64 = NOW + 60;

fn login(uid: u32, now: u64) -> Login {
    Login {
        subject: Subject::unix(uid, 1),
        name: "alice".into(),
        uid: Some(uid),
        role: Role::User,
        how: How::Pam,
        auth_time: now,
    }
}

fn begin(sessions: &Sessions) -> (SessionId, RefreshToken) {
    begin_as(sessions, 1000, NOW)
}

fn begin_as(sessions: &Sessions, uid: u32, now: u64) -> (SessionId, RefreshToken) {
    let id = SessionId::random();
    (id, sessions.begin(id, &login(uid, now), UNTIL).unwrap())
}

fn refresh(
    sessions: &Sessions,
    token: &RefreshToken,
    access_until: u64,
    now: u64,
) -> Result<RefreshToken, RefreshError> {
    sessions.refresh(token, Some(Role::User), (now, access_until)).map(|refreshed| refreshed.token)
}

fn open(folder: &tempfile::TempDir) -> Sessions {
    Sessions::load(&StateDir::open(folder.path()).unwrap()).unwrap()
}

fn until(sessions: &Sessions, id: SessionId) -> u64 {
    match sessions.table.read()[&id] {
        Entry::Open(ref session) => session.access_until,
        Entry::Past { until, .. } => until,
    }
}

#[test]
fn a_lost_answer_is_given_again_and_theft_ends_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let (id, first) = begin(&sessions);
    let second = refresh(&sessions, &first, NOW + 70, NOW + 10).unwrap();
    let again = refresh(&sessions, &first, NOW + 70, NOW + 20).unwrap();
    assert!(second.matches(&again), "the same successor within 30 s");
    let third = refresh(&sessions, &second, NOW + 80, NOW + 30).unwrap();
    assert_eq!(
        (sessions.peek(&third, NOW + 30).unwrap().1.auth_time, until(&sessions, id)),
        (NOW, NOW + 80)
    );
    // The first one is spent for good now.
    assert!(
        matches!(refresh(&sessions, &first, NOW, NOW + 31), Err(RefreshError::Reused(reused)) if reused == id)
    );
    assert!(matches!(refresh(&sessions, &third, NOW, NOW + 32), Err(RefreshError::Unknown)));
    assert_eq!(sessions.revoked(), [id]);
    sessions.sweep(NOW + 79).unwrap();
    assert_eq!(sessions.revoked(), [id]);
    sessions.sweep(NOW + 80).unwrap();
    assert!(sessions.revoked().is_empty(), "its last token has expired");
}

#[test]
fn the_grace_ends_after_thirty_seconds_and_does_not_last_longer_when_the_clock_is_put_back() {
    for now in [NOW + 30, NOW - 30, 5] {
        let folder = tempfile::tempdir().unwrap();
        let sessions = open(&folder);
        let (id, first) = begin(&sessions);
        refresh(&sessions, &first, UNTIL, NOW).unwrap();
        let reused = refresh(&sessions, &first, UNTIL, now);
        assert!(matches!(reused, Err(RefreshError::Reused(_))), "{now}");
        assert!(sessions.is_revoked(id));
    }
}

#[test]
fn a_restart_forgets_nothing_that_matters() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let (_, first) = begin(&sessions);
    let (gone, _) = begin(&sessions);
    sessions.revoke(gone, &Subject::unix(1000, 1), UNTIL).unwrap();
    refresh(&sessions, &first, UNTIL, NOW).unwrap();
    let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
    // After the id, which is no secret.
    assert!(!text.contains(&first.expose("test")[22..60]), "secrets are hashed at rest");

    let sessions = open(&folder);
    assert_eq!(sessions.revoked(), [gone]);
    // The answer was lost with the restart: within the grace the client is forgiven, with a fresh successor.
    let next = refresh(&sessions, &first, UNTIL, NOW + 5).unwrap();
    refresh(&sessions, &next, UNTIL, NOW + 6).unwrap();
    assert!(matches!(refresh(&sessions, &first, UNTIL, NOW + 7), Err(RefreshError::Reused(_))));
}

#[test]
fn reuse_is_noticed_however_long_ago_the_token_was_spent() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let (id, first) = begin(&sessions);
    let mut token = refresh(&sessions, &first, UNTIL, NOW).unwrap();
    for step in 0..200 {
        token = refresh(&sessions, &token, UNTIL, NOW + step).unwrap();
    }
    let sessions = open(&folder);
    assert!(matches!(refresh(&sessions, &first, UNTIL, NOW + 201), Err(RefreshError::Reused(_))));
    assert!(sessions.is_revoked(id));
}

#[test]
fn who_knows_the_id_of_a_session_cannot_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let (id, token) = begin(&sessions);
    let forged = Shown::first(id).unwrap().token();
    assert!(matches!(refresh(&sessions, &forged, UNTIL, NOW), Err(RefreshError::Unknown)));
    assert!(!sessions.is_revoked(id));
    refresh(&sessions, &token, UNTIL, NOW).unwrap();
}

#[test]
fn sessions_end_after_a_week_by_a_clock_that_is_put_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let (_, first) = begin(&sessions);
    let late = refresh(&sessions, &first, UNTIL, NOW + LONGEST);
    assert!(matches!(late, Err(RefreshError::Unknown)));
    sessions.sweep(NOW + LONGEST - 1).unwrap();
    assert_eq!(sessions.count(), 1);
    for _ in 0..2 {
        sessions.sweep(NOW + LONGEST).unwrap();
    }
    assert_eq!((sessions.count(), open(&folder).table.read().len()), (0, 0));

    let (_, token) = begin_as(&sessions, 1000, NOW);
    let back = NOW / 2;
    sessions.sweep(back).unwrap();
    let token = refresh(&sessions, &token, UNTIL, back + LONGEST - 1).unwrap();
    let late = refresh(&sessions, &token, UNTIL, back + LONGEST);
    assert!(matches!(late, Err(RefreshError::Unknown)), "a week from when the clock was put back");
}

#[test]
fn a_login_without_a_refresh_token_is_forgotten_with_its_access_token() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let id = SessionId::random();
    sessions.begin(id, &Login { how: How::Peer, ..login(1000, NOW) }, UNTIL).unwrap();
    sessions.sweep(UNTIL - 1).unwrap();
    assert_eq!(sessions.revoke_of(&[Subject::unix(1000, 1)]).unwrap(), 1, "it can be revoked");
    assert_eq!(sessions.revoked(), [id]);
    let other = SessionId::random();
    sessions.begin(other, &Login { how: How::Peer, ..login(1000, NOW) }, UNTIL).unwrap();
    for _ in 0..2 {
        sessions.sweep(UNTIL).unwrap();
    }
    assert!(sessions.table.read().is_empty());
}

#[test]
fn one_subject_has_a_share_and_pushes_nobody_else_out() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let (_, other) = begin_as(&sessions, 2000, NOW);
    let (_, oldest) = begin_as(&sessions, 1000, NOW + 1);
    let (_, second) = begin_as(&sessions, 1000, NOW + 2);
    for _ in 2..=MOST_OF_ONE {
        begin_as(&sessions, 1000, NOW + 3);
    }
    assert_eq!(sessions.count(), MOST_OF_ONE + 1);
    assert!(matches!(refresh(&sessions, &oldest, UNTIL, NOW + 4), Err(RefreshError::Unknown)));
    refresh(&sessions, &second, UNTIL, NOW + 4).unwrap();
    refresh(&sessions, &other, UNTIL, NOW + 4).unwrap();
}

#[test]
fn after_the_clock_was_put_back_new_sessions_do_not_push_each_other_out() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    for _ in 0..MOST_OF_ONE {
        begin(&sessions);
    }
    let back = NOW / 2;
    sessions.sweep(back).unwrap();
    let (_, one) = begin_as(&sessions, 1000, back + 1);
    begin_as(&sessions, 1000, back + 2);
    assert!(sessions.peek(&one, back + 3).is_some());
}

#[test]
fn a_session_that_was_displaced_is_ended_with_the_others_of_its_subject() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let (displaced, _) = begin_as(&sessions, 1000, NOW);
    for _ in 0..MOST_OF_ONE {
        begin_as(&sessions, 1000, NOW + 1);
    }
    let (other, _) = begin_as(&sessions, 2000, NOW + 1);
    assert!(sessions.revoked().is_empty(), "its access token goes on");
    let sessions = open(&folder);
    let ended = sessions.revoke_of(&[Subject::unix(1000, 1)]).unwrap();
    assert_eq!(ended, MOST_OF_ONE + 1);
    assert!(sessions.is_revoked(displaced) && !sessions.is_revoked(other));
    assert_eq!(open(&folder).revoked().len(), ended);
    sessions.sweep(UNTIL).unwrap();
    assert_eq!((sessions.revoked().len(), sessions.table.read().len()), (0, 1));
}

#[test]
fn a_displaced_session_is_ended_by_its_own_logout_too() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let (displaced, _) = begin(&sessions);
    for _ in 0..MOST_OF_ONE {
        begin_as(&sessions, 1000, NOW + 1);
    }
    sessions.revoke(displaced, &Subject::unix(1000, 1), NOW).unwrap();
    assert_eq!(sessions.revoked(), [displaced]);
    assert_eq!(until(&sessions, displaced), UNTIL, "as long as its own tokens last");
}

#[test]
fn a_look_spends_nothing_and_a_refresh_takes_the_role_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let (id, first) = begin(&sessions);
    assert_eq!(sessions.peek(&first, NOW).unwrap().0, id);
    assert_eq!(sessions.peek(&first, NOW).unwrap().1.role, Role::User);
    let refreshed = sessions.refresh(&first, Some(Role::Operator), (NOW, UNTIL)).unwrap();
    assert_eq!(refreshed.login.role, Role::Operator);
    assert!(sessions.peek(&first, NOW + 29).is_some() && sessions.peek(&first, NOW + 30).is_none());
    let second = refreshed.token;
    assert_eq!(open(&folder).peek(&second, NOW).unwrap().1.role, Role::Operator);
    assert!(sessions.peek(&second, NOW + LONGEST).is_none());
}

#[test]
fn without_a_word_on_the_account_nothing_is_spent() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let (id, first) = begin(&sessions);
    // The clock says that a token opens nothing, is put back, and then the token would open something.
    let refused = sessions.refresh(&first, None, (NOW, UNTIL + 1));
    assert!(matches!(refused, Err(RefreshError::Unknown)));
    assert_eq!(until(&sessions, id), UNTIL);
    let second = refresh(&sessions, &first, UNTIL, NOW).unwrap();
    refresh(&sessions, &second, UNTIL, NOW).unwrap();
    let refused = sessions.refresh(&first, None, (NOW, UNTIL));
    assert!(matches!(refused, Err(RefreshError::Reused(reused)) if reused == id));
}

/// Fills the table with revoked sessions of one subject.
fn fill(sessions: &Sessions, uid: u32, count: usize) {
    let entry = Entry::Past { subject: Subject::unix(uid, 1), until: UNTIL, what: Over::Revoked };
    let filled = sessions.table.change(|_, changes| {
        changes.extend((0..count).map(|_| (SessionId::random(), Some(entry.clone()))));
        Ok::<_, StateError>(())
    });
    filled.unwrap();
}

#[test]
fn who_ends_sessions_without_end_waits_and_nobody_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let begin = |uid| sessions.begin(SessionId::random(), &login(uid, NOW), UNTIL);
    fill(&sessions, 1000, MOST_ENTRIES / 3);
    begin(1000).unwrap();
    fill(&sessions, 1000, 10);
    assert!(matches!(begin(1000), Err(RefreshError::TooManyEnded(60))));
    begin(2000).unwrap();
    // However many do so.
    for hog in 0..1000 {
        let free = MOST_ENTRIES - sessions.table.read().len();
        fill(&sessions, 3000 + hog, free / 2 + 1);
        if free < 100 {
            break;
        }
    }
    begin(2000).unwrap();
    sessions.sweep(UNTIL).unwrap();
    begin(1000).unwrap();
}

#[test]
fn when_no_entry_is_free_nothing_begins_and_everything_can_be_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let (open, token) = begin_as(&sessions, 2000, NOW);
    fill(&sessions, 1000, MOST_ENTRIES - 1);
    let refused = sessions.begin(SessionId::random(), &login(4000, NOW), UNTIL);
    assert!(matches!(refused, Err(RefreshError::TooManyEnded(60))));
    refresh(&sessions, &token, UNTIL, NOW).unwrap();
    sessions.revoke(open, &Subject::unix(2000, 1), UNTIL).unwrap();
    assert_eq!(sessions.revoked().len(), MOST_ENTRIES);
    // Sessions that nobody here knows: as many as the frame holds, and then a refusal instead of a lie.
    fill(&sessions, 1000, UNKNOWN - 1);
    let stranger = || sessions.revoke(SessionId::random(), &Subject::unix(9, 1), UNTIL);
    stranger().unwrap();
    assert!(matches!(stranger(), Err(RefreshError::TooManyEnded(_))));
    assert_eq!(sessions.revoked().len(), MOST_ENTRIES + UNKNOWN);
}

#[test]
fn in_all_the_one_that_was_used_longest_ago_is_displaced() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = open(&folder);
    let (oldest, token) = begin_as(&sessions, 1, NOW - 1);
    let Some(Entry::Open(pattern)) = sessions.table.read().get(&oldest).cloned() else {
        panic!("it is open");
    };
    let filled = sessions.table.change(|_, changes| {
        for uid in 2..=u32::try_from(MOST).unwrap() {
            let mut session = pattern.clone();
            (session.login, session.used) = (login(uid, NOW), NOW);
            changes.insert(SessionId::random(), Some(Entry::Open(session)));
        }
        Ok::<_, StateError>(())
    });
    filled.unwrap();
    begin_as(&sessions, 20_000, NOW);
    assert_eq!(sessions.count(), MOST);
    assert!(sessions.peek(&token, NOW).is_none());
    assert_eq!(sessions.revoke_of(&[Subject::unix(1, 1)]).unwrap(), 1);
    assert_eq!(sessions.revoked(), [oldest]);
}
