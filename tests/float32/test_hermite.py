import jax
import jax.numpy as jnp
import numpy as np

from ntkens.kernels import hermite


def test_coefficients_are_computed_in_float64_all_the_same():
    for activation in (jnp.sin, jax.jit(jnp.sin), np.sin):
        series = hermite.coefficients(activation, 3, kinks=())
        assert series.dtype == np.float64
        np.testing.assert_allclose(series[1], np.exp(-0.5), rtol=1e-15)
    assert jnp.ones(()).dtype == jnp.float32  # and the setting is as it was


def test_dual_and_activation_are_float32_to_its_last_digits():
    wanted = np.array([0.1, 0.4, 0.3, 0.2])
    made = hermite.activation(wanted)
    rho = jnp.linspace(-1, 1, 21)
    one = jnp.ones_like(rho)
    exact = np.polyval(wanted[::-1], np.asarray(rho, np.float64))
    covariance = made.dual.covariance(one, one, rho)
    assert covariance.dtype == made.dual.cosine(rho).dtype == made.apply(rho).dtype == jnp.float32
    np.testing.assert_allclose(covariance, exact, atol=3e-7)
    np.testing.assert_allclose(made.dual.cosine(rho), exact, atol=3e-7)
