//! What reading any `config.json` has in common: absent keys take the Python class's default, keys that the
//! class knows but this worker does not do must hold the value that turns them off, and every refusal names
//! the file, the key and the value. Each class has a file of its own beside this one.

use crate::models::{
    ModelError,
    error::{said, shorten},
    layers::Activation,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::fmt;

/// The side, width or count that any configuration may ask for at most: beyond it lies no Stable Diffusion.
const MAX_WIDTH: i64 = 1 << 16;

/// A parsed file, and its name for errors.
#[derive(Debug)]
pub struct ConfigFile<'a> {
    pub file: &'a str,
    keys: Map<String, Value>,
}

impl<'a> ConfigFile<'a> {
    pub fn parse(file: &'a str, text: &str) -> Result<Self, ModelError> {
        let keys = serde_json::from_str(text).map_err(|error| ModelError::Corrupt {
            file: file.to_owned(),
            reason: format!("it is no JSON object: {}", said(error)),
        })?;
        Ok(Self { file, keys })
    }

    /// The keys as the struct `T`, whose fields are the class's parameters and all have defaults.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ModelError> {
        serde_json::from_value(Value::Object(self.keys.clone())).map_err(|error| {
            // Serde does not say which key it was: the one that fails alone.
            let culprit = self.keys.iter().find(|(key, value)| {
                let alone: Map<String, Value> =
                    [((*key).clone(), (*value).clone())].into_iter().collect();
                serde_json::from_value::<T>(Value::Object(alone)).is_err()
            });
            match culprit {
                Some((key, value)) => {
                    self.refuse(key, shorten(&value.to_string()), "a value of the key's own type")
                }
                None => ModelError::Corrupt { file: self.file.to_owned(), reason: said(error) },
            }
        })
    }

    /// Refuses every key of `table` that is there with another value than the ones listed (as JSON).
    pub fn must_be(&self, table: &[(&str, &[&str])]) -> Result<(), ModelError> {
        for (key, allowed) in table {
            let Some(value) = self.keys.get(*key) else { continue };
            let text = value.to_string();
            if !allowed.contains(&text.as_str()) {
                return Err(self.refuse(key, shorten(&text), allowed.join(" or ")));
            }
        }
        Ok(())
    }

    /// Whether the key is there, whatever it holds.
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// All keys, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    pub fn refuse(
        &self,
        key: &str,
        value: impl fmt::Display,
        supported: impl Into<String>,
    ) -> ModelError {
        ModelError::Unsupported {
            file: self.file.to_owned(),
            key: key.to_owned(),
            value: value.to_string(),
            supported: supported.into(),
        }
    }

    /// A width or count between 1 and a sane bound.
    pub fn positive(&self, key: &str, value: i64) -> Result<i64, ModelError> {
        if (1..=MAX_WIDTH).contains(&value) {
            return Ok(value);
        }
        Err(self.refuse(key, value, format!("1 to {MAX_WIDTH}")))
    }

    /// A number of layers or blocks.
    pub fn count(&self, key: &str, value: i64) -> Result<usize, ModelError> {
        usize::try_from(value)
            .ok()
            .filter(|count| (1..=64).contains(count))
            .ok_or_else(|| self.refuse(key, value, "1 to 64"))
    }

    /// A finite number above zero.
    pub fn above_zero(&self, key: &str, value: f64) -> Result<f64, ModelError> {
        if value.is_finite() && value > 0.0 {
            return Ok(value);
        }
        Err(self.refuse(key, value, "a number above 0"))
    }

    pub fn activation(&self, key: &str, name: &str) -> Result<Activation, ModelError> {
        Activation::by_name(name).ok_or_else(|| {
            self.refuse(
                key,
                format!("\"{}\"", shorten(name)),
                "silu, swish, gelu, quick_gelu, relu, mish",
            )
        })
    }

    /// `value` must divide each of `widths`.
    pub fn divides(&self, key: &str, value: i64, widths: &[i64]) -> Result<i64, ModelError> {
        match widths
            .iter()
            .find(|width| self.positive(key, value).is_err() || *width % value.max(1) != 0)
        {
            None => Ok(value),
            Some(width) => Err(self.refuse(key, value, format!("a divisor of the width {width}"))),
        }
    }

    /// One value for each of `levels` levels.
    pub fn each<T: Copy + fmt::Debug>(
        &self,
        key: &str,
        value: &OneOrMany<T>,
        levels: usize,
    ) -> Result<Vec<T>, ModelError> {
        match value {
            OneOrMany::One(value) => Ok(vec![*value; levels]),
            OneOrMany::Many(values) if values.len() == levels => Ok(values.clone()),
            OneOrMany::Many(values) => {
                let value = shorten(&format!("{values:?}"));
                Err(self.refuse(key, value, format!("one value, or {levels}: one for each block")))
            }
        }
    }
}

/// A parameter that is one value for all levels, or a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Class {
        heads: Option<OneOrMany<i64>>,
        name: String,
    }

    fn file(text: &str) -> ConfigFile<'_> {
        ConfigFile::parse("unet/config.json", text).unwrap()
    }

    #[test]
    fn a_wrong_type_names_key_and_value() {
        let said =
            file(r#"{"other":1,"name":"x","heads":"8"}"#).read::<Class>().unwrap_err().to_string();
        assert!(said.starts_with("unet/config.json: `heads` = \"8\" is not supported"), "{said}");
        let class: Class = file(r#"{"heads":[1,2]}"#).read().unwrap();
        assert!(matches!(class.heads, Some(OneOrMany::Many(heads)) if heads == [1, 2]));
    }

    #[test]
    fn what_must_be_off_is_named_where_it_is_on() {
        let table: &[(&str, &[&str])] = &[("dual", &["false", "null"]), ("kind", &["\"a\""])];
        file(r#"{"dual":false}"#).must_be(table).unwrap();
        file(r#"{"dual":null,"kind":"a"}"#).must_be(table).unwrap();
        let said = file(r#"{"dual":true}"#).must_be(table).unwrap_err().to_string();
        assert_eq!(
            said,
            "unet/config.json: `dual` = true is not supported; supported: false or null"
        );
    }

    #[test]
    fn bounds_hold_at_their_edges() {
        let file = file("{}");
        assert!(file.positive("k", 0).is_err() && file.positive("k", MAX_WIDTH + 1).is_err());
        assert_eq!(file.positive("k", MAX_WIDTH).unwrap(), MAX_WIDTH);
        assert!(file.count("k", -1).is_err() && file.count("k", 65).is_err());
        assert!(file.divides("k", 0, &[32]).is_err() && file.divides("k", 5, &[32]).is_err());
        assert!(file.divides("k", 8, &[32, 64]).is_ok());
        assert!(file.above_zero("k", f64::NAN).is_err() && file.above_zero("k", 0.0).is_err());
    }
}
