"""What holds of every model: of each factory of `ntkens.models` that returns a `Model`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens import models, tree
from ntkens.models import Model, conv

BATCH, OUTPUTS = 4, 3
SHAPES = {"mlp": (7,)}  # of one input; of other models it is a small image
IMAGE = (6, 6, 1)


def returns_model(name, function):
    return function.__annotations__.get("return") is Model


ROOM = {
    "within": models,
    "is_one": returns_model,
    "arguments": {
        "widths": lambda: (8, 16),
        "outputs": lambda: OUTPUTS,
        "blocks": lambda: 1,
        "depth": lambda: 10,
        "widen": lambda: 1,
    },
    "variants": {
        "conv.conv_net": {
            "group": {},
            "batch": {"normalisation": lambda: "batch"},
            "none": {"normalisation": lambda: "none"},
        },
        "resnet.resnet": {
            "projected": {"projects": lambda: True},
            "padded, batch": {"projects": lambda: False, "normalisation": lambda: "batch"},
        },
        "resnet.resnet18": {"narrow": {"width": lambda: 4}},
        "resnet.resnet20": {"narrow": {"width": lambda: 4}},
    },
    "others": {"images.image_model": "the door of every model of images, which are tested here"},
}
PUBLISHED = "a `resnet` of more blocks; compiles for half a minute"
ROOMS = {
    "model": ROOM,  # as programs, of which nothing is compiled
    "compiled": ROOM
    | {
        "variants": {
            "conv.conv_net": {"group": {}, "batch": {"normalisation": lambda: "batch"}},
            "resnet.resnet": {"projected": {"projects": lambda: True}},
        },
        "others": ROOM["others"] | {"resnet.resnet18": PUBLISHED, "resnet.resnet20": PUBLISHED},
        "slow": {
            "conv.conv_net, batch",
            "resnet.resnet, projected",
            "wide_resnet.wide_resnet",
        },
    },
}


def shape(model):
    return (BATCH, *SHAPES.get(model.name.partition(".")[0], IMAGE))


def is_of_images(model):
    return shape(model)[1:] == IMAGE


def drawn(model):
    return np.random.default_rng(1).normal(size=shape(model))


def assert_close(found, expected, tolerance=1e-9):
    """To the rounding of a few dozen layers of sums, in float64."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        found,
        expected,
    )


def test_every_model_is_tested(gaps, found):
    assert gaps == {"model": [], "compiled": []}
    assert found["model"] >= {"mlp.mlp", "conv.conv_net", "resnet.resnet18"}
    assert found["compiled"] >= {"mlp.mlp", "conv.conv_net", "resnet.resnet"}


def test_a_model_born_today_is_asked_for_its_arguments(plant):
    def perceptron(synapses) -> Model: ...

    (gap,) = plant("model", conv, perceptron)
    assert gap.startswith("conv.perceptron is new: say what its synapses may be")


