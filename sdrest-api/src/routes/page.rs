//! Which part of a list a query asks for: `limit` and `before`.

use crate::{edge::Fields, error::ApiError, jobs::Page};
use sdrest_proto::bounds::quote;
use std::str::FromStr;

const DEFAULT_LIMIT: u32 = 50;

/// The page that the fields ask for; `cursor` says what `before` has to be.
pub(super) fn page<Cursor: FromStr>(
    fields: &mut Fields,
    cursor: &str,
) -> Result<Page<Cursor>, ApiError> {
    let max = Page::<Cursor>::MAX_LIMIT;
    let bounds = format!("between 1 and {max}");
    let limit = fields.integer("limit", &bounds)?.unwrap_or(i64::from(DEFAULT_LIMIT));
    let within = u32::try_from(limit).ok().filter(|limit| (1..=max).contains(limit));
    let limit = within.ok_or_else(|| fields.wrong("limit", &bounds, &limit.to_string()))?;
    let before = match fields.text("before")? {
        None => None,
        Some(text) => {
            Some(text.parse().map_err(|_| fields.wrong("before", cursor, &quote(&text)))?)
        }
    };
    Ok(Page { before, limit, state: None })
}
