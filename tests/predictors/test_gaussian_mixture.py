"""Mixtures against scikit-learn with its covariance held, SciPy's densities, and small counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.mixture import GaussianMixture

from ntkens.predictors import gaussian_mixture
from ntkens.predictors.gaussian_mixture import Mixture

RANDOM = np.random.default_rng(0)
CENTRES = 2.0 * RANDOM.normal(size=(3, 4))
COMPONENTS = RANDOM.choice(3, 300, p=[0.5, 0.3, 0.2])
INPUTS = CENTRES[COMPONENTS] + RANDOM.normal(size=(300, 4))
START = Mixture(jnp.log(jnp.array([0.2, 0.5, 0.3])), jnp.asarray(INPUTS[:3]), jnp.asarray(1.0))


class Held(GaussianMixture):
    """scikit-learn's, whose covariances stay 1."""

    def _m_step(self, *arguments, **named):
        super()._m_step(*arguments, **named)
        self.covariances_ = np.ones_like(self.covariances_)
        self.precisions_cholesky_ = np.ones_like(self.precisions_cholesky_)


@pytest.fixture(scope="module")
def found():
    return gaussian_mixture.maximise(START, INPUTS, tolerance=1e-13)


def test_from_the_same_start_it_ends_where_scikit_learn_ends(found):
    mixture, info = found
    peer = Held(3, covariance_type="spherical", tol=1e-13, max_iter=1000,
                weights_init=np.exp(START.log_weights), means_init=np.asarray(START.means),
                precisions_init=np.ones(3)).fit(INPUTS)  # fmt: skip
    assert info.converged
    # the tolerance leaves an error of its square root
    np.testing.assert_allclose(mixture.means, peer.means_, atol=1e-5)
    np.testing.assert_allclose(np.exp(mixture.log_weights), peer.weights_, atol=1e-5)
    np.testing.assert_allclose(info.log_likelihood, peer.score(INPUTS), rtol=1e-9)
    probabilities = gaussian_mixture.posterior(mixture, INPUTS)
    np.testing.assert_allclose(probabilities, peer.predict_proba(INPUTS), atol=1e-5)


def test_each_step_is_that_of_plain_sums(found):
    """Expectation and maximisation as they are written, by SciPy's density, three steps."""
    weights, means = np.exp(START.log_weights), np.asarray(START.means)
    _, info = found
    for step in range(3):
        densities = [stats.multivariate_normal(mean, np.eye(4)).pdf(INPUTS) for mean in means]
        joint = weights * np.transpose(densities)
        np.testing.assert_allclose(info.trace[step], np.mean(np.log(joint.sum(axis=1))), rtol=1e-12)
        shares = joint / joint.sum(axis=1, keepdims=True)
        weights, means = shares.mean(axis=0), shares.T @ INPUTS / shares.sum(axis=0)[:, None]


def test_the_likelihood_never_falls_and_info_tells_the_course(found):
    mixture, info = found
    course = np.asarray(info.trace)[: int(info.steps) + 1]
    assert info.steps > 3
    assert np.all(np.diff(course) > -1e-14 * np.abs(course[0]))
    assert np.isnan(np.asarray(info.trace)[int(info.steps) + 1 :]).all()
    assert course[-1] == info.log_likelihood
    logs = gaussian_mixture.log_likelihood(mixture, INPUTS)
    np.testing.assert_allclose(np.mean(logs), info.log_likelihood, rtol=1e-12)
    _, stopped = gaussian_mixture.maximise(START, INPUTS, steps=2, tolerance=0.0)
    assert not stopped.converged
    assert stopped.steps == 2


def test_an_estimated_variance_is_the_mean_square_within():
    mixture, info = gaussian_mixture.maximise(
        START, INPUTS, estimate_variance=True, tolerance=1e-14
    )
    shares = np.asarray(gaussian_mixture.posterior(mixture, INPUTS))
    squares = np.sum((INPUTS[:, None] - np.asarray(mixture.means)) ** 2, axis=-1)
    np.testing.assert_allclose(mixture.variance, np.sum(shares * squares) / (300 * 4), rtol=1e-5)
    course = np.asarray(info.trace)[: int(info.steps) + 1]
    assert np.all(np.diff(course) > -1e-14 * np.abs(course[0]))


@pytest.mark.slow
def test_restarts_keep_the_best_and_find_the_centres():
    key = jax.random.key(0)
    mixture, info = gaussian_mixture.fit(key, INPUTS, 3, restarts=4)
    draw = jax.jit(lambda key: gaussian_mixture.start(key, INPUTS, 3))
    singles = [
        gaussian_mixture.maximise(draw(each), INPUTS)[1] for each in jax.random.split(key, 4)
    ]
    best = max(float(each.log_likelihood) for each in singles)
    np.testing.assert_allclose(info.log_likelihood, best, rtol=1e-10)
    distances = np.linalg.norm(np.asarray(mixture.means)[:, None] - CENTRES, axis=-1)
    assert sorted(distances.argmin(axis=1)) == [0, 1, 2]
    assert distances.min(axis=1).max() < 5 / np.sqrt(0.2 * 300)  # some deviations of a mean


