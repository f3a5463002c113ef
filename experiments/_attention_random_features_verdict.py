"""What the rows of `attention_random_features` say: the verdict on each claim."""

import math

import numpy as np
from scipy import stats

from experiments._contract import Claim, Verdict
from experiments._rows import judged, mean_and_error, number, select, sign, unanimous

# An independent run of one draw with d = N = 8, 300 test examples, the ridge chosen on the test
# set: errors over the variance of the target with n = 50, 100, 200, 400. M = 600 where finite.
REFERENCE_SIZES = (50, 100, 200, 400)
REFERENCE = {
    ("average p=2", "RFA kernel"): (1.018, 0.527, 0.248, 0.051),
    ("average p=2", "RFA"): (1.050, 0.518, 0.262, 0.063),
    ("average p=2", "BRFA"): (1.238, 0.729, 0.353, 0.154),
    ("average p=2", "RFMLP kernel"): (1.346, 1.214, 1.176, 1.122),
    ("average p=4", "RFA"): (1.26, 0.73, 0.55, 0.29),
    ("average p=4", "BRFA"): (1.31, 0.79, 0.62, 0.40),
    ("average p=4", "RFMLP"): (1.54, 1.33, 1.25, 1.19),
    ("correlation p=1", "RFA"): (0.607, 0.544, 0.494, 0.276),
    ("correlation p=1", "BRFA"): (0.600, 0.499, 0.372, 0.187),
    ("correlation p=1", "RFMLP"): (0.738, 0.744, 0.644, 0.584),
    ("correlation p=3", "RFA"): (0.793, 0.780, 0.699, 0.620),
    ("correlation p=3", "BRFA"): (0.819, 0.706, 0.612, 0.531),
    ("correlation p=3", "RFMLP"): (0.854, 0.868, 0.755, 0.683),
}
REFERENCE_GRAM = 0.072  # the largest relative error with 1500 heads
REFERENCE_SETTING = {"dimension": 8, "keys": 8}
LEVEL = 0.5  # the error at which samples are counted


def verdict(rows: list[dict]) -> Verdict:
    """Symmetry and rates; who needs fewer samples, and by how much; the numbers of the table."""
    claims = [
        _permutations(rows),
        _gram(rows),
        _regressor(rows),
        _order(
            rows, "averages: RFA errs less than RFMLP", ("average p=2", "average p=4"),
            ("RFA", "RFMLP"), 100, "0.051 against 1.12 (p = 2, n = 400)",
        ),
        _learned(rows),
        _order(
            rows, "correlations: BRFA errs less than RFA", ("correlation p=1", "correlation p=3"),
            ("BRFA", "RFA"), 200, "0.372 against 0.494 (p = 1), 0.612 against 0.699 (p = 3)",
        ),
        _order(
            rows, "quadratic averages: RFA errs less than BRFA", ("average p=2",),
            ("RFA", "BRFA"), 200, "0.262 against 0.353",
        ),
        _growth(rows),
    ]  # fmt: skip
    if _reference_cells(rows):
        claims.append(_reference(rows))
    return Verdict(tuple(claims))


def sizes(rows: list[dict], **values) -> list[int]:
    """The training sizes that were measured, rising."""
    return sorted({row["size"] for row in select(rows, kind="curve", **values)})


def errors(rows: list[dict], *, which: str = "errors", **values) -> np.ndarray:
    """Of one curve, [sizes draws], the draws of all blocks in order."""
    found = select(rows, kind="curve", **values)
    columns = []
    for size in sizes(rows, **values):
        at = [row for row in found if row["size"] == size]
        pairs = sorted(pair for row in at for pair in zip(row["draws"], row[which], strict=True))
        columns.append([error for _, error in pairs])
    return np.array(columns)


