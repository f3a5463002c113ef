import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntkens import tree
from ntkens.data import Examples
from ntkens.models import mlp
from ntkens.sparsity import dynamic, masks
from ntkens.training import fit, losses, members

MODEL = mlp.mlp([12], 3, parametrisation="standard", w_std=2**0.5, b_std=0.0)
RANDOM = np.random.default_rng(0)
TRAIN = Examples(jnp.asarray(RANDOM.normal(size=(24, 6))), jnp.asarray(RANDOM.integers(0, 3, 24)))
PERIOD, END, STEPS, FRACTION = 3, 10, 17, 0.5
KEPT = 0.2, 0.6  # of the weights of each layer, to the next whole one
EXCHANGES = [3, 6, 9]
METHODS = pytest.mark.parametrize("method", ["rigl", pytest.param("set", marks=pytest.mark.slow)])


def beginning():
    """Params of two members and masks of unequal density, with nothing to compile."""
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), TRAIN.inputs)
    params = jax.tree.map(lambda leaf: RANDOM.normal(size=(2, *leaf.shape)), shapes)

    def mask(w):
        places = np.arange(w[0].size)
        each = [RANDOM.permutation(places < share * w[0].size) for share in KEPT]
        return np.reshape(each, w.shape)

    return params, {name: mask(w) for name, w in masks.weights(params).items()}


START = beginning()


def loss(params, inputs, labels):
    return losses.cross_entropy(MODEL.apply(params, inputs), labels)


def mean_loss(params):
    return jnp.mean(loss(params, *TRAIN))


def optimiser(method, key, mask):
    """With two moments and weight decay for weights, and what else there is treated apart."""
    inner = optax.multi_transform(
        {"weights": optax.adamw(0.05, weight_decay=0.1), "rest": optax.sgd(0.05, momentum=0.9)},
        lambda params: jax.tree.map(lambda leaf: "rest" if len(leaf) == 1 else "weights", params),
    )
    if method == "set":
        return dynamic.set(key, inner, mask, period=PERIOD, end=END, fraction=FRACTION)
    return dynamic.rigl(inner, mask, period=PERIOD, end=END, fraction=FRACTION)


@functools.cache
def trajectory(method):
    """Params and states of two members of unequal density, [members steps + 1 ...]."""

    def member(key, params, mask):
        own = optimiser(method, key, mask)
        params = masks.apply(params, mask)
        start = (params, own.init(params))

        def step(carry, _):
            *after, _ = fit.step(loss, own, *carry, *TRAIN)
            return tuple(after), tuple(after)

        _, rest = jax.lax.scan(step, start, length=STEPS)
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, rest)

    keys = members.keys(jax.random.key(3), 2)
    return jax.jit(jax.vmap(member))(keys, *START)


def moments(state):
    """Both of Adam's, as weights."""
    (adam,) = (each for each in jax.tree.leaves(state.inner, is_leaf=is_adam) if is_adam(each))
    return masks.weights(adam.mu), masks.weights(adam.nu)


def is_adam(node):
    return isinstance(node, optax.ScaleByAdamState)


def brute_force(mask, weight, score, fraction):
    """One layer, flat, by sorting lists."""
    active = [i for i in range(len(mask)) if mask[i]]
    inactive = [i for i in range(len(mask)) if not mask[i]]
    moving = max(0, min(round(fraction * len(active)), len(active), len(inactive)))
    dropped = sorted(active, key=lambda i: (abs(weight[i]), -i))[:moving]
    activated = sorted(inactive, key=lambda i: (-score[i], i))[:moving]
    return dropped, activated


