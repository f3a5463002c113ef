"""What the rows of `wide_deep_optimality` say: the verdict on each claim, and the figure."""

import math
from typing import Literal

import numpy as np

from experiments._contract import Claim, Outcome, Verdict
from experiments._rows import mean_and_error, select, sign, unanimous

LIMITS = ("nearest neighbour", "majority", "singular kernel")
TAXONOMY: dict[
    str, tuple[str, Literal["nngp", "ntk"]]
] = {  # the limit of each activation, and the kernel whose classifier is followed
    "h_2": ("nearest neighbour", "nngp"),
    "ReLU": ("majority", "ntk"),
    "optimal, d = 2": ("singular kernel", "nngp"),
}
NEAR_HILBERT, ABOVE_NEIGHBOUR, ABOVE_MISMATCHED = 0.02, 0.015, 0.03
NEAR_EXPONENT = 0.01
AS_INFINITE = 0.9  # of decisions: below it, no network decides as the infinite one


def verdict(rows: list[dict]) -> Verdict:
    """The theory's limits, then the spheres, images and networks of finite width."""
    limits = tuple(_taxonomy(rows, activation) for activation in TAXONOMY)
    judges = (
        _exponents,
        _near_hilbert,
        _above_neighbour,
        _mismatched,
        _gap,
        _images,
        _wide,
        _too_narrow,
    )
    return Verdict((*limits, *(judge(rows) for judge in judges)))


def _taxonomy(rows, activation):
    """At the largest depth: near the limit, and nearer than to the two others."""
    limit, kernel = TAXONOMY[activation]
    found = sorted(
        select(rows, kind="taxonomy", activation=activation), key=lambda row: row["depth"]
    )
    last, error = found[-1], found[-1][f"{limit} error"]
    rivals = [name for name in LIMITS if name != limit]
    ahead = all(
        last[limit] - last[name] > 3 * math.hypot(error, last[f"{name} error"]) for name in rivals
    )
    arrived = last[limit] - 2 * error > 0.95
    rising = len(found) > 1 and last[limit] - found[-2][limit] > 2 * math.hypot(
        error, found[-2][f"{limit} error"]
    )
    outcome: Outcome = (
        "reproduced"
        if arrived and ahead
        else "inconclusive"
        if last[limit] > 0.95 or rising or last["failed"]
        else "not reproduced"
    )
    course = ", ".join("failed" if row["failed"] else f"{row[limit]:.3f}" for row in found)
    return Claim(
        f"{activation}: depth makes it the {limit}",
        outcome,
        "1 in the limit",
        f"{last[limit]:.3f} +- {error:.3f} at depth {last['depth']}",
        f"agreement of the {kernel.upper()} classifier with it, of 40 points on S^2, at depths "
        f"{', '.join(str(row['depth']) for row in found)}: {course}; with the others at the end: "
        + ", ".join(f"{name} {last[name]:.3f}" for name in rivals),
    )


def _exponents(rows):
    found = select(rows, kind="exponents")
    away = [
        (abs(row[name] - row["theory"]), 3 * row[f"{name} error"])
        for row in found
        for name in ("nngp", "increments")
    ]
    outcome: Outcome = "inconclusive"
    if all(by + error < NEAR_EXPONENT for by, error in away):
        outcome = "reproduced"
    elif any(by - error > NEAR_EXPONENT for by, error in away):
        outcome = "not reproduced"
    optimal = [row for row in found if row["activation"] == "optimal"]

    def words(name):
        return ", ".join(f"{row[name]:.4f}" for row in optimal)

    largest = max(row[f"{name} error"] for row in found for name in ("nngp", "increments"))
    excess = [row["ntk"] - row["theory"] for row in found]
    return Claim(
        "singular kernels r^-alpha, alpha = -2 ln f'(0) / ln f'(1)",
        outcome,
        ", ".join(f"{row['dimension']}" for row in optimal),
        f"NNGP {words('nngp')}; NTK {words('increments')}",
        f"slopes at depth 400, r from 0.03 down, errors at most {largest:.1g}; sines of the same "
        "exponents too. The NTK by its increments from depth to depth: at a fixed depth the slope "
        f"of the NTK itself is alpha + {np.mean(excess):.3f}, and its limit wants depths above "
        "r^-2",
    )


