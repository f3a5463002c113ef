import jax
import numpy as np
import pytest
from sklearn import datasets, preprocessing

from ntkens.data import Dataset, Examples, offline


def test_digits_are_scikit_learns_split_at_random(key):
    data = offline.digits(key, test=400)
    assert data.train.inputs.shape == (1397, 8, 8, 1)
    assert data.test.labels.shape == (400,)
    inputs = np.concatenate([data.train.inputs, data.test.inputs]).reshape(-1, 64)
    labels = np.concatenate([data.train.labels, data.test.labels])
    images, digits = datasets.load_digits(return_X_y=True)
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


@pytest.mark.parametrize("name", ["wine", "iris", "breast_cancer"])
def test_tables_are_scikit_learns_split_at_random(key, name):
    data = getattr(offline, name)(key, test=40)
    assert data.test.inputs.shape[0] == 40
    features, classes = getattr(datasets, f"load_{name}")(return_X_y=True)
    assert data.train.inputs.dtype == np.float32
    assert data.train.labels.dtype == np.int32
    ours, theirs = (
        sorted(map(tuple, np.column_stack(columns).tolist()))
        for columns in (
            (np.concatenate([side.inputs for side in data]),
             np.concatenate([side.labels for side in data])),
            (features.astype(np.float32), classes),
        )
    )  # fmt: skip
    assert ours == theirs
    with pytest.raises(ValueError, match="test: got 0"):
        getattr(offline, name)(key, test=0)


def test_standardising_is_scikit_learns_fitted_to_the_training_side(key):
    data = offline.wine(key)
    found = offline.standardise(data)
    scaler = preprocessing.StandardScaler().fit(data.train.inputs.astype(float))
    for before, after in zip(data, found, strict=True):
        assert after.inputs.dtype == np.float32
        # The ends are rounded to float32; their values are a few units.
        np.testing.assert_allclose(after.inputs, scaler.transform(before.inputs), atol=1e-6)
        np.testing.assert_array_equal(after.labels, before.labels)


def test_channels_share_their_pixels_statistics():
    rng = np.random.default_rng(0)
    inputs = (rng.normal(size=(20, 3, 4, 2)) * [1, 5] + [2, -1]).astype(np.float32)
    labels = np.zeros(20, int)
    data = Dataset(Examples(inputs[:15], labels[:15]), Examples(inputs[15:], labels[15:]))
    found = offline.standardise(data, by_channel=True)
    scaler = preprocessing.StandardScaler().fit(data.train.inputs.reshape(-1, 2).astype(float))
    for before, after in zip(data, found, strict=True):
        expected = scaler.transform(before.inputs.reshape(-1, 2)).reshape(before.inputs.shape)
        np.testing.assert_allclose(after.inputs, expected, atol=1e-6)


def test_a_constant_feature_is_only_shifted():
    """0.1 + 0.1 + ... rounds: the computed deviation of the first feature is not 0."""
    inputs = np.column_stack([np.full(10, 0.1), np.arange(10.0)])
    assert inputs.std(axis=0)[0] > 0
    labels = np.zeros(10, int)
    found = offline.standardise(
        Dataset(Examples(inputs, labels), Examples(inputs[:1] + 2, labels[:1]))
    )
    np.testing.assert_allclose(found.train.inputs[:, 0], 0, atol=1e-15)
    np.testing.assert_allclose(found.test.inputs[0, 0], 2, rtol=1e-15)


def test_integers_cannot_hold_what_is_standardised():
    pixels = Examples(np.zeros((3, 2), np.uint8), np.zeros(3, int))
    with pytest.raises(TypeError, match="data: got inputs of uint8"):
        offline.standardise(Dataset(pixels, pixels))
