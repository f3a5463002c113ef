"""What the rows of `unsupervised_pretraining` say: the verdict on each claim."""

import itertools

import numpy as np

from experiments import _unsupervised_pretraining_others as others
from experiments._contract import Claim, Outcome, Verdict
from experiments._rows import (
    judged,
    mean_and_error,
    number,
    power_law,
    select,
    sign,
    unanimous,
)
from experiments._unsupervised_pretraining_rows import (
    agreement,
    from_exact,
    mean_of,
    regressions,
    representations,
)

NEAR = 2.0  # times the oracle's excess, where d numbers have some d / r times it


def verdict(rows: list[dict]) -> Verdict:
    """The factor model, its failures, then mixtures, pairs and images."""
    claims = [
        _supervised(rows),
        _oracle(rows),
        _pretrained(rows),
        _slope(rows),
        _crossover(rows),
        _rotation(rows),
        _weak(rows),
        _unrevealed(rows),
        _isotropic(rows),
    ]
    return Verdict((*claims, *others.claims(rows)))


def _with_signs(outcome, signs) -> Outcome:
    """What agrees with its closed form, as long as all differences have the sign they should."""
    return unanimous(signs) if outcome == "reproduced" else outcome


def _ratios(found, exact):
    return ", ".join(
        f"{mean_of(np.divide(row['excess'], np.mean(row[exact])))} at n = {row['labels']}"
        for row in found
    )


def _course(found):
    return ", ".join(f"{mean_of(row['excess'])} at n = {row['labels']}" for row in found)


def _exact(rows, statement, theirs, method, formula):
    """By the closed form; and d numbers ask for more than r do, with as many labels."""
    found = regressions(rows, method)
    outcome, worst, _ = agreement(from_exact(found))
    signs = [
        sign(np.subtract(more["excess"], less["excess"]))
        for more, less in zip(
            regressions(rows, "supervised"), regressions(rows, "oracle"), strict=True
        )
    ]
    return Claim(
        statement,
        _with_signs(outcome, signs),
        theirs,
        _ratios(found, "expected"),
        f"excess over {formula}; largest difference {worst:.1f} standard errors, over "
        f"{len(found[0]['excess'])} repeats. Excess: {_course(found)}",
    )


def _supervised(rows):
    return _exact(
        rows,
        "without pretraining the excess is that of d numbers",
        "O(sqrt(d / n))",
        "supervised",
        "s^2 d / (n - d - 1)",
    )


def _oracle(rows):
    return _exact(
        rows,
        "with the true features it is that of r numbers",
        "O(sqrt(r / n))",
        "oracle",
        "s^2 r / (n - r - 1)",
    )


def _pretrained(rows):
    """Each encoder's own closed form; with many inputs, far below d numbers and near the oracle's.

    A bad encoder agrees with its own closed form, too, and may yet be ahead of d numbers.
    """
    counts = sorted({row["samples"] for row in select(rows, kind="factors", method="pretrained")})
    found = [row for samples in counts for row in regressions(rows, "pretrained", samples)]
    outcome, worst, _ = agreement(from_exact(found))
    most = regressions(rows, "pretrained", counts[-1])
    quoted, signs = [], []
    for row, exact, without in zip(
        most, regressions(rows, "oracle"), regressions(rows, "supervised"), strict=True
    ):
        signs.append(sign(np.subtract(without["excess"], row["excess"])))
        gain = np.mean(without["excess"]) / np.mean(row["excess"])
        ratio = np.divide(row["excess"], np.mean(exact["expected"]))
        signs.append(sign(NEAR - ratio))
        quoted.append(
            f"{mean_of(ratio)} of the oracle's, {gain:.3g} times less than "
            f"supervised, at n = {row['labels']}"
        )
    return Claim(
        "with many unlabelled inputs d numbers become r",
        _with_signs(outcome, signs),
        "O(sqrt(C / m) + sqrt(r / n))",
        "; ".join(quoted[:: max(1, len(quoted) - 1)]),
        f"m = {counts[-1]}: {'; '.join(quoted)}. Over all m and n the excess is e + (s^2 + e) r / "
        f"(n - r - 1), e what the encoder loses: largest difference {worst:.1f} standard errors of "
        f"{len(found)}",
    )


