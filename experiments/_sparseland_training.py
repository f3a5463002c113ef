"""How `sparseland` trains: one recipe for every method, with masks and seeds as data.

A member is a seed, its first params and a mask. Methods differ in what they hand over; data,
initial params, order of the examples, optimiser and steps of a seed are the same for all of them,
and so differences between methods are paired. Seeds and densities go through one compiled program.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from experiments import _sparseland_networks as networks
from ntkens import tree
from ntkens.data import Examples, augmentation
from ntkens.models import Model
from ntkens.sparsity import dynamic, masks, rewinding
from ntkens.training import fit, losses, members

LARGEST_NORM = 2.0  # of a gradient; longer ones are shortened
REST = 0.75  # share of the steps after which a mask no longer moves


class Trained(NamedTuple):
    """What training leaves; every array with leading axes [seeds densities].

    Attributes:
        params: after the last step.
        mask: at the end.
        accuracy: on the test examples.
        explored: R_s, the share of weights that were ever active.
    """

    params: Any
    mask: masks.Mask
    accuracy: Float[Array, "seeds densities"]
    explored: Float[Array, "seeds densities"]


def steps(config: Any) -> int:
    """Of one training from the first epoch to the last."""
    return config.epochs * fit.steps_per_epoch(
        networks.load(config).train.labels.shape[1], config.batch
    )


def optimiser(config: Any, start: int = 0) -> optax.GradientTransformation:
    """SGD with momentum 0.9, whose rate falls to a tenth at 50% and again at 75% of the steps.

    `start` is the step that training continues from.
    """
    whole = steps(config)

    def rate(step):
        place = (step + start) / whole
        return config.rate * jnp.where(place < 0.5, 1.0, jnp.where(place < 0.75, 0.1, 0.01))

    return optax.chain(
        optax.clip_by_global_norm(LARGEST_NORM),
        optax.add_decayed_weights(config.decay),
        optax.sgd(rate, momentum=0.9),
    )


def moves(config: Any) -> int:
    """How often SET and RigL move their masks: every `period` steps, before the last quarter."""
    return (round(REST * steps(config)) - 1) // config.period


def loss_of(model: Model):
    """A loss for each example of a batch."""

    def loss(params, inputs, labels):
        return losses.cross_entropy(model.apply(params, inputs), labels)

    return loss


def accuracy(model: Model, params: Any, test: Examples) -> Float[Array, ""]:
    """The share of test examples that are right."""
    return jnp.mean(model.apply(params, test.inputs).argmax(axis=-1) == test.labels)


def train(config: Any, params: Any, mask: Any, *, width: int = 0, first: int = 0) -> Trained:
    """Trains every member under its mask, from an epoch on to the last.

    Members go through one compiled program, which all methods and controls share: of all seeds and
    as many of the second axis as there are densities; the last are trained again to fill it up.

    Args:
        config: of the script.
        params: what training starts from, [seeds others ...].
        mask: of the same axes.
        width: of the network, if not the config's.
        first: the epoch that training continues from.
    """
    trainer = _static_trainer(config, width or config.width, first)
    stacked, data = (_seeds(mask), params, mask), networks.load(config)
    others, together = jax.tree.leaves(mask)[0].shape[1], len(config.densities)
    blocks = []
    for start in range(0, others, together):
        places = np.minimum(np.arange(start, start + together), others - 1)
        block = jax.tree.map(lambda leaf, places=places: np.asarray(leaf)[:, places], stacked)
        blocks.append(over_members(trainer, block, data))
    return jax.tree.map(lambda *each: np.concatenate(each, axis=1)[:, :others], *blocks)


def train_moving(
    config: Any,
    method: str,
    params: Any,
    mask: masks.Mask,
    fraction: Float[np.ndarray, "seeds densities"],
) -> Trained:
    """The same with SET or RigL, which move so large a fraction of each layer's weights."""
    trainer = _moving_trainer(config, method)
    return over_members(trainer, (_seeds(mask), params, mask, fraction), networks.load(config))


def walk(
    config: Any, params: Any, levels: rewinding.Levels, rewind: int
) -> tuple[Any, Any, Trained]:
    """Magnitude pruning from level to level, back each time to the params at an epoch.

    Returns:
        The params that are gone back to, [seeds ...]; those that the first level trains, which is
        dense; and what was trained at each wanted density, [seeds densities ...].
    """
    walker = _walker(config, levels, rewind)
    seeds = np.arange(config.seeds)[:, None]
    found = over_members(walker, (seeds, params), networks.load(config))
    return jax.tree.map(lambda leaf: leaf[:, 0], found)


