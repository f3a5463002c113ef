"""Full-batch gradient descent on the squared error, at a fixed rate for a fixed number of steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ntkens.checks import is_concrete


class Info(NamedTuple):
    """How the training of one network went.

    Attributes:
        initial_loss: 0.5 ||f - y||^2 before the first step.
        loss: after the last.
        residual: max |f - y| after the last step. Where too large a rate has killed all units
            of a ReLU network, f is 0: that is no divergence, and shows here.
        diverged: the loss is not finite, or above where it began by more than rounding.
    """

    initial_loss: Float[Array, ""]
    loss: Float[Array, ""]
    residual: Float[Array, ""]
    diverged: Bool[Array, ""]


def train(
    outputs: Callable[[Any], Float[Array, "batch outputs"]],
    params: Any,
    targets: Float[Array, "batch outputs"],
    learning_rate: Float[Array, ""] | float,
    *,
    steps: int,
) -> tuple[Any, Info]:
    """One network, trained on all examples at once, and how it went.

        theta <- theta - learning_rate d/dtheta 0.5 ||f(theta) - y||^2,

    a sum over examples and outputs: for a tangent kernel Theta on the training set it is stable
    where learning_rate < 2 / lambda_max(Theta), and then f(t) - y = (I - learning_rate Theta)^t
    (f(0) - y) as long as Theta stays constant.

    The network enters as the function of its params alone that gives its outputs on the training
    set: `lambda params: model.apply(params, inputs)`. On all one-hot inputs give
    `models.mlp` the inputs `range(k)`, and the first layer costs no product.

    The loop is compiled, nothing is kept of it but the end. For many networks see `members.map`.

    Args:
        outputs: `params -> outputs` on the training inputs.
        params: pytree of floating arrays.
        targets: in the shape of the outputs; cast to their dtype.
        learning_rate: a scalar; may be traced, and so one per member.
        steps: how many.

    Raises:
        TypeError: params with leaves that are not floating point.
        ValueError: targets in another shape; a learning rate or steps out of range.
    """
    for leaf in jax.tree.leaves(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"params: got a leaf of {jnp.result_type(leaf)}, wants floating point")
    result = jax.eval_shape(outputs, params)
    if jnp.shape(targets) != result.shape:
        raise ValueError(
            f"targets: got shape {jnp.shape(targets)}; the network's outputs are {result.shape}"
        )
    if jnp.ndim(learning_rate) != 0:
        raise ValueError(
            f"learning_rate: got shape {jnp.shape(learning_rate)}; it is one number, and one per "
            "member where members.map goes over it"
        )
    if is_concrete(learning_rate) and not 0 < float(learning_rate) < np.inf:
        raise ValueError(f"learning_rate: got {learning_rate}; it is finite and above 0")
    if not isinstance(steps, int | np.integer) or steps < 0:
        raise ValueError(f"steps: got {steps}; they are counted 0, 1, 2, ...")

    targets = jnp.asarray(targets, result.dtype)

    def errors(params):
        return outputs(params) - targets

    def step(_, params):
        error, pullback = jax.vjp(errors, params)
        (gradient,) = pullback(error)
        return jax.tree.map(
            lambda p, g: p - jnp.asarray(learning_rate, p.dtype) * g, params, gradient
        )

    trained = jax.lax.fori_loop(0, steps, step, jax.tree.map(jnp.asarray, params))
    return trained, _info(errors(params), errors(trained), targets)


def _info(initial, final, targets):
    initial_loss, loss = 0.5 * jnp.sum(initial**2), 0.5 * jnp.sum(final**2)
    # A network that starts trained stays within the rounding of its outputs, not below its start.
    rounding = jnp.finfo(targets.dtype).eps * jnp.sum(targets**2)
    is_fine = loss <= initial_loss + rounding  # False for NaN too
    is_finite = jnp.isfinite(loss)  # where both losses overflowed
    return Info(initial_loss, loss, jnp.max(jnp.abs(final)), ~(is_fine & is_finite))