def needed(at: list[int], curve: np.ndarray) -> np.ndarray:
    """Samples to reach `LEVEL`, of each draw: log-linear between sizes, infinite if never reached.

    Where the first size is enough, that size.
    """
    found = np.full(curve.shape[1], math.inf)
    for draw, column in enumerate(curve.T):
        below = np.flatnonzero(column <= LEVEL)
        if not len(below):
            continue
        last = below[0]
        found[draw] = at[last]
        if last:
            high, low = np.log(column[last - 1]), np.log(column[last])
            share = (high - np.log(LEVEL)) / (high - low)
            found[draw] = at[last - 1] * (at[last] / at[last - 1]) ** share
    return found


def _permutations(rows):
    found = {row["method"]: row["change"] for row in select(rows, kind="permutation")}
    # NumPy's own, which do not overlook a NaN
    attention = np.max([change for method, change in found.items() if "RFMLP" not in method])
    baseline = np.min([change for method, change in found.items() if "RFMLP" in method])
    holds = attention < 1e-12 and baseline > 1e-3
    return Claim(
        "the order of keys is nothing to attention's kernel",
        "reproduced" if holds else "not reproduced",
        "exact",
        f"{attention:.1g} relative",
        f"the largest change of a kernel as every input has its keys permuted, with heads of any "
        f"number; that of RFMLP is at least {baseline:.2g}",
    )


def _slopes(found, name):
    """The exponent of each draw in the number of heads, whose errors share their first heads."""
    widths = np.log([row["heads"] for row in found])
    logs = np.log(np.array([row[name] for row in found]))
    return np.polyfit(widths, logs, 1)[0]


def _rate(rows, name):
    """Exponents by method, and whether all are -1/2.

    They are if within three standard errors or 0.05 of it, and known well enough for two standard
    errors not to reach -1/4 or -3/4.
    """
    quoted, signs = [], []
    for method in ("RFA", "BRFA"):
        found = select(rows, kind="convergence", method=method)
        mean, error = mean_and_error(_slopes(found, name))
        away = abs(mean + 0.5)
        is_off = away >= max(3 * error, 0.05)
        signs.append(-1 if is_off else int(away + 2 * error < 0.25))
        quoted.append(f"{number(mean, error)} ({method})")
    return quoted, unanimous(signs)


def _gram(rows):
    quoted, outcome = _rate(rows, "gram")
    scores = select(rows, kind="mean")
    score = np.max([row["score"] for row in scores])
    entries = sum(row["entries"] for row in scores)
    reach = stats.t.ppf(1 - 0.005 / entries, min(row["draws"] for row in scores) - 1)
    found = select(rows, kind="convergence", method="RFA")
    nearest = min(found, key=lambda row: abs(row["heads"] - 1500))
    largest = number(*mean_and_error(nearest["largest"]))
    return Claim(
        "Gram matrices of M heads reach the kernel as M^-1/2",
        outcome if score < reach else "not reproduced",
        f"-1/2; {REFERENCE_GRAM} at M = 1500",
        f"{', '.join(quoted)}; {largest} at M = {nearest['heads']}",
        f"exponent of each draw of heads, and the largest relative error among 5 inputs. The mean "
        f"of {scores[0]['draws']} draws with M = {scores[0]['heads']} is within {score:.1f} "
        f"standard errors of the exact kernel in all {entries} entries, of RFA and of BRFA (99% of "
        f"such largest ones are below {reach:.1f})",
    )


def _regressor(rows):
    quoted, outcome = _rate(rows, "regressor")
    ratios = []
    for target, method in (("average p=2", "RFA"), ("correlation p=1", "BRFA")):
        curve = {"study": "curves", "target": target}
        largest = sizes(rows, **curve)[-1]
        finite, exact = (
            errors(rows, size=largest, method=name, **curve)[0]
            for name in (method, f"{method} kernel")
        )
        ratio = number(*mean_and_error(finite / exact))
        ratios.append(f"{ratio} ({method}, {target}, n = {largest})")
    heads = select(rows, kind="curve", study="curves")[0]["heads"]
    widths = [row["heads"] for row in select(rows, kind="convergence", method="RFA")]
    size = select(rows, kind="convergence")[0]["size"]
    return Claim(
        "regressors of M heads reach the kernel's as M^-1/2",
        outcome,
        "-1/2; error 0.063 at M = 600, 0.051 of the kernel",
        ", ".join(quoted),
        f"exponent of the distance of predictions, M = {widths[0]} to {widths[-1]}, n = {size}, "
        f"one ridge. Errors with M = {heads} over those of the kernel: {', '.join(ratios)}",
    )


