"""The factor model against scikit-learn, SciPy's normal density, gradients and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from ntkens.predictors import factor_model
from ntkens.predictors.factor_model import FactorModel

RANDOM = np.random.default_rng(0)
LOADINGS = RANDOM.normal(size=(7, 3)) * [3.0, 2.0, 1.0]
MEAN = RANDOM.normal(size=7)
INPUTS = RANDOM.normal(size=(200, 3)) @ LOADINGS.T + RANDOM.normal(size=(200, 7)) * 0.8 + MEAN
WEIGHTS = np.array([0.5, -1.0, 2.0])
TRUTH = FactorModel(jnp.asarray(MEAN), jnp.asarray(LOADINGS), jnp.asarray(0.64))
COVARIANCE = LOADINGS @ LOADINGS.T + 0.64 * np.eye(7)
BEST = np.linalg.solve(COVARIANCE, LOADINGS @ WEIGHTS)
PAPER = FactorModel(  # of the specification: d = 60, r = 3, columns of norm 2
    jnp.zeros(60), jnp.asarray(2 * np.linalg.qr(RANDOM.normal(size=(60, 3)))[0]), jnp.asarray(1.0)
)
PAPER_WEIGHTS = jnp.full(3, 3**-0.5)


def covariance(model):
    return np.asarray(model.loadings @ model.loadings.T) + model.noise * np.eye(len(model.mean))


def test_the_estimated_model_is_scikit_learns_probabilistic_pca():
    found = factor_model.fit(INPUTS, 3, noise=None, mean=None)
    pca = PCA(3).fit(INPUTS)
    # scikit-learn divides by m - 1
    np.testing.assert_allclose(covariance(found), pca.get_covariance() * 199 / 200, rtol=1e-10)
    np.testing.assert_allclose(found.mean, pca.mean_, rtol=1e-12)
    reference = stats.multivariate_normal(found.mean, covariance(found))
    logs = factor_model.log_likelihood(found, INPUTS)
    np.testing.assert_allclose(logs, reference.logpdf(INPUTS), rtol=1e-10)


def test_a_known_noise_takes_factors_from_directions_below_it():
    """At noise 30 the sample has one direction above it; the formula, by NumPy's own SVD."""
    found = factor_model.fit(INPUTS, 3, noise=30.0, mean=MEAN)
    _, singular, rows = np.linalg.svd((INPUTS - MEAN) / np.sqrt(200))
    kept = np.sqrt(np.maximum(singular[:3] ** 2 - 30, 0))
    assert np.sum(kept > 0) == 1
    expected = rows[:3].T * kept[None]
    np.testing.assert_allclose(found.loadings @ found.loadings.T, expected @ expected.T, atol=1e-10)


def test_the_likelihood_has_its_maximum_there():
    """Zero gradient in all that is estimated, and no random step goes up."""
    found = factor_model.fit(INPUTS, 3, noise=None, mean=None)

    @jax.jit
    def value(model):
        return jnp.mean(factor_model.log_likelihood(model, INPUTS))

    gradient = jax.jit(jax.grad(value))
    for leaf in jax.tree.leaves(gradient(found)):
        np.testing.assert_allclose(leaf, np.zeros(leaf.shape), atol=1e-12)
    known = factor_model.fit(INPUTS, 3, mean=MEAN)
    np.testing.assert_allclose(gradient(known).loadings, np.zeros((7, 3)), atol=1e-12)
    assert np.abs(gradient(known).noise) > 1e-3  # which was not fitted
    best = value(found)
    for seed in range(20):
        step = np.random.default_rng(seed).normal(size=(7, 3))
        assert value(found._replace(loadings=found.loadings + 1e-3 * step)) < best


def test_features_are_the_posterior_mean_by_conditioning():
    gain = LOADINGS.T @ np.linalg.inv(COVARIANCE)
    found = factor_model.features(TRUTH, INPUTS)
    np.testing.assert_allclose(found, (INPUTS - MEAN) @ gain.T, rtol=1e-9)
    np.testing.assert_allclose(factor_model.encoder(TRUTH) @ WEIGHTS, BEST, rtol=1e-10)


def test_least_squares_is_scikit_learns_and_of_smallest_norm_below_it():
    rng = np.random.default_rng(1)
    targets = rng.normal(size=(200, 2))
    expected = LinearRegression(fit_intercept=False).fit(INPUTS, targets).coef_.T
    np.testing.assert_allclose(factor_model.regress(INPUTS, targets), expected, rtol=1e-10)
    few = np.linalg.pinv(INPUTS[:4]) @ targets[:4]  # fewer labels than features
    np.testing.assert_allclose(factor_model.regress(INPUTS[:4], targets[:4]), few, rtol=1e-10)
    dead = np.concatenate([INPUTS[:, :1], np.zeros((200, 2))], axis=1)
    found = factor_model.regress(dead, targets[:, 0])
    alone = INPUTS[:, 0] @ targets[:, 0] / np.sum(INPUTS[:, 0] ** 2)
    np.testing.assert_allclose(found, [alone, 0, 0], atol=1e-12)
    np.testing.assert_array_equal(factor_model.regress(0 * INPUTS, targets), np.zeros((7, 2)))


