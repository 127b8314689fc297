//! Named host tensors: what a detector hands to a model file and gets back from it.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};

/// One tensor of 32-bit floats in host memory, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// `shape.iter().product()` values.
    pub values: Vec<f32>,
}

impl HostTensor {
    /// # Panics
    /// If the number of values does not fit the shape.
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        let shape = shape.into();
        assert_eq!(
            shape.iter().product::<usize>(),
            values.len(),
            "tensor shape"
        );
        Self { shape, values }
    }

    /// Copies a tensor from its device.
    pub fn from_tensor<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Self {
        let shape = tensor.dims().to_vec();
        Self::new(shape, to_vec(tensor))
    }
}

/// The values of a tensor in host memory, whatever float type the backend uses.
pub fn to_vec<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .into_vec()
        .expect("converted to f32 just now")
}

/// The one value of a tensor, such as a loss.
pub(crate) fn scalar<B: Backend>(value: &Tensor<B, 1>) -> f64 {
    f64::from(to_vec(value.clone())[0])
}

/// A set of named tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorSet {
    tensors: BTreeMap<String, HostTensor>,
}

impl TensorSet {
    /// Adds a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: HostTensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// All tensors with their names.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut HostTensor)> {
        self.tensors
            .iter_mut()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Takes a tensor out and checks its shape; `None` in `shape` fits any size.
    ///
    /// # Errors
    /// When it is absent or shaped otherwise.
    pub fn take(&mut self, name: &str, shape: &[Option<usize>]) -> Result<HostTensor> {
        let tensor = self
            .tensors
            .remove(name)
            .ok_or_else(|| Error::model(format!("the tensor '{name}' is missing")))?;
        let fits = tensor.shape.len() == shape.len()
            && tensor
                .shape
                .iter()
                .zip(shape)
                .all(|(&have, want)| want.is_none_or(|want| want == have));
        if !fits {
            return Err(Error::model(format!(
                "the tensor '{name}' has shape {:?}, not the one its configuration asks for",
                tensor.shape
            )));
        }
        if tensor.values.iter().any(|value| !value.is_finite()) {
            return Err(Error::model(format!(
                "the tensor '{name}' holds values that are not finite"
            )));
        }
        Ok(tensor)
    }

    /// Like [`take`](Self::take), straight onto a device.
    ///
    /// # Errors
    /// When it is absent or shaped otherwise.
    pub fn take_tensor<B: Backend, const D: usize>(
        &mut self,
        name: &str,
        shape: [Option<usize>; D],
        device: &B::Device,
    ) -> Result<Tensor<B, D>> {
        let host = self.take(name, &shape)?;
        Ok(Tensor::from_data(
            TensorData::new(host.values, host.shape),
            device,
        ))
    }

    /// # Errors
    /// When tensors are left that nobody took.
    pub fn finish(self) -> Result<()> {
        match self.tensors.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::model(format!("the tensor '{name}' is not expected"))),
        }
    }

    /// Writes a safetensors file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.with_views(|views| safetensors::serialize_to_file(views, None, path))
            .map_err(|error| error.path(path))
    }

    /// The content of a safetensors file.
    ///
    /// # Errors
    /// When a tensor cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.with_views(|views| safetensors::serialize(views, None))
    }

    fn with_views<R>(
        &self,
        write: impl FnOnce(
            Vec<(String, TensorView<'_>)>,
        ) -> std::result::Result<R, safetensors::SafeTensorError>,
    ) -> Result<R> {
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, tensor)| {
                let bytes = tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect();
                (name.clone(), tensor.shape.clone(), bytes)
            })
            .collect();
        let views = bytes
            .iter()
            .map(|(name, shape, bytes)| {
                TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.clone(), view))
            })
            .collect::<std::result::Result<Vec<_>, _>>();
        views
            .and_then(write)
            .map_err(|error| Error::model(error.to_string()))
    }

    /// Reads a safetensors file of 32-bit floats.
    ///
    /// # Errors
    /// When the file is absent, truncated, foreign, or holds another type.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io(&error).path(path))?;
        Self::from_bytes(&bytes).map_err(|error| {
            error
                .path(path)
                .help("the file is truncated or foreign: copy the model again, or train it again")
        })
    }

    /// Reads the content of a safetensors file of 32-bit floats.
    ///
    /// # Errors
    /// When it is truncated, foreign, or holds another type.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| Error::model(format!("not a complete safetensors file ({error})")))?;
        let mut set = Self::default();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(Error::model(format!(
                    "the tensor '{name}' is of type {:?}, not F32",
                    view.dtype()
                )));
            }
            let (values, _) = view.data().as_chunks();
            let values = values.iter().map(|&bytes| f32::from_le_bytes(bytes));
            set.insert(name, HostTensor::new(view.shape(), values.collect()));
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set() -> TensorSet {
        let mut set = TensorSet::default();
        set.insert(
            "a",
            HostTensor::new([2, 3], vec![1.0, -2.5, 3.0, 4.0, 5.0, 6.0]),
        );
        set
    }

    #[test]
    fn a_written_file_reads_back_equal_and_a_truncated_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        set().write(&path).unwrap();
        assert_eq!(TensorSet::read(&path).unwrap(), set());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let error = TensorSet::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("t.safetensors") && error.contains("complete"),
            "{error}"
        );
    }

    #[test]
    fn take_checks_name_shape_and_values() {
        assert!(set().take("b", &[None, None]).is_err());
        assert!(set().take("a", &[Some(2), Some(2)]).is_err());
        assert!(set().take("a", &[None, Some(3)]).is_ok());
        assert!(set().finish().is_err());
        let mut bad = TensorSet::default();
        bad.insert("a", HostTensor::new([1], vec![f32::NAN]));
        assert!(bad.take("a", &[None]).is_err());
    }
}