def _slope(rows):
    found = representations(rows)
    samples = [row["samples"] for row in found]
    means, errors = zip(*(mean_and_error(row["excess"]) for row in found), strict=True)
    # below, the next order in 1 / m is not small
    kept = [place for place, at in enumerate(samples) if at >= 300 or len(samples) <= 3]
    slope, error = power_law(*([each[at] for at in kept] for each in (samples, means, errors)))
    outcome: Outcome = "inconclusive"
    if error < 0.05:
        near = abs(slope + 1) <= max(3 * error, 0.03)
        outcome = "reproduced" if near else "not reproduced"
    ratios = [
        f"{number(mean / row['limit'], error / row['limit'])} at m = {row['samples']}"
        for row, mean, error in zip(found, means, errors, strict=True)
    ]
    return Claim(
        "what the encoder loses falls as 1 / m, faster than the bound",
        outcome,
        "at most m^-0.5",
        f"m^{number(slope, error)}",
        f"fitted from m = {samples[kept[0]]} up; over its limit (d - r) / m sum_j weight_j^2 / "
        f"(b_j^2 (b_j^2 + 1)): {', '.join(ratios)}",
    )


def _crossover(rows):
    """Where supervised learning catches up with the fewest unlabelled inputs."""
    samples = representations(rows)[0]["samples"]
    signs, counts, means = [], [], []
    for few, none in zip(
        regressions(rows, "pretrained", samples), regressions(rows, "supervised"), strict=True
    ):
        difference = np.subtract(none["excess"], few["excess"])
        signs.append(sign(difference))
        counts.append(none["labels"])
        means.append(np.log(np.mean(none["excess"]) / np.mean(few["excess"])))
    first, last = signs[0], signs[-1]
    outcome: Outcome = "inconclusive"
    if (first, last) == (1, -1):
        outcome = "reproduced"
    elif first < 0 or last > 0:
        outcome = "not reproduced"
    where = f"none from n = {counts[0]} to {counts[-1]}"
    for place in range(len(means) - 1):
        if means[place] > 0 >= means[place + 1]:
            share = means[place] / (means[place] - means[place + 1])
            where = f"n = {counts[place] * (counts[place + 1] / counts[place]) ** share:.0f}"
    words = {1: "behind", 0: "level", -1: "ahead"}
    return Claim(
        f"supervised learning catches up with m = {samples}: m must be large",
        outcome,
        "",
        where,
        "supervised is "
        + ", ".join(f"{words[at]} at n = {n}" for at, n in zip(signs, counts, strict=True))
        + " (95%); the crossing is interpolated in logarithms",
    )


def _rotation(rows):
    change = select(rows, kind="rotation")[0]["change"]
    return Claim(
        "factors are known up to a rotation, and risks do not see it",
        "reproduced" if change < 1e-10 else "not reproduced",
        "0",
        f"{change:.1g}",
        "relative change of the excess risk when B becomes B Q, after a refit; 1e-10 is allowed",
    )