def test_risks_are_those_of_the_joint_covariance():
    rng = np.random.default_rng(2)
    predictor = rng.normal(size=7)
    cross = LOADINGS @ WEIGHTS  # Cov(x, y)
    least = 0.3 + WEIGHTS @ WEIGHTS - cross @ BEST
    np.testing.assert_allclose(factor_model.irreducible_risk(TRUTH, WEIGHTS, 0.3), least)
    risk = 0.3 + WEIGHTS @ WEIGHTS - 2 * predictor @ cross + predictor @ COVARIANCE @ predictor
    found = factor_model.excess_risk(TRUTH, jnp.asarray(BEST), predictor)
    np.testing.assert_allclose(found, risk - least, rtol=1e-10)
    representation = rng.normal(size=(7, 2))
    gram, inner = representation.T @ COVARIANCE @ representation, representation.T @ cross
    expected = cross @ BEST - inner @ np.linalg.solve(gram, inner)
    found = factor_model.representation_excess(TRUTH, jnp.asarray(BEST), representation)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    exact = factor_model.representation_excess(
        TRUTH, jnp.asarray(BEST), factor_model.encoder(TRUTH)
    )
    assert exact < 1e-25


def test_the_specifications_numbers():
    residual = factor_model.irreducible_risk(PAPER, PAPER_WEIGHTS, 0.09)
    np.testing.assert_allclose(residual, 0.29, rtol=1e-12)
    labels = np.array([80.0, 120, 240, 480])
    supervised = factor_model.least_squares_excess(residual, 60, labels)
    np.testing.assert_allclose(supervised, [0.916, 0.295, 0.0972, 0.0415], rtol=1e-3)
    oracle = factor_model.least_squares_excess(residual, 3, labels)
    np.testing.assert_allclose(oracle, [0.0114, 0.0075, 0.0037, 0.0018], atol=5e-5)
    limit = factor_model.asymptotic_excess(PAPER, PAPER_WEIGHTS, 60.0)
    np.testing.assert_allclose(limit, 0.05 * 57 / 60)  # c d / m with c = 0.0475; theirs is 0.048
    edge = factor_model.least_squares_excess(1.0, 5, np.array([3.0, 4, 5, 6, 7]))
    np.testing.assert_array_equal(edge, [np.nan, np.inf, np.inf, np.inf, 5.0])


def pretrained(key, model, weights, samples, labels):
    """One repeat: the encoder's own excess, and those of regressions on x and on its features."""
    best = factor_model.encoder(model) @ weights
    unlabelled, labelled, of_targets = jax.random.split(key, 3)
    width, factors = model.loadings.shape

    def draw(key, count):
        of_factors, of_noise = jax.random.split(key)
        z = jax.random.normal(of_factors, (count, factors))
        return z, z @ model.loadings.T + jax.random.normal(of_noise, (count, width))

    encoder = factor_model.encoder(factor_model.fit(draw(unlabelled, samples)[1], factors))
    z, inputs = draw(labelled, labels)
    targets = z @ weights + 0.3 * jax.random.normal(of_targets, (labels,))
    learnt = encoder @ factor_model.regress(inputs @ encoder, targets)
    return (
        factor_model.representation_excess(model, best, encoder),
        factor_model.excess_risk(model, best, factor_model.regress(inputs, targets)),
        factor_model.excess_risk(model, best, learnt),
    )


@pytest.mark.slow
def test_simulated_excess_is_what_the_closed_forms_say():
    """Supervised; pretrained, given its encoder; and the encoder's limit, exact to order 1 / m."""
    model = FactorModel(jnp.zeros(8), PAPER.loadings[:8, :2] * 3, jnp.asarray(1.0))
    weights, labels, samples = jnp.array([1.0, -0.5]), 30, 1000
    keys = jax.random.split(jax.random.key(0), 500)
    run = jax.jit(jax.vmap(lambda key: pretrained(key, model, weights, samples, labels)))
    own, supervised, learnt = map(np.asarray, run(keys))
    residual = factor_model.irreducible_risk(model, weights, 0.09)
    given = own + factor_model.least_squares_excess(residual + own, 2, labels)
    exact = float(factor_model.least_squares_excess(residual, 8, labels))
    limit = float(factor_model.asymptotic_excess(model, weights, samples))
    for difference in (supervised - exact, learnt - given):
        assert abs(difference.mean()) < 5 * stats.sem(difference)
    # the next order is smaller by about d / (m b^2), some per cent
    assert abs(own.mean() / limit - 1) < 5 * stats.sem(own) / limit + 0.05


