"""What a concrete ticket is to be good at: objectives of gates, to be made small.

An objective is `(gates, params, inputs, labels) -> number` of one batch. With gates z, the sparse
network s has the params z * theta and the dense one d has theta, frozen, its numbers constants:

    task_loss           100 L_s                                       as SNIP
    loss_change         10000 |L_s / L_d - 1|
    gradient_norm       -|grad_theta L_s|                             as GraSP
    reverse_kl          100 mean over examples of KL(p_s || p_d)      CTS-KL, the paper's own
    forward_kl          100 mean over examples of KL(p_d || p_s)
    feature_matching    100 mean over layers of (h_s - h_d)^2
    gradient_matching   100 mean over layers of (g_s - g_d)^2

L is the mean loss, KL(p || q) = sum_c p_c (log p_c - log q_c), h an example's features in a layer
and g the gradient grad_theta L of a layer's weights, both standardised: less their mean and over
their deviation, so that each mean square is 2 (1 - correlation). What does not vary is 0.

The factors are the authors'. They matter to `tickets.lagrange`, and not to `tickets.grad_balance`,
whose steps they leave as they are. arXiv:2512.07142.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkens.sparsity import gates, masks
from ntkens.sparsity.masks import Weights

Objective = Callable[[Weights, Any, Array, Array], Float[Array, ""]]
Loss = Callable[[Any, Array, Array], Float[Array, " batch"]]
Apply = Callable[[Any, Array], Float[Array, "batch classes"]]
Features = Callable[[Any, Array], Sequence[Float[Array, "batch ..."]]]

SCALE, CHANGE_SCALE = 100, 10_000


def task_loss(loss: Loss) -> Objective:
    """100 times the mean loss of the sparse network.

    Args:
        loss: `(params, inputs, labels) -> [batch]`, a loss for each example.
    """

    def objective(chosen, params, inputs, labels):
        return SCALE * jnp.mean(loss(gates.apply(params, chosen), inputs, labels))

    return objective


def loss_change(loss: Loss) -> Objective:
    """10000 |L_s / L_d - 1|: the dense network's mean loss is to be kept, not lowered.

    Args:
        loss: `(params, inputs, labels) -> [batch]`; of the dense network above 0 on average.
    """

    def objective(chosen, params, inputs, labels):
        sparse = jnp.mean(loss(gates.apply(params, chosen), inputs, labels))
        return CHANGE_SCALE * jnp.abs(sparse / jnp.mean(loss(params, inputs, labels)) - 1)

    return objective


def gradient_norm(loss: Loss) -> Objective:
    """Minus the Euclidean norm of the sparse network's gradient, in all of theta.

    By the chain rule the gradient in a weight is its gate times that in what the network sees.

    Args:
        loss: `(params, inputs, labels) -> [batch]`, twice differentiable.
    """

    def objective(chosen, params, inputs, labels):
        gradient = _gradient(loss, chosen, params, inputs, labels)
        return -norm(gradient)

    return objective


def reverse_kl(apply: Apply) -> Objective:
    """100 KL(p_s || p_d), the mean over examples: the sparse network is sure only where d is.

    Args:
        apply: `(params, inputs) -> logits`.
    """

    def objective(chosen, params, inputs, labels):
        del labels  # the dense network has said what it thinks
        return SCALE * jnp.mean(_kl(*_logits(apply, chosen, params, inputs)))

    return objective


def forward_kl(apply: Apply) -> Objective:
    """100 KL(p_d || p_s), the mean over examples: distillation.

    Args:
        apply: `(params, inputs) -> logits`.
    """

    def objective(chosen, params, inputs, labels):
        del labels
        sparse, dense = _logits(apply, chosen, params, inputs)
        return SCALE * jnp.mean(_kl(dense, sparse))

    return objective


def feature_matching(features: Features) -> Objective:
    """100 times the mean over layers of the squared difference of standardised features.

    Args:
        features: `(params, inputs) -> [batch ...] of each layer`; the paper has those after ReLUs.
            An example's features in a layer are standardised over the layer.
    """

    def objective(chosen, params, inputs, labels):
        del labels
        pairs = zip(
            features(gates.apply(params, chosen), inputs), features(params, inputs), strict=True
        )
        flat = [[layer.reshape(len(layer), -1) for layer in pair] for pair in pairs]
        return SCALE * _mean_difference(flat)

    return objective


def gradient_matching(loss: Loss) -> Objective:
    """100 times the mean over layers of the squared difference of standardised weight gradients.

    Args:
        loss: `(params, inputs, labels) -> [batch]`, twice differentiable.
    """

    def objective(chosen, params, inputs, labels):
        sparse, dense = (
            masks.weights(_gradient(loss, each, params, inputs, labels)) for each in (chosen, None)
        )
        pairs = [[gradient[name].reshape(1, -1) for gradient in (sparse, dense)] for name in dense]
        return SCALE * _mean_difference(pairs)

    return objective


def norm(tree: Any) -> Float[Array, ""]:
    """The Euclidean norm of all leaves; of leaves that are 0 it is 0, and so is its gradient.

    In units of the largest entry: the square of a gradient may be 0 where the gradient is not.
    """
    leaves = jax.tree.leaves(tree)
    largest = jax.lax.stop_gradient(jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves])))
    unit = jnp.where(largest > 0, largest, 1)
    squares = jnp.sum(jnp.stack([jnp.sum((leaf / unit) ** 2) for leaf in leaves]))
    return unit * jnp.sqrt(jnp.where(largest > 0, squares, 1)) * (largest > 0)


def _gradient(loss, chosen, params, inputs, labels):
    """grad_theta of the mean loss, with gates or (None) without."""

    def mean(params):
        gated = params if chosen is None else gates.apply(params, chosen)
        return jnp.mean(loss(gated, inputs, labels))

    return jax.grad(mean)(params)


def _logits(apply, chosen, params, inputs):
    return apply(gates.apply(params, chosen), inputs), apply(params, inputs)


def _kl(first, second):
    log_first, log_second = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
    return jnp.sum(jnp.exp(log_first) * (log_first - log_second), axis=-1)


def _mean_difference(pairs):
    """The mean over pairs of matrices of the mean square of what standardised rows differ by."""
    squares = [jnp.mean((_standardised(a) - _standardised(b)) ** 2) for a, b in pairs]
    return jnp.mean(jnp.stack(squares))


def _standardised(rows):
    """Rows less their mean, over their deviation; in units of the largest entry, as in `norm`."""
    shifted = rows - jnp.mean(rows, axis=1, keepdims=True)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(shifted), axis=1, keepdims=True))
    varies = largest > jnp.finfo(rows.dtype).tiny
    scaled = shifted / jnp.where(varies, largest, 1)
    variance = jnp.mean(scaled**2, axis=1, keepdims=True)
    return jnp.where(varies, scaled * jax.lax.rsqrt(jnp.where(varies, variance, 1)), 0)
