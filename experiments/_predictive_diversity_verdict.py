"""What the rows of `predictive_diversity` say: differences paired over seeds, and the verdict."""

import functools
import itertools
import math

import numpy as np

from experiments import _rows
from experiments._contract import Claim, Outcome, Verdict
from experiments._rows import mean_and_error, select

BINS = (0.0, 0.5, 0.9, 0.99, 1.0)
"""Of the probability of the label, by a further ensemble with gamma = 0."""
SURE = 2
"""Bins from this one on are right and sure: p >= 0.9."""
HARMLESS = 0.005
"""Of accuracy and of NLL, the loss that the specification calls none."""
NAMES = {"accuracy": "accuracy", "nll": "NLL"}
number = functools.partial(_rows.number, sign="+")


def verdict(rows: list[dict]) -> Verdict:
    """Weak and strong members, encouraged and discouraged; the mechanism; free diversity."""
    judges = (
        _weak,
        _strong,
        _falls,
        _bounded,
        _kl,
        _harmless,
        _costly,
        _gap_grows,
        _members_fall,
        _mechanism,
        _free,
    )
    return Verdict(tuple(judge(rows) for judge in judges))


def networks(rows: list[dict]) -> list[str]:
    """Of the joint ensembles, in the order of the plan: the weakest first."""
    return list(dict.fromkeys(row["network"] for row in select(rows, kind="joint")))


def gammas(rows: list[dict], sign: int = 0) -> list[float]:
    """All strengths in order, or those of one sign."""
    found = sorted({row["gamma"] for row in select(rows, kind="joint")})
    return [gamma for gamma in found if sign == 0 or gamma * sign > 0]


def values(rows: list[dict], network: str, regulariser: str, gamma: float, field: str):
    """Of every seed; with gamma = 0 all regularisers are one."""
    name = "jensen_gap" if gamma == 0 else regulariser
    found = select(rows, kind="joint", network=network, regulariser=name, gamma=gamma)
    return np.concatenate([np.asarray(row[field], float) for row in found])


def effect(rows: list[dict], network: str, regulariser: str, gamma: float, field: str):
    """What gamma improves over gamma = 0, seed by seed: how accuracy rises, how NLL falls."""
    change = rise(rows, network, regulariser, gamma, field)
    return -change if field == "nll" else change


def rise(rows: list[dict], network: str, regulariser: str, gamma: float, field: str):
    """The value with gamma less that with gamma = 0, seed by seed."""
    before, after = (values(rows, network, regulariser, g, field) for g in (0.0, gamma))
    return after - before


def _judged(margins) -> Outcome:
    """By (margin, error) pairs: all above 0 by two errors, one below by two, or neither."""
    if any(margin < -2 * error for margin, error in margins):
        return "not reproduced"
    if margins and all(margin > 2 * error for margin, error in margins):
        return "reproduced"
    return "inconclusive"  # also where a run diverged, and the margin is NaN


def _effects(rows, network, signs, regulariser="jensen_gap"):
    """{(field, gamma): (mean, error)} of one network, for the gammas of one sign."""
    return {
        (field, gamma): mean_and_error(effect(rows, network, regulariser, gamma, field))
        for field in NAMES
        for gamma in gammas(rows, signs)
    }


def _words(effects):
    return "; ".join(
        f"{NAMES[field]} "
        + ", ".join(f"{number(*found)} at {g:g}" for (f, g), found in effects.items() if f == field)
        for field in NAMES
    )


def _setting(rows, network):
    found = {f: mean_and_error(values(rows, network, "jensen_gap", 0.0, f)) for f in NAMES}
    seeds = len(values(rows, network, "jensen_gap", 0.0, "nll"))
    base = ", ".join(f"{NAMES[f]} {mean:.4f} ± {error:.4f}" for f, (mean, error) in found.items())
    return f"{network} over {seeds} seeds, at gamma = 0 {base}"


def _last(effects, field):
    """The effect at the strongest gamma, which is the one to be quoted."""
    return max((abs(gamma), found) for (f, gamma), found in effects.items() if f == field)[1]


def _quoted(effects):
    return ", ".join(f"{NAMES[field]} {number(*_last(effects, field))}" for field in NAMES)


def _weak(rows):
    weakest = networks(rows)[0]
    effects = _effects(rows, weakest, 1)
    return Claim(
        "pressed to disagree (gamma > 0), weak members make a better ensemble",
        _judged(list(effects.values())),
        "better",
        f"improved, gamma = {gammas(rows)[-1]:g}: {_quoted(effects)}",
        f"{_setting(rows, weakest)}; Jensen gap, improvements paired over seeds: {_words(effects)}",
    )


