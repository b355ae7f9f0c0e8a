//! `host[:port]` as it stands in Host, Origin and `--allowed-host` (RFC 3986 §3.2), compared by value: case,
//! a final dot and a default port make no difference, and addresses are compared as addresses.

use std::net::IpAddr;

/// A parsed authority without user information.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    pub host: String,
    pub port: Option<u16>,
}

impl Authority {
    /// Nothing, where the text is no plain authority.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                address.parse::<std::net::Ipv6Addr>().ok()?;
                (address, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            None => None,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            Some(_) => return None,
        };
        let host = canonical(host)?;
        Some(Self { host, port })
    }

    /// The authority of an origin or a URL (`https://host:port/…`), with the scheme's default port taken
    /// away.
    pub fn of_url(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let default = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let parsed = Self::parse(authority)?;
        Some(Self { port: parsed.port.filter(|port| *port != default), ..parsed })
    }

    /// The host as an address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Without a port that is the default of http or https.
    pub fn without_default_port(self) -> Self {
        Self { port: self.port.filter(|port| !matches!(port, 80 | 443)), ..self }
    }
}

fn canonical(host: &str) -> Option<String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(address.to_canonical().to_string());
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    // One dot may end a name; what has another before it is no name.
    (!host.is_empty() && !host.ends_with('.') && host.len() <= 253 && host.bytes().all(name_byte))
        .then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_compares_by_value() {
        let same = |a: &str, b: &str| {
            assert_eq!(Authority::parse(a).unwrap(), Authority::parse(b).unwrap())
        };
        same("LocalHost.", "localhost");
        same("[::1]:80", "[0:0:0:0:0:0:0:1]:80");
        for bad in [
            "",
            ":80",
            "a b",
            "a/b",
            "user@host",
            "[::1",
            "[host]",
            "::1x:2",
            "host:x",
            "host:99999",
            "a,b",
            "a..",
        ] {
            assert_eq!(Authority::parse(bad), None, "{bad:?}");
        }
        assert_eq!(
            Authority::of_url("https://Sd.Example:443/x").unwrap(),
            Authority::parse("sd.example").unwrap()
        );
        assert_eq!(Authority::of_url("https://h:80").unwrap().port, Some(80));
        for bad in ["null", "file:///x", "ftp://h", "http://user@h"] {
            assert_eq!(Authority::of_url(bad), None, "{bad:?}");
        }
    }
}
