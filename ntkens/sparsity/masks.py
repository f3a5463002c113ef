"""The algebra of masks: which weights a network keeps, as booleans beside its params.

    weights = masks.weights(params)                            # {"hidden_0/kernel": ..., ...}
    mask = masks.top(jax.tree.map(jnp.abs, weights), 1000)     # the 1000 largest magnitudes
    optimiser = masks.frozen(optax.sgd(0.1, momentum=0.9), mask)
    state = fit.start(masks.apply(params, mask), optimiser, key)

Weights are the floating leaves of two or more axes that are called "kernel", by their paths: biases
and scales are never pruned. Layers are in alphabetical order of their paths, which is the order in
which JAX holds a dictionary; weights of a layer are in row-major order. A kernel is [inputs
outputs], a convolution's [height width inputs outputs]; one that is held as [outputs inputs], as
the readout of `models.mlp` is, is named in `transposed` where the direction matters.

All functions are of one network and traceable, and a count of kept weights may itself be traced:
one program makes the masks of all seeds and densities.

    jax.vmap(masks.top, (None, 0))(scores, jnp.array([100, 1000]))
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from ntkens.sparsity.checks import check_count, check_names, check_scores, check_transposed

Weights = dict[str, Float[Array, "..."]]
"""The weights that can be pruned, by path."""

Mask = dict[str, Bool[Array, "..."]]
"""The same keys and shapes: True where a weight is kept."""


def weights(params: Any) -> Weights:
    """The weights of a network that can be pruned, by path: `{"hidden_0/kernel": ...}`.

    Raises:
        ValueError: params without any.
    """
    found = {path: leaf for path, leaf in _leaves(params) if _is_weight(path, leaf)}
    if not found:
        raise ValueError(
            f"params: got leaves {[path for path, _ in _leaves(params)]}; weights that can be "
            'pruned are floating, of two axes or more, and called "kernel"'
        )
    return found


def replace(params: Any, new: Weights) -> Any:
    """Params with other weights, all else untouched; undoes `weights`.

    Raises:
        ValueError: weights that do not match the params.
    """
    check_match("new", new, weights(params))

    def of_path(path, leaf):
        return new.get(_name(path), leaf)

    return jax.tree_util.tree_map_with_path(of_path, params)


def apply(params: Any, mask: Mask) -> Any:
    """Params with zeros where the mask is False, all else untouched.

    Raises:
        ValueError: a mask that does not match the params.
        TypeError: a mask that is not of booleans.
    """
    found = weights(params)
    check_mask(mask, found)
    return replace(params, {name: jnp.where(mask[name], w, 0) for name, w in found.items()})


def total(mask: Mapping[str, Shaped[Array, "..."]]) -> int:
    """The number of weights, kept or not; of a mask, or of weights."""
    return sum(math.prod(jnp.shape(layer)) for layer in mask.values())


def kept(mask: Mask) -> Int[Array, ""]:
    """The number of weights that are kept."""
    return sum(layers(mask).values(), jnp.zeros((), int))


def density(mask: Mask) -> Float[Array, ""]:
    """The share of weights that are kept."""
    return kept(mask) / total(mask)


def layers(mask: Mask) -> dict[str, Int[Array, ""]]:
    """The number of weights that are kept in each layer."""
    return {name: jnp.sum(layer, dtype=int) for name, layer in mask.items()}


def empty_layers(mask: Mask) -> Int[Array, ""]:
    """How many layers have no weight left: above 0, the output no longer sees the input."""
    return sum((count == 0 for count in layers(mask).values()), jnp.zeros((), int))


def top(scores: Weights, kept: int | Int[Array, ""]) -> Mask:
    """The `kept` weights of largest score, whatever their layer.

    Of equal scores at the threshold the first are kept, in order of layers and then row-major. A
    layer may lose all its weights: see `empty_layers`. A traced score that is NaN keeps nothing.

    Args:
        scores: of the weights; infinite ones are allowed.
        kept: how many; may be traced.

    Raises:
        ValueError: a score that is NaN; a count below 1 or above the number of weights.
        TypeError: scores that are not floating, or a count that is not an integer.
    """
    check_scores(scores)
    check_count("kept", kept, total(scores))
    names = sorted(scores)
    flat = jnp.concatenate([jnp.ravel(scores[name]) for name in names])
    ends = np.cumsum([jnp.size(scores[name]) for name in names])[:-1]
    parts = jnp.split(_largest(flat, kept), ends)
    return {
        name: part.reshape(jnp.shape(scores[name])) for name, part in zip(names, parts, strict=True)
    }


def top_within(mask: Mask, scores: Weights, kept: int | Int[Array, ""]) -> Mask:
    """The `kept` weights of largest score among those that the mask keeps: none comes back.

    As `top`, whose errors it has. Scores outside the mask do not matter, NaN or not; of a traced
    one within it that is NaN nothing is kept, then or later.
    """
    within = {name: jnp.where(mask[name], each, -jnp.inf) for name, each in scores.items()}
    return {name: each & mask[name] for name, each in top(within, kept).items()}


def top_by_layer(scores: Weights, kept: Mapping[str, int | Int[Array, ""]]) -> Mask:
    """The weights of largest score in each layer, as many as `kept` says.

    Of equal scores at a layer's threshold the first in row-major order are kept. A traced score
    that is NaN keeps nothing of its layer.

    Args:
        scores: of the weights; infinite ones are allowed.
        kept: how many in each layer, as from `budgets`; may be traced.

    Raises:
        ValueError: a score that is NaN; other layers than those of the scores; a count below 1 or
            above the number of weights in the layer.
        TypeError: scores that are not floating, or a count that is not an integer.
    """
    check_scores(scores)
    check_names("kept", kept, scores)
    for name, layer in scores.items():
        check_count(f"kept[{name!r}]", kept[name], jnp.size(layer))
    return {
        name: _largest(jnp.ravel(layer), kept[name]).reshape(jnp.shape(layer))
        for name, layer in scores.items()
    }


def n_of_m(scores: Weights, n: int, m: int, *, transposed: Collection[str] = ()) -> Mask:
    """N:M sparsity: the n largest of every m consecutive weights along the input axis.

    Of equal scores the first are kept. A layer that is to stay whole, such as one of 3 input
    channels, is left out of the scores.

    Args:
        scores: of the weights.
        n: kept of every m, from 1 to m.
        m: length of a group; it divides the inputs of every layer.
        transposed: layers held as [outputs inputs].

    Raises:
        ValueError: n or m out of range; a layer whose inputs m does not divide; a score that is
            NaN; a transposed layer that is not there or has more than two axes.
        TypeError: scores that are not floating.
    """
    check_scores(scores)
    check_transposed(transposed, scores)
    check_count("m", m)
    check_count("n", n, m)

    def of_layer(name, layer):
        axis = _input_axis(name, transposed)
        inputs_last = jnp.moveaxis(layer, axis, -1)
        if inputs_last.shape[-1] % m:
            raise ValueError(
                f"m: got {m}, which does not divide the {inputs_last.shape[-1]} inputs of "
                f"{name!r}; leave the layer out of the scores, or name it in transposed if it is "
                "held as [outputs inputs]"
            )
        groups = inputs_last.reshape(-1, m)
        chosen = jax.vmap(_largest, (0, None))(groups, n).reshape(inputs_last.shape)
        return jnp.moveaxis(chosen, -1, axis)

    return {name: of_layer(name, layer) for name, layer in scores.items()}


def neurons(
    scores: Weights,
    kept: Mapping[str, int | Int[Array, ""]],
    *,
    chain: Sequence[str],
    transposed: Collection[str] = (),
) -> Mask:
    """Structured: whole neurons (or filters), with the weights into them and those out of them.

    A neuron's score is the sum over the weights into it. Each layer of the chain but the last keeps
    its `kept` best, of equal ones the first; the outputs of the last layer all stay. A layer that
    is not in the chain stays whole.

    Args:
        scores: of the weights.
        kept: how many neurons, for each layer of the chain but the last; may be traced.
        chain: layers in the order in which one feeds the next.
        transposed: layers held as [outputs inputs].

    Raises:
        ValueError: a chain of fewer than two layers, of layers that are not there, or that do not
            fit each other; other layers in `kept`; a count below 1 or above the width; NaN.
        TypeError: scores that are not floating, or a count that is not an integer.
    """
    check_scores(scores)
    widths = chain_widths(scores, chain, transposed)
    check_names("kept", kept, widths)
    mask = {name: jnp.ones(jnp.shape(layer), bool) for name, layer in scores.items()}
    alive = None
    for name in chain:
        # As [..., inputs, outputs]; both ways, for a transpose of two axes undoes itself.
        layer = mask[name].T if name in transposed else mask[name]
        if alive is not None:
            layer = layer & jnp.expand_dims(alive, (*range(layer.ndim - 2), -1))
        if name in widths:
            check_count(f"kept[{name!r}]", kept[name], widths[name])
            into = jnp.asarray(scores[name].T if name in transposed else scores[name])
            alive = _largest(jnp.sum(into, axis=range(into.ndim - 1)), kept[name])
            layer = layer & jnp.expand_dims(alive, range(layer.ndim - 1))
        mask[name] = layer.T if name in transposed else layer
    return mask


def shuffled(key: Key[Array, ""], mask: Mask) -> Mask:
    """A mask of as many weights in each layer, at random: a check of whether places matter."""
    keys = jax.random.split(key, len(mask))

    def of_layer(key, layer):
        order = jax.random.uniform(key, (layer.size,), jnp.float32)
        return _largest(order, jnp.sum(layer, dtype=int)).reshape(layer.shape)

    return {name: of_layer(keys[place], mask[name]) for place, name in enumerate(sorted(mask))}


def inverted(scores: Weights, kept: int | Int[Array, ""]) -> Mask:
    """The `kept` weights of smallest score: a check of whether scores matter. Errors: `top`'s."""
    return top({name: -layer for name, layer in scores.items()}, kept)


