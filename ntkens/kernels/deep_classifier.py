"""The kernel machine of a very deep network, from the logarithms of its kernels.

At depth the entries of K(X, X) and K(X, x) lie hundreds of orders of magnitude below the diagonal,
or agree with it to as many digits. The sign of y' K(X, X)^-1 K(X, x) survives both.
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkens.checks import check_finite
from ntkens.kernels.deep import DeepKernel


def decide(
    train: DeepKernel,
    cross: DeepKernel,
    targets: Float[Array, "n outputs"],
    *,
    kernel: Literal["nngp", "ntk"] = "nngp",
) -> Float[Array, "m outputs"]:
    """y' K(X, X)^-1 K(X, x) up to a positive factor for each x: its sign is the class.

    K(X, X) is divided by its diagonal, and each K(X, x) by its largest entry. An NNGP whose cosines
    have come near to one is K = 1 1' - V, solved in V over its largest entry, without cancellation:
    with p = 1' V^-1 1 and q = 1' V^-1 y, it is m - v' V^-1 (m 1 - y), m = q / (p - 1).
    In float64 on known arrays, [n n] at once.

    Args:
        train: `kernel_fn(...)(inputs)`.
        cross: `kernel_fn(...)(points, inputs)`.
        targets: +1 and -1, or one column for each class.
        kernel: "nngp", which the paper's experiments use, or "ntk".

    Raises:
        ValueError: shapes do not fit; targets hold NaN; two inputs coincide (or are opposed, for
            an odd or even f); the kernel has neither name; or the NTK is constant to rounding.
    """
    if kernel not in ("nngp", "ntk"):
        raise ValueError(f'kernel: got {kernel!r}, wants "nngp" or "ntk"')
    count, targets = len(train.sign), jnp.asarray(targets, float)
    if targets.ndim != 2 or len(targets) != count or train.sign.shape != (count, count):
        raise ValueError(
            f"targets: got shape {targets.shape} for a kernel of {train.sign.shape}; wants "
            "[n outputs] for [n n]"
        )
    check_finite("targets", targets)
    if cross.sign.ndim != 2 or cross.sign.shape[1] != count:
        raise ValueError(f"cross: got shape {cross.sign.shape}, wants [m {count}]")
    twins = jnp.argwhere(jnp.isneginf(train.log_versine) & ~jnp.eye(count, dtype=bool))
    if len(twins):
        raise ValueError(
            f"train: the network cannot tell input {twins[0, 0]} from input {twins[0, 1]}; remove "
            "duplicates first"
        )
    if kernel == "nngp" and count > 1 and (train.sign * jnp.exp(train.log_nngp)).min() > 0.5:
        return _decide_near_one(train, cross, targets)
    signs, logs = _choose(train, kernel)
    gram = signs * jnp.exp(logs - jnp.diagonal(logs)[:, None])
    if count > 1 and gram.min() > 1 - 1e-6:
        raise ValueError("train: its NTK is constant to rounding at this depth; decide by the nngp")
    signs, logs = _choose(cross, kernel)
    largest = logs.max(axis=1, keepdims=True, initial=-jnp.inf)
    nearest = cross.coordinate.max(axis=1, keepdims=True, initial=-jnp.inf)
    alone = jnp.where((cross.coordinate == nearest) & jnp.isfinite(nearest), 1.0, 0.0)
    rows = jnp.where(jnp.isfinite(largest), jnp.exp(logs - largest), alone)
    return jnp.matmul(signs * rows, jnp.linalg.solve(gram, targets), precision="highest")


def _choose(deep, kernel):
    return (deep.sign, deep.log_nngp) if kernel == "nngp" else (deep.ntk_sign, deep.log_ntk)


def _decide_near_one(train, cross, targets):
    largest = train.log_versine.max()
    versine = jnp.exp(train.log_versine - largest)
    right = jnp.concatenate([jnp.ones((len(targets), 1)), targets], axis=1)
    (ones, solved) = jnp.split(jnp.linalg.solve(versine, right), [1], axis=1)
    mean = solved.sum(0, keepdims=True) / (ones.sum() - jnp.exp(largest))
    log = jnp.where(cross.sign > 0, cross.log_versine, jnp.log1p(jnp.exp(cross.log_nngp)))
    rows = jnp.exp(log - largest)
    return mean - jnp.matmul(rows, ones * mean - solved, precision="highest")
