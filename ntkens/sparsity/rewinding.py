"""Magnitude pruning with rewinding: train, prune the smallest, go back, and train again.

    levels = rewinding.levels(masks.weights(params), densities=(0.05, 0.01))
    tickets = rewinding.path(train, params, levels)        # mask and params, densities first

Iterative magnitude pruning goes back to initialisation (IMP, Frankle & Carbin, arXiv:1803.03635);
learning-rate and weight rewinding go back to an early step (LTR, Frankle et al., arXiv:1912.05671,
whose "lottery ticket rewinding" this is). They differ in `params`, the point that is gone back to,
and in what remains to be trained from there, which is the business of `train`.

One path serves all densities: 0.8^n, with every density that is wanted put in between. A path is
of one seed and traceable, so `members.map` or `jax.vmap` walks those of all seeds.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkens import tree
from ntkens.sparsity import budgets, masks, pruning
from ntkens.sparsity.masks import Mask, Weights


class Levels(NamedTuple):
    """Where a path stops to train.

    Attributes:
        kept: numbers of weights, from all of them strictly downwards.
        wanted: the places in `kept` of the densities that were asked for, in their order.
    """

    kept: tuple[int, ...]
    wanted: tuple[int, ...]


class Tickets(NamedTuple):
    """What a path leaves at each wanted density, which is the first axis of every array.

    Attributes:
        mask: what was kept.
        params: trained under the mask from the rewind point.
    """

    mask: Mask
    params: Any


def levels(
    weights: Weights, densities: Sequence[budgets.Density], *, rate: budgets.Density = 0.2
) -> Levels:
    """floor((1 - rate)^n x weights) for n = 0, 1, ..., and floor(density x weights) between them.

    Args:
        weights: or their shapes.
        densities: wanted, each above 0 and at most 1; 1 is the dense network itself.
        rate: share of the remaining weights that goes at each level, above 0 and below 1.

    Raises:
        ValueError: no densities; one out of range, or so low that no weight is left; a rate out of
            range.
    """
    if not len(densities):
        raise ValueError("densities: got none; a path ends at the lowest that is wanted")
    remaining = 1 - budgets.checked_density(rate)
    if not remaining:
        raise ValueError(f"rate: got {rate}; a level keeps some weights, so it is below 1")
    total = masks.total(weights)
    wanted = [budgets.kept(weights, density) for density in densities]
    steps = math.ceil(math.log(min(wanted) / total) / math.log(remaining)) + 1
    regular = {math.floor(remaining**step * total) for step in range(steps + 1)}
    counts = sorted({count for count in regular if count > min(wanted)} | {total, *wanted})[::-1]
    return Levels(tuple(counts), tuple(counts.index(count) for count in wanted))


def path(train: Callable[[Any, Mask], Any], params: Any, levels: Levels) -> Tickets:
    """Train from the rewind point at every level, each pruned by the magnitudes of the last.

    At level n the weights of largest |w| after level n - 1 are kept, whatever their layer, of those
    kept then; ties are those of `masks.top`. All params, biases too, go back to the rewind point.
    Levels are one loop: `train` is compiled once, and the results of all levels are in memory until
    the wanted ones are taken.

    Args:
        train: `(params, mask) -> params` from the rewind point to the end, under the mask (as with
            `masks.frozen`); traceable. It gets params that are zero where the mask is False.
        params: the rewind point: as initialised for IMP, after some steps for LTR.
        levels: from `levels`.

    Returns:
        Mask and trained params at each wanted density. Of training that ended in NaN the masks of
        all later levels are empty.

    Raises:
        ValueError: levels that do not start with all weights and go down strictly, to 1 or more;
            places that are not levels.
    """
    weights = masks.weights(params)
    _check_levels(levels, masks.total(weights))

    def one_level(last, count):
        mask, magnitudes = last
        mask = masks.top_within(mask, magnitudes, count)
        trained = train(masks.apply(params, mask), mask)
        return (mask, pruning.magnitude(masks.weights(trained))), Tickets(mask, trained)

    everything = {name: jnp.ones(layer.shape, bool) for name, layer in weights.items()}
    start = (everything, pruning.magnitude(weights))
    _, tickets = jax.lax.scan(one_level, start, jnp.array(levels.kept))
    return tree.index(tickets, np.array(levels.wanted))


def _check_levels(levels, total):
    down = all(before > after for before, after in zip(levels.kept, levels.kept[1:], strict=False))
    if not levels.kept or levels.kept[0] != total or levels.kept[-1] < 1 or not down:
        raise ValueError(
            f"levels: keeps {levels.kept}; from all {total} weights it goes down strictly, to 1 or "
            "more"
        )
    if not levels.wanted or not all(0 <= place < len(levels.kept) for place in levels.wanted):
        raise ValueError(
            f"levels: wants places {levels.wanted}; one or more, from 0 to {len(levels.kept) - 1}"
        )
