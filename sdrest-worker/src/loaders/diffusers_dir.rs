//! A diffusers folder (`StableDiffusionPipeline.save_pretrained`): `model_index.json` and one folder each for
//! tokenizer, text encoder, UNet, VAE and scheduler. Its configurations are read and checked together before
//! any weight is touched; then every tensor is taken by name and shape.

use super::{
    config_json::ConfigFile,
    folder::ModelFolder,
    hash::FileIdentity,
    safetensors::{SafetensorsFile, WatchedFile},
    scheduler_config, text_encoder_json,
    tokenizer_json::{self, TokenizerTexts},
    unet_json, vae_json,
};
use crate::{
    models::{
        ModelError,
        autoencoder_kl::{AutoencoderKl, AutoencoderKlConfig},
        clip_text_model::{ClipTextConfig, ClipTextModel},
        unet_2d_condition::{UNet2DConditionConfig, UNet2DConditionModel},
        weights::Scope,
    },
    prompt::{ClipTokenizer, TOKENIZER, Vocabulary},
    schedulers::SchedulerConfig,
};
use tch::{Device, Kind};

/// Where and in which type to compute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComputeOptions {
    pub kind: Kind,
    pub device: Device,
}

impl ComputeOptions {
    /// float32 on the CPU: the reference.
    pub const REFERENCE: Self = Self { kind: Kind::Float, device: Device::Cpu };
}

/// What the configurations of a folder say, checked against each other.
#[derive(Clone, Debug)]
pub struct ModelDescription {
    pub text_encoder: ClipTextConfig,
    pub unet: UNet2DConditionConfig,
    pub vae: AutoencoderKlConfig,
    pub scheduler: SchedulerConfig,
    /// `epsilon`, `v_prediction` or `sample`.
    pub prediction_type: String,
}

impl ModelDescription {
    /// The side in pixels that the UNet was trained for.
    pub fn default_side(&self) -> u32 {
        u32::try_from(self.unet.sample_size).unwrap_or(0).saturating_mul(self.vae.scale_factor())
    }
}

/// A whole model in memory.
pub struct StableDiffusion {
    pub description: ModelDescription,
    pub options: ComputeOptions,
    pub tokenizer: ClipTokenizer,
    pub text_encoder: ClipTextModel,
    pub unet: UNet2DConditionModel,
    pub vae: AutoencoderKl,
    files: Vec<WatchedFile>,
    made_of: WeightFiles,
}

/// Which states of the three weight files: two that are equal hold the same weights.
pub type WeightFiles = [FileIdentity; 3];

impl StableDiffusion {
    /// Fails, naming the file, where a file that its weights are still read from became shorter. Ask before
    /// computing with it.
    pub fn check_files(&self) -> Result<(), ModelError> {
        self.files.iter().try_for_each(WatchedFile::check)
    }

    /// The states of the files that it was loaded from.
    pub fn made_of(&self) -> &WeightFiles {
        &self.made_of
    }
}

const MODEL_INDEX: &str = "model_index.json";
pub(super) const UNET_WEIGHTS: &str = "unet/diffusion_pytorch_model.safetensors";
const VAE_WEIGHTS: &str = "vae/diffusion_pytorch_model.safetensors";
const TEXT_ENCODER_WEIGHTS: &str = "text_encoder/model.safetensors";
const CONFIG_LIMIT: u64 = 1 << 20;
const VOCABULARY_LIMIT: u64 = 16 << 20;

/// The pipeline, and the class that each of its parts must have.
const COMPONENTS: &[(&str, &[&str])] = &[
    ("_class_name", &["\"StableDiffusionPipeline\""]),
    ("text_encoder", &["[\"transformers\",\"CLIPTextModel\"]"]),
    (
        "tokenizer",
        &["[\"transformers\",\"CLIPTokenizer\"]", "[\"transformers\",\"CLIPTokenizerFast\"]"],
    ),
    ("unet", &["[\"diffusers\",\"UNet2DConditionModel\"]"]),
    ("vae", &["[\"diffusers\",\"AutoencoderKL\"]"]),
];

