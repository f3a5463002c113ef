"""Small data sets in place of those that are downloaded."""

import numpy as np

from ntkens.data import Dataset, Examples


def images(shape: tuple[int, int, int], train: int = 40, test: int = 20) -> Dataset:
    """Noise of [height width channels], in ten classes that take turns."""
    rng = np.random.default_rng(0)

    def examples(count):
        pixels = (rng.integers(0, 256, (count, *shape)) / 255).astype(np.float32)
        return Examples(pixels, np.arange(count, dtype=np.int32) % 10)

    return Dataset(examples(train), examples(test))
