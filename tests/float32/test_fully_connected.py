"""The recursion in float32 against the same inputs in 40 digits, and at the ends of its range."""

import numpy as np
import pytest

from ntkens.kernels import dual, fully_connected
from tests import oracles

DUALS = {
    "relu": dual.relu(),
    "leaky_relu": dual.leaky_relu(0.25),
    "abs": dual.abs(),
    "linear": dual.linear(),
    "erf": dual.erf(),
    "sin": dual.sin(),
    "gelu": dual.gelu(),
}


def near_pairs(width):
    """A point, its double, a stranger; points 0.1 ... 1e-8 and 0 away, and their opposites."""
    random = np.random.default_rng(0)
    point = random.normal(size=width)
    rows = [point, 2 * point, random.normal(size=width)]
    for distance in (*10.0 ** -np.arange(1, 9), 0):
        step = random.normal(size=width)
        rows.append(point + distance * np.linalg.norm(point) * step / np.linalg.norm(step))
        rows.append(-rows[-1])
    return np.asarray(rows, np.float32)


@pytest.mark.parametrize("name", DUALS)
@pytest.mark.parametrize(
    ("depth", "b_std", "width"), [(1, 0.0, 3), (2, 0.3, 784), (5, 0.0, 784), (5, 0.3, 3)]
)
def test_near_duplicates_err_by_few_units_of_rounding(name, depth, b_std, width):
    x = near_pairs(width)
    kernel_fn = fully_connected.kernel_fn(DUALS[name], depth, 1.2, b_std)
    kernels = [np.asarray(kernel) for kernel in (kernel_fn(x), kernel_fn(x, x.copy()))]
    exact = {
        (i, j): np.array(oracles.fully_connected(name, x[i], x[j], depth, 1.2, b_std), float)
        for i in range(len(x))
        for j in {0, i, i // 2}
    }
    for i, j in exact:
        tolerance = 1e-6 * np.sqrt(exact[i, i] * exact[j, j])
        for kernel in kernels:
            error = kernel[:, i, j] - exact[i, j]
            assert (np.abs(error) <= tolerance).all(), (i, j)
    assert kernels[0].dtype == np.float32


@pytest.mark.parametrize(
    ("degree", "depth", "b_std", "width"),
    [(degree, *rest) for degree in (2, 3) for rest in [(1, 0.0, 3), (2, 0.3, 784), (3, 0.3, 5)]],
)
def test_monomials_err_by_what_their_layers_make_of_rounding(degree, depth, b_std, width):
    """A relative error of a variance grows by the degree in every layer, whoever computes it."""
    x = near_pairs(width)
    it = dual.normalised(dual.monomial(degree))
    kernel = np.asarray(fully_connected.kernel_fn(it, depth, 1.0, b_std)(x))
    diagonal = np.sqrt(np.diagonal(kernel, axis1=1, axis2=2))
    for i in range(len(x)):
        for j in {0, i, i // 2}:
            exact = oracles.fully_connected(f"normalised_{degree}", x[i], x[j], depth, 1.0, b_std)
            error = np.abs(kernel[:, i, j] - np.array(exact, float))
            # of the two variances and the covariance
            rounding = 3 * degree**depth * np.finfo(np.float32).eps
            assert (error <= rounding * diagonal[:, i] * diagonal[:, j]).all(), (i, j)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e9, 1e18])
def test_a_kink_is_homogeneous_wherever_its_kernel_is_in_range(scale):
    x = near_pairs(5)
    kernel_fn = fully_connected.kernel_fn(dual.relu(), 2)
    for got, one in zip(kernel_fn(x * np.float32(scale)), kernel_fn(x), strict=True):
        np.testing.assert_allclose(got / np.float32(scale) / np.float32(scale), one, rtol=3e-6)


def test_eighty_layers_that_halve_the_variance():
    """2^-80 is in range, its square is not."""
    x = near_pairs(5)[:4]
    kernel = fully_connected.kernel_fn(dual.relu(), 80)(x)
    for i, j in np.ndindex(4, 4):
        exact = oracles.fully_connected("relu", x[i], x[j], 80, 1.0, 0.0)
        got = (kernel.nngp[i, j], kernel.ntk[i, j])
        # a variance that is rounded in each of 80 layers is known to sqrt(80) to 80 units
        np.testing.assert_allclose(got, [float(value) for value in exact], rtol=80 * 6e-8)


@pytest.mark.parametrize("scale", [1e4, 1e9, 1e15])
def test_activations_that_saturate_at_large_inputs(scale):
    x = np.float32(scale) * near_pairs(5)[:3]
    for name in ("erf", "gelu", "sin"):
        kernel = fully_connected.kernel_fn(DUALS[name], 1)(x)
        for i, j in np.ndindex(3, 3):
            nngp, ntk = oracles.fully_connected(name, x[i], x[j], 1, 1.0, 0.0)
            np.testing.assert_allclose(kernel.nngp[i, j], float(nngp), rtol=2e-6, atol=1e-30)
            np.testing.assert_allclose(kernel.ntk[i, j], float(ntk), rtol=2e-6, atol=1e-30)


def test_inputs_whose_squares_overflow_are_named():
    with pytest.raises(ValueError, match=r"x1: holds numbers above .*overflow float32"):
        fully_connected.kernel_fn(dual.erf(), 1)(np.full((2, 3), 1e30, np.float32))
