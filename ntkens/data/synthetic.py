"""Data whose distribution is known, and noise for data whose distribution is not."""

import jax
from jaxtyping import Array, Float, Key


def noisy(
    key: Key[Array, ""], inputs: Float[Array, "n *shape"], sigma: float | Float[Array, ""]
) -> Float[Array, "n *shape"]:
    """Inputs with independent normal noise of standard deviation sigma added to every number.

    Nothing is clipped: pixels leave [0, 1], and the noise stays normal.
    """
    noise = jax.random.normal(key, inputs.shape, inputs.dtype)
    return inputs + jax.numpy.asarray(sigma, inputs.dtype) * noise
