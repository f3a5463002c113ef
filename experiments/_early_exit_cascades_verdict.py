"""The claims of `early_exit_cascades`, judged by differences between policies on the same seeds."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from experiments._contract import Claim, Outcome, Verdict
from experiments._early_exit_cascades_policies import MAIN, SCORES, TASKS
from experiments._rows import judged, mean_and_error, select, sign, unanimous

POINTED = ("risk@50", "risk@80", "cov@5", "cov@10", "FPR@80", "FPR@95", "SCOD risk@80")
UNKNOWN = ("FPR@80", "FPR@95", "AUROC")
COMPARED = ("window", "single threshold")
SHARE = 0.8  # of a gain: what counts as keeping it
WORTH = 0.01  # of coverage: nearer than this counts as equal
SAME_COST = 0.05  # of one network: what a window may cost more than the threshold it is beside
CHEAP = 0.5  # of what the second member costs: a window that costs more is hardly a window


def verdict(rows: list[dict]) -> Verdict:
    """Windows against single thresholds, the ensemble, and scaled networks; shift; widening."""
    judges = (_windows, _kept, _accuracy, _worth, _equal_cost, _reliable, _shift, _widening)
    return Verdict(tuple(judge(rows) for judge in judges))


def by_seed(rows: Sequence[dict], **named) -> dict[int, float]:
    """Values of the seeds, of all cells that hold some."""
    found = {}
    for row in select(rows, **named):
        found |= dict(enumerate(row["values"], start=row["first_seed"]))
    return found


def values(rows: Sequence[dict], **named) -> np.ndarray:
    """Values in the order of the seeds."""
    found = by_seed(rows, **named)
    return np.array([found[seed] for seed in sorted(found)], float)


def _paired(first, second) -> np.ndarray:
    """Differences in the order of the seeds, NaN of those that one of the two lacks."""
    return np.array(
        [first.get(seed, math.nan) - second.get(seed, math.nan) for seed in sorted(first | second)]
    )


def gain(rows, task, policy, *, over="single", score=MAIN, members=2) -> np.ndarray:
    """What a policy is better than another, in the order of the seeds; above 0 is better."""
    named = {"kind": "cascade", "members": members, "task": task, "score": score}
    first, second = (by_seed(rows, policy=name, **named) for name in (policy, over))
    return TASKS[task].better * _paired(first, second)


def scaled_gain(rows, task, scale) -> np.ndarray:
    """What a single network of that scale is better than one of scale 1."""
    base = by_seed(rows, kind="cascade", members=2, task=task, score=MAIN, policy="single")
    return TASKS[task].better * _paired(by_seed(rows, kind="single", scale=scale, task=task), base)


def macs(rows, **named) -> float:
    """Multiply-accumulates of some rows, of one network's at scale 1; NaN where there are none."""
    found = [row["macs"] for row in select(rows, **named)]
    return float(np.mean(found)) if found else math.nan


def scales(rows) -> dict[float, float]:
    """The scaled single networks and their multiply-accumulates, cheapest first."""
    found = {row["scale"]: row["macs"] for row in select(rows, kind="single")}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def percent(sample) -> str:
    """A mean of shares with its error, in percent, with the digits that the error leaves."""
    mean, error = (100 * number for number in mean_and_error(sample))
    digits = 2 if not error > 0 else max(0, 1 - math.floor(math.log10(error)))
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def _judged(samples) -> Outcome:
    """By samples of margins: all above 0, one below, or neither."""
    return unanimous([sign(sample) for sample in samples])


def _each(samples):
    return ", ".join(f"{name} {percent(sample)}" for name, sample in samples.items())


def _cost(rows, task, policy):
    return macs(rows, kind="cascade", members=2, task=task, score=MAIN, policy=policy)


def _cost_the_same(rows, tasks):
    """Whether windows cost no more than the single thresholds beside them."""
    window, threshold = COMPARED
    return all(_cost(rows, task, window) - _cost(rows, task, threshold) < SAME_COST
               for task in tasks)  # fmt: skip


def _windows(rows):
    samples = {task: gain(rows, task, "window", over="single threshold") for task in POINTED}
    clipped = [task for task, sample in samples.items() if len(sample) and not np.any(sample)]
    unclipped = {task: sample for task, sample in samples.items() if task not in clipped}
    # better at some points, worse at others: the numbers say at which
    outcome = judged([sign(sample) for sample in unclipped.values()])
    if not _cost_the_same(rows, POINTED):
        outcome = "inconclusive"
    alike = ", ".join(
        f"{task} {mean_and_error(sample == 0)[0]:.2f}" for task, sample in samples.items()
    )
    costs = [[_cost(rows, task, policy) for task in POINTED] for policy in COMPARED]
    return Claim(
        "at an operating point a window beats a single threshold of equal cost",
        outcome,
        "better",
        f"{_each(unclipped) or 'no'} points",
        f"paired differences over {len(samples['risk@80'])} seeds, above 0 where the window is "
        f"better; it costs {min(costs[0]):.2f} to {max(costs[0]):.2f} networks, the single "
        f"threshold {min(costs[1]):.2f} to {max(costs[1]):.2f}. Share of seeds in which the "
        f"two give the same, as they do where the window is clipped at the lowest score: {alike}",
    )


