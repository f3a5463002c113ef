"""Policies and tasks of `early_exit_cascades` against NumPy; every verdict turns over."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from experiments import _early_exit_cascades_networks as networks
from experiments import _early_exit_cascades_policies as policies
from experiments import _early_exit_cascades_verdict as judge
from experiments import early_exit_cascades as script
from ntkens.data import Dataset, Examples
from tests.experiments.corruptions import change, drop, swap

CLAIMS = ("windows", "kept", "accuracy", "worth", "cost", "reliable", "shift", "widening")
EXPECTED = dict.fromkeys(CLAIMS, "reproduced")
# What each policy gains over one network, where everything is as the paper says.
GAINS = {"single": 0.0, "single threshold": 0.01, "window": 0.028, "adaptive window": 0.027,
         "ensemble": 0.03}  # fmt: skip
SCALED = {1.2: (1.2, 0.005), 2.0: (2.0, 0.004), 4.0: (4.0, 0.029)}  # cost and gain
SEEDS = list(range(10))


def planted():
    """Rows in which everything that the paper says is true, in two cells of seeds each."""
    rng = np.random.default_rng(0)
    rows = []

    def add(named, better, gain, macs):
        values = 0.5 + better * (gain + 1e-3 * rng.normal(size=len(SEEDS)))
        for seeds in (SEEDS[5:], SEEDS[:5]):
            rows.append({**named, "macs": macs, "first_seed": seeds[0],
                         "values": [float(values[seed]) for seed in seeds]})  # fmt: skip

    for task, facts in policies.TASKS.items():
        gains = dict(GAINS)
        if task == "error":
            gains |= {"single threshold": 0.028, "window": 0.01}
        for members in (2, 4):
            for score in policies.SCORES if members == 2 else [policies.MAIN]:
                for policy, gain in gains.items():
                    share = {"window": 0.25, "adaptive window": 0.2, "ensemble": 1.0}.get(policy, 0)
                    named = {"kind": "cascade", "members": members, "task": task, "score": score,
                             "policy": policy, "share": share, "scale": 1.0}  # fmt: skip
                    add(
                        named, facts.better, gain, {"ensemble": 2.0, "single": 1.0}.get(policy, 1.2)
                    )
        for scale, (macs, gain) in SCALED.items():
            gain = -0.02 if task in judge.UNKNOWN else gain
            named = {"kind": "single", "scale": scale, "members": 1, "task": task,
                     "score": policies.MAIN, "policy": "single", "share": 0.0}  # fmt: skip
            add(named, facts.better, gain, macs)
    for policy in ("window", "single threshold"):
        for width, gain in ((0.0, 0.0), (0.1, 0.02), (0.8, 0.03)):
            add({"kind": "sweep", "policy": policy, "width": width}, -1, gain, 1 + width)
    return rows


def outcomes(rows):
    return dict(zip(CLAIMS, (claim.outcome for claim in script.verdict(rows).claims), strict=True))


def shift_values(amount, **where):
    """Moves the values of some rows by a share of what is better."""

    def shifted(row):
        better = policies.TASKS[row["task"]].better if "task" in row else -1
        return [value + better * amount for value in row["values"]]

    return change({"values": shifted}, **where)


def in_one_seed(row):
    """The mean of a cell as it was, from one of its seeds alone."""
    others = [0.5] * len(row["values"][1:])
    return [sum(row["values"]) - sum(others), *others]


def unreliable(rows):
    """Scaling finds the unknown classes better, and an ensemble worse."""
    for task in judge.UNKNOWN:
        shift_values(0.1, kind="single", task=task)(rows)
        shift_values(-0.1, kind="cascade", policy="ensemble", task=task)(rows)


NOTHING = [math.nan] * 5
SCALES = ("worth", "cost", "reliable")


def test_planted_rows_give_the_planted_verdict():
    assert outcomes(planted()) == EXPECTED


@pytest.mark.parametrize(
    ("break_", "turned"),
    [
        (swap("policy", "window", "single threshold", kind="cascade", task="risk@50"),
         {"windows": "departs"}),
        (shift_values(0.03, kind="cascade", policy="single threshold"),
         {"windows": "not reproduced"}),
        (drop(kind="cascade", task="cov@10"), {"windows": "inconclusive"}),
        (change({"values": NOTHING}, policy="window", task="cov@10"),
         {"windows": "inconclusive"}),
        (change({"macs": 1.3}, policy="window", task="cov@10"), {"windows": "inconclusive"}),
        (change({"values": in_one_seed}, policy="window", kind="cascade"),
         {"windows": "inconclusive", "kept": "inconclusive", "worth": "inconclusive",
          "cost": "inconclusive", "shift": "inconclusive"}),
        (change({"values": in_one_seed}, policy="single threshold", task="error"),
         {"accuracy": "inconclusive"}),
        (swap("policy", "window", "single threshold", kind="cascade", task="error"),
         {"accuracy": "not reproduced"}),
        (change({"macs": 1.1}, policy="single threshold", task="error"),
         {"accuracy": "inconclusive"}),
        (shift_values(-0.01, policy="window", task="risk@80", kind="cascade"),
         {"kept": "not reproduced"}),
        (swap("policy", "single", "ensemble", kind="cascade", task="risk@80"),
         {"kept": "inconclusive", "widening": "not reproduced"}),
        (swap("policy", "window", "ensemble", kind="cascade"),  # at the cost of two networks
         {"windows": "inconclusive", "kept": "not reproduced", "accuracy": "inconclusive",
          "worth": "inconclusive", "widening": "not reproduced"}),
        (shift_values(0.02, kind="single", scale=4.0, task="cov@5"), {"worth": "not reproduced"}),
        (shift_values(0.009, kind="single", scale=4.0, task="cov@5"), {"worth": "inconclusive"}),
        (shift_values(0.04, kind="single", scale=1.2, task="cov@5"), {"cost": "not reproduced"}),
        (shift_values(0.1, kind="single", scale=2.0), {"reliable": "inconclusive"}),
        (unreliable, {"reliable": "not reproduced"}),
        (change({"values": NOTHING}, kind="single", task="AUROC", first_seed=0),
         {"reliable": "inconclusive"}),
        # networks that were scaled and not trained, those of other seeds, and none
        (shift_values(-0.3, kind="single"), dict.fromkeys(SCALES, "inconclusive")),
        (change({"first_seed": lambda row: row["first_seed"] + 100}, kind="single"),
         dict.fromkeys(SCALES, "inconclusive")),
        (drop(kind="single"), dict.fromkeys(SCALES, "inconclusive")),
        (change({"share": 0.3}, policy="adaptive window"), {"shift": "not reproduced"}),
        (shift_values(-0.02, policy="adaptive window", task="FPR@80"), {"shift": "not reproduced"}),
        (change({"share": 0.2}, policy="window"), {"shift": "inconclusive"}),  # nothing has shifted
        (shift_values(-0.05, policy=("window", "adaptive window"), task="SCOD risk@80"),
         {"shift": "inconclusive", "windows": "departs"}),  # no gain to keep
        (shift_values(0.03, kind="sweep", width=0.1), {"widening": "not reproduced"}),
        (swap("width", 0.0, 0.8, kind="sweep"), {"widening": "not reproduced"}),
        (shift_values(0.01, kind="sweep", width=0.8), {"widening": "not reproduced"}),
        (change({"values": NOTHING}, kind="sweep", width=0.1), {"widening": "inconclusive"}),
        (drop(kind="sweep", width=0.8), {"widening": "not reproduced"}),  # stops on the way
    ],
)  # fmt: skip
def test_the_verdict_turns_over(break_, turned):
    rows = planted()
    break_(rows)
    assert outcomes(rows) == EXPECTED | turned


def test_noise_loses_every_effect():
    """Values without a policy's effect: no claim of a difference stands."""
    rng = np.random.default_rng(1)
    rows = planted()
    for row in rows:
        row["values"] = list(0.5 + 0.01 * rng.normal(size=len(row["values"])))
    found = outcomes(rows)
    assert all(
        found[claim] != "reproduced"
        for claim in ("windows", "kept", "accuracy", "cost", "shift", "widening")
    )


