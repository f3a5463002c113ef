"""Accuracy, scores, calibration and entropies against scikit-learn, scipy and sums in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics

from ntkens.measures import per_example, uncertainty

EXAMPLES, CLASSES, BINS = 60, 4, 5
CALIBRATION = [uncertainty.calibration_error, uncertainty.classwise_calibration_error]


def draw(seed=0, rounded=False):
    """Probabilities, with many ties and on edges of bins if rounded, and labels."""
    random = np.random.default_rng(seed)
    if rounded:
        probabilities = random.multinomial(10, np.ones(CLASSES) / CLASSES, EXAMPLES) / 10
    else:
        probabilities = special.softmax(2 * random.normal(size=(EXAMPLES, CLASSES)), axis=1)
    return probabilities, random.integers(0, CLASSES, EXAMPLES)


@functools.cache
def compiled(measure, *settings):
    """Once for all tests that ask the same of arrays of one shape."""
    return jax.jit(lambda *arrays: measure(*arrays, *settings))


def bin_index(values, bins=BINS):
    """Bins (b/B, (b+1)/B], with 0 in the first."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], values, side="left")


def equal_width(confidence, happened, bins=BINS):
    index = bin_index(confidence, bins)
    return sum(
        (index == b).mean() * abs(confidence[index == b].mean() - happened[index == b].mean())
        for b in np.unique(index)
    )


def equal_mass(confidence, happened, bins=BINS):
    """Every example in as many equal pieces as there are bins, tied groups mixed evenly."""
    order = np.argsort(-confidence, kind="stable")
    confidence, gap = confidence[order], (confidence - happened)[order]
    for value in np.unique(confidence):
        gap[confidence == value] = gap[confidence == value].mean()
    return np.abs(np.repeat(gap, bins).reshape(bins, -1).sum(axis=1)).sum() / gap.size / bins


@pytest.mark.parametrize("rounded", [False, True])
def test_scores_equal_scikit_learn_and_numpy(rounded):
    probabilities, labels = draw(0, rounded)
    one_hot = np.eye(CLASSES)[labels]
    right = metrics.accuracy_score(labels, probabilities.argmax(axis=1))
    np.testing.assert_allclose(
        compiled(uncertainty.accuracy)(probabilities, labels), right, rtol=1e-12
    )
    brier = np.mean(np.sum((probabilities - one_hot) ** 2, axis=1))
    np.testing.assert_allclose(
        compiled(uncertainty.brier)(probabilities, labels), brier, rtol=1e-12
    )
    scored = metrics.brier_score_loss(labels, probabilities, scale_by_half=False)
    np.testing.assert_allclose(brier, scored, rtol=1e-12)
    likelihood = compiled(uncertainty.negative_log_likelihood)(probabilities, labels)
    if rounded:
        assert likelihood == np.inf  # some label has probability 0
    else:
        np.testing.assert_allclose(likelihood, metrics.log_loss(labels, probabilities), rtol=1e-12)
    ranks = np.argsort(np.argsort(-probabilities, axis=1, kind="stable"), axis=1)
    for k in range(1, CLASSES + 1):
        top = np.mean(ranks[np.arange(EXAMPLES), labels] < k)
        np.testing.assert_allclose(
            compiled(uncertainty.top_k, k)(probabilities, labels), top, rtol=1e-12
        )
        if not rounded:
            theirs = metrics.top_k_accuracy_score(labels, probabilities, k=k) if k < CLASSES else 1
            np.testing.assert_allclose(top, theirs, rtol=1e-12)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
def test_calibration_errors_equal_their_sums(rounded, binning):
    probabilities, labels = draw(1, rounded)
    brute_force = equal_width if binning == "equal_width" else equal_mass
    right = probabilities.argmax(axis=1) == labels
    found = compiled(uncertainty.calibration_error, BINS, binning)(probabilities, labels)
    np.testing.assert_allclose(found, brute_force(probabilities.max(axis=1), right), rtol=1e-12)
    found = compiled(uncertainty.classwise_calibration_error, BINS, binning)(probabilities, labels)
    of_class = [brute_force(probabilities[:, k], labels == k) for k in range(CLASSES)]
    np.testing.assert_allclose(found, np.mean(of_class), rtol=1e-12)


