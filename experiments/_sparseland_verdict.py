"""What the rows of `sparseland` say: ten lessons and one order, each judged with its errors.

A lesson about very sparse networks is judged at the densities of 2% and below that were measured,
one about mild sparsity at those of 10% and above; each density is a test of its own, of paired
differences over seeds. "Reproduced" asks for all of them, "departs" is some for and some against.
"""

import itertools

import numpy as np

from experiments import _sparseland_rows as read
from experiments._contract import Claim, Outcome, Verdict
from experiments._rows import judged, mean_and_error, number, select, sign
from experiments._sparseland_taxonomy import CHECKS, DYNAMIC, PLACES, SALIENCIES

NEGLIGIBLE = 0.01  # of accuracy: what "hardly" and "close" are taken to mean
APART = 1.1  # a ratio of operations that is not "equal"
ORDER = ("LTR", "SynFlow", "SNIP", "random ERK")

# Percent on CIFAR-10 with ResNet-20, means over three seeds, from the tables that the authors of
# arXiv:2512.07142 keep beside their code; which label is random pruning is inferred there.
NAMES: tuple[str, ...] = ("LTR", "IMP", "SNIP", "GraSP", "SynFlow", "random ERK")
PUBLISHED: dict[float, dict[str, float]] = {
    0.1678: dict(zip(NAMES, (92.15, 91.95, 89.11, 88.90, 87.88, 88.32), strict=True)),
    0.044: dict(zip(NAMES, (89.12, 87.92, 82.51, 83.10, 81.39, 79.60), strict=True)),
    0.0115: dict(zip(NAMES, (75.97, 74.85, 66.12, 55.00, 68.46, 34.40), strict=True)),
}


def verdict(rows: list[dict]) -> Verdict:
    """The lessons in the order of the script's docstring, the order, and the published table."""
    claims = [
        _structure(rows),
        _random(rows),
        _budget(rows),
        _dynamic(rows),
        _operations(rows),
        _small_dense(rows),
        _collapse(rows),
        _sanity(rows),
        _exploration(rows),
        _rewinding(rows),
        _order(rows),
    ]
    if select(rows, kind="trained", network="resnet20"):
        claims.append(_published(rows))
    return Verdict(tuple(claims))


def _structure(rows):
    neurons = read.gains(rows, "one-shot", "neurons")
    groups = read.gains(rows, "one-shot", "N:M")
    gradual = read.gains(rows, "IMP", "neurons")
    judged_at = [read.sparse(neurons), groups]
    signs = read.signs(judged_at) if all(judged_at) else []
    return Claim(
        "sparsity is not one thing: free zeros beat N:M and whole neurons of as many weights",
        judged(signs),
        "above both",
        f"{read.lowest(neurons, 'over neurons')}; {read.lowest(groups, 'over N:M')}",
        "points of accuracy of one-shot magnitude pruning with fine-tuning, free zeros less whole "
        f"neurons: {read.listed(neurons)} (judged at {read.percent(read.SPARSE)} and below); less "
        f"N:M: {read.listed(groups)} (judged at all). IMP, which prunes little by little, less "
        f"whole neurons: {read.listed(gradual)}",
    )


def _random(rows):
    found = {name: read.gains(rows, "random ERK", name) for name in SALIENCIES}
    found["dense"] = read.below_dense(rows, "random ERK")
    margins = [read.shifted(read.mild(each), NEGLIGIBLE) for each in found.values()]
    quoted = [f"less {name}: {read.listed(each)}" for name, each in found.items() if each]
    return Claim(
        "random pruning with a good budget is a strong baseline at mild sparsity",
        judged(read.signs(margins) if all(margins) else []),
        "close to dense and to scores",
        read.lowest(read.mild(found["dense"]), "less dense"),
        f"points of accuracy of random pruning with the ERK budget, {'; '.join(quoted)}. Judged at "
        f"{read.percent(read.MILD)} and above: at most {100 * NEGLIGIBLE:g} point behind each, "
        "beyond its error",
    )