def test_an_exchange_is_the_brute_force_one():
    """Ties in all; layers that are dense, nearly dense, sparse, of one weight, and empty."""
    counts = {"dense": 30, "nearly": 27, "sparse": 9, "one": 1, "none": 0}
    mask = {name: RANDOM.permutation(np.arange(30) < kept) for name, kept in counts.items()}
    weights = {name: np.round(RANDOM.normal(size=30), 1) for name in counts}
    scores = {name: np.round(RANDOM.normal(size=30), 1) for name in counts}
    fractions = np.array([0.0, 0.1, 0.3, 0.7, 1.0, 2.0, -0.3])  # traced, and so not refused
    found = jax.vmap(dynamic.exchange, (None, None, None, 0))(mask, weights, scores, fractions)
    for name in counts:
        for fraction, after in zip(fractions, found[name], strict=True):
            dropped, activated = brute_force(mask[name], weights[name], scores[name], fraction)
            expected = mask[name].copy()
            expected[dropped], expected[activated] = False, True
            np.testing.assert_array_equal(after, expected, err_msg=f"{name} {fraction}")
            assert after.sum() == counts[name]


@METHODS
def test_a_run_keeps_counts_zeros_and_memory(method):
    params, state = trajectory(method)
    weights = masks.weights(params)
    for name, mask in state.mask.items():
        mask = np.asarray(mask)
        counts = mask.reshape(*mask.shape[:2], -1).sum(-1)
        assert (counts == counts[:, :1]).all()
        moved = (mask[:, 1:] != mask[:, :-1]).any((0, *range(2, mask.ndim)))
        steps = np.flatnonzero(moved).tolist()
        assert steps == EXCHANGES if method == "set" else steps[:2] == EXCHANGES[:2]
        assert steps[-1] < END
        assert (np.asarray(weights[name])[~mask] == 0).all()
        assert (np.asarray(weights[name])[mask] != 0).mean() > 0.5  # the new ones begin at zero
        for memory in moments(state):
            assert (np.asarray(memory[name])[~mask] == 0).all()
            for step in EXCHANGES:  # the memory of what stays is left alone, of the new it is zero
                stay = mask[:, step] & mask[:, step + 1]
                after = np.where(stay, memory[name][:, step], 0)
                np.testing.assert_array_equal(memory[name][:, step + 1], after)


@METHODS
def test_an_exchange_changes_the_loss_by_the_drop_alone(method):
    params, state = trajectory(method)
    for step in EXCHANGES:
        before, after = (tree.index(params, (slice(None), step + late)) for late in (0, 1))
        old, new = (
            tree.index(state.mask, (slice(None), step)),
            tree.index(state.mask, (slice(None), step + 1)),
        )
        dropped = jax.vmap(masks.apply)(before, jax.tree.map(jnp.logical_and, old, new))
        jax.tree.map(np.testing.assert_array_equal, after, dropped)  # all params, so the loss too


def test_rigl_activates_the_steepest_of_the_inactive():
    params, state = trajectory("rigl")
    gradients = masks.weights(jax.jit(jax.vmap(jax.vmap(jax.grad(mean_loss))))(params))
    for name, mask in state.mask.items():
        for member, step in np.ndindex(2, len(EXCHANGES)):
            step = EXCHANGES[step]
            old, new = (np.ravel(mask[member, step + late]) for late in (0, 1))
            weight = np.ravel(masks.weights(params)[name][member, step])
            score = np.abs(np.ravel(gradients[name][member, step]))
            fraction = FRACTION / 2 * (1 + np.cos(np.pi * step / END))
            dropped, activated = brute_force(old, weight, score, fraction)
            assert sorted(np.flatnonzero(old & ~new)) == sorted(dropped)
            assert sorted(np.flatnonzero(new & ~old)) == sorted(activated)


@METHODS
def test_over_parametrisation_grows_from_the_density(method):
    _, state = trajectory(method)
    rates = np.asarray(jax.vmap(jax.vmap(dynamic.in_time_over_parametrisation))(state))
    np.testing.assert_allclose(rates[:, 0], jax.vmap(masks.density)(START[1]), rtol=1e-12)
    grew = np.diff(rates, axis=1)
    assert (grew >= 0).all()
    assert (rates <= 1).all()
    assert (grew[:, [step for step in range(STEPS) if step not in EXCHANGES]] == 0).all()
    assert (grew[:, EXCHANGES[0]] > 0).all()


