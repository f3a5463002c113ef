import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.models import conv

WIDTHS = (16, 48)


def with_flax(params, images, normalisation):
    """The network again, of flax's own layers, with params that are not at their first values."""
    z = images
    for layer, (name, width) in enumerate(zip(("stem", "conv_1"), WIDTHS, strict=True)):
        stride = 2 if layer else 1
        convolution = flax.linen.Conv(width, (3, 3), stride, padding=1, use_bias=False)
        z = convolution.apply({"params": params[name]}, z)
        norm = {"params": params[f"{name}_norm"]}
        if normalisation == "none":
            z = z + params[f"{name}_norm"]["bias"][None, None, None]
        elif normalisation == "group":
            layer = flax.linen.GroupNorm(width // 16, epsilon=1e-5, use_fast_variance=False)
            z = layer.apply(norm, z)
        else:
            layer = flax.linen.BatchNorm(False, epsilon=1e-5, use_fast_variance=False)
            z, _ = layer.apply(norm, z, mutable="batch_stats")
        z = jax.nn.relu(z)
    return z.mean((1, 2)) @ params["readout"]["kernel"] + params["readout"]["bias"]


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("batch", "none")]


@pytest.mark.parametrize("normalisation", ["group", *OTHERS])
def test_apply_is_the_network_of_flax_layers(normalisation, key):
    model = conv.conv_net(WIDTHS, 3, normalisation=normalisation)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(4, 7, 6, 2))
    params = jax.jit(model.init)(key, images)
    moved = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape), params)
    expected = jax.jit(with_flax, static_argnums=2)(moved, images, normalisation)
    found = jax.jit(model.apply)(moved, images)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"widths": []}, "widths: got none"),
        ({"widths": [8, 0]}, "widths: got"),
        ({"widths": [8.0]}, "widths: got"),
        ({"outputs": 0}, "outputs: got"),
        ({"normalisation": "layer"}, "normalisation: got 'layer'; it is one of .*'batch'"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        conv.conv_net(**{"widths": [8], "outputs": 2} | arguments)


@pytest.mark.slow
@pytest.mark.parametrize("normalisation", ["group", "batch", "none"])
def test_lower_precision_agrees_with_float64(normalisation, key):
    model = conv.conv_net([32, 16], 3, normalisation=normalisation)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(8, 8, 8, 2)))
    params = jax.jit(model.init)(key, images)
    exact = np.asarray(jax.jit(model.apply)(params, images))

    def error(dtype):
        rounded = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        found = np.asarray(jax.jit(model.apply)(rounded, images), np.float64)
        return np.abs(found - exact).max() / np.abs(exact).max()

    # a dozen roundings along the way, of inputs, weights and signal
    assert 0 < error(jnp.float32) < 12 * jnp.finfo(jnp.float32).eps
    assert 0 < error(jnp.bfloat16) < 12 * float(jnp.finfo(jnp.bfloat16).eps)
