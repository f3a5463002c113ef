import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from ntkens.data import offline


def test_digits_are_scikit_learns_split_at_random(key):
    data = offline.digits(key, test=400)
    assert data.train.inputs.shape == (1397, 8, 8, 1)
    assert data.test.labels.shape == (400,)
    inputs = np.concatenate([data.train.inputs, data.test.inputs]).reshape(-1, 64)
    labels = np.concatenate([data.train.labels, data.test.labels])
    images, digits = load_digits(return_X_y=True)
    ours, theirs = (
        sorted(map(tuple, np.column_stack(columns).tolist()))
        for columns in ((16 * inputs, labels), (images, digits))
    )
    assert ours == theirs
    assert inputs.dtype == np.float32


def test_another_key_is_another_split(key):
    first, second = (offline.digits(jax.random.key(seed)).test for seed in (0, 1))
    assert (first.labels != second.labels).any()


@pytest.mark.parametrize("test", [0, 1797])
def test_an_empty_side_is_refused(key, test):
    with pytest.raises(ValueError, match=f"test: got {test}"):
        offline.digits(key, test=test)
