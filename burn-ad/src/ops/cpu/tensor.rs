//! Tensors of a generic backend seen as what they are: Burn's CPU tensors, tracked or not.
//!
//! The type of a backend is compared once a call; everything here is safe code. Feature maps keep
//! the logical order `[batch, channels, height, width]`, but lie channels-last in memory from one
//! kernel to the next: their strides say so, and any operation of Burn still reads them rightly.

use std::any::{Any, TypeId};

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Bytes, DType, Shape, Tensor, TensorPrimitive};
use burn_ad_kernels::{Map as Size, layout};
use burn_autodiff::Autodiff;
use burn_flex::{Flex, FlexTensor, Layout};

use super::buffers;
use super::settings::Kernels;

/// Burn's CPU backend under autodiff, without recomputation in the backward pass.
pub(crate) type TrackedFlex = Autodiff<Flex>;
/// Its tensors.
pub(crate) type Tracked = FloatTensor<TrackedFlex>;

/// A tensor that kernels can work on.
pub(crate) enum Cpu {
    /// Of `Flex`.
    Plain(FlexTensor),
    /// Of `Autodiff<Flex>`.
    Tracked(Tracked),
}

/// Whether kernels work for this backend, and with which settings.
pub(crate) fn kernels_for<B: Backend>() -> Option<Kernels> {
    let of = TypeId::of::<B>();
    if of != TypeId::of::<Flex>() && of != TypeId::of::<TrackedFlex>() {
        return None;
    }
    let kernels = Kernels::current();
    kernels.precision.is_some().then_some(kernels)
}

/// The tensor as a CPU tensor.
///
/// # Panics
/// When [`kernels_for`] does not know the backend, or the tensor is quantised.
pub(crate) fn open<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Cpu {
    let TensorPrimitive::Float(primitive) = tensor.into_primitive() else {
        panic!("feature maps are not quantised");
    };
    let primitive: Box<dyn Any> = Box::new(primitive);
    match primitive.downcast::<FlexTensor>() {
        Ok(plain) => Cpu::Plain(*plain),
        Err(other) => Cpu::Tracked(
            *other
                .downcast::<Tracked>()
                .expect("called for backends of kernels_for only"),
        ),
    }
}

/// Back to a tensor of the backend that it came from.
pub(crate) fn close<B: Backend, const D: usize>(tensor: Cpu) -> Tensor<B, D> {
    let boxed: Box<dyn Any> = match tensor {
        Cpu::Plain(plain) => Box::new(plain),
        Cpu::Tracked(tracked) => Box::new(tracked),
    };
    let primitive = boxed
        .downcast::<B::FloatTensorPrimitive>()
        .expect("of the backend it came from");
    Tensor::from_primitive(TensorPrimitive::Float(*primitive))
}

impl Cpu {
    /// The values, without their history.
    pub(crate) fn primitive(&self) -> &FlexTensor {
        match self {
            Self::Plain(plain) => plain,
            Self::Tracked(tracked) => &tracked.primitive,
        }
    }

    /// The values, without their history.
    pub(crate) fn into_primitive(self) -> FlexTensor {
        match self {
            Self::Plain(plain) => plain,
            Self::Tracked(tracked) => tracked.primitive,
        }
    }
}

/// Whether kernels can read it: they compute with 32-bit floats.
pub(crate) fn is_f32<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> bool {
    tensor.dtype() == DType::F32
}

/// A feature map that lies channels-last in memory.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    tensor: FlexTensor,
}

impl Map {
    /// Rearranges a tensor `[batch, channels, height, width]` where it does not lie so already.
    pub(crate) fn of(kernels: Kernels, tensor: FlexTensor) -> Self {
        if lies_channels_last(tensor.layout()) {
            return Self { tensor };
        }
        let tensor = contiguous(tensor);
        let [batch, channels, height, width] = dims(&tensor);
        let mut values = buffers::take(batch * channels * height * width);
        layout::to_channels_last(
            kernels.isa,
            slice(&tensor),
            size([batch, channels, height, width]),
            &mut values,
        );
        buffers::give_back(tensor);
        Self::new(values, [batch, channels, height, width])
    }