def _budget(rows):
    """What a score's budget gains over a uniform one, against what its choice gains within it."""
    signs, quoted, ours = [], [], []
    for method in SALIENCIES:
        shuffled = read.changes(rows, method, "shuffled")
        whole = read.gains(rows, method, "random uniform")
        for at in sorted(set(shuffled) & set(whole))[::-1]:
            choice = -shuffled[at]
            budget = whole[at] - choice
            two = f"budget {read.points(budget)}, choice {read.points(choice)}"
            quoted.append(f"{method} at {read.percent(at)}: {two}")
            if at <= read.SPARSE:
                signs.append(sign(budget - choice))
                if at == min(shuffled):
                    ours.append(f"{method}: {two} ({read.percent(at)})")
    return Claim(
        "how many weights a layer keeps matters more than which",
        judged(signs),
        "budget above choice",
        "; ".join(ours) or "not measured",
        "points of accuracy of random places in a score's layerwise budget over random places in a "
        "uniform one (budget), and of the score's own places over those (choice); judged at "
        f"{read.percent(read.SPARSE)} and below, by their paired difference. {'; '.join(quoted)}",
    )


def _dynamic(rows):
    over = {name: read.gains(rows, name, "random ERK") for name in DYNAMIC}
    between = read.gains(rows, "RigL", "SET")
    outcome = judged(read.signs(map(read.sparse, over.values()))) if between else "inconclusive"
    if outcome == "reproduced" and -1 in read.signs([read.sparse(between)]):
        outcome = "departs"
    return Claim(
        "a mask that moves beats one that stays: RigL >= SET >= static random",
        outcome,
        "RigL >= SET >= static",
        "; ".join(read.lowest(each, f"{name} less static") for name, each in over.items()),
        "points of accuracy at the same steps and first mask (random, ERK): "
        + "; ".join(f"{name} less static {read.listed(each)}" for name, each in over.items())
        + f"; RigL less SET {read.listed(between)}. Judged at {read.percent(read.SPARSE)} and "
        "below: both above static, and RigL not below SET",
    )


def _operations(rows):
    """Two numbers that are exact: what training costs, and what ERK costs at inference."""
    free = select(rows, kind="trained", zeros="unstructured")
    at = min((row["density"] for row in free), default=1.0)
    training = {row["method"]: row["training_operations"] for row in select(free, density=at)}
    ratios = {}
    for row in select(rows, kind="budget", budget="ERK"):
        place = {"network": row["network"], "density": row["density"]}
        (uniform,) = select(rows, kind="budget", budget="uniform", **place)
        ratios[row["network"], row["density"]] = (
            row["inference_operations"] / uniform["inference_operations"]
        )
    outcome: Outcome = "inconclusive"
    ours = "not measured"
    if len(training) > 1 and ratios:
        cheap, dear = (
            min(training, key=training.__getitem__),
            max(training, key=training.__getitem__),
        )
        span = training[dear] / training[cheap]
        (name, density), most = max(ratios.items(), key=lambda item: abs(np.log(item[1])))
        is_apart = span > APART and max(most, 1 / most) > APART
        outcome = "reproduced" if is_apart else "not reproduced"
        ours = (
            f"training: {dear} {span:.0f} times {cheap} ({read.percent(at)}); inference: ERK "
            f"{most:.2f} times uniform ({name}, {read.percent(density)})"
        )
    costs = ", ".join(
        f"{name} {training[name]:.3g}" for name in sorted(training, key=training.__getitem__)
    )
    budgets = ", ".join(f"{n} {ratio:.2f} at {read.percent(d)}" for (n, d), ratio in ratios.items())
    return Claim(
        "equal parameters are not equal operations",
        outcome,
        "not equal",
        ours,
        f"counts, without error. Training over that of the dense network: {costs}. Inference with "
        f"an ERK budget over a uniform one: {budgets}; an MLP uses each weight once, and there "
        "equal parameters are equal operations",
    )