def test_a_rotation_of_the_factors_changes_nothing():
    """B Q with Q^T weights is the same model, and the refit has the same risks, to 1e-10."""
    rng = np.random.default_rng(3)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    z, noise = rng.normal(size=(500, 3)), rng.normal(size=(500, 60))

    @jax.jit
    def risks(model, factors, weights):
        inputs = factors @ model.loadings.T + noise
        encoder = factor_model.encoder(factor_model.fit(inputs, 3))
        learnt = encoder @ factor_model.regress(inputs[:80] @ encoder, factors[:80] @ weights)
        turned = encoder @ rotation
        again = turned @ factor_model.regress(inputs[:80] @ turned, factors[:80] @ weights)
        best = factor_model.encoder(model) @ weights
        return jnp.stack([
            factor_model.excess_risk(model, best, learnt),
            factor_model.excess_risk(model, best, again),
            factor_model.representation_excess(model, best, encoder),
            factor_model.asymptotic_excess(model, weights, 500),
            factor_model.irreducible_risk(model, weights, 0.09),
        ])  # fmt: skip

    turned = PAPER._replace(loadings=PAPER.loadings @ rotation)
    found = risks(PAPER, z, PAPER_WEIGHTS)
    other = risks(turned, z @ rotation, rotation.T @ PAPER_WEIGHTS)
    np.testing.assert_allclose(found, other, rtol=1e-10)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10)


def test_what_x_does_not_reveal_is_irreducible():
    """B -> 0: the risk tends to label_noise + |weights|^2, and no encoder loses more than the rest.

    The specification expects the excess of both methods to shrink; that of least squares is
    proportional to the irreducible risk, and grows with it.
    """
    weights = PAPER_WEIGHTS
    for size in (1.0, 1e-3, 0.0):
        model = PAPER._replace(loadings=size * PAPER.loadings)
        risk = factor_model.irreducible_risk(model, weights, 0.09)
        np.testing.assert_allclose(risk, 0.09 + 1 / (1 + 4 * size**2), rtol=1e-12)
        best = factor_model.encoder(model) @ weights
        worst = factor_model.representation_excess(model, best, jnp.zeros((60, 3)))
        np.testing.assert_allclose(worst, 4 * size**2 / (1 + 4 * size**2), rtol=1e-10)
    assert factor_model.asymptotic_excess(model, weights, 100) == np.inf


def test_dtype_and_vmap():
    few = jnp.asarray(INPUTS, jnp.float32)
    found = factor_model.fit(few, 2, noise=None, mean=None)
    assert {leaf.dtype for leaf in found} == {jnp.dtype("float32")}
    assert factor_model.features(found, few).dtype == jnp.float32
    wide = factor_model.fit(INPUTS, 2, noise=None, mean=None)
    np.testing.assert_allclose(covariance(found), covariance(wide), rtol=1e-4, atol=1e-4)
    halves = INPUTS.reshape(2, 100, 7)
    stacked = jax.vmap(lambda inputs: factor_model.fit(inputs, 2).loadings)(halves)
    alone = factor_model.fit(halves[1], 2).loadings
    np.testing.assert_allclose(stacked[1] @ stacked[1].T, alone @ alone.T, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: factor_model.fit(INPUTS, 7), ValueError, "factors: got 7; want .* 1 to 6"),
        (lambda: factor_model.fit(INPUTS, 0), ValueError, "factors: got 0"),
        (lambda: factor_model.fit(INPUTS[:2], 3), ValueError, "inputs: got 2; 3 factors want"),
        (lambda: factor_model.fit(INPUTS[:4], 3, noise=None, mean=None), ValueError,
         "inputs: got 4; 3 factors and a noise want at least 5"),
        (lambda: factor_model.fit(INPUTS[:, :2] @ np.ones((2, 7)), 2, noise=None), ValueError,
         "noise: estimated as 0"),
        (lambda: factor_model.fit(INPUTS, 3, noise=0.0), ValueError, "noise: got 0.0"),
        (lambda: factor_model.fit(INPUTS, 3, mean=np.zeros(3)), ValueError, "mean: got shape"),
        (lambda: factor_model.fit(INPUTS * np.nan, 3), ValueError, "inputs: holds NaN"),
        (lambda: factor_model.fit(INPUTS.astype(int), 3), TypeError, "inputs: got dtype int"),
        (lambda: factor_model.features(TRUTH, INPUTS[:, :3]), ValueError, "inputs: its width"),
        (lambda: factor_model.encoder(TRUTH._replace(noise=jnp.asarray(0.0))), ValueError,
         "model.noise: got 0.0"),
        (lambda: factor_model.regress(INPUTS, np.ones(3)), ValueError, "targets: got shape"),
        (lambda: factor_model.regress(INPUTS, INPUTS * np.inf), ValueError, "targets: holds NaN"),
        (lambda: factor_model.regress(INPUTS, 1j * INPUTS), TypeError, "targets: got complex"),
        (lambda: factor_model.excess_risk(TRUTH, BEST, np.ones(3)), ValueError, "predictor: got"),
        (lambda: factor_model.representation_excess(TRUTH, BEST, np.ones(7)), ValueError,
         "representation: got shape"),
        (lambda: factor_model.irreducible_risk(TRUTH, BEST, 1.0), ValueError, "weights: got"),
        (lambda: factor_model.asymptotic_excess(TRUTH, BEST, 9), ValueError, "weights: got"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
