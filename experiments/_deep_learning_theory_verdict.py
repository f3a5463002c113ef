"""What the rows of `deep_learning_theory` say: the verdict on each claim."""

import math

import numpy as np

from experiments._contract import Claim, Outcome, Verdict
from experiments._deep_learning_theory_rows import (
    GROWTH,
    SLACK,
    agreement,
    deviation,
    of_exponent,
    residuals,
    resummed,
    together,
    vertex,
)
from experiments._rows import mean_and_error, power_law, select

# C_b, C_W and K* to the digits that are known; every K of a scale-invariant activation is fixed.
POINTS = {
    "ReLU": (0.0, 2.0, math.nan),
    "linear": (0.0, 1.0, math.nan),
    "leaky ReLU": (0.0, 2 / 1.09, math.nan),
    "tanh": (0.0, 1.0, 0.0),
    "sin": (0.0, 1.0, 0.0),
    "erf": (0.0, math.pi / 4, 0.0),
    "GELU": (0.172922, 1.983058, (3 + math.sqrt(17)) / 2),
    "SWISH": (0.555143, 1.988005, 14.3202),
    "sigmoid": None,
    "softplus": None,
}
UNTRAINED = 0.5  # of the loss at the start: with so much left, the kernel had no need to move


def verdict(rows: list[dict]) -> Verdict:
    """Infinite width, then sampled networks of the exact class and of the others, then images.

    A claim is judged where it is measured.
    """
    exact = [
        row | {"vertex formula": vertex(row)}
        for row in select(rows, kind="layers")
        if "vertex exact" in row
    ]
    others = [row for row in select(rows, kind="layers") if "vertex leading" in row]
    claims = [
        _points(select(rows, kind="critical")),
        _universal(select(rows, kind="universal")),
        _off_critical(select(rows, kind="off_critical"), select(rows, kind="approach")),
        _exact("the mean kernel of scale-invariant networks is that of infinite width",
               exact, {"kernel": "kernel theory"}, "K at every layer"),
        _exact("their four-point vertex is n [(1 + nu/n)^(l-1) - 1] K^2", exact,
               {"vertex": "vertex formula", "pairs": "vertex formula"},
               "nu = 5 of ReLU, 2 of linear"),
        _exact("their tangent kernel has the exact mean, variance and covariances", exact,
               {"tangent": "tangent theory", "tangent_variance": "tangent_variance exact",
                "mixed": "mixed exact", "mixed_output": "mixed_output exact"},
               "linear in depth; O(1/n)"),
        _rates("elsewhere the vertex is V^l up to 1/n", others, "vertex"),
        _rates("elsewhere Var(Theta) is (A + 2B) / n up to 1/n", others, "tangent_variance"),
        _collapse(select(rows, kind="collapsed")),
        _skips(select(rows, kind="skipped")),
        _pairs(select(rows, kind="pairs")),
        _movement(select(rows, kind="movement")),
    ]  # fmt: skip
    return Verdict(tuple(claim for claim in claims if claim))


def _names(rows):
    return list(dict.fromkeys(row["activation"] for row in rows))


def _points(found):
    if not found:
        return None
    off, quoted, worst = [], [], 0.0
    for row in found:
        name, expected = row["activation"], POINTS[row["activation"]]
        if expected is None or row["universality"] == "none":
            agrees = expected is None and row["universality"] == "none"
            quoted.append(f"{name}: none ({row['reason']})")
        else:
            ours = (row["bias_variance"], row["weight_variance"], row["critical_kernel"])
            # half a unit of the last digit known; GELU's kernel is known exactly
            allowed = (5.1e-7, 5.1e-7, 1e-9 if name == "GELU" else 5.1e-5)
            agrees = all(
                math.isnan(their) or abs(our - their) <= limit
                for our, their, limit in zip(ours, expected, allowed, strict=True)
            )
            away = np.max(np.abs([row["parallel"] - 1, row["perpendicular"] - 1]))
            agrees = agrees and away < 1e-6
            worst = max(worst, away)
            kernel = "any" if math.isnan(expected[2]) else f"{ours[2]:.6g}"
            quoted.append(f"{name} ({ours[0]:.6f}, {ours[1]:.6f}, {kernel})")
        if not agrees:
            off.append(name)
    return Claim(
        "critical points (C_b, C_W, K*)",
        "not reproduced" if off else "reproduced",
        "GELU (0.172922, 1.983058, 3.561553), SWISH (0.555143, 1.988005, 14.3202)",
        f"{len(found) - len(off)} of {len(found)} as known",
        f"{'; '.join(quoted)}. Both susceptibilities are 1 to {worst:.0e}",
    )