def test_starts_are_inputs_drawn_by_squared_distance():
    """On 0, 1 and 10: after 0 come 1 and 10 as 1 to 100; duplicates are drawn only if all are."""
    inputs = jnp.array([[0.0], [1.0], [10.0]])
    keys = jax.random.split(jax.random.key(1), 3000)
    means = jax.jit(jax.vmap(lambda key: gaussian_mixture.start(key, inputs, 2).means[:, 0]))(keys)
    from_zero = np.asarray(means)[np.asarray(means)[:, 0] == 0.0, 1]
    assert set(from_zero) <= {1.0, 10.0}
    share = np.mean(from_zero == 10.0)
    assert abs(share - 100 / 101) < 5 * np.sqrt(1 / 101 / len(from_zero))
    same = gaussian_mixture.start(jax.random.key(0), jnp.ones((5, 2)), 3)
    np.testing.assert_array_equal(same.means, np.ones((3, 2)))


def test_a_component_that_no_input_is_near_is_reported_and_never_nan():
    """Its densities underflow, and plain sums would be 0 / 0."""
    far = START._replace(means=START.means.at[2].set(1e3))
    assert np.exp(-0.5 * np.sum((INPUTS - 1e3) ** 2, axis=1)).max() == 0
    mixture, info = gaussian_mixture.maximise(far, INPUTS)
    assert info.dead == 1
    assert all(np.isfinite(leaf).all() for leaf in mixture)
    course = np.asarray(info.trace)[: int(info.steps) + 1]
    assert np.all(np.diff(course) > -1e-12)
    _, whole = gaussian_mixture.maximise(START, INPUTS)
    assert whole.dead == 0
    nearest = np.linalg.norm(np.asarray(mixture.means)[2] - INPUTS, axis=1).min()
    assert nearest < 5  # where the data are


def test_values_are_shares_and_predictions_mix_them():
    shares = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.75, 0.0]])
    targets = np.array([[1.0, 0], [0, 1], [0, 1]])
    values = gaussian_mixture.component_means(shares, targets)
    expected = [[1 / 1.75, 0.75 / 1.75], [0, 1], [1 / 3, 2 / 3]]  # the last has none: all targets
    np.testing.assert_allclose(values, expected)
    prediction = gaussian_mixture.predict(START, values, INPUTS)
    mixed = np.asarray(gaussian_mixture.posterior(START, INPUTS)) @ np.asarray(expected)
    np.testing.assert_allclose(prediction, mixed, rtol=1e-12)
    one = gaussian_mixture.component_means(shares, np.ones(3))  # one class only
    np.testing.assert_allclose(one, np.ones(3), rtol=1e-12)


def test_far_from_the_origin_nothing_is_lost():
    """In float32 squares of 1e4 leave a unit variance three digits; about the centre all seven."""
    near = gaussian_mixture.posterior(START, INPUTS)
    shift = jnp.asarray(4096.0)  # exact in float32, but the inputs are rounded to 2^-11
    moved = START._replace(means=START.means.astype(jnp.float32) + shift.astype(jnp.float32))
    found = gaussian_mixture.posterior(moved, jnp.asarray(INPUTS + shift, jnp.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, near, atol=2e-2)
    assert np.median(np.abs(found - near)) < 1e-4


def test_a_variance_of_rounding_is_refused():
    """Two points and a third at a distance of 1e-7: its square is beyond float64's digits."""
    inputs = np.repeat([[1.0, 1.0], [2.0, 2.0]], [9, 9], axis=0)
    inputs[0] += 1e-7
    with pytest.raises(ValueError, match="is rounding beside the mean square"):
        gaussian_mixture.fit(jax.random.key(0), inputs, 2, variance=None, restarts=1, steps=9)
    with pytest.raises(ValueError, match="is rounding beside the mean square"):
        gaussian_mixture.fit(jax.random.key(0), inputs, 2, variance=1e-14, restarts=1, steps=9)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda fit: fit(INPUTS, 0), ValueError, "components: got 0"),
        (lambda fit: fit(INPUTS[:2], 3), ValueError, "components: got 3; .* 1 to the 2 inputs"),
        (lambda fit: fit(INPUTS * np.nan, 3), ValueError, "inputs: holds NaN"),
        (lambda fit: fit(INPUTS.astype(int), 3), TypeError, "inputs: got dtype int"),
        (lambda fit: fit(INPUTS, 3, variance=0.0), ValueError, "variance: got 0.0"),
        (lambda fit: fit(INPUTS, 3, restarts=0), ValueError, "restarts: got 0"),
        (lambda fit: fit(INPUTS, 3, steps=0.5), ValueError, "steps: got 0.5"),
        (lambda fit: fit(INPUTS, 3, tolerance=-1.0), ValueError, "tolerance: got -1.0"),
        (lambda fit: fit(np.repeat(INPUTS[:3], 9, axis=0), 3, variance=None), ValueError,
         "inputs: no more distinct ones than the 3 components"),
    ],
)  # fmt: skip
def test_bad_fits_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call(lambda *arguments, **named: gaussian_mixture.fit(
            jax.random.key(0), *arguments, **named))  # fmt: skip


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gaussian_mixture.posterior(START, INPUTS[:, :2]), "inputs: its width is 2"),
        (lambda: gaussian_mixture.predict(START, np.ones(2), INPUTS), "values: got shape"),
        (lambda: gaussian_mixture.component_means(np.ones((3, 2)), np.ones(4)), "targets: got"),
        (lambda: gaussian_mixture.component_means(np.ones(3), np.ones(3)), "responsibilities: got"),
        (lambda: gaussian_mixture.component_means(-np.ones((3, 2)), np.ones(3)), "below 0"),
    ],
)
def test_bad_predictions_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
