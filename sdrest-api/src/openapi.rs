//! The OpenAPI 3.1 document: made from the same table as the routes, so that neither can know a route that
//! the other does not. What a route asks of its callers stands in `security` and `x-permission`.

use crate::auth::{Access, Opening, Rule};
use axum::response::{IntoResponse, Response};
use sdrest_proto::BUILD;
use serde_json::json;
use tokio_util::bytes::Bytes;
use utoipa::openapi::{
    Components, ContactBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, Paths,
    extensions::Extensions,
    path::{Operation, PathItem},
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

/// The name of the one security scheme.
const SCHEME: &str = "bearer";

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
    components.add_security_scheme(SCHEME, SecurityScheme::Http(http));
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// Writes a rule into all operations of these paths.
pub fn annotate(paths: &mut Paths, rule: Rule) {
    for item in paths.paths.values_mut() {
        for operation in operations(item) {
            if rule.access == Access::Open {
                operation.security = Some(Vec::new());
                continue;
            }
            let needs = SecurityRequirement::new::<_, [String; 0], String>(SCHEME, []);
            operation.security = Some(vec![needs]);
            let mut extensions =
                Extensions::builder().add("x-public-able", json!(rule.opening == Opening::Reading));
            if let Access::Needs(permission) = rule.access {
                extensions = extensions.add("x-permission", json!(permission.as_str()));
            }
            operation.extensions = Some(extensions.build());
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.delete, &mut item.patch]
        .into_iter()
        .flatten()
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
