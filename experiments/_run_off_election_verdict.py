"""What the rows of `run_off_election` say: the verdict on each claim."""

import math

import numpy as np

from experiments._contract import Claim, Outcome, Verdict
from experiments._rows import judged, mean_and_error, select, sign, unanimous

CELL = ("kind", "dataset", "parts", "split")
AS_GOOD = 0.03  # of accuracy: nearer below the published one is as good, by other networks
AS_FAR = 0.8  # of the published radius
# DPA without poison, and the median radius: Table 1 of arXiv:2006.14768.
PUBLISHED = {
    ("mnist", 1200): (0.9585, 460),
    ("cifar10", 50): (0.7016, 9),
    ("cifar10", 250): (0.5565, 5),
}


def verdict(rows: list[dict]) -> Verdict:
    """The gains of the second round, of shared buckets and of seeds; then the attacks."""
    claims = [
        _gain(rows, "a run-off certifies more on parts", "DPA+ROE", "DPA", "up to 3 to 4 points"),
        _gain(rows, "a run-off certifies more on buckets", "FA+ROE", "FA", "up to 3 to 4 points"),
        _gain(
            rows,
            "shared buckets certify more than parts",
            "FA",
            "DPA",
            "more",
            as_many_networks=False,
        ),
        _gain(rows, "DPA*+ROE certifies more than FA", "DPA*+ROE", "FA", "up to 12 to 27 points"),
        _saving(rows),
        _soundness(rows),
    ]
    if any(setting in PUBLISHED for setting in settings(rows)):
        claims.append(_published(rows))
    return Verdict(tuple(claims))


def settings(rows: list[dict]) -> list[tuple[str, int]]:
    """The data sets, and numbers of parts, that were measured."""
    found = select(rows, kind="certified")
    return list(dict.fromkeys((row["dataset"], row["parts"]) for row in found))


def by_split(rows: list[dict], setting: tuple[str, int], method: str) -> dict[int, np.ndarray]:
    """Certified accuracies at all budgets, of each split."""
    dataset, parts = setting
    found = select(rows, kind="certified", dataset=dataset, parts=parts, method=method)
    return {row["split"]: np.array(row["accuracies"]) for row in found}


def curves(rows: list[dict], setting: tuple[str, int], method: str) -> np.ndarray:
    """Certified accuracies, [splits budgets], in the order of the splits."""
    found = by_split(rows, setting, method)
    return np.array([found[split] for split in sorted(found)])


def points(mean, error) -> str:
    """A difference of accuracies in percentage points."""
    digits = 1 if error >= 0.001 else 2
    return f"{100 * mean:+.{digits}f} ± {100 * error:.{digits}f}"


def _name(setting):
    return "{} k={}".format(*setting)


