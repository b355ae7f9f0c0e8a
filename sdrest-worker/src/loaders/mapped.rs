//! Memory-mapped weights: the only file of the worker that may use `unsafe`. A file is mapped once, read-only
//! and private, and its tensors are views into the mapping, so that nothing is read twice and workers share
//! the page cache. The mapping lives as long as any parameter that points into it; nobody writes to it. The
//! format aligns nothing: a tensor that begins at an odd place is copied.

use crate::models::{ModelError, weights::Parameter};
use memmap2::Mmap;
use std::{fs::File, io, ops::Range, sync::Arc};
use tch::{Device, Kind, Tensor};

/// A mapped file.
#[derive(Debug)]
pub(super) struct Mapping {
    map: Mmap,
    file: File,
}

impl Mapping {
    /// `file` must have been checked: only its trusted owners can change it (see `folder`).
    pub(super) fn of(file: &File) -> io::Result<Arc<Self>> {
        #[expect(
            unsafe_code,
            reason = "memory-mapping the weights once instead of reading them (design, house style)"
        )]
        // SAFETY: the mapping is read-only, and `bytes` hands out shared slices only. The file belongs to
        // root, to the model folder's owner or to this process's user and is not writable by everybody;
        // whoever may change it under the mapping may replace the model anyhow. A truncation is noticed by
        // `is_whole` before the next tick; one in the middle of a tick is a SIGBUS, which ends this process and
        // no other, and the model is refused when it is opened again.
        let map = unsafe { Mmap::map(file)? };
        Ok(Arc::new(Self { map, file: file.try_clone()? }))
    }

    /// Whether the file still holds all that is mapped; reading past its end would end the process.
    pub(super) fn is_whole(&self) -> bool {
        let mapped = u64::try_from(self.map.len()).unwrap_or(u64::MAX);
        self.file.metadata().is_ok_and(|metadata| metadata.len() >= mapped)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// A parameter that views `range`, or a copy of it where it does not begin at a multiple of an element's
    /// size. Fails where the range leaves the mapping or does not hold exactly the shape's elements.
    pub(super) fn parameter(
        self: &Arc<Self>,
        range: Range<usize>,
        shape: &[i64],
        kind: Kind,
    ) -> Result<Parameter, MappedError> {
        let bytes = self.map.get(range).ok_or(MappedError::OutOfRange)?;
        let size = kind.elt_size_in_bytes();
        let elements =
            shape.iter().try_fold(1_usize, |n, &side| n.checked_mul(usize::try_from(side).ok()?));
        if elements.and_then(|n| n.checked_mul(size)) != Some(bytes.len()) {
            return Err(MappedError::Size);
        }
        let torch = |error| MappedError::Torch(ModelError::from(error));
        if bytes.as_ptr().align_offset(size) != 0 {
            return Ok(Parameter::new(
                Tensor::f_from_data_size(bytes, shape, kind).map_err(torch)?,
                None,
            ));
        }
        let mut strides = vec![1_i64; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i].saturating_mul(shape[i].max(1));
        }
        #[expect(unsafe_code, reason = "a tensor over mapped memory (design, house style)")]
        // SAFETY: `bytes` lies in the mapping, is aligned for `kind` and holds exactly shape's elements,
        // which the strides walk without gaps. The parameter keeps the mapping alive and gives its tensor
        // only to operators that read it.
        let tensor =
            unsafe { Tensor::f_from_blob(bytes.as_ptr(), shape, &strides, kind, Device::Cpu) };
        Ok(Parameter::new(tensor.map_err(torch)?, Some(Arc::clone(self) as _)))
    }
}

/// Why a tensor cannot be viewed.
#[derive(Debug)]
pub(super) enum MappedError {
    OutOfRange,
    Size,
    Torch(ModelError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_that_was_cut_is_not_whole() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; 24]).unwrap();
        let mapping = Mapping::of(&file).unwrap();
        assert!(mapping.is_whole());
        file.set_len(23).unwrap();
        assert!(!mapping.is_whole());
    }

    #[test]
    fn a_view_must_fit_its_range() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; 24]).unwrap();
        let mapping = Mapping::of(&file).unwrap();
        let view = |range, shape: &[i64]| mapping.parameter(range, shape, Kind::Float);
        assert!(view(0..24, &[2, 3]).is_ok());
        assert!(view(4..8, &[]).is_ok());
        assert!(view(24..24, &[0, 3]).is_ok());
        assert!(matches!(view(0..28, &[7]), Err(MappedError::OutOfRange)));
        #[expect(clippy::reversed_empty_ranges, reason = "the case under test")]
        let reversed = view(8..4, &[1]);
        assert!(matches!(reversed, Err(MappedError::OutOfRange)));
        assert!(matches!(view(0..8, &[3]), Err(MappedError::Size)));
        assert!(matches!(view(0..8, &[-2]), Err(MappedError::Size)));
        assert!(matches!(view(0..8, &[i64::MAX, i64::MAX]), Err(MappedError::Size)));
        assert!(view(2..6, &[1]).is_ok());
    }
}
