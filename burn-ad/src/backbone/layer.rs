//! A frozen convolution with folded normalisation.

use burn::module::{Module, Param, ParamId};
use burn::prelude::*;

use super::plan::ConvPlan;
use super::spec::{Unit, UnitSpec};
use crate::error::{Error, Result};
use crate::ops::{Activation, Convolution, Frozen, Prepared, expanded_depthwise, gated_conv2d};

/// Where the values of a network come from, one unit at a time.
pub(crate) type UnitSource<'a> = dyn FnMut(&UnitSpec) -> Result<Unit> + 'a;

/// A convolution, its bias and its activation.
#[derive(Module, Debug)]
pub struct FrozenConv<B: Backend> {
    weight: Param<Tensor<B, 4>>,
    bias: Param<Tensor<B, 1>>,
    convolution: Convolution,
    activation: Activation,
    #[module(skip)]
    prepared: Prepared,
}

impl<B: Backend> FrozenConv<B> {
    /// Takes the values of one unit.
    ///
    /// # Errors
    /// When the source fails, or its values do not fill the unit's shape.
    pub(crate) fn build(
        plan: &ConvPlan,
        device: &B::Device,
        source: &mut UnitSource<'_>,
    ) -> Result<Self> {
        let unit = source(&plan.unit)?;
        plan.unit.check(&unit)?;
        let weight = TensorData::new(unit.weight, plan.unit.shape);
        let bias = TensorData::new(unit.bias, [plan.unit.shape[0]]);
        // `initialized` leaves gradients off, unlike `from_data`.
        Ok(Self {
            weight: Param::initialized(ParamId::new(), Tensor::from_data(weight, device)),
            bias: Param::initialized(ParamId::new(), Tensor::from_data(bias, device)),
            convolution: plan.convolution,
            activation: plan.activation,
            prepared: Prepared::default(),
        })
    }

    /// Builds a convolution where the network has one.
    pub(crate) fn build_optional(
        plan: Option<&ConvPlan>,
        device: &B::Device,
        source: &mut UnitSource<'_>,
    ) -> Result<Option<Self>> {
        plan.map(|plan| Self::build(plan, device, source))
            .transpose()
    }

    /// `[batch, in_channels, height, width]` to `[batch, out_channels, height', width']`.
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        self.run(x, None, self.activation)
    }

    /// The same with `residual`, of the shape of the result, added before `activation`, which takes
    /// the place of the convolution's own.
    pub(crate) fn forward_onto(
        &self,
        x: Tensor<B, 4>,
        residual: Tensor<B, 4>,
        activation: Activation,
    ) -> Tensor<B, 4> {
        self.run(x, Some(residual), activation)
    }

    /// Through this convolution and the `depthwise` one behind it.
    pub(crate) fn forward_to(&self, depthwise: &Self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        expanded_depthwise(x, self.frozen(), depthwise.frozen())
    }

    /// `x` times the gates of its channels, `[batch, channels, 1, 1]`, through the convolution, onto
    /// `residual`.
    pub(crate) fn forward_gated(
        &self,
        x: Tensor<B, 4>,
        gate: Tensor<B, 4>,
        residual: Option<Tensor<B, 4>>,
    ) -> Tensor<B, 4> {
        gated_conv2d(x, gate, self.frozen(), residual)
    }

    fn frozen(&self) -> Frozen<'_, B> {
        Frozen {
            weight: self.weight.val(),
            bias: Some(self.bias.val()),
            convolution: self.convolution,
            activation: self.activation,
            prepared: &self.prepared,
        }
    }

    fn run(
        &self,
        x: Tensor<B, 4>,
        residual: Option<Tensor<B, 4>>,
        activation: Activation,
    ) -> Tensor<B, 4> {
        let frozen = Frozen {
            activation,
            ..self.frozen()
        };
        frozen.forward(x, residual)
    }

    /// The values on the host.
    pub(crate) fn unit(&self) -> Unit {
        let host = |data: TensorData| {
            let data = data.convert::<f32>();
            data.to_vec().expect("converted to f32 just now")
        };
        Unit {
            weight: host(self.weight.val().into_data()),
            bias: host(self.bias.val().into_data()),
        }
    }
}

impl UnitSpec {
    /// Whether `unit` fills this shape.
    ///
    /// # Errors
    /// When the number of weights or of biases differs; the message names the unit.
    pub fn check(&self, unit: &Unit) -> Result<()> {
        let [outputs, ..] = self.shape;
        let weights: usize = self.shape.iter().product();
        if unit.weight.len() == weights && unit.bias.len() == outputs {
            return Ok(());
        }
        Err(Error::weights(format!(
            "{} has {} weights and {} biases where shape {:?} needs {weights} and {outputs}",
            self.name,
            unit.weight.len(),
            unit.bias.len(),
            self.shape,
        )))
    }
}
