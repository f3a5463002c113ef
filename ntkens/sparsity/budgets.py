"""How many weights each layer keeps. Every budget keeps exactly floor(density x weights) in all.

Of a layer l of n_l weights, shares of the total, with epsilon such that they sum to it:

    uniform      density n_l
    erdos_renyi  min(n_l, epsilon n_l (inputs + outputs) / (inputs outputs))
    erk          min(n_l, epsilon (inputs + outputs + height + width))

Erdos-Renyi is of Mocanu et al., arXiv:1707.04780, its form for kernels of Evci et al.,
arXiv:1911.11134; the two agree on matrices. A layer whose share exceeds it is dense, and epsilon is
solved for again. Shares are rounded down, and the weights that remain go to the largest remainders,
of equal ones to the first in order; nothing is rounded before.

A density is the decimal it is written as: 0.29 of 100 weights are 29, though the float 0.29 is a
little less. Densities are known before tracing; the counts they give may be traced afterwards.
"""

import fractions
import math
import numbers
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np

from ntkens.checks import is_concrete
from ntkens.sparsity import masks
from ntkens.sparsity.masks import Weights

Density = float | fractions.Fraction


def kept(weights: Weights, density: Density) -> int:
    """floor(density x weights): a global budget, for `masks.top`.

    Args:
        weights: or their shapes, or a mask.
        density: share of weights to keep, above 0 and at most 1.

    Raises:
        ValueError: a density out of range, or so low that no weight is left.
        TypeError: a density that is traced.
    """
    count = math.floor(checked_density(density) * masks.total(weights))
    if count < 1:
        raise ValueError(
            f"density: got {density}, which keeps none of {masks.total(weights)} weights; it is "
            f"at least {1 / masks.total(weights):.2g}"
        )
    return count


def uniform(weights: Weights, density: Density) -> dict[str, int]:
    """The same density in every layer.

    Args:
        weights: or their shapes.
        density: share of weights to keep, above 0 and at most 1.

    Raises:
        ValueError: a density out of range, or one that leaves a layer no weight.
        TypeError: a density that is traced.
    """
    return _by_layer(weights, density, math.prod)


def erdos_renyi(weights: Weights, density: Density) -> dict[str, int]:
    """Densities in proportion to (inputs + outputs) / (inputs outputs), at most 1.

    Args:
        weights: or their shapes.
        density: share of weights to keep, above 0 and at most 1.

    Raises:
        ValueError: a density out of range, or one that leaves a layer no weight.
        TypeError: a density that is traced.
    """
    return _by_layer(weights, density, lambda shape: math.prod(shape[:-2]) * sum(shape[-2:]))


def erk(weights: Weights, density: Density) -> dict[str, int]:
    """Densities in proportion to (inputs + outputs + height + width) / their product, at most 1.

    Args:
        weights: or their shapes.
        density: share of weights to keep, above 0 and at most 1.

    Raises:
        ValueError: a density out of range, or one that leaves a layer no weight.
        TypeError: a density that is traced.
    """
    return _by_layer(weights, density, sum)


def neurons(
    weights: Weights,
    density: Density,
    *,
    chain: Sequence[str],
    transposed: Collection[str] = (),
) -> dict[str, int]:
    """How many neurons (or filters) of each layer to keep, for `masks.neurons`: exact to one.

    The same share of every layer's neurons, the largest with which the weights between them are at
    most floor(density x weights); then single neurons, layer by layer, until no other fits. Layers
    that are not in the chain count in full.

    Args:
        weights: or their shapes.
        density: share of weights to keep, above 0 and at most 1.
        chain: layers in the order in which one feeds the next.
        transposed: layers held as [outputs inputs].

    Raises:
        ValueError: a density out of range, or one that is too low for a neuron in every layer; a
            chain that is none of the weights.
        TypeError: a density that is traced.
    """
    budget = kept(weights, density)
    widths = masks.chain_widths(weights, chain, transposed)

    def total(neurons):
        lost, share_in = 0, fractions.Fraction(1)
        for name in chain:
            share_out = fractions.Fraction(neurons[name], widths[name]) if name in widths else 1
            lost += (1 - share_in * share_out) * math.prod(weights[name].shape)
            share_in = share_out
        return masks.total(weights) - lost

    def of_share(share):
        return {name: max(1, math.floor(share * width)) for name, width in widths.items()}

    shares = {fractions.Fraction(n, w) for w in widths.values() for n in range(1, w + 1)}
    fitting = [share for share in shares if total(of_share(share)) <= budget]
    if not fitting:
        raise ValueError(
            f"density: got {density}, which keeps {budget} weights; one neuron in each of "
            f"{list(widths)} takes {total(dict.fromkeys(widths, 1))}"
        )
    counts = of_share(max(fitting))
    for name, width in widths.items():
        while counts[name] < width and total(counts | {name: counts[name] + 1}) <= budget:
            counts[name] += 1
    return counts


def checked_density(density: Any) -> fractions.Fraction:
    """The density as the decimal it is written as; a `ValueError` unless 0 < density <= 1."""
    is_number = isinstance(density, numbers.Real) and not isinstance(density, bool)
    is_scalar = isinstance(density, jax.Array | np.ndarray) and density.ndim == 0
    if not is_concrete(density) or not (is_number or is_scalar):
        raise TypeError(
            f"density: got {density!r}; it is one number, known before tracing: trace the counts "
            "that budgets make of it"
        )
    if not 0 < float(density) <= 1:
        raise ValueError(
            f"density: got {density}; it is the share of weights to keep, above 0 and at most 1"
        )
    return fractions.Fraction(str(density))


def _by_layer(
    weights: Weights, density: Density, raw: Callable[[tuple[int, ...]], int]
) -> dict[str, int]:
    """Counts in proportion to `raw` of each shape, at most the layer's size; exact in total."""
    budget = kept(weights, density)
    names = sorted(weights)
    sizes = {name: math.prod(weights[name].shape) for name in names}
    parts = {name: raw(tuple(weights[name].shape)) for name in names}
    dense: set[str] = set()
    while True:
        free = [name for name in names if name not in dense]
        left = budget - sum(sizes[name] for name in dense)
        epsilon = fractions.Fraction(left, sum(parts[name] for name in free)) if free else 0
        over = {name for name in free if epsilon * parts[name] > sizes[name]}
        if not over:
            break
        dense |= over
    shares = {name: sizes[name] if name in dense else epsilon * parts[name] for name in names}
    counts = {name: math.floor(share) for name, share in shares.items()}
    # `sorted` is stable: of equal remainders the first in order.
    by_remainder = sorted(names, key=lambda name: counts[name] - shares[name])
    for name in by_remainder[: budget - sum(counts.values())]:
        counts[name] += 1
    empty = [name for name in names if not counts[name]]
    if empty:
        raise ValueError(
            f"density: got {density}, which leaves no weight in {empty}: a share of "
            f"{float(shares[empty[0]]):.2g} weights in {empty[0]!r}; take a higher density, or a "
            "global budget if a layer may be lost"
        )
    return counts
