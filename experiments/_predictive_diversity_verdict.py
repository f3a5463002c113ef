"""What the rows of `predictive_diversity` say: differences paired over seeds, and the verdict."""

import functools
import itertools
import math

import numpy as np

from experiments import _rows
from experiments._contract import Claim, Outcome, Verdict
from experiments._rows import mean_and_error, select, sign, unanimous

BINS = (0.0, 0.5, 0.9, 0.99, 1.0)
"""Of the probability of the label, by a further ensemble with gamma = 0."""
SURE = 2
"""Bins from this one on are right and sure: p >= 0.9."""
HARMLESS = 0.005
"""Of accuracy and of NLL, the loss that the specification calls none."""
BROKEN = 0.1
"""Of accuracy: an ensemble that loses more loses everything, of which most is right and sure."""
EQUAL = 1.05
"""Of multiply-accumulates: up to here the larger network costs what the ensemble does."""
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


def seeds(rows: list[dict]) -> list[int]:
    """Of all joint ensembles."""
    return sorted({seed for row in select(rows, kind="joint") for seed in row["seeds"]})


def values(rows: list[dict], network: str, regulariser: str, gamma: float, field: str):
    """Of every seed, NaN if it was not measured; with gamma = 0 all regularisers are one."""
    name = "jensen_gap" if gamma == 0 else regulariser
    found = {}
    for row in select(rows, kind="joint", network=network, regulariser=name, gamma=gamma):
        found |= dict(zip(row["seeds"], np.asarray(row[field], float), strict=True))
    missing = np.full_like(next(iter(found.values()), np.array(0.0)), math.nan)
    return np.array([found.get(seed, missing) for seed in seeds(rows)])


def effect(rows: list[dict], network: str, regulariser: str, gamma: float, field: str):
    """What gamma improves over gamma = 0, seed by seed: how accuracy rises, how NLL falls."""
    change = rise(rows, network, regulariser, gamma, field)
    return -change if field == "nll" else change


def rise(rows: list[dict], network: str, regulariser: str, gamma: float, field: str, over=0.0):
    """The value with gamma less that with another, seed by seed."""
    before, after = (values(rows, network, regulariser, g, field) for g in (over, gamma))
    return after - before


def _judged(samples) -> Outcome:
    """All above 0; a NaN, where a run diverged or was not made, leaves it open."""
    return unanimous([sign(sample) for sample in samples])


def _effects(rows, network, signs, regulariser="jensen_gap"):
    """{(field, gamma): seed by seed} of one network, for the gammas of one sign."""
    return {
        (field, gamma): effect(rows, network, regulariser, gamma, field)
        for field in NAMES
        for gamma in gammas(rows, signs)
    }


def _quantity(sample):
    return number(*mean_and_error(sample))


def _words(effects):
    return "; ".join(
        f"{NAMES[field]} "
        + ", ".join(
            f"{_quantity(found)} at {g:g}" for (f, g), found in effects.items() if f == field
        )
        for field in NAMES
    )


def _setting(rows, network):
    found = {f: mean_and_error(values(rows, network, "jensen_gap", 0.0, f)) for f in NAMES}
    base = ", ".join(f"{NAMES[f]} {mean:.4f} ± {error:.4f}" for f, (mean, error) in found.items())
    return f"{network} over {len(seeds(rows))} seeds, at gamma = 0 {base}"


def _last(effects, field):
    """The effect at the strongest gamma, which is the one to be quoted."""
    return effects[max((key for key in effects if key[0] == field), key=lambda key: abs(key[1]))]


def _quoted(effects):
    return ", ".join(f"{NAMES[field]} {_quantity(_last(effects, field))}" for field in NAMES)


def _weak(rows):
    weakest = networks(rows)[0]
    effects = _effects(rows, weakest, 1)
    return Claim(
        "pressed to disagree (gamma > 0), weak members make a better ensemble",
        _judged(effects.values()),
        "better",
        f"improved, gamma = {gammas(rows)[-1]:g}: {_quoted(effects)}",
        f"{_setting(rows, weakest)}; Jensen gap, improvements paired over seeds: {_words(effects)}",
    )


