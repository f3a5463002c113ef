"""Learners, poison and tables of `run_off_election`; each of its verdicts turns over."""

import math

import jax
import numpy as np
import pytest

from experiments import _run_off_election_attack as poisoning
from experiments import _run_off_election_learners as learners
from experiments import _run_off_election_verdict as judge
from experiments import run
from experiments import run_off_election as script
from ntkens.data import Dataset, Examples
from ntkens.ensembles import certificates
from tests.experiments import downloads
from tests.experiments.corruptions import change, drop, swap

CLAIMS = ("plurality", "shared", "parts", "boosted", "saving", "attack", "published")
EXPECTED = dict.fromkeys(CLAIMS, "reproduced")
METHODS = {"DPA": 0.0, "FA": 0.02, "DPA+ROE": 0.03, "FA+ROE": 0.04, "DPA*": 0.1, "DPA*+ROE": 0.14}


def planted():
    """Rows in which everything that the paper says is true."""
    rng = np.random.default_rng(0)
    rows = []
    for dataset, parts in (("digits", 20), ("cifar10", 50)):
        for split in range(6):
            here = {"dataset": dataset, "parts": parts, "split": split}
            base = np.linspace(0.71, 0.3, parts // 2 + 1) + 0.02 * rng.normal()
            for method, above in METHODS.items():
                accuracies = base + above + 0.002 * rng.normal(size=len(base))
                networks = parts if method.startswith("DPA") and "*" not in method else 8 * parts
                rows.append({**here, "kind": "certified", "method": method, "networks": networks,
                             "accuracies": list(accuracies), "median_radius": 9.0,
                             "learner_accuracy": 0.5})  # fmt: skip
                rows.append({**here, "kind": "attack", "method": method, "attack": "flip",
                             "touched": 4, "changed": 90, "networks_touched": 4, "isolated": True,
                             "certified": 400, "certified_moved": 0, "others": 100,
                             "others_moved": 30})  # fmt: skip
    return rows


def outcomes(rows):
    return dict(zip(CLAIMS, (claim.outcome for claim in script.verdict(rows).claims), strict=True))


def shuffle(rows):
    """Methods that have nothing to do with the curves."""
    rng = np.random.default_rng(1)
    for row in rows:
        if row["kind"] == "certified":
            row["accuracies"] = list(np.full(11, 0.7) + 0.05 * rng.normal())


def in_one_split(row):
    """All of a gain that is the same in expectation, of a method over DPA."""
    gain = 6 * METHODS[row["method"]] * (row["split"] == 0)
    return [0.6 + gain + 0.002 * row["split"]] * len(row["accuracies"])


def test_planted_rows_give_the_planted_verdict():
    assert outcomes(planted()) == EXPECTED


ONE = {"kind": "attack", "dataset": "digits", "split": 0, "method": "DPA"}
LATER = {"split": (1, 2, 3, 4, 5)}
SETTINGS = {"digits": [0.5] * 11, "cifar10": [0.5] * 26}
NOT = "not reproduced"
OPEN = dict.fromkeys(CLAIMS[:5], "inconclusive")


@pytest.mark.parametrize(
    ("break_", "turned"),
    [
        (swap("method", "DPA", "DPA+ROE", kind="certified"),
         {"plurality": NOT, "parts": NOT, "saving": NOT}),
        (swap("method", "FA", "FA+ROE", kind="certified", dataset="digits"),
         {"shared": "departs", "saving": "departs"}),
        (swap("method", "FA", "FA+ROE", kind="certified"), {"shared": NOT, "saving": NOT}),
        (swap("method", "FA", "DPA*+ROE", kind="certified"),
         {"shared": NOT, "boosted": NOT, "saving": NOT}),
        (swap("method", "DPA", "FA", kind="certified"),
         {"plurality": "inconclusive", "shared": "inconclusive", "parts": NOT,
          "boosted": "inconclusive", "saving": "inconclusive"}),
        (swap("method", "DPA+ROE", "DPA*+ROE", kind="certified"),  # the gain is of its networks
         {"plurality": "inconclusive", "boosted": "inconclusive", "saving": "inconclusive"}),
        (shuffle, OPEN),
        (change({"accuracies": in_one_split}, kind="certified"), OPEN | {"published": NOT}),
        (change({"accuracies": lambda row: SETTINGS[row["dataset"]]}, kind="certified"),
         OPEN | {"published": NOT}),
        (change({"accuracies": [math.nan] * 11}, kind="certified", dataset="digits", split=3),
         OPEN | {"saving": "reproduced"}),  # of the two settings one is enough
        (drop(**LATER), OPEN | {"published": "inconclusive"}),
        (drop(method="DPA+ROE", kind="certified", **LATER),
         {"plurality": "inconclusive", "saving": "inconclusive"}),
        (drop(method="FA", kind="certified", dataset="digits"),
         {"shared": "inconclusive", "parts": "inconclusive", "boosted": "inconclusive"}),
        (change({"certified_moved": 1}, **ONE), {"attack": NOT}),
        (change({"isolated": False}, **ONE), {"attack": NOT}),
        (change({"others_moved": 0}, kind="attack"), {"attack": "inconclusive"}),
        (change({"certified": 0}, kind="attack"), {"attack": "inconclusive"}),
        (change({"certified": 0}, kind="attack", method="FA+ROE"), {"attack": "inconclusive"}),
        (drop(kind="attack", method="DPA*"), {"attack": "inconclusive"}),
        (drop(kind="attack"), {"attack": "inconclusive"}),
        (change({"median_radius": 5.0}, kind="certified", dataset="cifar10"), {"published": NOT}),
    ],
)  # fmt: skip
def test_the_verdict_turns_over(break_, turned):
    rows = planted()
    break_(rows)
    assert outcomes(rows) == EXPECTED | turned


def test_the_published_table_is_judged_only_where_it_is_measured():
    rows = [row for row in planted() if row["dataset"] == "digits"]
    assert len(script.verdict(rows).claims) == len(CLAIMS) - 1


TINY = script.Config(settings=(("digits", 6),), widths=(4,), epochs=2, batch=16)
SPREAD = np.asarray(certificates.cyclic_spread((0, 2), 6))


@pytest.fixture(scope="module")
def data():
    """Images of random pixels, in the digits' steps of 1/16."""
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 17, (100, 8, 8, 1)) / 16).astype(np.float32)
    labels = rng.integers(0, 10, 100).astype(np.int32)
    return Dataset(Examples(images[:70], labels[:70]), Examples(images[70:], labels[70:]))


