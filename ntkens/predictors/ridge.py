"""Kernel ridge regression at several ridges, and the ridge that held-out examples prefer.

    f_r(x) = K_xX (K + r)^-1 y

One Cholesky factorisation a ridge, one after another: on a CPU an eigen-decomposition, which would
serve them all, takes as long as 17 (n = 400) to 30 of them (n = 1600, measured), and a grid has
fewer. For more, `gradient_flow.fit` has the eigen-decomposition.

    choice = ridge.hold_out(kernel, targets, ridges, validation=len(targets) // 4)
    means = ridge.path(kernel, cross, targets, ridges)[choice.index]

All of it works under jit and vmap, and compiles itself. One ridge may be the best for one output
and not for another: each column of the targets has its own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, ArrayLike, Float, Int

from ntkens.checks import check_finite, is_concrete
from ntkens.predictors.checks import checked_cross, checked_training_set


class Choice(NamedTuple):
    """The ridge of least error on held-out examples.

    Attributes:
        index: its place among the ridges, for each output.
        errors: mean squared errors on the held-out examples; NaN where the kernel with so small a
            ridge is singular to rounding, which is never chosen unless all are.
    """

    index: Int[Array, "*outputs"]
    errors: Float[Array, "ridges *outputs"]


def path(
    kernel: Float[Array, "n n"],
    cross: Float[Array, "m n"],
    targets: Float[Array, "n *outputs"],
    ridges: Float[ArrayLike, " ridges"],
) -> Float[Array, "ridges m *outputs"]:
    """The predictions of every ridge, one factorisation after another.

    Args:
        kernel: of the training inputs.
        cross: of test inputs (rows) with training inputs (columns).
        targets: one row per training input; any axes after the first are outputs.
        ridges: at least 0, not relative to the kernel: multiply by the mean of its diagonal where
            they should be. Predictions are NaN where the kernel is singular to rounding.

    Raises:
        ValueError: shapes do not match, an argument holds NaN or infinities, a ridge is negative,
            or the kernel is not symmetric.
        TypeError: the kernel is not floating point.
    """
    kernel, targets, _ = checked_training_set("kernel", kernel, targets, 0.0)
    cross = checked_cross("cross", cross, targets)
    ridges = _checked_ridges(ridges, kernel.dtype)
    columns = targets.reshape(len(targets), -1)
    found = _predictions((kernel + kernel.T) / 2, cross, columns, ridges)
    return found.reshape(-1, len(cross), *targets.shape[1:])


def hold_out(
    kernel: Float[Array, "n n"],
    targets: Float[Array, "n *outputs"],
    ridges: Float[ArrayLike, " ridges"],
    validation: int,
) -> Choice:
    """Choose a ridge by the last `validation` examples, from training on those before them.

    The examples are to be in random order.

    Raises:
        ValueError: fewer than one example is held out, or none is left to train on; otherwise as
            for `path`.
        TypeError: the kernel is not floating point.
    """
    kernel, targets, _ = checked_training_set("kernel", kernel, targets, 0.0)
    if not isinstance(validation, int | np.integer) or not 0 < validation < len(kernel):
        raise ValueError(
            f"validation: got {validation}; want a whole number of at least 1 and below the "
            f"{len(kernel)} examples there are"
        )
    first = len(kernel) - validation
    found = path(kernel[:first, :first], kernel[first:, :first], targets[:first], ridges)
    errors = jnp.mean((found - targets[first:][None]) ** 2, axis=1)
    return Choice(jnp.argmin(jnp.where(jnp.isnan(errors), jnp.inf, errors), axis=0), errors)


@jax.jit
def _predictions(kernel, cross, columns, ridges):
    least = 10 * jnp.finfo(kernel.dtype).eps * jnp.max(jnp.diag(kernel))

    def predict(ridge):
        ridged = kernel + ridge * jnp.eye(len(kernel), dtype=kernel.dtype)
        factor = jnp.linalg.cholesky(ridged, symmetrize_input=False)
        pivot = jnp.min(jnp.diag(factor)) ** 2
        found = jnp.matmul(cross, cho_solve((factor, True), columns), precision="highest")
        return jnp.where(pivot > least, found, jnp.nan)  # what barely succeeds is rounding

    return jax.lax.map(predict, ridges)


def _checked_ridges(ridges, dtype):
    ridges = jnp.asarray(ridges, dtype)
    if ridges.ndim != 1 or not ridges.size:
        raise ValueError(f"ridges: got shape {ridges.shape}; want one axis of at least one ridge")
    check_finite("ridges", ridges)
    if is_concrete(ridges) and np.min(np.asarray(ridges)) < 0:
        raise ValueError(f"ridges: got {ridges}; want numbers of at least 0")
    return ridges
