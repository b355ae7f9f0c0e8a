//! A test tool: runs single parts of the worker on tensors from files, so that tests can compare them with
//! HF diffusers without linking libtorch themselves. It is always built, is not installed, opens no socket
//! and runs in no sandbox; the worker never calls it.
//!
//! Tensors travel in `.safetensors` files. Every subcommand ends with status 0, or with status 1 and one
//! line `CODE: message` on standard error (`CODE` as in `sdrest_proto::error::ErrorCode`); a wrong command
//! line is status 2. `MODEL` is a diffusers folder; computing is in float32 on the CPU, with `--threads N`
//! threads (default 1, allowed with every subcommand). A `SCHEDULER` is a diffusers class name
//! (`EulerDiscreteScheduler`), a `SPACING` is `default` or `karras`.
//!
//! ```text
//! sdrest-probe tokenize --model MODEL --in PROMPTS.json --out IDS.json
//!     in:  ["a cat", …]               out: [[49406, 320, …], …]  padded and cut as encode_prompt does
//! sdrest-probe text --model MODEL [--clip-skip N] --in F --out F
//!     in:  input_ids i64 (B, L)       out: prompt_embeds f32 (B, L, hidden)
//! sdrest-probe unet --model MODEL --in F --out F
//!     in:  sample f32 (B, 4, h, w), timestep i64 or f32 (1), encoder_hidden_states f32 (B, L, hidden)
//!     out: noise_pred f32 (B, 4, h, w)
//! sdrest-probe vae --model MODEL --in F --out F
//!     in:  z f32 (B, 4, h, w), already divided by scaling_factor (what AutoencoderKL.decode takes)
//!     out: image f32 (B, 3, 8h, 8w) in about -1…1, and rgb u8 (B, 8h, 8w, 3)
//! sdrest-probe vae-encode --model MODEL --in F --out F
//!     in:  image f32 (B, 3, 8h, 8w) in -1…1
//!     out: moments f32 (B, 8, h, w): mean, then log-variance (AutoencoderKL.encode's latent_dist.parameters)
//! sdrest-probe scheduler --config scheduler_config.json --kind SCHEDULER [--spacing SPACING] --steps N --out F
//!     out: betas f32, alphas_cumprod f32, timesteps f64, init_noise_sigma f64 (1), takes_noise u8 (N),
//!          sigmas f32 (where the class has them)
//! sdrest-probe scheduler-loop --config scheduler_config.json --kind SCHEDULER [--spacing SPACING] --steps N --in F --out F
//!     in:  sample f32 (B, 4, h, w), model_output f32 (N, B, 4, h, w) and, for a scheduler that takes noise,
//!          noise f32 (N, B, 4, h, w); rows of steps that take none are not looked at
//!     out: samples f32 (N, B, 4, h, w) after each step, scaled f32 (N, B, 4, h, w) from scale_model_input
//! sdrest-probe draw --model MODEL --prompt TEXT [--negative-prompt TEXT] [--width N --height N] [--steps N]
//!              [--guidance-scale X] [--scheduler SCHEDULER] [--spacing SPACING] [--seed N] [--num-images N]
//!              [--clip-skip N] --out F [--ppm FILE]
//!     out: images u8 (num_images, height, width, 3), latents f32 (steps + 1, num_images, 4, h, w) from the
//!          initial noise to the end; prints `seconds_per_step X`; `--ppm` writes the first image as PPM
//!     defaults: the model's own size, 20 steps, 7.5, EulerDiscreteScheduler, default, seed 0, 1 image
//! sdrest-probe models --models-dir DIR
//!     prints the registry as JSON: [{name, family, prediction_type, default_side, vae_scale_factor, hash, fault}]
//! sdrest-probe load --model MODEL
//!     loads and checks every tensor, prints `loaded`
//! ```