def test_over_parametrisation_of_set_has_a_closed_form():
    """Each exchange activates n of the N - K inactive at random: of those never active, that share.

    R_s = 1 - (1 - K/N) (1 - n/(N - K))^exchanges in the mean, whatever is dropped.
    """
    size, kept, exchanges, runs = 1000, 200, 6, 60
    params = {"kernel": jnp.zeros((40, 25))}
    mask = {"kernel": jnp.arange(size).reshape(40, 25) < kept}

    def run(key):
        own = dynamic.set(key, optax.sgd(0.1), mask, period=1, end=exchanges + 1)

        def step(state, _):
            return own.update(params, state, params)[1], None

        state, _ = jax.lax.scan(step, own.init(params), length=exchanges + 1)
        return dynamic.in_time_over_parametrisation(state)

    rates = jax.vmap(run)(members.keys(jax.random.key(8), runs))
    expected = 1 - (1 - kept / size) * (1 - 0.3 * kept / (size - kept)) ** exchanges
    error = np.std(rates, ddof=1) / runs**0.5
    assert error > 0
    assert abs(np.mean(rates) - expected) < 5 * error


def member(key, kept, train):
    params = MODEL.init(key, train.inputs)
    mask = masks.top(jax.tree.map(jnp.abs, masks.weights(params)), kept)
    own = optimiser("rigl", key, mask)
    state = fit.start(masks.apply(params, mask), own, key)
    state, _ = fit.epochs(loss, own, state, train, epochs=2, batch=7)
    return state.params, state.optimiser.mask


def in_programs(program, name):
    """Equations of one name, in a program and all programs within."""
    for equation in program.eqns:
        if equation.primitive.name == name:
            yield equation
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            if hasattr(inner, "eqns"):
                yield from in_programs(getattr(inner, "jaxpr", inner), name)


@pytest.mark.slow
def test_vmapped_members_equal_those_trained_alone(key):
    own = (members.keys(key, 3), jnp.array([20, 40, 60]))
    vmapped = jax.vmap(lambda own: member(*own, TRAIN))
    together = jax.jit(vmapped)(own)
    alone = members.map(lambda own, train: member(*own, train), own, TRAIN, chunk=1)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), together, alone
    )
    # and vmapped, an exchange is still a branch: else all its work would be done at every step
    assert any(in_programs(jax.make_jaxpr(vmapped)(own).jaxpr, "cond"))


def test_dtypes_stay_as_the_optimiser_has_them():
    """Updates and memory wider than the params; memory that is not of single weights."""
    params = {"kernel": jnp.ones((4, 3), jnp.bfloat16)}
    mask = {"kernel": jnp.eye(4, 3, dtype=bool)}
    for inner in (optax.adam(0.1, mu_dtype=jnp.float32), optax.adafactor(0.1)):
        own = dynamic.rigl(inner, mask, period=1, end=3)
        state = jax.eval_shape(own.init, params)
        updates, after = jax.eval_shape(own.update, params, state, params)
        expected, _ = jax.eval_shape(inner.update, params, state.inner, params)
        assert (updates, after) == (expected, state)


def test_bad_input_is_named(key):
    mask = {"kernel": jnp.ones((4, 3), bool)}
    params = {"kernel": jnp.zeros((4, 3))}
    sgd = optax.sgd(0.1)
    with pytest.raises(ValueError, match="period: got 0"):
        dynamic.rigl(sgd, mask, period=0, end=3)
    with pytest.raises(ValueError, match="end: got -1"):
        dynamic.set(key, sgd, mask, period=1, end=-1)
    with pytest.raises(ValueError, match=r"fraction: got 1\.5"):
        dynamic.set(key, sgd, mask, period=1, end=3, fraction=1.5)
    own = dynamic.rigl(sgd, mask, period=1, end=3)
    with pytest.raises(ValueError, match=r"mask\['kernel'\]: got shape"):
        own.init({"kernel": jnp.zeros((3, 4))})
    with pytest.raises(ValueError, match="params: got None"):
        own.update(params, own.init(params))
