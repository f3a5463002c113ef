import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.models import Model, conv, cost, mlp, resnet, wide_resnet


def of(apply, *inputs):
    """Multiply-accumulates of a function of arrays, the last with a batch axis of its own."""
    *params, last = inputs
    return cost.macs(Model(lambda key, inputs: None, lambda p, x: apply(*p, x)), params, last)


def test_an_mlp_is_its_closed_form(key):
    inputs = jax.ShapeDtypeStruct((100, 7), jnp.float32)
    for widths in ((), (64,), (64, 32, 5)):
        model = mlp.mlp(widths, 10, b_std=0.1)
        params = jax.eval_shape(model.init, key, inputs)
        sizes = [7, *widths, 10]
        products = sum(a * b for a, b in itertools.pairwise(sizes))
        assert cost.macs(model, params, inputs) == products
        assert cost.parameters(params) == products + sum(sizes[1:])


def test_one_hot_inputs_as_indices_cost_no_product_in_the_first_layer(key):
    model = mlp.mlp([64], 10)
    params = jax.eval_shape(model.init, key, jnp.eye(7))
    assert cost.macs(model, params, jnp.arange(7)) == 64 * 10
    assert cost.macs(model, params, jnp.eye(7)) == 7 * 64 + 64 * 10


@pytest.mark.parametrize("normalisation", ["group", "batch", "none"])
def test_a_conv_net_is_its_closed_form(normalisation, key):
    model = conv.conv_net([16, 32], 10, normalisation=normalisation)
    inputs = jax.ShapeDtypeStruct((3, 9, 8, 2), jnp.float32)
    params = jax.eval_shape(model.init, key, inputs)
    # 9 x 8 positions, then 5 x 4
    expected = 9 * 8 * 9 * 2 * 16 + 5 * 4 * 9 * 16 * 32 + 32 * 10
    assert cost.macs(model, params, inputs) == expected
    scales = 0 if normalisation == "none" else 16 + 32
    kernels_and_biases = 9 * 2 * 16 + 16 + 9 * 16 * 32 + 32 + 32 * 10 + 10
    assert cost.parameters(params) == kernels_and_biases + scales


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layout", [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")])
def test_grouped_and_strided_convolutions(groups, stride, layout):
    shape = {"N": 1, "C": 8, "H": 6, "W": 10}
    kernel = {"H": 3, "W": 5, "I": 8 // groups, "O": 12}

    def apply(kernel, images):
        return jax.lax.conv_general_dilated(
            images, kernel, (stride, stride), "SAME", dimension_numbers=layout,
            feature_group_count=groups,
        )  # fmt: skip

    found = of(
        apply,
        jnp.zeros([kernel[axis] for axis in layout[1]]),
        jnp.zeros([shape[axis] for axis in layout[0]]),
    )
    positions = -(-6 // stride) * -(-10 // stride)
    assert found == positions * 12 * 3 * 5 * 8 // groups


def test_products_of_any_axes_count_what_they_sum():
    a, b = jnp.zeros((3, 4, 5)), jnp.zeros((1, 5, 4, 6))
    assert of(lambda a, b: jnp.einsum("ijk,bkjl->bil", a, b), a, b) == 3 * 6 * 4 * 5
    assert of(lambda a, b: jnp.einsum("ijk,bkjl->bjil", a, b), a, b) == 4 * 3 * 6 * 5
    assert of(lambda a, b: a.sum() * b, a, b) == 0


def square(w, x):
    return x @ w


@pytest.mark.parametrize(
    ("apply", "products"),
    [
        (jax.jit(square), 1),
        (jax.checkpoint(square), 1),
        (lambda w, x: jax.lax.scan(lambda x, _: (x @ w, x @ w), x, None, length=7), 14),
        (lambda w, x: jax.lax.scan(lambda x, _: (jax.jit(square)(w, x), None), x, None, 3)[0], 3),
        (lambda w, x: jax.lax.fori_loop(0, 5, lambda _, x: x @ w, x), 5),
        (lambda w, x: jax.lax.map(lambda row: row @ w, jnp.stack([x, x])), 2),
        (lambda w, x: jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w), 2),
        (lambda w, x: jax.lax.switch(jnp.argmax(x), [lambda: x, lambda: x @ w @ w @ w]), 3),
        (jax.vmap(square, (None, 0)), 1),
        (lambda w, x: jax.nn.relu(x) @ w, 1),
    ],
)
def test_what_is_inside_other_programs_is_counted(apply, products):
    assert of(apply, jnp.zeros((4, 4)), jnp.zeros((1, 4))) == products * 16


def test_custom_derivatives_are_counted_once():
    with_vjp = jax.custom_vjp(square)
    with_vjp.defvjp(lambda w, x: (x @ w, (w, x)), lambda saved, g: (saved[1].T @ g, g @ saved[0].T))
    with_jvp = jax.custom_jvp(square)
    with_jvp.defjvp(lambda primals, tangents: (square(*primals), square(primals[0], tangents[1])))
    for apply in (with_vjp, with_jvp, lambda w, x: jax.jit(with_vjp)(w, x)):
        assert of(apply, jnp.zeros((4, 4)), jnp.zeros((1, 4))) == 16


def test_a_loop_of_unknown_length_is_named_if_it_multiplies():
    w, x = jnp.zeros((4, 4)), jnp.zeros((1, 4))
    with pytest.raises(ValueError, match="model: its apply multiplies in a loop"):
        of(lambda w, x: jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x @ w, x), w, x)
    assert of(lambda w, x: jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x / 2, x), w, x) == 0