def _spheres(rows, first, second):
    """{dimension: (n, accuracy differences at the largest n of both)}; none where there are not."""
    found = {row["dimension"]: (0, np.array([])) for row in select(rows, kind="sphere")}
    for row in select(rows, kind="sphere", classifier=first):
        same = {"dimension": row["dimension"], "size": row["size"]}
        for other in select(rows, kind="sphere", classifier=second, **same):
            if row["size"] > found[row["dimension"]][0]:
                difference = np.subtract(row["accuracies"], other["accuracies"])
                found[row["dimension"]] = (row["size"], difference)
    return found


def _judged(margins) -> Outcome:
    """By (margin, error) pairs: all above 0 by two errors, one below by two, or neither."""
    if any(margin < -2 * error for margin, error in margins):
        return "not reproduced"
    if margins and all(margin > 2 * error for margin, error in margins):
        return "reproduced"
    return "inconclusive"  # also where a solve failed, and the margin is NaN


def _all_above(differences, margin) -> Outcome:
    """By more than a margin, in all dimensions."""
    return unanimous([sign(difference - margin) for _, difference in differences.values()])


def _words(differences):
    return ", ".join(
        "S^{} {:+.4f} +- {:.4f}".format(dimension, *mean_and_error(difference))
        for dimension, (_, difference) in sorted(differences.items())
    )


def _sizes(differences):
    return "n = " + ", ".join(map(str, sorted({size for size, _ in differences.values()})))


def _failures(rows):
    failed = [row for row in rows if row["kind"] in ("sphere", "images") and row["failed"]]
    if not failed:
        return "no solve failed"
    return "failed solves: " + "; ".join(
        f"{row['classifier']} on {_place(row)}, {row['failed']}" for row in failed
    )


def _place(row):
    return f"S^{row['dimension']}, n = {row['size']}" if "size" in row else row["source"]


def _near_hilbert(rows):
    differences = _spheres(rows, "matched", "Hilbert")
    sines = _spheres(rows, "sine", "Hilbert")
    matched = select(rows, kind="sphere", classifier="matched")
    coupling = max((row["coupling"] for row in matched if row["coupling"] is not None), default=0)
    alike = np.min([row["with_hilbert"] for row in matched], initial=1)
    either = [part for _, found in differences.values() for part in (found, -found)]
    outcome = unanimous([sign(NEAR_HILBERT + difference) for difference in either])
    if outcome == "reproduced" and not alike > 1 - NEAR_HILBERT:
        outcome = "departs"  # as accurate, by other decisions
    return Claim(
        "the optimal activation's deep kernel is as accurate as the Hilbert estimate",
        outcome,
        f"within {NEAR_HILBERT}",
        _words(differences),
        f"accuracy differences on the same data, {_sizes(differences)}; sines "
        f"{_words(sines)}. The two decide alike on at least {alike:.3f} of test points; the "
        f"kernel of two training points is at most {coupling:.1e} of its diagonal. "
        + _failures(rows),
    )


def _above_neighbour(rows):
    differences = _spheres(rows, "matched", "1-NN")
    relu = _spheres(rows, "matched", "ReLU")
    return Claim(
        "and more accurate than the nearest neighbour",
        _all_above(differences, ABOVE_NEIGHBOUR),
        f"by more than {ABOVE_NEIGHBOUR}",
        _words(differences),
        f"accuracy differences on the same data, {_sizes(differences)}; over the NTK of a ReLU "
        f"network of three layers: {_words(relu)}",
    )


def _mismatched(rows):
    differences = _spheres(rows, "matched", "mismatched")
    at_eight = {key: value for key, value in differences.items() if key == 8}
    hilbert = _spheres(rows, "Hilbert", "Hilbert, mismatched")
    return Claim(
        "on S^8 the exponent 2 is worse than 8",
        _all_above(at_eight, ABOVE_MISMATCHED),
        f"by more than {ABOVE_MISMATCHED}",
        _words(at_eight),
        f"accuracy of the matched less that of a wrong exponent (2 on S^1, S^4 and S^8, 1 on "
        f"S^2), {_sizes(differences)}: {_words(differences)}; of Hilbert estimates, "
        f"{_sizes(hilbert)}: {_words(hilbert)}",
    )