def _not_helped(effects):
    """Worse in NLL by two errors, and not better in accuracy by two."""
    return _judged(
        [(-mean, error) for (field, _), (mean, error) in effects.items() if field == "nll"]
        + [
            (-mean if mean > 2 * error else math.inf, error)
            for (field, _), (mean, error) in effects.items()
            if field == "accuracy" and math.isfinite(mean)
        ]
    )


def _strong(rows):
    strongest = networks(rows)[-1]
    effects = _effects(rows, strongest, 1)
    return Claim(
        "pressed to disagree, strong members make a worse one",
        _not_helped(effects),
        "worse",
        f"improved, gamma = {gammas(rows)[-1]:g}: {_quoted(effects)}",
        f"{_setting(rows, strongest)}; Jensen gap, improvements paired over seeds: "
        f"{_words(effects)}. Reproduced: NLL worse at every gamma > 0, accuracy better at none",
    )


def _falls(rows):
    """The effect at the weakest less that at the strongest; the splits of a seed are the same."""
    names, strengths = networks(rows), gammas(rows, 1)
    margins = {
        (field, gamma): mean_and_error(
            effect(rows, names[0], "jensen_gap", gamma, field)
            - effect(rows, names[-1], "jensen_gap", gamma, field)
        )
        for field in NAMES
        for gamma in strengths
    }
    course = "; ".join(f"{name}: {_words(_effects(rows, name, 1))}" for name in names)
    return Claim(
        "the effect of gamma > 0 falls with capacity",
        _judged(list(margins.values())),
        "from better to worse",
        f"weakest less strongest, gamma = {strengths[-1]:g}: {_quoted(margins)}",
        f"Jensen gap, improvements by network: {course}",
    )


def _bounded(rows):
    return _others(rows, "the variance and the Jensen-Shannon divergence do the same",
                   ("variance", "jensen_shannon"), "both are bounded")  # fmt: skip


def _kl(rows):
    return _others(rows, "and so does the KL divergence", ("kl",),
                   "with it the loss has no lower bound at gamma > 0")  # fmt: skip


def _others(rows, statement, regularisers, remark):
    """Better at the weakest by two errors in all, and at the strongest as `_not_helped` has it."""
    names = networks(rows)
    measured = {row["regulariser"] for row in select(rows, kind="joint")}
    found = {
        name: (_effects(rows, names[0], 1, name), _effects(rows, names[-1], 1, name))
        for name in regularisers
        if name in measured
    }
    outcomes = [_judged(list(weak.values())) for weak, _ in found.values()]
    outcomes += [_not_helped(strong) for _, strong in found.values()]
    outcome: Outcome = "reproduced" if set(outcomes) == {"reproduced"} else "inconclusive"
    if "not reproduced" in outcomes:
        outcome = "not reproduced"
    short, long = (
        "; ".join(
            f"{name}: {names[0]} {words(weak)} | {names[-1]} {words(strong)}"
            for name, (weak, strong) in found.items()
        )
        for words in (_quoted, _words)
    )
    diverged = sum(
        row["diverged"] for row in select(rows, kind="joint") if row["regulariser"] in found
    )
    return Claim(
        statement,
        outcome,
        "better, and worse",
        short or "not measured",
        f"improvements paired over seeds, {remark}: {long or 'not measured'}. Ensembles whose "
        f"logits overflowed: {diverged}",
    )


def _harmless(rows):
    strongest = networks(rows)[-1]
    effects = _effects(rows, strongest, -1)
    return Claim(
        "held back (gamma < 0), strong members lose nothing",
        _judged([(HARMLESS + mean, error) for mean, error in effects.values()]),
        f"within {HARMLESS}",
        f"improved, gamma = {gammas(rows)[0]:g}: {_quoted(effects)}",
        f"{_setting(rows, strongest)}; Jensen gap: {_words(effects)}. Reproduced: no worse than by "
        f"{HARMLESS}, two errors included",
    )


def _costly(rows):
    weakest = networks(rows)[0]
    effects = _effects(rows, weakest, -1)
    return Claim(
        "held back, weak members lose",
        _judged([(-mean, error) for mean, error in effects.values()]),
        "worse",
        f"improved, gamma = {gammas(rows)[0]:g}: {_quoted(effects)}",
        f"{_setting(rows, weakest)}; Jensen gap: {_words(effects)}",
    )


def _gap_grows(rows):
    names, strengths = networks(rows), gammas(rows)
    gaps = {
        name: [values(rows, name, "jensen_gap", gamma, "gap") for gamma in strengths]
        for name in names
    }
    margins = [
        mean_and_error(after - before)
        for found in gaps.values()
        for before, after in itertools.pairwise(found)
    ]
    ends = {name: (found[0].mean(), found[-1].mean()) for name, found in gaps.items()}
    return Claim(
        "the Jensen gap of unseen examples grows with gamma",
        _judged(margins),
        "at every capacity",
        "; ".join(f"{name}: {low:.3g} to {high:.3g}" for name, (low, high) in ends.items()),
        f"gamma = {', '.join(f'{gamma:g}' for gamma in strengths)}: "
        + "; ".join(
            f"{name} " + ", ".join(f"{found.mean():.3g}" for found in gaps[name]) for name in names
        )
        + f"; the least certain rise is {number(*min(margins, key=_certainty))}",
    )