use anyhow::{Context, anyhow, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sdrest_proto::{
    bounds::{ClipSkip, Dimension, GuidanceScale, ImageCount, ModelName, Prompt, Seed, Steps},
    error::{ErrorCode, Fault},
    generation::{GenerationRequest, check_pair},
    image::Rgb8Image,
    sampling::{SchedulerKind, SigmaSchedule},
};
use sdrest_worker::{
    loaders::{ComputeOptions, Registry, StableDiffusion, diffusers_dir, folder::ModelFolder},
    models::ModelError,
    pipelines::{self, PipelineError},
    schedulers::{self, Scheduler, SchedulerConfig, SchedulerError},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};
use tch::{Kind, Tensor};

#[derive(Parser)]
#[command(about = "Runs single parts of the sdrest worker on tensors from files. A test tool.")]
struct Cli {
    /// Threads of one operator.
    #[arg(long, global = true, default_value_t = 1)]
    threads: i32,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prompts to rows of token ids.
    Tokenize(PartArgs),
    /// Token ids to text embeddings.
    Text {
        #[command(flatten)]
        part: PartArgs,
        #[arg(long, default_value_t = 0)]
        clip_skip: usize,
    },
    /// One forward pass of the UNet.
    Unet(PartArgs),
    /// Latents to a picture.
    Vae(PartArgs),
    /// A picture to the moments of its latents.
    VaeEncode(PartArgs),
    /// A scheduler's tables.
    Scheduler(SchedulerArgs),
    /// A scheduler's steps on recorded model outputs.
    SchedulerLoop {
        #[command(flatten)]
        scheduler: SchedulerArgs,
        #[arg(long = "in")]
        input: PathBuf,
    },
    /// A prompt to pictures.
    Draw(Box<DrawArgs>),
    /// What a models folder holds.
    Models {
        #[arg(long)]
        models_dir: PathBuf,
    },
    /// Loads a model and checks every tensor.
    Load {
        #[arg(long)]
        model: PathBuf,
    },
}

#[derive(Args)]
struct PartArgs {
    #[arg(long)]
    model: PathBuf,
    #[arg(long = "in")]
    input: PathBuf,
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
struct SchedulerArgs {
    #[arg(long)]
    config: PathBuf,
    #[arg(long, value_parser = parse_kind)]
    kind: SchedulerKind,
    #[arg(long, value_enum, default_value_t = Spacing::Default)]
    spacing: Spacing,
    #[arg(long)]
    steps: u32,
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
struct DrawArgs {
    #[arg(long)]
    model: PathBuf,
    #[arg(long)]
    prompt: String,
    #[arg(long, default_value = "")]
    negative_prompt: String,
    #[arg(long)]
    width: Option<u64>,
    #[arg(long)]
    height: Option<u64>,
    #[arg(long, default_value_t = 20)]
    steps: u64,
    #[arg(long, default_value_t = 7.5)]
    guidance_scale: f64,
    #[arg(long, value_parser = parse_kind, default_value = "EulerDiscreteScheduler")]
    scheduler: SchedulerKind,
    #[arg(long, value_enum, default_value_t = Spacing::Default)]
    spacing: Spacing,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[arg(long, default_value_t = 1)]
    num_images: u64,
    #[arg(long)]
    clip_skip: Option<u64>,
    #[arg(long)]
    out: PathBuf,
    #[arg(long)]
    ppm: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Spacing {
    Default,
    Karras,
}

impl From<Spacing> for SigmaSchedule {
    fn from(spacing: Spacing) -> Self {
        match spacing {
            Spacing::Default => Self::Default,
            Spacing::Karras => Self::Karras,
        }
    }
}

fn parse_kind(name: &str) -> Result<SchedulerKind, String> {
    SchedulerKind::ALL.into_iter().find(|kind| kind.class_name() == name).ok_or_else(|| {
        let names: Vec<&str> =
            SchedulerKind::ALL.into_iter().map(SchedulerKind::class_name).collect();
        format!("one of {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tch::set_num_threads(cli.threads.max(1));
    tch::set_num_interop_threads(1);
    let _guard = tch::no_grad_guard();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// `CODE: message` for what the worker would say to a client, `INTERNAL: …` for the rest.
fn one_line(error: &anyhow::Error) -> String {
    let fault = if let Some(error) = error.downcast_ref::<ModelError>() {
        Fault::from(error)
    } else if let Some(error) = error.downcast_ref::<PipelineError>() {
        Fault::from(error)
    } else if let Some(fault) = error.downcast_ref::<Fault>() {
        fault.clone()
    } else {
        Fault::new(ErrorCode::Internal, format!("{error:#}"))
    };
    fault.to_string().replace('\n', " ")
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Tokenize(part) => tokenize(&part),
        Command::Text { part, clip_skip } => text(&part, clip_skip),
        Command::Unet(part) => unet(&part),
        Command::Vae(part) => vae(&part),
        Command::VaeEncode(part) => vae_encode(&part),
        Command::Scheduler(args) => scheduler_tables(&args),
        Command::SchedulerLoop { scheduler, input } => scheduler_loop(&scheduler, &input),
        Command::Draw(args) => draw(&args),
        Command::Models { models_dir } => list_models(&models_dir),
        Command::Load { model } => {
            load(&model)?;
            println!("loaded");
            Ok(())
        }
    }
}

fn load(model: &Path) -> Result<StableDiffusion, ModelError> {
    diffusers_dir::load(&ModelFolder::open(model)?, ComputeOptions::REFERENCE)
}

fn tokenize(part: &PartArgs) -> anyhow::Result<()> {
    let folder = ModelFolder::open(&part.model)?;
    let description = diffusers_dir::describe(&folder)?;
    let tokenizer = diffusers_dir::load_tokenizer(&folder, &description.text_encoder)?;
    let prompts: Vec<String> = serde_json::from_slice(&fs::read(&part.input)?)?;
    let rows =
        prompts.iter().map(|prompt| tokenizer.encode(prompt).map_err(|error| anyhow!("{error}")));
    let rows = rows.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(fs::write(&part.out, serde_json::to_vec(&rows)?)?)
}

fn text(part: &PartArgs, clip_skip: usize) -> anyhow::Result<()> {
    let inputs = read_tensors(&part.input)?;
    let embeds = load(&part.model)?.text_encoder.forward(get(&inputs, "input_ids")?, clip_skip)?;
    write_tensors(&part.out, &[("prompt_embeds", &embeds)])
}

fn unet(part: &PartArgs) -> anyhow::Result<()> {
    let inputs = read_tensors(&part.input)?;
    let (sample, timestep) = (get(&inputs, "sample")?, get(&inputs, "timestep")?);
    let context = get(&inputs, "encoder_hidden_states")?;
    let noise_pred = load(&part.model)?.unet.forward(sample, &timestep.f_reshape([1])?, context)?;
    write_tensors(&part.out, &[("noise_pred", &noise_pred)])
}

fn vae(part: &PartArgs) -> anyhow::Result<()> {
    let inputs = read_tensors(&part.input)?;
    let image = load(&part.model)?.vae.decode(get(&inputs, "z")?)?;
    let (rows, _, _, _) = image.size4()?;
    let pictures = (0..rows)
        .map(|row| pixels(&pipelines::to_rgb8(&image.f_narrow(0, row, 1)?)?))
        .collect::<anyhow::Result<Vec<_>>>()?;
    write_tensors(&part.out, &[("image", &image), ("rgb", &Tensor::f_stack(&pictures, 0)?)])
}

fn vae_encode(part: &PartArgs) -> anyhow::Result<()> {
    let inputs = read_tensors(&part.input)?;
    let moments = load(&part.model)?.vae.encode(get(&inputs, "image")?)?;
    write_tensors(&part.out, &[("moments", &moments)])
}

fn build(args: &SchedulerArgs) -> anyhow::Result<Box<dyn Scheduler>> {
    let make = || -> Result<Box<dyn Scheduler>, SchedulerError> {
        let text = fs::read_to_string(&args.config)
            .map_err(|error| SchedulerError::Json(error.kind().to_string()))?;
        schedulers::build(
            &SchedulerConfig::from_json(&text)?,
            args.kind,
            args.spacing.into(),
            args.steps,
        )
    };
    Ok(make().map_err(PipelineError::from)?)
}

fn scheduler_tables(args: &SchedulerArgs) -> anyhow::Result<()> {
    let scheduler = build(args)?;
    let timesteps = Tensor::f_from_slice(scheduler.timesteps())?;
    let takes: Vec<u8> =
        (0..scheduler.timesteps().len()).map(|i| u8::from(scheduler.takes_noise(i))).collect();
    let (takes, sigma) =
        (Tensor::f_from_slice(&takes)?, Tensor::f_from_slice(&[scheduler.init_noise_sigma()])?);
    let tables = scheduler.tables();
    let mut tensors = vec![
        ("betas", &tables.betas),
        ("alphas_cumprod", &tables.alphas_cumprod),
        ("timesteps", &timesteps),
        ("init_noise_sigma", &sigma),
        ("takes_noise", &takes),
    ];
    tensors.extend(tables.sigmas.iter().map(|sigmas| ("sigmas", sigmas)));
    write_tensors(&args.out, &tensors)
}

fn scheduler_loop(args: &SchedulerArgs, input: &Path) -> anyhow::Result<()> {
    let inputs = read_tensors(input)?;
    let mut scheduler = build(args)?;
    let mut sample = get(&inputs, "sample")?.shallow_clone();
    let outputs = get(&inputs, "model_output")?;
    let (mut samples, mut scaled) = (Vec::new(), Vec::new());
    for index in 0..scheduler.timesteps().len() {
        let row = |tensor: &Tensor| tensor.f_select(0, index as i64);
        let noise = scheduler
            .takes_noise(index)
            .then(|| get(&inputs, "noise"))
            .transpose()?
            .map(row)
            .transpose()?;
        scaled.push(scheduler.scale_model_input(&sample, index).map_err(PipelineError::from)?);
        sample = scheduler
            .step(&row(outputs)?, index, &sample, noise.as_ref())
            .map_err(PipelineError::from)?;
        samples.push(sample.shallow_clone());
    }
    write_tensors(
        &args.out,
        &[("samples", &Tensor::f_stack(&samples, 0)?), ("scaled", &Tensor::f_stack(&scaled, 0)?)],
    )
}

fn request(args: &DrawArgs, side: u64) -> Result<GenerationRequest, Fault> {
    let spacing = args.spacing.into();
    check_pair(args.scheduler, spacing)?;
    Ok(GenerationRequest {
        model: ModelName::try_from("probe".to_owned())?,
        prompt: Prompt::try_from(args.prompt.clone())?,
        negative_prompt: Prompt::try_from(args.negative_prompt.clone())?,
        width: Dimension::try_from(args.width.unwrap_or(side))?,
        height: Dimension::try_from(args.height.unwrap_or(side))?,
        num_inference_steps: Steps::try_from(args.steps)?,
        guidance_scale: GuidanceScale::try_from(args.guidance_scale)?,
        scheduler: args.scheduler,
        sigma_schedule: spacing,
        seed: Seed::try_from(args.seed)?,
        num_images: ImageCount::try_from(args.num_images)?,
        clip_skip: args.clip_skip.map(ClipSkip::try_from).transpose()?,
    })
}

fn draw(args: &DrawArgs) -> anyhow::Result<()> {
    let model = load(&args.model)?;
    let request = request(args, u64::from(model.description.default_side()))?;
    let mut slot = pipelines::admit(&model, &request)?;
    let mut latents = vec![slot.latents().copy()];
    let begun = Instant::now();
    while !slot.is_denoised() {
        slot.step(&model)?;
        latents.push(slot.latents().copy());
    }
    println!("seconds_per_step {:.4}", begun.elapsed().as_secs_f64() / slot.steps().max(1) as f64);
    let images = (0..slot.num_images())
        .map(|index| slot.decode(&model, index))
        .collect::<Result<Vec<_>, _>>()?;
    if let (Some(path), Some(image)) = (&args.ppm, images.first()) {
        let mut ppm = format!("P6 {} {} 255\n", image.width(), image.height()).into_bytes();
        ppm.extend(image.data());
        fs::write(path, ppm)?;
    }
    let images = images.iter().map(pixels).collect::<anyhow::Result<Vec<_>>>()?;
    let (images, latents) = (Tensor::f_stack(&images, 0)?, Tensor::f_stack(&latents, 0)?);
    write_tensors(&args.out, &[("images", &images), ("latents", &latents)])
}

/// (height, width, 3) bytes.
fn pixels(image: &Rgb8Image) -> anyhow::Result<Tensor> {
    let size = [i64::from(image.height()), i64::from(image.width()), 3];
    Ok(Tensor::f_from_slice(image.data())?.f_reshape(size)?)
}

fn list_models(models_dir: &Path) -> anyhow::Result<()> {
    let mut registry = Registry::open(models_dir)?;
    for info in registry.list().into_iter().filter(|info| info.fault.is_none()) {
        registry.hash(&info.name)?;
    }
    let models: Vec<serde_json::Value> = registry
        .list()
        .into_iter()
        .map(|info| {
            serde_json::json!({
                "name": info.name.as_str(),
                "family": info.family,
                "prediction_type": info.prediction_type,
                "default_side": info.default_side,
                "vae_scale_factor": info.vae_scale_factor,
                "hash": info.hash,
                "fault": info.fault,
            })
        })
        .collect();
    println!("{}", serde_json::to_string_pretty(&models)?);
    Ok(())
}

fn get<'a>(tensors: &'a BTreeMap<String, Tensor>, name: &str) -> anyhow::Result<&'a Tensor> {
    tensors.get(name).with_context(|| format!("the input has no tensor `{name}`"))
}

fn read_tensors(path: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let file = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in SafeTensors::deserialize(&file)?.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::I64 => Kind::Int64,
            Dtype::U8 => Kind::Uint8,
            other => bail!("tensor `{name}` has type {other:?}; F32, F64, I64 and U8 are read"),
        };
        let shape =
            view.shape().iter().map(|&side| i64::try_from(side)).collect::<Result<Vec<_>, _>>()?;
        tensors.insert(name, Tensor::f_from_data_size(view.data(), &shape, kind)?);
    }
    Ok(tensors)
}

fn write_tensors(path: &Path, tensors: &[(&str, &Tensor)]) -> anyhow::Result<()> {
    let mut buffers = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let dtype = match tensor.kind() {
            Kind::Float => Dtype::F32,
            Kind::Double => Dtype::F64,
            Kind::Int64 => Dtype::I64,
            Kind::Uint8 => Dtype::U8,
            other => bail!("tensor `{name}` has kind {other:?}"),
        };
        let tensor = tensor.f_contiguous()?;
        let shape = tensor
            .size()
            .iter()
            .map(|&side| usize::try_from(side))
            .collect::<Result<Vec<_>, _>>()?;
        let mut data = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut data, tensor.numel())?;
        buffers.push((*name, dtype, shape, data));
    }
    let views = buffers
        .iter()
        .map(|(name, dtype, shape, data)| {
            Ok((*name, TensorView::new(*dtype, shape.clone(), data)?))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(fs::write(path, safetensors::serialize(views, None)?)?)
}
