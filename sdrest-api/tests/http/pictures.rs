//! Pictures and streams of jobs that have run, and what a guest learns of other people's.

use super::{
    authd::TestAuthd,
    server::Server,
    tokens::{claims, now},
};
use axum::{
    body::Body,
    http::{Method, Request},
};
use futures::StreamExt;
use sdrest_api::{
    images::blob_key,
    jobs::{
        ImageRecord, Job, JobKind, NewJob, SubmitPermit,
        clock::UnixMillis,
        store::{Claim, ClaimRequest, Company, Recorded},
        streams::MAX_STREAMS,
    },
};
use sdrest_proto::{
    authd::AuthMode,
    bounds::{Dimension, GuidanceScale, ImageCount, ModelName, Prompt, Seed, Steps},
    generation::GenerationRequest,
    id::{Attempt, ImageId, JobId, RequestId, SessionId},
    identity::{Role, Subject},
    sampling::{SchedulerKind, SigmaSchedule},
};
use tower::ServiceExt;

pub(crate) struct Allowed;
impl SubmitPermit for Allowed {}

pub(crate) fn new_job(owner: Subject) -> NewJob {
    NewJob {
        id: JobId::random(),
        owner,
        owner_name: "somebody".to_owned(),
        kind: JobKind::TextToImage,
        request: GenerationRequest {
            model: ModelName::try_from("demo".to_owned()).unwrap(),
            prompt: Prompt::try_from("a red circle".to_owned()).unwrap(),
            negative_prompt: Prompt::empty(),
            width: Dimension::try_from(64).unwrap(),
            height: Dimension::try_from(64).unwrap(),
            num_inference_steps: Steps::try_from(5).unwrap(),
            guidance_scale: GuidanceScale::try_from(7.0).unwrap(),
            scheduler: SchedulerKind::DpmSolverMultistep,
            sigma_schedule: SigmaSchedule::Default,
            seed: Seed::try_from(1).unwrap(),
            num_images: ImageCount::try_from(1).unwrap(),
            clip_skip: None,
        },
        request_id: RequestId::random(),
        idempotency_key: None,
    }
}

/// Ends the one waiting job as a dispatcher would, with a picture of these bytes.
async fn finish(server: &Server, job: &Job, file: &[u8]) -> ImageId {
    let work = server.queue.work();
    let request = ClaimRequest {
        excluded_models: Vec::new(),
        profile: "cpu".to_owned(),
        company: Company::Alone,
    };
    let Claim::Job { job: claimed, .. } = work.claim(request).await.unwrap() else {
        panic!("nothing was claimed");
    };
    assert_eq!(claimed.id, job.id);
    let id = ImageId::random();
    let key = blob_key(job.id, claimed.attempt, 0, id);
    server.blobs.put(&key, file.to_vec().into()).await.unwrap();
    let image = ImageRecord {
        id,
        job: job.id,
        attempt: claimed.attempt,
        index: 0,
        seed: 1,
        width: 64,
        height: 64,
        sha256: "ab".repeat(32),
        key,
        bytes: file.len() as u64,
        created: UnixMillis::now(),
    };
    let recorded = work.finish(job.id, claimed.attempt, vec![image]).await.unwrap();
    assert_eq!(recorded, Recorded::Yes);
    id
}

/// A token of this account.
fn token_of(server: &Server, owner: &Subject) -> String {
    let mut claims = claims(Role::User, SessionId::random(), now());
    claims["sub"] = owner.as_str().into();
    server.authd.sign(&claims)
}

/// A job of this account that is done, and its picture of these bytes.
async fn drawn(server: &Server, owner: &Subject, file: &[u8]) -> (Job, ImageId) {
    let job = server.queue.submit(Allowed, new_job(owner.clone())).await.unwrap();
    let image = finish(server, &job, file).await;
    (job, image)
}

