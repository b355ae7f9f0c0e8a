//! The OpenAPI 3.1 document: made from the same table as the routes, so that neither can know a route that
//! the other does not. What a route asks of its callers stands in `security`,
//! `x-access`, `x-permission` and `x-opening`; every operation has its rule.

use crate::auth::{Access, Opening, Rule};
use axum::response::{IntoResponse, Response};
use sdrest_proto::{BUILD, api_key::Scopes};
use serde_json::json;
use tokio_util::bytes::Bytes;
use utoipa::openapi::{
    Components, ContactBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, Paths,
    extensions::Extensions,
    path::{Operation, PathItem},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

/// The names of the security schemes.
const TOKEN: &str = "bearer";
const KEY: &str = "api_key";

/// The document without routes.
pub fn skeleton() -> OpenApi {
    let info = InfoBuilder::new()
        .title("sdrest")
        .description(Some(
            "Stable Diffusion for a host that several people share. Every route answers below /api/v1 and below /api.",
        ))
        .version(env!("CARGO_PKG_VERSION"))
        .license(Some(License::new("MIT OR Apache-2.0")))
        .contact(Some(ContactBuilder::new().name(Some(BUILD)).build()))
        .build();
    let mut components = Components::new();
    let http = Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(http));
    let key = ApiKeyValue::with_description("X-API-Key", "Also as `Authorization: Bearer sdr_…`");
    components.add_security_scheme(KEY, SecurityScheme::ApiKey(ApiKey::Header(key)));
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// Writes a rule into all operations of these paths.
pub fn annotate(paths: &mut Paths, rule: Rule) {
    for item in paths.paths.values_mut() {
        for (_, operation) in operations(item) {
            let schemes = schemes(rule.access).iter();
            let needs =
                |scheme: &&str| SecurityRequirement::new::<_, [String; 0], String>(*scheme, []);
            operation.security = Some(schemes.map(needs).collect());
            let mut extensions = Extensions::builder()
                .add("x-access", json!(access(rule.access)))
                .add("x-opening", json!(opening(rule.opening)));
            if let Access::Needs(permission) = rule.access {
                extensions = extensions.add("x-permission", json!(permission.as_str()));
            }
            operation.extensions = Some(extensions.build());
        }
    }
}

/// Any one of these will do.
fn schemes(access: Access) -> &'static [&'static str] {
    match access {
        Access::Open => &[],
        Access::SignedIn => &[TOKEN],
        Access::Needs(permission) if Scopes::NEVER.contains(&permission) => &[TOKEN],
        Access::Known | Access::Needs(_) => &[TOKEN, KEY],
    }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Open => "open",
        Access::Known => "known",
        Access::SignedIn => "signed-in",
        Access::Needs(_) => "permission",
    }
}

/// What `--public-paths` can make of the route.
fn opening(opening: Opening) -> &'static str {
    match opening {
        Opening::Never => "never",
        Opening::Reading => "reading",
        Opening::Generation => "generation",
        Opening::GuestsJob => "guests-job",
    }
}

/// Gives every operation a name of its own (OpenAPI 3.1 §4.8.10): its method and its path, which is short below `/api/v1`.
pub fn name_operations(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let path =
            path.strip_prefix("/api/v1").map_or_else(|| format!("/root{path}"), str::to_owned);
        let words =
            path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let noun = words.collect::<Vec<_>>().join("_");
        for (method, operation) in operations(item) {
            operation.operation_id = Some(format!("{method}_{noun}"));
        }
    }
}

/// The operations of a path, each with its method.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let methods = [
        ("get", &mut item.get),
        ("post", &mut item.post),
        ("put", &mut item.put),
        ("delete", &mut item.delete),
        ("patch", &mut item.patch),
    ];
    methods.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// The text of the document, as it is served.
#[derive(Clone, Debug)]
pub struct Document(Bytes);

impl Document {
    pub fn new(openapi: &OpenApi) -> Self {
        // A document that could be made can be written; an empty object is still JSON.
        Self(openapi.to_pretty_json().map_or(Bytes::from_static(b"{}"), Bytes::from))
    }

    pub fn text(&self) -> &[u8] {
        &self.0
    }
}

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        ([(axum::http::header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}
