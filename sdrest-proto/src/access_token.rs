//! Access tokens as they are written: JSON Web Tokens in the compact form (RFC 7515, RFC 7519) whose header says
//! `at+jwt` (RFC 9068). authd writes them; authd and the front end read them, each with keys of its own. The reader
//! names the one algorithm; a token chooses among that one's keys and nothing else. Nothing here holds a key or
//! looks at a clock, and no error quotes a token.

use crate::{
    authd::{Claims, Signature},
    secret::BearerToken,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use thiserror::Error;

/// RFC 9068 §2.1.
const TYPE: &str = "at+jwt";

/// Why a token is not good.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    #[error("the token has expired")]
    Expired,
    /// The reason is for a log: a caller learns only that the token is not good.
    #[error("the token is not valid: {0}")]
    Invalid(&'static str),
}

/// What a token must be signed with, and say.
#[derive(Clone, Debug)]
pub struct Rules {
    pub algorithm: Signature,
    pub issuer: String,
    pub audience: String,
}

/// `alg`, `typ` and `kid` are all that a header may hold: none brings its own key, a place to find one, or rules
/// that we do not know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: Option<String>,
}

/// A token's two parts, and its signature.
struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    /// Both, with the dot: what the signature is over.
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, TokenError> {
        let parts = text.rsplit_once('.').and_then(|(signed, signature)| {
            let (header, claims) = signed.split_once('.')?;
            Some(Self { header, claims, signed, signature })
        });
        parts.ok_or(TokenError::Invalid("it has not three parts"))
    }

    /// The header of an access token under `algorithm`.
    fn header(&self, algorithm: Signature) -> Result<Header, TokenError> {
        let header: Header =
            parsed(self.header).ok_or(TokenError::Invalid("its header is not one of ours"))?;
        if header.alg != algorithm.name() {
            return Err(TokenError::Invalid("its algorithm is not ours"));
        }
        if !header.typ.eq_ignore_ascii_case(TYPE) {
            return Err(TokenError::Invalid("it is no access token by its `typ`"));
        }
        Ok(header)
    }

    fn claims(&self) -> Result<Claims, TokenError> {
        parsed(self.claims).ok_or(TokenError::Invalid("its claims cannot be read"))
    }
}

/// The claims of a token that is authentic and for us, at whatever time they count. `verify` is given the key's id,
/// what was signed and the signature, before any claim is read.
pub fn read(
    text: &str,
    rules: &Rules,
    verify: impl FnOnce(Option<&str>, &[u8], &[u8]) -> Result<(), TokenError>,
) -> Result<Claims, TokenError> {
    let parts = Parts::split(text)?;
    let header = parts.header(rules.algorithm)?;
    let signature = URL_SAFE_NO_PAD.decode(parts.signature);
    let signature = signature.map_err(|_| TokenError::Invalid("its signature cannot be read"))?;
    verify(header.kid.as_deref(), parts.signed.as_bytes(), &signature)?;
    let claims = parts.claims()?;
    if claims.iss != rules.issuer {
        return Err(TokenError::Invalid("it comes from another issuer"));
    }
    if claims.aud != rules.audience {
        return Err(TokenError::Invalid("it is for another audience"));
    }
    Ok(claims)
}

/// What a text says of itself that has the form of an access token under `algorithm`. Nobody vouches for it.
pub fn read_unverified(text: &str, algorithm: Signature) -> Result<Claims, TokenError> {
    let parts = Parts::split(text)?;
    parts.header(algorithm)?;
    parts.claims()
}

/// Writes a token down. `sign` is given what is to be signed.
pub fn write(
    claims: &Claims,
    (algorithm, kid): (Signature, Option<&str>),
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<BearerToken, serde_json::Error> {
    let header = match kid {
        Some(kid) => json!({ "alg": algorithm.name(), "typ": TYPE, "kid": kid }),
        None => json!({ "alg": algorithm.name(), "typ": TYPE }),
    };
    let parts = [header.to_string(), serde_json::to_string(claims)?];
    let mut text = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = URL_SAFE_NO_PAD.encode(sign(text.as_bytes()));
    text.push('.');
    text.push_str(&signature);
    Ok(BearerToken::new(text))
}

impl Signature {
    /// As it stands in a header (RFC 7518, RFC 8037).
    fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }
}

