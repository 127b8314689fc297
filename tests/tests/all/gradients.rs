//! The gradients of a network's parameters by name.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use burn_ad::tensors::{HostTensor, TensorSet};

/// One tensor a parameter that has a gradient, its name below `prefix`.
pub(crate) fn gradients<AB: AutodiffBackend, M: Module<AB>>(
    network: &M,
    prefix: &str,
    gradients: &AB::Gradients,
) -> TensorSet {
    let mut visitor = Visitor::<AB> {
        gradients,
        path: vec![prefix.to_owned()],
        found: TensorSet::default(),
    };
    network.visit(&mut visitor);
    visitor.found
}

struct Visitor<'a, AB: AutodiffBackend> {
    gradients: &'a AB::Gradients,
    path: Vec<String>,
    found: TensorSet,
}

impl<AB: AutodiffBackend> ModuleVisitor<AB> for Visitor<'_, AB> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<AB, D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            let name = self.path.join(".");
            self.found.insert(name, HostTensor::from_tensor(gradient));
        }
    }
}
