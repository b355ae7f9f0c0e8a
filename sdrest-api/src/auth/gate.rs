//! The gate before every route: settles who the caller is, and whether the route's rule lets that caller
//! in, before a byte of the body is read. Routes get their rules in the table of `router`; there is no
//! route without one.

use super::{
    credential::credential, job_secret::shown, policies::Policies, policy::Policy, user::User,
};
use crate::{edge::RequestTag, error::ApiError};
use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{Method, request::Parts},
    middleware::Next,
    response::Response,
};
use sdrest_proto::{authd::AuthMode, error::ErrorCode, identity::Permission};

/// What a route asks of its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: the closed list of what must answer before a sign-in.
    Open,
    /// To be somebody; a guest will do.
    Known,
    /// To have signed in.
    SignedIn,
    /// To have this permission.
    Needs(Permission),
}

/// A route's line in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub access: Access,
    pub opening: Opening,
}

/// What `--public-paths` can make of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Nothing: it is never public.
    Never,
    /// Readable by everybody, where a prefix covers it.
    Reading,
    /// Usable by everybody, where `/` itself is listed.
    Generation,
    /// Usable with the secret of a guest's job, where `/` itself is listed.
    GuestsJob,
}

impl Rule {
    pub const fn open() -> Self {
        Self { access: Access::Open, opening: Opening::Never }
    }

    pub const fn known() -> Self {
        Self { access: Access::Known, opening: Opening::Never }
    }

    pub const fn signed_in() -> Self {
        Self { access: Access::SignedIn, opening: Opening::Never }
    }

    pub const fn needs(permission: Permission) -> Self {
        Self { access: Access::Needs(permission), opening: Opening::Never }
    }

    /// Health, status and what generation accepts: an administrator may show these to everybody.
    pub const fn public_able(self) -> Self {
        Self { opening: Opening::Reading, ..self }
    }

    /// Where a server opens everything, it opens this too.
    pub const fn generation(self) -> Self {
        Self { opening: Opening::Generation, ..self }
    }

    /// What is done with a job: the secret of a guest's one will do.
    pub const fn guests_job(self) -> Self {
        Self { opening: Opening::GuestsJob, ..self }
    }
}

/// The state of the middleware of one route.
#[derive(Clone, Debug)]
pub struct Gate {
    pub policies: Policies,
    pub rule: Rule,
}

/// The middleware itself.
pub async fn gate(
    State(gate): State<Gate>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if gate.rule.access == Access::Open {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let user = identify(&gate.policies, gate.rule, &mut parts).await?;
    admit(&user, gate.rule)?;
    tracing::debug!(subject = %user.subject(), "admitted");
    parts.extensions.insert(user);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

fn admit(user: &User, rule: Rule) -> Result<(), ApiError> {
    match rule.access {
        Access::Open | Access::Known => Ok(()),
        Access::Needs(permission) if user.may(permission) => Ok(()),
        // A guest has a way to more: signing in.
        _ if user.is_guest() => Err(auth_required()),
        Access::SignedIn if user.key().is_some() => Err(ApiError::new(
            ErrorCode::Forbidden,
            "an API key has no session: sign in and send the token instead",
        )),
        Access::SignedIn => Ok(()),
        Access::Needs(permission) => {
            Err(ApiError::new(ErrorCode::Forbidden, user.lacks(permission)))
        }
    }
}

async fn identify(policies: &Policies, rule: Rule, parts: &mut Parts) -> Result<User, ApiError> {
    let policy = policies.current();
    if policy.mode() == AuthMode::None {
        return Ok(User::anonymous());
    }
    // What is sent is checked first, also where nothing was needed.
    if let Some(credential) = credential(&parts.headers)? {
        let RequestTag(request) = RequestTag::from_request_parts(parts, &()).await?;
        return policies.identify(credential, request).await;
    }
    match opened(&policy, rule, parts) {
        Some(guest) => Ok(guest),
        None if policy.guests() => Ok(User::guest()),
        None => Err(auth_required()),
    }
}

/// The guest that the public paths make of somebody who shows nothing, at this route.
fn opened(policy: &Policy, rule: Rule, parts: &Parts) -> Option<User> {
    let paths = policy.public_paths();
    match rule.opening {
        Opening::Never => None,
        Opening::Reading => {
            let reads = matches!(parts.method, Method::GET | Method::HEAD);
            let pattern = parts.extensions.get::<MatchedPath>()?;
            (reads && paths.open(pattern.as_str())).then(User::guest)
        }
        Opening::Generation => paths.opens_everything().then(User::generating_guest),
        Opening::GuestsJob => (paths.opens_everything() && shown(&parts.headers).is_some())
            .then(User::generating_guest),
    }
}

fn auth_required() -> ApiError {
    ApiError::new(
        ErrorCode::AuthRequired,
        "sign in first: this route needs `Authorization: Bearer TOKEN`, or an API key",
    )
}
