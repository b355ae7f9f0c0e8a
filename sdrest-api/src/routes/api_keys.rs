//! API keys of the one who is signed in. Every verb here carries the caller's own access token to authd, which
//! decides; a key cannot manage keys. The key itself is in one answer only, and in no log.

use crate::{
    app::App,
    auth::{Authenticated, User, token},
    edge::{AUTH_BODY, Body, Fields, FromFields, PathId, Query, RequestTag},
    error::{ApiError, ErrorBody},
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
};
use sdrest_proto::{
    api_key::{KeyInfo, KeyName, MAX_DAYS, NewKey, Scopes},
    authd::Whose,
    bounds::quote,
    error::ErrorCode,
    id::KeyId,
    identity::Permission,
    secret::BearerToken,
};
use serde::Serialize;
use utoipa::ToSchema;

/// What is to be made.
#[derive(Debug, ToSchema)]
pub struct NewKeyBody {
    /// 1 to 64 characters without control characters.
    #[schema(value_type = String, example = "laptop")]
    pub name: KeyName,
    /// Permissions, as the answer of a login lists them; without this all that a key of yours can have.
    #[schema(value_type = Option<Vec<String>>, example = json!(["generate", "queue_view_own"]))]
    pub scopes: Option<Scopes>,
    /// Between 1 and 3650; 90 by default.
    #[schema(value_type = Option<u32>)]
    pub expires_in_days: Option<u32>,
}

impl FromFields for NewKeyBody {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        let name = fields.text("name")?.ok_or_else(|| fields.missing("name"))?;
        let name = KeyName::try_from(name).map_err(invalid)?;
        let scopes = fields.texts("scopes")?.map(|names| scopes(fields, names)).transpose()?;
        let bounds = format!("between 1 and {MAX_DAYS}");
        let expires_in_days = match fields.integer("expires_in_days", &bounds)? {
            None => None,
            Some(days) => {
                let within = u32::try_from(days).ok().filter(|days| (1..=MAX_DAYS).contains(days));
                let wrong = || fields.wrong("expires_in_days", &bounds, &days.to_string());
                Some(within.ok_or_else(wrong)?)
            }
        };
        Ok(Self { name, scopes, expires_in_days })
    }
}

fn scopes(fields: &Fields, names: Vec<String>) -> Result<Scopes, ApiError> {
    let one = |name: String| {
        let bounds = "names of permissions that a key can have";
        Permission::named(&name).ok_or_else(|| fields.wrong("scopes", bounds, &quote(&name)))
    };
    let permissions = names.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    Scopes::try_from(permissions).map_err(invalid)
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::ValidationFailed, message)
}

/// A key without its secret. Times in Unix seconds.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyAnswer {
    pub id: String,
    pub name: String,
    /// What it may be used for, as far as its owner's role may do that.
    pub scopes: Vec<&'static str>,
    pub created: u64,
    pub expires: u64,
    /// To the minute; null before the first use.
    pub last_used: Option<u64>,
    /// The owner's subject.
    #[schema(example = "unix:1000:1")]
    pub owner: String,
    pub username: String,
}

impl From<KeyInfo> for KeyAnswer {
    fn from(info: KeyInfo) -> Self {
        Self {
            id: info.id.to_string(),
            name: info.name.into(),
            scopes: info.scopes.iter().map(Permission::as_str).collect(),
            created: info.created,
            expires: info.expires,
            last_used: info.last_used,
            owner: info.owner.to_string(),
            username: info.username,
        }
    }
}

/// A fresh key. Not `Debug`: it holds the key.
#[derive(Serialize, ToSchema)]
pub struct MadeKeyAnswer {
    /// The key itself: this is the only answer that ever holds it.
    #[schema(example = "sdr_…")]
    pub api_key: String,
    pub key: KeyAnswer,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct KeysAnswer {
    pub keys: Vec<KeyAnswer>,
}

#[derive(Debug)]
pub struct ListQuery {
    whose: Whose,
}

impl FromFields for ListQuery {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        let all = fields.flag("all")?.unwrap_or(false);
        Ok(Self { whose: if all { Whose::Everybodys } else { Whose::Own } })
    }
}

/// Your API keys, or everybody's for who has `keys_any`.
#[utoipa::path(get, path = "/auth/api-keys", tag = "auth",
    params(("all" = Option<bool>, Query, description = "everybody's")),
    responses((status = 200, body = KeysAnswer),
        (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn list(
    State(app): State<App>,
    RequestTag(request): RequestTag,
    user: Authenticated<User>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Result<Json<KeysAnswer>, ApiError> {
    if query.whose == Whose::Everybodys && !user.may(Permission::KeysAny) {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            format!(
                "`all` needs the permission `keys_any`, which `{}` lacks",
                user.role().as_str()
            ),
        ));
    }
    let keys = app.authd.verbs().list_keys(own_token(&headers)?, query.whose, request).await?;
    Ok(Json(KeysAnswer { keys: keys.into_iter().map(KeyAnswer::from).collect() }))
}

/// Make an API key. The login must not be older than five minutes.
#[utoipa::path(post, path = "/auth/api-keys", tag = "auth", request_body = NewKeyBody, responses(
    (status = 201, body = MadeKeyAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn make(
    State(app): State<App>,
    RequestTag(request): RequestTag,
    _user: Authenticated<User>,
    headers: HeaderMap,
    body: Body<NewKeyBody, AUTH_BODY>,
) -> Result<Response, ApiError> {
    let NewKeyBody { name, scopes, expires_in_days } = body.value;
    let new = NewKey { name, scopes, expires_in_days };
    let made = app.authd.verbs().make_key(own_token(&headers)?, new, request).await?;
    let answer = MadeKeyAnswer {
        api_key: made.key.expose("handed to its owner, once").to_owned(),
        key: made.info.into(),
    };
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

/// Revoke an API key: it counts no more once this answers.
#[utoipa::path(delete, path = "/auth/api-keys/{id}", tag = "auth", params(("id" = String, Path)),
    responses((status = 204, description = "It is revoked"),
        (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn revoke(
    State(app): State<App>,
    RequestTag(request): RequestTag,
    _user: Authenticated<User>,
    PathId(id): PathId<KeyId>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    app.authd.verbs().revoke_key(own_token(&headers)?, id, request).await?;
    // authd's news may be on its way still.
    app.authd.policies().forget();
    Ok(StatusCode::NO_CONTENT)
}

/// The token that the gate has verified; the rule of these routes lets nobody in without one.
fn own_token(headers: &HeaderMap) -> Result<BearerToken, ApiError> {
    token(headers)?
        .ok_or_else(|| ApiError::new(ErrorCode::AuthRequired, "send `Authorization: Bearer TOKEN`"))
}