def test_a_point_where_window_and_threshold_are_one_is_not_judged():
    rows = planted()
    for row in rows:
        if row.get("task") == "FPR@95" and row["kind"] == "cascade":
            row["values"] = [0.5] * 5
    claim = script.verdict(rows).claims[0]
    assert claim.outcome == "reproduced"
    assert "FPR@95 1.00, SCOD" in claim.evidence


def logits_of(seed=0, members=2, unknown=90):
    rng = np.random.default_rng(seed)

    def draw(n):
        labels = rng.integers(0, 4, n)
        return 2 * np.eye(4)[labels] + 1.5 * rng.normal(size=(members, n, 4)), labels

    shifted = 1.2 * rng.normal(size=(members, unknown, 4))
    return networks.Logits(*map(jnp.asarray, (*draw(100), *draw(120), shifted)))


evaluate = jax.jit(policies.evaluate, static_argnames="kinds")


def numpy_window(logits, coverage):
    """Scores, errors and members asked of a pair with a window, example by example."""
    validation = special.softmax(np.asarray(logits.validation[0]), axis=-1).max(axis=-1)
    order = np.sort(validation)
    threshold = order[len(order) - round(coverage * len(order))]
    below = int(np.sum(validation < threshold))
    inside = order[max(below - 10, 0) : below + 10]  # 10 % of 100

    def run(of):
        found = []
        for example in range(of.shape[1]):
            p = special.softmax(np.asarray(of[:, example]), axis=-1)
            first = p[0].max()
            goes_on = (first >= inside[0] or below < 10) and first <= inside[-1]
            found.append((p.mean(axis=0).argmax() if goes_on else p[0].argmax(),
                          p.max(axis=1).mean() if goes_on else first, 1 + goes_on))  # fmt: skip
        return [np.array(part) for part in zip(*found, strict=True)]

    predicted, scores, asked = run(logits.test)
    _, others, others_asked = run(logits.shifted)
    return scores, predicted != logits.test_labels, asked, others, others_asked


