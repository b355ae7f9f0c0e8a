//! Who gets room in the table and who loses it.

use super::{super::pacing::Pacing, *};
use sdrest_proto::{
    bounds::Username,
    id::RequestId,
    login::{Echo, LoginPrompt},
};

type Entries = HashMap<ConversationId, Arc<Entry>>;

const LONG: Duration = Duration::from_secs(600);

fn entry(source: &str, one_shot: bool) -> Arc<Entry> {
    let begin = Begin {
        username: Username::try_from("alice".to_owned()).unwrap(),
        password: one_shot.then(|| Answer::new("p".to_owned())),
        source: Source::new(Some(source.parse().unwrap())),
        request: RequestId::random(),
    };
    Arc::new(Entry::new(&begin, &Pacing::slow(LONG), mpsc::channel(1).0).unwrap())
}

fn with_password(source: &str) -> Arc<Entry> {
    entry(source, true)
}

fn with_person(source: &str) -> Arc<Entry> {
    entry(source, false)
}

fn add(entries: &mut Entries, new: &Arc<Entry>) -> Result<(), Fault> {
    make_room(entries, &Limits::default(), new)?;
    entries.insert(new.id, Arc::clone(new));
    Ok(())
}

fn ask(entry: &Entry) {
    entry.ask(
        vec![LoginPrompt { echo: Echo::Off, text: "Code: ".to_owned() }],
        Instant::now() + LONG,
    );
}

#[test]
fn one_source_has_a_share_and_its_own_oldest_end_goes_first() {
    let mut entries = Entries::new();
    let own: Vec<_> =
        (0..Limits::default().per_source).map(|_| with_password("192.0.2.1")).collect();
    for new in &own {
        add(&mut entries, new).unwrap();
    }
    assert!(add(&mut entries, &with_password("192.0.2.1")).is_err());
    assert!(add(&mut entries, &with_person("192.0.2.1")).is_err());
    let other = with_password("192.0.2.2");
    add(&mut entries, &other).unwrap();
    other.end(Err(gone()));
    for ended in [&own[9], &own[3]] {
        ended.end(Err(gone()));
    }
    add(&mut entries, &with_password("192.0.2.1")).unwrap();
    assert!(!entries.contains_key(&own[9].id) && entries.contains_key(&own[3].id));
    add(&mut entries, &with_password("192.0.2.1")).unwrap();
    assert!(!entries.contains_key(&own[3].id) && entries.contains_key(&other.id));
    assert!(add(&mut entries, &with_password("192.0.2.1")).is_err());
}

#[test]
fn one_shots_that_wait_for_more_answers_count_as_waiting() {
    let mut entries = Entries::new();
    for _ in 0..Limits::default().waiting_per_source {
        let new = with_password("192.0.2.1");
        add(&mut entries, &new).unwrap();
        ask(&new);
    }
    assert!(add(&mut entries, &with_password("192.0.2.1")).is_err());
    add(&mut entries, &with_password("192.0.2.2")).unwrap();
}

#[test]
fn a_source_that_asks_for_more_loses_its_own_oldest_silent_conversation() {
    let mut entries = Entries::new();
    let silent: Vec<_> = (0..4).map(|_| with_person("192.0.2.1")).collect();
    for new in &silent {
        add(&mut entries, new).unwrap();
    }
    // A first one-shot needs no room from anybody.
    add(&mut entries, &with_password("192.0.2.1")).unwrap();
    assert!(silent.iter().all(|entry| entries.contains_key(&entry.id)));
    add(&mut entries, &with_person("192.0.2.1")).unwrap();
    assert!(!entries.contains_key(&silent[0].id) && silent[0].cancelled.is_cancelled());
}
