"""Dynamic sparse training: a mask that moves while the network learns, as an optimiser.

Every `period` steps, and before step `end`, each layer gives up its active weights of smallest
magnitude and activates as many others, which start at zero: its count never changes. What chooses
them is the method:

    SET   (arXiv:1707.04780)   at random; a constant fraction moves
    RigL  (arXiv:1911.11134)   by the largest |dL/dw|, of the dense gradient of the step's batch;
                               the fraction falls as fraction/2 (1 + cos(pi t / end))

The mask is in the optimiser's state, and so `fit.epochs` is all the training there is, with data
for a seed and a density:

    def member(key, kept, train):                       # keys and counts [members]
        params = model.init(key, train.inputs)
        mask = masks.top(pruning.random(key, masks.weights(params)), kept)
        optimiser = dynamic.rigl(optax.adam(3e-3), mask, period=100, end=750)
        state = fit.start(masks.apply(params, mask), optimiser, key)
        state, info = fit.epochs(loss, optimiser, state, train, epochs=90, batch=128)
        return state.params, dynamic.in_time_over_parametrisation(state.optimiser)

    members.map(lambda own, train: member(*own, train), (keys, kept), train)

Start and train in one such call: then the compiler knows that all members count the same steps, and
the work of an exchange is done once a period. Where states come in as stacked data, or members have
`indices` of their own, each step computes an exchange and mostly discards it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from ntkens.checks import is_concrete
from ntkens.sparsity import masks

Schedule = Callable[[Int[Array, ""]], Float[Array, ""] | float]
"""`step -> fraction` of a layer's active weights that move at that step."""

Growth = Callable[[Int[Array, ""], masks.Weights], masks.Weights]
"""`(step, gradients) -> scores`: of the inactive weights, those of largest score are activated."""


class State(NamedTuple):
    """The state of a rewired optimiser.

    Attributes:
        inner: the state of the optimiser within; zero where a weight is not active.
        mask: the active weights.
        ever_active: those that were so at any time since the start.
        step: steps done, exchanges included.
    """

    inner: Any
    mask: masks.Mask
    ever_active: masks.Mask
    step: Int[Array, ""]


def set(
    key: Key[Array, ""],
    optimiser: optax.GradientTransformation,
    mask: masks.Mask,
    *,
    period: int,
    end: int,
    fraction: Float[Array, ""] | float = 0.3,
) -> optax.GradientTransformationExtraArgs:
    """Sparse evolutionary training: as many weights as are dropped are activated at random.

    In the paper an exchange follows an epoch; here it takes the place of a step, as in RigL, so
    that the two differ in nothing but what is activated and how many. Arguments and errors as of
    `rewired`; the exchange at step t draws from `fold_in(key, t)`.
    """

    def growth(step, gradients):
        keys = jax.random.split(jax.random.fold_in(key, step), len(gradients))
        return {
            name: jax.random.uniform(keys[layer], gradients[name].shape)
            for layer, name in enumerate(sorted(gradients))
        }

    _check_fraction(fraction)
    return rewired(optimiser, mask, growth, lambda step: fraction, period=period, end=end)


def rigl(
    optimiser: optax.GradientTransformation,
    mask: masks.Mask,
    *,
    period: int,
    end: int,
    fraction: Float[Array, ""] | float = 0.3,
) -> optax.GradientTransformationExtraArgs:
    """RigL: as many weights as are dropped are activated where the loss is steepest.

    The gradient is what the optimiser is given: of the loss on one batch. Arguments and errors as
    of `rewired`; `fraction` is the one at step 0.
    """

    def growth(step, gradients):
        return {name: jnp.abs(gradient) for name, gradient in gradients.items()}

    _check_fraction(fraction)
    return rewired(optimiser, mask, growth, cosine(fraction, end), period=period, end=end)


def cosine(fraction: Float[Array, ""] | float, end: int) -> Schedule:
    """RigL's schedule: fraction/2 (1 + cos(pi t / end)) at step t."""
    return lambda step: fraction / 2 * (1 + jnp.cos(jnp.pi * step / end))