def _small_dense(rows):
    """Judged by random pruning, which it should beat; who beats it is told in the evidence."""
    sparse = [name for name, place in PLACES.items() if place.mask != "none"]
    found = {name: read.gains(rows, name, "small dense") for name in sparse}
    at = min(read.densities(rows, "small dense"), default=1.0)
    signs = {name: sign(each[at]) for name, each in found.items() if at in each}
    above = [name for name in signs if signs[name] > 0]
    below = [name for name in signs if signs[name] < 0]
    behind = [read.negative(read.sparse(found[name])) for name in ("random uniform", "random ERK")]
    quoted = [f"{name} {read.listed(each)}" for name, each in found.items() if each]
    ours = f"{len(above)} of {len(signs)} methods beat it at {read.percent(at)}, {len(below)} lose"
    return Claim(
        "a small dense network is the baseline to beat, and random pruning does not",
        judged(read.signs(behind)),
        "random below small dense",
        ours if signs else "not measured",
        f"at {read.percent(at)} above it: {', '.join(above) or 'none'}; below: "
        f"{', '.join(below) or 'none'}. Judged for random pruning at {read.percent(read.SPARSE)} "
        f"and below. Points of accuracy less small dense: {'; '.join(quoted) or 'not measured'}",
    )


def _collapse(rows):
    """Empty layers far below the densities that are trained."""
    found: dict[str, dict] = {}
    for row in select(rows, kind="collapse"):
        empty = np.array(row["empty_layers"], float)
        found.setdefault(row["method"], {})[row["density"]] = empty
    first = {
        name: max((at for at in each if np.mean(each[at] > 0) > 0.5), default=None)
        for name, each in found.items()
    }
    ours = [f"{name} {f'from {read.percent(at)}' if at else 'never'}" for name, at in first.items()]
    outcome: Outcome = "inconclusive"
    if first.get("SNIP") and first["SNIP"] in found.get("SynFlow", {}):
        is_safe = not any(empty.any() for empty in found["SynFlow"].values())
        outcome = "reproduced" if is_safe else "not reproduced"
    quoted = []
    for name, each in found.items():
        counts = [f"{number(*mean_and_error(each[at]))} at {read.percent(at)}" for at in each]
        quoted.append(f"{name} {', '.join(counts)}")
    return Claim(
        "a score taken once and ranked globally empties layers; taken in rounds it need not",
        outcome,
        "SNIP does, SynFlow never",
        ", ".join(ours) or "not measured",
        f"layers without a weight, of untrained networks: {'; '.join(quoted)}. 'From': the largest "
        "density at which more than half of the seeds lose one; reproduced if SynFlow loses none",
    )


def _sanity(rows):
    """At one density, scores are to pass and the ticket to lose more: at 1% all may lose."""
    ticket = read.changes(rows, "LTR", "shuffled")
    scores = {name: read.changes(rows, name, "shuffled") for name in ("SNIP", "GraSP")}
    passes = [read.shifted(each, NEGLIGIBLE) for each in scores.values()]
    more = [{at: each[at] - ticket[at] for at in each if at in ticket} for each in scores.values()]
    signs = read.signs([*passes, *more]) if all(passes) and all(more) else []
    quoted = []
    for method in PLACES:
        for check in CHECKS:
            found = read.changes(rows, method, check)
            quoted += [f"{method} {check} {read.listed(found)}"] if found else []
    return Claim(
        "shuffling within layers hardly hurts SNIP and GraSP where it hurts a ticket",
        judged(signs),
        "scores pass, LTR fails",
        f"SNIP {read.listed(scores['SNIP'])}; LTR {read.listed(ticket)}",
        "points of accuracy less the method itself. Judged at each density: SNIP and GraSP lose at "
        f"most {100 * NEGLIGIBLE:g}, and less than LTR, beyond the error. {'; '.join(quoted)}",
    )


