"""First passage against a plain loop and a known answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.ensembles import complexity
from ntkens.ensembles.first_passage import first_passage

MEAN, BITS = np.array([[0.3, -0.2], [0.5, 0.4]]), np.array([[1, 0], [1, 1]])


def drawn(key):
    return lambda i: MEAN + jax.random.normal(jax.random.fold_in(key, i), (2, 2))


def test_equals_a_plain_loop(key):
    counts, accuracies = np.array([3, 7]), np.array([0.3, 0.7, 1.0])
    for run in range(5):
        run_key = jax.random.fold_in(key, run)
        total, expected = np.zeros((2, 2)), [-1, -1, -1]
        for i in range(60):
            total += np.asarray(drawn(run_key)(i))
            right = ((total > 0) == (BITS > 0)).all(axis=1)
            for which, wanted in enumerate((3, 7, 10)):
                if expected[which] < 0 and right @ counts >= wanted:
                    expected[which] = i + 1
        ours = first_passage(drawn(run_key), BITS, counts, accuracies, 60)
        np.testing.assert_array_equal(ours, expected)


def test_first_passage_of_one_bit_has_the_law_of_a_random_walk(key):
    """P(first size = 1) = Phi(m), P(= 2) = P(S_1 <= 0 < S_2), by the bivariate normal."""
    from scipy.stats import multivariate_normal, norm

    runs, mean = 20_000, 0.2
    passage = jax.vmap(
        lambda key: first_passage(
            lambda i: mean + jax.random.normal(jax.random.fold_in(key, i), (1, 1)),
            [[1]],
            [1],
            [1.0],
            3,
        )[0]
    )(jax.random.split(key, runs))
    first = norm.cdf(mean)
    both_below = multivariate_normal.cdf([-mean, -2 * mean], cov=[[1.0, 1.0], [1.0, 2.0]])
    second = 1 - first - both_below
    for size, exact in ((1, first), (2, second)):
        error = np.sqrt(exact * (1 - exact) / runs)
        assert abs((passage == size).mean() - exact) < 5 * error


def test_first_passage_comes_before_the_fixed_size(key):
    """The accuracy of a fixed ensemble at the median first passage is short of the one reached."""
    runs = jax.vmap(lambda key: first_passage(drawn(key), BITS, [1, 1], [1.0], 500)[0])(
        jax.random.split(key, 500)
    )
    fixed = complexity.members_needed(MEAN.ravel(), 1.0, BITS.ravel(), 0.9)
    assert (runs > 0).all()
    assert np.quantile(runs, 0.9) < fixed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"most": 0}, "most: got 0"),
        ({"accuracies": np.array([1.5])}, "accuracies: got"),
        ({"counts": np.array([0, 0])}, "counts: the test set is empty"),
        ({"counts": np.array([-1, 2])}, "counts: got"),
        ({"counts": np.array([1])}, r"bits: got shape \(2, 2\), counts \(1,\)"),
        ({"bits": np.ones((1, 1))}, r"bits: got shape \(1, 1\)"),
    ],
)
def test_bad_input_is_named(change, message, key):
    arguments = {
        "bits": BITS,
        "counts": np.array([1, 1]),
        "accuracies": np.array([0.5]),
        "most": 3,
    } | change
    with pytest.raises(ValueError, match=message):
        first_passage(drawn(key), **arguments)


@pytest.mark.parametrize(("most", "found"), [(4, -1), (5, 5)])
def test_gives_up(most, found):
    """The sum is 4, 3, 2, 1, 0: right with five networks, since a mean of 0 says 0."""

    def network(i):
        return jnp.where(i == 0, 4.0, -1.0).reshape(1, 1)

    assert first_passage(network, [[0]], [1], [1.0], most) == found


@pytest.mark.parametrize(
    ("accuracy", "tests", "right"), [(0.9, 1000, 900), (0.9009, 1000, 901), (0.07, 100, 7)]
)
def test_an_accuracy_is_a_whole_number_of_inputs(accuracy, tests, right):
    """As many as the accuracy says are enough, and one less is not; 0.07 * 100 > 7 in doubles."""
    outputs = jnp.array([[1.0], [-1.0]])
    for first, found in ((right, 1), (right - 1, -1)):
        counts = [first, tests - first]
        assert first_passage(lambda i: outputs, [[1], [1]], counts, [accuracy], 1) == found
