"""The masks of `sparseland`: what each static method hands over to training, and its controls.

A start is params, a mask and the scores that it was chosen by, all with leading axes [seeds
densities]. A control is the same start with one thing broken: the places within each layer, the
order of the scores, or the params. What only moves numbers is NumPy's, which compiles nothing.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from experiments import _sparseland_networks as networks
from experiments import _sparseland_training as training
from ntkens import tree
from ntkens.models.normalisation import Normalise
from ntkens.sparsity import budgets, masks, pruning

BUDGETS = {"uniform": budgets.uniform, "ERK": budgets.erk}
CHAIN = ("hidden_0/kernel", "hidden_1/kernel", "readout/kernel")


class Start(NamedTuple):
    """What training starts from; every array with leading axes [seeds densities].

    Attributes:
        params: to which the mask is applied.
        mask: of the weights.
        scores: by which the kept were chosen, the largest first; None where nothing chooses.
    """

    params: Any
    mask: Any
    scores: Any = None


def dense(config: Any, width: int) -> Start:
    """Networks of some width with all their weights, at initialisation; of one density."""
    params = repeated(networks.initial(config, width), 1)
    weights = masks.weights(params)
    return Start(params, {name: np.ones(leaf.shape, bool) for name, leaf in weights.items()})


def repeated(stacked: Any, count: int) -> Any:
    """[seeds ...] as [seeds count ...]: the same for each density."""
    return jax.tree.map(
        lambda leaf: np.broadcast_to(leaf[:, None], (leaf.shape[0], count, *leaf.shape[1:])),
        jax.device_get(stacked),
    )


def random(config: Any, budget: str, densities: Sequence[float]) -> Start:
    """Random places with a budget by layer: "uniform" or "ERK"."""
    weights = _weights(config)
    found = [BUDGETS[budget](weights, density) for density in densities]
    kept = {name: np.array([counts[name] for counts in found]) for name in weights}
    params = networks.initial(config, config.width)
    mask = _random_places(jax.random.key(config.seed), masks.weights(params), kept)
    return Start(repeated(params, len(densities)), mask)


@jax.jit
def _random_places(key, weights, kept):
    def of_seed(own):
        seed, weights = own
        scores = pruning.random(networks.key_of(key, seed, networks.MASK), weights)
        return jax.vmap(masks.top_by_layer, (None, 0))(scores, kept)

    return jax.lax.map(of_seed, (jnp.arange(tree.size(weights)), weights))


def at_initialisation(config: Any, method: str, densities: Sequence[float]) -> Start:
    """SNIP and GraSP on one batch, once; SynFlow in rounds, by its scores of the last one."""
    count = len(densities)
    params = repeated(networks.initial(config, config.width), count)
    kept = np.tile(_kept(config, densities), (config.seeds, 1))
    stacked = (repeated(np.arange(config.seeds), count), params, kept)
    mask, scores = training.over_members(_scorer(config, method), stacked, networks.load(config))
    return Start(params, mask, scores)


@functools.cache
def _scorer(config, method):
    model = networks.network(networks.NETWORKS[config.dataset], config.width)

    def flow(params, inputs):
        with linen.intercept_methods(_bypassed):
            return model.apply(params, inputs)

    def member(own, data):
        seed, params, kept = own
        train, _ = networks.examples_of(data, seed)
        inputs, labels = train.inputs[: config.scored], train.labels[: config.scored]
        if method == "SynFlow":

            def score(mask):
                return pruning.synflow(flow, masks.apply(params, mask), inputs)

            mask = pruning.in_rounds(score, masks.weights(params), kept, rounds=config.rounds)
            return mask, score(mask)
        choose = {"SNIP": pruning.snip, "GraSP": pruning.grasp}[method]
        scores = choose(training.loss_of(model), params, inputs, labels)
        return masks.top(scores, kept), scores

    return member


def _bypassed(method, args, kwargs, context):
    """Without normalisation, which hides from SynFlow that a layer is scaled."""
    return args[0] if isinstance(context.module, Normalise) else method(*args, **kwargs)


def after_training(config: Any, trained: Any, densities: Sequence[float]) -> Start:
    """The largest magnitudes of trained networks [seeds ...], whatever their layer."""
    count, scores = len(densities), _magnitudes(trained)
    mask = _largest(scores, _kept(config, densities))
    return Start(repeated(trained, count), mask, repeated(scores, count))


@jax.jit
def _largest(scores, kept):
    return jax.lax.map(lambda own: jax.vmap(masks.top, (None, 0))(own, kept), scores)


def ticket(point: Any, dense: Any, mask: masks.Mask) -> Start:
    """Params [seeds ...] that were gone back to, a mask [seeds densities ...], and as scores the
    magnitudes of the dense network that the first level trained.
    """
    count = jax.tree.leaves(mask)[0].shape[1]
    return Start(repeated(point, count), mask, repeated(_magnitudes(dense), count))


def n_of_m(config: Any, trained: Any, patterns: Sequence[tuple[int, int]]) -> Start:
    """The largest n of every m by magnitude; layers whose inputs m does not divide stay whole."""
    transposed = networks.transposed(networks.NETWORKS[config.dataset])

    def of_pattern(scores, n, m):
        axes = {name: -1 if name in transposed else -2 for name in scores}
        fits = {name: own for name, own in scores.items() if own.shape[axes[name]] % m == 0}
        if not fits:
            raise ValueError(f"patterns: got {n}:{m}, and {m} divides the inputs of no layer")
        whole = {name: jnp.ones(own.shape, bool) for name, own in scores.items()}
        return whole | masks.n_of_m(fits, n, m, transposed=[n for n in transposed if n in fits])

    @jax.jit
    def of_all(scores):
        found = [jax.lax.map(functools.partial(of_pattern, n=n, m=m), scores) for n, m in patterns]
        return jax.tree.map(lambda *each: jnp.stack(each, axis=1), *found)

    return Start(repeated(trained, len(patterns)), of_all(_magnitudes(trained)))


def neurons(config: Any, trained: Any, densities: Sequence[float]) -> Start:
    """Whole hidden units of an MLP: those with the largest sums of magnitudes into them."""
    transposed = networks.transposed("mlp")
    found = [
        budgets.neurons(_weights(config), density, chain=CHAIN, transposed=transposed)
        for density in densities
    ]
    kept = {name: np.array([counts[name] for counts in found]) for name in found[0]}

    @jax.jit
    def of_all(scores):
        def of_seed(own):
            return jax.vmap(
                lambda kept: masks.neurons(own, kept, chain=CHAIN, transposed=transposed)
            )(kept)

        return jax.lax.map(of_seed, scores)

    return Start(repeated(trained, len(densities)), of_all(_magnitudes(trained)))


def control(config: Any, check: str, start: Start, fresh: Any) -> Start:
    """The start with one thing broken.

    Args:
        config: of the script.
        check: "shuffled" permutes the places within each layer; "inverted" keeps the lowest scores
            instead of the highest, as many in each layer as before; "drawn anew" has other params.
        start: of a method with scores.
        fresh: other params, [seeds ...].
    """
    count = jax.tree.leaves(start.mask)[0].shape[1]
    if check == "drawn anew":
        return start._replace(params=repeated(fresh, count))
    if check == "inverted":
        return start._replace(mask=_inverted(start.scores, start.mask))
    return start._replace(mask=_shuffled(jax.random.key(config.seed), start.mask))


@jax.jit
def _inverted(scores, mask):
    def of_member(own):
        scores, mask = own
        kept = {name: jnp.sum(layer, dtype=int) for name, layer in mask.items()}
        return masks.top_by_layer({name: -each for name, each in scores.items()}, kept)

    return jax.lax.map(functools.partial(jax.lax.map, of_member), (scores, mask))


@jax.jit
def _shuffled(key, mask):
    def of_seed(own):
        seed, mask = own
        key_of_seed = networks.key_of(key, seed, networks.SHUFFLE)
        return jax.lax.map(lambda mask: masks.shuffled(key_of_seed, mask), mask)

    return jax.lax.map(of_seed, (jnp.arange(tree.size(mask)), mask))


def at(start: Start, places: Sequence[int]) -> Start:
    """The start at some of its densities."""
    return jax.tree.map(lambda leaf: leaf[:, list(places)], jax.device_get(start))


def joined(starts: Sequence[Start]) -> Start:
    """Several, as one of many densities; without their scores."""
    bare = [jax.device_get(start._replace(scores=None)) for start in starts]
    return jax.tree.map(lambda *each: np.concatenate(each, axis=1), *bare)


def _weights(config):
    return networks.shapes(networks.NETWORKS[config.dataset], config.width)


def _kept(config, densities):
    return np.array([budgets.kept(_weights(config), density) for density in densities])


def _magnitudes(trained):
    return {name: np.abs(weight) for name, weight in masks.weights(trained).items()}
