"""Scores that say which weights to keep: the largest stay, whatever the method.

    scores = pruning.snip(loss, params, inputs, labels)
    mask = masks.top(scores, budgets.kept(scores, 0.02))

Of weights w, the mean loss L of a batch, its gradient g and Hessian H with respect to w:

    random     uniform on [0, 1)
    magnitude  |w|
    snip       |w g|                     arXiv:1810.02340: the change of L to first order
    grasp      w (H g)                   arXiv:2002.07376: half the fall of ||g||^2 to first order
    synflow    |w| dR / d|w|             arXiv:2006.05467, with R = 1^T prod_l |W_l| 1

At initialisation, but for magnitude, these choose before training. The first four score once;
synflow in rounds, for what makes it keep every layer alive is that scores follow the mask:

    def score(mask):
        return pruning.synflow(model.apply, masks.apply(params, mask), inputs)

    mask = pruning.in_rounds(score, masks.weights(params), kept)

All functions are traceable, and `kept` may be traced.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Shaped

from ntkens.sparsity import masks
from ntkens.sparsity.checks import check_count
from ntkens.sparsity.masks import Mask, Weights

Loss = Callable[[Any, Array, Array], Float[Array, " batch"]]
"""`loss(params, inputs, labels)`, a number for each example, as `training.fit` has it."""


def random(key: Key[Array, ""], weights: Weights) -> Weights:
    """Uniform on [0, 1): with a budget by layer, a random mask of that budget."""
    keys = jax.random.split(key, len(weights))
    return {
        name: jax.random.uniform(keys[layer], weights[name].shape, weights[name].dtype)
        for layer, name in enumerate(sorted(weights))
    }


def magnitude(weights: Weights) -> Weights:
    """|w|."""
    return {name: jnp.abs(layer) for name, layer in weights.items()}


def snip(loss: Loss, params: Any, inputs: Array, labels: Array) -> Weights:
    """|w g|, what the mean loss changes by when w goes, to first order; arXiv:1810.02340, Eq. (6).

    The paper divides by the sum over weights, which changes no rank.

    Args:
        loss: `(params, inputs, labels) -> [batch]`.
        params: of the network.
        inputs: of a batch, examples first.
        labels: of the batch.

    Raises:
        ValueError: a loss that is not one number for each example.
    """
    weights = masks.weights(params)
    gradient = jax.grad(_mean_loss(loss, params, inputs, labels))(weights)
    return {name: jnp.abs(layer * gradient[name]) for name, layer in weights.items()}


def grasp(loss: Loss, params: Any, inputs: Array, labels: Array) -> Weights:
    """w (H g), which keeps the weights without which the gradient would fall; arXiv:2002.07376.

    To first order in t, w_q -> (1 - t) w_q changes ||g||^2 by -2 t w_q (H g)_q. So the weight of
    lowest score is the one whose loss raises the gradient norm most, and goes first. The paper's
    S = -w (H g) is the negative, of which it removes the highest: the same choice.

    Gradient and Hessian are with respect to the weights alone, as in the authors' code; the
    temperature that they divide logits by is a matter of `loss`.

    Args:
        loss: `(params, inputs, labels) -> [batch]`.
        params: of the network.
        inputs: of a batch, examples first.
        labels: of the batch.

    Raises:
        ValueError: a loss that is not one number for each example.
    """
    weights = masks.weights(params)
    gradient_of = jax.grad(_mean_loss(loss, params, inputs, labels))
    gradient = gradient_of(weights)
    _, product = jax.jvp(gradient_of, (weights,), (gradient,))
    return {name: layer * product[name] for name, layer in weights.items()}


def synflow(
    apply: Callable[[Any, Array], Array], params: Any, inputs: Shaped[Array, "batch ..."]
) -> Weights:
    """|w| dR / d|w|, a weight's share of the flow R from inputs of ones through |weights|.

    R is the sum of outputs of one input of ones, with |w| for the weights, |scale| for the scales
    and zero biases, which for ReLUs is 1^T prod_l |W_l| 1; arXiv:2006.05467, Eq. (2). No data and
    no loss. In a ReLU network the scores of every layer that all paths cross sum to R.

    Normalisation by the signal's own statistics must be left out of `apply`: with it R does not
    change when a layer is scaled, and that layer's scores sum to zero. Scores that overflow are
    NaN: give params in float64 then, as the authors do.

    Args:
        apply: `(params, inputs) -> outputs`, positively homogeneous in each layer, as ReLUs are.
        params: of the network.
        inputs: for shape and dtype.
    """
    ones = jnp.ones((1, *inputs.shape[1:]), inputs.dtype)

    def positive(path, leaf):
        is_bias = getattr(path[-1], "key", None) == "bias"
        return jnp.zeros_like(leaf) if is_bias else jnp.abs(leaf)

    params = jax.tree_util.tree_map_with_path(positive, params)
    weights = masks.weights(params)
    flow = jax.grad(lambda weights: jnp.sum(apply(masks.replace(params, weights), ones)))(weights)
    scores = {name: layer * flow[name] for name, layer in weights.items()}
    return {name: jnp.where(jnp.isfinite(each), each, jnp.nan) for name, each in scores.items()}


def in_rounds(
    score: Callable[[Mask], Weights],
    weights: Weights,
    kept: int | Int[Array, ""],
    *,
    rounds: int = 100,
) -> Mask:
    """The mask after scoring again and again under the mask so far, down to `kept` weights.

    Round t of T keeps floor(d (kept / d)^(t / T)) of d weights, at least `kept`, and the last round
    exactly `kept`; arXiv:2006.05467, Algorithm 1. A weight that is gone does not return. Ties are
    those of `masks.top`. A score that is NaN leaves nothing.

    Args:
        score: of a mask, the scores of all weights; traced once, for one loop runs all rounds.
        weights: for their shapes.
        kept: how many, from 1 to all; may be traced.
        rounds: how many, at least 1.

    Raises:
        ValueError: rounds below 1; kept out of range; scores that do not match the weights.
        TypeError: kept or scores of the wrong dtype.
    """
    if not isinstance(rounds, int | np.integer) or rounds < 1:
        raise ValueError(f"rounds: got {rounds}; it is a whole number, at least 1")
    total = masks.total(weights)
    check_count("kept", kept, total)
    everything = {name: jnp.ones(layer.shape, bool) for name, layer in weights.items()}

    def one_round(index, mask):
        scores = score(mask)
        masks.check_match("scores", scores, weights)
        share = (index + 1) / rounds
        count = jnp.floor(total * (kept / total) ** share).astype(int)
        # The powers are rounded: the last must be exact, and none may fall below it.
        count = jnp.where(index + 1 < rounds, jnp.maximum(count, kept), kept)
        return masks.top_within(mask, scores, count)

    return jax.lax.fori_loop(0, rounds, one_round, everything)


def _mean_loss(loss, params, inputs, labels):
    def mean(weights):
        values = loss(masks.replace(params, weights), inputs, labels)
        if values.shape != labels.shape[:1]:
            raise ValueError(
                f"loss: gave shape {values.shape} for {len(labels)} examples; it is one number an "
                "example, not their mean"
            )
        return jnp.mean(values)

    return mean