def _not_helped(effects):
    """Worse in NLL, and not better in accuracy."""
    signs = [-sign(found) for (field, _), found in effects.items() if field == "nll"]
    for (field, _), found in effects.items():
        if field == "accuracy":
            known = np.isfinite(found).all()
            signs.append((-1 if sign(found) > 0 else 1) if known else 0)
    return unanimous(signs)


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
    """The effect at the weakest less that at the strongest; the splits of a seed are the same.

    A network between them that gains more than the one, or less than the other, is a departure.
    """
    names, strengths = networks(rows), gammas(rows, 1)
    effects = {name: _effects(rows, name, 1) for name in names}
    first, last = effects[names[0]], effects[names[-1]]
    margins = {at: first[at] - last[at] for at in first}
    comparisons = max(1, 2 * len(names[1:-1]) * len(first))
    beyond = [
        name
        for name in names[1:-1]
        if max(
            sign(further, comparisons)
            for at, found in effects[name].items()
            for further in (found - first[at], last[at] - found)
        )
        > 0
    ]
    outcome = _judged(margins.values())
    if outcome == "reproduced" and beyond:
        outcome = "departs"
    course = "; ".join(f"{name}: {_words(found)}" for name, found in effects.items())
    return Claim(
        "the effect of gamma > 0 falls with capacity",
        outcome,
        "from better to worse",
        f"weakest less strongest, gamma = {strengths[-1]:g}: {_quoted(margins)}",
        f"Jensen gap, improvements by network: {course}. Above the weakest, or below the "
        f"strongest: {', '.join(beyond) or 'none'}",
    )


def _bounded(rows):
    return _others(rows, "the variance and the Jensen-Shannon divergence do the same",
                   ("variance", "jensen_shannon"), "both are bounded")  # fmt: skip


def _kl(rows):
    return _others(rows, "and so does the KL divergence", ("kl",),
                   "with it the loss has no lower bound at gamma > 0")  # fmt: skip


def _others(rows, statement, regularisers, remark):
    """Better at the weakest in all, and at the strongest as `_not_helped` has it."""
    names = networks(rows)
    measured = {row["regulariser"] for row in select(rows, kind="joint")}
    found = {
        name: (_effects(rows, names[0], 1, name), _effects(rows, names[-1], 1, name))
        for name in regularisers
        if name in measured
    }
    outcomes = [_judged(weak.values()) for weak, _ in found.values()]
    outcomes += [_not_helped(strong) for _, strong in found.values()]
    all_measured = len(found) == len(regularisers)
    outcome: Outcome = "inconclusive"
    if all_measured and set(outcomes) == {"reproduced"}:
        outcome = "reproduced"
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
        _judged(HARMLESS + found for found in effects.values()),
        f"within {HARMLESS}",
        f"improved, gamma = {gammas(rows)[0]:g}: {_quoted(effects)}",
        f"{_setting(rows, strongest)}; Jensen gap: {_words(effects)}. Reproduced: no worse than by "
        f"{HARMLESS}, its error included",
    )