def gaps(rows, classifier, dimension):
    """n, and Bayes accuracy less the classifier's on the same points, with errors."""
    found = []
    for row in select(rows, kind="sphere", classifier=classifier, dimension=dimension):
        (bayes,) = select(
            rows, kind="sphere", classifier="Bayes", dimension=dimension, size=row["size"]
        )
        found.append(
            (row["size"], *mean_and_error(np.subtract(bayes["accuracies"], row["accuracies"])))
        )
    return np.array([entry for entry in found if math.isfinite(entry[1])]).reshape(-1, 3).T


def _slope(sizes, values, errors):
    """d gap / d log10 n by weighted least squares, and its standard error, widened by scatter."""
    if len(sizes) < 3 or not np.isfinite(errors).all():
        return math.nan, math.nan
    weights = 1 / np.maximum(errors, 1e-4)
    design = np.stack([np.ones(len(sizes)), np.log10(sizes)], axis=1) * weights[:, None]
    best, residual, *_ = np.linalg.lstsq(design, values * weights)
    covariance = np.linalg.inv(design.T @ design)
    scatter = max(1.0, float(residual.sum()) / (len(sizes) - 2))
    return float(best[1]), math.sqrt(covariance[1, 1] * scatter)


def _gap(rows):
    dimensions = sorted({row["dimension"] for row in select(rows, kind="sphere")})
    slopes, quoted, courses, above_bayes = [], [], [], False
    for dimension in dimensions:
        sizes, values, errors = gaps(rows, "Hilbert", dimension)
        slope, error = _slope(sizes, values, errors)
        slopes.append((-slope, error))
        above_bayes |= bool(np.any(values < -3 * errors))
        quoted.append(f"S^{dimension} {slope:+.4f} +- {error:.4f}")
        neighbour = gaps(rows, "1-NN", dimension)[1][-1]
        matched = _slope(*gaps(rows, "matched", dimension))
        courses.append(
            f"S^{dimension} {values[0]:.3f} to {values[-1]:.3f} +- {errors[-1]:.3f} (n = "
            f"{sizes[0]:.0f} to {sizes[-1]:.0f}; matched network {matched[0]:+.4f} +- "
            f"{matched[1]:.4f}; 1-NN at the end {neighbour:.3f})"
        )
    return Claim(
        "consistency: the gap to the Bayes accuracy falls with n",
        "inconclusive" if above_bayes else _judged(slopes),  # nothing is: labels have leaked
        "to 0, slowly",
        f"per decade: {', '.join(quoted)}",
        f"Hilbert estimate, against the exact Bayes rule on the same points: {'; '.join(courses)}",
    )


def _images(rows):
    quoted, margins, signs = [], [], []
    for source in dict.fromkeys(row["source"] for row in select(rows, kind="images")):
        found = {
            row["classifier"]: row["accuracies"]
            for row in select(rows, kind="images", source=source)
        }
        neighbour = found["1-NN"]
        samples = {
            name: np.subtract(values, neighbour)
            for name, values in found.items()
            if name.startswith("alpha")
        }
        differences = {name: mean_and_error(sample) for name, sample in samples.items()}
        best = max(differences, key=lambda name: np.nan_to_num(differences[name][0], nan=-1))
        margins.append(differences[best])
        signs.append(sign(samples[best], comparisons=len(samples)))
        quoted.append(
            f"{source}, {len(neighbour)} pairs: 1-NN {np.mean(neighbour):.4f}; "
            + ", ".join(
                f"{name} {mean:+.4f} +- {error:.4f}" for name, (mean, error) in differences.items()
            )
            + f"; ReLU {mean_and_error(np.subtract(found['ReLU'], neighbour))[0]:+.4f}"
        )
    return Claim(
        "pairs of classes of real images: singular kernels above the nearest neighbour",
        unanimous(signs),
        "-",
        "; ".join(f"{mean:+.4f} +- {error:.4f}" for mean, error in margins) or "not run",
        "an illustration, of unknown dimension and with the best exponent shown; differences of "
        f"accuracy: {'; '.join(quoted)}",
    )