def _universal(found):
    if not found:
        return None
    quoted, verdicts = [], []
    for name in _names(found):
        of = sorted(select(found, activation=name), key=lambda row: row["depth"])
        expected = GROWTH.get(name, of[-1]["expected"])
        errors = np.abs([row["growth"] / expected - 1 for row in of])
        limit = 2 / of[-1]["depth"] ** 0.5
        if len(of) < 2 or limit > 0.1:
            verdicts.append("inconclusive")  # not deep enough to tell
        else:
            comes = errors[-1] < limit and errors[-1] < errors[0] == np.max(errors)
            verdicts.append("reproduced" if comes else "not reproduced")
        values = ", ".join(f"{row['growth']:.4f}" for row in of)
        quoted.append(
            f"{name} {values} (expected {expected:.4f}); "
            f"l K = {of[-1]['scaled_kernel']:.5g} at the last"
        )
    depths = ", ".join(str(depth) for depth in sorted({row["depth"] for row in found}))
    return Claim(
        "V / (l K^2) tends to a number of the universality class",
        together(verdicts),
        "2/3 (K* = 0), 5 (ReLU), 2 (linear)",
        ", ".join(f"{row['growth']:.4f} ({row['activation']})" for row in _deepest(found)),
        f"at l = {depths}: {'; '.join(quoted)}",
    )


def _deepest(found):
    return [row for row in found if row["depth"] == max(each["depth"] for each in found)]


def _off_critical(sampled, approach):
    if not sampled:
        return None
    sampled = [
        row | {"power": (row["weight_variance"] / 2) ** (row["layer"] - 1)} for row in sampled
    ]
    deviations = np.abs([deviation(row, "kernel", "power") for row in sampled])
    outcome = agreement(deviations, [row["kernel error"] / row["power"] for row in sampled])
    mismatch = [abs(row["rate"] / row["log_parallel"] - 1) for row in approach]
    if not np.max(mismatch, initial=0.0) < 0.01:
        outcome = "not reproduced"
    elif outcome == "reproduced" and all(row["weight_variance"] == 2 for row in sampled):
        outcome = "inconclusive"  # all of them critical
    last = {row["weight_variance"]: row for row in sampled}  # the deepest layer of each
    quoted = [
        f"{row['kernel']:.4f} ± {row['kernel error']:.4f} at C_W = {weight:g}, l = {row['layer']}"
        f" (exactly {row['power']:.4f})"
        for weight, row in last.items()
    ]
    rates = [
        f"{row['activation']}, C_W = {row['weight_variance']:g}: {row['rate']:.5f} "
        f"({row['log_parallel']:.5f})"
        for row in approach
    ]
    return Claim(
        "off criticality kernels change exponentially with depth",
        outcome,
        "(C_W / 2)^(l-1) of ReLU",
        "; ".join(quoted),
        f"|z| up to {deviations.max():.1f}. Rates per layer of the approach to a fixed "
        f"point, beside log chi_parallel: {'; '.join(rates) or 'not measured'}",
    )


def _exact(statement, rows, names, theirs):
    """Of exact values by name: every one of them within so many standard errors, at 3 widths."""
    if not rows:
        return None
    deviations = np.abs([deviation(row, *pair) for row in rows for pair in names.items()])
    errors = [row[f"{name} error"] / abs(row[names[name]]) for row in rows for name in names]
    outcome = agreement(deviations, errors)
    widths = sorted({row["width"] for row in rows})
    if outcome == "reproduced" and len(widths) < 3:
        outcome = "inconclusive"
    return Claim(
        statement,
        outcome,
        theirs,
        f"within {deviations.max():.1f} standard errors",
        f"{len(deviations)} comparisons with exact values, {', '.join(_names(rows))} at widths "
        f"{', '.join(map(str, widths))} and depths to {max(row['layer'] for row in rows)}: "
        f"{np.mean(deviations < 1):.0%} are within one standard error",
    )


