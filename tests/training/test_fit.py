import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntkens import tree
from ntkens.data import Examples
from ntkens.models import mlp
from ntkens.training import fit, losses, members

MODEL = mlp.mlp([8], 3, parametrisation="standard", w_std=2**0.5, b_std=0.0)
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, size=22)
TRAIN = Examples(RANDOM.normal(size=(22, 4)) + np.eye(3, 4)[LABELS], LABELS)
ADAM = optax.adam(1e-2)


def loss(params, inputs, labels):
    return losses.cross_entropy(MODEL.apply(params, inputs), labels)


def started(key, optimiser=ADAM):
    return fit.start(MODEL.init(key, jnp.asarray(TRAIN.inputs)), optimiser, key)


@functools.partial(jax.jit, static_argnames=("epochs", "batch", "augment"))
def trained(state, indices=None, *, epochs=3, batch=6, augment=None):
    examples = Examples(*map(jnp.asarray, TRAIN))
    return fit.epochs(
        loss, ADAM, state, examples, epochs=epochs, batch=batch, indices=indices, augment=augment
    )


def assert_close(found, expected, rtol=1e-10):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12), found, expected
    )


def batches_seen(indices=None, *, epochs=1, batch=6, rows=22):
    """The rows that counted in each step, recorded by a loss whose gradients are theirs.

    Plain descent at rate 1 from zero: params[row] falls by weight / (sum of weights) a step.
    """
    examples = Examples(jnp.arange(rows)[:, None], jnp.zeros(rows, int))

    def picks(params, inputs, labels):
        return params[inputs[:, 0]]

    descent = optax.sgd(1.0)
    state = fit.start(jnp.zeros(rows), descent, jax.random.key(5))
    state, info = fit.epochs(
        picks, descent, state, examples, epochs=epochs, batch=batch, indices=indices
    )
    return np.asarray(-state.params), info


def test_an_epoch_visits_every_example_once_and_counts_no_filling():
    """Three batches of 6 and one of 4: of its examples each weighs 1/4 in its step."""
    seen, _ = batches_seen()
    shares, counts = np.unique(np.round(seen, 12), return_counts=True)
    np.testing.assert_allclose(shares, [1 / 6, 1 / 4])
    assert counts.tolist() == [18, 4]


def test_members_with_unequal_parts_learn_from_their_own_rows_alone():
    """Parts of 5 rows of 13: a batch of 4 and one of 1; three batches of 4 are not taken."""
    indices = jnp.array([3, 17, 4, 9, 20] + [-1] * 8)
    seen, _ = batches_seen(indices, batch=4)
    np.testing.assert_allclose(np.sort(seen[[3, 4, 9, 17, 20]]), [0.25] * 4 + [1.0])
    assert np.sum(seen) == pytest.approx(2.0)


def test_a_row_named_twice_counts_twice():
    seen, _ = batches_seen(jnp.array([1, 1, 2, 0]), batch=4)
    np.testing.assert_allclose(seen[:3], [0.25, 0.5, 0.25])


def test_steps_without_examples_leave_momentum_alone(key):
    """Adam moves on in a step of gradient zero: such a step must not be taken."""
    indices = jnp.arange(6)
    padded = jnp.concatenate([jnp.full(9, -1), indices])
    # all six in one batch, so that their order does not matter
    alone, _ = trained(started(key), indices, batch=6)
    found, _ = trained(started(key), padded, batch=6)
    assert_close(found.params, alone.params)
    assert_close(found.optimiser, alone.optimiser)


def test_one_batch_is_full_batch_descent_by_optax(key):
    state, info = trained(started(key), epochs=5, batch=100)
    params, optimiser_state = MODEL.init(key, jnp.asarray(TRAIN.inputs)), None
    optimiser_state, expected = ADAM.init(params), []
    for _ in range(5):
        value, gradient = jax.value_and_grad(
            lambda params: loss(params, jnp.asarray(TRAIN.inputs), jnp.asarray(TRAIN.labels)).mean()
        )(params)
        updates, optimiser_state = ADAM.update(gradient, optimiser_state)
        params = optax.apply_updates(params, updates)
        expected.append(value)
    assert_close(state.params, params)
    np.testing.assert_allclose(info.loss, expected, rtol=1e-10)


