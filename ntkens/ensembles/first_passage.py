"""The protocol of growing an ensemble until it is good enough, from draws of single networks."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkens.checks import is_concrete


def first_passage(
    network: Callable[[Int[Array, ""]], Float[Array, "inputs outputs"]],
    bits: Int[ArrayLike, "inputs outputs"],
    counts: Int[ArrayLike, " inputs"],
    accuracies: Float[ArrayLike, " accuracies"],
    most: int,
) -> Int[Array, " accuracies"]:
    """Size at which the mean of a growing ensemble first reaches each test accuracy.

    Networks are added one at a time; the prediction of a bit is 1 iff the mean is > 0, and an input
    counts as right if all its bits are. The first passage comes earlier than the fixed size that is
    right with that probability, since it stops at the first lucky moment. One run; vmap for many.

    Args:
        network: outputs of network i = 0, 1, ... at all inputs: drawn with `fold_in(key, i)`, or
            looked up among trained ones.
        bits: what is right, 0 or 1.
        counts: how often each input is in the test set.
        accuracies: shares of the test set to be reached, in (0, 1].
        most: networks at which to give up.

    Returns:
        Sizes, and -1 where `most` networks did not reach the accuracy.

    Raises:
        ValueError: most < 1, an accuracy outside (0, 1], shapes that do not fit, a negative count,
            or an empty test set.
    """
    if most < 1:
        raise ValueError(f"most: got {most}; an ensemble has at least 1 network")
    accuracies, counts, ones = jnp.asarray(accuracies), jnp.asarray(counts), jnp.asarray(bits) > 0
    if is_concrete(accuracies) and not np.all((accuracies > 0) & (accuracies <= 1)):
        raise ValueError(f"accuracies: got {accuracies}; each is a share above 0, at most 1")
    shape = jax.eval_shape(network, jnp.asarray(0))
    if ones.ndim != 2 or ones.shape != shape.shape or counts.shape != ones.shape[:1]:
        raise ValueError(
            f"bits: got shape {ones.shape}, counts {counts.shape}, outputs of network "
            f"{shape.shape}; want [inputs, outputs], [inputs] and [inputs, outputs]"
        )
    if is_concrete(counts) and np.any(np.asarray(counts) < 0):
        raise ValueError(f"counts: got {counts}; a multiplicity is at least 0")
    if is_concrete(counts) and not np.any(np.asarray(counts) > 0):
        raise ValueError("counts: the test set is empty")
    tests = counts.sum()
    wanted = jnp.ceil(accuracies * tests * (1 - 1e-12)).astype(counts.dtype)  # 0.9 * 1000 is 900

    def grow(state):
        members, total, passed = state
        total = total + network(members)
        right = jnp.all((total > 0) == ones, axis=1)
        reached = jnp.sum(jnp.where(right, counts, 0)) >= wanted
        return members + 1, total, jnp.where((passed < 0) & reached, members + 1, passed)

    def unfinished(state):
        members, _, passed = state
        return (members < most) & jnp.any(passed < 0)

    start = (jnp.asarray(0), jnp.zeros(shape.shape, shape.dtype), jnp.full(wanted.shape, -1))
    return jax.lax.while_loop(unfinished, grow, start)[2]
