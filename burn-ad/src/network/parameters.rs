//! The parameters of a network by their names: field names and indices, joined by dots.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::prelude::*;

use crate::error::{Error, Result};
use crate::tensors::{HostTensor, TensorSet};

/// Adds every tensor of a network, its name below `prefix`.
pub fn save<B: Backend>(network: &impl Module<B>, prefix: &str, tensors: &mut TensorSet) {
    let mut collector = Collector {
        path: Path::new(prefix),
        tensors,
    };
    network.visit(&mut collector);
}

/// The same network with tensors taken out of a set, which have the sizes of those they replace.
///
/// # Errors
/// When a tensor is absent, or shaped otherwise.
pub fn load<B: Backend, M: Module<B>>(
    network: M,
    prefix: &str,
    tensors: &mut TensorSet,
) -> Result<M> {
    let mut loader = Loader {
        path: Path::new(prefix),
        tensors,
        error: None,
    };
    let network = network.map(&mut loader);
    loader.error.map_or(Ok(network), Err)
}

/// Where a walk through a network is.
struct Path(Vec<String>);

impl Path {
    fn new(prefix: &str) -> Self {
        Self(vec![prefix.to_owned()])
    }

    fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn leave(&mut self) {
        self.0.pop();
    }

    fn name(&self) -> String {
        self.0.join(".")
    }
}

struct Collector<'a> {
    path: Path,
    tensors: &'a mut TensorSet,
}

impl<B: Backend> ModuleVisitor<B> for Collector<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.leave();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = HostTensor::from_tensor(param.val());
        self.tensors.insert(self.path.name(), tensor);
    }
}

struct Loader<'a> {
    path: Path,
    tensors: &'a mut TensorSet,
    error: Option<Error>,
}

impl<B: Backend> ModuleMapper<B> for Loader<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.leave();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = param.consume();
        let learns = tensor.is_require_grad();
        let shape = tensor.dims().map(Some);
        let found = self
            .tensors
            .take_tensor::<B, D>(&self.path.name(), shape, &tensor.device());
        let tensor = match found {
            Ok(found) if learns => found.require_grad(),
            Ok(found) => found,
            Err(error) => {
                self.error.get_or_insert(error);
                tensor
            }
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}
