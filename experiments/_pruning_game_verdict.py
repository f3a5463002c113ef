"""What the rows of `pruning_game` say: the verdict on each claim."""

import math

import numpy as np

from experiments._contract import Claim, Outcome, Verdict
from experiments._pruning_game_baselines import SMALL
from experiments._pruning_game_readings import (
    COMPARED,
    LITERAL,
    MILD,
    OTHERS,
    PUBLISHED,
    READINGS,
    SPARSE,
    TABLE,
)
from experiments._rows import judged, mean_and_error, number, select, sign

TOLERANCE = 10.0  # points within which a table of other data and widths counts as the same


def verdict(rows: list[dict]) -> Verdict:
    """Table 2 as written and otherwise; the gates; the costs; the dominated; other pruning."""
    literal = [name for name in LITERAL if select(rows, kind="game", reading=name)]
    printed, descent = (
        [name for name in literal if READINGS[name].benefit == benefit]
        for benefit in ("printed", "descent")
    )
    claims = [
        _table(rows, "Table 2, with the sign of the benefit as printed", printed),
        _table(rows, "Table 2, with the benefit turned to descent", descent),
        _nearest(rows),
        _bimodal(rows),
        _mild(rows, literal),
        _essential(rows),
        _equation(rows),
        _dominated(rows),
        _awaited(rows),
        _stability(rows),
    ]
    if select(rows, kind="baseline"):
        claims += [_against(rows, "magnitude"), _against(rows, "random"), _against(rows, SMALL)]
    return Verdict(tuple(claims))


def readings(rows: list[dict]) -> list[str]:
    """Those that were measured, in the order of `READINGS`."""
    found = {row["reading"] for row in select(rows, kind="game")}
    return [name for name in READINGS if name in found]


def outcomes(rows: list[dict], reading: str, configuration: str) -> tuple[np.ndarray, np.ndarray]:
    """Percent right after pruning, and percent of neurons pruned, of each seed."""
    (row,) = select(rows, kind="game", reading=reading, configuration=configuration)
    kept = np.array(row["kept"]).sum(axis=1)
    return 100 * np.array(row["pruned_accuracy"]), 100 * (1 - kept / row["neurons"])


def distances(rows: list[dict], reading: str) -> np.ndarray:
    """Mean distance to Table 2 over its eight numbers, in points, of each seed."""
    gaps = [
        np.abs(found - theirs)
        for configuration, table in TABLE.items()
        for found, theirs in zip(outcomes(rows, reading, configuration), table, strict=True)
    ]
    return np.mean(gaps, axis=0)


def _points(values, digits=1) -> str:
    mean, error = mean_and_error(values)
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def _line(rows, reading) -> str:
    parts = []
    for configuration in PUBLISHED:
        accuracy, gone = outcomes(rows, reading, configuration)
        parts.append(f"{_points(accuracy)} / {_points(gone)}")
    return ", ".join(parts)


def _matches(rows, reading) -> int:
    """1 where all eight numbers surely are within the tolerance, -1 where one is not, or 0."""
    signs = []
    for configuration, table in TABLE.items():
        for found, theirs in zip(outcomes(rows, reading, configuration), table, strict=True):
            mean, error = mean_and_error(found)
            gap = abs(mean - theirs)
            is_near, is_far = gap + 2 * error <= TOLERANCE, gap - 2 * error > TOLERANCE
            signs.append(1 if is_near else -1 if is_far else 0)
    return min(signs)


def _table(rows, statement, names) -> Claim:
    signs = [_matches(rows, name) for name in names]
    outcome: Outcome = "inconclusive"
    if 1 in signs:
        outcome = "reproduced"
    elif signs and max(signs) < 0:
        outcome = "not reproduced"
    shown = "; ".join(f"{name}: {_line(rows, name)}" for name in names)
    quoted = ", ".join(f"{_points(distances(rows, name))} ({name})" for name in names)
    return Claim(
        statement,
        outcome,
        ", ".join(f"{accuracy} / {gone}" for accuracy, gone in TABLE.values()),
        f"mean distance {quoted} points",
        f"percent right / percent of neurons pruned of {', '.join(PUBLISHED)}; {shown}. Reproduced "
        f"where one optimiser has all eight numbers within {TOLERANCE:g} points",
    )


def _nearest(rows) -> Claim:
    """The reading nearest to the table, and whether it is surely nearer than the best literal."""
    others = [name for name in readings(rows) if name in OTHERS]
    literal = [name for name in readings(rows) if name in LITERAL]
    ranked = sorted(others, key=lambda name: distances(rows, name).mean())
    base = min(literal, key=lambda name: distances(rows, name).mean())
    if not ranked:
        return Claim("Table 2, with what it leaves unstated filled in", "inconclusive", "", "", "")
    best = ranked[0]
    match = _matches(rows, best)
    gains = distances(rows, base) - distances(rows, best)
    outcome: Outcome = "inconclusive"
    if match > 0:
        outcome = "reproduced"
    elif match < 0:
        outcome = "departs" if sign(gains) > 0 else "not reproduced"
    shown = "; ".join(f"{name} {_points(distances(rows, name))}" for name in ranked[:4])
    return Claim(
        "Table 2, with what it leaves unstated filled in",
        outcome,
        ", ".join(f"{accuracy} / {gone}" for accuracy, gone in TABLE.values()),
        _line(rows, best),
        f"nearest of {len(others)} readings: {best}; {_points(gains)} points nearer than {base}. "
        f"Mean distances in points: {shown}. What remains: {_remains(rows, best)}",
    )


