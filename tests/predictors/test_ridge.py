"""Ridge paths against scikit-learn, and what held-out examples choose."""

import jax
import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from ntkens.predictors import ridge

RIDGES = np.array([1e-3, 0.1, 10.0])


@pytest.fixture(scope="module")
def problem():
    """A noisy line and pure noise, in random features."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 8))
    kernel = np.exp(-((inputs[:, None] - inputs) ** 2).sum(-1) / 16)
    line = 3 * inputs[:, 0]
    return kernel, np.stack([line + 0.1 * rng.normal(size=60), rng.normal(size=60)], axis=1)


def test_a_path_is_scikit_learns(problem):
    kernel, targets = problem
    found = ridge.path(kernel[:40, :40], kernel[40:, :40], targets[:40], RIDGES)
    for each, predicted in zip(RIDGES, found, strict=True):
        theirs = KernelRidge(alpha=each, kernel="precomputed").fit(kernel[:40, :40], targets[:40])
        np.testing.assert_allclose(predicted, theirs.predict(kernel[40:, :40]), rtol=1e-9)
    single = jax.eval_shape(ridge.path, kernel[:40, :40], kernel[40:, :40], targets[:40, 0], RIDGES)
    assert single.shape == (3, 20)


def test_each_output_has_its_ridge(problem):
    kernel, targets = problem
    choice = ridge.hold_out(kernel, targets, RIDGES, 20)
    path = np.asarray(ridge.path(kernel[:40, :40], kernel[40:, :40], targets[:40], RIDGES))
    np.testing.assert_allclose(choice.errors, ((path - targets[40:]) ** 2).mean(axis=1))
    np.testing.assert_array_equal(choice.index, np.argmin(choice.errors, axis=0))
    assert choice.index[0] < choice.index[1] == 2  # a signal wants little, noise the most
    traced = jax.jit(lambda *arrays: ridge.hold_out(*arrays, validation=20))
    np.testing.assert_array_equal(traced(kernel, targets, RIDGES).index, choice.index)


def test_a_singular_kernel_is_never_chosen(problem):
    _, targets = problem
    kernel = np.ones((60, 60))
    choice = ridge.hold_out(kernel, targets, (0.0, 1.0, 10.0), 20)
    assert np.isnan(choice.errors[0]).all()
    assert np.all(choice.index >= 1)


def test_a_pivot_that_is_rounding_is_no_answer():
    """Cholesky's factorisation succeeds, with a pivot of half of what rounding leaves."""
    kernel = np.diag([1.0, 5 * np.finfo(float).eps])
    found = ridge.path(kernel, np.eye(2), np.ones(2), (0.0, 1.0))
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], [0.5, 1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation": 0}, "validation: got 0"),
        ({"validation": 60}, "validation: got 60; .* below the 60 examples"),
        ({"ridges": (-1.0,)}, r"ridges: got \[-1\.\]"),
        ({"ridges": ()}, r"ridges: got shape \(0,\)"),
        ({"ridges": 0.1}, r"ridges: got shape \(\)"),
        ({"ridges": (np.nan,)}, "ridges: holds NaN"),
        ({"targets": np.ones(59)}, "targets: got shape"),
        ({"kernel": np.triu(np.ones((60, 60)))}, "kernel: not symmetric"),
    ],
)
def test_what_cannot_be_fitted_is_refused(problem, change, message):
    kernel, targets = problem
    arguments = {"kernel": kernel, "targets": targets, "ridges": RIDGES, "validation": 20}
    with pytest.raises(ValueError, match=message):
        ridge.hold_out(**(arguments | change))
