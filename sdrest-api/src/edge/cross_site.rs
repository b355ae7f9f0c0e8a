//! Refuses what another site's page makes a browser send. Decided by `Sec-Fetch-Site` (W3C Fetch Metadata)
//! and `Origin` (RFC 6454); clients that are no browsers send neither. Reading is left alone: answers
//! carry no permission for other sites to look at them.

use super::authority::Authority;
use crate::error::ApiError;
use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, Method,
        header::{HOST, ORIGIN},
    },
    middleware::Next,
    response::Response,
};
use sdrest_proto::error::ErrorCode;

/// What counts as this site, besides the request's own Host.
#[derive(Clone, Debug, Default)]
pub struct CrossSite {
    pub public: Option<Authority>,
}

/// The middleware: 403 for an unsafe request from another site.
pub async fn refuse_cross_site(
    State(site): State<CrossSite>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !safe && !site.is_own(request.headers()) {
        return Err(ApiError::new(
            ErrorCode::CrossSite,
            "a page of another site may not do this; if it is your own, set --public-url to its address",
        ));
    }
    Ok(next.run(request).await)
}

impl CrossSite {
    fn is_own(&self, headers: &HeaderMap) -> bool {
        for value in headers.get_all("sec-fetch-site") {
            if value != "same-origin" && value != "none" {
                return false;
            }
        }
        headers.get_all(ORIGIN).iter().all(|origin| {
            origin
                .to_str()
                .ok()
                .and_then(Authority::of_url)
                .is_some_and(|origin| self.is_own_origin(&origin, headers))
        })
    }

    fn is_own_origin(&self, origin: &Authority, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).and_then(Authority::parse);
        let host = host.map(Authority::without_default_port);
        let own = host.as_ref() == Some(&origin.clone().without_default_port());
        own || self.public.as_ref() == Some(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(pairs: &[(&'static str, &str)]) -> bool {
        let site = CrossSite { public: Authority::of_url("https://sd.example") };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "127.0.0.1:8080".parse().unwrap());
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        site.is_own(&headers)
    }

    #[test]
    fn only_its_own_pages() {
        assert!(own(&[]));
        assert!(own(&[("sec-fetch-site", "same-origin")]));
        assert!(own(&[("sec-fetch-site", "none")]));
        assert!(own(&[("origin", "http://127.0.0.1:8080")]));
        assert!(own(&[("origin", "https://sd.example")]));
        assert!(!own(&[("origin", "https://sd.example:8443")]));
        assert!(!own(&[("origin", "http://127.0.0.1:9090")]));
        assert!(!own(&[("origin", "null")]));
        assert!(!own(&[("origin", "https://evil.example")]));
        assert!(!own(&[("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:8080")]));
        assert!(!own(&[("sec-fetch-site", "same-site")]));
        assert!(!own(&[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")]));
        assert!(!own(&[("origin", "http://127.0.0.1:8080"), ("origin", "https://evil.example")]));
    }
}
