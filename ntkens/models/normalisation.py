"""Normalisation that keeps a network a pure function of its params and inputs.

Channels c of a signal z, standardised and then scaled and shifted by params of their own:

    y = scale_c (z - mean) / sqrt(variance + 1e-5) + bias_c

    "group"  mean and variance of one example: of all its positions, and of a group of channels.
             Groups are as many equal ones as can be of 16 channels or more (arXiv:1803.08494,
             whose 16 channels a group differ little from its 32 groups).
    "batch"  of one channel: of all positions of all examples in the batch (arXiv:1502.03167).
    "none"   y = z + bias_c

Group norm is the default: what a network says of an example depends on no other example, whatever
the batch, and so evaluation needs no second mode.

"batch" is batch normalisation with the statistics of the current batch, in training and evaluation
alike. The published one keeps running averages during training and evaluates with those, which are
state that an `apply` of params and inputs has no room for. Training steps are the same; the
outputs of evaluation depend on the batch an example comes in. Evaluate in large, shuffled batches
of one size: a batch of one class, or of one example, is another network.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen
from jaxtyping import Array, Float

Normalisation = Literal["group", "batch", "none"]

CHANNELS = 16  # of a group, or more
EPSILON = 1e-5


def standardise(
    signal: Float[Array, "batch height width channels"], normalisation: Normalisation
) -> Float[Array, "batch height width channels"]:
    """(z - mean) / sqrt(variance + 1e-5) of a group or of the batch, in float32 at least."""
    channels = signal.shape[-1]
    if normalisation == "batch":
        groups, axes = channels, (0, 1, 2, 4)
    else:
        most = max(1, channels // CHANNELS)
        groups = max(count for count in range(1, most + 1) if channels % count == 0)
        axes = (1, 2, 4)
    z = signal.astype(jnp.promote_types(signal.dtype, jnp.float32))
    z = z.reshape(*signal.shape[:-1], groups, channels // groups)
    z = z - z.mean(axes, keepdims=True)
    z = z * jax.lax.rsqrt((z**2).mean(axes, keepdims=True) + EPSILON)
    return z.reshape(signal.shape).astype(signal.dtype)


class Normalise(linen.Module):
    """A layer `standardise` with a scale, from 1, and a bias, from 0, for each channel."""

    normalisation: Normalisation

    @linen.compact
    def __call__(self, signal):
        """A signal [batch height width channels], to the same."""
        shape, dtype = (signal.shape[-1],), signal.dtype
        bias = self.param("bias", linen.initializers.zeros, shape, dtype)
        if self.normalisation == "none":
            return signal + bias[None, None, None]
        scale = self.param("scale", linen.initializers.ones, shape, dtype)
        standard = standardise(signal, self.normalisation)
        return standard * scale[None, None, None] + bias[None, None, None]
