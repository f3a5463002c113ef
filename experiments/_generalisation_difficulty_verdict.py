"""What the rows of `generalisation_difficulty` say: the verdict on each claim."""

import itertools
import math

import numpy as np

from experiments._contract import Claim, Outcome, Verdict
from experiments._rows import mean_and_error, select

# The formula at the authors' parameters, to the digits it was published to in the specification.
PRINTED = {
    "MNIST": "1.485e+16",
    "CIFAR10": "3.438e+32",
    "cartpole, T = 1": "4.415e+09",
    "cartpole, T = 2": "3.326e+17",
    "cartpole, T = 3": "1.464e+25",
    "Reacher": "2.914e+25",
    "Hopper": "7.613e+58",
}

# What the authors' code has for the estimates: m, delta and R.
PUBLISHED = {
    "mnist": (14, 2.3987085, 17.179046),
    "svhn_cropped": (19, 1.5766998, 53.869325),
    "cifar10": (27, 2.7506415, 54.915679),
}


def verdict(rows: list[dict]) -> Verdict:
    """The table, the orders, the three trends; then what the estimates leave open."""
    judges = (
        _table, _images, _few_shot, _observations, _dimension, _resolution, _examples, _models,
        _estimator, _data_sets,
    )  # fmt: skip
    claims = [judge(rows) for judge in judges]
    if any(row["dataset"] in PUBLISHED for row in select(rows, kind="data")):
        claims.append(_published(rows))
    return Verdict(tuple(claims))


def whole(rows: list[dict]) -> list[dict]:
    """The data sets with all their examples, where they have a difficulty."""
    return select(rows, kind="data", share=1.0, failed=None)


def shifts(rows: list[dict]) -> dict[str, tuple[float, float, float]]:
    """Of each data set: the largest share of subsets, and decades from there to all, with error."""
    found = {}
    for row in whole(rows):
        subsets = [
            other
            for other in select(rows, kind="data", dataset=row["dataset"], failed=None)
            if other["share"] < 1
        ]
        if subsets:
            share = max(other["share"] for other in subsets)
            mean, error = mean_and_error(
                [other["log10_bits"] for other in select(subsets, share=share)]
            )
            shift = row["log10_bits"] - mean
            found[row["dataset"]] = (share, shift, math.hypot(error, row["decades_error"]))
    return found


def _task(rows, name):
    (row,) = select(rows, kind="task", task=name)
    return row


def _holds(condition) -> Outcome:
    return "reproduced" if condition else "not reproduced"


def _steps(row):
    return row["one_higher"] - row["log10_bits"]


def _table(rows):
    found = {name: f"{_task(rows, name)['bits']:.3e}" for name in PRINTED}
    wrong = [name for name in PRINTED if found[name] != PRINTED[name]]
    others = ", ".join(
        f"{row['task']} {row['log10_bits']:.2f}"
        for row in select(rows, kind="task")
        if row["task"] not in PRINTED
    )
    return Claim(
        "bits of each task by the formula",
        _holds(not wrong),
        ", ".join(f"{name} {value}" for name, value in PRINTED.items()),
        ", ".join(found.values()),
        f"the authors' parameters, to four digits; {len(wrong)} differ. The paper's own figures "
        f"are not public in numbers. log10 bits of the others: {others}",
    )


def _images(rows):
    """Two tasks keep their order if it holds with m of the first one higher, the other's as is."""
    names = ("MNIST", "CIFAR10", "ImageNet")
    decades = [_task(rows, name)["log10_bits"] for name in names]
    margins = [
        _task(rows, above)["log10_bits"] - _task(rows, below)["one_higher"]
        for below, above in itertools.pairwise(names)
    ]
    svhn, cifar = _task(rows, "SVHN"), _task(rows, "CIFAR10")
    gap = cifar["log10_bits"] - svhn["log10_bits"]
    return Claim(
        "MNIST < CIFAR-10 < ImageNet",
        _holds(np.min(margins) > 0),
        "in this order",
        " < ".join(f"10^{value:.2f}" for value in decades),
        f"the order holds with the lower task's m one higher, by {min(margins):.1f} decades at "
        f"least. SVHN is {gap:.2f} decades below CIFAR-10, and one dimension is "
        f"{_steps(svhn):.2f}: with {math.ceil(gap / _steps(svhn))} more they change places",
    )