def _costly(rows):
    weakest = networks(rows)[0]
    effects = _effects(rows, weakest, -1)
    return Claim(
        "held back, weak members lose",
        _judged(-found for found in effects.values()),
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
    rises = [
        after - before for found in gaps.values() for before, after in itertools.pairwise(found)
    ]
    ends = {name: (found[0].mean(), found[-1].mean()) for name, found in gaps.items()}
    return Claim(
        "the Jensen gap of unseen examples grows with gamma",
        _judged(rises),
        "at every capacity",
        "; ".join(f"{name}: {low:.3g} to {high:.3g}" for name, (low, high) in ends.items()),
        f"gamma = {', '.join(f'{gamma:g}' for gamma in strengths)}: "
        + "; ".join(
            f"{name} " + ", ".join(f"{found.mean():.3g}" for found in gaps[name]) for name in names
        )
        + f"; the least certain rise is {_quantity(min(rises, key=_certainty))}",
    )


def _certainty(sample):
    mean, error = mean_and_error(sample)
    return mean / error if error > 0 else math.inf if mean > 0 else -math.inf


def _members_fall(rows):
    names, gamma = networks(rows), gammas(rows)[-1]
    falls = {name: -effect(rows, name, "jensen_gap", gamma, "member_accuracy") for name in names}
    return Claim(
        "and with it single members get worse",
        _judged(falls.values()),
        "at every capacity",
        "; ".join(f"{name}: {_quantity(-fall)}" for name, fall in falls.items()),
        f"accuracy of single members, gamma = {gamma:g} less gamma = 0",
    )


def _mechanism(rows):
    """The NLL's rise at the strongest gamma, by what a further ensemble with gamma = 0 says."""
    strongest, gamma = networks(rows)[-1], gammas(rows)[-1]
    found = select(rows, kind="joint", network=strongest, gamma=gamma)
    measured = dict.fromkeys(row["regulariser"] for row in found)
    rises = {name: rise(rows, strongest, name, gamma, "nll_parts") for name in measured}
    sure = {name: parts[:, SURE:].sum(1) for name, parts in rises.items()}
    rest = {name: parts[:, :SURE].sum(1) for name, parts in rises.items()}
    lost = {name: -effect(rows, strongest, name, gamma, "accuracy") for name in measured}
    worse = [name for name, parts in rises.items() if sign(parts.sum(1)) > 0]
    harmful = [name for name in worse if lost[name].mean() < BROKEN]
    broken = [name for name in worse if name not in harmful]
    samples = [sure[name] for name in harmful] + [sure[name] - rest[name] for name in harmful]
    room = np.nanmin(np.concatenate([row["room_left"] for row in select(rows, kind="joint")]))
    shares = values(rows, strongest, "jensen_gap", 0.0, "shares").mean(0)
    words = (f"{name} " + ", ".join(map(_quantity, parts.T)) for name, parts in rises.items())
    return Claim(
        "strong members lose most on what they were right and sure of",
        _judged(samples) if room > -1e-9 else "not reproduced",
        "most of the rise of the NLL",
        "; ".join(
            f"{name}: {_quantity(sure[name])} of the NLL from these, "
            f"{_quantity(rest[name])} from the others"
            for name in harmful
        )
        or "no rise of the NLL beyond its error",
        f"{strongest}, gamma = {gamma:g}, judged where the NLL rises and the ensemble still "
        f"classifies (more than {BROKEN} of accuracy are lost with {', '.join(broken) or 'none'}); "
        "examples by the probability of their label, edges "
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
    margins = {(field, 0): gains["single", field] - gains["mixed", field] for field in NAMES}
    is_diverse = sign(lists("mixed", "gap") - lists("alike", "gap")) > 0
    is_fair = all(row["single_macs"] <= EQUAL * row["macs"] for row in found)
    words = {
        name: ", ".join(f"{NAMES[f]} {_quantity(gains[name, f])}" for f in NAMES)
        for name in ("mixed", "single", "single_ensemble")
    }
    return Claim(
        "diversity for free gains less than one larger network",
        _judged(margins.values()) if is_diverse and is_fair else "inconclusive",
        "dwarfed by better members",
        f"free diversity {words['mixed']}; larger network {words['single']}",
        "gains over ensembles of one architecture, which have the same members in all: "
        f"their NLL is {mean('alike', 'nll')}, their members' {mean('alike', 'member_nll')}, "
        f"their gap {mean('alike', 'gap')}, and {mean('mixed', 'gap')} when mixed. "
        f"One network of {found[0]['single_macs']} multiply-accumulates instead of "
        f"{found[0]['macs']}: {words['single']}; an ensemble of such: {words['single_ensemble']}. "
        f"Larger less mixed: {_quoted(margins)}",
    )