def _seeds(mask):
    axes = jax.tree.leaves(mask)[0].shape[:2]
    return np.broadcast_to(np.arange(axes[0])[:, None], axes)


def over_members(function: Any, stacked: Any, *shared: Any) -> Any:
    """`members.map` over two leading axes, of seeds and of anything else, on all devices.

    The results are NumPy's: to take them apart compiles nothing.
    """
    axes = jax.tree.leaves(stacked)[0].shape[:2]
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stacked)
    # A network with its momentum and mask fills the cache of a core: one at a time on a CPU.
    chunk = 1 if jax.default_backend() == "cpu" else None
    found = members.map(function, flat, *shared, chunk=chunk, mesh=members.all_devices())
    found = jax.device_get(found)
    return jax.tree.map(lambda leaf: leaf.reshape(*axes, *leaf.shape[1:]), found)


def _run(config, model, key, optimiser, params, data, first, last):
    """The state after the epochs from the first to before the last."""
    state = fit.start(params, optimiser, key)._replace(epoch=jnp.asarray(first, jnp.int32))
    augment = None if config.dataset == "digits" else augmentation.flip_and_crop
    state, _ = fit.epochs(
        loss_of(model), optimiser, state, data.train,
        epochs=last - first, batch=config.batch, augment=augment,
    )  # fmt: skip
    return state


def _train_static(config, model, seed, params, mask, data, first, last):
    """Params after the epochs from the first to before the last, under a mask."""
    start = first * fit.steps_per_epoch(len(data.train.labels), config.batch)
    frozen = masks.frozen(optimiser(config, start), mask)
    key = networks.key_of(jax.random.key(config.seed), seed, networks.TRAINING)
    params = masks.apply(params, mask)
    return _run(config, model, key, frozen, params, data, first, last).params


@functools.cache  # a new function would be compiled anew
def _static_trainer(config, width, first):
    model = networks.network(networks.NETWORKS[config.dataset], width)

    def member(own, data):
        seed, params, mask = own
        data = networks.examples_of(data, seed)
        last = config.epochs
        params = _train_static(config, model, seed, params, mask, data, first, last)
        return Trained(params, mask, accuracy(model, params, data.test), masks.density(mask))

    return member


@functools.cache
def _moving_trainer(config, method):
    model = networks.network(networks.NETWORKS[config.dataset], config.width)
    when = {"period": config.period, "end": round(REST * steps(config))}

    def member(own, data):
        seed, params, mask, fraction = own
        data = networks.examples_of(data, seed)
        key = networks.key_of(jax.random.key(config.seed), seed, networks.TRAINING)
        if method == "SET":
            own_key = networks.key_of(jax.random.key(config.seed), seed, networks.MOVES)
            moving = dynamic.set(own_key, optimiser(config), mask, fraction=fraction, **when)
        else:
            moving = dynamic.rigl(optimiser(config), mask, fraction=fraction, **when)
        state = _run(config, model, key, moving, masks.apply(params, mask), data, 0, config.epochs)
        explored = dynamic.in_time_over_parametrisation(state.optimiser)
        right = accuracy(model, state.params, data.test)
        return Trained(state.params, state.optimiser.mask, right, explored)

    return member


@functools.cache
def _walker(config, levels, rewind):
    model = networks.network(networks.NETWORKS[config.dataset], config.width)
    stops = levels._replace(wanted=(0, *levels.wanted))  # the dense level as well

    def member(own, data):
        seed, params = own
        data = networks.examples_of(data, seed)

        def trained(params, mask, first, last):
            return _train_static(config, model, seed, params, mask, data, first, last)

        everything = {name: jnp.ones(w.shape, bool) for name, w in masks.weights(params).items()}
        point = trained(params, everything, 0, rewind) if rewind else params
        tickets = rewinding.path(
            lambda params, mask: trained(params, mask, rewind, config.epochs), point, stops
        )
        whole = tree.index(tickets.params, 0)
        mask, params = tree.index(tuple(tickets), slice(1, None))
        right = jax.lax.map(lambda params: accuracy(model, params, data.test), params)
        return point, whole, Trained(params, mask, right, jnp.ones(len(right)))

    return member
