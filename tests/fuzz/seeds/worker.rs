//! A worker's verbs, asked and answered.

use super::{Seed, answer, request, request_id, seed, server_error};
use sdrest_proto::{
    error::{ErrorCode, Fault},
    event::{JobEvent, WorkerEvent},
    generation::GenerationRequest,
    id::{Attempt, JobId},
    image::Rgb8Image,
    model::ModelInfo,
    sampling::{SchedulerKind, SigmaSchedule},
    worker::{
        EventPage, SubmitJob, WorkerDescription, WorkerProfile, WorkerRequest, WorkerResponse,
    },
};

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (at, verb) in requests().iter().enumerate() {
        seeds.push(seed("worker_request", &format!("verb-{at:02}"), request(verb)));
    }
    for (at, verb) in answers().iter().enumerate() {
        seeds.push(seed("worker_answer", &format!("verb-{at:02}"), answer(verb)));
    }
    seeds.push(seed("worker_answer", "server-error", server_error()));
    seeds
}

fn job() -> JobId {
    JobId::from_bytes([0x66; 16])
}

pub(super) fn generation() -> GenerationRequest {
    GenerationRequest {
        model: "sd15".to_owned().try_into().unwrap(),
        prompt: "a red circle".to_owned().try_into().unwrap(),
        negative_prompt: String::new().try_into().unwrap(),
        width: 512.try_into().unwrap(),
        height: 768.try_into().unwrap(),
        num_inference_steps: 20.try_into().unwrap(),
        guidance_scale: 7.5.try_into().unwrap(),
        scheduler: SchedulerKind::DpmSolverMultistep,
        sigma_schedule: SigmaSchedule::Karras,
        seed: 42.try_into().unwrap(),
        num_images: 2.try_into().unwrap(),
        clip_skip: Some(1.try_into().unwrap()),
    }
}

fn requests() -> Vec<WorkerRequest> {
    let model = || generation().model;
    let submit = SubmitJob {
        job: job(),
        attempt: Attempt(1),
        share: 7,
        request_id: request_id(),
        request: generation(),
    };
    vec![
        WorkerRequest::Describe {},
        WorkerRequest::ListModels {},
        WorkerRequest::RefreshModels {},
        WorkerRequest::Load { model: model() },
        WorkerRequest::Unload { model: model() },
        WorkerRequest::Submit { job: submit },
        WorkerRequest::NextEvents { after: 3, wait_ms: 30_000 },
        WorkerRequest::Interrupt { job: job() },
        WorkerRequest::Health {},
    ]
}

fn description() -> WorkerDescription {
    let profile = WorkerProfile {
        device: "cpu".to_owned(),
        dtype: "float32".to_owned(),
        cpu_capability: "AVX2".to_owned(),
        threads: 2,
        kernel_path: "aten".to_owned(),
        torch_version: "2.11.0".to_owned(),
    };
    let cpu_capability_inside = profile.cpu_capability.clone();
    WorkerDescription { incarnation: 9, profile, capacity: 4, cpu_capability_inside }
}

fn model() -> ModelInfo {
    ModelInfo {
        name: generation().model,
        family: "sd-1.x".to_owned(),
        prediction_type: "epsilon".to_owned(),
        default_side: 512,
        vae_scale_factor: 8,
        hash: Some("0123456789".to_owned()),
        loaded: true,
        fault: None,
    }
}

fn events() -> Vec<WorkerEvent> {
    let fault = Fault::new(ErrorCode::OutOfMemory, "the picture is too large");
    let image = Rgb8Image::new(4, 3, vec![0x80; 36]).unwrap();
    let all = [
        JobEvent::Started,
        JobEvent::Step { step: 3, steps: 20 },
        JobEvent::Image { index: 0, seed: generation().seed, image },
        JobEvent::Done { engine_micros: 1_234_567 },
        JobEvent::Failed(fault),
        JobEvent::Interrupted,
    ];
    let event =
        |(sequence, event)| WorkerEvent { sequence, job: job(), attempt: Attempt(1), event };
    (1..).zip(all).map(event).collect()
}

fn answers() -> Vec<WorkerResponse> {
    let fault = Fault::new(ErrorCode::ModelCorrupt, "unet: a tensor is missing");
    vec![
        WorkerResponse::Describe(description()),
        WorkerResponse::ListModels(vec![model(), model()]),
        WorkerResponse::RefreshModels(Vec::new()),
        WorkerResponse::Load(Err(fault)),
        WorkerResponse::Unload(Ok(())),
        WorkerResponse::Submit(Ok(())),
        WorkerResponse::NextEvents(EventPage { incarnation: 9, events: events() }),
        WorkerResponse::Interrupt(true),
        WorkerResponse::Health(super::authd::health()),
    ]
}
