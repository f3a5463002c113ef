"""The two ends of a network of images: the door, where inputs are checked, and the readout."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jaxtyping import Array, Float, Key

from ntkens.models import Model
from ntkens.models.checks import check_floating

FLOATING = "images are floating point: for pixels of 0..255, inputs / 255"


class Readout(linen.Module):
    """The mean over positions, then an affine map: weights N(0, 1 / fan in), biases 0."""

    outputs: int

    @linen.compact
    def __call__(self, signal):
        """A signal [batch height width channels] to logits [batch outputs]."""
        channels, dtype = signal.shape[-1], signal.dtype
        normal = linen.initializers.variance_scaling(1.0, "fan_in", "normal", dtype=dtype)
        kernel = self.param("kernel", normal, (channels, self.outputs))
        bias = self.param("bias", linen.initializers.zeros, (1, self.outputs), dtype)
        # Summed in float32 at least: in bfloat16 a mean of 64 positions loses a digit of its two.
        mean = signal.mean((1, 2), dtype=jnp.promote_types(dtype, jnp.float32))
        return mean.astype(dtype) @ kernel + bias


def image_model(network: linen.Module) -> Model:
    """A `Model` of a module whose first convolution is called `stem`, with checks at its door.

    `init(key, inputs)` takes images [batch height width channels] or their `jax.ShapeDtypeStruct`;
    of them it uses shape and dtype, and the params have that dtype. `apply(params, inputs)` takes
    images of as many channels, of any height and width, in the dtype of the params or cast to it.

    Raises:
        ValueError: inputs that are not [batch height width channels], or of other channels.
        TypeError: inputs that are not floating point.
    """

    def init(key: Key[Array, ""], inputs: Float[Array, "batch height width channels"]) -> Any:
        _check_shape(inputs, "channels")
        check_floating(inputs, FLOATING)
        example = jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)
        return network.lazy_init(key, example)["params"]

    def apply(
        params: Any, inputs: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch outputs"]:
        kernel = params["stem"]["kernel"]
        _check_shape(inputs, kernel.shape[2])
        check_floating(inputs, FLOATING)
        result: Any = network.apply({"params": params}, jnp.asarray(inputs, kernel.dtype))
        return result

    return Model(init, apply)


def _check_shape(inputs, channels):
    shape = inputs.shape
    if len(shape) != 4 or 0 in shape[1:] or channels not in ("channels", shape[3]):
        raise ValueError(
            f"inputs: got shape {shape}; images are [batch, height, width, {channels}]: a last "
            "axis of 1 for grey ones, and a first of 1 for a single one"
        )
