"""The local limits of wide and deep networks: nearest neighbour and majority, and their votes.

As the depth of a wide network grows, its activation phi alone decides which classifier it becomes
(arXiv:2204.14126). With Z standard normal, it is

    nearest_neighbour           E phi(Z) = 0 and E phi'(Z) = 0,
    a singular kernel           E phi(Z) = 0 and E phi'(Z) != 0   (`ntkens.kernels.singular`),
    majority                    E phi(Z) != 0 and E[phi'(Z)^2] >= E[phi(Z)^2].

`ntkens.kernels.infinite_depth.limit` tells which, and names the cases between them. The three take
`(queries, inputs, targets)`, and `classify` turns any of them into a classifier:

    hilbert = functools.partial(singular.estimate, exponent=2)
    for limit in (hilbert, local.nearest_neighbour, local.majority):
        predicted = local.classify(limit, queries, inputs, labels)

The theory has inputs on the sphere, where the nearest in distance is the one of largest cosine.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from ntkens import tree
from ntkens.checks import check_finite, checked_points, is_concrete
from ntkens.predictors.checks import check_real

Predictor = Callable[[Array, Array, Array], Array]
"""`(queries [m d], inputs [n d], targets [n *outputs]) -> predictions [m *outputs]`."""


def classify(
    predictor: Predictor,
    queries: Float[Array, "m d"],
    inputs: Float[Array, "n d"],
    labels: Shaped[Array, " n"],
) -> Shaped[Array, " m"]:
    """The label of the largest prediction, with one-hot targets.

    For two classes it is the sign with targets of -1 and 1. A tie goes to the smallest label.

    Args:
        predictor: of the three limits, or another of the same signature.
        queries: to classify.
        inputs: of the training set.
        labels: integers or booleans, any values; -1 and 1, or 0 to 9.

    Raises:
        ValueError: labels are not one for each of the inputs; inputs coincide and their labels
            differ, which no interpolating classifier can serve; and as the predictor.
        TypeError: labels are not integers, or traced: how many classes there are must be known.
    """
    if not is_concrete(labels):
        raise TypeError(
            "labels: traced, and so the classes are unknown; pass them to jit as values"
        )
    values = np.asarray(labels)
    if values.dtype.kind not in "iub":
        raise TypeError(f"labels: got dtype {values.dtype}; want integers, one for each class")
    if values.shape != (len(inputs),):
        raise ValueError(f"labels: got shape {values.shape}; want ({len(inputs)},), as inputs")
    if is_concrete(inputs):
        _check_agreement(np.asarray(inputs), values)
    classes, codes = np.unique(values, return_inverse=True)
    targets = jnp.asarray(codes[:, None] == np.arange(len(classes)), jnp.result_type(inputs))
    return jnp.asarray(classes)[jnp.argmax(predictor(queries, inputs, targets), axis=1)]


def majority(
    queries: Float[Array, "m d"],
    inputs: Float[Array, "n d"],
    targets: Float[Array, "n *outputs"],
) -> Float[Array, "m *outputs"]:
    """The mean of the targets, whatever the query: the majority's vote.

    Args:
        queries: only their number counts.
        inputs: only their number counts.
        targets: one-hot, or -1 and 1 without an axis of outputs.

    Raises:
        ValueError: shapes do not match, or hold NaN or infinities; the vote is a tie, which has no
            majority.
        TypeError: queries or inputs are not floating point, or targets complex.
    """
    queries, inputs, targets = _checked(queries, inputs, targets)
    total = jnp.sum(targets, axis=0)
    if is_concrete(total):
        votes = np.sort(np.asarray(total), axis=None)
        if votes[-1] == (votes[-2] if len(votes) > 1 else 0):
            raise ValueError(
                f"targets: their sums {np.asarray(total).tolist()} tie, and there is no majority; "
                "leave a training example out"
            )
    return jnp.broadcast_to(total / len(inputs), (len(queries), *total.shape))


def nearest_neighbour(
    queries: Float[Array, "m d"],
    inputs: Float[Array, "n d"],
    targets: Float[Array, "n *outputs"],
    *,
    chunk: int | None = None,
) -> Float[Array, "m *outputs"]:
    """The target of the nearest of the inputs; the mean of the targets of those at equal distance.

    A matrix product proposes: all inputs that may be nearest within the bound of its rounding. The
    difference to the query decides among them: only distances that agree to rounding, however
    small, are confused; those of whole numbers are exact, and so are their ties. Differences below
    1e-19 (float64: 1e-154) of the largest input count as 0.

    Streamed: `chunk` queries and `chunk` inputs at a time, so that memory beyond a copy of the data
    does not grow with it. Compiled; derivatives with respect to the points are 0. The inputs that a
    query ties with cost a step each, and so where most distances are equal it is slow.

    Args:
        queries: where to predict; any point of R^d.
        inputs: of the training set.
        targets: one row per training input; any axes after the first are outputs.
        chunk: queries and inputs at a time, at least 1; by default 1024 on a CPU, where the tile
            stays in cache, and 8192 elsewhere.

    Raises:
        ValueError: shapes do not match; something is empty, or holds NaN or infinities; a query is
            so far from all inputs that squares overflow; chunk is out of range.
        TypeError: queries or inputs are not floating point, or targets complex.
    """
    if chunk is None:
        chunk = 1024 if jax.default_backend() == "cpu" else 8192
    if not isinstance(chunk, int | np.integer) or chunk < 1:
        raise ValueError(f"chunk: got {chunk}; it is at least 1 query at a time, or None")
    dtype = jnp.result_type(queries, inputs)
    queries, inputs, targets = _checked(queries, inputs, targets)
    columns = targets.reshape(len(inputs), -1)
    means = _nearest_neighbour(queries, inputs, columns, int(chunk))
    return means.reshape(len(queries), *targets.shape[1:]).astype(dtype)


@functools.partial(jax.jit, static_argnames="chunk")
def _nearest_neighbour(queries, inputs, targets, chunk):
    _, exponent = jnp.frexp(jnp.max(jnp.abs(inputs)))
    least = jnp.finfo(inputs.dtype).minexp
    scale = jnp.ldexp(jnp.ones((), inputs.dtype), jnp.clip(-exponent, least, -least))
    queries, inputs = queries * scale, inputs * scale  # exact, and squares stay in range
    centre = jnp.mean(inputs, axis=0, keepdims=True)
    present = tree.in_chunks(jnp.ones(len(inputs), bool), chunk)
    blocks = (tree.in_chunks(inputs, chunk), tree.in_chunks(targets, chunk), present)
    rows = tree.in_chunks(queries, chunk)

    def block(found, block):
        inputs, targets, present = block

        def tile(arguments):
            queries, found = arguments
            lower, upper = _bounds(queries - centre, inputs - centre)
            upper = jnp.min(jnp.where(present[None, :], upper, jnp.inf), axis=1, keepdims=True)
            candidates = present[None, :] & (lower <= upper)

            def first(state):
                candidates, (nearest, count, total) = state
                index = jnp.argmax(candidates, axis=1)
                exists = jnp.any(candidates, axis=1, keepdims=True)
                square = jnp.sum((queries - inputs[index]) ** 2, axis=1, keepdims=True)
                square = jnp.where(exists, square, jnp.inf)
                target = targets[index]
                nearer, equal = square < nearest, exists & (square == nearest)
                count = jnp.where(nearer, 1, count + equal)
                total = jnp.where(nearer, target, total + jnp.where(equal, target, 0))
                nearest = jnp.minimum(nearest, square)
                later = jnp.arange(len(inputs))[None, :] > index[:, None]
                return candidates & later & (lower <= nearest), (nearest, count, total)

            candidates = candidates & (lower <= found[0])
            return jax.lax.while_loop(lambda state: state[0].any(), first, (candidates, found))[1]

        return jax.lax.map(tile, (rows, found)), None

    def start(width, value):
        return jnp.full((*rows.shape[:2], width), value, inputs.dtype)

    found = (start(1, jnp.inf), start(1, 0), start(targets.shape[1], 0))
    (_, count, total), _ = jax.lax.scan(block, found, blocks)
    return (total / count).reshape(-1, targets.shape[1])[: len(queries)]


def _bounds(queries, inputs):
    """Bounds, by a product, of what sums of squared differences give for |x - x_i|^2 [m n].

    Of the two sizes' sum, d products and d squares add up to within d eps / 2 each, in any order;
    d squared differences to within d eps; differences from the centre and last sums take 8 eps.
    """
    width = queries.shape[1]
    size1, size2 = jnp.sum(queries**2, axis=1)[:, None], jnp.sum(inputs**2, axis=1)[None, :]
    product = jnp.matmul(queries, inputs.T, precision="highest")
    slack = 2 * (width + 4) * jnp.finfo(inputs.dtype).eps * (size1 + size2)
    squares = size1 + size2 - 2 * product
    return squares - slack, squares + slack


def _check_agreement(inputs, labels):
    """A `ValueError` that names two inputs that coincide and whose labels differ."""
    seen = {}
    for index, row in enumerate(np.ascontiguousarray(inputs + 0.0)):  # -0.0 is 0.0
        first = seen.setdefault(row.tobytes(), index)
        if labels[first] != labels[index]:
            raise ValueError(
                f"inputs: {first} and {index} coincide, and their labels are {labels[first]} and "
                f"{labels[index]}; keep one of the two"
            )


def _checked(queries, inputs, targets):
    """The points in one dtype, float32 or wider, and targets in theirs."""
    check_finite("targets", targets)
    check_real("targets", targets)
    queries, inputs = checked_points(("queries", queries), ("inputs", inputs))
    if jnp.shape(targets)[:1] != (len(inputs),):
        raise ValueError(
            f"targets: got shape {jnp.shape(targets)}; want ({len(inputs)}, ...): one row for "
            "each of the inputs"
        )
    return queries, inputs, jnp.asarray(targets, inputs.dtype)
