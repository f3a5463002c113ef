"""Images through tensorflow-datasets: MNIST and CIFAR-10."""

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ntkens.data import Dataset, Examples

Name = Literal["mnist", "cifar10"]


def load(name: Name, directory: str | Path | None = None) -> Dataset:
    """A prepared data set, with the split its authors gave it.

    Inputs are float32 in [0, 1], [n 28 28 1] for MNIST and [n 32 32 3] for CIFAR-10. Nothing is
    downloaded. TensorFlow only reads the files, and is imported by the first call.

    Args:
        name: "mnist" or "cifar10".
        directory: where tensorflow-datasets keeps its files; None for its own default.

    Raises:
        ValueError: a name that is neither.
        FileNotFoundError: the data set is not prepared there; the message says how to.
    """
    if name not in get_args(Name):
        raise ValueError(f"name: got {name!r}; wants one of {get_args(Name)}")
    import tensorflow_datasets as tfds  # seconds, and hundreds of megabytes

    try:
        builder = tfds.builder(name, data_dir=directory)
        whole = builder.as_dataset(batch_size=-1)
    except (AssertionError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f"{name}: not prepared in {directory or 'its default folder'}; with a network, once: "
            f"python -c \"import tensorflow_datasets as tfds; tfds.builder('{name}', "
            f'data_dir={str(directory) if directory else None!r}).download_and_prepare()"'
        ) from error
    arrays: Any = tfds.as_numpy(whole)
    return Dataset(*(_examples(split) for split in (arrays["train"], arrays["test"])))


def _examples(split) -> Examples:
    return Examples(
        np.asarray(split["image"], np.float32) / np.float32(255),
        np.asarray(split["label"], np.int32),
    )