def test_inputs_without_a_shape_are_named(key):
    model = mlp.mlp([4], 2)
    params = jax.eval_shape(model.init, key, jnp.eye(5))
    for inputs in (range(5), jnp.float32(1.0)):
        with pytest.raises(TypeError, match="inputs: got"):
            cost.macs(model, params, inputs)


def test_parameters_are_a_plain_integer():
    found = cost.parameters({"a": np.zeros((3, 4)), "b": [jax.ShapeDtypeStruct((5,), jnp.int8)]})
    assert found == 17
    assert type(found) is int


IMAGES = jax.ShapeDtypeStruct((64, 32, 32, 3), jnp.float32)
PUBLISHED = {
    # arXiv:1512.03385, Table 6: 0.27 M. Multiply-accumulates by hand: the stem, 9 * 3 * 16 at 1024
    # positions; six convolutions at each of three sizes, the first of the later two from half the
    # channels; the readout. Tables that say 40.8 M have 1 x 1 convolutions in the shortcuts, which
    # are 2^18 more.
    "resnet20": (
        resnet.resnet20(10),
        0.27,
        9 * 3 * 16 * 32**2
        + 6 * 9 * 16**2 * 32**2
        + (0.5 + 5) * 9 * 32**2 * 16**2
        + (0.5 + 5) * 9 * 64**2 * 8**2
        + 640,
    ),
    # Tables of the CIFAR variant: 11.17 M and 0.56 G. Every later stage has a quarter of the
    # positions and twice the channels: 3.5 convolutions of the first stage, and 1/18 of one in the
    # shortcut.
    "resnet18": (
        resnet.resnet18(10),
        11.17,
        9 * 3 * 64 * 32**2 + (4 + 3 * (3.5 + 1 / 18)) * 9 * 64**2 * 32**2 + 5120,
    ),
    # arXiv:1605.07146: 36.5 M; 5.2 G in later tables. Of one 160 x 160 convolution: eight
    # in the first stage, but the first of them from 16 channels; 7.5 in each later one; shortcuts.
    "wide_resnet_28_10": (
        wide_resnet.wide_resnet(28, 10, 10),
        36.5,
        9 * 3 * 16 * 32**2 + (7.1 + 2 * 7.5 + (0.1 + 0.5 + 0.5) / 9) * 9 * 160**2 * 32**2 + 6400,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_their_published_cost(name, key):
    model, millions, products = PUBLISHED[name]
    params = jax.eval_shape(model.init, key, IMAGES)
    assert abs(cost.parameters(params) / 1e6 - millions) < 0.025  # they give two or three digits
    assert cost.macs(model, params, IMAGES) == round(products)


@pytest.mark.parametrize(
    ("depth", "widen", "millions"),
    # the tables of arXiv:1605.07146
    [(40, 1, 0.6), (40, 2, 2.2), (40, 4, 8.9), (22, 8, 17.2), (16, 8, 11.0), (16, 10, 17.1)],
)
def test_wide_networks_have_their_published_size(depth, widen, millions, key):
    model = wide_resnet.wide_resnet(depth, widen, 10)
    params = jax.eval_shape(model.init, key, IMAGES)
    assert round(cost.parameters(params) / 1e6, 1) == millions


def test_parameters_are_those_of_the_networks_with_batch_norm(key):
    """What implementations in PyTorch report: a scale and a bias for each normalised channel."""
    expected = {"resnet20": 269_722, "resnet18": 11_173_962, "wide_resnet_28_10": 36_479_194}
    for name, count in expected.items():
        assert cost.parameters(jax.eval_shape(PUBLISHED[name][0].init, key, IMAGES)) == count


def test_cost_grows_with_the_square_of_the_width(key):
    """Up to the stem and the readout, of which one side is fixed."""
    of_width = []
    for width in (16, 32):
        model = resnet.resnet20(10, width=width)
        macs = cost.macs(model, jax.eval_shape(model.init, key, IMAGES), IMAGES)
        of_width.append(macs - 9 * 3 * width * 32**2 - 4 * width * 10)
    assert of_width[1] == 4 * of_width[0]
