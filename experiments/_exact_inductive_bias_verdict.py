"""What the rows of `exact_inductive_bias` say: the verdict on each claim."""

import itertools
import math

import numpy as np

from experiments import _rows
from experiments._contract import Claim, Verdict
from experiments._rows import judged, mean_and_error, select, sign

NEAR, DEEP = 0.9, 0.5  # target losses over the mean at which the fit is judged
PLANTED, AVERAGED = "planted function", "images averaged down"
TAIL = 0.02  # relative difference that passes for right, far out
CLOSE = 0.05  # relative difference that is nothing where I is some ten nats
NOTHING = 0.1  # nats: a target that nine hypotheses of ten meet
CHANCE = 0.09  # the loss of the mean of ten classes, one-hot: 0.1 (1 - 0.1)
NAMES = {
    "rbf": "RBF",
    "nngp": "NNGP",
    "ntk": "NTK",
    "wide": "wide networks",
    "networks": "networks",
}


def verdict(rows: list[dict]) -> Verdict:
    """Exact against sampled, the fit near and far, then what tasks and spaces require."""
    return Verdict(
        (
            _moments(rows),
            _near(rows),
            _deep(rows),
            _monotone(rows),
            _sizes(rows),
            _dimensions(rows, PLANTED, "of one function, of d inputs"),
            _dimensions(rows, AVERAGED, "of images averaged down"),
            _tables(rows),
            _networks(rows),
            _kernels(rows),
        )
    )


def of_space(rows: list[dict], space: str, n: int) -> list[dict]:
    """The rows of a space and size in the order of their splits."""
    found = select(rows, kind="space", space=space, n=n)
    return sorted(found, key=lambda row: row["split"])


def sizes(rows: list[dict]) -> list[int]:
    """Training images of the kernel spaces."""
    return sorted({row["n"] for row in select(rows, kind="space")})


def tasks(rows: list[dict], name: str) -> dict[int, np.ndarray]:
    """Exact nats [splits] of a task by its dimensions, from few to many."""
    found = sorted(select(rows, kind="task", task=name), key=lambda row: row["split"])
    dimensions = sorted({row["dimensions"] for row in found})
    return {
        d: np.array([row["exact"][0] for row in select(found, dimensions=d)]) for d in dimensions
    }


def number(mean, error, unit="") -> str:
    """Information with its error; below a millionth it is rounding of a probability of 1."""
    small = max(abs(mean), error) < 1e-6
    return ("under 1e-6" if small else _rows.number(mean, error)) + unit


def _signs(more, less) -> list[int]:
    """Of differences of nats [places splits], but where both require nothing.

    A NaN is no such place, and has no sign either.
    """
    both = np.concatenate([more, less], axis=-1)
    judged_at = ~np.all(both < NOTHING, axis=-1)
    return [sign(each) for each in (np.asarray(more) - less)[judged_at]]


def _moments(rows):
    found = select(rows, kind="space")
    of_means, of_deviations, loosest = [], [], 0.0
    for row in found:
        variance, samples = row["deviation"] ** 2, row["samples"]
        of_means.append((row["sampled_mean"] - row["mean"]) / math.sqrt(variance / samples))
        error = math.sqrt((row["fourth"] + 2 * variance**2) / samples)
        of_deviations.append((row["sampled_deviation"] ** 2 - variance) / error)
        loosest = max(loosest, error / variance)
    largest = [float(np.max(np.abs(scores))) for scores in (of_means, of_deviations)]
    examples = [
        f"n = {row['n']}: {row['mean']:.5f} and {row['sampled_mean']:.5f}, deviation "
        f"{row['deviation']:.6f} and {row['sampled_deviation']:.6f}"
        for row in select(found, space="rbf", split=0)
    ]
    outcome = "reproduced" if np.max(largest) < 5 else "not reproduced"
    if outcome == "reproduced" and loosest > 0.25:
        outcome = "inconclusive"
    return Claim(
        "the loss of a kernel's hypotheses is a generalised chi-squared variable",
        outcome,
        "approximated as one non-central chi-squared",
        f"mean and variance of samples at most {largest[0]:.1f} and {largest[1]:.1f} standard "
        f"errors from the exact ones, in {len(found)} spaces",
        f"RBF, exact and of {found[0]['samples']} samples: {'; '.join(examples)}",
    )


def relative(rows: list[dict], n: int, factor: float, name: str, space: str = "rbf") -> np.ndarray:
    """Relative difference of a value from the exact nats, at a target over the mean, [splits]."""
    differences = []
    for row in of_space(rows, space, n):
        place = row["factors"].index(factor)
        differences.append(row[name][place] / row["exact"][place] - 1)
    return np.array(differences)


def _nearest(rows, factor):
    factors = select(rows, kind="space")[0]["factors"]
    return min(factors, key=lambda each: abs(each - factor))


def _percent(values):
    return number(*mean_and_error(100 * np.asarray(values)), unit="%")


