//! The program itself, in its sandbox, with the demo model: a prompt goes in through the socket and a picture
//! comes out, and the same request gives the same bytes alone and beside seven others.

#![allow(clippy::unwrap_used, reason = "a step that fails ends its test")]

use sdrest_proto::{
    event::JobEvent,
    generation::GenerationRequest,
    id::{Attempt, JobId, RequestId},
    image::Rgb8Image,
    sampling::{SchedulerKind, SigmaSchedule},
    transport::{self, TrustedUids, WORKER},
    worker::{SubmitJob, WorkerClient},
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};
use tarpc::context::Context;

struct Worker {
    process: Child,
    client: WorkerClient,
    _folder: tempfile::TempDir,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.process.kill();
        let _waited = self.process.wait();
    }
}

fn context() -> Context {
    transport::deadline(Duration::from_secs(300))
}

fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo-model")
}

async fn start() -> Worker {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("0.sock");
    let mut process = Command::new(env!("CARGO_BIN_EXE_sdrest-worker"))
        .args(["--threads", "2", "--models-dir"])
        .arg(demo_model())
        .arg("--socket")
        .arg(&socket)
        .spawn()
        .unwrap();
    let trusted = TrustedUids::new([nix::unistd::geteuid().as_raw()]);
    let client = loop {
        match transport::connect(&socket, &trusted, WORKER).await {
            Ok(transport) => {
                break WorkerClient::new(tarpc::client::Config::default(), transport).spawn();
            }
            Err(_) => {
                let ended = process.try_wait().unwrap();
                assert!(ended.is_none(), "the worker ended: {ended:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    Worker { process, client, _folder: folder }
}

fn request(prompt: &str, seed: u64, scheduler: SchedulerKind) -> GenerationRequest {
    GenerationRequest {
        model: "demo-model".to_owned().try_into().unwrap(),
        prompt: prompt.to_owned().try_into().unwrap(),
        negative_prompt: String::new().try_into().unwrap(),
        width: 128.try_into().unwrap(),
        height: 128.try_into().unwrap(),
        num_inference_steps: 4.try_into().unwrap(),
        guidance_scale: 5.0.try_into().unwrap(),
        scheduler,
        sigma_schedule: SigmaSchedule::Default,
        seed: seed.try_into().unwrap(),
        num_images: 1.try_into().unwrap(),
        clip_skip: None,
    }
}

async fn submit(client: &WorkerClient, share: u64, request: GenerationRequest) -> JobId {
    let job = JobId::random();
    let (attempt, request_id) = (Attempt(1), RequestId::random());
    client
        .submit(context(), SubmitJob { job, attempt, share, request_id, request })
        .await
        .unwrap()
        .unwrap();
    job
}

/// The first picture of each of `jobs`, once all have ended; `after` is where to read on.
async fn pictures(
    client: &WorkerClient,
    jobs: &[JobId],
    after: &mut u64,
) -> HashMap<JobId, Rgb8Image> {
    let (mut drawn, mut ended) = (HashMap::new(), 0);
    while ended < jobs.len() {
        for event in client.next_events(context(), *after, 30_000).await.unwrap().events {
            *after = event.sequence;
            match event.event {
                JobEvent::Image { image, .. } => {
                    drawn.insert(event.job, image);
                }
                JobEvent::Done { .. } => ended += 1,
                JobEvent::Started | JobEvent::Step { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    drawn
}

#[tokio::test]
async fn the_same_request_gives_the_same_bytes_alone_and_beside_seven_others() {
    let worker = start().await;
    let client = &worker.client;
    let mut after = 0;

    let description = client.describe(context()).await.unwrap();
    assert_eq!(description.cpu_capability_inside, description.profile.cpu_capability);
    let health = client.health(context()).await.unwrap();
    assert!(
        health.sandbox.closed && health.sandbox.no_new_privs && health.sandbox.network_denied,
        "{health:?}"
    );
    assert_eq!((health.sandbox.effective_capabilities, health.sandbox.seccomp), (0, 2));

    let asked =
        || request("a red circle on a white background", 7, SchedulerKind::EulerAncestralDiscrete);
    let alone = submit(client, 1, asked()).await;
    let alone = pictures(client, &[alone], &mut after).await.remove(&alone).unwrap();

    let kinds = SchedulerKind::ALL.into_iter().cycle();
    let mut jobs = Vec::new();
    for (seed, kind) in (100..107).zip(kinds) {
        jobs.push(
            submit(client, seed % 3, request("a blue square on a black background", seed, kind))
                .await,
        );
    }
    jobs.insert(3, submit(client, 1, asked()).await);
    let together = pictures(client, &jobs, &mut after).await;
    assert_eq!(together.len(), 8);
    assert!(together[&jobs[3]] == alone, "the picture changed beside others");
    assert!(together[&jobs[0]] != alone, "another prompt gave the same picture");
}
