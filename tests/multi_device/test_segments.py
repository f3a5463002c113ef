import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntkens.data import Examples
from ntkens.models import mlp
from ntkens.training import fit, losses, members, segments

MODEL = mlp.mlp([6], 3, parametrisation="standard")
RANDOM = np.random.default_rng(0)
TRAIN = Examples(jnp.asarray(RANDOM.normal(size=(12, 4))), jnp.asarray(RANDOM.integers(0, 3, 12)))


def loss(params, inputs, labels):
    return losses.cross_entropy(MODEL.apply(params, inputs), labels)


def advance(state, rate, train):
    return fit.epochs(loss, optax.sgd(rate), state, train, epochs=1, batch=5)


@pytest.mark.parametrize("count", [4, 6])
def test_a_run_over_a_mesh_that_was_left_ends_as_one_on_a_single_device(count, tmp_path):
    """Checkpoints of split states too; 6 members on 4 devices: the last ones are filled up."""
    keys, rates = members.keys(jax.random.key(0), count), jnp.linspace(0.1, 1.0, count)

    def begin(own):
        key, rate = own
        return fit.start(MODEL.init(key, TRAIN.inputs), optax.sgd(rate), key)

    states = members.map(begin, (keys, rates))
    mesh = jax.make_mesh((4,), ("members",))

    def run(**where):
        return segments.run(advance, states, TRAIN, own=rates, segments=3, **where)

    *_, alone = run()
    next(run(mesh=mesh, directory=tmp_path))
    *_, split = run(mesh=mesh, directory=tmp_path)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15),
        (split.states.params, split.info),
        (alone.states.params, alone.info),
    )