def _few_shot(rows):
    few = _task(rows, "Omniglot")["log10_bits"]
    images = [_task(rows, f"ImageNet{suffix}")["log10_bits"] for suffix in ("", ", m = 80")]
    return Claim(
        "images of many kinds < few-shot learning of simple ones",
        _holds(few > np.max(images)),
        "ImageNet < Omniglot",
        f"10^{images[0]:.2f} < 10^{few:.2f}",
        f"ImageNet at m = 80 has 10^{images[1]:.2f}. One dimension more of all characters moves "
        f"Omniglot by {_steps(_task(rows, 'Omniglot')):+.3f} decades: m = 447 is above M = 253",
    )


def _observations(rows):
    found = select(rows, kind="task", family="cartpole")
    decades = [row["log10_bits"] for row in sorted(found, key=lambda row: row["dimension"])]
    steps = np.diff(decades)
    return Claim(
        "what is observed in part asks for more, exponentially in the observations",
        _holds(np.min(steps) > 0 and np.max(steps) < 1.2 * np.min(steps)),
        "+7.7 decades an observation",
        f"{', '.join(f'{step:+.2f}' for step in steps)}",
        f"cartpole, T = 1 to {len(decades)}; mean {np.mean(steps):+.2f}, the steps within 20% of "
        "one another. They fall by log10(T + 1), the volume of a ball",
    )


def _dimension(rows):
    """Exponential: so many decades more for a dimension, the same over the authors' range."""
    (curve,) = select(rows, kind="curve", quantity="dimension")
    slopes = np.diff(curve["decades"]) / np.diff(curve["values"])
    per_task = ", ".join(
        f"{name} {_steps(_task(rows, name)):+.2f}"
        for name in ("MNIST", "SVHN", "CIFAR10", "ImageNet", "Omniglot", "Half-Cheetah")
    )
    outcome = _holds(np.min(slopes) > 0)
    if outcome == "reproduced" and np.max(slopes) > 1.25 * np.min(slopes):
        outcome = "departs"
    return Claim(
        "exponential in the intrinsic dimension",
        outcome,
        "exponential",
        f"{slopes[0]:+.2f} decades a dimension at m = {curve['values'][0]:.0f}, "
        f"{slopes[-1]:+.2f} at {curve['values'][-1]:.0f}",
        "ImageNet's other parameters, over the range of the authors' figure: E grows like M^m / m! "
        f"while m is well below M, and not beyond. Decades for one dimension more: {per_task}",
    )


def _resolution(rows):
    found = [row for row in select(rows, kind="task") if row["family"] != "control, not theirs"]
    shares = [row["frequency_exponent"] / row["dimension"] for row in found]
    quoted = ", ".join(
        f"{row['task']} {row['frequency_exponent']:.1f} (m = {row['dimension']})"
        for row in found
        if row["family"] in ("images", "few-shot")
    )
    return Claim(
        "polynomial in the resolution",
        _holds(all(0 < row["frequency_exponent"] < row["dimension"] + 2 for row in found)),
        "M^m",
        f"an exponent of {min(shares):.2f} m to {max(shares):.2f} m",
        f"d ln I / d ln M: {quoted}; one more where the bracket's logarithm grows",
    )


def _examples(rows):
    """What of I(n) - I(2 n) is of the linear prefactor, where the data are what they are."""
    found = [row for row in select(rows, kind="task") if row["family"] == "images"]
    share, least = max((row["linear_share"], row["task"]) for row in found)
    change = [
        100 * math.expm1(math.log(10) * (row["doubled"] - row["log10_bits"])) for row in found
    ]
    falls = all(row["doubled"] < row["log10_bits"] for row in select(rows, kind="task"))
    outcome: Outcome = "reproduced" if share > 0.5 else "departs"
    return Claim(
        "falls linearly with the number of examples",
        outcome if falls else "not reproduced",
        "linear",
        f"logarithmic: twice the examples, {min(change):+.2f}% to {max(change):+.2f}%",
        f"of this the linear term has {share:.0e} at most ({least}), the rest is dim log2(n) / m: "
        "all examples fix n D of dim functions. On images; cartpole with one observation, the "
        f"smallest task: {_task(rows, 'cartpole, T = 1')['linear_share']:.0e}",
    )


