"""What the rows of `run_off_election` say: the verdict on each claim."""

import math

import numpy as np

from experiments._contract import Claim, Outcome, Verdict
from experiments._rows import judged, mean_and_error, select, sign

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
        _gain(rows, "shared buckets certify more than parts", "FA", "DPA", "more"),
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


def curves(rows: list[dict], setting: tuple[str, int], method: str) -> np.ndarray:
    """Certified accuracies, [splits budgets], in the order of the splits."""
    dataset, parts = setting
    found = select(rows, kind="certified", dataset=dataset, parts=parts, method=method)
    found = sorted(found, key=lambda row: row["split"])
    return np.array([row["accuracies"] for row in found])


def points(mean, error) -> str:
    """A difference of accuracies in percentage points."""
    digits = 1 if error >= 0.001 else 2
    return f"{100 * mean:+.{digits}f} ± {100 * error:.{digits}f}"


def _name(setting):
    return "{} k={}".format(*setting)


def _difference(rows, setting, method, other):
    return curves(rows, setting, method) - curves(rows, setting, other)


def _gain(rows, statement, method, other, theirs):
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
        alone = np.mean([row["learner_accuracy"] for row in of])
        evidence.append(
            f"{_name(setting)}: {least} at B = {worst}, {most} at B = {best}, of learners that are "
            f"right on {100 * alone:.0f}%"
        )
    return Claim(
        statement,
        judged([sign(margin) for margin in margins]),
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
    outcome: Outcome = "inconclusive"
    if max(signs) > 0:
        outcome = "reproduced"
    elif max(signs) < 0:
        outcome = "not reproduced"
    few, many = (
        select(rows, kind="certified", method=method)[0]["networks"] for method in ("DPA+ROE", "FA")
    )
    return Claim(
        "DPA+ROE certifies more than FA with fewer networks",
        outcome,
        "in many cases, with 32 times fewer",
        f"{', '.join(quoted)}, with {many / few:.0f} times fewer",
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
    elif not (certified and others_moved):
        outcome = "inconclusive"  # nothing was promised, or the attack does no harm
    quoted = []
    for method in dict.fromkeys(row["method"] for row in found):
        of = select(found, method=method)
        bitten, left = (sum(row[name] for row in of) for name in ("others_moved", "others"))
        quoted.append(f"{method} {bitten} of {left}")
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
    theirs, ours, is_as_good = [], [], True
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
        is_as_good &= not mean - accuracy < -3 * math.hypot(error, 0.01)
    return Claim(
        "DPA without poison, and its median radius",
        "reproduced" if is_as_good else "not reproduced",
        ", ".join(theirs),
        ", ".join(ours),
        "a small convolutional network without augmentation, theirs is Network in Network; at most "
        "three standard errors below counts as reproduced, with a point for their seeds",
    )
