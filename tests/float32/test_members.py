import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens import tree
from ntkens.models import mlp
from ntkens.training import gradient_descent, members

K = 5
MODEL = mlp.mlp([256], K)
TARGETS = jnp.eye(K)[::-1]
INPUTS = jnp.ones((1, K)) / np.sqrt(K)


def member(key):
    params = MODEL.init(key, jnp.eye(K))
    params, info = gradient_descent.train(
        lambda params: MODEL.apply(params, range(K)), params, TARGETS, 0.5, steps=10
    )
    return MODEL.apply(params, INPUTS), info


@pytest.mark.parametrize("chunk", [None, 1, 3, 7])
def test_ten_steps_equal_those_trained_alone(key, chunk):
    keys = members.keys(key, 7)
    found = members.map(member, keys, chunk=chunk)
    alone = tree.stack([member(key) for key in keys])
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
        assert a.dtype in (jnp.float32, jnp.bool_)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(np.abs(b).max()))
