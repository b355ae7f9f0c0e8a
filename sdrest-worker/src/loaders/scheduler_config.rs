//! `scheduler/scheduler_config.json`, as far as a folder is judged by it: a model that no scheduler of this
//! worker can walk is refused when it is looked at, not when somebody draws with it.

use crate::{
    models::{
        ModelError,
        error::{said, shorten},
    },
    schedulers::{self, SchedulerConfig, SchedulerError},
};
use sdrest_proto::sampling::{SchedulerKind, SigmaSchedule};

pub(super) const FILE: &str = "scheduler/scheduler_config.json";

/// As many steps as any schedule can be walked in.
const FEW_STEPS: u32 = 2;

/// Reads the file, and makes sure that at least one scheduler takes it.
pub(super) fn read(text: &str) -> Result<SchedulerConfig, ModelError> {
    let config = SchedulerConfig::from_json(text).map_err(model_error)?;
    let tried = SchedulerKind::ALL
        .map(|kind| schedulers::build(&config, kind, SigmaSchedule::Default, FEW_STEPS));
    let faults: Vec<SchedulerError> = tried.into_iter().filter_map(Result::err).collect();
    if faults.len() < SchedulerKind::ALL.len() {
        return Ok(config);
    }
    Err(faults
        .into_iter()
        .next()
        .map_or(ModelError::MissingFile { file: FILE.to_owned() }, model_error))
}

fn model_error(error: SchedulerError) -> ModelError {
    let file = FILE.to_owned();
    match error {
        SchedulerError::Json(why) => {
            ModelError::Corrupt { file, reason: format!("it is no JSON object: {}", said(why)) }
        }
        SchedulerError::Unsupported { key, wanted, value, .. } => {
            ModelError::Unsupported { file, key, value: shorten(&value), supported: wanted }
        }
        SchedulerError::Tensor(error) => ModelError::from(error),
        other => ModelError::Refused { file, reason: said(other) },
    }
}

/// For showing only; the schedulers read the key themselves. Every class defaults to epsilon. Python's
/// unquoted `Infinity` and `NaN` stand in no key that is looked at here.
pub(super) fn prediction_type(text: &str) -> String {
    let words = ["-Infinity", "Infinity", "NaN"];
    let json = words.iter().fold(text.to_owned(), |text, word| text.replace(word, "null"));
    let keys: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
    // Any text stands there where the schedulers are told to pass the key over.
    shorten(keys.get("prediction_type").and_then(|value| value.as_str()).unwrap_or("epsilon"))
}