def _remains(rows, reading) -> str:
    found = []
    for configuration, table in TABLE.items():
        names = ("accuracy", "sparsity")
        of = outcomes(rows, reading, configuration)
        for name, values, theirs in zip(names, of, table, strict=True):
            gap = values.mean() - theirs
            if abs(gap) > TOLERANCE:
                found.append(f"{name} of {configuration} {gap:+.0f} points")
    return ", ".join(found) or "nothing above the tolerance"


def _bimodal(rows) -> Claim:
    """Of runs of the sparse configurations that keep and lose neurons: are those kept near 1?"""
    signs, quoted = [], []
    for name in readings(rows):
        means = []
        for configuration in SPARSE:
            (row,) = select(rows, kind="game", reading=name, configuration=configuration)
            kept = np.array(row["kept"]).sum(axis=1)
            is_mixed = (kept > 0) & (kept < row["neurons"] / 2)
            means += list(np.array(row["mean_kept"], float)[is_mixed])
        if len(means) > 1:
            mean, error = mean_and_error(means)
            signs.append(1 if mean - 2 * error > 0.5 else -1 if mean + 2 * error < 0.5 else 0)
            quoted.append(f"{number(mean, error)} ({name})")
    return Claim(
        "gates end near 0 or near 1 in sparse configurations",
        judged(signs),
        "near 1",
        f"mean gate of those kept: {', '.join(quoted[:4]) or 'no sparse runs'}",
        f"of {len(signs)} readings with networks that prune more than half of their neurons and "
        f"not all: above 0.5 in {signs.count(1)}, below in {signs.count(-1)}. "
        f"{'; '.join(quoted[4:])}",
    )


def _mild(rows, literal) -> Claim:
    worst, signs = "", []
    for name in literal:
        for configuration in MILD:
            for row in select(rows, kind="game", reading=name, configuration=configuration):
                gone = row["neurons"] - np.array(row["kept"]).sum(axis=1)
                signs.append(-1 if gone.any() else 1)
                if gone.any():
                    worst += f"; {name}, {configuration}: {_points(gone)} neurons"
    return Claim(
        "mild costs, beta from 1e-4 to 5e-3, prune nobody",
        judged(signs),
        "0 neurons",
        f"0 neurons in {signs.count(1)} of {len(signs)} cases",
        f"literal readings with gamma = 0, every seed{worst}",
    )


def _essential(rows) -> Claim:
    """Section 9.2: L2 alone prunes, L1 alone rarely; by the share pruned, of every reading."""
    signs, quoted = [], []
    for name in readings(rows):
        l2, l1 = (outcomes(rows, name, of)[1] for of in ("Extreme Beta", "L1 Sparsity Strong"))
        signs.append(sign(l2 - l1))
        quoted.append(f"{name} {_points(l2 - l1)}")
    named = len([name for name in readings(rows) if name in LITERAL])
    return Claim(
        "a cost of the norm is essential, one of the gate rarely prunes (section 9.2)",
        judged(signs),
        "-3.13 by its own Table 2",
        f"points pruned, Extreme Beta less L1: {', '.join(quoted[:named])}",
        f"L2 prunes more in {signs.count(1)} of {len(signs)} readings, L1 in {signs.count(-1)}; "
        f"beyond the literal ones: {', '.join(quoted[named:])}",
    )


def _equation(rows) -> Claim:
    """The same at fixed weights, in the exact equilibrium: Eq. (14) says the opposite."""
    spared, pruned, reached = 0, 0, set()
    for row in select(rows, kind="frozen"):
        undominated = np.sum(row["pruned"]) - np.sum(row["both"])
        if PUBLISHED.get(row["configuration"], (0, 1))[1] == 0:
            spared += int(undominated)  # a player with a benefit above 0 that L2 alone prunes
            reached.add("L2")
        if row["configuration"] == "L1 Sparsity Strong":
            pruned += int(np.sum(row["pruned"]))
            reached.add("L1")
    outcome: Outcome = "inconclusive"
    if len(reached) == 2:
        outcome = "not reproduced"
        if spared:
            outcome = "departs" if pruned else "reproduced"
    return Claim(
        "in equilibrium too, L2 prunes and L1 does not",
        outcome,
        "section 9.2",
        f"{spared} neurons with a benefit above 0 closed by L2 alone, {pruned} neurons by L1",
        "best responses at fixed random weights, eta = 0, both signs: Eq. (14) closes a gate where "
        "the benefit is below gamma, and L2 only shrinks it",
    )


