//! Values that cannot be out of bounds: each is checked when it is made and again when it is decoded from
//! a socket, so a hostile front end gains nothing. Every error names the parameter (by its diffusers
//! name), its bounds and the value given.

use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// A value that was refused. The text is fit for the caller: it quotes at most 64 characters of the value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{parameter}` must be {bounds}, got {value}")]
pub struct BoundsError {
    /// The parameter, by the name that this crate uses; the HTTP layer puts its own name there.
    pub parameter: &'static str,
    /// What is allowed, in words.
    pub bounds: String,
    /// What was given, shortened.
    pub value: String,
}

/// Shortens and quotes a text for an error message, with control characters escaped.
pub fn quote(text: &str) -> String {
    let head: String = text.chars().take(64).collect();
    let more = if head.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", head.escape_debug())
}

macro_rules! bounded_integer {
    ($(#[$doc:meta])* $name:ident: $inner:ty, $parameter:literal, $min:literal..=$max:literal $(, multiple of $step:literal)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name($inner);

        impl $name {
            pub const MIN: u64 = $min;
            pub const MAX: u64 = $max;

            pub fn get(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = BoundsError;
            fn try_from(value: u64) -> Result<Self, BoundsError> {
                let in_range = (Self::MIN..=Self::MAX).contains(&value);
                $(let in_range = in_range && value % $step == 0;)?
                #[allow(unused_mut, unused_assignments)]
                let mut multiple = "";
                $(multiple = concat!(" and a multiple of ", $step);)?
                <$inner>::try_from(value).ok().filter(|_| in_range).map(Self).ok_or_else(|| BoundsError {
                    parameter: $parameter,
                    bounds: format!("between {} and {}{multiple}", Self::MIN, Self::MAX),
                    value: value.to_string(),
                })
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> u64 {
                u64::from(value.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

bounded_integer!(/// `num_inference_steps`: how many times the UNet is asked.
    Steps: u32, "num_inference_steps", 1..=150);
bounded_integer!(/// `width` or `height` in pixels. The VAE of Stable Diffusion shrinks by 8.
    Dimension: u32, "dimension", 64..=2048, multiple of 8);
bounded_integer!(/// `num_images_per_prompt`: image `i` is seeded `seed + i`.
    ImageCount: u32, "num_images_per_prompt", 1..=8);
bounded_integer!(/// `seed`. At most 2⁵³−9, so that `seed + i` is a whole number in every JSON reader.
    Seed: u64, "seed", 0..=9007199254740983);
bounded_integer!(/// diffusers' `clip_skip`: how many of the text model's last layers are left out.
    ClipSkip: u32, "clip_skip", 1..=11);

/// `guidance_scale` (classifier-free guidance, arXiv:2207.12598). Guidance is on above 1, as in diffusers.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct GuidanceScale(f64);

impl GuidanceScale {
    pub const MIN: f64 = 0.0;
    pub const MAX: f64 = 30.0;

    pub fn get(self) -> f64 {
        self.0
    }

    /// Whether the unconditional row is needed at all.
    pub fn is_guided(self) -> bool {
        self.0 > 1.0
    }
}

impl TryFrom<f64> for GuidanceScale {
    type Error = BoundsError;
    fn try_from(value: f64) -> Result<Self, BoundsError> {
        if (Self::MIN..=Self::MAX).contains(&value) {
            return Ok(Self(value));
        }
        Err(BoundsError {
            parameter: "guidance_scale",
            bounds: format!("between {} and {}", Self::MIN, Self::MAX),
            value: value.to_string(),
        })
    }
}

impl From<GuidanceScale> for f64 {
    fn from(value: GuidanceScale) -> f64 {
        value.0
    }
}

macro_rules! bounded_text {
    ($(#[$doc:meta])* $name:ident, $parameter:literal, $bounds:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BoundsError;
            fn try_from(value: String) -> Result<Self, BoundsError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&value) {
                    return Ok(Self(value));
                }
                Err(BoundsError { parameter: $parameter, bounds: $bounds.to_owned(), value: quote(&value) })
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

bounded_text!(/// `prompt` or `negative_prompt`. May be empty; a NUL has no meaning in any tokenizer. Its Debug
/// shows its length only: prompts stay out of logs.
Prompt, "prompt", "at most 10000 characters without NUL", |s| {
    s.len() <= 40_000 && s.chars().count() <= 10_000 && !s.contains('\0')
});
bounded_text!(/// A model's name: a folder or file name below the models folder, never a path.
ModelName, "model", "a name of 1 to 128 characters without `/`, control characters or a leading dot", |s| {
    (1..=128).contains(&s.len()) && !s.starts_with('.') && !s.contains('/') && !s.chars().any(char::is_control)
});
bounded_text!(/// A login name as it is typed: 1 to 256 bytes, no control characters. PAM decides what it means.
Username, "username", "1 to 256 bytes without control characters", |s| {
    (1..=256).contains(&s.len()) && !s.chars().any(char::is_control)
});

impl Prompt {
    /// No words at all.
    pub fn empty() -> Self {
        Self(String::new())
    }
}

impl fmt::Debug for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prompt({} bytes)", self.0.len())
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelName({:?})", self.0)
    }
}

impl fmt::Debug for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Username({:?})", self.0)
    }
}