def _models(rows):
    found = sorted(select(rows, kind="model"), key=lambda row: -row["error"])
    bits = [row["bits"] for row in found]
    decades = found[-1]["log10_bits"] - found[0]["log10_bits"]
    return Claim(
        "better models provide more inductive bias",
        _holds(len(bits) > 1 and all(np.diff(bits) > 0)),
        "ten models of ImageNet",
        f"{bits[0]:.3e} at an error of {found[0]['error']}, {bits[-1]:.3e} at {found[-1]['error']}",
        f"at m = 48; by {decades:.2f} decades in all, and one dimension more is "
        f"{_steps(_task(rows, 'ImageNet')):.2f}. It follows from the formula, which has the "
        "error in a logarithm",
    )


def _estimator(rows):
    """Against the exact mean for spheres of so many points."""
    found = select(rows, kind="sphere")
    distances = [(row["inverse"] - row["exact"]) / row["inverse_error"] for row in found]
    quoted = [
        f"m = {row['dimension']}: {1 / row['inverse']:.3f} ± "
        f"{row['inverse_error'] / row['inverse'] ** 2:.3f}, exact {1 / row['exact']:.3f}"
        for row in found
    ]
    ratios = [row["spread"] / row["reported"] for row in found]
    outcome = _holds(np.max(np.abs(distances)) < 5)
    if outcome == "reproduced" and max(row["inverse_error"] / row["exact"] for row in found) > 0.05:
        outcome = "inconclusive"  # a dimension of ten is not known to a half
    return Claim(
        "the dimension of spheres by maximum likelihood",
        outcome,
        "exact for so many points",
        "; ".join(quoted),
        f"{found[0]['points']} points, {found[0]['samples']} samples; within "
        f"{np.max(np.abs(distances)):.1f} standard errors. Samples spread {min(ratios):.2f} to "
        f"{max(ratios):.2f} times as much as the points' own spread says",
    )


def _data_sets(rows):
    """Whether subsets say the same as all examples, within what the bootstrap leaves open."""
    moved, quoted, evidence = shifts(rows), [], []
    for row in whole(rows):
        name = row["dataset"]
        quoted.append(f"{name} {row['log10_bits']:.2f} ± {row['decades_error']:.2f}")
        share, shift, error = moved.get(name, (1.0, math.nan, math.nan))
        ratio = math.log(row["extreme_separation"] / row["separation"])
        evidence.append(
            f"{name}: m = {row['dimension']:.2f} ± {row['dimension_error']:.2f} (one more is "
            f"{_steps(row):+.2f}), {shift:+.2f} ± {error:.2f} from {share:g} of the examples; "
            f"delta by extreme values {100 * math.expm1(ratio):+.0f} ± "
            f"{100 * row['extreme_log_error']:.0f}%"
        )
    outcome: Outcome = "inconclusive"
    if any(abs(shift) >= 3 * error for _, shift, error in moved.values()):
        outcome = "departs"
    elif moved and all(error < 0.5 for _, _, error in moved.values()):
        outcome = "reproduced"  # to a factor of three in bits, else nothing is known
    return Claim(
        "the difficulty of a data set is known from its examples",
        outcome,
        "one number a data set",
        ", ".join(quoted),
        "log10 bits, bootstrap over points; it departs where subsets and all examples are 3 errors "
        f"apart. {'; '.join(evidence)}",
    )


def _published(rows):
    """Data sets without a separation, which have no difficulty, among them."""
    theirs, ours, agree = [], [], []
    for row in select(rows, kind="data", share=1.0):
        if row["dataset"] not in PUBLISHED:
            continue
        m, separation, radius = PUBLISHED[row["dataset"]]
        theirs.append(f"{row['dataset']} m = {m}, delta = {separation}, R = {radius}")
        ours.append(
            f"{row['dimension']:.2f} ± {row.get('dimension_error', math.nan):.2f}, "
            f"{row['separation']:.4f}, {row['radius']:.5f}"
        )
        agree.append(
            abs(row["dimension"] - m) < 1
            and math.isclose(row["separation"], separation, rel_tol=0.01)
            and math.isclose(row["radius"], radius, rel_tol=1e-6)
        )
    return Claim(
        "m, delta and R of the paper's images",
        _holds(agree and all(agree)),
        "; ".join(theirs),
        "; ".join(ours),
        "all training images, all pairs; m within 1 (theirs is rounded), delta within 1%, R to "
        "1e-6 count as reproduced",
    )
