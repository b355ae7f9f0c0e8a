//! Reads the fields of a JSON object or a query one by one, so that whatever is wrong is named: the field
//! with its path, what is allowed, and the value given. Fields that nobody asked for are errors too.
//!
//! The value of a secret is never quoted.

use crate::error::ApiError;
use sdrest_proto::{
    bounds::{BoundsError, quote},
    error::ErrorCode,
};
use serde_json::{Map, Value};

/// An object whose fields are taken out one after the other.
#[derive(Debug)]
pub struct Fields {
    /// What stands before a field's name in messages: empty, or `answers[0].`.
    prefix: String,
    rest: Map<String, Value>,
    known: Vec<&'static str>,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Body,
    /// Everything is text: numbers are read from it.
    Query,
}

impl Fields {
    /// The fields of a body, which must be an object.
    pub fn of_body(value: Value) -> Result<Self, ApiError> {
        Self::object("the body", String::new(), value)
    }

    /// The pairs of a query; a name that comes twice is an error.
    pub fn of_query(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, ApiError> {
        let mut rest = Map::new();
        for (name, value) in pairs {
            let shown = quote(&name);
            if rest.insert(name, Value::String(value)).is_some() {
                return Err(invalid(format!(
                    "the query parameter {shown} was given more than once"
                )));
            }
        }
        Ok(Self { prefix: String::new(), rest, known: Vec::new(), origin: Origin::Query })
    }

    fn object(what: &str, prefix: String, value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(rest) => {
                Ok(Self { prefix, rest, known: Vec::new(), origin: Origin::Body })
            }
            other => Err(invalid(format!("{what} must be a JSON object, got {}", kind(&other)))),
        }
    }

    /// `null` counts as absent.
    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.rest.remove(name).filter(|value| !value.is_null())
    }

    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a text", &shown(&other))),
        }
    }

    /// A text that must not be repeated in an error.
    pub fn secret(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a text", kind(&other))),
        }
    }

    /// A whole number, of either sign.
    pub fn integer(&mut self, name: &'static str, bounds: &str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let read = match (&value, self.origin) {
            (Value::Number(number), _) => number.as_i64().or_else(|| whole(number.as_f64())),
            (Value::String(text), Origin::Query) => text.parse().ok(),
            _ => None,
        };
        read.map(Some)
            .ok_or_else(|| self.wrong(name, &format!("a whole number {bounds}"), &shown(&value)))
    }

    pub fn number(&mut self, name: &'static str, bounds: &str) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let read = match (&value, self.origin) {
            (Value::Number(number), _) => number.as_f64(),
            (Value::String(text), Origin::Query) => text.parse().ok(),
            _ => None,
        };
        read.filter(|number| number.is_finite())
            .map(Some)
            .ok_or_else(|| self.wrong(name, &format!("a number {bounds}"), &shown(&value)))
    }

    /// A whole number with the bounds of its type.
    pub fn whole<T>(
        &mut self,
        name: &'static str,
        min: u64,
        max: u64,
    ) -> Result<Option<T>, ApiError>
    where
        T: TryFrom<u64, Error = BoundsError>,
    {
        let bounds = format!("between {min} and {max}");
        let Some(value) = self.integer(name, &bounds)? else { return Ok(None) };
        let unsigned =
            u64::try_from(value).map_err(|_| self.wrong(name, &bounds, &value.to_string()))?;
        T::try_from(unsigned).map(Some).map_err(|error| self.out_of_bounds(name, error))
    }

    /// A text with the bounds of its type.
    pub fn bounded_text<T>(&mut self, name: &'static str) -> Result<Option<T>, ApiError>
    where
        T: TryFrom<String, Error = BoundsError>,
    {
        let Some(text) = self.text(name)? else { return Ok(None) };
        T::try_from(text).map(Some).map_err(|error| self.out_of_bounds(name, error))
    }

    /// Yes or no.
    pub fn flag(&mut self, name: &'static str) -> Result<Option<bool>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let read = match (&value, self.origin) {
            (Value::Bool(flag), _) => Some(*flag),
            (Value::String(text), Origin::Query) => text.parse().ok(),
            _ => None,
        };
        read.map(Some).ok_or_else(|| self.wrong(name, "true or false", &shown(&value)))
    }

    /// A list of texts.
    pub fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, ApiError> {
        let wrong = |this: &Self, other: &Value| this.wrong(name, "a list of texts", kind(other));
        let items = match self.take(name) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(wrong(self, &other)),
        };
        let text = |item| match item {
            Value::String(text) => Ok(text),
            other => Err(wrong(self, &other)),
        };
        items.into_iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// A list of objects.
    pub fn objects(&mut self, name: &'static str) -> Result<Vec<Self>, ApiError> {
        let items = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.wrong(name, "a list of objects", kind(&other))),
        };
        let nested = |(index, item)| {
            let path = format!("{}{name}[{index}]", self.prefix);
            Self::object(&format!("`{path}`"), format!("{path}."), item)
        };
        items.into_iter().enumerate().map(nested).collect()
    }

    /// Puts the caller's name of a field where the inner type has its own.
    pub fn out_of_bounds(&self, name: &'static str, error: BoundsError) -> ApiError {
        self.wrong(name, &error.bounds, &error.value)
    }

    /// The error for a field that had to be there.
    pub fn missing(&self, name: &'static str) -> ApiError {
        invalid(format!("`{}{name}` is missing", self.prefix))
    }

    /// The error for a value that does not do.
    pub fn wrong(&self, name: &'static str, bounds: &str, value: &str) -> ApiError {
        invalid(format!("`{}{name}` must be {bounds}, got {value}", self.prefix))
    }

    /// Refuses what is left over.
    pub fn finish(self) -> Result<(), ApiError> {
        let Some(name) = self.rest.keys().next() else { return Ok(()) };
        let path = quote(&format!("{}{name}", self.prefix));
        let known =
            self.known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() {
            "there are none here".to_owned()
        } else {
            format!("known are {known}")
        };
        Err(invalid(format!("unknown field {path}; {known}")))
    }
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::ValidationFailed, message)
}

/// 20.0 is a whole number in JSON.
fn whole(number: Option<f64>) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.filter(|n| n.fract() == 0.0 && n.abs() <= EXACT).map(|n| n as i64)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Number(number) => number.to_string().chars().take(64).collect(),
        Value::Bool(value) => value.to_string(),
        other => kind(other).to_owned(),
    }
}