def rewired(
    optimiser: optax.GradientTransformation,
    mask: masks.Mask,
    growth: Growth,
    fraction: Schedule,
    *,
    period: int,
    end: int,
) -> optax.GradientTransformationExtraArgs:
    """The optimiser under a mask that moves every `period` steps.

    At steps t = period, 2 period, ... < end, counted from 0, no param takes a step: `exchange`
    moves the mask, dropped weights become zero, activated ones are zero, and what the optimiser
    remembers of both is erased. All other steps are the optimiser's, under `masks.frozen`; its own
    schedules do not count the exchanges.

    Args:
        optimiser: of optax.
        mask: the active weights at the start; may be traced. `masks.apply` it to the params.
        growth: scores of the weights to activate.
        fraction: of a layer's active weights that move; see `exchange`.
        period: steps from an exchange to the next, at least 1.
        end: steps after which the mask rests; with it the weights that were activated last.

    Raises:
        ValueError: period or end out of range; at `init`, a mask that does not match the params; an
            update without params.
        TypeError: at `init`, a mask that is not of booleans.
    """
    for name, count, least in (("period", period, 1), ("end", end, 0)):
        if not isinstance(count, int | np.integer) or count < least:
            raise ValueError(f"{name}: got {count}; it is a whole number of steps, from {least}")
    optimiser = optax.with_extra_args_support(optimiser)

    def init(params):
        masks.check_mask(mask, masks.weights(params))
        return State(optimiser.init(params), mask, mask, jnp.zeros((), jnp.int32))

    def update(updates, state, params=None, **extra):
        if params is None:
            raise ValueError("params: got None; an update under a mask needs the params")

        def step():
            frozen = masks.frozen(optimiser, state.mask)
            return *frozen.update(updates, state.inner, params, **extra), state.mask

        def exchanged():
            weights = masks.weights(params)
            scores = growth(state.step, masks.weights(updates))
            mask = exchange(state.mask, weights, scores, fraction(state.step))
            pruned = {name: jnp.where(mask[name], 0, -weight) for name, weight in weights.items()}
            still = {name: mask[name] & state.mask[name] for name in mask}
            inner = _erased(optimiser, state.inner, params, still)
            moves = masks.replace(jax.tree.map(jnp.zeros_like, params), pruned)
            # of the dtypes that the optimiser gives, which may be wider than the params'
            like, *_ = jax.eval_shape(step)
            return jax.tree.map(lambda move, as_: move.astype(as_.dtype), moves, like), inner, mask

        is_due = (state.step > 0) & (state.step % period == 0) & (state.step < end)
        updates, inner, mask = jax.lax.cond(is_due, exchanged, step)
        ever_active = {name: state.ever_active[name] | mask[name] for name in mask}
        return updates, State(inner, mask, ever_active, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)


@jax.jit  # also because a count within it may be 0, which masks.top_by_layer refuses if it is known
def exchange(
    mask: masks.Mask,
    weights: masks.Weights,
    scores: masks.Weights,
    fraction: Float[Array, ""] | float,
) -> masks.Mask:
    """The mask after each layer has dropped some weights and activated as many.

        n = round(fraction x active), from 0 to the smaller of active and inactive, in each layer
        dropped:    the n of smallest |w| of the active
        activated:  the n of largest score of those that were inactive before

    A weight that is dropped does not return at once, as in RigL's own code it may; a dense layer
    stays as it is. Of equal magnitudes and scores the first stay and the first are activated; of a
    layer with a score that is NaN, none.

    Args:
        mask: the active weights.
        weights: of which magnitudes count.
        scores: of the inactive ones.
        fraction: of a layer's active weights that move.

    Raises:
        ValueError: layers that do not match.
        TypeError: a mask that is not of booleans, or scores that are not floating.
    """
    masks.check_mask(mask, weights)
    masks.check_match("scores", scores, weights)
    active = masks.layers(mask)
    moving = {
        name: jnp.clip(
            jnp.rint(fraction * count).astype(int), 0, jnp.minimum(count, mask[name].size - count)
        )
        for name, count in active.items()
    }
    magnitudes = {name: jnp.where(mask[name], jnp.abs(weights[name]), -jnp.inf) for name in mask}
    candidates = {name: jnp.where(mask[name], -jnp.inf, scores[name]) for name in mask}
    stay = masks.top_by_layer(magnitudes, {name: active[name] - moving[name] for name in mask})
    activated = masks.top_by_layer(candidates, moving)
    return {name: stay[name] | activated[name] for name in mask}


def in_time_over_parametrisation(state: State) -> Float[Array, ""]:
    """R_s of arXiv:2102.02887: the share of all weights that were active at some time.

    The density where the mask never moved; at most 1.
    """
    return masks.density(state.ever_active)


def _erased(optimiser, inner, params, mask):
    """The optimiser's state with zeros for the weights outside of a mask.

    What is not of single weights, such as means over rows, stays.
    """

    def is_absent(leaf):
        return isinstance(leaf, optax.MaskedNode)

    def erased(leaf, is_in):
        if is_absent(leaf) or leaf.shape != is_in.shape:
            return leaf
        return jnp.where(is_in, leaf, 0)

    everywhere = jax.tree.map(jnp.ones_like, params)
    is_in = jax.tree.map(lambda leaf: leaf > 0, masks.apply(everywhere, mask))
    return optax.tree.map_params(optimiser, erased, inner, is_in, is_leaf=is_absent)


def _check_fraction(fraction):
    if is_concrete(fraction) and not 0 <= float(fraction) <= 1:
        raise ValueError(f"fraction: got {fraction}; a share of the active weights lies in [0, 1]")
