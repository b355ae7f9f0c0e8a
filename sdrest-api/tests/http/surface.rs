//! The document: what it says is open is the closed list of the contract, and it is what is served and committed.

use super::server::Server;
use axum::http::Method;
use sdrest_proto::authd::AuthMode;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// All that answers to somebody who shows nothing, by the contract: the conversations have a secret of
/// their own, and health and status are the public paths of the server that is asked here.
const OPEN: &[&str] = &[
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/refresh",
    "GET /api/v1/auth/methods",
    "POST /api/v1/auth/conversations",
    "GET /api/v1/auth/conversations/{id}",
    "DELETE /api/v1/auth/conversations/{id}",
    "POST /api/v1/auth/conversations/{id}/answers",
    "GET /api/v1/auth/conversations/{id}/events",
    "GET /api/v1/.well-known/jwks.json",
    "GET /.well-known/jwks.json",
];
const PUBLIC: &[&str] = &["GET /api/v1/health", "GET /api/v1/status"];

/// One operation of the document.
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) method: Method,
    /// With an id where the document has a name for one.
    pub(crate) path: String,
    pub(crate) document: Value,
}

impl Operation {
    /// Part of its rule.
    pub(crate) fn rule(&self, name: &str) -> Option<&str> {
        self.document[name].as_str()
    }
}

pub(crate) fn operations() -> Vec<Operation> {
    let document: Value =
        serde_json::from_str(&sdrest_api::router::document().to_json().unwrap()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            operations.push(Operation {
                name: format!("{method} {path}"),
                path: path.replace("{id}", "01234567-89ab-4cde-8f01-23456789abcd"),
                method,
                document: operation.clone(),
            });
        }
    }
    operations
}

#[tokio::test]
async fn nothing_but_the_closed_list_answers_without_credentials() {
    let server = Server::start(AuthMode::Pam).await;
    let mut open = BTreeSet::new();
    for operation in operations() {
        let answer = server.call(operation.method.clone(), &operation.path, None).await;
        let short = operation.path.replacen("/api/v1/", "/api/", 1);
        let at_api = server.call(operation.method.clone(), &short, None).await;
        assert_eq!(answer.status, at_api.status, "{} differs below /api", operation.name);
        let declared_open = operation.document["security"] == serde_json::json!([]);
        if declared_open {
            open.insert(operation.name);
        } else if PUBLIC.contains(&operation.name.as_str()) {
            assert_eq!(answer.status, 200, "{}", operation.name);
        } else {
            assert!(answer.is(401, "AUTH_REQUIRED"), "{}: {answer:?}", operation.name);
        }
    }
    assert_eq!(open, OPEN.iter().map(|name| (*name).to_owned()).collect());
}

#[tokio::test]
async fn the_document_is_served_and_names_its_schemas() {
    let server = Server::start(AuthMode::Pam).await;
    let answer = server.get("/api/openapi.json", Some(&server.user())).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["openapi"].as_str().unwrap().get(..3), Some("3.1"));
    let text = answer.body.to_string();
    let schemas = answer.body["components"]["schemas"].as_object().unwrap();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "the schema {name} is not in the document");
    }
}

/// With all keys in order, so that two versions of the document can be compared by eye.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<String, Value> =
                members.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(values) => values.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let operations = operations();
    let names: BTreeSet<&str> =
        operations.iter().filter_map(|one| one.document["operationId"].as_str()).collect();
    assert_eq!(names.len(), operations.len(), "{names:?}");
    assert!(
        names.contains("get_jobs_id_events") && names.contains("delete_images_id"),
        "{names:?}"
    );
}

/// The committed document. `SDREST_UPDATE_OPENAPI=1` writes it anew.
#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let made = serde_json::to_value(sdrest_api::router::document()).unwrap();
    let made = format!("{:#}\n", sorted(made));
    if std::env::var_os("SDREST_UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    // The order of keys means nothing in JSON, and depends on features that other crates turn on.
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    assert!(
        value(&made).is_some() && value(&made) == value(&committed),
        "run the tests with SDREST_UPDATE_OPENAPI=1 and look at the difference"
    );
}

#[tokio::test]
async fn the_page_of_routes_holds_them_all_and_refers_to_nothing_outside() {
    let server = Server::start(AuthMode::Pam).await;
    assert!(server.get("/api/docs", None).await.is(401, "AUTH_REQUIRED"));
    let answer = server.get("/api/docs", Some(&server.user())).await;
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let html = answer.body.as_str().unwrap();
    for operation in operations() {
        let path = operation.name.split_once(' ').unwrap().1;
        assert!(html.contains(&format!("<code>{path}</code>")), "{path}");
    }
    for outside in ["http:", "https:", "src=", "href=", "<script", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
}
