"""Concrete ticket search: its identities at every step, and all masks of a tiny network."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logit

from ntkens.data import Examples
from ntkens.sparsity import masks, objectives, tickets

STEPS, KEPT, RATE = 120, 5, 0.1
COSTS = {"a": np.linspace(-3, 1, 8), "b": np.linspace(-1, 2, 12)}  # of open gates; some earn
SIZE = 20


@functools.cache
def run():
    """Logits before each step and what it saw, of both controls and two scales of the task."""

    def trajectory(scale, control):
        def task(logits):
            opened = jax.tree.map(lambda cost, logit: cost @ jax.nn.sigmoid(logit), COSTS, logits)
            return scale * (opened["a"] + opened["b"])

        def one(state, _):
            after, info = tickets.step(task, state, KEPT, rate=RATE, control=control)
            return after, (state.logits, info)

        first = tickets.start(jax.tree.map(jnp.asarray, COSTS), KEPT)
        return jax.lax.scan(one, first, length=STEPS)[1]

    @jax.jit
    def both(scales):
        return [
            jax.vmap(lambda scale, control=control: trajectory(scale, control))(scales)
            for control in (tickets.grad_balance(), tickets.lagrange())
        ]

    return [jax.tree.map(np.asarray, each) for each in both(jnp.array([1.0, 1e4]))]


def gradients(logits, scale, wanted):
    """In NumPy: g_t, g_s [steps d] and err, all from the logits [steps d] alone."""
    p = expit(np.concatenate([logits["a"], logits["b"]], axis=1))
    task = scale * np.concatenate([COSTS["a"], COSTS["b"]]) * p * (1 - p)
    return task, 100 / wanted * p * (1 - p), 100 * (p.sum(axis=1) / wanted - 1)


@pytest.mark.parametrize("member", [0, 1])
def test_gradients_balance_at_every_step(member):
    """|lambda* g_s| = |g_t| where err > 0, lambda* = 0 elsewhere, and lambda is its average."""
    logits, info = jax.tree.map(lambda leaf: leaf[member], run()[0])
    task, sparsity, surplus = gradients(logits, (1, 1e4)[member], 1.1 * KEPT)
    np.testing.assert_allclose(info.surplus, surplus, rtol=1e-10, atol=1e-10)
    over = surplus > 0
    assert 10 < over.sum() < STEPS - 2  # both cases are seen
    balanced = np.linalg.norm(info.target[:, None] * sparsity, axis=1)
    np.testing.assert_allclose(balanced[over], np.linalg.norm(task, axis=1)[over], rtol=1e-12)
    assert (info.target[~over] == 0).all()
    average = [info.target[0]]
    for target in info.target[1:]:
        average.append(0.99 * average[-1] + 0.01 * target)
    np.testing.assert_allclose(info.multiplier, average, rtol=1e-12)


@pytest.mark.parametrize("control", [0, 1])
def test_a_step_is_adams(control):
    """Adam written out, on g_t + lambda g_s."""
    logits, info = jax.tree.map(lambda leaf: leaf[0], run()[control])
    task, sparsity, _ = gradients(logits, 1, (1.1, 1.0)[control] * KEPT)
    steps = np.concatenate([logits["a"], logits["b"]], axis=1)
    expected, first, second = steps[0], 0.0, 0.0
    for step in range(STEPS - 1):
        gradient = task[step] + info.multiplier[step] * sparsity[step]
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        mean, square = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        expected = expected - RATE * mean / (np.sqrt(square) + 1e-8)
        np.testing.assert_allclose(steps[step + 1], expected, rtol=1e-9, atol=1e-9)


def test_the_tasks_scale_matters_to_lagrange_alone():
    """But for the 1e-8 in Adam's denominator."""
    (balanced, _), (ascended, _) = run()
    np.testing.assert_allclose(balanced["a"][1], balanced["a"][0], atol=1e-5)
    assert np.abs(ascended["a"][1] - ascended["a"][0]).max() > 1


