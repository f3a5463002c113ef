"""Which examples, and in which order: a member of an ensemble learns from rows of shared arrays.

Draws are traceable functions of a key. Lists that depend on the data are made once, in NumPy:
`Int[members longest]`, one row a member, padded with -1, as `training.fit.epochs` takes them.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Bool, Int, Key, Num

from ntkens.checks import check_finite


def permutation(key: Key[Array, ""], epoch: int | Array, count: int) -> Int[Array, " count"]:
    """The order in which an epoch visits `count` examples.

    It depends on the key and the epoch alone: a run that continues visits what it would have.
    """
    return jax.random.permutation(jax.random.fold_in(key, epoch), count)


def bootstrap(key: Key[Array, ""], count: int) -> Int[Array, " count"]:
    """As many of `count` examples as there are, drawn at random with replacement."""
    return jax.random.randint(key, (count,), 0, count)


def partition(
    inputs: Num[np.ndarray, "n *shape"], parts: int, *, levels: int = 255
) -> Int[np.ndarray, " n"]:
    """The part each example belongs to, by its content alone: the sum of its pixels mod `parts`.

    The hash of deep partition aggregation (arXiv:2006.14768): inserting or removing an example
    touches one part, and leaves the others as they are, in whatever order the examples come.

    Args:
        inputs: integers, such as pixels of 8 bits; or floats in steps of 1 / levels.
        parts: how many.
        levels: whole numbers to a unit of floating inputs: 255 for pixels of 8 bits in [0, 1],
            16 for `offline.digits`. Integers are summed as they are.

    Raises:
        ValueError: no parts, or more than examples; floats that are not multiples of 1 / levels.
        TypeError: inputs are neither integers nor floats.
    """
    inputs = np.asarray(inputs)
    if not 0 < parts <= len(inputs):
        raise ValueError(f"parts: got {parts}; wants 1 to {len(inputs)}, the number of examples")
    if levels < 1:
        raise ValueError(f"levels: got {levels}; wants 255 for 8 bits, or what inputs have")
    rows = _whole(inputs, levels).reshape(len(inputs), -1)
    sums = rows.sum(axis=1, dtype=np.int64 if rows.dtype.kind in "iu" else np.float64)  # exact
    return (sums % parts).astype(np.int32)


def content_order(
    inputs: Num[np.ndarray, "n *shape"], labels: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """The examples sorted by what they are: by the bytes of the inputs, then by the label.

    Non-negative inputs come in lexicographic order. A network trained on examples in this order is
    the same whatever order they were given in; of identical examples it does not matter which.
    """
    inputs, labels = np.asarray(inputs), np.asarray(labels)
    if len(inputs) != len(labels):
        raise ValueError(f"labels: got {len(labels)}; wants one for each of {len(inputs)} inputs")
    rows = inputs.reshape(len(inputs), -1) + 0  # of the two zeros the positive one
    # Bytes, the largest first, as one string a row: one sort instead of one for every pixel.
    rows = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder(">")))
    strings = rows.view(f"S{rows.dtype.itemsize * rows.shape[1]}")[:, 0]
    return np.lexsort((labels, strings)).astype(np.int32)


def parts(
    assignment: Int[np.ndarray, " n"],
    parts: int,
    *,
    order: Int[np.ndarray, " n"] | None = None,
    allow_empty: bool = False,
) -> Int[np.ndarray, "parts longest"]:
    """The examples of each part of a disjoint partition, as `indices` lists them.

    Args:
        assignment: the part of each example, 0 to parts - 1, as `partition` returns it.
        parts: how many there are.
        order: as of `indices`.
        allow_empty: as of `indices`.

    Raises:
        ValueError: an assignment out of range, more parts than examples, or an empty part.
    """
    assignment = np.asarray(assignment)
    _check_labels("assignment", assignment, parts)
    if parts > len(assignment) and not allow_empty:
        raise ValueError(f"parts: got {parts} for {len(assignment)} examples; wants no more")
    return indices(assignment == np.arange(parts)[:, None], order=order, allow_empty=allow_empty)


def tasks(
    labels: Int[np.ndarray, " n"], classes: Sequence[Sequence[int]]
) -> Int[np.ndarray, "tasks longest"]:
    """The examples of each task of a class-incremental sequence, as `indices` lists them.

    Args:
        labels: of the examples, 0, 1, ...
        classes: of each task, in the order of learning: ((0, 1), (2, 3), ...). Examples of classes
            that no task names are left out.

    Raises:
        ValueError: negative labels, a class in two tasks, or a task without examples.
    """
    labels = np.asarray(labels)
    _check_labels("labels", labels)
    named = [label for task in classes for label in task]
    twice = sorted({label for label in named if named.count(label) > 1})
    if twice:
        raise ValueError(f"classes: got {twice} more than once; wants a class in one task")
    if not len(classes):
        raise ValueError("classes: got no tasks; wants one at least")
    return indices(np.stack([np.isin(labels, list(task)) for task in classes]))


def indices(
    membership: Bool[np.ndarray, "members n"],
    *,
    order: Int[np.ndarray, " n"] | None = None,
    allow_empty: bool = False,
) -> Int[np.ndarray, "members longest"]:
    """The examples of each member as indices, padded with -1 to the longest row.

    Args:
        membership: whether a member learns from an example; members may share examples, as the
            learners `spread[:, buckets]` of finite aggregation do.
        order: in which a row lists its examples, a permutation of all; None: as they are given.
        allow_empty: whether a member may have no example; its row is all -1.

    Raises:
        ValueError: members without examples, which are named; order is no permutation.
        TypeError: membership is not a matrix of booleans.
    """
    membership = np.asarray(membership)
    if membership.dtype != bool or membership.ndim != 2:
        raise TypeError(
            f"membership: got {membership.dtype} of shape {membership.shape}; wants booleans, "
            "[members, examples]"
        )
    members, count = membership.shape
    order = np.arange(count) if order is None else np.asarray(order)
    if not np.array_equal(np.sort(order), np.arange(count)):
        raise ValueError(f"order: wants a permutation of the {count} examples")
    sizes = membership.sum(axis=1)
    empty = np.flatnonzero(sizes == 0)
    if len(empty) and not allow_empty:
        raise ValueError(
            f"membership: {len(empty)} of {members} have no example, the first of them "
            f"{empty[:5].tolist()}; make fewer, or say allow_empty=True"
        )
    listed = np.full((members, sizes.max(initial=0)), -1, np.int32)
    for row, chosen, size in zip(listed, membership, sizes, strict=True):
        row[:size] = order[chosen[order]]
    return listed


def _whole(inputs, levels):
    """The inputs as the whole numbers they stand for, in their own dtype."""
    if np.issubdtype(inputs.dtype, np.integer):
        return inputs
    if not np.issubdtype(inputs.dtype, np.floating):
        raise TypeError(f"inputs: got {inputs.dtype}; wants integers or floats")
    check_finite("inputs", inputs)
    scaled = inputs * inputs.dtype.type(levels)
    whole = np.rint(scaled)
    # (k / levels) * levels, or k times a rounded 1 / levels, is within 2 epsilon of k.
    furthest = np.abs(scaled - whole).max(initial=0)
    if furthest > 2 * np.finfo(inputs.dtype).eps * np.abs(whole).max(initial=1):
        raise ValueError(
            f"inputs: got floats up to {furthest:.3g} away from multiples of 1 / {levels}; state "
            "their levels (offline.digits has 16), or give integers"
        )
    return whole


def _check_labels(name, labels, classes=None):
    """Raises unless these are integers, 0 to classes - 1 where their number is known."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{name}: got {labels.dtype}; wants integers")
    low, high = labels.min(initial=0), labels.max(initial=0)
    if low < 0 or (classes is not None and high >= classes):
        wanted = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise ValueError(f"{name}: got values of {low} to {high}; wants {wanted}")
