"""Diversity against scikit-learn, scipy and brute force; its gradients; its identities."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import cohen_kappa_score

from ntkens.ensembles import diversity

LABELS = np.arange(6) % 5
REGULARISERS = ("jensen_gap", "variance", "jensen_shannon", "kl")
DECOMPOSITIONS = (diversity.cross_entropy, diversity.brier, diversity.averaged_logits)
MEASURES = (diversity.jensen_shannon, diversity.variance, diversity.kl_from_mean)

# Compiled whole: operation by operation, these small arrays cost more to compile than to compute.
COMPILED = {
    function: jax.jit(function) for function in (*DECOMPOSITIONS, *MEASURES, diversity.pairwise_kl)
}
JOINT = {
    name: jax.jit(
        lambda logits, gamma, name=name: diversity.regularised(logits, LABELS, gamma, name)
    )
    for name in REGULARISERS
}
GRADIENTS = {
    name: jax.jit(jax.grad(lambda logits, gamma, joint=joint: joint(logits, gamma).sum()))
    for name, joint in JOINT.items()
}


def drawn(seed=0, members=4, n=6, classes=5, scale=2.0):
    """Logits, which do not come normalised, and their probabilities."""
    logits = scale * np.random.default_rng(seed).normal(size=(members, n, classes))
    return jnp.asarray(logits), special.softmax(logits, axis=-1)


@given(
    seed=st.integers(0, 10**6),
    members=st.sampled_from([1, 4]),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
)
@pytest.mark.parametrize("decompose", DECOMPOSITIONS)
def test_the_average_loss_is_the_ensembles_and_the_gap(decompose, seed, members, scale):
    logits, _ = drawn(seed, members, scale=scale)
    parts = COMPILED[decompose](logits, LABELS)
    np.testing.assert_allclose(parts.average - parts.ensemble, parts.gap, atol=1e-13 * (1 + scale))
    assert float(parts.gap.min()) > -1e-13 * (1 + scale)


def test_decompositions_are_their_losses():
    logits, p = drawn()
    rows, one_hot = np.arange(6), np.eye(5)[LABELS]
    entropy, brier, geometric = (COMPILED[f](logits, LABELS) for f in DECOMPOSITIONS)
    np.testing.assert_allclose(entropy.average, -np.log(p[:, rows, LABELS]).mean(0))
    np.testing.assert_allclose(entropy.ensemble, -np.log(p.mean(0)[rows, LABELS]))
    np.testing.assert_allclose(brier.average, ((p - one_hot) ** 2).sum(-1).mean(0))
    np.testing.assert_allclose(brier.ensemble, ((p.mean(0) - one_hot) ** 2).sum(-1))
    np.testing.assert_allclose(geometric.average, entropy.average)
    combined = special.log_softmax(np.mean(logits, 0), -1)
    np.testing.assert_allclose(geometric.ensemble, -combined[rows, LABELS])
    z = stats.gmean(p, axis=0).sum(-1)
    np.testing.assert_allclose(geometric.gap, -np.log(z))


def test_the_variance_is_that_of_numpy():
    logits, p = drawn()
    np.testing.assert_allclose(COMPILED[diversity.variance](logits), p.var(axis=0).sum(-1))
    one_hot = 1e3 * jnp.eye(4)[:, None]
    np.testing.assert_allclose(COMPILED[diversity.variance](one_hot), 1 - 1 / 4)


def test_jensen_shannon_of_two_is_scipys():
    logits, p = drawn(members=2)
    np.testing.assert_allclose(
        COMPILED[diversity.jensen_shannon](logits), jensenshannon(p[0], p[1], axis=-1) ** 2
    )


def test_jensen_shannon_is_the_difference_of_entropies():
    logits, p = drawn()
    expected = stats.entropy(p.mean(0), axis=-1) - stats.entropy(p, axis=-1).mean(0)
    np.testing.assert_allclose(COMPILED[diversity.jensen_shannon](logits), expected)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("one_hot", [lambda k: jnp.log(jnp.eye(k)), lambda k: 1e4 * jnp.eye(k)])
def test_jensen_shannon_at_its_ends(classes, one_hot):
    """log K of certain members that are pairwise distinct, M = K; 0 of identical ones."""
    logits = one_hot(classes)[:, None]
    np.testing.assert_allclose(
        COMPILED[diversity.jensen_shannon](logits), [math.log(classes)], rtol=1e-14
    )
    for same in (jnp.repeat(logits[:1], 3, axis=0), jnp.repeat(drawn()[0][:1], 3, axis=0)):
        np.testing.assert_allclose(COMPILED[diversity.jensen_shannon](same), 0, atol=1e-15)


@given(
    seed=st.integers(0, 10**6),
    members=st.sampled_from([1, 4]),
    scale=st.sampled_from([0.1, 2.0, 100.0]),
)
def test_diversity_has_its_bounds_and_no_order_of_members(seed, members, scale):
    logits, _ = drawn(seed, members, scale=scale)
    shannon, spread, _ = values = [np.asarray(COMPILED[measure](logits)) for measure in MEASURES]
    assert (shannon > -1e-14).all()
    assert (shannon < math.log(members) + 1e-12).all()
    assert (spread >= 0).all()
    assert (spread < 1 - 1 / members + 1e-12).all()
    for measure, value in zip(MEASURES, values, strict=True):
        np.testing.assert_allclose(COMPILED[measure](logits[::-1]), value, atol=1e-12 * scale)


def test_the_gap_expected_over_the_ensembles_own_labels_is_the_kl_from_the_mean():
    logits, p = drawn()
    gaps = [COMPILED[diversity.cross_entropy](logits, np.full(6, label)).gap for label in range(5)]
    expected = np.sum(p.mean(0) * np.stack(gaps, -1), axis=-1)
    found = COMPILED[diversity.kl_from_mean](logits)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found, stats.entropy(p.mean(0)[None], p, axis=-1).mean(0))


def test_pairwise_kl_is_scipys():
    logits, p = drawn()
    found = COMPILED[diversity.pairwise_kl](logits)
    for i, j in itertools.product(range(4), repeat=2):
        np.testing.assert_allclose(found[i, j], stats.entropy(p[i], p[j], axis=-1), atol=1e-14)


def test_kl_of_distributions_that_rule_out_classes():
    """0 log 0 is 0, and what the other rules out costs infinity."""
    logits = jnp.log(jnp.array([[[1.0, 0, 0]], [[0.5, 0.5, 0]]]))
    expected = [[0, math.log(2)], [math.inf, 0]]
    np.testing.assert_allclose(COMPILED[diversity.pairwise_kl](logits)[..., 0], expected)


@pytest.mark.parametrize("classes", [2, 4])
def test_disagreement_and_kappa_of_every_pair(classes):
    predictions = np.random.default_rng(0).integers(0, classes, (5, 40))
    predictions[1] = predictions[0]
    predictions[2] = np.where(np.arange(40) < 30, predictions[0], predictions[2])
    agreement, kappa = diversity.disagreement(predictions), diversity.kappa(predictions, classes=4)
    for i, j in itertools.product(range(5), repeat=2):
        assert float(agreement[i, j]) == pytest.approx(np.mean(predictions[i] != predictions[j]))
        expected = cohen_kappa_score(predictions[i], predictions[j])
        assert float(kappa[i, j]) == pytest.approx(expected, abs=1e-12)


def test_kappa_of_one_class_is_not_a_number():
    predictions = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1]])
    found = diversity.kappa(predictions, classes=2)
    assert np.isnan(found[0, 1])
    assert float(found[0, 2]) == pytest.approx(0, abs=1e-15)  # no better than chance


@given(seed=st.integers(0, 10**6), eps=st.sampled_from([1e-9, 1e-3, 0.1, 0.6]))
def test_members_that_are_right_and_sure_have_no_room(seed, eps):
    """Every p_i[y] >= 1 - eps: the gap is at most -log(1 - eps)."""
    rng = np.random.default_rng(seed)
    right = 1 - eps * rng.random((4, 50, 1))
    right[0] = 1 - eps
    rest = rng.dirichlet([0.5] * 3, (4, 50)) * (1 - right)
    logits = jnp.log(jnp.asarray(np.concatenate([right, rest], axis=-1)))
    gap = COMPILED[diversity.cross_entropy](logits, np.zeros(50, int)).gap
    assert float(gap.max()) <= -math.log1p(-eps) + 1e-15


def test_at_gamma_one_the_gradient_is_the_ensembles():
    """By another coding: softmax, mean, logarithm, chain rule by JAX."""
    logits, _ = drawn()

    def ensemble(logits):
        exponentials = jnp.exp(logits)
        p = (exponentials / exponentials.sum(-1, keepdims=True)).mean(0)
        return -jnp.log((p * np.eye(5)[LABELS]).sum(-1)).sum()

    loss, gradient = jax.jit(jax.value_and_grad(ensemble))(logits)
    np.testing.assert_allclose(JOINT["jensen_gap"](logits, 1.0).sum(), loss, rtol=1e-13)
    np.testing.assert_allclose(GRADIENTS["jensen_gap"](logits, 1.0), gradient, atol=1e-14)


@pytest.mark.parametrize("regulariser", REGULARISERS)
@pytest.mark.parametrize("gamma", [-1.0, 0.0, 0.5])
def test_the_joint_loss_is_its_formula(regulariser, gamma):
    logits, p = drawn()
    rows = np.arange(6)
    pbar = p.mean(0)
    average = -np.log(p[:, rows, LABELS]).mean(0)
    measured = {
        "jensen_gap": average + np.log(pbar[rows, LABELS]),
        "variance": p.var(axis=0).sum(-1),
        "jensen_shannon": stats.entropy(pbar, axis=-1) - stats.entropy(p, axis=-1).mean(0),
        "kl": stats.entropy(pbar[None], p, axis=-1).mean(0),
    }
    found = JOINT[regulariser](logits, gamma)
    np.testing.assert_allclose(found, average - gamma * measured[regulariser])


@pytest.mark.parametrize("regulariser", REGULARISERS)
@pytest.mark.parametrize("where", ["one-hot", "identical", "identical and one-hot", "drawn"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_gradients_are_finite_and_right(regulariser, where, dtype):
    logits = {
        "one-hot": 1e3 * jnp.eye(5)[:4, None, :].repeat(6, axis=1),  # exp(-1000) is 0
        "identical": jnp.repeat(drawn()[0][:1], 4, axis=0),
        "identical and one-hot": 1e3 * jnp.eye(5)[LABELS][None].repeat(4, axis=0),
        "drawn": drawn()[0],
    }[where].astype(dtype)

    gradient = GRADIENTS[regulariser](logits, 0.5)
    assert gradient.dtype == dtype
    assert np.isfinite(gradient).all()
    if dtype == jnp.float64 and where in ("identical", "drawn"):
        direction = np.random.default_rng(1).normal(size=logits.shape)
        ends = [JOINT[regulariser](logits + h * direction, 0.5).sum() for h in (1e-6, -1e-6)]
        slope = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(np.vdot(gradient, direction), slope, rtol=1e-7)


@pytest.mark.parametrize("measure", [diversity.jensen_shannon, diversity.variance])
def test_gradients_are_finite_at_probabilities_of_zero(measure):
    gradient = jax.jit(jax.grad(lambda logits: measure(logits).sum()))(jnp.log(jnp.eye(3))[:, None])
    assert np.isfinite(gradient).all()


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1.0, 100.0]))
def test_the_loss_is_not_negative_where_it_is_bounded(seed, scale):
    logits, _ = drawn(seed, scale=scale)
    assert float(JOINT["jensen_gap"](logits, 1.0).min()) > -1e-12 * scale


@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_the_kl_leaves_the_loss_unbounded_below_at_any_gamma(gamma):
    """Two members part over a class that is not the label: the cost stays, the gain grows."""
    for far in (1e3, 1e5):
        logits = jnp.array([[[0.0, 0.0]], [[0.0, -far]]])
        loss = diversity.regularised(logits, np.array([0]), gamma, "kl")[0]
        assert float(loss) < 1 - gamma * far / 16


@pytest.mark.parametrize("regulariser", REGULARISERS)
def test_gamma_may_be_traced_and_one_per_ensemble(regulariser):
    logits = jnp.stack([drawn(seed)[0] for seed in range(3)]).astype(jnp.float32)
    gammas = jnp.array([-1.0, 0.3, 1.0])
    found = jax.vmap(JOINT[regulariser])(logits, gammas)
    assert found.dtype == jnp.float32
    for i in range(3):
        expected = JOINT[regulariser](logits[i], float(gammas[i]))
        np.testing.assert_allclose(found[i], expected, rtol=2e-6, atol=1e-6)  # float32


LOGITS = np.zeros((2, 3, 4))
Y = np.array([0, 1, 2])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: diversity.regularised(LOGITS, Y, 1.01), ValueError, "unbounded below above 1"),
        (lambda: diversity.regularised(LOGITS, Y, math.nan), ValueError, "gamma: got nan"),
        (lambda: diversity.regularised(LOGITS, Y, np.ones(2)), ValueError, "gamma: got shape"),
        (lambda: diversity.regularised(LOGITS, Y, 0.5, "js"), ValueError, "regulariser: got 'js'"),
        (lambda: diversity.cross_entropy(LOGITS, Y[:2]), ValueError, "labels: got shape"),
        (lambda: diversity.brier(LOGITS, Y + 2), ValueError, "labels: got one outside"),
        (lambda: diversity.averaged_logits(LOGITS, Y * 1.0), TypeError, "labels: got float"),
        (lambda: diversity.variance(LOGITS * np.nan), ValueError, "logits: hold NaN"),
        (lambda: diversity.jensen_shannon(LOGITS.astype(int)), TypeError, "logits: got int"),
        (lambda: diversity.pairwise_kl(LOGITS[0, 0]), ValueError, "members first"),
        (lambda: diversity.disagreement(LOGITS[0]), TypeError, "predictions: got float"),
        (lambda: diversity.disagreement(Y), ValueError, "predictions: got shape"),
        (lambda: diversity.kappa(Y[None], classes=2), ValueError, "predictions: got one outside"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_constants_of_a_compiled_function_are_checked():
    logits = drawn()[0]
    for labels, is_wrong in ((jnp.asarray(LABELS), False), (jnp.asarray(LABELS + 1), True)):
        loss = jax.jit(lambda logits, labels=labels: diversity.regularised(logits, labels, 0.5))
        if is_wrong:
            with pytest.raises(ValueError, match="labels: got one outside"):
                loss(logits)
        else:
            np.testing.assert_allclose(loss(logits), JOINT["jensen_gap"](logits, 0.5))


def test_gamma_above_one_is_for_regularisers_that_are_bounded():
    assert np.isfinite(JOINT["variance"](drawn()[0], 5.0)).all()
    diversity.check_gamma(5.0, "variance")
