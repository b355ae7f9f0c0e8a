//! What every store must do, told as tests. Each takes a fresh store; a second implementation runs the same.

use crate::jobs::job::Job;
use crate::jobs::{
    clock::UnixMillis,
    fairness,
    job::{IdempotencyKey, ImageRecord, JobKind, NewJob, Page},
    state::JobState,
    store::{
        Blame, Claim, ClaimRequest, Company, Finished, Inserted, JobFilter, JobStore, Limits,
        Recorded, Refusal, Requeued, sqlite::SqliteStore,
    },
};
use sdrest_proto::{
    bounds::{Dimension, GuidanceScale, ImageCount, ModelName, Prompt, Seed, Steps},
    error::{ErrorCode, Fault},
    generation::GenerationRequest,
    id::{Attempt, ImageId, JobId, RequestId},
    identity::Subject,
    sampling::{SchedulerKind, SigmaSchedule},
};

const ROOMY: Limits = Limits { queued: 100, queued_per_owner: 100 };

pub(crate) fn request(steps: u64) -> GenerationRequest {
    GenerationRequest {
        model: ModelName::try_from("demo".to_owned()).unwrap(),
        prompt: Prompt::try_from("a red circle, 円".to_owned()).unwrap(),
        negative_prompt: Prompt::empty(),
        width: Dimension::try_from(64).unwrap(),
        height: Dimension::try_from(64).unwrap(),
        num_inference_steps: Steps::try_from(steps).unwrap(),
        guidance_scale: GuidanceScale::try_from(7.3).unwrap(),
        scheduler: SchedulerKind::DpmSolverMultistep,
        sigma_schedule: SigmaSchedule::Karras,
        seed: Seed::try_from(Seed::MAX).unwrap(),
        num_images: ImageCount::try_from(1).unwrap(),
        clip_skip: None,
    }
}

pub(crate) fn new_job(owner: u32, steps: u64) -> NewJob {
    NewJob {
        id: JobId::random(),
        owner: Subject::unix(owner, 1),
        owner_name: format!("user{owner}"),
        kind: JobKind::TextToImage,
        request: request(steps),
        request_id: RequestId::random(),
        idempotency_key: None,
    }
}

async fn fresh() -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("jobs.db")).await.unwrap();
    (folder, store)
}

async fn accept(store: &dyn JobStore, new: NewJob) -> Job {
    match store.insert(new, ROOMY).await.unwrap().unwrap() {
        Inserted::Fresh(job) => job,
        Inserted::Replayed(_) => panic!("replayed"),
    }
}

fn wanted(company: Company) -> ClaimRequest {
    ClaimRequest { excluded_models: Vec::new(), profile: "cpu float32".to_owned(), company }
}

