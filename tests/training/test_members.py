import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkens import tree
from ntkens.models import mlp
from ntkens.training import gradient_descent, members

K = 5
MODEL = mlp.mlp([33], K)
TARGETS = jnp.eye(K)[np.array([2, 0, 3, 4, 1])]
INPUTS = jnp.array([[1, 1, 0, 0, 0], [1, 0, 1, 1, 1.0]]) / jnp.sqrt(jnp.array([[2.0], [4.0]]))


def outputs(params):
    return MODEL.apply(params, range(K))


def member(key, inputs, steps=100):
    """Initialise, train, predict."""
    params = MODEL.init(key, jnp.eye(K))
    params, info = gradient_descent.train(outputs, params, TARGETS, 0.5, steps=steps)
    return MODEL.apply(params, inputs), info


def assert_close(found, expected, rtol):
    """Relative to the largest entry: entries near zero are differences of larger ones."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a, b, rtol=rtol, atol=rtol * float(np.abs(b).max())
        ),
        found,
        expected,
    )


@functools.cache
def trained_alone(seed, count):
    return tree.stack([member(key, INPUTS) for key in members.keys(jax.random.key(seed), count)])


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("chunk", [None, 1, 2, 3, 7, 100])
def test_members_equal_those_trained_alone_in_any_chunk(count, chunk):
    keys = members.keys(jax.random.key(3), count)
    found = members.map(member, keys, INPUTS, chunk=chunk)
    assert_close(found, trained_alone(3, count), rtol=1e-9)


@pytest.mark.slow
def test_chunks_that_overflow_the_cache_and_chunks_that_fill_it_agree(monkeypatch):
    """The chunk that members chooses: one at a time, several, or all, from the bytes of one."""
    keys = members.keys(jax.random.key(3), 7)
    bytes_of_one = members._member_bytes(member, keys, (INPUTS,))
    params = members.init(MODEL.init, jax.random.key(3), 1, jnp.eye(K))
    assert bytes_of_one > tree.ravel(params).size * 8  # at least its params in float64
    for room, chunk in ((3.5, 1), (4.5, 4), (6.5, 4), (7.5, 7)):  # 4 + 3 is more even than 6 + 1
        monkeypatch.setattr(members, "CACHE", int(room * bytes_of_one))
        assert members._chunk(bytes_of_one, 7, jax.devices()[0]) == chunk
        fresh = functools.partial(member)  # the compiled program of `member` keeps its chunk
        assert_close(members.map(fresh, keys, INPUTS), trained_alone(3, 7), rtol=1e-9)


def test_a_chunk_fills_half_the_memory_of_an_accelerator():
    device = types.SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 2000})
    for bytes_of_one, chunk in ((10, 20), (100, 10), (150, 5), (400, 2), (5000, 1)):
        assert members._chunk(bytes_of_one, 20, device) == chunk


def test_chunks_are_what_is_vmapped():
    def loops(chunk, count):
        keys = members.keys(jax.random.key(3), count)
        return str(
            jax.make_jaxpr(lambda keys: members.map(member, keys, INPUTS, chunk=chunk))(keys)
        )

    assert f"f64[3,{K},33]" in loops(3, 9)
    assert f"f64[9,{K},33]" not in loops(3, 9)
    assert f"f64[9,{K},33]" in loops(9, 9)


@given(count=st.integers(1, 9), chunk=st.integers(1, 10))
def test_map_is_a_loop(count, chunk):
    stacked = {"a": np.arange(count), "b": np.arange(2.0 * count).reshape(count, 2)}
    found = members.map(scale, stacked, 3.0, chunk=chunk)
    expected = np.stack([scale(one, 3.0) for one in tree.unstack(stacked)])
    np.testing.assert_array_equal(found, expected)


def scale(one, factor):
    return factor * one["a"] + one["b"]


def test_member_i_is_the_same_in_an_ensemble_of_any_size(key):
    few = members.init(MODEL.init, key, 3, jnp.eye(K))
    many = members.init(MODEL.init, key, 40, jnp.eye(K), chunk=7)
    jax.tree.map(np.testing.assert_array_equal, tree.index(many, slice(3)), few)
    fifth = MODEL.init(jax.random.fold_in(key, 5), jnp.eye(K))
    jax.tree.map(np.testing.assert_array_equal, tree.index(many, 5), fifth)
    vectors = np.asarray(tree.ravel(many))
    assert len(np.unique(vectors[:, 0])) == 40
    # members are independent: correlations of 330 normals are within 5 / sqrt(330)
    correlations = np.corrcoef(vectors) - np.eye(40)
    assert np.abs(correlations).max() < 5 / np.sqrt(vectors.shape[1])


def test_each_member_may_have_its_own_learning_rate_and_targets():
    params = members.init(MODEL.init, jax.random.key(0), 3, jnp.eye(K))
    rates = jnp.array([0.1, 0.3, 0.5])
    targets = jnp.stack([TARGETS, TARGETS[::-1], jnp.eye(K)])

    def train(one):
        params, rate, targets = one
        return gradient_descent.train(outputs, params, targets, rate, steps=20)

    found = members.map(train, (params, rates, targets), chunk=2)
    alone = [train(one) for one in tree.unstack((params, rates, targets))]
    assert_close(found, tree.stack(alone), rtol=1e-9)


def test_a_mesh_of_one_device_changes_nothing():
    mesh = jax.make_mesh((1,), ("members",))
    keys = members.keys(jax.random.key(3), 7)
    found = members.map(member, keys, INPUTS, mesh=mesh, chunk=2)
    assert_close(found, trained_alone(3, 7), rtol=1e-9)


def test_map_under_jit_and_of_a_gradient():
    params = members.init(MODEL.init, jax.random.key(0), 5, jnp.eye(K))
    direct = members.map(MODEL.apply, params, INPUTS)
    traced = jax.jit(lambda params: members.map(MODEL.apply, params, INPUTS))(params)
    assert_close(traced, direct, rtol=1e-12)
    gradient = jax.grad(lambda x: members.map(MODEL.apply, params, x, chunk=2).sum())(INPUTS)
    expected = jax.grad(lambda x: jax.vmap(MODEL.apply, (0, None))(params, x).sum())(INPUTS)
    assert_close(gradient, expected, rtol=1e-12)


def test_each_function_is_compiled_once():
    traces = []

    def counted(key, inputs):
        traces.append(None)
        return member(key, inputs, steps=1)

    keys = members.keys(jax.random.key(3), 7)
    members.map(counted, keys, INPUTS)
    before = len(traces)
    members.map(counted, members.keys(jax.random.key(4), 7), 2 * INPUTS)
    assert len(traces) == before > 0


@pytest.mark.parametrize("count", [0, -1, 2.0])
def test_fewer_than_one_member_is_an_error(count, key):
    with pytest.raises(ValueError, match="members: got"):
        members.keys(key, count)
    with pytest.raises(ValueError, match="members: got"):
        members.init(MODEL.init, key, count, jnp.eye(K))


@pytest.mark.parametrize(
    ("stacked", "chunk", "named"),
    [
        (jnp.ones((0, 2)), None, "stacked: got 0 members"),
        ({"a": jnp.ones(2), "b": jnp.ones(3)}, None, "stacked: got leaves of shapes"),
        (jnp.ones(3), 0, "chunk: got 0"),
        (jnp.ones(3), 1.5, "chunk: got 1.5"),
    ],
)
def test_bad_arguments_of_map_are_named(stacked, chunk, named):
    with pytest.raises(ValueError, match=named):
        members.map(lambda one: one, stacked, chunk=chunk)
