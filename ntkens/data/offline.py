"""Data sets that scikit-learn carries, and that need no network."""

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

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
    return _split(key, images.reshape(-1, 8, 8, 1) / 16, labels, test)


def wine(key: Key[Array, ""], *, test: int = 60) -> Dataset:
    """178 wines by 13 chemical measurements, from three cultivars, split at random.

    The UCI collection by Aeberhard and Forina, 1992. Inputs are [n 13] float32 in the units they
    were measured in, of scales from 0.1 to 1000: see `standardise`. Arguments and errors as for
    `digits`.
    """
    from sklearn.datasets import load_wine

    inputs, labels = load_wine(return_X_y=True)
    return _split(key, inputs, labels, test)


def iris(key: Key[Array, ""], *, test: int = 50) -> Dataset:
    """150 irises of three species by four lengths in cm, split at random.

    Fisher, 1936. Inputs are [n 4] float32; see `standardise`. Arguments and errors as for `digits`.
    """
    from sklearn.datasets import load_iris

    inputs, labels = load_iris(return_X_y=True)
    return _split(key, inputs, labels, test)


def breast_cancer(key: Key[Array, ""], *, test: int = 169) -> Dataset:
    """569 tumours by 30 measurements of their cell nuclei, split at random.

    The UCI collection by Wolberg, Mangasarian, Street and Street, 1993. Label 0 is malignant, 1
    benign. Inputs are [n 30] float32 in the units they were measured in, of scales from 0.001 to
    1000: see `standardise`. Arguments and errors as for `digits`.
    """
    from sklearn.datasets import load_breast_cancer

    inputs, labels = load_breast_cancer(return_X_y=True)
    return _split(key, inputs, labels, test)


def standardise(data: Dataset, *, by_channel: bool = False) -> Dataset:
    """Every feature with mean 0 and standard deviation 1 over the training examples.

    (x - mean) / deviation on both sides, with the statistics of the training side alone, so that
    nothing is learnt from the test inputs. A feature that is constant in training is only shifted.

    Args:
        data: both sides.
        by_channel: one mean and deviation for all pixels of a channel, the last axis.

    Raises:
        TypeError: inputs that are not floats, and could not hold the result.
    """
    if not np.issubdtype(data.train.inputs.dtype, np.floating):
        raise TypeError(f"data: got inputs of {data.train.inputs.dtype}; wants floats")
    inputs = data.train.inputs
    axes = tuple(range(inputs.ndim - 1)) if by_channel else 0
    mean, deviation = (
        function(inputs, axis=axes, keepdims=True, dtype=np.float64)
        for function in (np.mean, np.std)
    )
    # By comparison, as the deviation of equal numbers may round to something other than 0.
    low, high = (function(inputs, axis=axes, keepdims=True) for function in (np.min, np.max))
    deviation = np.where(low == high, 1, deviation)

    def scaled(examples):
        values = (examples.inputs - mean) / deviation
        return Examples(values.astype(examples.inputs.dtype), examples.labels)

    return Dataset(scaled(data.train), scaled(data.test))


def _split(
    key: Key[Array, ""],
    inputs: Float[np.ndarray, "n *shape"],
    labels: Int[np.ndarray, " n"],
    test: int,
) -> Dataset:
    """The examples in an order drawn from the key, the last `test` of them held back."""
    if not 0 < test < len(inputs):
        raise ValueError(f"test: got {test}; wants 1 to {len(inputs) - 1} of the {len(inputs)}")
    order = np.asarray(jax.random.permutation(key, len(inputs)))
    inputs, labels = inputs.astype(np.float32)[order], labels.astype(np.int32)[order]
    split = len(inputs) - test
    return Dataset(
        Examples(inputs[:split], labels[:split]), Examples(inputs[split:], labels[split:])
    )
