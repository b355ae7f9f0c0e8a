//! One page that lists the routes, made from the OpenAPI document: for people who look before they read. It holds
//! no script and refers to nothing outside; its policy (CSP 3) allows its one block of style by its hash.

use crate::edge::Query;
use axum::{
    Extension,
    http::{HeaderName, HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use tokio_util::bytes::Bytes;
use utoipa::openapi::{
    OpenApi,
    path::{Operation, PathItem},
};

const CSP: HeaderName = HeaderName::from_static("content-security-policy");
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;\
border-bottom:1px solid #8884}code{white-space:nowrap}";

/// The page, made once.
#[derive(Clone, Debug)]
pub struct Page {
    html: Bytes,
    policy: HeaderValue,
}

impl Page {
    pub fn new(document: &OpenApi) -> Self {
        let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        let policy = HeaderValue::from_str(&policy)
            .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        Self { html: Bytes::from(html(document)), policy }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        ([(CONTENT_TYPE, kind), (CSP, self.policy)], self.html).into_response()
    }
}

/// The routes of this server, for people.
#[utoipa::path(get, path = "/docs", tag = "system", responses(
    (status = 200, description = "A page", content_type = "text/html", body = String),
    (status = "default", description = "Any error", body = crate::error::ErrorBody)))]
pub async fn page(Extension(page): Extension<Page>, _query: Query<()>) -> Page {
    page
}

fn html(document: &OpenApi) -> String {
    let mut rows = String::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in operations(item) {
            let said = operation.summary.as_deref().or(operation.description.as_deref());
            // Writing to a text cannot fail.
            let _ = writeln!(
                rows,
                "<tr><td><code>{method}</code><td><code>{}</code><td>{}<td>{}",
                escape(path),
                escape(said.unwrap_or_default()),
                escape(&needs(operation))
            );
        }
    }
    let version = escape(&document.info.version);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>sdrest: routes</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style>\n\
         <h1>sdrest {version}</h1>\n<p>Every route below <code>/api/v1</code> answers below <code>/api</code> \
         too. All of it, with bodies and answers, is in <code>/api/v1/openapi.json</code> (OpenAPI 3.1).</p>\n\
         <table><tr><th>Method<th>Path<th>What it does<th>What it asks of the caller\n{rows}</table>\n"
    )
}

fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    [
        ("GET", item.get.as_ref()),
        ("POST", item.post.as_ref()),
        ("PUT", item.put.as_ref()),
        ("PATCH", item.patch.as_ref()),
        ("DELETE", item.delete.as_ref()),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.map(|operation| (method, operation)))
}

/// The rule of the route, which the document carries.
fn needs(operation: &Operation) -> String {
    let said = |name| {
        let value = operation.extensions.as_ref()?.get(name)?.as_str()?;
        Some(value.to_owned())
    };
    match (said("x-access").as_deref(), said("x-permission")) {
        (_, Some(permission)) => format!("the permission {permission}"),
        (Some("open"), _) => "nothing".to_owned(),
        (Some("signed-in"), _) => "to be signed in".to_owned(),
        _ => "credentials, where the server asks for them".to_owned(),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}