def _order(rows, statement, targets, pair, least, theirs):
    """Who errs less: signs of mean log ratios over sizes, of kernels and of finitely many heads.

    A size at which the order is the other one counts against the claim on its own.
    """
    signs, quoted, evidence, reversed_ = [], [], [], []
    better, worse = pair
    for target in targets:
        for suffix in (" kernel", ""):
            curve = {"study": "curves", "target": target}
            first, second = (
                errors(rows, method=f"{name}{suffix}", **curve) for name in (better, worse)
            )
            at = np.array(sizes(rows, **curve))
            taken = at >= min(least, at[-1])
            each_size = np.log(second / first)[taken]
            ratios = each_size.mean(axis=0)
            signs.append(sign(ratios))
            for size, of_size in zip(at[taken], each_size, strict=True):
                if sign(of_size) < 0:
                    signs.append(-1)
                    mean, error = mean_and_error(of_size)
                    reversed_.append(f"{number(mean, error)} at n = {size} ({target}{suffix})")
            means = [number(*mean_and_error(each[taken][0])) for each in (first, second)]
            size = at[taken][0]
            quoted.append(f"{means[0]} against {means[1]} ({target}{suffix})")
            mean, error = mean_and_error(ratios)
            evidence.append(f"{number(mean, error)} ({target}{suffix})")
    return Claim(
        statement,
        judged(signs),
        theirs,
        f"n = {size}: {quoted[0]}, {quoted[-1]}" if len(quoted) > 1 else quoted[0],
        f"log of the ratio of errors, {worse} over {better}, mean over n >= {size}, paired over "
        f"{len(ratios)} draws: {', '.join(evidence)}"
        + (f"; the other way {', '.join(reversed_)}" if reversed_ else ""),
    )


def _learned(rows):
    """The thresholds 0.1 and 1 at 400 examples, or at most as many as there are."""
    curve = {"study": "curves", "target": "average p=2"}
    at = sizes(rows, **curve)
    size = max((each for each in at if each <= 400), default=at[0])
    learned, blind, oracle = (
        errors(rows, method=method, which=which, size=size, **curve)[0]
        for method, which in (
            ("RFA kernel", "errors"), ("RFMLP kernel", "errors"), ("RFMLP kernel", "oracle"),
        )
    )  # fmt: skip
    outcome = judged([sign(0.1 - learned), sign(blind - 1)])
    if size < 400:
        outcome = "inconclusive"
    return Claim(
        "quadratic averages: RFA errs below 0.1, RFMLP above 1",
        outcome,
        "0.051 and 1.12 (n = 400)",
        f"{number(*mean_and_error(learned))} and {number(*mean_and_error(blind))} (n = {size})",
        f"kernels, {len(learned)} draws, ridges chosen on held-out examples; with that of the "
        f"reference's five that errs least on the test set, RFMLP has "
        f"{number(*mean_and_error(oracle))}",
    )