@pytest.mark.slow
def test_every_kind_of_task_against_numpy():
    logits = logits_of()
    found = evaluate(logits, kinds=("MSP",))
    window = policies.POLICIES.index("window")

    def value(task):
        return float(found[task].value[0, window])

    scores, wrong, asked, others, others_asked = numpy_window(logits, 0.8)
    order = np.argsort(-scores)
    assert value("risk@80") == pytest.approx(wrong[order[:96]].mean())
    assert value("error") == pytest.approx(wrong.mean())
    assert float(found["risk@80"].macs[0, window]) == pytest.approx(asked.mean())
    assert value("FPR@80") == pytest.approx(np.mean(others >= scores[order[95]]))
    pairs = (scores[:, None] > others[None]) + 0.5 * (scores[:, None] == others[None])
    assert value("AUROC") == pytest.approx(pairs.mean())
    risks = np.cumsum(wrong[order]) / np.arange(1, 121)
    curve = np.concatenate([[0], risks])
    assert value("AURC") == pytest.approx(np.mean((curve[1:] + curve[:-1]) / 2))
    known = np.sort(scores[:90])[::-1][71]  # the mix is 90 and 90
    accepted = np.concatenate([scores[:90] >= known, others >= known])
    mistakes = np.concatenate([wrong[:90], np.ones(90, bool)])
    assert value("SCOD risk@80") == pytest.approx(mistakes[accepted].mean())
    mixed = np.concatenate([asked[:90], others_asked])
    assert float(found["FPR@80"].macs[0, window]) == pytest.approx(mixed.mean())
    scores, *_, others, _ = numpy_window(logits, 0.95)
    assert value("FPR@95") == pytest.approx(np.mean(others >= np.sort(scores)[::-1][113]))


@pytest.mark.slow
def test_a_gain_is_that_of_members_that_differ_and_know():
    """A second member that is the first gains nothing; one that answers for others does harm."""
    logits, order = logits_of(), np.random.default_rng(1).permutation(120)

    def found(second):
        arriving = {name: jnp.stack([getattr(logits, name)[0], second(getattr(logits, name))])
                    for name in ("validation", "test", "shifted")}  # fmt: skip
        results = evaluate(logits._replace(**arriving), kinds=("MSP",))
        return {task: np.asarray(result.value[0]) for task, result in results.items()}

    for task, values in found(lambda outputs: outputs[0]).items():
        np.testing.assert_allclose(values, values[0], err_msg=task)
    right, wrong = (
        {task: policies.TASKS[task].better * (values - values[0])[-1]
         for task, values in found(second).items()}
        for second in (lambda outputs: outputs[1],
                       lambda outputs: outputs[1][order[order < len(outputs[1])]])
    )  # fmt: skip
    for task in ("risk@50", "risk@80", "AURC", "error"):
        assert right[task] > 0 > wrong[task]


