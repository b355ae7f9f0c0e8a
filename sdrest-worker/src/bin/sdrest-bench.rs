//! A benchmark contestant: the worker's own pipeline as a program that answers one JSON line to each line on
//! its standard input, so that `tests/bench` can step it in turn with HF diffusers. It is not installed,
//! opens no socket and runs in no sandbox.
//!
//! `unet N` runs N UNet forward passes of batch 2, `image` draws a whole picture (20 DDIM steps, guidance 4),
//! `memory` tells the peak, `quit` ends. Times are this process's CPU seconds and wall seconds.

use anyhow::{Context, bail};
use clap::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use sdrest_proto::{
    bounds::{Dimension, GuidanceScale, ImageCount, ModelName, Prompt, Seed, Steps},
    generation::GenerationRequest,
    sampling::{SchedulerKind, SigmaSchedule},
};
use sdrest_worker::{
    loaders::{ComputeOptions, StableDiffusion, diffusers_dir, folder::ModelFolder},
    pipelines,
};
use std::{
    io::{BufRead, Write},
    path::PathBuf,
    time::Instant,
};
use tch::{Device, Kind, Tensor};

#[derive(Parser)]
#[command(about = "Runs the sdrest worker's pipeline for tests/bench.")]
struct Cli {
    #[arg(long)]
    model: PathBuf,
    #[arg(long)]
    size: u32,
    #[arg(long, default_value_t = 1)]
    threads: i32,
}

/// What the UNet is asked with, step after step.
struct Inputs {
    latents: Tensor,
    timestep: Tensor,
    context: Tensor,
}

fn main() -> anyhow::Result<()> {
    torch_shim::keep_freed_memory();
    let cli = Cli::parse();
    tch::set_num_threads(cli.threads);
    tch::set_num_interop_threads(1);
    let opened = Instant::now();
    let model = diffusers_dir::load(&ModelFolder::open(&cli.model)?, ComputeOptions::REFERENCE)?;
    let inputs = inputs(&model, cli.size);
    say(&serde_json::json!({ "open_wall": opened.elapsed().as_secs_f64() }))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        match words.next() {
            None | Some("quit") => break,
            Some("memory") => say(&serde_json::json!({ "peak_mb": peak_mb()? }))?,
            Some("unet") => {
                let count: u32 = words.next().unwrap_or("1").parse()?;
                timed(|| {
                    for _ in 0..count {
                        let _ = model.unet.forward(
                            &inputs.latents,
                            &inputs.timestep,
                            &inputs.context,
                        )?;
                    }
                    Ok(())
                })?;
            }
            Some("image") => timed(|| image(&model, cli.size))?,
            Some(other) => bail!("`command` must be unet, image, memory or quit, got {other:?}"),
        }
    }
    Ok(())
}

fn inputs(model: &StableDiffusion, size: u32) -> Inputs {
    let side = i64::from(size / model.description.vae.scale_factor().max(1));
    let hidden = model.description.text_encoder.hidden_size;
    let float = (Kind::Float, Device::Cpu);
    let channels = model.description.unet.in_channels;
    // What the values are does not matter to the clock; nothing is drawn, so that one file alone draws noise.
    let wave = |shape: &[i64]| {
        let count: i64 = shape.iter().product();
        Tensor::arange(count, float).sin().reshape(shape)
    };
    Inputs {
        latents: wave(&[2, channels, side, side]),
        timestep: Tensor::from_slice(&[500_f32]),
        context: wave(&[2, 77, hidden]),
    }
}

fn image(model: &StableDiffusion, size: u32) -> anyhow::Result<()> {
    let side = Dimension::try_from(u64::from(size))?;
    let request = GenerationRequest {
        model: ModelName::try_from("bench".to_owned())?,
        prompt: Prompt::try_from("a red circle on a white background".to_owned())?,
        negative_prompt: Prompt::empty(),
        width: side,
        height: side,
        num_inference_steps: Steps::try_from(20)?,
        guidance_scale: GuidanceScale::try_from(4.0)?,
        scheduler: SchedulerKind::Ddim,
        sigma_schedule: SigmaSchedule::Default,
        seed: Seed::try_from(0)?,
        num_images: ImageCount::try_from(1)?,
        clip_skip: None,
    };
    let mut slot = pipelines::admit(model, &request)?;
    while !slot.is_denoised() {
        slot.step(model)?;
    }
    slot.decode(model, 0)?;
    Ok(())
}

fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (wall, cpu) = (Instant::now(), cpu_seconds()?);
    work()?;
    say(&serde_json::json!({ "wall": wall.elapsed().as_secs_f64(), "cpu": cpu_seconds()? - cpu }))
}

fn cpu_seconds() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn peak_mb() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .context("no VmHWM in /proc/self/status")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).context("VmHWM has no figure")?.parse()?;
    Ok(kilobytes / 1024.0)
}

fn say(value: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}
