"""The report against each measure on its own, on the same resamples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.measures import bootstrap, ranking, report, selective, uncertainty

MEMBERS, EXAMPLES, CLASSES, SAMPLES, BINS = 2, 80, 3, 20, 4


def draw(key):
    logits = 2 * jax.random.normal(key, (MEMBERS, EXAMPLES, CLASSES))
    labels = jax.random.categorical(jax.random.fold_in(key, 1), logits.mean(axis=0))
    return jax.nn.softmax(logits, axis=-1), labels


def each_alone(probabilities, labels):
    """Every measure of a member by its public function, named as in the report."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    wrong = 1.0 - right
    of_predictions = {
        "accuracy": uncertainty.accuracy(probabilities, labels),
        "top_k": uncertainty.top_k(probabilities, labels, 2),
        "negative_log_likelihood": uncertainty.negative_log_likelihood(probabilities, labels),
        "brier": uncertainty.brier(probabilities, labels),
        "calibration_error": uncertainty.calibration_error(probabilities, labels, BINS),
        "equal_mass_calibration_error": uncertainty.calibration_error(
            probabilities, labels, BINS, "equal_mass"
        ),
        "classwise_calibration_error": uncertainty.classwise_calibration_error(
            probabilities, labels, BINS
        ),
    }
    of_scores = {
        "aurc": selective.aurc(confidence, wrong),
        "excess_aurc": selective.excess_aurc(confidence, wrong),
        "risk_at_coverage": selective.risk_at_coverage(confidence, wrong, 0.7),
        "coverage_at_risk": selective.coverage_at_risk(confidence, wrong, 0.1, 5),
        "auroc": ranking.auroc(confidence, right),
        "aupr": ranking.aupr(confidence, right),
        "fpr_at_tpr": ranking.fpr_at_tpr(confidence, right, 0.9),
    }
    decomposition = uncertainty.brier_decomposition(probabilities, labels, BINS)
    return of_predictions | of_scores | decomposition._asdict()


def run(key, probabilities, labels):
    return report.report(
        key, probabilities, labels, samples=SAMPLES, level=0.9, bins=BINS, top=2,
        coverage=0.7, risk=0.1, first=5, tpr=0.9,
    )  # fmt: skip


@pytest.mark.slow
def test_report_equals_each_measure_alone(key):
    probabilities, labels = draw(key)
    found = run(key, probabilities, labels)._asdict()
    keys = [jax.random.fold_in(key, sample) for sample in range(SAMPLES)]
    drawn = [jax.random.randint(one, (EXAMPLES,), 0, EXAMPLES) for one in keys]
    statistic = jax.jit(each_alone)
    for member in range(MEMBERS):
        estimate, *replicates = (
            statistic(probabilities[member][rows], labels[rows])
            for rows in [jnp.arange(EXAMPLES), *drawn]
        )
        for name, value in estimate.items():
            values = [replicate[name] for replicate in replicates]
            low = np.quantile(values, 0.05, method="lower")
            high = np.quantile(values, 0.95, method="higher")
            expected = value, low, high, np.std(values, ddof=1), 0
            ours = [field[member] for field in found[name]]
            np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-13, err_msg=name)
    split = uncertainty.entropy_split(probabilities)
    for name, values in zip(report.Report._fields[-3:], split, strict=True):
        alone = bootstrap.interval(key, jnp.mean, values, samples=SAMPLES, level=0.9)
        np.testing.assert_allclose(found[name], alone, rtol=1e-10)


@pytest.mark.slow
def test_perfect_and_impossible_predictions(key):
    """Nothing wrong: no ranking. A label of probability 0: an infinite loss, where it is drawn."""
    right = jnp.eye(CLASSES)[jnp.arange(EXAMPLES) % CLASSES]
    members = jnp.stack([right, right.at[0].set(right[1])])
    found = run(key, members, jnp.arange(EXAMPLES) % CLASSES)
    assert found.auroc.undefined[0] == SAMPLES
    assert np.isnan(found.auroc.estimate[0])
    assert found.accuracy.estimate[0] == 1
    np.testing.assert_array_equal(found.negative_log_likelihood.estimate, [0, np.inf])
    assert found.negative_log_likelihood.low[1] == 0
    assert found.coverage_at_risk.estimate[0] == 1


def test_bad_input_is_named(key):
    probabilities, labels = draw(key)
    with pytest.raises(ValueError, match="member_probabilities: sum to"):
        run(key, 2 * probabilities, labels)
    with pytest.raises(ValueError, match=r"member_probabilities: got shape \(80, 3\)"):
        run(key, probabilities[0], labels)
    with pytest.raises(ValueError, match="labels: from"):
        run(key, probabilities, labels + 1)
    with pytest.raises(ValueError, match="samples: got 0"):
        report.report(key, probabilities, labels, samples=0)
    with pytest.raises(ValueError, match="first: got 90"):
        report.report(key, probabilities, labels, first=90)
    with pytest.raises(ValueError, match="k: got 4"):
        report.report(key, probabilities, labels, top=4)


@pytest.mark.parametrize(("classes", "top"), [(3, 3), (8, 5)])
def test_top_five_where_there_are_as_many(classes, top, monkeypatch, key):
    monkeypatch.setattr(
        report, "_report", lambda key, probabilities, labels, settings, *_: settings
    )
    probabilities = np.full((2, 10, classes), 1 / classes)
    assert report.report(key, probabilities, np.zeros(10, int)).top == top
