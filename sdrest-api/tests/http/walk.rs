//! The walk over the whole table: every route and method of the OpenAPI document, at both prefixes, with every
//! role and every kind of credential, against the rule that the document carries. A route without a rule fails.

use super::{
    authd::TestAuthd,
    server::{Answer, Server},
    surface::{Operation, operations},
    tokens::{claims, now},
};
use axum::http::Method;
use sdrest_proto::{
    api_key::Scopes,
    authd::AuthMode,
    id::{KeyId, SessionId},
    identity::{Permission, Role},
    secret::ApiKey,
};
use serde_json::json;
use std::collections::BTreeSet;

/// What a rule says of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The handler is asked; what it says of the request is its own matter.
    Admitted,
    /// 401 with this code.
    Refused(&'static str),
    /// 403.
    Forbidden,
}

impl Outcome {
    fn holds(self, answer: &Answer) -> bool {
        match self {
            Self::Admitted => !matches!(answer.status.as_u16(), 401 | 403),
            Self::Refused(code) => answer.is(401, code),
            Self::Forbidden => answer.is(403, "FORBIDDEN"),
        }
    }
}

/// A kind of credential, and what it can do.
#[derive(Clone, Debug)]
enum Caller {
    Bad(&'static str, String),
    Nobody,
    SignedIn(Role),
    Key(Role, Scopes),
}

fn permission(operation: &Operation) -> Option<Permission> {
    let name = operation.rule("x-permission")?;
    Some(Permission::named(name).unwrap_or_else(|| panic!("{} needs {name}", operation.name)))
}

/// What the rule of the document says; nothing for an open route, where credentials are not looked at.
fn expected(operation: &Operation, caller: &Caller, guests: bool) -> Option<Outcome> {
    let needs = permission(operation);
    let by_role = |role: Role| match needs {
        Some(permission) if !role.may(permission) => Outcome::Forbidden,
        _ => Outcome::Admitted,
    };
    let access = operation.rule("x-access").unwrap_or("none");
    Some(match (access, caller) {
        ("open", _) => return None,
        (_, Caller::Bad(code, _)) => Outcome::Refused(code),
        ("known" | "permission", Caller::Nobody) if guests => match by_role(Role::Guest) {
            Outcome::Admitted => Outcome::Admitted,
            // A guest has a way to more.
            _ => Outcome::Refused("AUTH_REQUIRED"),
        },
        (_, Caller::Nobody) if PUBLIC.contains(&operation.name.as_str()) => Outcome::Admitted,
        (_, Caller::Nobody) => Outcome::Refused("AUTH_REQUIRED"),
        ("known" | "signed-in" | "permission", Caller::SignedIn(role)) => by_role(*role),
        ("signed-in", Caller::Key(..)) => Outcome::Forbidden,
        ("known", Caller::Key(..)) => Outcome::Admitted,
        ("permission", Caller::Key(role, scopes)) => match needs {
            Some(permission) if !scopes.contains(permission) => Outcome::Forbidden,
            _ => by_role(*role),
        },
        (other, _) => panic!("{} has no rule, or one that is not known: {other}", operation.name),
    })
}

/// The public paths of the servers that are asked here.
const PUBLIC: &[&str] = &["GET /api/v1/health", "GET /api/v1/status"];

impl Caller {
    /// A credential that was not used yet: a walk over all routes signs out on its way.
    fn credential(&self, authd: &TestAuthd) -> Option<String> {
        match self {
            Self::Bad(_, text) => Some(text.clone()),
            Self::Nobody => None,
            Self::SignedIn(role) => Some(authd.token(*role)),
            Self::Key(role, scopes) => Some(authd.api_key(*role, scopes.clone())),
        }
    }
}

fn callers(authd: &TestAuthd) -> Vec<Caller> {
    let expired = authd.sign(&claims(Role::Admin, SessionId::random(), now() - 7200));
    let session = SessionId::random();
    let revoked = authd.sign(&claims(Role::Admin, session, now()));
    authd.revoked.send_modify(|news| news.sessions.push(session));
    let unknown = ApiKey::compose(KeyId::random(), &[3; 24]);
    let mut callers = vec![
        Caller::Nobody,
        Caller::Bad("TOKEN_INVALID", "not.a.token".to_owned()),
        Caller::Bad("TOKEN_EXPIRED", expired),
        Caller::Bad("TOKEN_REVOKED", revoked),
        Caller::Bad("TOKEN_INVALID", "sdr_malformed".to_owned()),
        Caller::Bad("TOKEN_INVALID", unknown.expose("sent by a test").to_owned()),
    ];
    for role in Role::ALL {
        callers.push(Caller::SignedIn(role));
        callers.push(Caller::Key(role, Scopes::all(role)));
        callers.push(Caller::Key(role, Scopes::try_from(Vec::new()).unwrap()));
        // More than the role has: the role decides.
        callers.push(Caller::Key(role, Scopes::all(Role::Admin)));
    }
    callers
}

async fn walk(authd: TestAuthd, guests: bool) {
    let callers = callers(&authd);
    let server = Server::with(authd).await;
    let mut wrong = Vec::new();
    for operation in operations() {
        let nobody = server.call(operation.method.clone(), &operation.path, None).await;
        for caller in &callers {
            for path in spellings(&operation.path) {
                let credential = caller.credential(&server.authd);
                let answer =
                    server.call(operation.method.clone(), &path, credential.as_deref()).await;
                let good = match expected(&operation, caller, guests) {
                    Some(outcome) => outcome.holds(&answer),
                    None => (answer.status, answer.code()) == (nobody.status, nobody.code()),
                };
                if !good {
                    wrong.push(format!(
                        "{} at {path} by {caller:?}: {} {}",
                        operation.name,
                        answer.status,
                        answer.code()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn spellings(path: &str) -> BTreeSet<String> {
    [path.to_owned(), path.replacen("/api/v1/", "/api/", 1)].into()
}

#[tokio::test]
async fn every_route_by_every_role_with_every_credential() {
    walk(TestAuthd::new(AuthMode::Pam), false).await;
}

#[tokio::test]
async fn the_same_where_guests_are_let_in() {
    walk(TestAuthd::new(AuthMode::Optional), true).await;
}

#[tokio::test]
async fn the_same_with_a_shared_secret() {
    walk(TestAuthd::new(AuthMode::Jwt).with_hs256(), false).await;
}

#[test]
fn every_operation_carries_its_whole_rule() {
    for operation in operations() {
        let (name, rule) = (&operation.name, |part| operation.rule(part));
        let access = rule("x-access").unwrap_or_else(|| panic!("{name} has no rule"));
        let opening = rule("x-opening").unwrap_or_else(|| panic!("{name} has no opening"));
        assert!(["never", "reading", "generation", "guests-job"].contains(&opening), "{name}");
        assert_eq!(access == "permission", permission(&operation).is_some(), "{name}");
        let security = &operation.document["security"];
        let (token, key) = (json!({"bearer": []}), json!({"api_key": []}));
        let expected = match (access, permission(&operation)) {
            ("open", _) => json!([]),
            ("signed-in", _) => json!([token]),
            (_, Some(permission)) if Scopes::NEVER.contains(&permission) => json!([token]),
            _ => json!([token, key]),
        };
        assert_eq!(*security, expected, "{name}");
        let is_get = operation.method == Method::GET;
        assert!(opening != "reading" || is_get, "{name} is opened for reading");
    }
}

/// A method that the document does not name does nothing, whoever asks.
#[tokio::test]
async fn there_are_no_methods_beside_the_document() {
    let server = Server::start(AuthMode::Pam).await;
    let documented: BTreeSet<(String, String)> =
        operations().into_iter().map(|it| (it.method.to_string(), it.path)).collect();
    let paths: BTreeSet<&String> = documented.iter().map(|(_, path)| path).collect();
    for path in paths {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"] {
            let known = |method: &str| documented.contains(&(method.to_owned(), path.clone()));
            // HEAD is GET without a body.
            if known(method) || (method == "HEAD" && known("GET")) {
                continue;
            }
            let token = server.authd.token(Role::Admin);
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = server.call(method.clone(), path, Some(&token)).await;
            assert!(matches!(answer.status.as_u16(), 404 | 405), "{method} {path}: {answer:?}");
        }
    }
}
