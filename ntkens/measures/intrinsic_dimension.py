"""Intrinsic dimension by maximum likelihood, from the distances to the nearest neighbours.

    intrinsic_dimension.estimate(images).dimension

Where points lie evenly on a manifold of dimension m, and T_1 <= ... <= T_k are the distances of one
of them to its nearest others, the sum over j < k of ln(T_k / T_j) is a Gamma variable of shape
k - 1 and mean (k - 1) / m. Levina and Bickel 2004; averaged over points as MacKay and Ghahramani
2005 proposed, by the inverses:

    1 / m = mean over points i and j = 1 ... k - 1 of ln(T_k(x_i) / T_j(x_i)).
"""

import hashlib
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from ntkens.measures import nearest
from ntkens.measures.checks import check_at_least_one


class IntrinsicDimension(NamedTuple):
    """An estimated dimension.

    Attributes:
        dimension: m, the inverse of the mean of `inverses`; infinite where each point has all its
            neighbours at one distance.
        standard_error: of m, from the spread of the inverses as if points were independent.
            Neighbours share distances: samples of spheres spread by 1.1 to 1.3 times as much.
        inverses: 1 / m of each point that was kept, the mean over j alone.
        duplicates: points that were left out, as they equal an earlier one.
    """

    dimension: float
    standard_error: float
    inverses: Float[np.ndarray, " kept"]
    duplicates: int


def estimate(points: Float[ArrayLike, "n *shape"], *, neighbours: int = 5) -> IntrinsicDimension:
    """The intrinsic dimension of a set of points, all of them, each against all others.

    The inverse is without bias where the density is even within a neighbourhood. It is not near an
    edge, nor where n is too small for the curvature, and the estimate then is too low: by 7% for a
    cube of dimension 5, by 16% for one of 10, at n = 2000. Points that equal an earlier one are
    left out and counted, for a distance of 0 has no logarithm. Compiles itself; see
    `nearest.distances` for memory and speed.

    Args:
        points: flattened to rows; in float32 or float64, which is what distances are computed in.
        neighbours: k, at least 2; the point itself is none.

    Raises:
        ValueError: no more than k different points; NaN or infinities; k < 2; two points so near
            that the square of their distance underflows.
        TypeError: integers; points that JAX traces.
    """
    check_at_least_one("neighbours", neighbours)
    if neighbours < 2:
        raise ValueError(f"neighbours: got {neighbours}; want at least 2, for a ratio of distances")
    rows = nearest.checked_rows(points)
    kept = _first_of_each(np.asarray(rows))
    if len(kept) <= neighbours:
        raise ValueError(
            f"points: {len(kept)} of {len(rows)} are different; want more than the {neighbours} "
            "neighbours"
        )
    found = nearest.distances(rows[kept], np.arange(len(kept)), neighbours).astype(np.float64)
    if not found.all():
        raise ValueError(
            f"points: two are so near that their distance is 0 in {rows.dtype}; scale the points "
            "up, or leave one out"
        )
    inverses = np.log(found[:, -1:] / found[:, :-1]).mean(axis=1)
    mean, error = inverses.mean(), inverses.std(ddof=1) / np.sqrt(len(inverses))
    if mean == 0:
        return IntrinsicDimension(np.inf, np.inf, inverses, len(rows) - len(kept))
    return IntrinsicDimension(
        float(1 / mean), float(error / mean**2), inverses, len(rows) - len(kept)
    )


def _first_of_each(rows: np.ndarray) -> np.ndarray:
    """The first row of each content, in order."""
    first = {}
    for index, row in enumerate(rows + 0.0):  # -0.0 is 0.0
        first.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), index)
    return np.fromiter(first.values(), int)