def _trained(rows, activation):
    """Trained networks by depth and width."""
    found = select(rows, kind="trained", activation=activation)
    return {(row["depth"], row["width"]): row for row in found}


def _wide(rows):
    """Agreement at the widest less that at the narrowest, mean over depths."""
    margins, levels, quoted = [], [], []
    for activation in ("sine", "optimal, d = 2"):
        trained = _trained(rows, activation)
        rises = []
        for depth in sorted({depth for depth, _ in trained}):
            group = [trained[at] for at in sorted(trained) if at[0] == depth]
            rises.append([mean_and_error(row["agreements"]) for row in (group[-1], group[0])])
            course = ", ".join(f"{np.mean(row['agreements']):.3f}" for row in group)
            course += " (deviation " + ", ".join(f"{_deviation(row):.2g}" for row in group) + ")"
            quoted.append(f"{activation}, depth {depth}: {course}")
        means, errors = np.moveaxis(np.reshape(rises, (-1, 2, 2)), 2, 0)  # [depths ends]
        errors = np.sqrt(np.sum(errors**2, axis=0)) / max(1, len(rises))
        widest, narrowest = means.sum(axis=0) / (len(rises) or math.nan)
        margins.append((float(widest - narrowest), math.hypot(*errors)))
        levels.append((float(widest - AS_INFINITE), float(errors[0])))
    outcome = _judged(margins)
    if outcome == "reproduced" and _judged(levels) != "reproduced":
        outcome = "inconclusive"  # more and more, and far from it still
    widths = sorted({row["width"] for row in select(rows, kind="trained")})
    return Claim(
        "trained networks decide as the infinite one, the wider the more",
        outcome,
        "in the limit of infinite width",
        "agreement, widest less narrowest: "
        + ", ".join(f"{mean:+.3f} +- {error:.3f}" for mean, error in margins),
        "single networks on 40 points of S^2, sine and optimal for d = 2 (a diverged one agrees "
        f"nowhere), and median deviation of outputs, widths {', '.join(map(str, widths))}: "
        + "; ".join(quoted),
    )


def _deviation(row):
    """The median over networks."""
    return float(np.median(row["deviations"]))


def _state(row):
    return (
        f"deviation {_deviation(row):.2g}, agreement {np.mean(row['agreements']):.3f}, "
        f"{row['diverged']} of {len(row['losses'])} diverged, training loss "
        f"{np.median(row['losses']):.2g} where the NTK's is {row['kernel_loss']:.2g}"
    )


def _too_narrow(rows):
    """How often a network of the larger fourth moment deviates more than one of the smaller.

    Of all pairs of networks at the widest, Mann and Whitney's statistic; the error is that of equal
    distributions.
    """
    heavy, light = (_trained(rows, f"optimal, d = {d}") for d in (1, 2))
    widest = dict(sorted(heavy.keys() & light.keys()))  # of each depth the last, the widest
    statement = "a width below fourth moment times depth is too small"
    if not widest:
        return Claim(statement, "inconclusive", "-", "-", "not run")
    shares, variances, quoted = [], [], []
    for at in widest.items():
        first, second = np.ix_(heavy[at]["deviations"], light[at]["deviations"])
        more = np.where(np.isnan(first + second), math.nan, first > second)
        shares.append(np.mean(more + (first == second) / 2))
        variances.append((first.size + second.size + 1) / (12 * first.size * second.size))
        quoted.append(f"depth {at[0]}: {_state(heavy[at])}, against {_state(light[at])}")
    share, error = float(np.mean(shares)), math.sqrt(sum(variances)) / len(variances)
    row, other = (each[next(iter(widest.items()))] for each in (heavy, light))
    return Claim(
        statement,
        _judged([(share - 0.5, error)]),
        f"E phi^4 = {row['fourth_moment']:.0f} for d = 1, {other['fourth_moment']:.0f} for d = 2",
        f"d = 1 deviates more than d = 2 in {share:.2f} +- {error:.2f} of pairs",
        f"trained networks of width {row['width']} on the same data, optimal for d = 1 against "
        f"d = 2: {'; '.join(quoted)}",
    )
