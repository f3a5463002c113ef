"""Ensemble sizes against high precision, brute force and simulation."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkens.ensembles import complexity

MEAN, BITS = np.array([0.5, 0.2, -0.05]), np.array([1, 1, 0])


@mpmath.workdps(200)  # 1 - probability is formed by subtraction, down to 1e-177
def exact_failure(mean, variance, bits, members, counts):
    """1 - prod Phi(sqrt(N) m / s)^count, in high precision from the definition."""
    right = mpmath.mpf(1)
    for m, bit, count in zip(mean, bits, counts, strict=True):
        signed = mpmath.mpf(float(m)) * (1 if bit else -1)
        right *= mpmath.ncdf(mpmath.sqrt(members / mpmath.mpf(float(variance))) * signed) ** int(
            count
        )
    return 1 - right


@pytest.mark.parametrize("members", [1, 7, 300, 5000, 100_000])
def test_accuracy_equals_high_precision_in_both_tails(members):
    counts = np.array([2, 1, 10**6])
    failure = exact_failure(MEAN, 0.3, BITS, members, counts)
    ours = complexity.accuracy(MEAN, 0.3, BITS, members, counts)
    np.testing.assert_allclose(ours, float(1 - failure), rtol=1e-10)
    inputs = complexity._inputs(MEAN, 0.3, BITS, counts, None)
    np.testing.assert_allclose(complexity._failure(inputs, members), float(failure), rtol=1e-10)


@given(
    mean=st.floats(0.01, 2), ratio=st.floats(0.1, 10), variance=st.floats(0.01, 4),
    accuracy=st.floats(0.05, 0.999999), count=st.integers(1, 10**6),
)  # fmt: skip
def test_members_needed_is_the_smallest(mean, ratio, variance, accuracy, count):
    problem = (np.array([mean, -mean * ratio]), variance, np.array([1, 0]))
    counts = np.array([1, count])
    needed = int(complexity.members_needed(*problem, accuracy, counts))
    allowed = mpmath.mpf(1) - mpmath.mpf(accuracy)
    slack = mpmath.mpf(10) ** -11  # where the formula meets the accuracy to rounding
    assert exact_failure(*problem, needed, counts) <= allowed * (1 + slack)
    if needed > 1:
        assert exact_failure(*problem, needed - 1, counts) > allowed * (1 - slack)


def test_accuracy_equals_simulation(key):
    members, repeats = 40, 200_000
    outputs = MEAN[None] + jax.random.normal(key, (repeats, 3)) * jnp.sqrt(0.3 / members)
    right = jnp.all((outputs > 0) == (BITS > 0)[None], axis=1)
    exact = complexity.accuracy(MEAN, 0.3, BITS, members)
    error = jnp.sqrt(exact * (1 - exact) / repeats)
    assert abs(right.mean() - exact) < 5 * error


def test_counts_are_multiplicities():
    repeated = complexity.accuracy(np.repeat(MEAN, [2, 1, 4]), 0.3, np.repeat(BITS, [2, 1, 4]), 50)
    counted = complexity.accuracy(MEAN, 0.3, BITS, 50, counts=np.array([2, 1, 4]))
    np.testing.assert_allclose(counted, repeated, rtol=1e-14)
    absent = complexity.accuracy(MEAN, 0.3, 1 - BITS, 50, counts=np.zeros(3))
    assert absent == 1


@pytest.mark.slow
def test_weights_average_over_inputs_and_trained_inputs_are_right():
    mean = np.array([[1.0, 0.0], [0.5, -0.1]])  # the first is a training input: no variance
    bits, variance, weights = (
        np.array([[1, 0], [1, 0]]),
        np.array([0.0, 0.2]),
        np.array([0.25, 0.75]),
    )
    second = complexity.accuracy(mean[1], 0.2, bits[1], 30)
    both = complexity.accuracy(mean, variance, bits, 30, weights=weights)
    np.testing.assert_allclose(both, 0.25 + 0.75 * second, rtol=1e-14)
    needed = int(complexity.members_needed(mean, variance, bits, 0.99, weights=weights))
    assert complexity.accuracy(mean, variance, bits, needed, weights=weights) >= 0.99
    assert complexity.accuracy(mean, variance, bits, needed - 1, weights=weights) < 0.99
    assert complexity.members_needed(mean, variance, bits, 0.2, weights=weights) == 1
    never_asked = np.array([[-1.0, 0.0], mean[1]]), 0.2, bits, 0.9, None, np.array([0.0, 1.0])
    alone = complexity.members_needed(mean[1], 0.2, bits[1], 0.9)
    assert complexity.members_needed(*never_asked) == alone


def test_without_variance_the_rule_decides():
    assert complexity.accuracy(np.array([0.0]), 0.0, np.array([0]), 1) == 1  # 0 is not > 0
    assert complexity.accuracy(np.array([0.0]), 0.0, np.array([1]), 1) == 0
    assert complexity.accuracy(np.array([2.0]), 0.0, np.array([1]), 1) == 1


def brute_force_members(mean, covariance, bits, outputs, accuracy, samples, key):
    """The smallest N right at all inputs and outputs, 5 standard errors to either side."""
    deviations = jax.random.multivariate_normal(
        key, jnp.zeros(len(mean)), covariance, (samples, outputs), method="svd"
    )
    critical = complexity.critical_members(mean, deviations, bits).max(axis=1)
    error = 5 * np.sqrt(accuracy * (1 - accuracy) / samples)
    return np.quantile(critical, [accuracy - error, accuracy + error])


@pytest.mark.slow
def test_bounds_hold_the_joint_answer(key):
    """Three correlated inputs, two outputs: the truth, by simulation, lies within."""
    mean, bits = jnp.array([0.3, 0.5, -0.2]), np.array([1, 1, 0])
    factor = jnp.array([[1.0, 0.0, 0.0], [0.9, 0.4, 0.0], [-0.5, 0.3, 0.8]]) / 2
    covariance = factor @ factor.T
    variance = np.diagonal(covariance)
    low, high = brute_force_members(mean, covariance, bits, 2, 0.9, 200_000, key)
    bounds = complexity.members_needed_bounds(mean, variance, bits, 0.9, np.zeros(3), 2)
    assert bounds.lower <= high
    assert low <= bounds.upper
    assert bounds.lower < bounds.upper
    for members in (10, 40, 100):
        lower, upper = complexity.accuracy_bounds(mean, variance, bits, members, np.zeros(3), 2)
        noise = np.asarray(
            jax.random.multivariate_normal(
                key, jnp.zeros(3), covariance / members, (100_000, 2), method="svd"
            )
        )
        right = np.all((np.asarray(mean) + noise > 0) == (bits > 0), axis=(1, 2)).mean()
        assert lower - 0.006 < right < upper + 0.006  # 5 standard errors at most


def test_bounds_of_one_input_are_exact():
    bounds = complexity.members_needed_bounds(MEAN[:1], 0.3, BITS[:1], 0.999, np.zeros(1))
    exact = complexity.members_needed(MEAN[:1], 0.3, BITS[:1], 0.999)
    assert bounds.lower == bounds.upper == exact
    easy = complexity.members_needed_bounds(np.ones(1), 0.01, np.ones(1), 0.9, np.zeros(1))
    assert easy == (1, 1)


def test_a_union_past_certainty_is_a_bound_of_zero():
    bounds = complexity.accuracy_bounds(MEAN, 0.3, BITS, 1, np.full(3, 50.0), 2)
    assert bounds.lower == 0 < bounds.upper


def test_bounds_equal_brute_force_over_all_inputs():
    """The union over inputs listed one by one, in high precision."""
    mean, variance = np.array([0.4, -0.3]), np.array([0.2, 0.1])
    bits, multiplicity, outputs, members = np.array([1, 0]), np.array([3, 5]), 4, 25
    wrong = [
        1 - mpmath.ncdf(mpmath.sqrt(members / v) * abs(m))
        for m, v in zip(mean, variance, strict=True)
    ]
    union = sum(count * q for count, q in zip(multiplicity, wrong, strict=True))
    bounds = complexity.accuracy_bounds(
        mean, variance, bits, members, np.log(multiplicity), outputs
    )
    np.testing.assert_allclose(bounds.lower, float((1 - union) ** outputs), rtol=1e-12)
    np.testing.assert_allclose(bounds.upper, float((1 - max(wrong)) ** outputs), rtol=1e-12)


def test_critical_members_is_where_the_last_input_turns_right():
    mean, bits = jnp.array([0.5, -0.25]), np.array([1, 0])
    for deviation in itertools.product((-2.0, -0.1, 0.0, 3.0), repeat=2):
        deviation = jnp.array(deviation)
        critical = float(complexity.critical_members(mean, deviation, bits))
        for members in (critical * 0.999, critical * 1.001):
            if members > 0:
                right = ((mean + deviation / np.sqrt(members) > 0) == (bits > 0)).all()
                assert right == (members > critical)


@pytest.mark.slow
def test_jit_and_vmap():
    counts = np.array([2, 1, 30])
    plain = complexity.members_needed(MEAN, 0.3, BITS, 0.9, counts)
    jitted = jax.jit(complexity.members_needed)(MEAN, 0.3, BITS, 0.9, counts)
    mapped = jax.vmap(lambda a: complexity.members_needed(MEAN, 0.3, BITS, a, counts))(
        jnp.array([0.5, 0.9])
    )
    assert plain == jitted == mapped[1] > mapped[0]
    hopeless = jax.jit(complexity.members_needed)(-MEAN, 0.3, BITS, 0.9)
    assert hopeless == -1
    gradient = jax.grad(lambda m: complexity.accuracy(m, 0.3, BITS, 10))(jnp.asarray(MEAN))
    step = 1e-6 * np.eye(3)[0]
    numeric = complexity.accuracy(MEAN + step, 0.3, BITS, 10) - complexity.accuracy(
        MEAN - step, 0.3, BITS, 10
    )
    np.testing.assert_allclose(gradient[0], numeric / 2e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": 1.0}, "accuracy: got 1"),
        ({"variance": -1.0}, "variance: got -1"),
        ({"bits": np.array([1, 2, 0])}, "bits: got"),
        ({"bits": np.array([1, 0])}, r"bits: got shape \(2,\)"),
        ({"mean": np.array([0.5, np.nan, -1])}, "mean: holds NaN"),
        ({"mean": np.array([0.5, -0.1, -1])}, r"mean: on the wrong side of 0, or at 0, at \(1,\)"),
        ({"mean": np.array([0.5, 0.0, -1])}, "wrong side of 0"),
        ({"mean": np.array([0.5, 1e-12, -1])}, "so close to 0"),
        ({"counts": np.ones(2)}, r"counts: got shape \(2,\)"),
        ({"counts": np.array([1, -1, 1])}, "counts: got"),
        ({"mean": MEAN[None]}, "mean: got shape"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"mean": MEAN, "variance": 0.3, "bits": BITS, "accuracy": 0.9} | change
    if arguments["mean"].ndim == 2:
        arguments["bits"] = BITS[None]
    with pytest.raises(ValueError, match=message):
        complexity.members_needed(**arguments)


def test_bad_members_weights_and_marginals_are_named():
    with pytest.raises(ValueError, match="members: got 0"):
        complexity.accuracy(MEAN, 0.3, BITS, 0)
    for several in (np.nan, np.array([1, 2])):
        with pytest.raises(ValueError, match="members: got"):
            complexity.accuracy(MEAN, 0.3, BITS, several)
    with pytest.raises(ValueError, match="outputs: got -1"):
        complexity.accuracy_bounds(MEAN, 0.3, BITS, 3, np.zeros(3), -1)
    for mean, deviations, bits, named in (
        (MEAN[:2], np.zeros((4, 1)), BITS[:2], "mean: got shape"),
        (MEAN[:2], np.zeros(2), BITS[:1], "mean: got shape"),
        (MEAN[:2], np.array([np.nan, 0.0]), BITS[:2], "deviations: holds NaN"),
        (MEAN[:2], np.zeros(2), 2 * BITS[:2], "bits: got"),
    ):
        with pytest.raises(ValueError, match=named):
            complexity.critical_members(mean, deviations, bits)
    with pytest.raises(ValueError, match=r"weights: sum to 0\.5"):
        complexity.accuracy(MEAN[None], 0.3, BITS[None], 3, weights=np.array([0.5]))
    with pytest.raises(ValueError, match="log_counts: got shape"):
        complexity.accuracy_bounds(MEAN, 0.3, BITS, 3, np.zeros(2))
    with pytest.raises(ValueError, match="wrong side of 0"):
        complexity.members_needed_bounds(-MEAN, 0.3, BITS, 0.9, np.zeros(3))
    with pytest.raises(ValueError, match="wrong side of 0"):
        complexity.critical_members(-MEAN, np.zeros(3), BITS)
