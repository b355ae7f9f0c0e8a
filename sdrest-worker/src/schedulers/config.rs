//! A model's `scheduler/scheduler_config.json`, read as diffusers' `ConfigMixin.from_config` reads it:
//! keys that the wanted class does not know are passed over, keys that are absent take that class's
//! default, keys listed under `_use_default_values` count as absent, and a key that is spelled out
//! decides. So the defaults stand in each algorithm's file, beside the class they belong to.

use super::scheduler::SchedulerError;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The keys of one `scheduler_config.json`, not yet read for any class.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(transparent)]
pub struct SchedulerConfig {
    keys: Map<String, Value>,
}

impl SchedulerConfig {
    /// Reads the file's text. Python writes `-Infinity` (DPMSolverMultistepScheduler's default for
    /// `lambda_min_clipped`), `Infinity` and `NaN`, which JSON does not know; they are read here as texts.
    pub fn from_json(text: &str) -> Result<Self, SchedulerError> {
        serde_json::from_str(&quote_python_numbers(text))
            .map_err(|e| SchedulerError::Json(e.to_string()))
    }

    /// The keys as the class `class` sees them.
    pub(super) fn read_for(&self, class: &'static str) -> Keys<'_> {
        let defaulted = self.keys.get("_use_default_values").and_then(Value::as_array);
        let defaulted = defaulted
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        Keys { class, keys: &self.keys, defaulted }
    }
}

/// Puts Python's three unquotable numbers between quotes, outside of texts.
fn quote_python_numbers(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let (mut rest, mut inside) = (text, false);
    while let Some(next) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|word| !inside && rest.starts_with(word));
        if let Some(word) = word {
            quoted.extend(["\"", word, "\""]);
            rest = &rest[word.len()..];
            continue;
        }
        // An escaped character inside a text, a quote above all, does not end it.
        let escaped =
            if inside && next == '\\' { rest.chars().nth(1).map_or(0, char::len_utf8) } else { 0 };
        inside ^= next == '"';
        let (head, tail) = rest.split_at(next.len_utf8() + escaped);
        quoted.push_str(head);
        rest = tail;
    }
    quoted
}

/// A configuration seen through one class. Every refusal names the class, the key and the value.
pub(super) struct Keys<'a> {
    pub(super) class: &'static str,
    keys: &'a Map<String, Value>,
    defaulted: Vec<&'a str>,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|_| !self.defaulted.contains(&key))
    }

    pub(super) fn refuse(&self, key: &str, wanted: impl Into<String>) -> SchedulerError {
        let value = self.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
        let value = if value.chars().count() > 80 {
            format!("{}…", value.chars().take(80).collect::<String>())
        } else {
            value
        };
        SchedulerError::Unsupported {
            class: self.class,
            key: key.to_owned(),
            wanted: wanted.into(),
            value,
        }
    }

    pub(super) fn integer(
        &self,
        key: &str,
        default: i64,
        bounds: (i64, i64),
    ) -> Result<i64, SchedulerError> {
        let value = self.get(key).map_or(Some(default), Value::as_i64);
        value.filter(|value| (bounds.0..=bounds.1).contains(value)).ok_or_else(|| {
            self.refuse(key, format!("a whole number between {} and {}", bounds.0, bounds.1))
        })
    }

    /// A finite number.
    pub(super) fn number(&self, key: &str, default: f64) -> Result<f64, SchedulerError> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    /// A finite number, or nothing where the key is absent or `null`.
    pub(super) fn optional_number(&self, key: &str) -> Result<Option<f64>, SchedulerError> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let number = value.as_f64().filter(|number| number.is_finite());
                number.map(Some).ok_or_else(|| self.refuse(key, "a finite number"))
            }
        }
    }

    /// A number that may be minus infinity.
    pub(super) fn number_or_lowest(&self, key: &str) -> Result<f64, SchedulerError> {
        match self.get(key) {
            Some(Value::String(text)) if text == "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => self.number(key, f64::NEG_INFINITY),
        }
    }

    /// A list of finite numbers, or nothing where the key is absent or `null`.
    pub(super) fn optional_numbers(&self, key: &str) -> Result<Option<Vec<f64>>, SchedulerError> {
        let wanted = || self.refuse(key, "a list of finite numbers or null");
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(values)) => {
                let numbers =
                    values.iter().map(|value| value.as_f64().filter(|number| number.is_finite()));
                numbers.collect::<Option<Vec<_>>>().map(Some).ok_or_else(wanted)
            }
            Some(_) => Err(wanted()),
        }
    }

    /// A flag; `null` counts as false, as it does in diffusers.
    pub(super) fn flag(&self, key: &str, default: Flag) -> Result<Flag, SchedulerError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Null | Value::Bool(false)) => Ok(Flag::Off),
            Some(Value::Bool(true)) => Ok(Flag::On),
            Some(_) => Err(self.refuse(key, "true or false")),
        }
    }

    /// Refuses a flag that turns on something that this worker does not do.
    pub(super) fn must_be_off(&self, keys: &[&str]) -> Result<(), SchedulerError> {
        keys.iter().try_for_each(|key| match self.flag(key, Flag::Off)? {
            Flag::Off => Ok(()),
            Flag::On => Err(self.refuse(key, "false")),
        })
    }

    /// Whether the key is one of these texts.
    pub(super) fn is_one_of(&self, key: &str, texts: &[&str]) -> bool {
        self.get(key).and_then(Value::as_str).is_some_and(|text| texts.contains(&text))
    }

    /// One of the named choices; `T` is what the choice means.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        default: &str,
        choices: &[(&str, T)],
    ) -> Result<T, SchedulerError> {
        let text = self.get(key).map_or(Some(default), Value::as_str);
        let found = choices.iter().find(|(name, _)| Some(*name) == text);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let names: Vec<String> =
                choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            self.refuse(key, names.join(" or "))
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    On,
    Off,
}

impl Flag {
    pub(super) fn is_on(self) -> bool {
        self == Self::On
    }
}

/// What the UNet's output means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PredictionType {
    Epsilon,
    VPrediction,
    Sample,
}

/// Where on the training schedule the steps stand (arXiv:2305.08891, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimestepSpacing {
    Linspace,
    Leading,
    Trailing,
}

impl Keys<'_> {
    pub(super) fn prediction_type(
        &self,
        choices: &[(&str, PredictionType)],
    ) -> Result<PredictionType, SchedulerError> {
        self.choice("prediction_type", "epsilon", choices)
    }

    pub(super) fn timestep_spacing(
        &self,
        default: &str,
    ) -> Result<TimestepSpacing, SchedulerError> {
        let choices = [
            ("linspace", TimestepSpacing::Linspace),
            ("leading", TimestepSpacing::Leading),
            ("trailing", TimestepSpacing::Trailing),
        ];
        self.choice("timestep_spacing", default, &choices)
    }

    /// Whether the last sigma is zero or the training schedule's lowest.
    pub(super) fn final_sigma(&self) -> Result<FinalSigma, SchedulerError> {
        let choices = [("zero", FinalSigma::Zero), ("sigma_min", FinalSigma::SigmaMin)];
        self.choice("final_sigmas_type", "zero", &choices)
    }
}

/// Where the last step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FinalSigma {
    Zero,
    SigmaMin,
}