def _dominated(rows) -> Claim:
    """Whether those pruned were told to go by Eq. (15) more often than those kept."""
    signs, quoted = [], []
    for name in readings(rows):
        gaps = []
        for configuration in PUBLISHED:
            (row,) = select(rows, kind="game", reading=name, configuration=configuration)
            pair = (np.array(row[f"opposed_{of}"], float) for of in ("pruned", "kept"))
            gaps += list(np.subtract(*pair))
        gaps = [gap for gap in gaps if math.isfinite(gap)]
        if len(gaps) > 1:
            signs.append(sign(gaps))
            quoted.append(f"{_points(100 * np.array(gaps))} ({name})")
    return Claim(
        "in training, pruned neurons were dominated for longer than those kept",
        judged(signs),
        "the dominated are pruned",
        f"points, share of steps with a benefit below gamma, pruned less kept: "
        f"{', '.join(quoted[:4]) or 'no mixed runs'}",
        f"more often in {signs.count(1)} of {len(signs)} readings with runs that keep and lose "
        f"neurons, less often in {signs.count(-1)}. {', '.join(quoted[4:])}",
    )


def _awaited(rows) -> Claim:
    totals = {
        name: int(sum(np.sum(row[name]) for row in select(rows, kind="frozen")))
        for name in ("awaited", "late", "dominated", "both")
    }
    outcome: Outcome = "inconclusive"
    if totals["awaited"] and totals["dominated"]:
        is_true = not totals["late"] and totals["both"] == totals["dominated"]
        outcome = "reproduced" if is_true else "not reproduced"
    return Claim(
        "at fixed weights the dominated are pruned",
        outcome,
        "all",
        f"{totals['both']} of {totals['dominated']} in equilibrium; {totals['late']} of "
        f"{totals['awaited']} later than the bound",
        "gates are 0 after at most s / (eta_s (gamma - benefit)) steps of ascent; both signs, all "
        "configurations, new networks",
    )


def _stability(rows) -> Claim:
    found = select(rows, kind="competition")
    shown, is_true = [], bool(found)
    for row in found:
        contraction, least = np.mean(row["contraction"]), np.min(row["least"])
        several = np.array(row["equilibria"])
        is_true &= not (np.max(row["contraction"]) < 1 and (several > 1).any())
        is_true &= not (least > 1e-9 and (several > 1).any())
        shown.append(
            f"eta = {row['eta']:g} beta: constant {contraction:.2f}, least curvature {least:.2g}, "
            f"{several.mean():.1f} ends"
        )
    # Somewhere it has to hold, and somewhere not.
    is_told = any(np.max(row["equilibria"]) > 1 for row in found) and any(
        np.min(row["least"]) > 1e-9 for row in found
    )
    outcome: Outcome = "inconclusive" if not is_told else "reproduced" if is_true else "departs"
    return Claim(
        "one stable equilibrium while eta is not too large (claim 5.3)",
        outcome,
        "no constant given",
        "; ".join(shown),
        "unique where Phi is concave, eta < 2 beta at the latest; best responses contract below a "
        "far smaller eta. Ends of ascents from 12 random starts, benefits set to the costs",
    )


def _against(rows, method) -> Claim:
    """The game's neurons less others, as many of each layer; where any are left in each."""
    signs, quoted, evidence = [], [], []
    for name in COMPARED:
        for configuration in PUBLISHED:
            named = {"kind": "baseline", "reading": name, "configuration": configuration}
            (game,), (other,) = (select(rows, **named, method=of) for of in ("game", method))
            kept = np.array(game["kept"])
            works = (kept > 0).all(axis=1) & (kept.sum(axis=1) < _neurons(rows))
            gaps = {
                when: 100 * (np.array(game[when]) - np.array(other[when]))[works]
                for when in ("at_once", "retrained")
                if game[when] and other[when]
            }
            if works.sum() < 2:
                continue
            fair = gaps["retrained"]
            signs.append(sign(fair))
            quoted.append(_points(fair))
            once = f"; at once {_points(gaps['at_once'])}" if "at_once" in gaps else ""
            evidence.append(
                f"{name}, {configuration} ({_points(kept.sum(axis=1)[works])} neurons): "
                f"{_points(fair)}{once}"
            )
    what = {SMALL: "random neurons trained from the start"}.get(method, f"{method} pruning")
    return Claim(
        f"the game's neurons are better than those of {what}",
        judged(signs),
        "competitive",
        f"points right, both retrained: {', '.join(quoted) or 'no sparse runs'}",
        f"as many neurons of each layer, the same seeds: above in {signs.count(1)} of "
        f"{len(signs)} cases, below in {signs.count(-1)}. {'; '.join(evidence)}",
    )


def _neurons(rows) -> int:
    return select(rows, kind="game")[0]["neurons"]