    /// `values` are `[batch, height, width, channels]`; `dims` is in the logical order.
    pub(crate) fn new(
        values: Vec<f32>,
        dims @ [batch, channels, height, width]: [usize; 4],
    ) -> Self {
        assert_eq!(
            values.len(),
            batch * channels * height * width,
            "feature map"
        );
        let strides = vec![
            (height * width * channels) as isize,
            1,
            (width * channels) as isize,
            channels as isize,
        ];
        let layout = Layout::new(Shape::from(dims.to_vec()), strides, 0);
        Self {
            tensor: FlexTensor::new(Bytes::from_elems(values), layout, DType::F32),
        }
    }

    /// `[batch, channels, height, width]`.
    pub(crate) fn dims(&self) -> [usize; 4] {
        dims(&self.tensor)
    }

    /// `[batch, height, width, channels]`.
    pub(crate) fn values(&self) -> &[f32] {
        slice(&self.tensor)
    }

    pub(crate) fn into_tensor(self) -> FlexTensor {
        self.tensor
    }

    /// Its memory may be used again, when nobody else reads it.
    pub(crate) fn give_back(self) {
        buffers::give_back(self.tensor);
    }
}

/// The values in the order of a contiguous layout or of a channels-last one.
fn slice(tensor: &FlexTensor) -> &[f32] {
    let layout = tensor.layout();
    &tensor.storage()[layout.start_offset()..][..layout.num_elements()]
}

/// The values in row-major order. Some images of a batch lie so already, and are not copied.
pub(crate) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.layout().is_contiguous() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// The values of a [`contiguous`] tensor.
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    debug_assert!(tensor.layout().is_contiguous());
    slice(tensor)
}

/// A row-major tensor.
pub(crate) fn tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    let layout = Layout::contiguous(Shape::from(shape.to_vec()));
    assert_eq!(values.len(), layout.num_elements(), "tensor shape");
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

/// Sizes of a tensor of four dimensions.
pub(crate) fn dims(tensor: &FlexTensor) -> [usize; 4] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1], shape[2], shape[3]]
}

/// Sizes as the kernels name them.
pub(crate) fn size([batch, channels, height, width]: [usize; 4]) -> Size {
    Size {
        batch,
        height,
        width,
        channels,
    }
}

fn lies_channels_last(layout: &Layout) -> bool {
    let shape = layout.shape();
    let (channels, height, width) = (shape[1], shape[2], shape[3]);
    let expected = [height * width * channels, 1, width * channels, channels];
    let strides = layout.strides().iter().zip(expected);
    // The stride of a dimension of one element is never used.
    strides
        .zip(0..4)
        .all(|((&stride, expected), axis)| shape[axis] == 1 || stride == expected as isize)
}

/// The map in row-major order `[batch, channels, height, width]`, which the backend's own
/// operations read fastest.
pub(crate) fn row_major<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let Some(kernels) = kernels_for::<B>().filter(|_| is_f32(&x)) else {
        return x;
    };
    match open(x) {
        Cpu::Plain(plain) if lies_channels_last(plain.layout()) => {
            close(Cpu::Plain(planes(kernels, plain)))
        }
        other => close(other),
    }
}

/// The values in row-major order: one plane after the other.
pub(crate) fn planes(kernels: Kernels, map: FlexTensor) -> FlexTensor {
    let layout = map.layout();
    if layout.is_contiguous() || !lies_channels_last(layout) {
        return map.to_contiguous();
    }
    let shape = dims(&map);
    let mut values = buffers::take(layout.num_elements());
    layout::to_channels_first(kernels.isa, slice(&map), size(shape), &mut values);
    buffers::give_back(map);
    tensor(values, &shape)
}