def _certainty(margin):
    mean, error = margin
    return mean / error if error > 0 else math.inf if mean > 0 else -math.inf


def _members_fall(rows):
    names, gamma = networks(rows), gammas(rows)[-1]
    falls = {
        name: mean_and_error(-effect(rows, name, "jensen_gap", gamma, "member_accuracy"))
        for name in names
    }
    return Claim(
        "and with it single members get worse",
        _judged(list(falls.values())),
        "at every capacity",
        "; ".join(f"{name}: {number(-mean, error)}" for name, (mean, error) in falls.items()),
        f"accuracy of single members, gamma = {gamma:g} less gamma = 0",
    )


def _mechanism(rows):
    """The NLL's rise at the strongest gamma, by what a further ensemble with gamma = 0 says."""
    strongest, gamma = networks(rows)[-1], gammas(rows)[-1]
    measured = dict.fromkeys(row["regulariser"] for row in select(rows, kind="joint"))
    rises = {name: rise(rows, strongest, name, gamma, "nll_parts") for name in measured}
    sure = {name: parts[:, SURE:].sum(1) for name, parts in rises.items()}
    rest = {name: parts[:, :SURE].sum(1) for name, parts in rises.items()}
    totals = {name: mean_and_error(parts.sum(1)) for name, parts in rises.items()}
    harmful = [name for name, (mean, error) in totals.items() if mean > 2 * error]
    margins = [mean_and_error(sure[name]) for name in harmful]
    margins += [mean_and_error(sure[name] - rest[name]) for name in harmful]
    room = min(min(row["room_left"]) for row in select(rows, kind="joint"))
    shares = values(rows, strongest, "jensen_gap", 0.0, "shares").mean(0)
    words = (
        f"{name} " + ", ".join(number(*mean_and_error(part)) for part in parts.T)
        for name, parts in rises.items()
    )
    return Claim(
        "strong members lose most on what they were right and sure of",
        _judged(margins) if room > -1e-9 else "not reproduced",
        "most of the rise of the NLL",
        "; ".join(
            f"{name}: {number(*mean_and_error(sure[name]))} of the NLL from these, "
            f"{number(*mean_and_error(rest[name]))} from the others"
            for name in harmful
        )
        or "no rise of the NLL beyond its error",
        f"{strongest}, gamma = {gamma:g}, judged where the NLL rises by two errors; examples by "
        "the probability of their label, edges "
        f"{', '.join(f'{edge:g}' for edge in BINS)}: shares "
        + ", ".join(f"{share:.3f}" for share in shares)
        + f"; their parts of the rise of the NLL: {'; '.join(words)}. Right and sure is "
        f"p >= {BINS[SURE]}. The bound gap <= -log min p_i[y] held for every example of every "
        f"ensemble, by {room:.2g} at least",
    )


def _free(rows):
    found = select(rows, kind="mixed")

    def lists(name, field):
        return np.concatenate([np.asarray(row[f"{name}_{field}"], float) for row in found])

    def mean(name, field):
        return f"{lists(name, field).mean():.4f}"

    gains = {
        (name, field): sign * (lists(name, field) - lists("alike", field))
        for name in ("mixed", "single", "single_ensemble")
        for field, sign in (("accuracy", 1), ("nll", -1))
    }
    margins = {
        (field, 0): mean_and_error(gains["single", field] - gains["mixed", field])
        for field in NAMES
    }
    words = {
        name: ", ".join(f"{NAMES[f]} {number(*mean_and_error(gains[name, f]))}" for f in NAMES)
        for name in ("mixed", "single", "single_ensemble")
    }
    return Claim(
        "diversity for free gains less than one larger network",
        _judged(list(margins.values())),
        "dwarfed by better members",
        f"free diversity {words['mixed']}; larger network {words['single']}",
        "gains over ensembles of one architecture, which have the same members in all: "
        f"their NLL is {mean('alike', 'nll')}, their members' {mean('alike', 'member_nll')}, "
        f"their gap {mean('alike', 'gap')}, and {mean('mixed', 'gap')} when mixed. "
        f"One network of {found[0]['single_macs']} multiply-accumulates instead of "
        f"{found[0]['macs']}: {words['single']}; an ensemble of such: {words['single_ensemble']}. "
        f"Larger less mixed: {_quoted(margins)}",
    )
