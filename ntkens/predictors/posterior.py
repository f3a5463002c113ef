"""Exact predictions of networks of infinite width: the Bayesian one and the trained ensemble.

`"nngp"`: the network's outputs are a Gaussian process with the NNGP kernel K, observed with noise
of variance `ridge`; its posterior is

    mean K_xX (K + ridge)^-1 y,    covariance K_xx - K_xX (K + ridge)^-1 K_Xx,

the prediction of a Bayesian network (Lee et al. 2018, arXiv:1711.00165), and without ridge that of
an ensemble trained in its last layer only. Rasmussen and Williams 2006, Eqs. (2.23)-(2.24); the
covariance is of the function, without the noise.

`"ntk"`: an ensemble of networks trained from random initialisations by gradient flow to the end.
With A = Theta_xX (Theta + ridge)^-1,

    mean A y,    covariance K_xx - A K_Xx - (A K_Xx)^T + A K_XX A^T,

the limit t -> infinity of `gradient_flow`, Eqs. (14)-(15) of arXiv:1902.06720. It is not the
posterior of any Gaussian process, and here the ridge penalises the distance from initialisation.

Factorise once (Cholesky, a third of n^3), predict many times, everything under jit, vmap and grad:

    fitted = posterior.fit(kernel_fn(train), targets, regime="ntk")
    cross = kernel_fn(test, train)
    posterior.mean(fitted, cross), posterior.covariance(fitted, cross, kernel_fn(test))
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Array, ArrayLike, Float

from ntkens.checks import is_concrete
from ntkens.kernels import Kernel
from ntkens.predictors.checks import (
    check_shape,
    check_values,
    checked_cross,
    checked_kernel,
    checked_training_set,
)

Regime = Literal["nngp", "ntk"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Posterior:
    """The training set as `mean` and `covariance` need it; a pytree.

    Attributes:
        regime: `"nngp"` or `"ntk"`, static.
        factor: lower Cholesky factor of the regime's train kernel plus the ridge.
        weights: that matrix's inverse times the targets.
        nngp: the train NNGP kernel.
    """

    regime: str = dataclasses.field(metadata={"static": True})
    factor: Float[Array, "n n"]
    weights: Float[Array, "n *outputs"]
    nngp: Float[Array, "n n"]


def fit(
    kernel: Kernel,
    targets: Float[Array, "n *outputs"],
    *,
    regime: Regime = "nngp",
    ridge: Float[ArrayLike, ""] = 0.0,
) -> Posterior:
    """Factorise the train kernel of a regime, plus the ridge.

    Args:
        kernel: `kernel_fn(train)`.
        targets: one row per training input; any axes after the first are outputs. They are cast
            to the dtype of the kernel.
        regime: `"nngp"` (Bayesian) or `"ntk"` (the trained ensemble).
        ridge: the variance of the noise on the targets, or the penalty on the distance from
            initialisation; at least 0.

    Raises:
        ValueError: the regime is unknown; shapes do not match; kernel or targets hold NaN or
            infinities; the kernel is not symmetric, or singular to rounding without a larger
            ridge. Under jit, predictions from a singular kernel are NaN.
        TypeError: the kernel is not a `Kernel`, or not floating point.
    """
    if regime not in ("nngp", "ntk"):
        raise ValueError(f'regime: got {regime!r}, wants "nngp" or "ntk"')
    matrix = _of_regime("kernel", kernel, regime)
    matrix, targets, ridge = checked_training_set(f"kernel.{regime}", matrix, targets, ridge)
    nngp = checked_kernel("kernel.nngp", kernel.nngp)
    check_shape("kernel.nngp", nngp, matrix.shape)
    ridged = (matrix + matrix.T) / 2 + ridge * jnp.eye(len(matrix), dtype=matrix.dtype)
    factor = jnp.linalg.cholesky(ridged, symmetrize_input=False)
    pivot, largest = jnp.min(jnp.diag(factor)) ** 2, jnp.max(jnp.diag(ridged))
    least = 10 * jnp.finfo(matrix.dtype).eps * largest
    factor = jnp.where(pivot > least, factor, jnp.nan)  # what barely succeeds is rounding
    if is_concrete(factor) and np.isnan(factor[0, 0]):
        raise ValueError(
            f"ridge: got {ridge:.3g} for a kernel.{regime} that is singular to rounding (smallest "
            f"Cholesky pivot {pivot:.3g}, largest diagonal entry {largest:.3g}); are there "
            f"duplicate inputs? Drop them, or pass a ridge of {1000 * least:.1e}, say"
        )
    columns = targets.reshape(len(targets), -1)
    weights = cho_solve((factor, True), columns).reshape(targets.shape)
    return Posterior(regime, factor, weights, nngp)


def mean(posterior: Posterior, cross: Kernel) -> Float[Array, "m *outputs"]:
    """The mean prediction, with `cross = kernel_fn(test, train)`.

    Raises:
        ValueError: the shapes do not match, or a kernel holds NaN.
        TypeError: `cross` is not a `Kernel`.
    """
    weights = posterior.weights
    matrix = _checked_cross(posterior, cross)
    prediction = jnp.matmul(matrix, weights.reshape(len(weights), -1), precision="highest")
    return prediction.reshape(len(matrix), *weights.shape[1:])


def covariance(posterior: Posterior, cross: Kernel, test: Kernel) -> Float[Array, "m m"]:
    """The covariance of each output among test inputs; different outputs are independent.

    Args:
        posterior: from `fit`.
        cross: `kernel_fn(test, train)`.
        test: `kernel_fn(test)`; its NTK is not used.

    Raises:
        ValueError, TypeError: as for `mean`.
    """
    left, right = _reductions(posterior, cross)
    nngp = checked_kernel("test.nngp", _of_regime("test", test, "nngp"))
    check_shape("test.nngp", nngp, (left.shape[1],) * 2)
    reduction = jnp.matmul(left.T, right, precision="highest")
    return nngp - (reduction + reduction.T) / 2


def variance(
    posterior: Posterior, cross: Kernel, diagonal: Float[Array, " m"]
) -> Float[Array, " m"]:
    """The diagonal of the covariance alone, for many test inputs.

    Args:
        posterior: from `fit`.
        cross: `kernel_fn(test, train)`.
        diagonal: NNGP kernel of each test input with itself.

    Raises:
        ValueError, TypeError: as for `mean`.
    """
    left, right = _reductions(posterior, cross)
    check_values("diagonal", diagonal, (left.shape[1],))
    return diagonal - jnp.sum(left * right, axis=0)


def _reductions(posterior, cross):
    """Two arrays [n m] whose product over n, symmetrised, training takes off the covariance."""
    matrix = _checked_cross(posterior, cross)
    if posterior.regime == "nngp":
        root = solve_triangular(posterior.factor, matrix.T, lower=True)
        return root, root
    nngp = checked_cross("cross.nngp", cross.nngp, posterior.weights, rows=len(matrix))
    smoother = cho_solve((posterior.factor, True), matrix.T)
    spread = jnp.matmul(posterior.nngp, smoother, precision="highest")
    return smoother, 2 * nngp.T - spread


def _checked_cross(posterior, cross):
    regime = posterior.regime
    return checked_cross(f"cross.{regime}", _of_regime("cross", cross, regime), posterior.weights)


def _of_regime(name, kernel, regime):
    if not isinstance(kernel, Kernel):
        raise TypeError(
            f"{name}: got {type(kernel).__name__}, wants a ntkens.kernels.Kernel, as every "
            "kernel_fn returns; wrap one array as Kernel(nngp=array, ntk=array)"
        )
    return getattr(kernel, regime)
