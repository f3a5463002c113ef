import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.models import Model, mlp
from ntkens.models import cost as dense_cost
from ntkens.sparsity import cost, masks

SIZES = {"first": 12, "second": 20, "last": 6}
KEPT = {"first": 5, "second": 7, "last": 6}


def test_a_dense_network_costs_what_its_program_multiplies():
    """`models.cost.macs` counts the products of a program: forward, and of the gradient."""
    model = mlp.mlp([16, 12], 5)
    inputs = jax.ShapeDtypeStruct((1, 8), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), inputs)
    sizes = {name: layer.size for name, layer in masks.weights(params).items()}

    def step(params, inputs):
        return jax.grad(lambda params: jnp.sum(model.apply(params, inputs)))(params)

    assert cost.inference(sizes) == dense_cost.macs(model, params, inputs)
    found = cost.training([cost.Stage(sizes, 1)], sizes, readers=["hidden_0/kernel"])
    assert found == dense_cost.macs(Model(model.init, step), params, inputs)


def test_uses_are_the_places_of_a_convolution():
    def apply(params, inputs):
        hidden = jax.lax.conv_general_dilated(
            inputs, params["conv"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return hidden.reshape(1, -1) @ params["readout"]

    params = {"conv": jnp.zeros((3, 3, 2, 4)), "readout": jnp.zeros((64, 5))}
    inputs = jnp.zeros((1, 8, 8, 2))
    expected = dense_cost.macs(Model(lambda key, inputs: params, apply), params, inputs)
    sizes = {name: layer.size for name, layer in params.items()}
    assert cost.inference(sizes, {"conv": 4 * 4, "readout": 1}) == expected


def multiplications(kept, dense_gradient):
    """Of one step, counted one at a time: a chain of layers in which each active weight is used."""
    count = 0
    for name, size in SIZES.items():
        for weight in range(size):
            is_active = weight < kept[name]
            count += is_active  # forward
            count += is_active and name != "first"  # to inputs
            count += is_active or dense_gradient  # to weights
    return count


def test_training_is_the_sum_over_steps_of_single_multiplications():
    steps, period, end = 20, 6, 15
    exchanges = [step for step in range(steps) if step % period == 0 and 0 < step < end]
    expected = sum(multiplications(KEPT, step in exchanges) for step in range(steps))
    stage = cost.Stage(KEPT, steps, (min(end, steps) - 1) // period)
    assert cost.training([stage], SIZES, readers=["first"]) == expected
    levels = [SIZES, {"first": 8, "second": 9, "last": 6}, KEPT]  # dense to sparse
    expected = sum(steps * multiplications(kept, False) for kept in levels)
    stages = [cost.Stage(kept, steps) for kept in levels]
    assert cost.training(stages, SIZES, readers=["first"]) == expected


def test_published_conventions():
    """A static step is 3 F; of RigL, with every period-th an exchange, as the module says."""
    sparse, dense, period = cost.inference(KEPT), cost.inference(SIZES), 10
    assert (sparse, dense) == (18, 38)
    assert cost.training([cost.Stage(KEPT, 1)], SIZES) == 3 * sparse
    mean = cost.training([cost.Stage(KEPT, 100, 10)], SIZES) / 100
    expected = (3 * sparse * (period - 1) + 2 * sparse + dense) / period
    assert mean == pytest.approx(expected, rel=1e-14)


def test_members_are_an_axis():
    kept = {name: np.array([1, count, SIZES[name]]) for name, count in KEPT.items()}
    found = cost.training([cost.Stage(kept, 10, 2), cost.Stage(SIZES, 1)], SIZES)
    alone = [
        cost.training(
            [cost.Stage({name: each[i] for name, each in kept.items()}, 10, 2)]
            + [cost.Stage(SIZES, 1)],
            SIZES,
        )
        for i in range(3)
    ]
    assert found.tolist() == alone
    assert cost.inference(kept).tolist() == [3, 18, 38]


def test_counts_are_exact_where_int32_overflows():
    assert cost.inference({"conv": 2**31}, {"conv": 2**20 + 1}) == 2**51 + 2**31


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"stages": []}, "stages: got none"),
        ({"stages": [cost.Stage({"first": 1}, 3)]}, "kept: got layers"),
        ({"stages": [cost.Stage(KEPT | {"first": 13}, 3)]}, r"kept\['first'\]: got 13 of 12"),
        ({"stages": [cost.Stage(KEPT | {"first": np.array([3, 13])}, 3)]}, r"kept\['first'\]"),
        ({"stages": [cost.Stage(KEPT | {"first": np.nan}, 3)]}, r"kept\['first'\]: got nan"),
        ({"stages": [cost.Stage(KEPT, -1)]}, "steps: got -1"),
        ({"stages": [cost.Stage(KEPT, 3, 4)]}, "dense_gradients: got 4 of 3"),
        ({"uses": {"first": 1}}, "uses: got layers"),
        ({"readers": ["input"]}, "readers: got"),
        ({"sizes": {}, "stages": [cost.Stage({}, 1)]}, "kept: got no layers"),
    ],
)
def test_bad_input_is_named(change, match):
    with pytest.raises(ValueError, match=match):
        cost.training(**({"stages": [cost.Stage(KEPT, 3)], "sizes": SIZES} | change))
