"""What holds of every model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens import tree
from ntkens.models import conv, mlp, resnet, wide_resnet
from ntkens.training import members

IMAGES = (4, 6, 6, 1)
MODELS = {
    "mlp": (mlp.mlp([6, 5], 3, b_std=0.1), (4, 7)),
    "conv_net": (conv.conv_net([16, 8], 3), IMAGES),
    "conv_net_batch": (conv.conv_net([16, 8], 3, normalisation="batch"), IMAGES),
    # of each residual kind the smallest: the published ones compile for half a minute
    "resnet_projected": (resnet.resnet([4, 8], 1, 3, projects=True), IMAGES),
    "resnet_batch": (resnet.resnet([4, 8], 1, 3, projects=False, normalisation="batch"), IMAGES),
    "wide_resnet": (wide_resnet.wide_resnet(10, 1, 3), IMAGES),
}
COMPILED = [  # a few seconds each, and the others are made of the same parts
    "conv_net",
    pytest.param("conv_net_batch", marks=pytest.mark.slow),
    pytest.param("resnet_projected", marks=pytest.mark.slow),
]
OF_IMAGES = [name for name in MODELS if name != "mlp"]


def drawn(name):
    """A model and inputs of it."""
    model, shape = MODELS[name]
    return model, jnp.asarray(np.random.default_rng(1).normal(size=shape))


def assert_close(found, expected, tolerance=1e-9):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        found,
        expected,
    )


@pytest.mark.parametrize("name", MODELS)
def test_init_is_one_program_for_inputs_of_one_shape_and_dtype(name, key):
    model, inputs = drawn(name)
    only_shape = jax.ShapeDtypeStruct(inputs.shape, inputs.dtype)
    programs = {
        str(jax.make_jaxpr(lambda key, x=x: model.init(key, x))(key))
        for x in (inputs, inputs * jnp.nan, inputs[:1], only_shape)
    }
    assert len(programs) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_a_vmapped_member_is_the_member_alone(name, key):
    model, inputs = drawn(name)

    def member(key, inputs):
        params = model.init(key, inputs)
        outputs = model.apply(params, inputs)
        slopes = jax.grad(lambda params: jnp.sum(model.apply(params, inputs) ** 2))(params)
        return outputs, slopes

    keys = members.keys(key, 3)
    together = members.map(member, keys, inputs, chunk=3)
    alone = jax.jit(member)(keys[1], inputs)
    assert_close(tree.index(together, 1), alone)
    assert np.isfinite(together[0]).all()
    assert not np.allclose(together[0][0], together[0][1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "wide_resnet"])
def test_outputs_are_the_same_with_and_without_jit(name, key):
    model, inputs = drawn(name)
    params = jax.jit(model.init)(key, inputs)
    assert_close(jax.jit(model.apply)(params, inputs), model.apply(params, inputs))


@pytest.mark.parametrize("name", COMPILED)
def test_gradients_are_finite_and_reach_every_parameter(name, key):
    model, inputs = drawn(name)
    params = jax.jit(model.init)(key, inputs)
    slopes = jax.jit(jax.grad(lambda params, x: jnp.sum(jnp.sin(model.apply(params, x)))))
    for x in (inputs, jnp.zeros_like(inputs), jnp.ones_like(inputs)):  # constant: no variance
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes(params, x)))
    for leaf in jax.tree.leaves(slopes(params, inputs)):
        assert (leaf != 0).any()


@pytest.mark.parametrize("name", COMPILED)
def test_an_example_depends_on_the_batch_only_under_batch_statistics(name, key):
    model, inputs = drawn(name)
    params = jax.jit(model.init)(key, inputs)
    apply = jax.jit(model.apply)
    outputs = apply(params, inputs)
    with_others = apply(params, inputs.at[1:].multiply(3.0))[0]
    if name.endswith("batch"):
        assert np.abs(with_others - outputs[0]).max() > 1e-3 * np.abs(outputs).max()
    else:
        assert_close(with_others, outputs[0])
        assert_close(apply(params, inputs[:1])[0], outputs[0])
        assert_close(apply(params, inputs[::-1]), outputs[::-1])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtype_follows_the_inputs_of_init(name, dtype, key):
    model, shape = MODELS[name]
    params = jax.eval_shape(model.init, key, jax.ShapeDtypeStruct(shape, dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    outputs = jax.eval_shape(model.apply, params, jax.ShapeDtypeStruct(shape, dtype))
    assert (outputs.shape, outputs.dtype) == ((shape[0], 3), dtype)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_images_of_another_dtype_or_size_are_taken(name, key):
    model, (batch, height, width, channels) = MODELS[name]
    images = jax.ShapeDtypeStruct((batch, height, width, channels), jnp.float32)
    params = jax.eval_shape(model.init, key, images)
    others = jax.ShapeDtypeStruct((7, height + 3, width - 2, channels), jnp.float64)
    outputs = jax.eval_shape(model.apply, params, others)
    assert (outputs.shape, outputs.dtype) == ((7, 3), jnp.float32)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_images_that_do_not_fit_are_named(name, key):
    model, (batch, height, width, channels) = MODELS[name]
    params = jax.eval_shape(model.init, key, jnp.zeros((batch, height, width, channels)))
    for shape in ((batch, height, width), (height, width, channels, 1, 1), (batch, 0, 4, channels)):
        with pytest.raises(ValueError, match=r"inputs: got shape .* \[batch, height, width, chann"):
            model.init(key, jnp.zeros(shape))
    for shape in ((batch, height, width), (batch, height, width, channels + 1)):
        with pytest.raises(ValueError, match=rf"inputs: got shape .*width, {channels}\]"):
            jax.eval_shape(model.apply, params, jnp.zeros(shape))
    pixels = jnp.zeros((batch, height, width, channels), jnp.uint8)
    with pytest.raises(TypeError, match=r"inputs: got dtype uint8; .* / 255"):
        model.init(key, pixels)
    with pytest.raises(TypeError, match=r"inputs: got dtype uint8; .* / 255"):
        jax.eval_shape(model.apply, params, pixels)


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