impl Claims {
    /// Whether `now` is within the times, give or take `leeway`; all in seconds. At `exp` it is over (RFC 7519 §4.1.4).
    pub fn timely(&self, now: u64, leeway: u64) -> Result<(), TokenError> {
        if self.exp <= now.saturating_sub(leeway) {
            return Err(TokenError::Expired);
        }
        if self.nbf > now.saturating_add(leeway) {
            return Err(TokenError::Invalid("it does not count yet"));
        }
        Ok(())
    }
}

/// A JSON object (RFC 7515 §5.2); serde alone would take an array of the values, too.
fn parsed<T: DeserializeOwned>(part: &str) -> Option<T> {
    let text = URL_SAFE_NO_PAD.decode(part).ok()?;
    let object = text.trim_ascii_start().starts_with(b"{");
    object.then(|| serde_json::from_slice(&text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::SessionId,
        identity::{Role, Subject},
    };

    fn claims() -> Claims {
        Claims {
            iss: "i".to_owned(),
            aud: "a".to_owned(),
            sub: Subject::unix(1000, 1),
            name: "alice".to_owned(),
            uid: Some(1000),
            roles: vec![Role::User],
            amr: vec!["pam".to_owned()],
            sid: SessionId::random(),
            jti: "j".to_owned(),
            iat: 1000,
            nbf: 1000,
            exp: 4600,
            auth_time: 1000,
        }
    }

    fn rules(algorithm: Signature, issuer: &str, audience: &str) -> Rules {
        Rules { algorithm, issuer: issuer.to_owned(), audience: audience.to_owned() }
    }

    #[test]
    fn a_token_has_its_times() {
        for now in [995, 1000, 4600, 4604] {
            assert!(claims().timely(now, 5).is_ok(), "{now}");
        }
        assert_eq!(claims().timely(4605, 5), Err(TokenError::Expired));
        // The clock may go back.
        for now in [0, 994] {
            assert!(matches!(claims().timely(now, 5), Err(TokenError::Invalid(_))), "{now}");
        }
        assert!(claims().timely(u64::MAX, u64::MAX).is_ok());
    }

    #[test]
    fn an_array_of_the_right_values_is_no_header_and_no_claims() {
        let good = write(&claims(), (Signature::EdDsa, Some("k")), |_| Vec::new()).unwrap();
        let good: Vec<&str> = good.expose("test").split('.').collect();
        let array = |part: &str| {
            let object = URL_SAFE_NO_PAD.decode(part).unwrap();
            let object: serde_json::Map<_, _> = serde_json::from_slice(&object).unwrap();
            let values: Vec<_> = object.into_values().collect();
            URL_SAFE_NO_PAD.encode(serde_json::to_string(&values).unwrap())
        };
        let take = |header: &str, claims: &str| {
            let text = format!("{header}.{claims}.");
            read(&text, &rules(Signature::EdDsa, "i", "a"), |_, _, _| Ok(()))
        };
        take(good[0], good[1]).unwrap();
        take(&array(good[0]), good[1]).unwrap_err();
        // serde reads this in the order of the fields, as they are written.
        take(&URL_SAFE_NO_PAD.encode(r#"["EdDSA","at+jwt","k"]"#), good[1]).unwrap_err();
        take(good[0], &array(good[1])).unwrap_err();
    }

    #[test]
    fn what_is_written_is_read_under_the_same_rules_and_no_others() {
        let token =
            write(&claims(), (Signature::EdDsa, Some("k")), |signed| signed.to_ascii_uppercase());
        let token = token.unwrap();
        let text = token.expose("test");
        let take = |rules: &Rules| {
            read(text, rules, |kid, signed, signature| {
                assert_eq!(kid, Some("k"));
                assert_eq!(signed.to_ascii_uppercase(), signature);
                Ok(())
            })
        };
        assert_eq!(take(&rules(Signature::EdDsa, "i", "a")).unwrap().jti, "j");
        for other in [
            rules(Signature::Hs256, "i", "a"),
            rules(Signature::EdDsa, "x", "a"),
            rules(Signature::EdDsa, "i", "x"),
        ] {
            assert!(matches!(take(&other), Err(TokenError::Invalid(_))), "{other:?}");
        }
        let refused = read(text, &rules(Signature::EdDsa, "i", "a"), |_, _, _| {
            Err(TokenError::Invalid("no"))
        });
        assert_eq!(refused, Err(TokenError::Invalid("no")));
        assert_eq!(read_unverified(text, Signature::EdDsa).unwrap().exp, 4600);
        assert!(read_unverified(text, Signature::Hs256).is_err());
    }
}