def test_equal_mass_equals_splitting_the_order_where_it_divides():
    probabilities, labels = draw(2)
    confidence = probabilities.max(axis=1)
    gap = (confidence - (probabilities.argmax(axis=1) == labels))[np.argsort(confidence)]
    expected = sum(abs(part.sum()) for part in np.array_split(gap, BINS)) / EXAMPLES
    found = compiled(uncertainty.calibration_error, BINS, "equal_mass")(probabilities, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_binary_calibration_equals_scikit_learn():
    from sklearn.calibration import calibration_curve

    probabilities, labels = draw(3)
    happened = labels == 2
    shares, means = calibration_curve(happened, probabilities[:, 2], n_bins=BINS)
    sizes = np.bincount(bin_index(probabilities[:, 2]), minlength=BINS)
    theirs = np.sum(sizes[sizes > 0] * np.abs(shares - means)) / EXAMPLES
    np.testing.assert_allclose(equal_width(probabilities[:, 2], happened), theirs, rtol=1e-12)


@pytest.mark.parametrize("rounded", [False, True])
def test_brier_decomposition_is_exact_term_by_term(rounded):
    probabilities, labels = draw(4, rounded)
    found = compiled(uncertainty.brier_decomposition, BINS)(probabilities, labels)
    expected = np.zeros(5)
    for k in range(CLASSES):
        f, o = probabilities[:, k], (labels == k).astype(float)
        index = bin_index(f)
        mean_f = np.array([f[index == b].mean() for b in index])
        mean_o = np.array([o[index == b].mean() for b in index])
        expected += [
            np.mean((mean_f - mean_o) ** 2),
            np.mean((mean_o - o.mean()) ** 2),
            o.mean() * (1 - o.mean()),
            np.mean((f - mean_f) ** 2),
            2 * np.mean((f - mean_f) * (o - mean_o)),
        ]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    total = np.dot(found, [1, -1, 1, 1, -1])
    brier = compiled(uncertainty.brier)(probabilities, labels)
    np.testing.assert_allclose(total, brier, rtol=1e-12)


def test_one_value_in_a_bin_leaves_nothing_within():
    """Murphy's three terms are then the whole."""
    probabilities, labels = draw(5, rounded=True)
    found = compiled(uncertainty.brier_decomposition, 20)(probabilities, labels)
    np.testing.assert_allclose([found.within_variance, found.within_covariance], 0, atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
def test_calibrated_predictions_have_little_error_and_sharpened_ones_more(binning):
    """E|mean of n draws - p| <= sqrt(p (1-p) / n) <= 1/2 sqrt(1/n) in each bin."""
    examples = 20_000
    random = np.random.default_rng(6)
    logits = 2 * random.normal(size=(examples, CLASSES))
    probabilities = special.softmax(logits, axis=1)
    labels = (probabilities.cumsum(axis=1) < random.random((examples, 1))).sum(axis=1)
    bound = np.sqrt(BINS / examples) / 2  # by Jensen over the bins
    for measure in CALIBRATION:
        error = compiled(measure, BINS, binning)
        assert error(probabilities, labels) < bound
        assert error(special.softmax(3 * logits, axis=1), labels) > 3 * bound


@pytest.mark.parametrize(
    ("measure", "settings"),
    [
        (uncertainty.brier_decomposition, (BINS,)),
        *((measure, (BINS, "equal_width")) for measure in CALIBRATION),
        *((measure, (BINS, "equal_mass")) for measure in CALIBRATION),
    ],
)
def test_counts_are_repetitions(measure, settings):
    probabilities, labels = draw(7, rounded=True)
    counts = np.random.default_rng(0).multinomial(EXAMPLES, np.ones(EXAMPLES) / EXAMPLES)
    counted = jax.jit(lambda counts: measure(probabilities, labels, *settings, counts=counts))
    rows = np.repeat(np.arange(EXAMPLES), counts)
    repeated = compiled(measure, *settings)(probabilities[rows], labels[rows])
    np.testing.assert_allclose(counted(counts), repeated, rtol=1e-11, atol=1e-15)


def test_entropies_equal_scipy():
    members = np.stack([draw(seed)[0] for seed in range(3)] + [draw(0, rounded=True)[0]])
    mean = members.mean(axis=0)
    found = compiled(uncertainty.entropy_split)(members)
    np.testing.assert_allclose(found.total, stats.entropy(mean, axis=1), rtol=1e-12)
    expected = stats.entropy(members, axis=2).mean(axis=0)
    np.testing.assert_allclose(found.expected, expected, rtol=1e-12)
    divergence = stats.entropy(members, mean[None], axis=2).mean(axis=0)
    np.testing.assert_allclose(found.mutual_information, divergence, rtol=1e-11)
    np.testing.assert_allclose(found.total, found.expected + found.mutual_information, rtol=1e-12)


def test_entropies_at_the_corners():
    one = compiled(uncertainty.entropy_split)(draw()[0][None])
    assert not one.mutual_information.any()
    certain = np.repeat(np.eye(CLASSES)[:, None], EXAMPLES, axis=1)  # each of its own class
    apart = compiled(uncertainty.entropy_split)(certain)
    np.testing.assert_allclose(apart.mutual_information, np.log(CLASSES), rtol=1e-12)
    assert not apart.expected.any()


@pytest.mark.slow
def test_half_precision_is_computed_in_float32():
    probabilities, labels = draw()
    halves = jnp.asarray(probabilities, jnp.bfloat16)
    for measure in (uncertainty.accuracy, uncertainty.calibration_error):
        found = measure(halves, labels)
        exact = jax.jit(measure)(halves.astype(jnp.float64), labels)  # the sums are off by 2^-9
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, rtol=1e-6)


def bad(change):
    probabilities, labels = draw()
    return change(probabilities.copy(), labels.copy())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p, y: (p / 2, y), ValueError, r"probabilities: sum to 0\.5 .*softmax"),
        (lambda p, y: (np.log(p), y), ValueError, "probabilities: holds -.*below 0.*softmax"),
        (lambda p, y: (np.where(p > 0.5, np.nan, p), y), ValueError, "probabilities: holds NaN"),
        (lambda p, y: (p + np.eye(4)[0] - np.eye(4)[1], y), ValueError, "holds -.*below 0"),
        (lambda p, y: (p > 0.5, y), TypeError, "probabilities: got dtype bool"),
        (lambda p, y: (p[0], y), ValueError, r"probabilities: got shape \(4,\), wants \[n cla"),
        (lambda p, y: (p[:0], y[:0]), ValueError, r"probabilities: got shape \(0, 4\)"),
        (lambda p, y: (p, y + 1), ValueError, "labels: from 1 to 4, want 0 to 3"),
        (lambda p, y: (p, y - 1), ValueError, "labels: from -1 to 2, want 0 to 3"),
        (lambda p, y: (p, y[1:]), ValueError, r"labels: got shape \(59,\), wants \(60,\)"),
        (lambda p, y: (p, y / 1), TypeError, "labels: got dtype float64"),
    ],
)
def test_bad_predictions_are_named(change, error, message):
    for measure in (
        uncertainty.accuracy,
        uncertainty.brier,
        uncertainty.negative_log_likelihood,
        uncertainty.brier_decomposition,
        *CALIBRATION,
        per_example.correct,
    ):
        with pytest.raises(error, match=message):
            measure(*bad(change))


def test_bad_settings_are_named():
    probabilities, labels = draw()
    with pytest.raises(ValueError, match="k: got 0"):
        uncertainty.top_k(probabilities, labels, 0)
    with pytest.raises(ValueError, match="k: got 5, wants at most"):
        uncertainty.top_k(probabilities, labels, 5)
    with pytest.raises(ValueError, match="bins: got 0"):
        uncertainty.calibration_error(probabilities, labels, 0)
    with pytest.raises(ValueError, match="binning: got 'width'"):
        uncertainty.calibration_error(probabilities, labels, 3, "width")  # pyright: ignore
    with pytest.raises(ValueError, match=r"member_probabilities: got shape \(60, 4\)"):
        uncertainty.entropy_split(probabilities)
    with pytest.raises(ValueError, match="member_probabilities: sum to"):
        uncertainty.entropy_split(2 * probabilities[None])
