//! What is removed at start, beside the first jobs, and what is not.

use super::{super::pool::sweep, *};
use crate::{
    images::blob_key,
    jobs::store::{Claim, ClaimRequest, Company},
};
use sdrest_proto::id::{Attempt, ImageId, JobId};

/// A dispatcher stores a job's pictures before it names them. However early that is, and whatever the clock of the
/// file system says of it, they stay.
#[tokio::test]
async fn the_sweep_leaves_what_a_running_attempt_has_written() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(&folder.path().join("jobs.db"), QueueLimits::default()).await.unwrap();
    let blobs = BlobStore::open(folder.path()).unwrap();
    let waiting = queue.submit(Allowed, new_job(1, 20)).await.unwrap();
    let running = queue.submit(Allowed, new_job(2, 20)).await.unwrap();
    let request = || ClaimRequest {
        excluded_models: Vec::new(),
        profile: "cpu".to_owned(),
        company: Company::Alone,
    };
    let Claim::Job { job: first, .. } = queue.work().claim(request()).await.unwrap() else {
        panic!("nothing was claimed");
    };
    let (running, waiting) =
        if first.id == running.id { (running, waiting) } else { (waiting, running) };
    let kept = [
        blob_key(running.id, Attempt(1), 0, ImageId::random()),
        blob_key(running.id, Attempt(1), 1, ImageId::random()),
        "images/00/cat.png".to_owned(),
    ];
    let lost = [
        blob_key(running.id, Attempt(0), 0, ImageId::random()),
        blob_key(waiting.id, Attempt(1), 0, ImageId::random()),
        blob_key(JobId::random(), Attempt(1), 0, ImageId::random()),
    ];
    let file = |key: &str| folder.path().join(key);
    for key in kept.iter().chain(&lost) {
        blobs.put(key, b"a picture".to_vec().into()).await.unwrap();
        std::fs::write(file(&format!("{key}#1")), b"half of one").unwrap();
    }
    sweep(queue.work(), blobs.clone()).await;
    for key in &kept {
        assert!(file(key).exists() && file(&format!("{key}#1")).exists(), "{key} is gone");
    }
    for key in &lost {
        assert!(!file(key).exists() && !file(&format!("{key}#1")).exists(), "{key} is there");
    }
}
