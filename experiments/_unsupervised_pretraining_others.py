"""What the rows of `unsupervised_pretraining` say of mixtures, contrastive pairs and images."""

import numpy as np

from experiments._contract import Claim, Outcome
from experiments._rows import mean_and_error, number, power_law, select, sign, unanimous
from experiments._unsupervised_pretraining_rows import (
    accuracies,
    agreement,
    from_exact,
    mean_of,
    mixtures,
)


def claims(rows: list[dict]) -> list[Claim]:
    """Beyond the factor model."""
    found = [_separated(rows), _overlapping(rows), _contrastive(rows)]
    for source in dict.fromkeys(row["source"] for row in select(rows, kind="images")):
        for method in ("factors", "mixture", "contrastive"):
            found.append(_images(rows, source, method))
    return found


def _separated(rows):
    """At the largest separation an input tells its component, and the excess has a closed form."""
    separation = max(row["separation"] for row in select(rows, kind="mixture"))
    few, many = _mixture_samples(rows)
    exact = [row["expected"] for row in mixtures(rows, separation, "oracle")]
    pairs, ratios, signs, rest = [], [], [], []
    for expected, oracle, learnt, linear, alone, less in zip(
        exact,
        *(mixtures(rows, separation, name) for name in ("oracle",)),
        mixtures(rows, separation, "pretrained", many),
        *(mixtures(rows, separation, name) for name in ("linear", "alone")),
        mixtures(rows, separation, "pretrained", few),
        strict=True,
    ):
        pairs += [(np.subtract(row["excess"], expected), expected) for row in (oracle, learnt)]
        ratio = np.divide(learnt["excess"], expected)
        ratios.append(f"{mean_of(ratio)} at n = {learnt['labels']}")
        signs.append(sign(np.subtract(linear["excess"], learnt["excess"])))
        others = {
            "true centres": oracle,
            f"m = {few}": less,
            "labelled inputs alone": alone,
            "ridge on x": linear,
        }
        quoted = (f"{name} {mean_of(row['excess'])}" for name, row in others.items())
        rest.append(f"n = {learnt['labels']}: {', '.join(quoted)}")
    outcome, worst, _ = agreement(pairs)
    if outcome == "reproduced":
        outcome = unanimous(signs)
    return Claim(
        "in a separated mixture K numbers are left to learn",
        outcome,
        "O(sqrt(K d / m) + sqrt(K / n))",
        ", ".join(ratios),
        f"component means after m = {many}, over sum_k q_k (1 - q_k) / K E[1 / n_k]: with that of "
        f"the true centres, largest difference {worst:.1f} standard errors; separation "
        f"{separation:g}. Excess of others: {'; '.join(rest)}. {_deaths(rows, separation)}",
    )


def _overlapping(rows):
    """At the smallest separation, by least squares on p(k | x), the algorithm's second step."""
    separations = {row["separation"] for row in select(rows, kind="mixture")}
    separation = min(separations)
    few, many = _mixture_samples(rows)
    last = {
        name: mixtures(rows, separation, method, samples)[-1]
        for name, method, samples in (
            ("oracle", "oracle", 0),
            ("few", "pretrained", few),
            ("many", "pretrained", many),
            ("linear", "linear", 0),
        )
    }
    risks = {name: np.asarray(row["least_squares"]) for name, row in last.items()}
    signs = sign(risks["few"] - risks["oracle"]), sign(risks["few"] - risks["many"])
    # With one separation only, that is the separated one.
    outcome: Outcome = unanimous(signs) if len(separations) > 1 else "inconclusive"
    words = {name: mean_of(values) for name, values in risks.items()}
    means = ", ".join(f"{name} {mean_of(row['excess'])}" for name, row in last.items())
    return Claim(
        "overlapping components are learnt from many inputs only",
        outcome,
        "centres must be separated",
        f"excess {words['few']} after m = {few}, {words['many']} after m = {many}",
        f"separation {separation:g}, n = {last['few']['labels']}; with the true centres "
        f"{words['oracle']}, ridge on x {words['linear']}. With component means instead of least "
        f"squares: {means}. {_deaths(rows, separation)}",
    )


def _mixture_samples(rows):
    """The fewest and the most unlabelled inputs."""
    found = [row["samples"] for row in select(rows, kind="mixture", method="pretrained")]
    return min(found), max(found)


def _deaths(rows, separation):
    found = select(rows, kind="mixture", separation=separation)
    dead, unconverged = (sum(row.get(name, 0) for row in found) for name in ("dead", "unconverged"))
    return f"Dead components: {dead}; fits cut short: {unconverged}"


def _contrastive(rows):
    found = sorted(select(rows, kind="contrastive"), key=lambda row: row["samples"])
    outcome, worst, _ = agreement(from_exact(found))
    means, errors = zip(*(mean_and_error(row["representation"]) for row in found), strict=True)
    samples = [row["samples"] for row in found]
    slope, error = power_law(samples, means, errors)
    ahead = sign(np.subtract(found[-1]["supervised"], found[-1]["excess"]))
    if outcome == "reproduced":
        if not error < 0.2 or not ahead:
            outcome = "inconclusive"
        elif slope + 2 * error > -0.5 or ahead < 0:
            outcome = "not reproduced"
    lost = ", ".join(
        f"{number(mean, error)} at m = {at}"
        for mean, error, at in zip(means, errors, samples, strict=True)
    )
    return Claim(
        "contrastive pairs teach the factor model's features",
        outcome,
        "at most m^-0.5",
        f"encoder's loss m^{number(slope, error)}",
        f"what the encoder loses: {lost}. Least squares on its features at n = "
        f"{found[-1]['labels']}: excess {mean_of(found[-1]['excess'])} after "
        f"m = {samples[-1]}, supervised {found[-1]['supervised']:.4f}; largest difference to the "
        f"closed form {worst:.1f} standard errors",
    )


def _images(rows, source, method):
    """Against pixels in the same splits; judged at the fewest labels."""
    pixels, learnt = (accuracies(rows, source, name) for name in ("pixels", method))
    signs, gains, levels = [], [], []
    for count, base in pixels.items():
        difference = 100 * (learnt[count] - base)
        signs.append(sign(difference))
        gains.append(f"{mean_of(difference)} at n = {count}")
        levels.append(
            f"{100 * learnt[count].mean():.1f}% against {100 * base.mean():.1f}% at n = {count}"
        )
    outcome: Outcome = "inconclusive"
    if signs[0] > 0:
        outcome = "reproduced"
    elif signs[0] < 0:
        outcome = "departs" if max(signs) > 0 else "not reproduced"
    names = {
        "factors": "the factor model",
        "mixture": "a mixture",
        "contrastive": "a contrastive encoder",
    }
    return Claim(
        f"{source}: {names[method]} wants fewer labels than pixels do",
        outcome,
        "",
        gains[0],
        f"points of accuracy, less those of ridge regression on pixels, paired over "
        f"{len(next(iter(pixels.values())))} splits: {'; '.join(gains)}. {'; '.join(levels)}",
    )