def _near(rows):
    factor, quoted, signs = _nearest(rows, NEAR), [], []
    for n in sizes(rows):
        errors = relative(rows, n, factor, "fitted")
        nats = np.mean(
            [row["exact"][row["factors"].index(factor)] for row in of_space(rows, "rbf", n)]
        )
        quoted.append(f"{_percent(errors)} of {nats:.1f} nats (n = {n})")
        mean, error = mean_and_error(errors)
        is_close, is_off = abs(mean) + 2 * error < CLOSE, abs(mean) - 2 * error > CLOSE
        signs.append(1 if is_close else -1 if is_off else 0)
    found = select(rows, kind="space")
    return Claim(
        "a fit to sampled losses gives the information of hypotheses that samples all but reach",
        judged(signs),
        "assumed",
        f"off by {'; '.join(quoted)}",
        f"RBF, target {factor:g} of the mean loss, {found[0]['samples']} samples a split; "
        f"{sum(row['converged'] for row in found)} of {len(found)} fits converged; within "
        f"{100 * CLOSE:.0f}% with twice the error counts",
    )


def _deep(rows):
    factor, quoted, evidence, signs = _nearest(rows, DEEP), [], [], []
    for n in sizes(rows):
        errors, bound = (relative(rows, n, factor, name) for name in ("fitted", "bound"))
        matched, normal = (relative(rows, n, factor, name) for name in ("matched", "sankaran"))
        nats = np.mean(
            [row["exact"][row["factors"].index(factor)] for row in of_space(rows, "rbf", n)]
        )
        below = (1 + errors) / (1 + bound) - 1
        mean, error = mean_and_error(errors)
        signs.append(-1 if sign(below) < 0 else int(abs(mean) + 2 * error < TAIL))
        quoted.append(f"{_percent(below)} from the bound at {nats:.0f} nats (n = {n})")
        evidence.append(
            f"n = {n}: fit {_percent(errors)}, two exact cumulants {_percent(matched)}, Sankaran "
            f"{_percent(normal)}, Chernoff {_percent(bound)} from the exact value"
        )
    others = [
        f"{NAMES[space]} {_percent(relative(rows, n, factor, 'fitted', space))}"
        for n in sizes(rows)[-1:]
        for space in NAMES
        if space != "rbf" and of_space(rows, space, n)
    ]
    return Claim(
        "the fit gives the information of hypotheses that are far beyond sampling",
        judged(signs),
        "assumed",
        "; ".join(quoted),
        f"RBF, target {factor:g} of the mean loss. {'; '.join(evidence)}; the fit in other spaces "
        f"(n = {sizes(rows)[-1]}): {', '.join(others)}. Trust the exact value everywhere, Chernoff "
        "as a bound that is some nats low, the fit within a few percent up to ten nats",
    )


def _monotone(rows):
    found = select(rows, kind="space")
    rises = broken = 0
    gaps = []
    for row in found:
        order = np.argsort(row["targets"])
        exact, bound, approximate = (
            np.array(row[name])[order] for name in ("exact", "bound", "saddlepoint")
        )
        rises += int(np.sum(~(exact[1:] <= exact[:-1])))  # a NaN is one, too
        broken += int(np.sum(~(bound <= exact * (1 + 1e-9))))
        finite = np.isfinite(exact) & (exact > 1e-3)
        gaps.append(np.max(np.abs(approximate - exact)[finite], initial=0))
    count = sum(len(row["targets"]) for row in found)
    return Claim(
        "a lower target loss never requires less",
        "not reproduced" if rises or broken else "reproduced",
        "by definition",
        f"{rises} rises among {count} exact values",
        f"{broken} below Chernoff's bound; Lugannani and Rice are within {max(gaps):.1g} nats",
    )


def _sizes(rows):
    """At the shared targets, from the smallest to the largest training set, by space.

    A step between sizes that goes up counts against the claim on its own.
    """
    at, signs, rises, quoted = sizes(rows), [], 0, []
    for space in [name for name in NAMES if of_space(rows, name, at[0])]:
        found = [of_space(rows, space, n) for n in at]
        shared = len(found[0][0]["factors"])
        targets = found[0][0]["targets"][shared:]
        exact = [np.array([row["exact"][shared:] for row in of]).T for of in found]
        signs += _signs(exact[0], exact[-1])
        rises += sum(_signs(*pair).count(-1) for pair in itertools.pairwise(exact))
        place = int(np.argmin(np.abs(np.array(targets) - 0.05)))
        means = [number(*mean_and_error(each[place])) for each in (exact[0], exact[-1])]
        quoted.append(f"{NAMES[space]} {means[0]} to {means[1]} nats")
    return Claim(
        "more training examples leave less to be required at the same target",
        judged([*signs, *[-1] * rises]),
        "less",
        f"at a loss of {targets[place]:g}, from n = {at[0]} to {at[-1]}: {'; '.join(quoted)}",
        f"below in {signs.count(1)}, above in {signs.count(-1)} of {len(signs)} targets and spaces "
        f"that require more than {NOTHING:g} nats, above in {rises} steps between sizes (95%, "
        f"paired over {exact[0].shape[1]} splits)",
    )


