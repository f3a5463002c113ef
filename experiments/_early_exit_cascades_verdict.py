"""The claims of `early_exit_cascades`, judged by differences between policies on the same seeds."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from experiments._contract import Claim, Outcome, Verdict
from experiments._early_exit_cascades_policies import MAIN, SCORES, TASKS
from experiments._rows import select

POINTED = ("risk@50", "risk@80", "cov@5", "cov@10", "FPR@80", "FPR@95", "SCOD risk@80")
UNKNOWN = ("FPR@80", "FPR@95", "AUROC")
SHARE = 0.8  # of a gain: what counts as keeping it
WORTH = 0.01  # of coverage: nearer than this counts as equal


def verdict(rows: list[dict]) -> Verdict:
    """Windows against single thresholds, the ensemble, and scaled networks; shift; widening."""
    judges = (_windows, _kept, _accuracy, _worth, _equal_cost, _reliable, _shift, _widening)
    return Verdict(tuple(judge(rows) for judge in judges))


def values(rows: Sequence[dict], **named) -> np.ndarray:
    """Values in the order of the seeds, of all cells that hold some."""
    found = {}
    for row in select(rows, **named):
        found |= dict(enumerate(row["values"], start=row["first_seed"]))
    return np.array([found[seed] for seed in sorted(found)], float)


def gain(rows, task, policy, *, over="single", score=MAIN, members=2) -> np.ndarray:
    """What a policy is better than another, in the order of the seeds; above 0 is better."""
    named = {"kind": "cascade", "members": members, "task": task, "score": score}
    first, second = (values(rows, policy=name, **named) for name in (policy, over))
    return TASKS[task].better * (first - second)


def scaled_gain(rows, task, scale) -> np.ndarray:
    """What a single network of that scale is better than one of scale 1."""
    base = values(rows, kind="cascade", members=2, task=task, score=MAIN, policy="single")
    return TASKS[task].better * (values(rows, kind="single", scale=scale, task=task) - base)


def macs(rows, **named) -> float:
    """Multiply-accumulates of some rows, of one network's at scale 1; NaN where there are none."""
    found = [row["macs"] for row in select(rows, **named)]
    return float(np.mean(found)) if found else math.nan


def scales(rows) -> dict[float, float]:
    """The scaled single networks and their multiply-accumulates, cheapest first."""
    found = {row["scale"]: row["macs"] for row in select(rows, kind="single")}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def mean_and_error(sample) -> tuple[float, float]:
    """The mean and its standard error; NaN of fewer than two."""
    sample = np.asarray(sample, float)
    if len(sample) < 2:
        return math.nan, math.nan
    return float(sample.mean()), float(sample.std(ddof=1) / math.sqrt(len(sample)))


def percent(sample) -> str:
    """A mean of shares with its error, in percent, with the digits that the error leaves."""
    mean, error = (100 * number for number in mean_and_error(sample))
    digits = 2 if not error > 0 else max(0, 1 - math.floor(math.log10(error)))
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def _judged(samples) -> Outcome:
    """By samples of margins: all above 0 by two errors, one below by two, or neither."""
    margins = [mean_and_error(sample) for sample in samples]
    if any(mean < -2 * error for mean, error in margins):
        return "not reproduced"
    if margins and all(mean > 2 * error for mean, error in margins):
        return "reproduced"
    return "inconclusive"


def _each(samples):
    return ", ".join(f"{name} {percent(sample)}" for name, sample in samples.items())


def _windows(rows):
    samples = {task: gain(rows, task, "window", over="single threshold") for task in POINTED}
    clipped = [task for task, sample in samples.items() if not np.any(sample)]
    unclipped = {task: sample for task, sample in samples.items() if task not in clipped}
    outcome, margins = _judged(unclipped.values()), map(mean_and_error, unclipped.values())
    if outcome == "not reproduced" and any(mean > 2 * error for mean, error in margins):
        outcome = "departs"  # better at some points, worse at others; the numbers say at which
    alike = ", ".join(f"{task} {np.mean(sample == 0):.2f}" for task, sample in samples.items())
    costs = [
        [macs(rows, kind="cascade", members=2, task=task, score=MAIN, policy=policy)
         for task in POINTED] for policy in ("window", "single threshold")
    ]  # fmt: skip
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
    mean, error = mean_and_error(ensemble)
    outcome = _judged([window - SHARE * ensemble]) if mean > 2 * error else "inconclusive"
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
        _judged([threshold]),
        "single threshold better",
        f"{percent(threshold)} points of accuracy",
        "gains over one network, the window around the coverage 0.8: "
        + ", ".join(
            f"{policy} {percent(gain(rows, 'error', policy))}"
            for policy in ("single threshold", "window", "ensemble")
        ),
    )


