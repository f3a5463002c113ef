"""A fully connected network of finite width, in a named parametrisation.

With z^0 = x of fan in d, every affine map l has fan in n_l, and z^l = activation(h^l):

    "ntk"         h = (w_std / sqrt(n_l)) W z + b_std b               W, b ~ N(0, 1)
    "standard"    h = W z + b            W ~ N(0, w_std^2 / n_l),  b ~ N(0, b_std^2)
    "mean_field"  as "ntk", but the readout is h = (w_std / n_l) W z + b_std b

They are one network in three coordinates up to the readout's scale, and gradient descent tells them
apart. At width n: in "ntk" outputs and tangent kernel are O(1), and the limit is the NTK
(arXiv:1806.07572). In "standard" outputs are O(1), the tangent kernel grows as n and is the NNGP
kernel times n (w_std = 1) to leading order: the readout does the learning, and a stable learning
rate falls as 1/n. In "mean_field" outputs fall as n^-1/2 and the tangent kernel as 1/n: with a
learning rate that grows as n, features move at any width (arXiv:1804.06561).
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jaxtyping import Array, Float, Int, Key

from ntkens.checks import is_concrete
from ntkens.models import Model
from ntkens.models.checks import check_floating, check_option, check_sizes

Parametrisation = Literal["ntk", "standard", "mean_field"]
Inputs = Float[Array, "batch features"] | Int[Array, " batch"] | range


def mlp(
    widths: Sequence[int],
    outputs: int,
    *,
    activation: Callable[[Array], Array] = jax.nn.relu,
    parametrisation: Parametrisation = "ntk",
    w_std: float = 1.0,
    b_std: float | None = None,
) -> Model:
    """A network of `len(widths)` hidden layers; the formulas are at the head of the module.

    `init(key, inputs)` takes floating inputs [batch features], or their `jax.ShapeDtypeStruct`; of
    them it uses the number of features and the dtype. The params are
    `{"hidden_0": {"kernel", "bias"}, ..., "readout": ...}`. Hidden kernels are [fan in, width] and
    the readout's is [outputs, width]: the wide axis is the contiguous one in both, which on a CPU
    halves the time of a training step of a two-layer network.

    `apply(params, inputs)` takes inputs [batch features], in the dtype of the params or cast to it;
    or integers [batch], which stand for the one-hot vectors e_i: the first layer then gathers rows
    of its kernel and multiplies nothing. A `range` is the same where it is known before tracing,
    and the gather is a slice: `range(features)` is every one-hot input in order, at no cost in
    either direction.

    Products have JAX's default precision, which on a GPU is TF32's three digits: for more, call
    within `jax.default_matmul_precision("highest")`.

    Args:
        widths: of the hidden layers; empty is a linear model.
        outputs: how many.
        activation: elementwise, of an array.
        parametrisation: "ntk", "standard" or "mean_field".
        w_std: standard deviation of the weights, before the fan in.
        b_std: of the biases. `None`: no biases. 0.0 in "standard": biases that start at zero and
            are trained; in the other two they could never move, and it is the same as `None`.

    Raises:
        ValueError: an unknown parametrisation; a width, outputs or standard deviation out of range;
            inputs of the wrong shape, or one-hot indices outside the features. Under a trace the
            outputs of such an index are NaN instead.
        TypeError: widths that are no sequence; inputs that are not floating point, nor to `apply`
            integers.
    """
    check_option("parametrisation", parametrisation, get_args(Parametrisation))
    if np.ndim(widths) != 1:
        raise TypeError(f"widths: got {widths!r}; want one number a hidden layer, [512] for one")
    check_sizes("widths", *widths)
    check_sizes("outputs", outputs)
    if not 0 < w_std < np.inf:
        raise ValueError(f"w_std: got {w_std}; weights have a finite standard deviation above 0")
    if b_std is not None and not 0 <= b_std < np.inf:
        raise ValueError(f"b_std: got {b_std}; it is finite and >= 0, or None for no biases")

    def network(features, dtype):
        sizes = tuple(widths)
        return _Network(features, sizes, outputs, activation, parametrisation, w_std, b_std, dtype)

    def init(key: Key[Array, ""], inputs: Float[Array, "batch features"]) -> Any:
        check_floating(
            inputs,
            "init takes the shape and dtype of floating inputs [batch features], for one-hot "
            "inputs those of jnp.eye(features)",
        )
        if len(inputs.shape) != 2 or not inputs.shape[1]:
            raise ValueError(
                f"inputs: got shape {inputs.shape}; they are [batch features], one feature or more"
            )
        example = jnp.zeros((1, inputs.shape[1]), inputs.dtype)
        return network(inputs.shape[1], inputs.dtype).init(key, example)["params"]

    def apply(params: Any, inputs: Inputs) -> Float[Array, "batch outputs"]:
        kernel = params["hidden_0"]["kernel"] if widths else params["readout"]["kernel"].T
        features = kernel.shape[0]
        _check_inputs(inputs, features)
        if not isinstance(inputs, range) and jnp.issubdtype(inputs.dtype, jnp.floating):
            inputs = jnp.asarray(inputs, kernel.dtype)
        result: Any = network(features, kernel.dtype).apply({"params": params}, inputs)
        return result

    return Model(init, apply)


class _Network(linen.Module):
    features: int
    widths: tuple[int, ...]
    outputs: int
    activation: Callable[[Array], Array]
    parametrisation: Parametrisation
    w_std: float
    b_std: float | None
    dtype: Any

    @linen.compact
    def __call__(self, inputs):
        z, fan_in = inputs, self.features
        for layer, width in enumerate(self.widths):
            z = self.activation(self._affine(f"hidden_{layer}", z, fan_in, width))
            fan_in = width
        return self._affine("readout", z, fan_in, self.outputs)

    def _affine(self, name, z, fan_in, features):
        readout = name == "readout"
        averages = readout and self.parametrisation == "mean_field"
        weight, bias = self.w_std / (fan_in if averages else fan_in**0.5), self.b_std or 0.0
        if self.parametrisation == "standard":
            scales, stds, has_bias = (1.0, 1.0), (weight, bias), self.b_std is not None
        else:
            scales, stds, has_bias = (weight, bias), (1.0, 1.0), bias > 0
        return _Affine(readout, fan_in, features, scales, stds, has_bias, self.dtype, name=name)(z)


class _Affine(linen.Module):
    readout: bool
    fan_in: int
    features: int
    scales: tuple[float, float]  # of the kernel and the bias, in the formula
    stds: tuple[float, float]  # of the kernel and the bias, when drawn
    has_bias: bool
    dtype: Any

    @linen.compact
    def __call__(self, z):
        shape = (self.fan_in, self.features)
        kernel = self._normal("kernel", self.stds[0], shape[::-1] if self.readout else shape)
        # The product is scaled, not the kernel: backwards, it is the small residual that is.
        h = _product(z, kernel.T if self.readout else kernel) * self.scales[0]
        if self.has_bias:
            h = h + self.scales[1] * self._normal("bias", self.stds[1], (1, self.features))
        return h

    def _normal(self, name, std, shape):
        return self.param(name, linen.initializers.normal(std, self.dtype), shape)


def _product(z: Inputs, kernel: Float[Array, "features width"]) -> Float[Array, "batch width"]:
    if isinstance(z, range):
        return kernel[z.start : z.stop]
    if jnp.issubdtype(z.dtype, jnp.integer):
        # An index out of range is NaN: to clamp or to wrap it would be another input's output.
        return kernel.at[z].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    return z @ kernel


def _check_inputs(inputs, features):
    if isinstance(inputs, range):
        if inputs.step != 1 or not 0 <= inputs.start < inputs.stop <= features:
            raise ValueError(
                f"inputs: got {inputs}; one-hot inputs are a range of step 1 within {features}"
            )
    elif jnp.issubdtype(inputs.dtype, jnp.integer):
        if inputs.ndim != 1:
            raise ValueError(f"inputs: got integers {inputs.shape}; one-hot indices are [batch]")
        if (
            is_concrete(inputs)
            and not ((np.asarray(inputs) >= 0) & (np.asarray(inputs) < features)).all()
        ):
            raise ValueError(f"inputs: got an index outside 0..{features - 1}, the one-hot inputs")
    else:
        check_floating(inputs, "apply takes floating inputs, or one-hot indices as integers")
        if inputs.ndim != 2 or inputs.shape[1] != features:
            raise ValueError(
                f"inputs: got shape {inputs.shape}; these params take [batch, {features}], or "
                "one-hot indices as integers [batch]"
            )
