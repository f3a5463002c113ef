"""Data sets that scikit-learn carries, and that need no network."""

import jax
import numpy as np
from jaxtyping import Array, Key

from ntkens.data import Dataset, Examples


def digits(key: Key[Array, ""], *, test: int = 500) -> Dataset:
    """1797 handwritten digits of 8 x 8 pixels in ten classes, split at random.

    The test set of the UCI collection by Alpaydin and Kaynak, 1998. Inputs are [n 8 8 1] float32 in
    [0, 1], in steps of 1/16.

    Args:
        key: of the split.
        test: how many examples are held back; the others are for training.

    Raises:
        ValueError: test leaves no example on one of the sides.
        ModuleNotFoundError: scikit-learn is not installed.
    """
    from sklearn.datasets import load_digits  # an extra of this package

    images, labels = load_digits(return_X_y=True)
    if not 0 < test < len(images):
        raise ValueError(f"test: got {test}; wants 1 to {len(images) - 1} of the {len(images)}")
    order = np.asarray(jax.random.permutation(key, len(images)))
    inputs = (images.reshape(-1, 8, 8, 1) / 16).astype(np.float32)[order]
    labels = labels.astype(np.int32)[order]
    split = len(images) - test
    return Dataset(
        Examples(inputs[:split], labels[:split]), Examples(inputs[split:], labels[split:])
    )