@pytest.mark.parametrize(("indices", "batch"), [(None, 6), (np.array([3, 17, 4, -1, -1]), 2)])
def test_the_loss_of_an_epoch_is_the_mean_over_its_examples(key, indices, batch):
    """The last batch is short; of rows of -1 there is none. Nothing moves at a rate of 0."""
    still = optax.sgd(0.0)
    state = fit.start(MODEL.init(key, jnp.asarray(TRAIN.inputs)), still, key)
    _, info = fit.epochs(loss, still, state, TRAIN, epochs=2, batch=batch, indices=indices)
    rows = np.arange(len(TRAIN.labels)) if indices is None else indices[indices >= 0]
    expected = loss(state.params, jnp.asarray(TRAIN.inputs[rows]), jnp.asarray(TRAIN.labels[rows]))
    np.testing.assert_allclose(info.loss, [expected.mean()] * 2, rtol=1e-12)


def test_segments_of_epochs_are_one_run(key):
    whole, info = trained(started(key), epochs=3)
    state, parts = started(key), []
    for _ in range(3):
        state, part = trained(state, epochs=1)
        parts.append(part.loss)
    assert_close(state.params, whole.params)
    np.testing.assert_allclose(np.concatenate(parts), info.loss)
    assert int(state.epoch) == 3
    assert len(set(np.asarray(info.loss).tolist())) == 3


def test_augmentation_has_a_new_key_each_step(key):
    """Noise of mean 0 that is the same in each step would leave the two epochs' shifts alike."""
    shifts = []

    def noted(key, inputs):
        noise = jax.random.normal(key)
        jax.debug.callback(lambda value: shifts.append(float(value)), noise)
        return inputs + noise

    trained(started(key), epochs=2, batch=6, augment=noted)
    jax.effects_barrier()
    assert len(shifts) == len(set(shifts)) == 2 * fit.steps_per_epoch(22, 6)


@pytest.mark.slow
def test_members_with_rates_and_rows_of_their_own_equal_those_trained_alone():
    examples = Examples(*map(jnp.asarray, TRAIN))
    rates = jnp.array([1e-3, 1e-2, 0.1])
    parts = jnp.array([[0, 1, 2, 3, 4, -1], [5, 6, -1, -1, -1, -1], [7, 8, 9, 10, 11, 12]])
    keys = members.keys(jax.random.key(1), 3)

    def member(own, examples):
        key, rate, indices = own
        optimiser = optax.sgd(rate, momentum=0.9)
        state = started(key, optimiser)
        state, info = fit.epochs(
            loss, optimiser, state, examples, epochs=3, batch=2, indices=indices
        )
        return state.params, info

    found = members.map(member, (keys, rates, parts), examples, chunk=3)
    alone = [member((keys[i], float(rates[i]), parts[i]), examples) for i in range(3)]
    assert_close(found, tree.stack(alone), rtol=1e-9)


@pytest.mark.slow
def test_a_joint_loss_is_a_loss_of_stacked_params(key):
    """Of a loss that is a mean over members, the joint ensemble is its members trained alone."""
    optimiser = optax.sgd(0.1)
    examples = Examples(*map(jnp.asarray, TRAIN))
    stacked = members.init(MODEL.init, key, 2, examples.inputs)
    apply = jax.vmap(MODEL.apply, (0, None))

    def joint(params, inputs, labels):
        logits = apply(params, inputs)
        return losses.cross_entropy(logits, jnp.broadcast_to(labels, logits.shape[:2])).sum(0)

    def run(loss, params):
        state = fit.start(params, optimiser, key)
        return fit.epochs(loss, optimiser, state, examples, epochs=2, batch=5)[0].params

    alone = [run(loss, params) for params in tree.unstack(stacked)]
    assert_close(run(joint, stacked), tree.stack(alone))


def test_a_member_without_examples_stays_and_its_loss_is_not_a_number(key):
    state, info = trained(started(key), jnp.full(6, -1))
    assert_close(state.params, started(key).params, rtol=0)
    assert np.isnan(info.loss).all()


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"epochs": -1}, ValueError, "epochs: got -1"),
        ({"batch": 0}, ValueError, "batch: got 0"),
        ({"indices": jnp.array([0, 22])}, ValueError, "indices: got 0 to 22; rows are 0 to 21"),
        ({"indices": jnp.array([-2, 3])}, ValueError, "indices: got -2 to 3"),
        ({"indices": jnp.array([0.0])}, TypeError, "indices: got dtype float64"),
        ({"indices": jnp.zeros((2, 2), int)}, ValueError, "indices: got shape"),
        ({"examples": Examples(TRAIN.inputs, LABELS[:3])}, ValueError, "examples: got inputs"),
        ({"loss": lambda *a: loss(*a).mean()}, ValueError, "loss: gave shape"),
    ],
)
def test_bad_input(changed, error, words, key):
    given = {"loss": loss, "examples": TRAIN, "epochs": 1, "batch": 4, **changed}
    function, examples = given.pop("loss"), given.pop("examples")
    with pytest.raises(error, match=words):
        fit.epochs(function, ADAM, started(key), examples, **given)
