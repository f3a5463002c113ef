"""Pytrees with a leading members axis: what an ensemble is here."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float


def size(stacked: Any) -> int:
    """The length of the leading axis that all leaves share: the number of members.

    Raises:
        ValueError: no leaves, a leaf without axes, or leading axes that differ.
    """
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(stacked)}
    if len(lengths) != 1 or () in lengths:
        shapes = jax.tree.map(jnp.shape, stacked)
        raise ValueError(
            f"stacked: got leaves of shapes {shapes}; every leaf has the members as its first "
            "axis, of one length"
        )
    return lengths.pop()[0]


def stack(trees: Sequence[Any]) -> Any:
    """Trees of one structure as one, each leaf with a new leading members axis.

    Raises:
        ValueError: no trees, or trees of different structure or shapes.
    """
    if not trees:
        raise ValueError("trees: got none; a stack has at least one member")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(stacked: Any) -> list[Any]:
    """The members as separate trees; undoes `stack`."""
    return [index(stacked, member) for member in range(size(stacked))]


def index(stacked: Any, member: Any) -> Any:
    """One member (an integer), or several (a slice, or an array of indices), of a stacked tree."""
    return jax.tree.map(lambda leaf: leaf[member], stacked)


def in_chunks(stacked: Any, chunk: int) -> Any:
    """Each leaf as [chunks, chunk or less, ...], of equal chunks; filled up with zeros."""
    count = -(-size(stacked) // chunk)
    each = -(-size(stacked) // count)

    def split(leaf):
        padding = [(0, count * each - len(leaf))] + [(0, 0)] * (leaf.ndim - 1)
        return jnp.pad(leaf, padding).reshape(count, each, *leaf.shape[1:])

    return jax.tree.map(split, stacked)


def ravel(stacked: Any) -> Float[Array, "members params"]:
    """Every member's leaves as one vector, in the order of `jax.flatten_util.ravel_pytree`."""
    return jax.vmap(lambda member: ravel_pytree(member)[0])(stacked)


def norms(stacked: Any) -> Float[Array, " members"]:
    """Every member's Euclidean norm, over all its leaves."""
    return jnp.linalg.norm(ravel(stacked), axis=1)
