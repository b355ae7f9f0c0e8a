//! The first look at a safetensors header (<https://github.com/huggingface/safetensors#format>), before the
//! `safetensors` crate reads it: every entry is checked on its own, so that an error can name the tensor and
//! so that no sum can overflow. What passes here is checked once more as a whole by the crate.

use crate::models::error::{said, shorten};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A header of a Stable Diffusion network has about 100 kB.
const MAX_HEADER: u64 = 16 * 1024 * 1024;

/// What is wrong, and with which tensor where that can be said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HeaderFault {
    pub(super) tensor: Option<String>,
    pub(super) reason: String,
}

impl HeaderFault {
    fn of_file(reason: impl Into<String>) -> Self {
        Self { tensor: None, reason: reason.into() }
    }

    /// A name in a header may be as long as the header.
    fn of_tensor(name: &str, reason: String) -> Self {
        Self { tensor: Some(shorten(name)), reason }
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Checks the header of a whole file.
pub(super) fn check(file: &[u8]) -> Result<(), HeaderFault> {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(HeaderFault::of_file(format!("it has {} bytes and no header", file.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(HeaderFault::of_file(format!(
            "its header claims {length} bytes; {MAX_HEADER} are allowed"
        )));
    }
    let length = length as usize;
    let Some(header) = rest.get(..length) else {
        return Err(HeaderFault::of_file(format!("it ends within its header of {length} bytes")));
    };
    let data = (rest.len() - length) as u64;
    let entries: BTreeMap<String, Value> = serde_json::from_slice(header)
        .map_err(|error| HeaderFault::of_file(format!("its header is no JSON: {}", said(error))))?;
    let mut ranges = Vec::with_capacity(entries.len());
    for (name, value) in entries.into_iter().filter(|(name, _)| name != "__metadata__") {
        match check_entry(value, data) {
            Ok((begin, end)) => ranges.push((begin, end, name)),
            Err(reason) => return Err(HeaderFault::of_tensor(&name, reason)),
        }
    }
    check_cover(ranges, data)
}

fn check_entry(value: Value, data: u64) -> Result<(u64, u64), String> {
    let entry: Entry = serde_json::from_value(value)
        .map_err(|error| format!("has no valid entry: {}", said(error)))?;
    let (begin, end) = entry.data_offsets;
    if begin > end || end > data {
        return Err(format!(
            "lies at bytes {begin}..{end} of {data}: the file is truncated or its header is wrong"
        ));
    }
    let Some(size) = element_size(&entry.dtype) else {
        return Err(format!("has the unknown type \"{}\"", shorten(&entry.dtype)));
    };
    let wanted = entry.shape.iter().try_fold(size, |n, &side| n.checked_mul(side));
    if wanted != Some(end - begin) {
        let Entry { dtype, shape, .. } = entry;
        return Err(format!(
            "has {} bytes, which is not what {dtype} of shape {} takes",
            end - begin,
            shorten(&format!("{shape:?}"))
        ));
    }
    Ok((begin, end))
}

/// Tensors must follow each other without overlap or gap, up to the end of the file.
fn check_cover(mut ranges: Vec<(u64, u64, String)>, data: u64) -> Result<(), HeaderFault> {
    ranges.sort();
    let mut reached = 0;
    for (begin, end, name) in ranges {
        if begin != reached {
            let what = if begin < reached {
                "overlaps the tensor before it"
            } else {
                "leaves a gap before it"
            };
            return Err(HeaderFault::of_tensor(&name, format!("{what} at byte {begin}")));
        }
        reached = end;
    }
    if reached != data {
        return Err(HeaderFault::of_file(format!("its tensors end at byte {reached} of {data}")));
    }
    Ok(())
}

/// Bytes per element; `None` for what is no type of whole bytes.
fn element_size(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" | "C64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "F8_E4M3FNUZ"
        | "F8_E5M2FNUZ" => 1,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(vec![0; data]);
        file
    }

    fn fault(header: &str, data: usize) -> HeaderFault {
        check(&file(header, data)).unwrap_err()
    }

    #[test]
    fn a_good_header_passes() {
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[],"data_offsets":[8,10]}}"#;
        assert_eq!(check(&file(header, 10)), Ok(()));
    }

    #[test]
    fn hostile_headers_name_the_tensor() {
        for (header, data) in [
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4),
            (r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8),
            (r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, 0),
            (
                r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
                0,
            ),
            (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}"#, 8),
            (r#"{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#, 1),
            (r#"{"a":{"dtype":"NOPE","shape":[],"data_offsets":[0,0]}}"#, 0),
            (r#"{"a":7}"#, 0),
        ] {
            assert_eq!(fault(header, data).tensor.as_deref(), Some("a"), "{header}");
        }
        let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        assert_eq!(fault(overlap, 8).tensor.as_deref(), Some("b"));
        let gap = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;
        assert_eq!(fault(gap, 12).tensor.as_deref(), Some("b"));
    }

    #[test]
    fn broken_files_are_refused() {
        assert!(check(b"abc").is_err());
        assert!(check(&u64::MAX.to_le_bytes()).is_err());
        assert!(check(&100_u64.to_le_bytes()).is_err());
        assert!(check(&file("not json", 0)).is_err());
        assert!(check(&file("{}", 5)).is_err());
    }
}