def trained(data, spread=SPREAD, seeds=1):
    return learners.logits(TINY, "digits", jax.random.key(0), data, spread, 40, seeds)


@pytest.mark.slow
def test_the_order_of_the_training_set_changes_nothing(data):
    order = np.random.default_rng(1).permutation(70)
    shuffled = data._replace(train=Examples(*(each[order] for each in data.train)))
    expected = trained(data)
    np.testing.assert_array_equal(trained(shuffled), expected)
    assert len(np.unique(expected[0, :, 0, 0])) == 6  # learners that differ


@pytest.mark.parametrize("attack", poisoning.ATTACKS)
def test_poison_stays_in_its_buckets(data, attack):
    """Other networks are the same to the bit, whatever the sizes of the poisoned ones' parts."""
    buckets = learners.assignment("digits", data.train.inputs, 6)
    plan = poisoning.Plan(np.array([1, 4]), (np.arange(10) + 3) % 10)
    poisoned, changed = poisoning.poison(data.train, buckets, plan, attack)
    before, after = trained(data), trained(data._replace(train=poisoned))
    fed = SPREAD[:, [1, 4]].any(axis=1)
    assert changed == np.isin(buckets, [1, 4]).sum() > 5
    np.testing.assert_array_equal(after[:, ~fed], before[:, ~fed])
    assert np.all(np.any(after[:, fed] != before[:, fed], axis=(2, 3)))
    assert 0 < fed.sum() < 6
    for part in range(6):
        same = learners.assignment("digits", poisoned.inputs, 6) == part
        found = sorted(
            zip(poisoned.inputs[same].sum((1, 2, 3)), poisoned.labels[same], strict=True)
        )
        own = buckets == part
        clean = sorted(
            zip(data.train.inputs[own].sum((1, 2, 3)), data.train.labels[own], strict=True)
        )
        assert (found == clean) == (part not in (1, 4))


def test_poison_does_what_it_says(data):
    plan = poisoning.Plan(np.array([2]), (np.arange(10) + 1) % 10)
    buckets = np.arange(70) % 6
    hit = buckets == 2
    flipped, _ = poisoning.poison(data.train, buckets, plan, "flip")
    np.testing.assert_array_equal(flipped.labels[hit], (data.train.labels[hit] + 1) % 10)
    np.testing.assert_array_equal(flipped.labels[~hit], data.train.labels[~hit])
    assert flipped.inputs is data.train.inputs
    longer, _ = poisoning.poison(data.train, buckets, plan, "insert")
    np.testing.assert_array_equal(longer.inputs[70:], data.train.inputs[hit])
    np.testing.assert_array_equal(longer.labels[70:], (data.train.labels[hit] + 1) % 10)
    np.testing.assert_array_equal(longer.labels[:70], data.train.labels)


def test_a_learner_has_room_for_so_many_and_no_more(data):
    whole = learners.rows("digits", data.train, SPREAD, 40)
    short = learners.rows("digits", data.train, SPREAD, 7)
    np.testing.assert_array_equal(short, whole[:, :7])  # the first of them by content
    buckets = learners.assignment("digits", data.train.inputs, 6)
    for row, fed in zip(whole, SPREAD, strict=True):
        assert set(row[row >= 0]) == set(np.flatnonzero(fed[buckets]))


