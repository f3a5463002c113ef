import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens import tree


def member(seed):
    random = np.random.default_rng(seed)
    return {"kernel": random.normal(size=(3, 4)), "rest": (random.normal(size=4), np.float64(seed))}


def test_stack_and_unstack_undo_each_other():
    members = [member(seed) for seed in range(5)]
    stacked = tree.stack(members)
    assert tree.size(stacked) == 5
    for back, original in zip(tree.unstack(stacked), members, strict=True):
        jax.tree.map(np.testing.assert_array_equal, back, original)


def test_index_takes_one_or_several_members_of_keys_too():
    stacked = tree.stack([member(seed) for seed in range(5)])
    jax.tree.map(np.testing.assert_array_equal, tree.index(stacked, 2), member(2))
    several = tree.index(stacked, jnp.array([4, 0]))
    jax.tree.map(np.testing.assert_array_equal, several, tree.stack([member(4), member(0)]))
    keys = jax.random.split(jax.random.key(0), 3)
    assert tree.index({"key": keys}, 1)["key"] == keys[1]


def test_ravel_and_norms_against_numpy():
    members = [member(seed) for seed in range(5)]
    vectors = np.stack([np.concatenate([m["kernel"].ravel(), m["rest"][0], [m["rest"][1]]])
                        for m in members])  # fmt: skip
    stacked = tree.stack(members)
    np.testing.assert_array_equal(tree.ravel(stacked), vectors)
    np.testing.assert_allclose(tree.norms(stacked), np.sqrt((vectors**2).sum(1)), rtol=1e-15)


@pytest.mark.parametrize("stacked", [{}, {"a": jnp.ones(3), "b": jnp.ones(4)}, jnp.ones(())])
def test_size_names_the_shapes(stacked):
    with pytest.raises(ValueError, match="stacked: got leaves of shapes"):
        tree.size(stacked)


def test_an_empty_stack_is_an_error():
    with pytest.raises(ValueError, match="trees: got none"):
        tree.stack([])


@pytest.mark.parametrize(
    ("rows", "chunk", "shape"), [(7, 3, (3, 3)), (6, 4, (2, 3)), (5, 9, (1, 5))]
)
def test_chunks_are_equal_and_filled_up_with_zeros(rows, chunk, shape):
    stacked = {"a": jnp.arange(1, rows + 1), "b": jnp.ones((rows, 2))}
    chunks = tree.in_chunks(stacked, chunk)
    assert chunks["a"].shape == shape
    assert chunks["b"].shape == (*shape, 2)
    flat = chunks["a"].ravel()
    np.testing.assert_array_equal(flat[:rows], np.arange(1, rows + 1))
    assert (flat[rows:] == 0).all()
