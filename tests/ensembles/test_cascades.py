"""Cascades against a loop over examples in NumPy, and the identities of the specification."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special

from ntkens.ensembles import cascades, confidence
from ntkens.ensembles.cascades import EMPTY, FULL, Window

SCORES = (
    confidence.max_softmax,
    confidence.max_softmax_less_one,
    confidence.negative_entropy,
    confidence.max_logit,
    confidence.negative_energy,
)
# A few values only, so that ties are the rule.
TIED = arrays.arrays(
    np.float64, st.sampled_from([1, 2, 7, 30]), elements=st.integers(-3, 3).map(float)
)

jitted_at_coverage = jax.jit(cascades.threshold_at_coverage)
jitted_at_risk = jax.jit(cascades.threshold_at_risk, static_argnames="first")
jitted_around = jax.jit(cascades.around)
jitted_lowest = jax.jit(cascades.lowest)


def logits_of(members, n=150, classes=4, seed=0):
    return 2 * np.random.default_rng(seed).normal(size=(members, n, classes))


def numpy_score(score, logits, of_mean):
    """By the definitions, of one example, [members classes]."""
    softmaxes = special.softmax(logits, axis=-1)
    p = softmaxes.mean(axis=0)
    if of_mean and len(logits) > 1:
        return {"max_softmax": p.max(), "max_softmax_less_one": p.max() - 1,
                "negative_entropy": np.sum(p * np.log(p))}[score.__name__]  # fmt: skip
    each = {
        "max_softmax": softmaxes.max(axis=1),
        "max_softmax_less_one": softmaxes.max(axis=1) - 1,
        "negative_entropy": np.sum(softmaxes * np.log(softmaxes), axis=1),
        "max_logit": logits.max(axis=1),
        "negative_energy": np.log(np.sum(np.exp(logits), axis=1)),
    }
    return each[score.__name__].mean()


def numpy_cascade(logits, score, windows, of_mean):
    """One example at a time, asking a member only when it is needed."""
    found = []
    for example in range(logits.shape[1]):
        asked = 1
        while True:
            seen = logits[:asked, example]
            value = numpy_score(score, seen, of_mean)
            is_last = asked == len(logits)
            if is_last or value > windows[asked - 1].upper or value < windows[asked - 1].lower:
                break
            asked += 1
        found.append((special.softmax(seen, axis=-1).mean(axis=0), value, asked - 1))
    return [np.array(part) for part in zip(*found, strict=True)]


def windows_of(stages, width=0.15):
    scores = stages.scores[:-1]
    found = [cascades.around(s, cascades.threshold_at_coverage(s, 0.6), width) for s in scores]
    # The ends are scores; off them, rounding decides nothing. Ties have tests of their own.
    return [Window(window.lower - 1e-9, window.upper + 1e-9) for window in found]


@pytest.mark.slow
@pytest.mark.parametrize("members", [2, 4])
@pytest.mark.parametrize(
    ("score", "of_mean"),
    [*((score, False) for score in SCORES), *((score, True) for score in SCORES[:3])],
)
def test_run_equals_a_loop_over_examples(score, of_mean, members):
    logits = logits_of(members)
    stages = cascades.stages(logits, score, of_mean=of_mean)
    windows = windows_of(stages)
    found = cascades.run(stages, windows)
    assert set(np.unique(found.exits)) == set(range(members))  # the oracle is asked every branch
    probabilities, scores, exits = numpy_cascade(logits, score, windows, of_mean)
    np.testing.assert_array_equal(found.exits, exits)
    np.testing.assert_allclose(found.probabilities, probabilities, rtol=1e-12)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-12)


@pytest.mark.parametrize(
    ("members", "dtype"), [(1, np.float64), (2, np.float64), (3, np.float32), (4, np.float64)]
)
def test_an_empty_window_is_member_1_and_a_full_one_the_ensemble_to_the_bit(members, dtype):
    logits = jnp.asarray(logits_of(members), dtype)
    stages = cascades.stages(logits, confidence.max_softmax)
    alone = cascades.run(stages, [EMPTY] * (members - 1))
    np.testing.assert_array_equal(alone.probabilities, jax.nn.softmax(logits[0]))
    np.testing.assert_array_equal(alone.scores, confidence.max_softmax(logits[0]))
    whole = cascades.run(stages, [FULL] * (members - 1))
    np.testing.assert_array_equal(whole.probabilities, jnp.mean(jax.nn.softmax(logits), axis=0))
    np.testing.assert_array_equal(whole.scores, jnp.mean(confidence.max_softmax(logits), axis=0))
    assert alone.probabilities.dtype == whole.probabilities.dtype == dtype
    macs = 3.0 ** np.arange(members)
    assert cascades.average_macs(alone.exits, macs) == 1
    assert cascades.average_macs(whole.exits, macs) == macs.sum()


@pytest.mark.parametrize("members", [2, 4])
def test_outside_the_window_is_member_1_to_the_bit(members):
    logits = logits_of(members)
    stages = cascades.stages(logits, confidence.negative_entropy)
    windows = windows_of(stages)
    found = cascades.run(stages, windows)
    first = np.asarray(stages.scores[0])
    outside = (first < windows[0].lower) | (first > windows[0].upper)
    assert 0.5 < outside.mean() < 0.9
    np.testing.assert_array_equal(found.exits == 0, outside)
    np.testing.assert_array_equal(
        found.probabilities[outside], jax.nn.softmax(jnp.asarray(logits[0]))[outside]
    )
    np.testing.assert_array_equal(found.scores[outside], first[outside])


def test_the_ends_of_a_window_are_inside():
    stages = cascades.Stages(jnp.zeros((2, 5, 3)), jnp.array([[1.0, 2, 2, 3, 4], [9, 9, 9, 9, 9]]))
    exits = cascades.run(stages, [Window(2.0, 3.0)]).exits
    np.testing.assert_array_equal(exits, [0, 1, 1, 1, 0])


def test_whole_costs_are_exact_under_jit_too():
    macs = np.array([5.0, 7.0])
    for n in (49, 565):  # n times the rounded 1 / n is less than 1
        found = jax.jit(cascades.average_macs)(jnp.ones(n, int), macs)
        assert found == 12


def test_cost_is_counted_member_by_member():
    macs = np.array([5.0, 7.0, 11.0])
    exits = np.array([0, 2, 1, 0, 0, 2])
    by_example = [macs[: stage + 1].sum() for stage in exits]
    assert float(cascades.average_macs(exits, macs)) == pytest.approx(np.mean(by_example))
    assert cascades.average_macs(exits, np.zeros(3)) == 0  # a member may be free


@given(scores=TIED, eighths=st.integers(1, 8))
def test_threshold_at_coverage_is_the_nearest_of_all(scores, eighths):
    scores = scores[: 2 ** int(math.log2(len(scores)))]  # shares are exact then, and their ties too
    found = float(jitted_at_coverage(scores, eighths / 8))
    distance = {tau: abs(np.mean(scores >= tau) - eighths / 8) for tau in scores}
    assert found == min(tau for tau in distance if distance[tau] == min(distance.values()))


@given(scores=TIED, risk=st.floats(0, 1), share=st.sampled_from([0.01, 0.5, 1]), data=st.data())
def test_threshold_at_risk_is_the_nearest_of_all(scores, risk, share, data):
    costs = data.draw(arrays.arrays(np.float64, len(scores), elements=st.integers(0, 2).map(float)))
    first = math.ceil(share * len(scores))
    found = float(jitted_at_risk(scores, costs, risk, first=first))
    distance = {
        tau: abs(costs[scores >= tau].mean() - risk)
        for tau in scores
        if np.sum(scores >= tau) >= first
    }
    assert distance[found] <= min(distance.values()) + 1e-12


def test_where_nothing_is_wrong_all_are_accepted():
    scores = np.random.default_rng(0).normal(size=30)
    assert cascades.threshold_at_risk(scores, 0 * scores, 0.05, first=3) == scores.min()


@given(scores=TIED, coverage=st.floats(0.05, 1), width=st.floats(0, 0.6))
def test_a_window_around_a_threshold_holds_the_ranks_around_it(scores, coverage, width):
    """With ties too: every score between the ends, and nothing of the share asked is left out."""
    n = len(scores)
    threshold = jitted_at_coverage(scores, coverage)
    window = jitted_around(scores, threshold, width)
    inside = (window.lower <= scores) & (scores <= window.upper)
    q = np.mean(scores < float(threshold))
    asked = (min(q + width, 1) - max(q - width, 0)) * n
    assert inside.sum() >= asked - 1 - 1e-9
    below, reach = np.sum(scores < float(threshold)), width * n
    kept = np.sort(scores)[max(round(below - reach), 0) : round(below + reach)]
    assert set(kept) == set(scores[inside])


@pytest.mark.parametrize("n", [7, 101])
@pytest.mark.parametrize("coverage", [0.97, 0.8, 0.5, 0.05])
@pytest.mark.parametrize("width", [0.0, 0.03, 0.1, 0.25])
def test_the_share_inside_is_twice_the_width_unless_clipped(n, coverage, width):
    scores = np.random.default_rng(n).normal(size=n)
    threshold = jitted_at_coverage(scores, coverage)
    window = jitted_around(scores, threshold, width)
    q = np.mean(scores < float(threshold))
    expected = min(q + width, 1) - max(q - width, 0)
    inside = np.mean((window.lower <= scores) & (scores <= window.upper))
    assert abs(inside - expected) <= 1 / n + 1e-12


@given(scores=TIED, share=st.floats(0, 1))
def test_a_single_threshold_takes_the_lowest(scores, share):
    window = jitted_lowest(scores, share)
    inside = (window.lower <= scores) & (scores <= window.upper)
    count = round(share * len(scores))
    assert set(scores[inside]) == set(np.sort(scores)[:count])


def test_the_widest_windows_are_full_and_the_narrowest_empty():
    scores = np.random.default_rng(0).normal(size=50)
    threshold = cascades.threshold_at_coverage(scores, 0.7)
    assert cascades.around(scores, threshold, 1.0) == FULL
    assert cascades.around(scores, threshold, 0.0) == EMPTY
    assert cascades.lowest(scores, 1.0) == FULL
    assert cascades.lowest(scores, 0.0) == EMPTY


@pytest.mark.slow
def test_widening_moves_the_risk_from_the_single_member_to_the_ensemble():
    """Members that err independently: on average over draws a wider window is never worse."""
    n, widths = 400, jnp.array([0.0, 0.05, 0.1, 0.2, 0.5, 1.0])

    def risks(key):
        label_key, noise_key = jax.random.split(key)
        labels = jax.random.randint(label_key, (n,), 0, 3)
        logits = 1.5 * jax.nn.one_hot(labels, 3)[None] + jax.random.normal(noise_key, (2, n, 3))
        stages = cascades.stages(logits, confidence.max_softmax, of_mean=True)
        threshold = cascades.threshold_at_coverage(stages.scores[0], 0.8)

        def risk(width):
            window = cascades.around(stages.scores[0], threshold, width)
            outputs = cascades.run(stages, [window])
            accepted = outputs.scores >= cascades.threshold_at_coverage(outputs.scores, 0.8)
            wrong = jnp.argmax(outputs.probabilities, axis=-1) != labels
            return jnp.sum(wrong & accepted) / jnp.sum(accepted), jnp.mean(outputs.exits)

        return jax.vmap(risk)(widths)

    found, reaching = jax.jit(jax.vmap(risks))(jax.random.split(jax.random.key(0), 100))
    course, error = found.mean(axis=0), found.std(axis=0) / math.sqrt(100)
    assert jnp.all(jnp.diff(course) < 2 * error[1:])
    assert course[0] - course[-1] > 10 * error[0]
    assert jnp.all(reaching[:, 0] == 0)
    assert jnp.all(reaching[:, -1] == 1)
    # Those asked about are the ones to ask about: more of the gain than of the cost.
    assert course[0] - course[2] > 1.2 * reaching[:, 2].mean() * (course[0] - course[-1])


def test_a_window_under_shift_keeps_its_threshold_and_its_share():
    rng = np.random.default_rng(0)
    validation = rng.normal(size=1000)
    mix = np.concatenate([rng.normal(size=500), rng.normal(size=500) - 2])
    threshold = cascades.threshold_at_coverage(validation, 0.8)

    def share(window, scores):
        return np.mean((window.lower <= scores) & (scores <= window.upper))

    fixed, adapted = (cascades.around(scores, threshold, 0.1) for scores in (validation, mix))
    assert abs(share(fixed, mix) - 0.2) > 0.015  # ranks of validation are not those of the mix
    assert abs(share(adapted, mix) - 0.2) <= 1e-3
    assert adapted.lower <= threshold <= adapted.upper


def test_no_threshold_takes_other_data():
    """That OOD data cannot move them is their signature: validation scores, costs and numbers."""
    import inspect

    found = {
        name: list(inspect.signature(getattr(cascades, name)).parameters)
        for name in ("threshold_at_coverage", "threshold_at_risk")
    }
    assert found == {
        "threshold_at_coverage": ["scores", "coverage"],
        "threshold_at_risk": ["scores", "costs", "risk", "first"],
    }


def test_vmapped_over_seeds_and_jitted_is_the_same_as_one_by_one():
    logits = np.stack([logits_of(3, seed=seed) for seed in range(2)])
    labels = np.random.default_rng(9).integers(0, 4, (2, 150))

    def one(logits, labels):
        stages = cascades.stages(logits, confidence.negative_entropy, of_mean=True)
        wrong = jnp.argmax(stages.probabilities[0], axis=-1) != labels
        threshold = cascades.threshold_at_risk(stages.scores[0], wrong, 0.3, first=5)
        windows = [cascades.around(stages.scores[0], threshold, 0.1),
                   cascades.lowest(stages.scores[1], 0.3)]  # fmt: skip
        outputs = cascades.run(stages, windows)
        return outputs, cascades.average_macs(outputs.exits, jnp.arange(3) + 1.0)

    together = jax.jit(jax.vmap(one))(jnp.asarray(logits), jnp.asarray(labels))
    for seed in range(2):
        alone = one(jnp.asarray(logits[seed]), jnp.asarray(labels[seed]))
        jax.tree.map(
            lambda left, right, seed=seed: np.testing.assert_allclose(
                left[seed], right, rtol=1e-12
            ),
            together,
            alone,
        )


LOGITS, ROW = np.zeros((2, 5, 3)), np.arange(5.0)
STAGES = cascades.Stages(np.zeros((2, 5, 3)), np.zeros((2, 5)))
stages = functools.partial(cascades.stages, score=confidence.max_softmax)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: stages(LOGITS[0]), ValueError, r"logits: got shape \(5, 3\)"),
        (lambda: stages(LOGITS[:0]), ValueError, r"logits: got shape \(0, 5, 3\)"),
        (lambda: stages(LOGITS.astype(int)), TypeError, "logits: got dtype int"),
        (lambda: stages(LOGITS + np.nan), ValueError, "logits: holds NaN"),
        (lambda: cascades.stages(LOGITS, confidence.max_logit, of_mean=True), ValueError,
         "of_mean: max_logit"),
        (lambda: cascades.run(STAGES, []), ValueError, "windows: got 0; 2 members have"),
        (lambda: cascades.average_macs(np.array([0, 2]), np.ones(2)), ValueError, "exits: got 2"),
        (lambda: cascades.average_macs(np.array([0]), np.array([-1.0])), ValueError, "macs: got"),
        (lambda: cascades.average_macs(np.array([0]), np.array([1.0, -1.0])), ValueError, "macs"),
        (lambda: cascades.average_macs(np.array(0), np.ones(2)), ValueError, "exits"),
        (lambda: cascades.threshold_at_coverage(ROW, 0.0), ValueError, "coverage: got 0.0"),
        (lambda: cascades.threshold_at_coverage(ROW[:0], 0.5), ValueError, "scores: got shape"),
        (lambda: cascades.threshold_at_coverage(ROW.astype(int), 0.5), TypeError, "scores: got"),
        (lambda: cascades.threshold_at_coverage(ROW * np.nan, 0.5), ValueError, "scores: holds"),
        (lambda: cascades.threshold_at_risk(ROW, ROW[1:], 0.1, first=1), ValueError, "costs: got"),
        (lambda: cascades.threshold_at_risk(ROW, ROW, 0.1, first=6), ValueError, "first: got 6"),
        (lambda: cascades.threshold_at_risk(ROW, ROW * np.nan, 0.1, first=1), ValueError,
         "costs: holds"),
        (lambda: cascades.threshold_at_risk(ROW, ROW, np.nan, first=1), ValueError, "risk: holds"),
        (lambda: cascades.average_macs(np.zeros(0, int), np.ones(2)), ValueError, "exits"),
        (lambda: cascades.around(ROW, np.nan, 0.1), ValueError, "threshold: holds"),
        (lambda: cascades.around(ROW, 1.0, -0.1), ValueError, "width: got -0.1"),
        (lambda: cascades.lowest(ROW, 1.1), ValueError, "share: got 1.1"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
