"""Finite-width corrections in float32: right, or an error that says what to do."""

import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import criticality, tangent_fluctuations


def test_fluctuations_in_float32_are_right_or_refused():
    """Var(Omega) of tanh at K = 1e-3 is 1e-6 of its mean's square: below what float32 resolves."""
    tanh = criticality.nonlinearity(jnp.tanh)
    found = tangent_fluctuations.tangent_fluctuations(tanh, 1.0, 0.0, 1.0, (8, 8))
    assert found.diagonal.dtype == jnp.float32
    np.testing.assert_allclose(found.diagonal[1], 0.16863813, rtol=1e-5)  # in float64
    with pytest.raises(TypeError, match="jax_enable_x64"):
        tangent_fluctuations.tangent_fluctuations(tanh, 1e-3, 0.0, 1.0, (8, 8))