def frozen(
    optimiser: optax.GradientTransformation, mask: Mask
) -> optax.GradientTransformationExtraArgs:
    """The optimiser, with pruned weights held at exactly zero.

    The optimiser sees zero gradients and zero params where the mask is False, and so its momentum
    and its norms are of the kept weights alone; what it makes of them there is replaced by minus
    the param. A pruned weight that is not yet zero is so after one step; `apply` the mask first for
    that step to see it. The mask may be traced.

    Raises:
        ValueError: at the first update, a mask that does not match the params; an update without
            params.
        TypeError: at the first update, a mask that is not of booleans.
    """
    inner = optax.with_extra_args_support(optimiser)

    def update(updates, state, params=None, **extra):
        if params is None:
            raise ValueError("params: got None; an update under a mask needs the params")
        updates, state = inner.update(apply(updates, mask), state, apply(params, mask), **extra)
        pairs, old = weights(updates), weights(params)
        held = {name: jnp.where(mask[name], pairs[name], -old[name]) for name in mask}
        return replace(updates, held), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def check_mask(mask: Mask, weights: Weights) -> None:
    """An error that names the layer, if the mask does not match the weights or is not boolean."""
    check_match("mask", mask, weights)
    for name, layer in mask.items():
        if not jnp.issubdtype(jnp.result_type(layer), jnp.bool_):
            raise TypeError(
                f"mask[{name!r}]: got dtype {jnp.result_type(layer)}; a mask is of booleans"
            )