def _exploration(rows):
    """The slope of accuracy on R_s over how boldly SET moves, for each seed by itself."""
    slopes, quoted = {}, []
    found = select(rows, kind="exploration")
    for at in sorted({row["density"] for row in found})[::-1]:
        here = sorted(select(found, density=at), key=lambda row: row["fraction"])
        explored = np.array([row["explored"] for row in here])
        right = np.array([row["accuracies"] for row in here])
        slopes[at] = np.array([_slope(*seed) for seed in zip(explored.T, right.T, strict=True)])
        steps = ", ".join(
            f"{read.points(r, '')} at R_s {e.mean():.2f}"
            for e, r in zip(explored, right, strict=True)
        )
        quoted.append(f"{read.percent(at)}: {steps}")
    tenth = {at: 0.1 * values for at, values in slopes.items()}
    return Claim(
        "the share of weights explored during training explains what moving masks gain",
        judged(read.signs([slopes])),
        "accuracy rises with R_s",
        read.lowest(tenth, "for each 0.1 of R_s,"),
        "percent right with SET, by the share of weights that it moves at a time, from none "
        f"(static) on, and so by the share R_s ever active. {'; '.join(quoted) or 'Not measured'}",
    )


def _slope(x, y):
    """Of least squares; NaN where x does not vary."""
    spread = x - x.mean()
    square = spread @ spread
    return spread @ y / square if square > 0 else np.nan


def _rewinding(rows):
    found = read.gains(rows, "LTR", "IMP")
    return Claim(
        "a ticket needs a rewind point later than initialisation",
        judged(read.signs([read.sparse(found)])),
        "LTR above IMP",
        read.lowest(found, "LTR less IMP"),
        f"points of accuracy, LTR less IMP to initialisation: {read.listed(found)}. Judged at "
        f"{read.percent(read.SPARSE)} and below",
    )


def _order(rows):
    found = {
        f"{first} less {then}": read.gains(rows, first, then)
        for first, then in itertools.pairwise(ORDER)
    }
    judged_at = [read.sparse(each) for each in found.values()]
    signs = read.signs(judged_at) if all(judged_at) else []
    return Claim(
        f"masks that stay, at {read.percent(read.SPARSE)} and below: {' > '.join(ORDER)}",
        judged(signs),
        " > ".join(ORDER),
        "; ".join(read.lowest(each, name) for name, each in found.items()),
        "points of accuracy: "
        + "; ".join(f"{name} {read.listed(each)}" for name, each in found.items())
        + f". Judged at {read.percent(read.SPARSE)} and below",
    )


def _published(rows):
    """Of the methods and densities that the table has; three errors, and a point for theirs."""
    theirs, ours, misses, loosest = [], [], [], 0.0
    for density, table in PUBLISHED.items():
        for method in [name for name in table if density in read.densities(rows, name)]:
            values = read.accuracies(rows, method, density)
            mean, error = mean_and_error(100 * values)
            name = f"{method} at {read.percent(density)}"
            theirs.append(f"{name} {table[method]:.1f}")
            ours.append(f"{name} {read.points(values, '')}")
            misses += [name] if abs(mean - table[method]) >= 3 * np.hypot(error, 1) else []
            loosest = np.maximum(loosest, error)
    outcome: Outcome = "departs" if misses else "inconclusive"
    if theirs and not misses and loosest < 2:  # points; with more, all is near
        outcome = "reproduced"
    return Claim(
        "accuracies of ResNet-20 on CIFAR-10, percent",
        outcome,
        ", ".join(theirs) or "not at these densities",
        ", ".join(ours) or "not measured",
        "theirs with running statistics of batches and another schedule; beyond three standard "
        f"errors, with a point for theirs: {', '.join(misses) or 'none'}",
    )
