import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import hermite


def test_coefficients_of_a_numpy_activation_are_float64():
    series = hermite.coefficients(np.sin, 3, kinks=())
    assert series.dtype == np.float64
    np.testing.assert_allclose(series[1], np.exp(-0.5), rtol=1e-15)


@pytest.mark.parametrize("activation", [jnp.sin, jax.nn.relu, lambda z: z.astype(np.float16)])
def test_an_activation_of_few_digits_is_refused(activation):
    with pytest.raises(TypeError, match=r"activation: gave float(16|32).*jax_enable_x64"):
        hermite.coefficients(activation, 3)


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
