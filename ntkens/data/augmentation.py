"""Training images as they might also have been: a function of a key, for `training.fit.epochs`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def flip_and_crop(
    key: Key[Array, ""], images: Float[Array, "batch height width channels"], *, margin: int = 4
) -> Float[Array, "batch height width channels"]:
    """Each image mirrored with probability 1/2, padded with zeros, and cut to its size anywhere.

    What residual networks learn CIFAR from (arXiv:1512.03385, Section 4.2).

    Args:
        key: of the batch; every image is moved by itself.
        images: rows, columns and channels last.
        margin: pixels of padding on each side, by which an image moves at most.

    Raises:
        ValueError: what is not a batch of images, or a margin below 0.
    """
    if images.ndim != 4:
        raise ValueError(f"images: got shape {images.shape}; want [batch height width channels]")
    if margin < 0:
        raise ValueError(f"margin: got {margin}; it is a number of pixels, at least 0")
    flip_key, crop_key = jax.random.split(key)
    flips = jax.random.bernoulli(flip_key, 0.5, (len(images), 1, 1, 1))
    sides = (margin, margin)
    padded = jnp.pad(jnp.where(flips, images[:, :, ::-1], images), ((0, 0), sides, sides, (0, 0)))
    corners = jax.random.randint(crop_key, (len(images), 2), 0, 2 * margin + 1)

    def cut(image, corner):
        return jax.lax.dynamic_slice(image, (*corner, 0), images.shape[1:])

    return jax.vmap(cut)(padded, corners)