def growth(rows: list[dict]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Samples that RFA and RFMLP need for quadratic averages, of each draw, by number of keys."""
    found = {}
    for keys in sorted({row["keys"] for row in select(rows, kind="curve", study="growth")}):
        curve = {"study": "growth", "keys": keys, "target": "average p=2"}
        found[keys] = tuple(
            needed(sizes(rows, **curve), errors(rows, method=method, **curve))
            for method in ("RFA kernel", "RFMLP kernel")
        )
    return found


def _growth(rows):
    """The exponent of the ratio of samples in N, over numbers of keys where all draws reach it."""
    found = growth(rows)
    quoted, logs, reached = [], [], []
    for keys, (attention, baseline) in found.items():
        if not np.isfinite(attention).all():
            quoted.append(f"N = {keys}: RFA needs more too")
        elif not np.isfinite(baseline).all():
            largest = sizes(rows, study="growth", keys=keys)[-1]
            quoted.append(f"N = {keys}: over {np.median(largest / attention):.2g}")
        else:
            ratios = np.log(baseline / attention)
            mean, error = mean_and_error(ratios)
            reach = stats.t.ppf(0.975, len(ratios) - 1) * error if len(ratios) > 1 else math.nan
            quoted.append(
                f"N = {keys}: {math.exp(mean):.2g} [{math.exp(mean - reach):.2g}, "
                f"{math.exp(mean + reach):.2g}]"
            )
            reached.append(keys)
            logs.append(ratios)
    statement = f"samples to an error of {LEVEL}: RFMLP over RFA grows like N^(p-1)"
    if len(reached) < 3:
        return Claim(
            statement, "inconclusive", "N^1 for p = 2", "; ".join(quoted),
            "too few numbers of keys at which every draw reaches that error",
        )  # fmt: skip
    slopes = np.polyfit(np.log(reached), np.array(logs), 1)[0]
    mean, error = mean_and_error(slopes)
    outcome = judged([sign(slopes)])
    if outcome == "reproduced":
        if sign(slopes - 1) or min(sign(rise) for rise in np.diff(logs, axis=0)) < 0:
            outcome = "departs"  # it grows, and not like N
        elif not abs(mean - 1) + 2 * error < 0.5:
            outcome = "inconclusive"  # N^(1/2) or N^(3/2) would do as well
    dimension = select(rows, kind="curve", study="growth")[0]["dimension"]
    return Claim(
        statement,
        outcome,
        "N^1 for p = 2",
        f"N^({number(mean, error)})",
        f"kernels, d = {dimension}, quadratic averages, {len(slopes)} draws; ratios with 95% "
        f"intervals {'; '.join(quoted)}. Theirs is a ratio of bounds; monomials of degree p in all "
        "keys are some N^p times as many as in one",
    )


def _reference_cells(rows):
    """Our draws made in the reference's way beside its numbers: (theirs, ours), by name."""
    found = {}
    for (target, method), theirs in REFERENCE.items():
        curve = {"study": "curves", "target": target, "method": method, **REFERENCE_SETTING}
        at = sizes(rows, **curve)
        if not method.endswith("kernel"):
            curve["heads"] = 600
        for size, their in zip(REFERENCE_SIZES, theirs, strict=True):
            if size in at and select(rows, kind="curve", size=size, **curve):
                ours = errors(rows, which="oracle", size=size, **curve)[0]
                found[f"{method}, {target}, n = {size}"] = their, ours
    return found


def _reference(rows):
    """Whether one draw of theirs is one of ours: Student's prediction interval of 99%.

    One that reaches down to no error at all holds whatever is learned, and says nothing.
    """
    found = _reference_cells(rows)
    draws = len(next(iter(found.values()))[1])
    reach = stats.t.ppf(0.995, draws - 1)
    scores, wide = {}, []
    for name, (their, ours) in found.items():
        spread = np.std(ours, ddof=1) * math.sqrt(1 + 1 / len(ours))
        scores[name] = (their - ours.mean()) / spread
        if not reach * spread < ours.mean():
            wide.append(name)
    outside = [name for name, score in scores.items() if not abs(score) <= reach]
    outcome = "departs" if len(outside) > 0.05 * len(scores) else "reproduced"
    if outcome == "reproduced" and len(wide) > 0.05 * len(scores):
        outcome = "inconclusive"
    worst = max(scores, key=lambda name: abs(scores[name]))
    theirs, ours = found[worst]
    first = next(iter(found))
    return Claim(
        "errors of an independent run (ridge chosen on the test set)",
        outcome,
        f"{found[first][0]:.3g} ({first})",
        number(*mean_and_error(found[first][1])),
        f"one draw of theirs; in {len(outside)} of {len(scores)} cells it is outside the 99% "
        f"prediction interval of our {draws} draws. The farthest: {worst}, {theirs:.3g} against "
        f"{number(*mean_and_error(ours))}",
    )