def _rates(statement, rows, name):
    """The exponent of the leading order's relative residual; what one order more leaves."""
    if not rows:
        return None
    quoted, verdicts, beyond = [], [], []
    for activation in _names(rows):
        widths, values, errors = residuals(rows, activation, name)
        exponent, error = power_law(widths, values, errors)
        verdicts.append(of_exponent(exponent, error))
        if len(widths) < 3:
            continue
        quoted.append(f"{exponent:.2f} ± {error:.2f} ({activation})")
        text = f"{activation} {100 * values[0]:+.1f}% at n = {widths[0]} to "
        text += f"{100 * values[-1]:+.2f} ± {100 * errors[-1]:.2f}% at {widths[-1]}"
        if name == "vertex":
            widest = select(rows, activation=activation, width=widths[-1])
            worst = max(abs(deviation(row, "vertex", "vertex further")) for row in widest)
            text += f"; with the next order within {worst:.1f} standard errors there"
        beyond.append(text)
    return Claim(
        statement,
        together(verdicts),
        "-1",
        ", ".join(quoted) or "too few widths",
        "exponents of n in the relative residual of the leading order at the last layer; "
        f"{SLACK} is allowed for the orders beyond. {'. '.join(beyond) or 'None is known.'}",
    )


def _collapse(found):
    if not found:
        return None
    verdicts, quoted = [], []
    for ratio in sorted({row["ratio"] for row in found}):
        of = sorted(select(found, ratio=ratio), key=lambda row: row["width"])
        limit = math.expm1(GROWTH[of[0]["activation"]] * ratio)
        of = [row | {"formula": resummed(row, round(ratio * row["width"]))} for row in of]
        deviations = np.abs([deviation(row, "relative", "formula") for row in of])
        gaps = [1 - row["relative"] / limit for row in of]
        errors = [row["relative error"] / limit for row in of]
        exponent, error = power_law([row["width"] for row in of], gaps, errors)
        # Beside exact values at every width, the gap to the limit has to close at all.
        agree = agreement(deviations, errors)
        falls = of_exponent(exponent, error, below=0.0)
        verdicts.append(falls if agree == "reproduced" else agree)
        values = ", ".join(
            f"{row['relative']:.3f} ± {row['relative error']:.3f} (n = {row['width']})"
            for row in of
        )
        gap = f"gap falls as n^{exponent:.2f} ± {error:.2f}" if error < np.inf else "too few widths"
        quoted.append(
            f"L/n = {ratio:g}: {values}, limit {limit:.3f}, {gap}, |z| to the exact values up to "
            f"{deviations.max():.1f}"
        )
    widest = {row["ratio"]: row for row in sorted(found, key=lambda row: row["width"])}
    return Claim(
        "fluctuations depend on depth / width alone",
        together(verdicts),
        "Var(G) / K^2 = e^(nu L/n) - 1",
        ", ".join(
            f"{row['relative']:.3f} ± {row['relative error']:.3f} at L/n = {ratio:g} "
            f"(limit {row['relative limit']:.3f})"
            for ratio, row in widest.items()
        ),
        "; ".join(quoted),
    )


def _skips(found):
    if not found:
        return None
    quoted, verdicts, beside = [], [], []
    for row in found:
        faster = deviation(row, "vertex", "vertex plain")
        if abs(faster) >= 3:
            verdicts.append("reproduced" if faster < 0 else "not reproduced")
        else:
            verdicts.append("inconclusive")
        name = f"{row['activation']}, gamma = {row['skip']:g}"
        quoted.append(f"{row['vertex'] / row['vertex plain']:.3f} ({name})")
        beside.append(
            f"{name}: {row['vertex']:.2f} ± {row['vertex error']:.2f}, leading order "
            f"{row['vertex leading']:.2f}, without odd correlations {row['vertex even']:.2f}"
        )
    return Claim(
        "a skip slows the growth of the vertex",
        together(verdicts),
        "less than without",
        ", ".join(quoted),
        f"V of critical residual networks over its exact value without a skip, at width "
        f"{found[0]['width']}. {'; '.join(beside)}",
    )