/// Reads and checks every configuration; opens no weights.
pub fn describe(folder: &ModelFolder) -> Result<ModelDescription, ModelError> {
    let text = |file: &str| folder.text(file, CONFIG_LIMIT);
    ConfigFile::parse(MODEL_INDEX, &text(MODEL_INDEX)?)?.must_be(COMPONENTS)?;
    let text_encoder =
        text_encoder_json::read("text_encoder/config.json", &text("text_encoder/config.json")?)?;
    let unet_file = "unet/config.json";
    let unet = unet_json::read(unet_file, &text(unet_file)?)?;
    let vae = vae_json::read("vae/config.json", &text("vae/config.json")?)?;
    let scheduler_text = text(scheduler_config::FILE)?;
    let scheduler = scheduler_config::read(&scheduler_text)?;
    let refuse = |key: &str, value: i64, supported: String| {
        let (file, key, value) = (unet_file.to_owned(), key.to_owned(), value.to_string());
        Err(ModelError::Unsupported { file, key, value, supported })
    };
    for (key, channels) in [("in_channels", unet.in_channels), ("out_channels", unet.out_channels)]
    {
        if channels != vae.latent_channels {
            return refuse(
                key,
                channels,
                format!("{}, the VAE's latent_channels", vae.latent_channels),
            );
        }
    }
    let hidden = text_encoder.hidden_size;
    if let Some(level) = unet.levels.iter().find(|level| level.cross_attention_dim != hidden) {
        let supported = format!("{hidden}, the text encoder's hidden_size");
        return refuse("cross_attention_dim", level.cross_attention_dim, supported);
    }
    let prediction_type = scheduler_config::prediction_type(&scheduler_text);
    Ok(ModelDescription { text_encoder, unet, vae, scheduler, prediction_type })
}

/// Loads the folder, refusing what is missing, misshapen or not `.safetensors`.
pub fn load(folder: &ModelFolder, options: ComputeOptions) -> Result<StableDiffusion, ModelError> {
    let _guard = tch::no_grad_guard();
    let description = describe(folder)?;
    let tokenizer = load_tokenizer(folder, &description.text_encoder)?;
    let text_file = weights(folder, TEXT_ENCODER_WEIGHTS, options)?;
    let unet_file = weights(folder, UNET_WEIGHTS, options)?;
    let vae_file = weights(folder, VAE_WEIGHTS, options)?;
    let made_of = [&text_file, &unet_file, &vae_file].map(SafetensorsFile::identity);
    Ok(StableDiffusion {
        text_encoder: ClipTextModel::load(&Scope::root(&text_file), &description.text_encoder)?,
        unet: UNet2DConditionModel::load(&Scope::root(&unet_file), &description.unet)?,
        vae: AutoencoderKl::load(&Scope::root(&vae_file), &description.vae)?,
        description,
        options,
        tokenizer,
        files: [text_file, unet_file, vae_file].iter().map(SafetensorsFile::watch).collect(),
        made_of,
    })
}

/// The states of the three weight files as they lie in the folder now.
pub fn weight_files(folder: &ModelFolder) -> Result<WeightFiles, ModelError> {
    let state = |file: &str| FileIdentity::in_folder(folder, file);
    Ok([state(TEXT_ENCODER_WEIGHTS)?, state(UNET_WEIGHTS)?, state(VAE_WEIGHTS)?])
}

/// What can be known of a folder without reading a tensor: configurations, tokenizer, headers.
pub fn check(folder: &ModelFolder) -> Result<(), ModelError> {
    load_tokenizer(folder, &describe(folder)?.text_encoder)?;
    check_weights(folder)
}

/// Whether the three weight files are there and their headers are whole; takes no tensor.
pub fn check_weights(folder: &ModelFolder) -> Result<(), ModelError> {
    for file in [TEXT_ENCODER_WEIGHTS, UNET_WEIGHTS, VAE_WEIGHTS] {
        weights(folder, file, ComputeOptions::REFERENCE)?;
    }
    Ok(())
}

