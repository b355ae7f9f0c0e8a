//! Tensors as plain numbers: safetensors files read and written, whatever their dtype, and slices of the
//! first axis.

use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use std::{collections::BTreeMap, fs, path::Path};

/// A tensor's values, each exactly as it stood in the file.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

impl Array {
    /// Rows of the first axis, in the given order.
    pub(crate) fn rows(&self, rows: &[usize]) -> Self {
        let size = self.values.len() / self.shape[0];
        let values = rows
            .iter()
            .flat_map(|row| &self.values[row * size..(row + 1) * size])
            .copied()
            .collect();
        let shape = [&[rows.len()], &self.shape[1..]].concat();
        Self { dtype: self.dtype, shape, values }
    }

    fn bytes(&self) -> Vec<u8> {
        let values = self.values.iter();
        match self.dtype {
            Dtype::F32 => values.flat_map(|value| (*value as f32).to_le_bytes()).collect(),
            Dtype::F64 => values.flat_map(|value| value.to_le_bytes()).collect(),
            Dtype::I64 => values.flat_map(|value| (*value as i64).to_le_bytes()).collect(),
            Dtype::U8 => values.map(|value| *value as u8).collect(),
            other => panic!("{other:?} is not written by these tests"),
        }
    }
}

pub(crate) type Tensors = BTreeMap<String, Array>;

pub(crate) fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    decode(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Tensors, SafeTensorError> {
    let file = SafeTensors::deserialize(bytes)?;
    Ok(file.iter().map(|(name, view)| (name.to_owned(), array(&view))).collect())
}

fn array(view: &TensorView<'_>) -> Array {
    let bytes = view.data();
    let values = match view.dtype() {
        Dtype::F32 => {
            bytes.as_chunks().0.iter().map(|value| f64::from(f32::from_le_bytes(*value))).collect()
        }
        Dtype::F64 => bytes.as_chunks().0.iter().map(|value| f64::from_le_bytes(*value)).collect(),
        Dtype::I64 => {
            bytes.as_chunks().0.iter().map(|value| i64::from_le_bytes(*value) as f64).collect()
        }
        Dtype::U8 => bytes.iter().map(|value| f64::from(*value)).collect(),
        other => panic!("{other:?} is not read by these tests"),
    };
    Array { dtype: view.dtype(), shape: view.shape().to_vec(), values }
}

pub(crate) fn write(path: &Path, tensors: &[(&str, &Array)]) {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, array)| array.bytes()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, array), bytes)| {
        let view = TensorView::new(array.dtype, array.shape.clone(), bytes);
        (*name, view.expect("the array's own shape"))
    });
    safetensors::serialize_to_file(views, None, path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
