"""Data sets as arrays.

`offline` has those of scikit-learn, `tfds` images through tensorflow-datasets, `synthetic` a known
distribution; each returns a `Dataset`. `batches` says which of its rows a member learns from.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Examples(NamedTuple):
    """Inputs with their labels.

    Attributes:
        inputs: one row each; images are [n height width channels], pixels in [0, 1].
        labels: the classes, 0, 1, ...
    """

    inputs: Float[np.ndarray, "n *shape"]
    labels: Int[np.ndarray, " n"]


class Dataset(NamedTuple):
    """What a predictor learns from, and what it is tested on.

    Attributes:
        train: the training examples.
        test: the test examples.
    """

    train: Examples
    test: Examples
