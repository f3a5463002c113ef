"""A float32 Cholesky factor in panels of columns, made almost wholly of matrix products.

A product runs near the peak of a core or a GPU; LAPACK's factorisations and substitutions do not.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# More of them are less work outside of products and a longer compilation, by their square.
PANELS = 10
NARROWEST = 64

_product = functools.partial(jnp.matmul, precision="highest")

Panel = tuple[Float[Array, "width width"], Float[Array, "rest width"]]
"""The inverse of a panel's triangle on the diagonal, and what lies below the triangle."""


def factorise(matrix: Float[Array, "n n"], scale: Float[Array, " n"]) -> list[Panel]:
    """The lower Cholesky factor of scale_i A_ij scale_j, with 1 for its diagonal; NaN if none.

    Half of a float32 matrix in memory, and the matrix is read once, its lower triangle alone.

    Args:
        matrix: A, of any precision; its diagonal is not read.
        scale: that which makes the diagonal 1, of A and what is added to it.
    """
    length = len(matrix)
    width = max(NARROWEST, -(-length // PANELS))
    panels = []
    for first in range(0, length, width):
        last = min(first + width, length)
        panel = scale[first:, None] * matrix[first:, first:last] * scale[None, first:last]
        diagonal = jnp.eye(length - first, last - first, dtype=bool)
        panel = jnp.where(diagonal, 1, panel.astype(jnp.float32))
        for _, below in panels:
            rows = below[first - length :]
            panel = panel - _product(rows, rows[: last - first].T)
        triangle = jax.lax.linalg.cholesky(panel[: last - first], symmetrize_input=False)
        inverse = invert(triangle)
        panels.append((inverse, _product(panel[last - first :], inverse.T)))
    return panels


def substitute(panels: list[Panel], columns: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """The inverse of the factorised matrix times columns: forwards, then backwards."""
    rest, forward = columns, []
    for inverse, below in panels:
        width = len(inverse)
        forward.append(_product(inverse, rest[:width]))
        rest = rest[width:] - _product(forward[-1].T, below.T).T  # faster than below @ forward
    solution = rest  # no rows are left
    for (inverse, below), part in zip(reversed(panels), reversed(forward), strict=True):
        part = _product(inverse.T, part - _product(below.T, solution))
        solution = jnp.concatenate([part, solution])
    return solution


def invert(triangle: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse of a lower triangular matrix."""
    identity = jnp.eye(len(triangle), dtype=triangle.dtype)
    return jax.lax.linalg.triangular_solve(triangle, identity, left_side=True, lower=True)
