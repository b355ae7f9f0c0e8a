//! Passwords of the internal user database: argon2id (RFC 9106) in PHC strings
//! (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`, unpadded base64). The parameters of a record are bounded before anything
//! is computed, so that a damaged or hostile record costs neither memory nor time. It must never say that a password
//! matches a record it could not read.

use argon2::{Algorithm, Argon2, Params, Version};
use base64ct::{Base64Unpadded, Encoding};
use sdrest_proto::secret::Answer;
use std::ops::RangeInclusive;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// New records: OWASP's first choice for argon2id, 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// What a record may ask for. 128 MiB is half of what the unit allows (MemoryMax=).
const MEMORY_BOUNDS: RangeInclusive<u32> = 8..=131_072;
const PASSES_BOUNDS: RangeInclusive<u32> = 1..=16;
const LANES_BOUNDS: RangeInclusive<u32> = 1..=8;
/// Memory × passes, in KiB: about a second of one core.
const WORK_BOUND: u32 = 786_432;
const SALT_BOUNDS: RangeInclusive<usize> = 8..=64;
const HASH_BOUNDS: RangeInclusive<usize> = 16..=64;
/// The longest record that is read at all.
const MAX_RECORD: usize = 512;

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum PasswordError {
    #[error("a password must be 1 to {max} bytes, got {0}", max = Answer::MAX_BYTES)]
    Length(usize),
    #[error("the record of the password is not `$argon2id$v=19$m=…,t=…,p=…$salt$hash`")]
    Form,
    #[error("the record's {what} must be {least} to {most}, got {value}")]
    Bounds { what: &'static str, least: u64, most: u64, value: u64 },
    #[error("argon2id: {0}")]
    Compute(String),
    #[error("the kernel gave no random bytes: {0}")]
    Random(String),
}

/// The record for a new password.
pub(crate) fn hash(password: &Answer) -> Result<String, PasswordError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| PasswordError::Random(error.to_string()))?;
    let mut digest = [0; HASH_BYTES];
    let cost = Cost { memory: MEMORY_KIB, passes: PASSES, lanes: LANES };
    derive(password, &salt, &cost, &mut digest)?;
    let (mut salt_text, mut digest_text) = ([0; 64], [0; 64]);
    let encoded = |bytes: &[u8], text: &mut [u8]| -> Result<String, PasswordError> {
        Base64Unpadded::encode(bytes, text).map(str::to_owned).map_err(|_| PasswordError::Form)
    };
    Ok(format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
        encoded(&salt, &mut salt_text)?,
        encoded(&digest, &mut digest_text)?
    ))
}

/// Whether the password is the one of the record.
pub(crate) fn matches(record: &str, password: &Answer) -> Result<bool, PasswordError> {
    let record = Record::read(record)?;
    let mut digest = vec![0; record.digest.len()];
    derive(password, &record.salt, &record.cost, &mut digest)?;
    Ok(digest.ct_eq(&record.digest).into())
}

struct Cost {
    memory: u32,
    passes: u32,
    lanes: u32,
}

struct Record {
    cost: Cost,
    salt: Vec<u8>,
    digest: Vec<u8>,
}

impl Record {
    fn read(text: &str) -> Result<Self, PasswordError> {
        if text.len() > MAX_RECORD {
            return Err(PasswordError::Form);
        }
        let fields: Vec<&str> = text.split('$').collect();
        let ["", "argon2id", "v=19", cost, salt, digest] = fields[..] else {
            return Err(PasswordError::Form);
        };
        Ok(Self {
            cost: Cost::read(cost)?,
            salt: decode("salt", salt, SALT_BOUNDS)?,
            digest: decode("hash", digest, HASH_BOUNDS)?,
        })
    }
}

impl Cost {
    fn read(text: &str) -> Result<Self, PasswordError> {
        let fields: Vec<&str> = text.split(',').collect();
        let [memory, passes, lanes] = fields[..] else { return Err(PasswordError::Form) };
        let cost = Self {
            memory: number("memory in KiB", memory, "m=", MEMORY_BOUNDS)?,
            passes: number("number of passes", passes, "t=", PASSES_BOUNDS)?,
            lanes: number("number of lanes", lanes, "p=", LANES_BOUNDS)?,
        };
        let work = u64::from(cost.memory) * u64::from(cost.passes);
        bounded("memory times passes", work, (1, u64::from(WORK_BOUND)))?;
        Ok(cost)
    }
}