def test_unknown_examples_move_no_window_but_the_adaptive():
    @jax.jit
    def windows_of(logits):
        return policies._windows(policies._prepare(logits, policies.SCORES["MSP"]))

    def windows(shifted_seed):
        return windows_of(logits_of()._replace(shifted=logits_of(shifted_seed).shifted))

    for first, second in zip(*map(windows, (1, 2)), strict=True):
        for policy, name in enumerate(policies.POLICIES):
            same = [np.array_equal(a[:, policy], b[:, policy])
                    for a, b in zip(first, second, strict=True)]  # fmt: skip
            assert all(same) == (name != "adaptive window")


@pytest.mark.slow
def test_a_sweep_goes_from_one_network_to_the_ensemble():
    logits = logits_of()
    found = jax.jit(policies.sweep)(logits)
    ends = evaluate(logits, kinds=("MSP",))["risk@80"].value[0]
    for policy in range(2):
        assert float(found.value[policy, 0]) == pytest.approx(float(ends[0]))
        assert float(found.value[policy, -1]) == pytest.approx(float(ends[-1]))
        assert float(found.macs[policy, 0]) == pytest.approx(1)
        assert float(found.macs[policy, -1]) == pytest.approx(2)
        assert np.all(np.diff(found.macs[policy]) >= 0)


@pytest.mark.slow
def test_a_seed_is_the_same_whatever_is_trained_with_it():
    config = script.TINY
    data = networks.load("digits", "")
    assert set(data.known.labels) == set(range(8))
    assert len(data.known.labels) + len(data.shifted) == 1797
    first, _ = networks.train(config, data, 1.0, 2, np.arange(2))
    assert not np.array_equal(first.test_labels[0], first.test_labels[1])
    assert not np.allclose(first.test[:, 0], first.test[:, 1])
    alone, _ = networks.train(config, data, 1.0, 1, np.arange(1, 2))
    np.testing.assert_array_equal(alone.test_labels[0], first.test_labels[1])
    np.testing.assert_allclose(alone.test[0, 0], first.test[1, 0], rtol=1e-4, atol=1e-5)
    assert networks.relative_macs(config, data, 2.0) == 2


@pytest.mark.slow
def test_the_paper_preset_runs_on_a_few_small_images(monkeypatch):
    rng = np.random.default_rng(0)

    def images(name, directory):
        assert name in ("cifar100", "svhn_cropped")
        assert directory is None
        sizes = (40, 10)
        return Dataset(*(
            Examples(rng.random((n, 8, 8, 3)).astype(np.float32), np.arange(n, dtype=np.int32) % 3)
            for n in sizes
        ))  # fmt: skip

    monkeypatch.setattr(networks.tfds, "load", images)
    config = dataclasses.replace(script.PAPER, seeds=2, scales=(2.0,), scaled=1, depth=10,
                                 train=20, validation=20, epochs=1, batch=10)  # fmt: skip
    cells = script.plan(config)
    assert [cell.key for cell in cells] == [
        "scale=1 seeds=0-0", "scale=1 seeds=1-1", "scale=2 seeds=0-0", "scale=2 seeds=1-1"
    ]  # fmt: skip
    data = networks.load(config.dataset, config.data_directory)
    logits, losses = networks.train(config, data, 1.0, 2, np.arange(1))
    assert logits.validation.shape == (1, 2, 20, 3)
    assert logits.test.shape == logits.shifted.shape == (1, 2, 10, 3)
    np.testing.assert_array_equal(logits.test_labels[0], np.arange(10) % 3)  # the fixed ones
    assert np.isfinite(losses).all()
    assert np.isfinite(logits.shifted).all()
    assert 3 < networks.relative_macs(config, data, 2.0) < 4  # twice the width, but for the stem


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "mnist"}, "dataset: got 'mnist'"),
        ({"members": 3}, "members: got 3"),
        ({"seeds": 1}, "seeds: got 1"),
        ({"scales": (1.0,)}, "scales: got"),
        ({"epochs": 0}, "epochs: got 0"),
    ],
)
def test_a_config_that_cannot_be_measured_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        script.Config(**change)


def test_a_scale_without_whole_units_is_refused():
    with pytest.raises(ValueError, match=r"scales: got 1.23, which makes 24.6 units"):
        networks.network(script.QUICK, 1.23, 8)