def _pairs(found):
    """Diagonals are exact; pairs of two digits have the same rate, and a mean off by 1/n."""
    if not found:
        return None
    deviations, errors = [], []
    for row in found:
        entries = zip(
            row["is_diagonal"], row["means"], row["mean errors"], row["infinite"],
            row["relative"], row["relative errors"], strict=True,
        )  # fmt: skip
        for is_diagonal, mean, error, infinite, relative, relative_error in entries:
            if is_diagonal:
                exact = row["relative exact"]
                deviations.append((mean - infinite) / (error or math.nan))
                deviations.append((relative - exact) / (relative_error or math.nan))
                errors += [error / infinite, relative_error / exact]
    worst = np.abs(deviations).max()
    verdicts: list[Outcome] = [agreement(deviations, errors)]
    quoted, across = [], []
    for depth in sorted({row["depth"] for row in found}):
        of = sorted(select(found, depth=depth), key=lambda row: row["width"])
        exponent, error = power_law(
            [row["width"] for row in of],
            [row["pairs"] for row in of],
            [row["pairs error"] for row in of],
        )
        expected, _ = power_law(
            [row["width"] for row in of], [row["relative exact"] for row in of], [1.0] * len(of)
        )
        verdicts.append(of_exponent(exponent, error, expected))
        known = f"{exponent:.2f} ± {error:.2f} ({depth} layers; theory {expected:.2f})"
        quoted.append(known if error < np.inf else f"too few widths ({depth} layers)")
        last = of[-1]
        biases = [
            mean / infinite - 1
            for mean, infinite, is_diagonal in zip(
                last["means"], last["infinite"], last["is_diagonal"], strict=True
            )
            if not is_diagonal
        ]
        across.append(f"{100 * np.mean(biases):+.1f}% ({depth} layers, n = {last['width']})")
    return Claim(
        "tangent kernels of digits fluctuate by Var(Theta) / Theta^2 of order 1/n",
        together(verdicts),
        "-1 as n grows",
        ", ".join(quoted),
        "exponents of n of pairs of two digits, beside those of the exact theory of one digit at "
        f"the same widths, whose means and variances are within {worst:.1f} standard errors "
        f"of exact. Means of two different digits are off by {', '.join(across)}",
    )


def _movement(found):
    if not found:
        return None
    verdicts, quoted, rises = [], [], []
    for dataset in dict.fromkeys(row["dataset"] for row in found):
        of_set = select(found, dataset=dataset)
        for depth in sorted({row["depth"] for row in of_set}):
            of = sorted(select(of_set, depth=depth), key=lambda row: row["width"])
            exponent, error = power_law(
                [row["width"] for row in of],
                [row["moved"] for row in of],
                [row["moved error"] for row in of],
            )
            verdicts.append(of_exponent(exponent, error))
            if any(row["diverged"] or not row["loss"] < UNTRAINED for row in of):
                verdicts[-1] = "inconclusive"
            quoted.append(f"{exponent:.2f} ± {error:.2f} ({dataset}, {depth} layers)")
        widest = sorted(
            select(of_set, width=max(row["width"] for row in of_set)), key=lambda row: row["depth"]
        )
        rises.append(
            f"{dataset}, n = {widest[0]['width']}: "
            + ", ".join(
                f"{row['moved']:.4f} ± {row['moved error']:.4f} ({row['depth']} layers)"
                for row in widest
            )
        )
    left, _ = mean_and_error([row["loss"] for row in found])
    return Claim(
        "training moves the tangent kernel by an amount of order 1/n",
        together(verdicts),
        "-1",
        ", ".join(quoted),
        f"exponents of n in the relative change of the kernel on the training set; {SLACK} is "
        f"allowed for the orders beyond. {'; '.join(rises)}. Mean loss left {left:.1e}, "
        f"{sum(row['diverged'] for row in found)} diverged",
    )
