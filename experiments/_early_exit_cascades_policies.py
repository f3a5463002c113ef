"""Policies of `early_exit_cascades`, and what each is worth on each task: functions of logits.

A task has an operating point on validation, around which its window lies, and a number on test:

    risk@80, risk@50    selective risk at a coverage          point: that coverage
    cov@5, cov@10       coverage at a selective risk          point: that risk
    FPR@80, FPR@95      of unknown classes, at a rate of true positives      point: that coverage
    SCOD risk@80        known and unknown 1:1, a mistake is an error or an unknown; the threshold at
                        a coverage of the known               point: that coverage
    AURC, AUROC, error  no operating point: those of coverage 0.8
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from experiments._early_exit_cascades_networks import Logits
from ntkens import tree
from ntkens.ensembles import cascades, confidence
from ntkens.measures import ranked, ranking, selective

POLICIES = ("single", "single threshold", "window", "adaptive window", "ensemble")
WIDTH = 0.1  # the paper's: ten percentiles to each side
SWEEP = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)


class Kind(NamedTuple):
    """A score, and whether it is of the mean softmax or the mean of the members'."""

    score: Callable[[Array], Array]
    of_mean: bool = False


SCORES = {
    "MSP": Kind(confidence.max_softmax_less_one),
    "MSP of mean": Kind(confidence.max_softmax_less_one, True),
    "entropy": Kind(confidence.negative_entropy),
    "max logit": Kind(confidence.max_logit),
    "energy": Kind(confidence.negative_energy),
}
MAIN = "MSP"


class Task(NamedTuple):
    """What is asked of a cascade.

    Attributes:
        point: the number of its operating point.
        has_unknown: whether examples of unknown classes are among those that arrive.
        better: 1 if larger is better, -1 if smaller.
    """

    point: int
    has_unknown: bool
    better: int


COVERAGES, RISKS = (0.5, 0.8, 0.95), (0.05, 0.10)  # in this order the operating points 0 to 4
TASKS = {
    "risk@50": Task(0, False, -1),
    "risk@80": Task(1, False, -1),
    "cov@5": Task(3, False, 1),
    "cov@10": Task(4, False, 1),
    "FPR@80": Task(1, True, -1),
    "FPR@95": Task(2, True, -1),
    "SCOD risk@80": Task(1, True, -1),
    "AURC": Task(1, False, -1),
    "AUROC": Task(1, True, 1),
    "error": Task(1, False, -1),
}


class Result(NamedTuple):
    """Of one cascade, or of several along a leading axis.

    Attributes:
        value: of the task.
        macs: multiply-accumulates an example, of those of one member.
        share: of the examples that arrive, those that go on to the second member.
    """

    value: Float[Array, ""]
    macs: Float[Array, ""]
    share: Float[Array, ""]


def evaluate(logits: Logits, kinds: Sequence[str]) -> dict[str, Result]:
    """Every policy on every task: results [kinds policies] by task, of one seed in one order.

    A single network has one policy, the first.
    """
    return jax.vmap(_of_kind)(tree.stack([_prepare(logits, SCORES[kind]) for kind in kinds]))


def _of_kind(prepared):
    """Results [policies] by task. Cascades first, [points policies ...]; then what is asked."""
    known, unknown = (_run(stages, _windows(prepared)) for stages in prepared.arriving)
    labels, mixed = prepared.labels, prepared.mixed
    # Of whole outputs this is the same, and they need not be held.
    wrong = _over_both(lambda exits: prepared.wrong[exits, jnp.arange(len(labels))])(known.exits)
    scores = jnp.concatenate([known.scores, unknown.scores], axis=-1)
    is_known = jnp.arange(scores.shape[-1]) < len(labels)
    accepted = _over_both(ranked.rank)(known.scores)  # sorted once, for all measures
    detected = _over_both(ranked.rank)(scores[1:3])  # of the coverages 0.8 and 0.95

    def selected(measure, points, *numbers):
        """[points policies] of a measure of scores and costs, with a number for each point."""
        asked = (tree.index(accepted, points), wrong[points], *numbers)
        return jax.vmap(jax.vmap(measure, (0, 0, *(None for _ in numbers))))(*asked)

    def covered(scores, wrong, risk):
        return selective.coverage_at_risk(scores, wrong, risk, first(len(labels)))

    risk = selected(selective.risk_at_coverage, slice(0, 2), jnp.array(COVERAGES[:2]))
    coverage = selected(covered, slice(3, 5), jnp.array(RISKS))
    false = jax.vmap(jax.vmap(ranking.fpr_at_tpr, (0, None, None)), (0, None, 0))(
        detected, is_known, jnp.array(COVERAGES[1:])
    )
    values = {
        "risk@50": risk[0],
        "risk@80": risk[1],
        "cov@5": coverage[0],
        "cov@10": coverage[1],
        "FPR@80": false[0],
        "FPR@95": false[1],
        "SCOD risk@80": jax.vmap(_selected)(
            known.scores[1, :, :mixed], wrong[1, :, :mixed], unknown.scores[1, :, :mixed]
        ),
        "AURC": selected(selective.aurc, slice(1, 2))[0],
        "AUROC": jax.vmap(ranking.auroc, (0, None))(tree.index(detected, 0), is_known),
        "error": jnp.sum(wrong[1], axis=-1) / len(labels),
    }
    mix = jnp.concatenate([known.exits[..., :mixed], unknown.exits[..., :mixed]], axis=-1)
    macs = jnp.ones(len(prepared.validation.scores))
    costs = [
        _over_both(lambda exits: cascades.average_macs(exits, macs))(exits)
        for exits in (known.exits, mix)
    ]
    shares = [jnp.sum(exits > 0, axis=-1) / exits.shape[-1] for exits in (known.exits, mix)]
    return {
        name: Result(
            values[name], *(part[task.has_unknown][task.point] for part in (costs, shares))
        )
        for name, task in TASKS.items()
    }