def _difference(rows, setting, method, other):
    """Of the splits, NaN of those that one of the two lacks."""
    first, second = (by_split(rows, setting, name) for name in (method, other))
    missing = np.full(setting[1] // 2 + 1, math.nan)
    splits = sorted(first | second)
    return np.array([first.get(at, missing) - second.get(at, missing) for at in splits])


def _times_the_networks(rows, method, other):
    """Of every cell, how many times the networks of the other a method has."""
    return [
        row["networks"] / same["networks"]
        for row in select(rows, kind="certified", method=method)
        for same in select(rows, **{name: row[name] for name in CELL}, method=other)
    ]


def _gain(rows, statement, method, other, theirs, *, as_many_networks=True):
    """Judged by the mean over all budgets, since the largest gain of many is partly luck."""
    margins, quoted, evidence = [], [], []
    for setting in settings(rows):
        difference = _difference(rows, setting, method, other)
        margins.append(difference.mean(axis=1))
        means, errors = mean_and_error(difference)
        best, worst = int(np.argmax(means)), int(np.argmin(means))
        most = points(means[best], errors[best])
        quoted.append(f"{points(*mean_and_error(margins[-1]))}, up to {most} ({_name(setting)})")
        least = points(means[worst], errors[worst])
        of = select(rows, kind="certified", dataset=setting[0], parts=setting[1], method=other)
        alone, _ = mean_and_error([row["learner_accuracy"] for row in of])
        evidence.append(
            f"{_name(setting)}: {least} at B = {worst}, {most} at B = {best}, of learners that are "
            f"right on {100 * alone:.0f}%"
        )
    outcome = judged([sign(margin) for margin in margins])
    if as_many_networks and set(_times_the_networks(rows, method, other)) != {1}:
        outcome = "inconclusive"  # whatever it gains may be of its networks
    return Claim(
        statement,
        outcome,
        theirs,
        "; ".join(quoted),
        f"points of certified accuracy, {method} less {other}, mean over B = 0 ... k / 2, paired "
        f"over {len(difference)} splits. The least and the most of all B: {'; '.join(evidence)}",
    )


def _saving(rows):
    """In how many settings DPA+ROE is above FA, which has as many times more networks."""
    signs, quoted, ahead = [], [], []
    for setting in settings(rows):
        difference = _difference(rows, setting, "DPA+ROE", "FA")
        signs.append(sign(difference.mean(axis=1)))
        quoted.append(f"{points(*mean_and_error(difference.mean(axis=1)))} ({_name(setting)})")
        ahead += [sign(at_budget) for at_budget in difference.T]
    outcome = judged(signs)
    if outcome == "inconclusive" and 2 * signs.count(1) >= len(signs) > 0:
        outcome = "reproduced"  # many cases are enough, if there is none to the contrary
    times = min(_times_the_networks(rows, "FA", "DPA+ROE"), default=math.nan)
    if not times > 1:
        outcome = "inconclusive"
    return Claim(
        "DPA+ROE certifies more than FA with fewer networks",
        outcome,
        "in many cases, with 32 times fewer",
        f"{', '.join(quoted)}, with {times:.0f} times fewer",
        f"points of certified accuracy, DPA+ROE less FA, mean over B = 0 ... k / 2: above in "
        f"{signs.count(1)} of {len(signs)} settings, below in {signs.count(-1)}; above at "
        f"{ahead.count(1)} of {len(ahead)} budgets, below at {ahead.count(-1)} (95%)",
    )


def _soundness(rows):
    found = select(rows, kind="attack")
    certified, moved, others, others_moved = (
        sum(row[name] for row in found)
        for name in ("certified", "certified_moved", "others", "others_moved")
    )
    leaks = sum(not row["isolated"] for row in found)
    outcome: Outcome = "reproduced"
    if moved or leaks:
        outcome = "not reproduced"
    quoted, tested = [], []
    for method in dict.fromkeys(row["method"] for row in select(rows, kind="certified")):
        promised, bitten, left = (
            sum(row[name] for row in select(found, method=method))
            for name in ("certified", "others_moved", "others")
        )
        quoted.append(f"{method} {bitten} of {left}")
        tested.append(promised > 0 and bitten > 0)
    if outcome == "reproduced" and not (tested and all(tested)):
        outcome = "inconclusive"  # one that promised nothing, or that no attack harms
    changed = [row["changed"] for row in found]
    return Claim(
        "no certified prediction moves under a real attack",
        outcome,
        "0",
        f"{moved} of {certified}; of the others {others_moved} of {others}",
        f"{min(changed, default=0)} to {max(changed, default=0)} samples flipped or inserted in "
        f"the buckets of a greedy adversary, all networks trained again; in {leaks} of "
        f"{len(found)} cases a network that sees none of these buckets changed. Uncertified ones "
        f"that moved: {', '.join(quoted)}",
    )


def _published(rows):
    """DPA's own table, which says whether our networks are as good as theirs."""
    theirs, ours, signs = [], [], []
    for setting in settings(rows):
        if setting not in PUBLISHED:
            continue
        accuracy, radius = PUBLISHED[setting]
        mean, error = mean_and_error(curves(rows, setting, "DPA")[:, 0])
        name = dict(zip(("dataset", "parts"), setting, strict=True))
        found = select(rows, kind="certified", method="DPA", **name)
        median = np.median([row["median_radius"] for row in found])
        theirs.append(f"{100 * accuracy:.1f}%, radius {radius} ({_name(setting)})")
        ours.append(f"{100 * mean:.1f} ± {100 * error:.1f}%, radius {median:.0f}")
        margin = curves(rows, setting, "DPA")[:, 0] - accuracy + AS_GOOD
        signs.append(-1 if median < AS_FAR * radius else sign(margin))
    return Claim(
        "DPA without poison, and its median radius",
        unanimous(signs),
        ", ".join(theirs),
        ", ".join(ours),
        "a small convolutional network without augmentation, theirs is Network in Network; as good "
        f"is less than {100 * AS_GOOD:.0f} points below, and a radius of {AS_FAR} of theirs",
    )
