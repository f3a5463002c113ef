"""The smallest distance between two classes: exact, of a sample, or by extreme values.

    class_separation.margins(images, labels).min()                 # exact: all pairs, in blocks
    class_separation.sampled(key, images, labels, 1000)            # of 1000 examples: too large
    class_separation.extrapolated(key, images, labels).separation  # from 4 million pairs

It is the delta of arXiv:2305.01034: the finest detail that a classifier must resolve.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from ntkens.checks import is_concrete
from ntkens.measures import nearest
from ntkens.measures.checks import check_at_least_one

CHUNK = 4096  # pairs measured at a time
REPLICATES = 200  # of the bootstrap: its standard error is then right to 5%


class Extrapolated(NamedTuple):
    """The smallest distance between classes, estimated from the smallest distances of a sample.

    Attributes:
        separation: delta, at most `smallest`; 0 where `smallest` is.
        log_error: standard error of ln delta, by a bootstrap of the pairs; 0 where `smallest` is.
        index: gamma, the extreme value index of the inverse distances: below 0 where the classes
            are apart, 1 / m where they overlap in m dimensions; NaN where `smallest` is 0.
        smallest: distance found.
    """

    separation: float
    log_error: float
    index: float
    smallest: float


def margins(
    points: Float[ArrayLike, "n *shape"], labels: Int[ArrayLike, " n"]
) -> Float[np.ndarray, " n"]:
    """Of each example, the distance to the nearest one of another class; their minimum is delta.

    Compiles itself; see `nearest.distances` for memory and speed.

    Args:
        points: inputs, flattened to rows.
        labels: classes, any integers.

    Raises:
        ValueError: one class alone; another number of labels; NaN or infinities.
        TypeError: inputs that are integers, labels that are not; arguments that JAX traces.
    """
    rows, labels, _ = _checked(points, labels)
    return nearest.distances(rows, labels, 1)[:, 0]


def sampled(
    key: Key[Array, ""],
    points: Float[ArrayLike, "n *shape"],
    labels: Int[ArrayLike, " n"],
    count: int,
) -> float:
    """The smallest distance between classes among `count` examples, drawn without replacement.

    Never below that of all examples. NaN if one class alone was drawn.

    Args:
        key: of the draw.
        points: inputs, flattened to rows.
        labels: classes, any integers.
        count: of examples drawn.

    Raises:
        ValueError, TypeError: as `margins`; a count that is not 1 to n.
    """
    rows, labels, _ = _checked(points, labels)
    check_at_least_one("count", count)
    if count > len(rows):
        raise ValueError(f"count: got {count}; there are {len(rows)} examples")
    chosen = _generator(key).permutation(len(rows))[:count]
    smallest = float(nearest.distances(rows[chosen], labels[chosen], 1).min())
    return smallest if np.isfinite(smallest) else float("nan")


def extrapolated(
    key: Key[Array, ""],
    points: Float[ArrayLike, "n *shape"],
    labels: Int[ArrayLike, " n"],
    *,
    pairs: int = 4_000_000,
    top: int = 2000,
) -> Extrapolated:
    """The smallest distance between classes among all pairs, from a sample of pairs.

    Of the inverse distances X the k largest, relative to the next one, X_k, have the moments
    M_r = mean of ln(X / X_k)^r. With a = P k / N, P pairs in all and N sampled,

        gamma = M_1 + 1 - 1 / (2 (1 - M_1^2 / M_2))
        1 / delta = X_k + X_k M_1 (1 - min(gamma, 0)) (a^gamma - 1) / gamma,

    the moment estimator of Dekkers, Einmahl and de Haan 1989, or the smallest distance drawn where
    that is less. Departs from the authors' `evt_delta` in the factor 1 - min(gamma, 0), which they
    leave out; and in P: they have n^2 (1 - 1 / d), the ordered pairs of classes of one size, and
    here each pair of the classes as they are counts once. Compiles itself.

    Args:
        key: of the pairs and the bootstrap.
        points: inputs, flattened to rows.
        labels: classes, any integers.
        pairs: N, drawn with replacement from those between two classes; at most P.
        top: k, at most a quarter of N.

    Raises:
        ValueError, TypeError: as `margins`; `pairs` above P; `top` above N / 4, or below 10; the k
            smallest distances are all equal.
    """
    rows, labels, counts = _checked(points, labels)
    check_at_least_one("pairs", pairs)
    total = (len(rows) ** 2 - int(np.sum(counts.astype(object) ** 2))) // 2
    if pairs > total:
        raise ValueError(f"pairs: got {pairs}; there are {total}: take margins(...).min()")
    if not 10 <= top <= pairs // 4:
        raise ValueError(f"top: got {top}; want 10 to a quarter of the {pairs} pairs")
    rng = _generator(key)
    order = np.argsort(labels, kind="stable")
    first, second = order[_drawn(rng, counts, pairs)]
    found = np.asarray(_distances(rows, jnp.asarray(first), jnp.asarray(second)), np.float64)
    reach = 4 * top  # a resample has fewer than `top` of so many once in 10^8 times, at `top` = 10
    lowest = np.sort(np.partition(found, reach - 1)[:reach])
    if lowest[0] == 0:
        return Extrapolated(0.0, 0.0, float("nan"), 0.0)
    expected = top * total / pairs  # pairs in all that are beyond the threshold
    log_separation, index = _extrapolate(lowest, top, expected)
    draws = rng.poisson(1.0, (REPLICATES, reach))  # how often a pair is in a resample
    replicates = [_extrapolate(np.repeat(lowest, draw), top, expected)[0] for draw in draws]
    return Extrapolated(
        float(np.exp(log_separation)),
        float(np.std(replicates, ddof=1)),
        float(index),
        float(lowest[0]),
    )


def _extrapolate(ascending, top, expected):
    """ln delta and gamma from the smallest distances, in ascending order."""
    logs = np.log(ascending[top] / ascending[:top])
    first, second = np.mean(logs), np.mean(logs**2)
    if not second > first**2:
        raise ValueError(f"top: the {top} smallest distances are all equal; take a larger one")
    index = first + 1 - 0.5 / (1 - first**2 / second)
    growth = np.expm1(index * np.log(expected)) / index if index else np.log(expected)
    beyond = np.log1p(first * (1 - min(index, 0.0)) * growth)
    return np.log(ascending[top]) - max(beyond, logs[0]), index


def _generator(key):
    """Of NumPy, for draws that are made and sorted on the host."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _drawn(rng, counts, pairs):
    """Pairs of different classes, each as likely, as places [2 pairs] in the order of classes.

    The partner is so many places further on, cyclically, beyond the end of one's own class.
    """
    n, starts = counts.sum(), np.cumsum(counts) - counts
    ordered_pairs = counts * (n - counts)
    label = rng.choice(len(counts), pairs, p=ordered_pairs / ordered_pairs.sum())
    first = starts[label] + rng.integers(counts[label])
    further = counts[label] + rng.integers(n - counts[label])
    return np.stack([first, (starts[label] + further) % n])


@jax.jit
def _distances(points, first, second):
    def distance(pair):
        return jnp.linalg.norm(points[pair[0]] - points[pair[1]])

    return jax.lax.map(distance, (first, second), batch_size=CHUNK)


def _checked(points, labels):
    """Rows, labels 0, 1, ... of the classes that there are, and how large each is."""
    rows = nearest.checked_rows(points)
    if not is_concrete(labels):
        raise TypeError("labels: are traced; call this outside of jit, vmap and grad")
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels: got dtype {labels.dtype}; want integers: the index of a class")
    if labels.shape != (len(rows),):
        raise ValueError(
            f"labels: got shape {labels.shape}, want ({len(rows)},): one for each point"
        )
    _, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError("labels: are all of one class; a distance between classes takes two")
    return rows, labels, counts
