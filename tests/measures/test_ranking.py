"""AUROC, AUPR and FPR at a TPR against scikit-learn, and against all pairs and thresholds."""

import jax
import numpy as np
import pytest
from sklearn import metrics

from ntkens.measures import ranked, ranking

EXAMPLES = 12
MEASURES = [ranking.auroc, ranking.aupr, ranking.fpr_at_tpr]


@jax.jit
@jax.vmap
def every(scores, positive):
    """All measures of a stack of cases, compiled once."""
    return [measure(scores, positive) for measure in MEASURES]


def cases(count, levels):
    """Scores of a few levels, so with many ties, and classes that both occur."""
    random = np.random.default_rng(levels)
    scores = random.integers(0, levels, (count, EXAMPLES)) / 7 - 0.3
    positive = random.random((count, EXAMPLES)) < random.uniform(0.2, 0.8, (count, 1))
    positive[:, 0], positive[:, 1] = True, False
    return scores, positive


def brute_force_fpr(scores, positive, tpr):
    """Over the thresholds one by one: nearest recall, then larger recall, then smaller FPR."""
    found = []
    for threshold in np.unique(scores):
        accepted = scores >= threshold
        recall, fpr = accepted[positive].mean(), accepted[~positive].mean()
        found.append((round(abs(recall - tpr), 12), -recall, fpr))
    return min(found)[2]


@pytest.mark.parametrize("levels", [2, 4, 1000])
def test_equal_to_scikit_learn_and_brute_force(levels):
    scores, positive = cases(60, levels)
    ours = every(scores, positive)
    for row in range(len(scores)):
        one = scores[row], positive[row]
        np.testing.assert_allclose(ours[0][row], metrics.roc_auc_score(*one[::-1]), rtol=1e-12)
        precision = metrics.average_precision_score(*one[::-1])
        np.testing.assert_allclose(ours[1][row], precision, rtol=1e-12)
        np.testing.assert_allclose(ours[2][row], brute_force_fpr(*one, 0.95), rtol=1e-12)


def test_auroc_is_the_chance_to_outscore_over_all_pairs():
    cases_of_three_levels = cases(60, 3)
    for scores, positive, found in zip(
        *cases_of_three_levels, every(*cases_of_three_levels)[0], strict=True
    ):
        pairs = scores[positive][:, None] - scores[~positive][None]
        chance = np.mean(pairs > 0) + np.mean(pairs == 0) / 2
        np.testing.assert_allclose(found, chance, rtol=1e-12)


@pytest.mark.slow
def test_any_tpr_and_its_vmap():
    """At 0.25, 0.375, ... two recalls are equally near."""
    scores = np.array([8.0, 7, 6, 5, 5, 4, 3, 2, 2, 1, 0, 0])
    positive = np.array([1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0], bool)
    tprs = np.linspace(0, 1, 17)
    ours = jax.vmap(lambda tpr: ranking.fpr_at_tpr(scores, positive, tpr))(tprs)
    expected = [brute_force_fpr(scores, positive, tpr) for tpr in tprs]
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("measure", MEASURES)
def test_counts_are_repetitions(measure):
    scores, positive = (array[0] for array in cases(1, 4))
    counts = np.array([2, 1, 0, 0, 3, 1, 0, 1, 1, 2, 0, 1])
    repeated = measure(np.repeat(scores, counts), np.repeat(positive, counts))
    np.testing.assert_allclose(measure(scores, positive, counts=counts), repeated, rtol=1e-12)
    order = np.random.default_rng(0).permutation(EXAMPLES)
    np.testing.assert_allclose(
        measure(scores[order], positive[order]), measure(scores, positive), rtol=1e-12
    )
    sorted_once = measure(ranked.rank(scores), positive)
    assert sorted_once == measure(scores, positive) == jax.jit(measure)(scores, positive)


def test_the_first_threshold_accepts_one():
    scores, positive = np.array([3.0, 2.0, 2.0]), np.array([True, True, False])
    assert ranking.fpr_at_tpr(scores, positive, 0.5) == 0


def test_one_class_is_nan_and_says_why():
    scores = np.arange(float(EXAMPLES))
    for positive, word in ((scores >= 0, "positive"), (scores < 0, "negative")):
        assert np.isnan(every(scores[None], positive[None])).all()
        assert ranking.undefined(positive) == f"one class in the sample: all 12 examples are {word}"
    assert ranking.undefined(scores > 1) is None


def test_bad_input_is_named():
    scores, positive = np.arange(3.0), np.array([True, False, True])
    with pytest.raises(TypeError, match="positive: got dtype int"):
        ranking.auroc(scores, positive.astype(int))
    with pytest.raises(TypeError, match="positive: got dtype int"):
        ranking.undefined(np.arange(2))
    with pytest.raises(ValueError, match=r"positive: got shape \(2,\), wants \(3,\)"):
        ranking.aupr(scores, positive[:2])
    with pytest.raises(ValueError, match="scores: holds NaN"):
        ranking.auroc(np.array([0, np.nan, 1]), positive)
    with pytest.raises(ValueError, match=r"scores: got shape \(0,\)"):
        ranking.auroc(np.zeros(0), np.zeros(0, bool))
    with pytest.raises(ValueError, match=r"tpr: got 1\.5"):
        ranking.fpr_at_tpr(scores, positive, 1.5)
    for counts in (np.array([1, 1, 0]), np.array([4, -2, 1])):
        with pytest.raises(ValueError, match="counts: want"):
            ranking.auroc(scores, positive, counts)
    with pytest.raises(TypeError, match="counts: got dtype float"):
        ranking.auroc(scores, positive, np.ones(3))


def test_infinite_scores_are_scores():
    scores = np.array([np.inf, 1.0, -np.inf, np.inf] * 3)
    positive = np.array([True, True, False, False] * 3)
    assert ranking.auroc(scores, positive) == (0.5 + 1 + 0 + 1) / 4
