import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import deep, dual, hermite, infinite_depth


def test_kinds_and_exponents_in_float32():
    for made, kind in (
        (dual.relu(), "majority"),
        (dual.abs(), "majority"),
        (dual.linear(), "linear"),
        (hermite.dual([0, 0, 1.0]), "nearest_neighbour"),
    ):
        assert infinite_depth.limit(made).kind == kind
    for dimension in (1, 2, 8):
        limit = infinite_depth.limit(hermite.optimal_activation(dimension).dual)
        assert limit.kind == "singular"
        np.testing.assert_allclose(limit.exponent, dimension, rtol=1e-5)
    np.testing.assert_allclose(infinite_depth.limit(dual.erf()).exponent, 0.8882147, rtol=1e-5)


def test_deep_kernels_want_float64():
    with pytest.raises(TypeError, match=r"deep.iterate: float32 .*jax_enable_x64"):
        deep.iterate(dual.relu(), 3, jnp.ones(2))
    with pytest.raises(TypeError, match=r"deep.kernel_fn: float32 .*jax_enable_x64"):
        deep.kernel_fn(dual.relu(), 3)(jnp.eye(2))
