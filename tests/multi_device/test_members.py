import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ntkens import tree
from ntkens.models import mlp
from ntkens.training import gradient_descent, members

K = 5
MODEL = mlp.mlp([33], K)
TARGETS = jnp.eye(K)[::-1]
INPUTS = jnp.ones((1, K)) / np.sqrt(K)


def member(key, inputs):
    params = MODEL.init(key, jnp.eye(K))
    params, info = gradient_descent.train(
        lambda params: MODEL.apply(params, range(K)), params, TARGETS, 0.5, steps=100
    )
    return MODEL.apply(params, inputs), params, info


@pytest.fixture(scope="module")
def alone():
    """Eleven members, each trained by itself."""
    keys = members.keys(jax.random.key(5), 11)
    return tree.stack([jax.jit(member)(key, INPUTS) for key in keys])


@pytest.mark.parametrize("count", [1, 3, 8, 11])
@pytest.mark.parametrize("chunk", [None, 2])
def test_members_over_a_mesh_equal_those_trained_alone(alone, count, chunk):
    mesh = jax.make_mesh((4,), ("members",))
    keys = members.keys(jax.random.key(5), count)
    found = members.map(member, keys, INPUTS, chunk=chunk, mesh=mesh)
    assert_close(found, tree.index(alone, slice(count)))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_any_mesh_set_or_not_and_inputs_laid_out_on_it(alone, kind):
    mesh = jax.make_mesh((2, 2), ("members", "more"), axis_types=(kind, kind))
    layout = NamedSharding(mesh, PartitionSpec("more"))
    keys = jax.device_put(members.keys(jax.random.key(5), 8), layout)
    found = members.map(member, keys, INPUTS, mesh=mesh)
    assert_close(found, tree.index(alone, slice(8)))
    with jax.set_mesh(mesh):
        found = members.map(member, keys, INPUTS, mesh=mesh)
    assert_close(found, tree.index(alone, slice(8)))


def assert_close(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * float(np.abs(b).max()))


def test_the_work_is_split_and_stays_where_it_was_done(key):
    mesh = jax.make_mesh((4,), ("members",))
    params = members.init(MODEL.init, key, 8, jnp.eye(K), mesh=mesh)
    kernel = params["hidden_0"]["kernel"]
    assert [shard.data.shape[0] for shard in kernel.addressable_shards] == [2, 2, 2, 2]
    assert len({shard.device for shard in kernel.addressable_shards}) == 4
    evaluate = jax.jit(lambda params: members.map(MODEL.apply, params, INPUTS, mesh=mesh))
    program = evaluate.lower(params).compile().as_text()
    assert "dot" in program  # else the next line looked for words in another language
    assert not [word for word in ("all-gather", "all-reduce", "permute(") if word in program]
    again = evaluate(params)
    plain = members.map(MODEL.apply, jax.device_get(params), INPUTS)
    np.testing.assert_allclose(again, plain, rtol=1e-9)