def kept(rows, task, **named) -> tuple[float, float]:
    """The window's share of the ensemble's gain, a ratio of means, with its standard error."""
    window, ensemble = (gain(rows, task, policy, **named) for policy in ("window", "ensemble"))
    if len(window) < 2 or ensemble.mean() == 0:
        return math.nan, math.nan
    ratio = window.mean() / ensemble.mean()
    return ratio, mean_and_error(window - ratio * ensemble)[1] / abs(ensemble.mean())


def _share(ratio, error):
    return f"{ratio:.2f} ± {error:.2f}"


def _kept(rows):
    window, ensemble = (gain(rows, "risk@80", policy) for policy in ("window", "ensemble"))
    outcome = _judged([window - SHARE * ensemble])
    if sign(ensemble) <= 0:
        outcome = "inconclusive"  # there is nothing to keep
    elif not _cost(rows, "risk@80", "window") - 1 < CHEAP:
        outcome = "not reproduced"  # at the cost of the ensemble
    others = ", ".join(
        f"{task} {_share(*kept(rows, task))}" for task in POINTED if task != "risk@80"
    )
    scores = ", ".join(
        f"{score} {_share(*kept(rows, 'risk@80', score=score))}"
        for score in SCORES
        if score != MAIN
    )
    largest = max(row["members"] for row in select(rows, kind="cascade"))
    more = ""
    if largest > 2:
        named = {"kind": "cascade", "members": largest, "task": "risk@80", "score": MAIN}
        cost = macs(rows, policy="window", **named)
        more = (
            f"; {largest} members with a window after each but the last, at {cost:.2f} networks: "
            f"{_share(*kept(rows, 'risk@80', members=largest))} of "
            f"{percent(gain(rows, 'risk@80', 'ensemble', members=largest))} points"
        )
    return Claim(
        f"a window keeps {SHARE:.0%} of the ensemble's gain in risk@80",
        outcome,
        f"{SHARE} or more",
        _share(*kept(rows, "risk@80")),
        f"the ensemble gains {percent(ensemble)} points, the window {percent(window)}; kept at "
        f"other points: {others}; with other scores: {scores}{more}",
    )


def _accuracy(rows):
    threshold = gain(rows, "error", "single threshold", over="window")
    return Claim(
        "for accuracy the least confident should go on, not a window",
        _judged([threshold]) if _cost_the_same(rows, ["error"]) else "inconclusive",
        "single threshold better",
        f"{percent(threshold)} points of accuracy",
        "gains over one network, the window around the coverage 0.8: "
        + ", ".join(
            f"{policy} {percent(gain(rows, 'error', policy))}"
            for policy in ("single threshold", "window", "ensemble")
        ),
    )


def _is_trained(rows, scale):
    """Whether a network has lost nothing by being scaled up; if it has, it is no measure."""
    found = scaled_gain(rows, "error", scale)
    return bool(np.isfinite(found).all()) and sign(found) >= 0


def _training(rows, scale):
    if _is_trained(rows, scale):
        return ""
    return f"; not judged, for scaled it errs {percent(-scaled_gain(rows, 'error', scale))} more"


def _over_scaled(rows, task, scale):
    base, better = {"kind": "cascade", "members": 2, "score": MAIN}, TASKS[task].better
    window = by_seed(rows, policy="window", task=task, **base)
    return better * _paired(window, by_seed(rows, kind="single", scale=scale, task=task))


def _worth(rows):
    statement = "a cascade is worth a scaled network of 3 times its cost"
    theirs = "cov@5 equal at 0.27 of the cost"
    cost = _cost(rows, "cov@5", "window")
    dear = [scale for scale, each in scales(rows).items() if each > 2.9 * cost]
    if not dear:
        return Claim(statement, "inconclusive", theirs, "not run", "no scale of that cost")
    scale = dear[0]
    margin = _over_scaled(rows, "cov@5", scale)
    ratio = cost / scales(rows)[scale]
    courses = ", ".join(
        f"{macs:.2g} networks {percent(scaled_gain(rows, 'cov@5', each))}"
        for each, macs in scales(rows).items()
    )
    return Claim(
        statement,
        _judged([margin + WORTH]) if _is_trained(rows, scale) else "inconclusive",
        theirs,
        f"cov@5 {percent(margin)} points above, at {ratio:.2f} of the cost",
        f"equal is less than {100 * WORTH:g} points below; gains in cov@5 over one network: window "
        f"{percent(gain(rows, 'cov@5', 'window'))}, single networks that cost {courses}"
        + _training(rows, scale),
    )