fn number(
    what: &'static str,
    text: &str,
    key: &str,
    bounds: RangeInclusive<u32>,
) -> Result<u32, PasswordError> {
    let digits = text.strip_prefix(key).ok_or(PasswordError::Form)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PasswordError::Form);
    }
    // A number too large for its type is over every bound.
    let value: u32 = digits.parse().unwrap_or(u32::MAX);
    bounded(what, value.into(), ((*bounds.start()).into(), (*bounds.end()).into()))?;
    Ok(value)
}

fn decode(
    what: &'static str,
    text: &str,
    bounds: RangeInclusive<usize>,
) -> Result<Vec<u8>, PasswordError> {
    let mut buffer = [0; MAX_RECORD];
    let bytes = Base64Unpadded::decode(text, &mut buffer).map_err(|_| PasswordError::Form)?;
    let length = bytes.len() as u64;
    bounded(what, length, (*bounds.start() as u64, *bounds.end() as u64))?;
    Ok(bytes.to_vec())
}

fn bounded(what: &'static str, value: u64, (least, most): (u64, u64)) -> Result<(), PasswordError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(PasswordError::Bounds { what, least, most, value })
    }
}

fn derive(
    password: &Answer,
    salt: &[u8],
    cost: &Cost,
    digest: &mut [u8],
) -> Result<(), PasswordError> {
    if password.is_empty() || password.len() > Answer::MAX_BYTES {
        return Err(PasswordError::Length(password.len()));
    }
    let failed = |error: argon2::Error| PasswordError::Compute(error.to_string());
    let params =
        Params::new(cost.memory, cost.passes, cost.lanes, Some(digest.len())).map_err(failed)?;
    let bytes = password.expose("derived with argon2id").as_bytes();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(bytes, salt, digest)
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Answer {
        Answer::new(text.to_owned())
    }

    #[test]
    fn a_record_is_made_and_recognised_and_never_the_same_twice() {
        let record = hash(&answer("right horse")).unwrap();
        assert!(record.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{record}");
        assert_eq!(matches(&record, &answer("right horse")), Ok(true));
        assert_eq!(matches(&record, &answer("right horse ")), Ok(false));
        assert_ne!(record, hash(&answer("right horse")).unwrap());
    }

    /// One of the vectors that the reference implementation tests itself with.
    #[test]
    fn records_of_the_reference_implementation_are_understood() {
        let record = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert_eq!(matches(record, &answer("password")), Ok(true));
        assert_eq!(matches(record, &answer("Password")), Ok(false));
    }

    #[test]
    fn hostile_records_are_refused_before_anything_is_computed() {
        let tail = "$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        for (cost, named) in [
            ("m=4294967295,t=1,p=1", "memory"),
            ("m=99999999999999999999,t=1,p=1", "memory"),
            ("m=131072,t=16,p=1", "memory times passes"),
            ("m=8,t=4294967295,p=1", "passes"),
            ("m=19456,t=0,p=1", "passes"),
            ("m=19456,t=2,p=16777215", "lanes"),
        ] {
            let error = matches(&format!("$argon2id$v=19${cost}{tail}"), &answer("password"));
            assert!(error.unwrap_err().to_string().contains(named), "{cost}");
        }
        let long = format!("$argon2id$v=19$m=8,t=1,p=1${}$AAAA", "A".repeat(600));
        for record in [
            "",
            "$",
            "plain",
            "$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=16$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$",
            "$argon2id$v=19$m=19456,t=2,p=1,x=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$t=2,m=19456,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=+19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            long.as_str(),
        ] {
            assert!(matches(record, &answer("password")).is_err(), "{record}");
        }
    }

    #[test]
    fn empty_and_over_long_passwords_are_no_passwords() {
        let record = hash(&answer("x")).unwrap();
        for length in [0, 512, 100_000] {
            let password = answer(&"x".repeat(length));
            assert_eq!(hash(&password), Err(PasswordError::Length(length)));
            assert_eq!(matches(&record, &password), Err(PasswordError::Length(length)));
        }
        assert!(hash(&answer(&"x".repeat(511))).is_ok());
    }
}
