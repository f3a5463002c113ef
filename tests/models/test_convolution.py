import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.models.convolution import Convolution, convolve


def by_hand(images, kernel, stride):
    """The formula in the docstring, one output position at a time."""
    images, kernel = np.asarray(images), np.asarray(kernel)
    (batch, height, width, _), (size, _, _, features) = images.shape, kernel.shape
    padded = np.pad(images, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    rows, columns = -(-height // stride), -(-width // stride)
    out = np.zeros((batch, rows, columns, features))
    for r in range(rows):
        for c in range(columns):
            top, left = stride * r, stride * c
            patch = padded[:, top : top + size, left : left + size]
            out[:, r, c] = np.einsum("bijk,ijkf->bf", patch, kernel)
    return out


def by_compiler(images, kernel, stride):
    padding = [(kernel.shape[0] // 2,) * 2] * 2
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


CASES = [
    ((2, 8, 8, 3), 3, 1),
    ((2, 7, 6, 2), 3, 2),
    ((1, 1, 1, 4), 3, 2),
    ((2, 5, 4, 3), 1, 2),
    ((2, 9, 5, 1), 5, 3),
]


@pytest.mark.parametrize(("shape", "size", "stride"), CASES)
def test_convolve_is_the_formula_and_the_compilers(shape, size, stride):
    rng = np.random.default_rng(0)
    images, kernel = rng.normal(size=shape), rng.normal(size=(size, size, shape[-1], 6))
    found, expected = jax.jit(lambda i, k: (convolve(i, k, stride), by_compiler(i, k, stride)))(
        images, kernel
    )
    np.testing.assert_allclose(found, by_hand(images, kernel, stride), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_gradients_are_the_compilers():
    rng = np.random.default_rng(0)
    images, kernel = rng.normal(size=(2, 7, 6, 2)), rng.normal(size=(3, 3, 2, 4))
    found, expected = (
        jax.jit(jax.grad(lambda i, k, f=f: jnp.sum(jnp.sin(f(i, k, 2))), (0, 1)))(images, kernel)
        for f in (convolve, by_compiler)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_patches_on_a_cpu_and_the_compilers_convolution_elsewhere():
    """Also where it matters: vmapped over kernels, differentiated, in a loop."""
    images, kernels = jnp.ones((2, 8, 8, 1)), jnp.ones((4, 3, 3, 1, 2))

    def train(kernel, images):
        def step(kernel, _):
            slope = jax.grad(lambda kernel: jnp.sum(convolve(images, kernel) ** 2))(kernel)
            return kernel - slope, None

        return jax.lax.scan(step, kernel, None, length=3)[0]

    traced = jax.jit(jax.vmap(train, (0, None))).trace(kernels, images)
    texts = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")}
    assert "stablehlo.convolution" not in texts["cpu"]
    assert "stablehlo.convolution" in texts["cuda"]
    compiled = traced.lower().compile().as_text()
    assert "conditional(" not in compiled  # chosen before it runs
    assert "dot(" in compiled


def test_weights_are_drawn_at_their_standard_deviation(key):
    layer = Convolution(64)
    kernel = jax.jit(layer.init)(key, jnp.zeros((1, 4, 4, 32)))["params"]["kernel"]
    assert kernel.shape == (3, 3, 32, 64)
    # a mean square of m normals has standard error sqrt(2 / m)
    error = np.sqrt(2 / kernel.size)
    assert abs(np.mean(np.asarray(kernel) ** 2) / (2 / (9 * 32)) - 1) < 5 * error
    assert abs(np.mean(kernel)) < 5 * np.sqrt(2 / (9 * 32) / kernel.size)
