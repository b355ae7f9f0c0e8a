//! Answers only to its own names (RFC 9110 §7.4). A page of another site that has its name point at this
//! server (DNS rebinding) would otherwise be taken for this server's own. Holds in every mode.

use super::{authority::Authority, peer::Peer};
use crate::error::ApiError;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, Uri, header::HOST},
    middleware::Next,
    response::Response,
};
use sdrest_proto::error::ErrorCode;
use std::{collections::HashSet, net::IpAddr, sync::Arc};

/// The names that this server goes by. Ports are not compared: a tunnel may change them, and they do not
/// make another site.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<HashSet<String>>);

impl Hosts {
    /// `listen` is the address that was asked for, where it is a TCP one; a loopback address and a Unix
    /// socket go by `localhost`, too.
    pub fn new(listen: Option<IpAddr>, names: impl IntoIterator<Item = Authority>) -> Self {
        let mut hosts: HashSet<String> =
            names.into_iter().map(|authority| authority.host).collect();
        match listen {
            Some(address) if !address.is_loopback() && !address.is_unspecified() => {
                hosts.insert(address.to_canonical().to_string());
            }
            Some(_) | None => hosts.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned)),
        }
        Self(Arc::new(hosts))
    }

    /// Whether a request for `authority` over this connection is for this server: one of its names, or the
    /// very address that the client reached.
    fn are_ours(&self, authority: &Authority, peer: Option<Peer>) -> bool {
        let reached = peer.and_then(Peer::local_ip);
        self.0.contains(&authority.host) || (reached.is_some() && authority.ip() == reached)
    }
}

/// The middleware: 421 for a Host that is not this server's.
pub async fn check_host(
    State(hosts): State<Hosts>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let peer = request.extensions().get::<Peer>().copied();
    for authority in authorities(request.headers(), request.uri())? {
        if !hosts.are_ours(&authority, peer) {
            return Err(ApiError::new(
                ErrorCode::MisdirectedRequest,
                format!(
                    "`Host` names {}, which is not this server; the administrator can add it with --allowed-host",
                    authority.host
                ),
            ));
        }
    }
    Ok(next.run(request).await)
}

/// All that a request names as its server: the Host header, and the authority of an absolute target.
fn authorities(headers: &HeaderMap, uri: &Uri) -> Result<Vec<Authority>, ApiError> {
    let bad = || {
        ApiError::new(ErrorCode::BadRequest, "`Host` must be sent once, as `name` or `name:port`")
    };
    let mut values = headers.get_all(HOST).iter();
    let host = values.next().and_then(|value| value.to_str().ok());
    let (Some(host), None) = (host, values.next()) else { return Err(bad()) };
    let mut named = vec![Authority::parse(host).ok_or_else(bad)?];
    if let Some(authority) = uri.authority() {
        named.push(Authority::parse(authority.as_str()).ok_or_else(bad)?);
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(hosts: &Hosts, host: &str, peer: Option<Peer>) -> bool {
        hosts.are_ours(&Authority::parse(host).unwrap(), peer)
    }

    #[test]
    fn own_names_only() {
        let hosts = Hosts::new("127.0.0.1".parse().ok(), [Authority::parse("sd.example").unwrap()]);
        for good in [
            "127.0.0.1:8080",
            "localhost:8080",
            "LOCALHOST",
            "[::1]:8080",
            "sd.example",
            "sd.example:8443",
        ] {
            assert!(ours(&hosts, good, None), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.2",
            "10.0.0.1",
            "sd.example.evil.example",
        ] {
            assert!(!ours(&hosts, bad, None), "{bad}");
        }
    }

    #[test]
    fn a_server_on_every_address_answers_to_the_one_that_was_reached() {
        let hosts = Hosts::new("0.0.0.0".parse().ok(), []);
        let peer = Peer::Tcp {
            remote: "192.0.2.9:5000".parse().unwrap(),
            local: "[::ffff:192.0.2.1]:80".parse().unwrap(),
        };
        assert!(ours(&hosts, "192.0.2.1", Some(peer)));
        assert!(!ours(&hosts, "192.0.2.2", Some(peer)));
        assert!(!ours(&hosts, "rebound.example", Some(peer)));
        assert!(!ours(&hosts, "192.0.2.1", Some(Peer::Unix { uid: None })));
    }
}