def test_lagrange_ascends():
    _, info = jax.tree.map(lambda leaf: leaf[0], run()[1])
    before = np.concatenate([[0], np.cumsum(0.01 * RATE * info.surplus)[:-1]])
    np.testing.assert_allclose(info.multiplier, before, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(info.expected, KEPT * (1 + info.surplus / 100), rtol=1e-12)
    assert (info.multiplier < 0).any()  # an equality, not a bound


def test_all_gates_start_at_the_density():
    state = tickets.start({"a": jnp.zeros((4, 5), jnp.float32)}, 3)
    np.testing.assert_allclose(state.logits["a"], logit(3 / SIZE), rtol=1e-6)
    assert state.multiplier.dtype == state.logits["a"].dtype == jnp.float32


# Every mask of 5 of the 12 weights of a tiny network: 792 of them, 16 networks.
SEEDS, OPEN = 16, 5


def apply(params, inputs):
    return jnp.tanh(inputs @ params["hidden"]["kernel"]) @ params["readout"]["kernel"]


def loss(params, inputs, labels):
    logs = jax.nn.log_softmax(apply(params, inputs))
    return -jnp.sum(logs * jax.nn.one_hot(labels, 3, dtype=logs.dtype), axis=1)


def tiny(key):
    """A network, and examples that it labels itself."""
    hidden, readout, points = jax.random.split(key, 3)
    params = {
        "hidden": {"kernel": jax.random.normal(hidden, (3, 2))},
        "readout": {"kernel": 2 * jax.random.normal(readout, (2, 3))},
    }
    inputs = jax.random.normal(points, (64, 3))
    return params, Examples(inputs, jnp.argmax(apply(params, inputs), axis=1))


def all_masks():
    chosen = np.array(list(itertools.combinations(range(12), OPEN)))
    flat = np.zeros((len(chosen), 12), bool)
    np.put_along_axis(flat, chosen, True, axis=1)
    return {"hidden/kernel": flat[:, :6].reshape(-1, 3, 2),
            "readout/kernel": flat[:, 6:].reshape(-1, 2, 3)}  # fmt: skip


@functools.cache
def searched():
    """Of each seed, at two densities: the search, and the losses of all masks and of SNIP's."""
    everything, objective = all_masks(), objectives.task_loss(loss)

    def one(key):
        params, examples = tiny(key)

        def search(kept):
            logits, info = tickets.search(
                key, objective, params, examples, kept, epochs=200, batch=64
            )
            return masks.top(logits, kept), logits, info

        def value(mask):
            return jnp.mean(loss(masks.apply(params, mask), *examples))

        slope = masks.weights(jax.grad(lambda p: jnp.mean(loss(p, *examples)))(params))
        saliency = jax.tree.map(lambda w, g: jnp.abs(w * g), masks.weights(params), slope)
        (mask, logits, info) = jax.vmap(search)(jnp.array([OPEN, 3]))
        of_ticket = value(jax.tree.map(lambda leaf: leaf[0], mask))
        losses = jax.vmap(value)(everything)
        return mask, logits, info, losses, of_ticket, value(masks.top(saliency, OPEN))

    keys = jax.random.split(jax.random.key(0), SEEDS)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))


@pytest.mark.slow
def test_a_ticket_is_among_the_best_of_all_masks():
    *_, losses, ticket, snip = searched()
    assert losses.shape == (SEEDS, 792)
    rank, snips = ((losses < of[:, None]).mean(axis=1) for of in (ticket, snip))
    assert rank.mean() < 0.05
    difference = snips - rank
    assert difference.mean() > 2 * difference.std(ddof=1) / np.sqrt(SEEDS)


@pytest.mark.slow
def test_a_mask_is_exact():
    mask, *_ = searched()
    for place, kept in enumerate((OPEN, 3)):
        count = sum(layer[:, place].reshape(SEEDS, -1).sum(axis=1) for layer in mask.values())
        assert (count == kept).all()


@pytest.mark.slow
def test_a_member_is_the_search_alone():
    """To rounding, which 200 steps let grow."""
    key = jax.random.split(jax.random.key(0), SEEDS)[3]
    params, examples = tiny(key)
    objective = objectives.task_loss(loss)
    logits, info = tickets.search(key, objective, params, examples, 3, epochs=200, batch=64)
    for name, layer in logits.items():
        np.testing.assert_allclose(layer, searched()[1][name][3, 1], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(info.expected, searched()[2].expected[3, 1], rtol=1e-6)


def test_a_search_has_the_dtype_of_the_params(key):
    params, examples = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == float else leaf, tiny(key)
    )
    for control in (tickets.grad_balance(), tickets.lagrange()):

        def search(key, control=control):
            objective = objectives.task_loss(loss)
            return tickets.search(
                key, objective, params, examples, 5, epochs=2, batch=30, control=control
            )

        logits, info = jax.eval_shape(search, key)
        assert {leaf.dtype.name for leaf in jax.tree.leaves((logits, info))} == {"float32"}
        assert info.objective.shape == (4,)  # 64 examples are 2 whole batches of 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kept": 0}, "kept: got 0; want 1 to 11"),
        ({"kept": 12}, "kept: got 12"),
        ({"epochs": 0}, "epochs: got 0"),
        ({"batch": 0}, "batch: got 0"),
        ({"examples": Examples(np.zeros((3, 3)), np.zeros(2, int))}, "examples: got inputs"),
        ({"params": {"readout": {"bias": jnp.zeros(3)}}}, "params: got leaves"),
        ({"variant": "other"}, "variant: got 'other'"),
        ({"temperature": -1.0}, "temperature: got -1.0"),
    ],
)
def test_what_cannot_be_searched_is_refused(key, change, message):
    params, examples = tiny(key)
    given = {"params": params, "examples": examples, "kept": 5, "epochs": 1, "batch": 8}
    with pytest.raises(ValueError, match=message):
        tickets.search(key, objectives.task_loss(loss), **given | change)


def test_a_density_is_no_count(key):
    with pytest.raises(TypeError, match=r"kept: got 0\.05"):
        tickets.start(masks.weights(tiny(key)[0]), 0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tickets.grad_balance(slack=0), "slack: got 0"),
        (lambda: tickets.grad_balance(memory=1), "memory: got 1"),
        (lambda: tickets.lagrange(slack=-1), "slack: got -1"),
        (lambda: tickets.lagrange(share=0), "share: got 0"),
    ],
)
def test_a_control_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