def test_a_learner_without_examples_has_a_vote(data):
    """That of its first params, the same in every run."""
    everything = data.train._replace(inputs=data.train.inputs.copy())
    buckets = learners.assignment("digits", everything.inputs, 6)
    everything.inputs[:, 0, 0, 0] += (-buckets % 6) / 16  # all in bucket 0
    logits = trained(data._replace(train=everything))
    assert np.isfinite(logits).all()
    assert np.all(learners.rows("digits", everything, SPREAD, 80)[[1, 3, 4, 5]] == -1)


def test_the_adversary_takes_the_buckets_that_decide():
    """Class 0 beats class 1 by 3 votes to 2 in all examples; class 2 has none."""
    votes = np.array([1, 0, 1, 0, 0])
    logits = np.tile(np.eye(3)[votes][:, None], (1, 4, 1))
    plan = poisoning.plan(logits, np.eye(5, dtype=bool), 1)
    assert plan.buckets.tolist() == [1]  # the first of those who vote for 0
    assert plan.rivals.tolist() == [1, 2, 0]


def test_the_adversary_leaves_elections_that_are_lost():
    """One vote turns the first example; the second needs both votes of bucket 1."""
    first, second = [0, 0, 1, 1, 2], [0, 0, 0, 0, 1]
    logits = np.eye(3)[np.array([first, second]).T]
    spread = np.array([[1, 0], [0, 0], [0, 0], [0, 1], [0, 1]], bool)
    plan = poisoning.plan(logits, spread, 2)
    # bucket 0: 2 / 1 + 2 / 4; bucket 1: 0 + 1 (of class 2) / 1 + 2 / 4, less
    assert plan.buckets.tolist() == [0, 1]


def test_certified_accuracy_counts_what_is_right_and_safe():
    found = certificates.Certificate(np.array([0, 1, 1, 0]), np.array([2, 0, 1, 5]))
    row = script._certified(found, np.array([0, 1, 0, 0]), 4)
    assert row == {"accuracies": [0.75, 0.5, 0.5], "median_radius": 1.0}
    later = found._replace(prediction=np.array([0, 0, 0, 0]))
    assert script._moved(found, later, 1) == {
        "certified": 3, "certified_moved": 1, "others": 1, "others_moved": 1,
    }  # fmt: skip


def test_what_is_certified_is_of_learners_that_differ_and_know():
    """A run-off of one learner's copies is their plurality; those of other examples know none."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 200)
    voted = np.where(rng.random((2, 10, 200)) < 0.8, labels, rng.integers(0, 10, (2, 10, 200)))
    logits = np.eye(10)[voted]

    def certified(logits):
        found = script.certify(logits, np.eye(10, dtype=bool))
        return {name: script._certified(of, labels, 10)["accuracies"] for name, (of, _) in
                found.items()}  # fmt: skip

    copies = certified(np.broadcast_to(logits[:1, :1], logits.shape))
    assert all(copies[method] == copies["DPA"] for method in copies)
    others = np.stack([[rng.permutation(learner) for learner in seed] for seed in logits])
    for right, wrong in zip(*(certified(of).values() for of in (logits, others)), strict=True):
        assert right[1] > 0.9
        assert wrong[1] < 0.1


@pytest.mark.slow
def test_the_accelerators_path_on_a_few_images(monkeypatch):
    """CIFAR-10's shape, convolutions, minibatches; what is measured is that of the plan."""
    small = downloads.images((32, 32, 3))
    monkeypatch.setattr(learners.tfds, "load", lambda name, directory: small)
    config = script.Config(
        settings=(("cifar10", 4),), degree=2, splits=2, widths=(2, 2, 2), epochs=1, batch=8
    )
    (cell, _) = script.plan(config)
    rows = list(script.measure(config, cell))
    assert [row["method"] for row in rows if row["kind"] == "certified"] == [
        "DPA", "DPA+ROE", "DPA*", "DPA*+ROE", "FA", "FA+ROE",
    ]  # fmt: skip
    attacks = [row for row in rows if row["kind"] == "attack"]
    assert len(attacks) == 6 * len(poisoning.ATTACKS)
    assert all(row["isolated"] and not row["certified_moved"] for row in attacks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": ()}, "settings: got none"),
        ({"settings": (("imagenet", 5),)}, "settings: got 'imagenet'"),
        ({"settings": (("digits", 1),)}, "settings: got 1 parts"),
        ({"splits": 1}, "splits: got 1"),
        ({"shares": (0.0,)}, "shares: got"),
        ({"room": 0.5}, "room: got 0.5"),
    ],
)
def test_a_config_that_cannot_be_measured_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        script.Config(**change)


def test_the_published_numbers_are_of_the_papers_settings():
    assert set(judge.PUBLISHED) == set(script.PAPER.settings)
    assert all(isinstance(cell, run.Cell) for cell in script.plan(script.PAPER))