async fn claim(store: &dyn JobStore) -> Job {
    match store.claim(wanted(Company::Alone)).await.unwrap() {
        Claim::Job { job, .. } => *job,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn picture(job: &Job) -> ImageRecord {
    ImageRecord {
        id: ImageId::random(),
        job: job.id,
        attempt: job.attempt,
        index: 0,
        seed: job.request.seed.get(),
        width: 64,
        height: 64,
        sha256: "00".repeat(32),
        key: format!("images/{}/{}/0.png", job.id, job.attempt),
        bytes: 9,
        created: UnixMillis::now(),
    }
}

#[tokio::test]
async fn what_was_accepted_comes_back_as_it_was() {
    let (folder, store) = fresh().await;
    let new = new_job(1, 20);
    let job = accept(&store, new.clone()).await;
    drop(store);
    let store = SqliteStore::open(&folder.path().join("jobs.db")).await.unwrap();
    let found = store.job(job.id).await.unwrap().unwrap();
    assert_eq!(found.request, new.request);
    assert_eq!(
        (found.owner, found.owner_name, found.request_id),
        (new.owner, new.owner_name, new.request_id)
    );
    assert_eq!((found.state, found.attempt), (JobState::Queued, Attempt(0)));
}

#[tokio::test]
async fn an_old_attempt_records_nothing() {
    let (_folder, store) = fresh().await;
    accept(&store, new_job(1, 20)).await;
    let first = claim(&store).await;
    assert_eq!(first.attempt, Attempt(1));
    assert_eq!(store.recover().await.unwrap(), 1);
    let second = claim(&store).await;
    assert_eq!((second.id, second.attempt), (first.id, Attempt(2)));

    assert!(matches!(
        store.finish(first.id, first.attempt, vec![picture(&first)]).await.unwrap(),
        Finished::Stale
    ));
    let fault = Fault::new(ErrorCode::GenerationFailed, "late");
    assert_eq!(store.fail(first.id, first.attempt, fault).await.unwrap(), Recorded::Stale);
    assert_eq!(
        store.requeue(first.id, first.attempt, Blame::Suspect { step: 1 }).await.unwrap(),
        Requeued::Stale
    );
    assert!(!store.has_blob(picture(&first).key).await.unwrap());

    let recorded = store.finish(second.id, second.attempt, vec![picture(&second)]).await.unwrap();
    let Finished::Yes(Some(recorded)) = recorded else { panic!("{recorded:?}") };
    assert!(matches!(
        store.finish(second.id, second.attempt, vec![picture(&second)]).await.unwrap(),
        Finished::Stale
    ));
    let done = store.job(second.id).await.unwrap().unwrap();
    assert_eq!((done.state, done.images.len()), (JobState::Done, 1));
    // What `finish` gives is what is there.
    assert_eq!(format!("{recorded:?}"), format!("{done:?}"));
    let image = store.image(done.images[0].id).await.unwrap().unwrap();
    assert_eq!((image.owner, image.image.attempt), (done.owner, Attempt(2)));
    assert!(store.has_blob(image.image.key).await.unwrap());
}

#[tokio::test]
async fn a_key_makes_one_job_per_owner_and_body() {
    let (_folder, store) = fresh().await;
    let key = |byte| Some(IdempotencyKey { key: "k".to_owned(), body_sha256: [byte; 32] });
    let first = accept(&store, NewJob { idempotency_key: key(1), ..new_job(1, 20) }).await;
    let again =
        store.insert(NewJob { idempotency_key: key(1), ..new_job(1, 20) }, ROOMY).await.unwrap();
    assert!(matches!(again, Ok(Inserted::Replayed(job)) if job.id == first.id));
    let other =
        store.insert(NewJob { idempotency_key: key(2), ..new_job(1, 20) }, ROOMY).await.unwrap();
    assert_eq!(other.err(), Some(Refusal::KeyReused));
    accept(&store, NewJob { idempotency_key: key(2), ..new_job(2, 20) }).await;
    assert_eq!(store.counts(None).await.unwrap().queued, 2);
    let replay = async |owner, byte| {
        let found = store.replay(Subject::unix(owner, 1), key(byte).unwrap()).await.unwrap();
        found.map(|job| job.id)
    };
    assert_eq!(replay(1, 1).await, Some(first.id));
    assert_eq!((replay(1, 2).await, replay(2, 1).await, replay(3, 1).await), (None, None, None));
}

#[tokio::test]
async fn limits_hold_for_one_and_for_all() {
    let (_folder, store) = fresh().await;
    let limits = Limits { queued: 3, queued_per_owner: 2 };
    for _ in 0..2 {
        assert!(store.insert(new_job(1, 20), limits).await.unwrap().is_ok());
    }
    let refused = store.insert(new_job(1, 20), limits).await.unwrap();
    assert_eq!(refused.err(), Some(Refusal::QuotaExceeded { queued: 2 }));
    assert!(store.insert(new_job(2, 20), limits).await.unwrap().is_ok());
    let refused = store.insert(new_job(3, 20), limits).await.unwrap();
    assert_eq!(refused.err(), Some(Refusal::QueueFull { queued: 3 }));
    claim(&store).await;
    assert!(store.insert(new_job(3, 20), limits).await.unwrap().is_ok());
}

#[tokio::test]
async fn owners_take_turns_by_cost_and_the_predicted_order_is_the_real_one() {
    let (_folder, store) = fresh().await;
    for (owner, steps) in [(1, 10), (1, 10), (1, 10), (2, 30), (2, 10), (3, 20)] {
        accept(&store, new_job(owner, steps)).await;
    }
    let predicted: Vec<JobId> =
        fairness::order(store.waiting().await.unwrap()).into_iter().map(|turn| turn.job).collect();
    let mut owners = Vec::new();
    for expected in predicted {
        let job = claim(&store).await;
        assert_eq!(job.id, expected);
        owners.push(job.owner_name);
    }
    assert_eq!(owners, ["user1", "user2", "user3", "user1", "user1", "user2"]);
}

#[tokio::test]
async fn a_rest_saves_up_nothing() {
    let (_folder, store) = fresh().await;
    accept(&store, new_job(2, 10)).await;
    claim(&store).await;
    for _ in 0..6 {
        accept(&store, new_job(1, 10)).await;
    }
    for _ in 0..4 {
        claim(&store).await;
    }
    for _ in 0..3 {
        accept(&store, new_job(2, 10)).await;
    }
    let mut owners = Vec::new();
    for _ in 0..4 {
        owners.push(claim(&store).await.owner_name);
    }
    assert_eq!(owners.iter().filter(|name| *name == "user1").count(), 2, "{owners:?}");
}

#[tokio::test]
async fn three_deaths_at_one_step_end_a_job() {
    let (_folder, store) = fresh().await;
    let suspect = accept(&store, new_job(1, 20)).await;
    for death in 1..=3 {
        if death > 1 {
            assert!(matches!(store.claim(wanted(Company::Beside)).await.unwrap(), Claim::Hold));
        }
        let job = claim(&store).await;
        let became = store.requeue(job.id, job.attempt, Blame::Suspect { step: 7 }).await.unwrap();
        assert_eq!(became, if death < 3 { Requeued::Waiting } else { Requeued::Quarantined });
    }
    let failed = store.job(suspect.id).await.unwrap().unwrap();
    assert_eq!((failed.state, failed.worker_deaths), (JobState::Failed, 3));
    let fault = failed.fault.unwrap();
    assert_eq!(fault.code, ErrorCode::GenerationFailed);
    assert!(fault.message.contains("died 3 times"), "{}", fault.message);
}

#[tokio::test]
async fn deaths_at_different_steps_are_taken_for_bad_luck_up_to_thirty() {
    let (_folder, store) = fresh().await;
    accept(&store, new_job(1, 20)).await;
    for death in 1..=30 {
        let job = claim(&store).await;
        let blame = Blame::Suspect { step: death % 2 };
        let became = store.requeue(job.id, job.attempt, blame).await.unwrap();
        assert_eq!(became, if death < 30 { Requeued::Waiting } else { Requeued::Quarantined });
    }
}

/// Where a worker died without a word nobody knows the step, and one is not made up.
#[tokio::test]
async fn a_death_at_no_known_step_counts_among_all_deaths_only() {
    let (_folder, store) = fresh().await;
    let suspect = accept(&store, new_job(1, 20)).await;
    for death in 1..=20 {
        let job = claim(&store).await;
        let became = store.requeue(job.id, job.attempt, Blame::Possible).await.unwrap();
        assert_eq!(became, Requeued::Waiting, "death {death}");
    }
    for at_step_7 in 1..=3 {
        let job = claim(&store).await;
        let became = store.requeue(job.id, job.attempt, Blame::Suspect { step: 7 }).await.unwrap();
        assert_eq!(became, if at_step_7 < 3 { Requeued::Waiting } else { Requeued::Quarantined });
    }
    let failed = store.job(suspect.id).await.unwrap().unwrap();
    assert_eq!(failed.worker_deaths, 23);

    accept(&store, new_job(1, 20)).await;
    for death in 1..=30 {
        let job = claim(&store).await;
        let became = store.requeue(job.id, job.attempt, Blame::Possible).await.unwrap();
        assert_eq!(became, if death < 30 { Requeued::Waiting } else { Requeued::Quarantined });
        if death == 30 {
            let fault = store.job(job.id).await.unwrap().unwrap().fault.unwrap();
            assert!(!fault.message.contains("step"), "{}", fault.message);
        }
    }
}

/// One that came between does not make those at a step fewer.
#[tokio::test]
async fn a_death_at_no_known_step_hides_none_at_a_known_one() {
    let (_folder, store) = fresh().await;
    accept(&store, new_job(1, 20)).await;
    let at_7 = Blame::Suspect { step: 7 };
    let deaths = [at_7, Blame::Possible, at_7, Blame::Innocent, Blame::Possible, at_7];
    for (place, blame) in deaths.into_iter().enumerate() {
        let job = claim(&store).await;
        let became = store.requeue(job.id, job.attempt, blame).await.unwrap();
        assert_eq!(became, if place < 5 { Requeued::Waiting } else { Requeued::Quarantined });
    }
}

#[tokio::test]
async fn an_innocent_job_may_be_moved_for_ever() {
    let (_folder, store) = fresh().await;
    accept(&store, new_job(1, 20)).await;
    for _ in 0..5 {
        let job = claim(&store).await;
        let became = store.requeue(job.id, job.attempt, Blame::Innocent).await.unwrap();
        assert_eq!(became, Requeued::Waiting);
    }
    assert_eq!(claim(&store).await.attempt, Attempt(6));
}

#[tokio::test]
async fn a_cancelled_job_stays_so() {
    let (_folder, store) = fresh().await;
    let waiting = accept(&store, new_job(1, 20)).await;
    assert_eq!(store.cancel(waiting.id).await.unwrap(), Some(JobState::Queued));
    assert_eq!(store.cancel(waiting.id).await.unwrap(), Some(JobState::Cancelled));
    assert!(matches!(store.claim(wanted(Company::Alone)).await.unwrap(), Claim::Nothing));
    accept(&store, new_job(1, 20)).await;
    let running = claim(&store).await;
    assert_eq!(store.cancel(running.id).await.unwrap(), Some(JobState::Running));
    let late = store.finish(running.id, running.attempt, vec![picture(&running)]).await.unwrap();
    assert!(matches!(late, Finished::Stale));
    assert_eq!(store.cancel(JobId::random()).await.unwrap(), None);
}

#[tokio::test]
async fn a_worker_without_the_model_does_not_get_the_job() {
    let (_folder, store) = fresh().await;
    accept(&store, new_job(1, 20)).await;
    let without =
        ClaimRequest { excluded_models: vec!["demo".to_owned()], ..wanted(Company::Alone) };
    assert!(matches!(store.claim(without).await.unwrap(), Claim::Nothing));
    claim(&store).await;
}

#[tokio::test]
async fn lists_are_the_owners_and_go_on_where_they_stopped() {
    let (_folder, store) = fresh().await;
    let mut own = Vec::new();
    for owner in [1, 2, 1, 2, 1] {
        let job = accept(&store, new_job(owner, 20)).await;
        if owner == 1 {
            own.insert(0, job.id);
        }
    }
    let filter =
        |before| JobFilter { owner: Some(Subject::unix(1, 1)), state: None, before, limit: 2 };
    let page = async |before| {
        let page = store.jobs(filter(before)).await.unwrap();
        (page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(page(None).await, (own[..2].to_vec(), Some(own[1])));
    assert_eq!(page(Some(own[1])).await, (own[2..].to_vec(), None));

    let done = claim(&store).await;
    store.finish(done.id, done.attempt, vec![picture(&done)]).await.unwrap();
    let images = store.images(Some(done.owner.clone()), Page::first(10)).await.unwrap().images;
    assert_eq!(images.len(), 1);
    let others = store.images(Some(Subject::unix(9, 1)), Page::first(10)).await.unwrap();
    assert!(others.images.is_empty());
    assert!(store.delete_image(images[0].image.id).await.unwrap());
    assert!(store.job(done.id).await.unwrap().unwrap().images.is_empty());
}

#[tokio::test]
async fn a_list_does_not_tell_that_a_job_of_somebody_else_is_there() {
    let (_folder, store) = fresh().await;
    let own = accept(&store, new_job(1, 20)).await;
    let others = accept(&store, new_job(2, 20)).await;
    for state in [None, Some(JobState::Queued)] {
        for before in [others.id, JobId::random()] {
            let owner = Some(own.owner.clone());
            let filter = JobFilter { owner, state, before: Some(before), limit: 2 };
            assert!(store.jobs(filter).await.unwrap().jobs.is_empty(), "{state:?}");
        }
    }
}