def _equal_cost(rows):
    statement, theirs = "and beats a network scaled to its own cost", "better"
    cost = _cost(rows, "risk@80", "window")
    near = [scale for scale, each in scales(rows).items() if 0.95 < each / cost < 1.25]
    if not near:
        return Claim(statement, "inconclusive", theirs, "not run", "no scale of that cost")
    samples = {task: _over_scaled(rows, task, near[0]) for task in ("risk@80", "cov@5")}
    return Claim(
        statement,
        _judged(samples.values()) if _is_trained(rows, near[0]) else "inconclusive",
        theirs,
        f"{_each(samples)} points",
        f"paired differences, above 0 where the cascade is better, of {cost:.2f} against "
        f"{scales(rows)[near[0]]:.2f} networks" + _training(rows, near[0]),
    )


def _above(sample):
    """1 where it is above 0, 0 where not, and NaN where that is not known."""
    return np.where(np.isnan(sample), math.nan, sample > 0)


def _reliable(rows):
    statement = (
        "ensembles detect unknown classes better than one network more reliably than scaling"
    )
    dear = [scale for scale, cost in scales(rows).items() if cost > 1.9]
    if not dear:
        return Claim(statement, "inconclusive", "more reliably", "not run", "no scale of that cost")
    scale = dear[0]
    ensemble = {task: gain(rows, task, "ensemble") for task in UNKNOWN}
    scaled = {task: scaled_gain(rows, task, scale) for task in UNKNOWN}
    better, also = (
        np.mean([_above(sample) for sample in each.values()], axis=0) for each in (ensemble, scaled)
    )
    windows = {task: gain(rows, task, "window") for task in UNKNOWN}
    return Claim(
        statement,
        _judged([better - also]) if _is_trained(rows, scale) else "inconclusive",
        "more reliably",
        f"better in {percent(better)} % of cases, scaling in {percent(also)} %",
        f"cases are seeds and {', '.join(UNKNOWN)}, for 2 networks against one of "
        f"{scales(rows)[scale]:.2g}; gains in points: ensemble {_each(ensemble)}; scaled "
        f"{_each(scaled)}; window {_each(windows)}" + _training(rows, scale),
    )


def _shift(rows):
    tasks = ("FPR@80", "SCOD risk@80")
    adapted, fixed = (
        {task: gain(rows, task, policy) for task in tasks}
        for policy in ("adaptive window", "window")
    )
    shares = {
        policy: float(np.mean([row["share"] for row in select(
            rows, kind="cascade", members=2, task="FPR@80", score=MAIN, policy=policy)]))
        for policy in ("window", "adaptive window")
    }  # fmt: skip
    outcome = _judged([adapted[task] - SHARE * fixed[task] for task in tasks])
    if not abs(shares["adaptive window"] - 0.2) < 0.01:
        outcome = "not reproduced"
    elif abs(shares["window"] - 0.2) < 0.01 or min(sign(fixed[task]) for task in tasks) <= 0:
        outcome = "inconclusive"  # nothing has shifted, or there is no gain to keep
    return Claim(
        "under shift a window recomputed on what arrives keeps the cost, and the gain",
        outcome,
        "0.2 go on",
        f"{shares['adaptive window']:.3f} go on, against {shares['window']:.3f} of the window of "
        "the validation",
        f"of known and unknown 1:1; gains {_each(adapted)} points, against {_each(fixed)}; kept is "
        f"{SHARE:.0%} of these",
    )


def _widening(rows):
    widths = sorted({row["width"] for row in select(rows, kind="sweep")})
    found = [by_seed(rows, kind="sweep", policy="window", width=width) for width in widths]
    whole = _paired(found[0], found[-1])
    steps = [_paired(left, right) for left, right in itertools.pairwise(found)]
    falls_back = min(map(sign, steps)) < 0
    outcome = "not reproduced" if falls_back else _judged([whole])
    if not all(np.isfinite(step).all() for step in steps):
        outcome = "inconclusive"
    elif sign(whole - gain(rows, "risk@80", "ensemble")):
        outcome = "not reproduced"  # not as far as the ensemble's, or further
    risks = [values(rows, kind="sweep", policy="window", width=width) for width in widths]
    course = ", ".join(
        f"{percent(risk)} at {width:g}" for width, risk in zip(widths, risks, strict=True)
    )
    return Claim(
        "a wider window moves risk@80 from one network's to the ensemble's",
        outcome,
        "monotone",
        f"by {percent(whole)} points" + (", not monotone" if falls_back else ""),
        f"risk@80 in %, by the width on each side: {course}",
    )
