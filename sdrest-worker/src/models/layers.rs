//! torch.nn's plain layers, by their Python names, with the operators that `nn.Module.forward` calls.

use super::{
    error::ModelError,
    weights::{Parameter, Scope},
};
use tch::{Device, Tensor};

/// `torch.nn.Linear`.
#[derive(Debug)]
pub struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
}

impl Linear {
    pub fn load(scope: &Scope<'_>, inputs: i64, outputs: i64) -> Result<Self, ModelError> {
        let bias = Some(scope.parameter("bias", &[outputs])?);
        Ok(Self { weight: scope.parameter("weight", &[outputs, inputs])?, bias })
    }

    /// With `bias=False`.
    pub fn load_without_bias(
        scope: &Scope<'_>,
        inputs: i64,
        outputs: i64,
    ) -> Result<Self, ModelError> {
        Ok(Self { weight: scope.parameter("weight", &[outputs, inputs])?, bias: None })
    }

    pub fn forward(&self, input: &Tensor) -> Result<Tensor, ModelError> {
        Ok(input.f_linear(self.weight.tensor(), self.bias.as_ref().map(Parameter::tensor))?)
    }
}

/// The shape of a `torch.nn.Conv2d` with a square kernel.
#[derive(Clone, Copy, Debug)]
pub struct ConvShape {
    pub inputs: i64,
    pub outputs: i64,
    pub kernel: i64,
    pub stride: i64,
    pub padding: i64,
}

impl ConvShape {
    /// Stride 1, padded so that the picture keeps its size.
    pub fn same(inputs: i64, outputs: i64, kernel: i64) -> Self {
        Self { inputs, outputs, kernel, stride: 1, padding: (kernel - 1) / 2 }
    }
}

/// `torch.nn.Conv2d`.
#[derive(Debug)]
pub struct Conv2d {
    weight: Parameter,
    bias: Parameter,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    pub fn load(scope: &Scope<'_>, shape: ConvShape) -> Result<Self, ModelError> {
        let ConvShape { inputs, outputs, kernel, stride, padding } = shape;
        Ok(Self {
            weight: scope.parameter("weight", &[outputs, inputs, kernel, kernel])?,
            bias: scope.parameter("bias", &[outputs])?,
            stride,
            padding,
        })
    }

    pub fn forward(&self, input: &Tensor) -> Result<Tensor, ModelError> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        Ok(input.f_conv2d(
            self.weight.tensor(),
            Some(self.bias.tensor()),
            stride,
            padding,
            [1, 1],
            1,
        )?)
    }
}

/// `torch.nn.GroupNorm`.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Parameter,
    bias: Parameter,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    pub fn load(
        scope: &Scope<'_>,
        channels: i64,
        groups: i64,
        eps: f64,
    ) -> Result<Self, ModelError> {
        let (weight, bias) =
            (scope.parameter("weight", &[channels])?, scope.parameter("bias", &[channels])?);
        Ok(Self { weight, bias, groups, eps })
    }

    pub fn forward(&self, input: &Tensor) -> Result<Tensor, ModelError> {
        let (weight, bias) = (Some(self.weight.tensor()), Some(self.bias.tensor()));
        Ok(input.f_group_norm(self.groups, weight, bias, self.eps, true)?)
    }
}

/// `torch.nn.LayerNorm` over the last dimension.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Parameter,
    bias: Parameter,
    channels: i64,
    eps: f64,
}

impl LayerNorm {
    pub fn load(scope: &Scope<'_>, channels: i64, eps: f64) -> Result<Self, ModelError> {
        let (weight, bias) =
            (scope.parameter("weight", &[channels])?, scope.parameter("bias", &[channels])?);
        Ok(Self { weight, bias, channels, eps })
    }

    pub fn forward(&self, input: &Tensor) -> Result<Tensor, ModelError> {
        let (weight, bias) = (Some(self.weight.tensor()), Some(self.bias.tensor()));
        Ok(input.f_layer_norm([self.channels], weight, bias, self.eps, true)?)
    }
}

/// `torch.nn.Embedding`.
#[derive(Debug)]
pub struct Embedding {
    weight: Parameter,
}

impl Embedding {
    pub fn load(scope: &Scope<'_>, rows: i64, channels: i64) -> Result<Self, ModelError> {
        Ok(Self { weight: scope.parameter("weight", &[rows, channels])? })
    }

    pub fn device(&self) -> Device {
        self.weight.tensor().device()
    }

    /// `indices` must lie within the table; ATen refuses others.
    pub fn forward(&self, indices: &Tensor) -> Result<Tensor, ModelError> {
        Ok(Tensor::f_embedding(self.weight.tensor(), indices, -1, false, false)?)
    }
}

/// The activations that `get_activation` (diffusers) and `ACT2FN` (transformers) know by name and that
/// Stable Diffusion 1.x uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Silu,
    Gelu,
    QuickGelu,
    Relu,
    Mish,
}

impl Activation {
    /// `None` for a name that is not known here.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "silu" | "swish" => Self::Silu,
            "gelu" => Self::Gelu,
            "quick_gelu" => Self::QuickGelu,
            "relu" => Self::Relu,
            "mish" => Self::Mish,
            _ => return None,
        })
    }

    pub fn forward(self, input: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Silu => input.f_silu()?,
            Self::Gelu => input.f_gelu("none")?,
            Self::QuickGelu => input.f_mul(&input.f_mul_scalar(1.702)?.f_sigmoid()?)?,
            Self::Relu => input.f_relu()?,
            Self::Mish => input.f_mish()?,
        })
    }
}