def test_init_is_one_program_for_inputs_of_one_shape_and_dtype(model, key):
    """Neither the values of the inputs nor their number matter."""
    inputs = drawn(model)
    only_shape = jax.ShapeDtypeStruct(inputs.shape, inputs.dtype)
    programs = {
        str(jax.make_jaxpr(lambda key, x=x: model.made.init(key, x))(key))
        for x in (inputs * np.nan, inputs[:1], only_shape)
    }
    assert len(programs) == 1


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_dtype_follows_the_inputs_of_init(model, dtype, key):
    inputs = jax.ShapeDtypeStruct(shape(model), dtype)
    params = jax.eval_shape(model.made.init, key, inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    outputs = jax.eval_shape(model.made.apply, params, inputs)
    assert (outputs.shape, outputs.dtype) == ((BATCH, OUTPUTS), dtype)


def test_no_examples_have_no_outputs(model, key):
    inputs = jnp.zeros((0, *shape(model)[1:]))
    params = jax.eval_shape(model.made.init, key, inputs)
    outputs = jax.eval_shape(model.made.apply, params, inputs)
    assert (outputs.shape, outputs.dtype) == ((0, OUTPUTS), jnp.float64)


def test_inputs_of_another_dtype_are_cast_to_the_params(model, key):
    inputs = jax.ShapeDtypeStruct(shape(model), jnp.float32)
    params = jax.eval_shape(model.made.init, key, inputs)
    for dtype in (jnp.float64, jnp.bfloat16):
        others = jax.ShapeDtypeStruct(shape(model), dtype)
        outputs = jax.eval_shape(model.made.apply, params, others)
        assert (outputs.shape, outputs.dtype) == ((BATCH, OUTPUTS), jnp.float32)


def test_images_of_another_size_are_taken(model, key):
    if not is_of_images(model):
        return
    images = jax.ShapeDtypeStruct(shape(model), jnp.float32)
    params = jax.eval_shape(model.made.init, key, images)
    _, height, width, channels = shape(model)
    others = jax.ShapeDtypeStruct((7, height + 3, width - 2, channels), jnp.float32)
    outputs = jax.eval_shape(model.made.apply, params, others)
    assert (outputs.shape, outputs.dtype) == ((7, OUTPUTS), jnp.float32)


def test_inputs_that_do_not_fit_are_named(model, key):
    inputs = jnp.zeros(shape(model))
    params = jax.eval_shape(model.made.init, key, inputs)

    def init(inputs):
        model.made.init(key, inputs)

    def apply(inputs):
        jax.eval_shape(model.made.apply, params, inputs)

    for bad in (inputs[0], inputs[None], inputs[..., 0], inputs[:, :0]):
        for door in (init, apply):
            with pytest.raises(ValueError, match=r"^inputs: got shape"):
                door(bad)
    more = jnp.concatenate([inputs, inputs], axis=-1)
    with pytest.raises(ValueError, match=r"^inputs: got shape"):
        apply(more)
    for dtype in (bool, complex):
        for door in (init, apply):
            with pytest.raises(TypeError, match=r"^inputs: got dtype"):
                door(inputs.astype(dtype))
    integers = inputs.astype(jnp.uint8)
    with pytest.raises(TypeError, match=r"^inputs: got dtype uint8; .*(/ 255|eye)"):
        init(integers)
    with pytest.raises((TypeError, ValueError), match=r"^inputs: got (dtype uint8|integers)"):
        apply(integers)  # indices, to an mlp, are one for each example


def outputs_and_slopes(compiled):
    """One program for all tests of a model: (params, inputs) to outputs and a loss's gradient."""

    def both(params, inputs):
        def loss(params):
            outputs = compiled.made.apply(params, inputs)
            return jnp.sum(jnp.sin(outputs)), outputs

        slopes, outputs = jax.grad(loss, has_aux=True)(params)
        return outputs, slopes

    return both


def test_a_vmapped_member_is_the_member_alone(compiled, key):
    """And its gradients are finite, reach every parameter, and are its own; whatever the inputs."""
    inputs, both = drawn(compiled), outputs_and_slopes(compiled)
    keys = jax.random.split(key, 2)
    params = jax.jit(jax.vmap(compiled.made.init, (0, None)))(keys, inputs)
    together = jax.jit(jax.vmap(both, (0, None)))(params, inputs)
    alone = jax.jit(both)
    for member in range(2):
        assert_close(alone(tree.index(params, member), inputs), tree.index(together, member))
    assert not np.allclose(together[0][0], together[0][1])
    params = tree.index(params, 0)
    outputs, slopes = alone(params, inputs)
    for leaf in jax.tree.leaves(slopes):
        assert (leaf != 0).any()

    # constant inputs have no variance, and the squares of huge ones overflow
    for x in (inputs, 0 * inputs, 0 * inputs + 1, 1e100 * inputs):
        found = alone(params, x)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    strided = np.repeat(np.repeat(inputs, 2, axis=0), 2, axis=-1)[::2, ..., ::2]
    assert_close(alone(params, strided), (outputs, slopes), 0)

    with_others = np.concatenate([inputs[:1], 3 * inputs[1:]])
    change = np.abs(alone(params, with_others)[0][0] - outputs[0]).max()
    if compiled.variant.endswith("batch"):
        assert change > 1e-3 * np.abs(outputs).max()
    else:
        assert change < 1e-9
        assert_close(alone(params, inputs[::-1].copy())[0], outputs[::-1])
        spoilt = np.concatenate([inputs[:-1], np.nan * inputs[-1:]])
        found = alone(params, spoilt)[0]
        assert_close(found[:-1], outputs[:-1])
        assert np.isnan(found[-1]).all()


@pytest.mark.slow
def test_plain_calls_and_single_examples_agree_with_compiled_ones(compiled, key):
    """Of one example the statistics of a batch are others."""
    inputs = drawn(compiled)
    params = jax.jit(compiled.made.init)(key, inputs)
    outputs = jax.jit(compiled.made.apply)(params, inputs)
    if compiled.variant.endswith("batch"):
        assert_close(compiled.made.apply(params, inputs), outputs)
    else:
        assert_close(compiled.made.apply(params, inputs[:1]), outputs[:1])