#[tokio::test]
async fn a_picture_is_sent_as_it_lies_there() {
    let server = Server::start(AuthMode::Pam).await;
    let token = server.user();
    let file: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let (_, id) = drawn(&server, &Subject::unix(1000, 1), &file).await;
    let get = |tag: Option<&str>| {
        let mut request = Server::request(Method::GET, &format!("/api/v1/images/{id}"))
            .header("host", "127.0.0.1:8080")
            .header("authorization", format!("Bearer {token}"));
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        server.router().oneshot(request.body(Body::empty()).unwrap())
    };
    let response = get(None).await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!(headers["content-length"], "300000");
    assert_eq!(headers["content-type"], "image/png");
    let mut pieces = response.into_body().into_data_stream();
    let (mut got, mut largest) = (Vec::new(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.unwrap();
        largest = largest.max(piece.len());
        got.extend_from_slice(&piece);
    }
    assert!(got == file, "other bytes came back");
    assert!(largest < file.len() / 2, "the whole file was in memory");
    let again = get(headers["etag"].to_str().ok()).await.unwrap();
    assert_eq!(again.status(), 304);
}

#[tokio::test]
async fn one_user_has_so_many_streams_and_no_more() {
    let server = Server::start(AuthMode::Pam).await;
    let token = server.user();
    let job = server.queue.submit(Allowed, new_job(Subject::unix(1000, 1))).await.unwrap();
    let watch = || {
        let request = Server::request(Method::GET, &format!("/api/v1/jobs/{}/events", job.id))
            .header("host", "127.0.0.1:8080")
            .header("authorization", format!("Bearer {token}"));
        server.router().oneshot(request.body(Body::empty()).unwrap())
    };
    let mut held = Vec::new();
    for _ in 0..MAX_STREAMS {
        let response = watch().await.unwrap();
        assert_eq!(response.status(), 200);
        held.push(response);
    }
    let refused = watch().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    held.pop();
    assert_eq!(watch().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_guest_learns_nothing_of_what_is_there() {
    let mut authd = TestAuthd::new(AuthMode::Pam);
    authd.description.public_paths = vec!["/".to_owned()];
    let server = Server::with(authd).await;
    let (job, id) = drawn(&server, &Subject::guest(), b"a picture").await;
    let message = async |path: String| {
        let request = Server::request(Method::GET, &path).header("x-sdrest-job", "a guess");
        let request: Request<Body> = request.body(Body::empty()).unwrap();
        let answer = server.send(request).await;
        assert!(answer.is(404, "NOT_FOUND"), "{path}: {answer:?}");
        answer.body["error"]["message"].as_str().unwrap().to_owned()
    };
    let (absent_job, absent_image) = (JobId::random(), ImageId::random());
    for (kind, real, absent) in [
        ("jobs", job.id.to_string(), absent_job.to_string()),
        ("images", id.to_string(), absent_image.to_string()),
    ] {
        let of_real = message(format!("/api/v1/{kind}/{real}")).await;
        let of_absent = message(format!("/api/v1/{kind}/{absent}")).await;
        assert_eq!(of_real.replace(&real, ""), of_absent.replace(&absent, ""));
        assert!(of_real.contains(&real), "{of_real}");
    }
}

/// Two users ask for the same and get the same bytes. Each has a file of its own: what becomes of one is nothing to the
/// other, and neither can be asked for by the other.
#[tokio::test]
async fn equal_pictures_of_two_users_are_two_files() {
    let server = Server::start(AuthMode::Pam).await;
    let (file, mut made) = (b"the very same bytes", Vec::new());
    for uid in [1000, 1001] {
        let owner = Subject::unix(uid, 1);
        let (job, image) = drawn(&server, &owner, file).await;
        made.push((token_of(&server, &owner), image, blob_key(job.id, Attempt(1), 0, image)));
    }
    let [(alice, hers, her_key), (bob, his, his_key)] = made.try_into().unwrap();
    assert_ne!(her_key, his_key);
    let get = async |image: ImageId, token: &str| {
        server.get(&format!("/api/v1/images/{image}"), Some(token)).await
    };
    let (one, two) = (get(hers, &alice).await, get(his, &bob).await);
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200));
    assert_eq!(one.body, two.body);
    assert!(get(hers, &bob).await.is(404, "NOT_FOUND"));
    assert!(get(his, &alice).await.is(404, "NOT_FOUND"));
    assert!(server.blobs.get(&her_key).await.unwrap().is_some());
    server.blobs.delete(&her_key).await.unwrap();
    assert_ne!(get(hers, &alice).await.status, 200, "it is gone");
    assert_eq!(get(his, &bob).await.body, two.body, "bob's went with it");
}

#[tokio::test]
async fn a_list_of_pictures_has_the_callers_newest_first_and_goes_on() {
    let server = Server::start(AuthMode::Pam).await;
    let (alice, bob) = (Subject::unix(1000, 1), Subject::unix(1001, 1));
    let token = token_of(&server, &alice);
    let mut hers = Vec::new();
    for round in 0..5 {
        let (job, image) = drawn(&server, &alice, b"a picture").await;
        hers.insert(0, (image.to_string(), job.id.to_string()));
        if round % 2 == 0 {
            drawn(&server, &bob, b"a picture").await;
        }
    }
    let (mut listed, mut next, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let before = next.map(|next| format!("&before={next}")).unwrap_or_default();
        let answer = server.get(&format!("/api/v1/images?limit=2{before}"), Some(&token)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        for image in answer.body["images"].as_array().unwrap() {
            let text = |member: &str| image[member].as_str().unwrap().to_owned();
            assert_eq!(text("url"), format!("/api/v1/images/{}", text("id")));
            assert_eq!((&image["index"], &image["bytes"]), (&0.into(), &9.into()));
            assert!(image["created"].as_f64().is_some_and(|created| created > 1e9), "{image}");
            listed.push((text("id"), text("job")));
        }
        next = answer.body["next"].as_str().map(str::to_owned);
        pages += 1;
        if next.is_none() {
            break;
        }
    }
    assert_eq!((listed, pages), (hers, 3));
    for (query, named) in [
        ("limit=0", "`limit`"),
        ("limit=201", "between 1 and 200"),
        ("before=yesterday", "a picture's id"),
        ("state=done", "unknown field \"state\""),
    ] {
        let answer = server.get(&format!("/api/v1/images?{query}"), Some(&token)).await;
        assert!(answer.is(422, "VALIDATION_FAILED"), "{query}: {answer:?}");
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{query}: {message}");
    }
}

#[tokio::test]
async fn a_deleted_picture_is_gone_and_its_job_stays() {
    let server = Server::start(AuthMode::Pam).await;
    let (alice, bob) = (Subject::unix(1000, 1), Subject::unix(1001, 1));
    let (token, stranger) = (token_of(&server, &alice), token_of(&server, &bob));
    let (job, image) = drawn(&server, &alice, b"a picture").await;
    let (_, other) = drawn(&server, &alice, b"a picture").await;
    let (path, key) = (format!("/api/v1/images/{image}"), blob_key(job.id, Attempt(1), 0, image));
    let delete = async |token: &str| server.call(Method::DELETE, &path, Some(token)).await;
    assert!(delete(&stranger).await.is(404, "NOT_FOUND"));
    assert!(server.blobs.get(&key).await.unwrap().is_some(), "a stranger deleted it");
    assert_eq!(delete(&token).await.status, 204);
    assert!(server.blobs.get(&key).await.unwrap().is_none(), "the file is there still");
    for path in [path.clone(), format!("{path}/metadata")] {
        assert!(server.get(&path, Some(&token)).await.is(404, "NOT_FOUND"), "{path}");
    }
    assert!(delete(&token).await.is(404, "NOT_FOUND"));
    let answer = server.get(&format!("/api/v1/jobs/{}", job.id), Some(&token)).await;
    assert_eq!(answer.body["job"]["state"], "done");
    assert_eq!(answer.body["job"]["images"], serde_json::json!([]));
    let listed = server.get("/api/v1/images", Some(&token)).await.body;
    let ids: Vec<&str> =
        listed["images"].as_array().unwrap().iter().filter_map(|one| one["id"].as_str()).collect();
    assert_eq!(ids, [other.to_string()]);
}

/// All guests are one owner: who does not show a job's secret is shown nobody's pictures, and deletes none.
#[tokio::test]
async fn a_guest_lists_nothing_and_deletes_what_it_has_the_secret_of() {
    let mut authd = TestAuthd::new(AuthMode::Pam);
    authd.description.guests = true;
    let server = Server::with(authd).await;
    drawn(&server, &Subject::guest(), b"a picture").await;
    let listed = server.get("/api/v1/images", None).await;
    assert_eq!(listed.status, 200, "{listed:?}");
    assert_eq!(listed.body, serde_json::json!({ "images": [], "next": null }));

    let mut authd = TestAuthd::new(AuthMode::Pam);
    authd.description.public_paths = vec!["/".to_owned()];
    let server = Server::with(authd).await;
    let (job, image) = drawn(&server, &Subject::guest(), b"a picture").await;
    let (other, _) = drawn(&server, &Subject::guest(), b"a picture").await;
    let key = blob_key(job.id, Attempt(1), 0, image);
    let delete = async |secret: &str| {
        let path = format!("/api/v1/images/{image}");
        let request = Server::request(Method::DELETE, &path).header("x-sdrest-job", secret);
        server.send(request.body(Body::empty()).unwrap()).await
    };
    for wrong in ["a guess".to_owned(), server.guests_secret(other.id)] {
        assert!(delete(&wrong).await.is(404, "NOT_FOUND"), "{wrong}");
    }
    assert!(server.blobs.get(&key).await.unwrap().is_some(), "a guest deleted another's picture");
    assert_eq!(delete(&server.guests_secret(job.id)).await.status, 204);
    assert!(server.blobs.get(&key).await.unwrap().is_none());
}