def _dimensions(rows, name, words):
    found = tasks(rows, name)
    why = "so few pixels do not tell the classes apart, and what fits them is rough"
    points = [(d, f"d = {d}", nats) for d, nats in found.items()]
    return _steps(words, points, why if name == AVERAGED else "")


def _tables(rows):
    """Data sets as they are, and the images at their full size."""
    names = {row["task"] for row in select(rows, kind="task")} - {PLANTED, AVERAGED}
    images = tasks(rows, AVERAGED)
    points = [
        (d, f"{name}, d = {d}", nats) for name in names for d, nats in tasks(rows, name).items()
    ]
    largest = max(images)
    points = sorted([*points, (largest, f"images, d = {largest}", images[largest])])
    return _steps("across data sets", points, "")


def _steps(words, points, why):
    """Judged by the steps from each number of dimensions to the next, paired over splits."""
    signs, falls = [], []
    for (d, _, less), (_, _, more) in itertools.pairwise(points):
        step = _signs([more], [less])
        signs += step
        falls += [d] if step == [-1] else []
    evidence = (
        f"RBF, at a quarter of the variance of the targets; more in {signs.count(1)} and less in "
        f"{signs.count(-1)} of {len(signs)} steps from or to more than {NOTHING:g} nats (95%, "
        "paired over splits)"
    )
    if falls:
        evidence += f"; less above d = {', '.join(map(str, falls))}{': ' + why if why else ''}"
    return Claim(
        f"tasks of higher dimension require more: {words}",
        judged(signs),
        "more",
        ", ".join(f"{number(*mean_and_error(nats))} ({name})" for _, name, nats in points)
        + " nats",
        evidence,
    )


def against(rows: list[dict], n: int) -> dict[str, np.ndarray]:
    """Nats [splits] that each space requires at the mean loss of trained networks."""
    found = sorted(select(rows, n=n), key=lambda row: row["split"])
    nats = {
        space: np.array([row["exact"][0] for row in select(found, kind="against", space=space)])
        for space in NAMES
        if select(found, kind="against", space=space)
    }
    return nats | {"networks": np.array([row["fitted"] for row in select(found, kind="networks")])}


def _networks(rows):
    signs, quoted, evidence = [], [], []
    for n in sorted({row["n"] for row in select(rows, kind="networks")}):
        nats, found = against(rows, n), select(rows, kind="networks", n=n)
        # Where networks have learnt nothing, or the fit failed, there is nothing to compare.
        is_learnt = sign([CHANCE - row["target"] for row in found]) > 0
        is_known = is_learnt and all(row["converged"] for row in found)
        signs.append(sign(nats["rbf"] - nats["networks"]) if is_known else 0)
        values = ", ".join(f"{NAMES[each]} {number(*mean_and_error(nats[each]))}" for each in nats)
        quoted.append(f"n = {n}: {values}")
        losses = [mean_and_error([row[name] for row in found]) for name in ("target", "train")]
        counted = mean_and_error([row["counted"] for row in found])
        evidence.append(
            f"n = {n}: test loss {number(*losses[0])}, training loss {number(*losses[1])}, counted "
            f"{number(*counted)} nats"
        )
    return Claim(
        "networks encode far more of the bias than a kernel: the RBF kernel requires more for the "
        "loss that networks reach on average",
        judged(signs),
        "far more",
        f"{'; '.join(quoted)} nats",
        f"{found[0]['members']} networks a split; judged where they err less than the mean of the "
        f"classes, {CHANCE:g}. {'; '.join(evidence)}",
    )


def _kernels(rows):
    """Whether each kernel of a network requires less than the RBF kernel, at the shared targets."""
    signs, quoted = [], []
    n = sizes(rows)[-1]
    base = of_space(rows, "rbf", n)
    shared = len(base[0]["factors"])
    targets = np.array(base[0]["targets"][shared:])
    place = int(np.argmin(np.abs(targets - 0.05)))
    for space in NAMES:
        found = of_space(rows, space, n)
        if not found:
            continue
        exact = np.array([row["exact"][shared:] for row in found])
        quoted.append(f"{NAMES[space]} {number(*mean_and_error(exact[:, place]))}")
        if space != "rbf":
            theirs = np.array([row["exact"][shared:] for row in base])
            signs += _signs(theirs.T, exact.T)
    return Claim(
        "kernels of networks encode more of it than the RBF kernel",
        judged(signs),
        "not compared",
        f"{', '.join(quoted)} nats at a loss of {targets[place]:g} (n = {n})",
        f"less than RBF in {signs.count(1)}, more in {signs.count(-1)} of {len(signs)} targets and "
        f"kernels that require more than {NOTHING:g} nats (95%, paired over splits)",
    )