def _run(stages, windows):
    """Outputs [points policies ...]; of one network, the same for every point."""
    if not windows:
        alone = cascades.run(stages, [])
        shape = (len(COVERAGES) + len(RISKS), 1)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*shape, *leaf.shape)), alone)
    return _over_both(lambda windows: cascades.run(stages, windows))(windows)


def _over_both(function):
    """Of every point and policy."""
    return jax.vmap(jax.vmap(function))


def _selected(scores, wrong, others):
    """The share of mistakes among the accepted, at the coverage 0.8 of the known examples."""
    threshold = cascades.threshold_at_coverage(scores, 0.8)
    accepted, unknown = scores >= threshold, others >= threshold
    mistakes = jnp.sum(wrong & accepted) + jnp.sum(unknown)
    return mistakes / (jnp.sum(accepted) + jnp.sum(unknown))


def sweep(logits: Logits) -> Result:
    """Risk@80 of a pair by the main score: of windows, [0], and of single thresholds, [1], [2 n].

    They let through the shares of examples that windows of `SWEEP` hold.
    """
    prepared = _prepare(logits, SCORES[MAIN])
    scores = prepared.validation.scores[0]
    threshold = cascades.threshold_at_coverage(scores, 0.8)

    def at(width):
        window = cascades.around(scores, threshold, width)
        return tree.stack([window, cascades.lowest(scores, _share(window, scores))])

    def result(window):
        outputs = cascades.run(prepared.arriving[0], [window])
        wrong = prepared.wrong[outputs.exits, jnp.arange(len(prepared.labels))]
        value = selective.risk_at_coverage(outputs.scores, wrong, 0.8)
        share = jnp.sum(outputs.exits) / len(wrong)
        return Result(value, 1 + share, share)

    windows = jax.vmap(at, out_axes=1)(jnp.array(SWEEP))
    return jax.vmap(jax.vmap(result))(windows)


class _Prepared(NamedTuple):
    validation: cascades.Stages
    validation_wrong: Array  # [stages n]
    arriving: tuple[cascades.Stages, ...]  # of known classes, and of others
    labels: Array  # of the known ones that arrive
    wrong: Array  # [stages n], whether these are

    @property
    def mixed(self):
        """So many of the known, and as many of the others, are the mix 1:1."""
        return min(stages.scores.shape[-1] for stages in self.arriving)


def _prepare(logits, kind):
    validation, *arriving = (
        cascades.stages(of, kind.score, of_mean=kind.of_mean)
        for of in (logits.validation, logits.test, logits.shifted)
    )
    wrong, known_wrong = (
        jnp.argmax(stages.probabilities, axis=-1) != labels[None]
        for stages, labels in (
            (validation, logits.validation_labels),
            (arriving[0], logits.test_labels),
        )
    )
    return _Prepared(validation, wrong, tuple(arriving), logits.test_labels, known_wrong)


def _windows(prepared):
    """One a stage but the last, [points policies]; of test scores, the adaptive see any, alone."""
    found = []
    for stage, scores in enumerate(prepared.validation.scores[:-1]):
        wrong = prepared.validation_wrong[stage]
        mix = jnp.concatenate([each.scores[stage, : prepared.mixed] for each in prepared.arriving])

        def at_risk(risk, scores=scores, wrong=wrong):
            return cascades.threshold_at_risk(scores, wrong, risk, first=first(len(scores)))

        def around(threshold, scores=scores, mix=mix):
            window = cascades.around(scores, threshold, WIDTH)
            policies = {
                "single": cascades.EMPTY,
                "single threshold": cascades.lowest(scores, _share(window, scores)),
                "window": window,
                "adaptive window": cascades.around(mix, threshold, WIDTH),
                "ensemble": cascades.FULL,
            }
            return tree.stack([policies[name] for name in POLICIES])

        at_coverage = jax.vmap(cascades.threshold_at_coverage, (None, 0))
        thresholds = jnp.concatenate(
            [at_coverage(scores, jnp.array(COVERAGES)), jax.vmap(at_risk)(jnp.array(RISKS))]
        )
        found.append(jax.vmap(around)(thresholds))
    return found


def first(n: int) -> int:
    """Risks of fewer accepted are noise: a fifth of some hundred examples, 500 of many."""
    return min(500, max(1, n // 5))


def _share(window, scores):
    return jnp.sum((window.lower <= scores) & (scores <= window.upper)) / len(scores)