def check_match(argument: str, new: Mapping[str, Any], weights: Weights) -> None:
    """A `ValueError` that names the layer, if keys or shapes are not those of the weights."""
    check_names(argument, new, weights)
    for name, layer in weights.items():
        if jnp.shape(new[name]) != jnp.shape(layer):
            raise ValueError(
                f"{argument}[{name!r}]: got shape {jnp.shape(new[name])} for weights "
                f"{jnp.shape(layer)}; members go through jax.vmap"
            )


def chain_widths(
    weights: Weights, chain: Sequence[str], transposed: Collection[str] = ()
) -> dict[str, int]:
    """The numbers of neurons between the layers of a chain, by the layer they are outputs of.

    Raises:
        ValueError: a chain of fewer than two layers, of layers that are not there, or of which one
            has not as many inputs as the one before it has outputs.
    """
    check_transposed(transposed, weights)
    if len(chain) < 2 or len(set(chain)) < len(chain) or not set(chain) <= set(weights):
        raise ValueError(
            f"chain: got {list(chain)}; it is two or more different ones of {sorted(weights)}"
        )
    widths = {}
    for before, after in itertools.pairwise(chain):
        outputs = weights[before].shape[-2 if before in transposed else -1]
        inputs = weights[after].shape[_input_axis(after, transposed)]
        if inputs != outputs:
            raise ValueError(
                f"chain: {before!r} has {outputs} outputs and {after!r} {inputs} inputs; name "
                "layers held as [outputs inputs] in transposed"
            )
        widths[before] = outputs
    return widths


def _leaves(params):
    return [(_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]


def _name(path):
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_weight(name, leaf):
    floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return floating and jnp.ndim(leaf) >= 2 and name.split("/")[-1] == "kernel"


def _input_axis(name, transposed):
    return -1 if name in transposed else -2


@jax.jit  # op by op, each of many steps would compile by itself at every length
def _largest(scores, kept):
    """A flat mask of the largest scores, of equal ones the first; nothing at all if one is NaN.

    The threshold is found bit by bit: passes over the scores in place of a sort of them.
    """
    ranks = _in_order(scores)
    highest_bit = _highest_bit(ranks.dtype)

    def one_bit(place, threshold):
        higher = threshold | (highest_bit >> place.astype(ranks.dtype))
        return jnp.where(jnp.sum(ranks >= higher, dtype=int) >= kept, higher, threshold)

    bits = 8 * ranks.dtype.itemsize
    threshold = jax.lax.fori_loop(0, bits, one_bit, jnp.zeros((), ranks.dtype))
    above, equal = ranks > threshold, ranks == threshold
    room = kept - jnp.sum(above, dtype=int)
    chosen = above | (equal & (jnp.cumsum(equal, dtype=int) <= room))
    return chosen & ~jnp.any(jnp.isnan(scores))


def _in_order(scores):
    """Floats as unsigned integers in the same order: of negative ones all bits are flipped."""
    unsigned = jnp.dtype(f"uint{8 * scores.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(jnp.where(scores == 0, 0, scores), unsigned)  # -0 is 0
    highest_bit = _highest_bit(unsigned)
    return jnp.where(bits >= highest_bit, ~bits, bits | highest_bit)


def _highest_bit(unsigned):
    return jnp.array(1 << (8 * unsigned.itemsize - 1), unsigned)