def _over_scaled(rows, task, scale):
    return gain(rows, task, "window") - scaled_gain(rows, task, scale)


def _worth(rows):
    statement = "a cascade is worth a scaled network of 3 times its cost"
    theirs = "cov@5 equal at 0.27 of the cost"
    dear = [scale for scale, cost in scales(rows).items() if cost > 3.5]
    if not dear:
        return Claim(statement, "inconclusive", theirs, "not run", "no scale of that cost")
    scale = dear[0]
    margin = _over_scaled(rows, "cov@5", scale)
    named = {"kind": "cascade", "members": 2, "task": "cov@5", "score": MAIN, "policy": "window"}
    ratio = macs(rows, **named) / scales(rows)[scale]
    courses = ", ".join(
        f"{cost:.2g} networks {percent(scaled_gain(rows, 'cov@5', each))}"
        for each, cost in scales(rows).items()
    )
    return Claim(
        statement,
        _judged([margin + WORTH]),
        theirs,
        f"cov@5 {percent(margin)} points above, at {ratio:.2f} of the cost",
        f"equal is less than {100 * WORTH:g} points below; gains in cov@5 over one network: window "
        f"{percent(gain(rows, 'cov@5', 'window'))}, single networks that cost {courses}",
    )


def _equal_cost(rows):
    statement, theirs = "and beats a network scaled to its own cost", "better"
    named = {"kind": "cascade", "members": 2, "task": "risk@80", "score": MAIN, "policy": "window"}
    cost = macs(rows, **named)
    near = [scale for scale, each in scales(rows).items() if 0.95 < each / cost < 1.25]
    if not near:
        return Claim(statement, "inconclusive", theirs, "not run", "no scale of that cost")
    samples = {task: _over_scaled(rows, task, near[0]) for task in ("risk@80", "cov@5")}
    return Claim(
        statement,
        _judged(samples.values()),
        theirs,
        f"{_each(samples)} points",
        f"paired differences, above 0 where the cascade is better, of {cost:.2f} against "
        f"{scales(rows)[near[0]]:.2f} networks",
    )


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
        np.mean([sample > 0 for sample in each.values()], axis=0) for each in (ensemble, scaled)
    )
    windows = {task: gain(rows, task, "window") for task in UNKNOWN}
    return Claim(
        statement,
        _judged([better - also]),
        "more reliably",
        f"better in {percent(better)} % of cases, scaling in {percent(also)} %",
        f"cases are seeds and {', '.join(UNKNOWN)}, for 2 networks against one of "
        f"{scales(rows)[scale]:.2g}; gains in points: ensemble {_each(ensemble)}; scaled "
        f"{_each(scaled)}; window {_each(windows)}",
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
    kept_budget = abs(shares["adaptive window"] - 0.2) < 0.01
    outcome = _judged([adapted[task] - SHARE * fixed[task] for task in tasks])
    return Claim(
        "under shift a window recomputed on what arrives keeps the cost, and the gain",
        outcome if kept_budget else "not reproduced",
        "0.2 go on",
        f"{shares['adaptive window']:.3f} go on, against {shares['window']:.3f} of the window of "
        "the validation",
        f"of known and unknown 1:1; gains {_each(adapted)} points, against {_each(fixed)}; kept is "
        f"{SHARE:.0%} of these",
    )


def _widening(rows):
    widths = sorted({row["width"] for row in select(rows, kind="sweep")})
    risks = [values(rows, kind="sweep", policy="window", width=width) for width in widths]
    whole = risks[0] - risks[-1]
    steps = [mean_and_error(left - right) for left, right in itertools.pairwise(risks)]
    falls_back = any(mean < -2 * error for mean, error in steps)
    outcome: Outcome = "not reproduced" if falls_back else _judged([whole])
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