fn weights(
    folder: &ModelFolder,
    file: &str,
    options: ComputeOptions,
) -> Result<SafetensorsFile, ModelError> {
    match SafetensorsFile::open(folder, file, options.kind, options.device) {
        Err(ModelError::MissingFile { file }) => Err(explain_missing(folder, file)),
        other => other,
    }
}

/// Says what lies there instead, where that is a known thing.
fn explain_missing(folder: &ModelFolder, file: String) -> ModelError {
    let stem = file.trim_end_matches(".safetensors").to_owned();
    let pickles = [".bin", ".ckpt", ".pt", ".pth"].map(|end| format!("{stem}{end}"));
    let old_text_encoder =
        (stem == "text_encoder/model").then(|| "text_encoder/pytorch_model.bin".to_owned());
    if let Some(pickle) = pickles.into_iter().chain(old_text_encoder).find(|name| folder.has(name))
    {
        let reason = "it is a pickle, which runs code when it is read: only .safetensors is loaded"
            .to_owned();
        return ModelError::Refused { file: pickle, reason };
    }
    if folder.has(&format!("{file}.index.json")) {
        return ModelError::Refused {
            file,
            reason: "weights in several shards are not loaded".to_owned(),
        };
    }
    if folder.has(&format!("{stem}.fp16.safetensors")) {
        let reason = "only the variant fp16 is there; give it this name to use it".to_owned();
        return ModelError::Refused { file, reason };
    }
    ModelError::MissingFile { file }
}

/// The tokenizer alone.
pub fn load_tokenizer(
    folder: &ModelFolder,
    text_encoder: &ClipTextConfig,
) -> Result<ClipTokenizer, ModelError> {
    let file = tokenizer_json::CONFIG;
    let texts = TokenizerTexts {
        config: folder.text(file, CONFIG_LIMIT)?,
        map: optional(folder.text(tokenizer_json::MAP, CONFIG_LIMIT))?,
        added: optional(folder.text(tokenizer_json::ADDED, CONFIG_LIMIT))?,
        tokenizer: optional(folder.text(TOKENIZER, VOCABULARY_LIMIT))?,
    };
    let (tokens, length) = tokenizer_json::read(&texts)?;
    let positions = usize::try_from(text_encoder.max_position_embeddings).unwrap_or(0);
    let length = length.unwrap_or(positions);
    if length > positions {
        return Err(ModelError::Unsupported {
            file: file.to_owned(),
            key: "model_max_length".to_owned(),
            value: length.to_string(),
            supported: format!("2 to {positions}, the text encoder's max_position_embeddings"),
        });
    }
    let tokenizer = ClipTokenizer::new(load_vocabulary(folder)?, &tokens, length)?;
    if i64::from(tokenizer.largest_id()) >= text_encoder.vocab_size {
        let (largest, size) = (tokenizer.largest_id(), text_encoder.vocab_size);
        let reason = format!(
            "the tokenizer's largest id is {largest}, the text encoder's vocab_size {size}"
        );
        return Err(ModelError::Corrupt { file: "tokenizer".to_owned(), reason });
    }
    Ok(tokenizer)
}

/// `vocab.json` with `merges.txt`; where there is none, `tokenizer.json`.
fn load_vocabulary(folder: &ModelFolder) -> Result<Vocabulary, ModelError> {
    let text = |file: &str| folder.text(file, VOCABULARY_LIMIT);
    match optional(text("tokenizer/vocab.json"))? {
        Some(vocab) => Vocabulary::from_files(&vocab, &text("tokenizer/merges.txt")?),
        None => match optional(text(TOKENIZER))? {
            Some(tokenizer) => Vocabulary::from_tokenizer_json(&tokenizer),
            None => Err(ModelError::MissingFile { file: "tokenizer/vocab.json".to_owned() }),
        },
    }
}

/// `None` for a file that is not there; every other fault stays one.
fn optional(text: Result<String, ModelError>) -> Result<Option<String>, ModelError> {
    match text {
        Ok(text) => Ok(Some(text)),
        Err(ModelError::MissingFile { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}