def _few(found):
    """The first, one in the middle and the last, for a sentence; the figure has them all."""
    return found if len(found) < 4 else [found[0], found[len(found) // 2], found[-1]]


def _weak(rows):
    """One factor, the one that the target needs, with less and less of the inputs' variance."""
    found = select(rows, kind="informative", which="one")
    strong, *weaker = sorted(found, key=lambda row: -row["size"])
    # Worse with any of the weaker ones is enough, and the level is for all of them together.
    signs = [
        sign(np.subtract(row["supervised"], row["pretrained"]), max(1, len(weaker)))
        for row in (strong, *weaker)
    ]
    worse = [f"{row['size']:g}" for row, at in zip((strong, *weaker), signs, strict=True) if at < 0]
    outcome: Outcome = "inconclusive"
    if signs[0] > 0 and worse:
        outcome = "reproduced"
    elif signs[0] < 0 or (weaker and min(signs) > 0):
        outcome = "not reproduced"
    quoted = []
    for row in (strong, *weaker):
        lost = np.divide(row["representation"], row["explained"])
        quoted.append(
            f"b = {row['size']:g}: {mean_of(lost)} lost (large d and m: "
            f"{row['tilted'] / row['explained']:.3f}), excess "
            f"{mean_of(row['pretrained'])} against "
            f"{mean_of(row['supervised'])}"
        )
    threshold = (found[0]["threshold"]) ** 0.25
    return Claim(
        "pretraining fails where a factor that is needed is weak",
        outcome,
        "the bound grows with kappa",
        f"worse than supervised at b = {', '.join(worse) or 'none'}",
        f"b the norm of that factor's column of B, m = {strong['samples']}, n = "
        f"{strong['labels']}; share of the explained variance that the encoder loses, all of it "
        f"below b = (d / m)^(1/4) = {threshold:.2f}. {'; '.join(_few(quoted))}",
    )


def _unrevealed(rows):
    """B -> 0 as a whole: what the specification expects, and what the closed forms say."""
    found = sorted(select(rows, kind="informative", which="all"), key=lambda row: -row["size"])
    first, last = found[0], found[-1]
    rises = all(a["irreducible"] < b["irreducible"] for a, b in itertools.pairwise(found))
    shrinks = [sign(np.subtract(first[name], last[name])) for name in ("supervised", "pretrained")]
    outcome: Outcome = "not reproduced"
    if len(found) < 2:
        outcome = "inconclusive"
    elif rises:
        outcome = "departs" if min(shrinks) < 0 else judged(shrinks)
    quoted = "; ".join(
        f"b = {row['size']:g}: irreducible {row['irreducible']:.3f}, explained "
        f"{row['explained']:.3g}, supervised {mean_of(row['supervised'])}, "
        f"pretrained {mean_of(row['pretrained'])}"
        for row in _few(found)
    )
    return Claim(
        "what x does not reveal is irreducible, for both methods",
        outcome,
        "",
        f"irreducible {first['irreducible']:.2f} to {last['irreducible']:.2f}; supervised excess "
        f"{mean_of(first['supervised'])} to "
        f"{mean_of(last['supervised'])}",
        f"all columns of B at norm b, m = {last['samples']}, n = {last['labels']}. What there is "
        "to learn vanishes, but least squares pays in proportion to the irreducible risk: its "
        f"excess grows, beyond what predicting 0 would lose. {quoted}",
    )


def _isotropic(rows):
    found = sorted(select(rows, kind="isotropic"), key=lambda row: row["samples"])
    pairs = [(np.subtract(row["representation"], row["exact"]), row["exact"]) for row in found]
    outcome, worst, _ = agreement(pairs)
    behind = [sign(np.subtract(row["pretrained"], row["supervised"])) for row in found]
    outcome = _with_signs(outcome, behind)
    if outcome == "reproduced" and len(found) < 2:
        outcome = "inconclusive"  # at any m is more than one
    quoted = "; ".join(
        f"m = {row['samples']}: {mean_of(row['representation'])} lost, excess "
        f"{mean_of(row['pretrained'])} against "
        f"{mean_of(row['supervised'])}"
        for row in found
    )
    lost = ", ".join(mean_of(row["representation"]) for row in found)
    return Claim(
        "where p(x) says nothing of the latents, pretraining is useless at any m",
        outcome,
        f"{found[0]['exact']:.4g} of the target lost",
        f"{lost} at m = {', '.join(str(row['samples']) for row in found)}",
        f"the factors are r of d independent inputs; exact 1 - r / d, largest difference "
        f"{worst:.1f} standard errors; n = {found[0]['labels']}, against supervised: {quoted}",
    )
