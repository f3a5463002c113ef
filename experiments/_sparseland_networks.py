"""The data and networks of `sparseland`, and how many weights they have, used how often."""

import bisect
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from ntkens.data import offline, tfds
from ntkens.models import Model, mlp, resnet
from ntkens.sparsity import masks

CLASSES = 10
NETWORKS = {"digits": "mlp", "cifar10": "resnet20"}
TEST = 517  # held-back digits: 1280 are left, twenty whole batches of 64
PARAMS, TRAINING, MASK, SHUFFLE, MOVES, ANEW = range(6)  # what a key of a seed is for


@functools.cache  # one copy on the device
def load(config: Any) -> Any:
    """A `Dataset` with a leading axis: a split for each seed of the digits, one of CIFAR-10.

    Digits are standardised by their training side; images have mean 0 and deviation 1 in each
    channel.
    """
    if config.dataset == "digits":
        keys = [jax.random.fold_in(jax.random.key(config.seed), s) for s in range(config.seeds)]
        splits = [offline.standardise(offline.digits(key, test=TEST)) for key in keys]
    else:
        images = tfds.load("cifar10", directory=config.data_directory or None)
        splits = [offline.standardise(images, by_channel=True)]
    return jax.tree.map(lambda *sides: jnp.asarray(np.stack(sides)), *splits)


@functools.cache  # a new model would be compiled anew
def network(name: str, width: int) -> Model:
    """An MLP of two hidden layers that takes images flat, or a ResNet-20; `width` of the first."""
    if name == "resnet20":
        return resnet.resnet20(CLASSES, width=width, normalisation="batch")
    flat = mlp.mlp(
        [width, width], CLASSES, parametrisation="standard", w_std=math.sqrt(2), b_std=0.0
    )
    return Model(
        lambda key, images: flat.init(key, _flat(images)),
        lambda params, images: flat.apply(params, _flat(images)),
    )


def _flat(images):
    return images.reshape(len(images), -1)


def transposed(name: str) -> tuple[str, ...]:
    """The layers whose kernels are held as [outputs inputs]."""
    return ("readout/kernel",) if name == "mlp" else ()


@functools.cache
def shapes(name: str, width: int) -> masks.Weights:
    """The weights of a network that can be pruned, as shapes alone."""
    size = (1, 8, 8, 1) if name == "mlp" else (1, 32, 32, 3)
    images = jax.ShapeDtypeStruct(size, jnp.float32)
    params = jax.eval_shape(network(name, width).init, jax.random.key(0), images)
    return masks.weights(params)


def widest(name: str, width: int, kept: int) -> int:
    """The largest width with at most so many weights, and no larger than `width`.

    Raises:
        ValueError: one unit has more weights than that.
    """
    narrow = bisect.bisect_right(
        range(1, width + 1), kept, key=lambda width: masks.total(shapes(name, width))
    )
    if narrow:
        return narrow
    raise ValueError(
        f"densities: one leaves {kept} weights, and a dense {name} of width 1 has "
        f"{masks.total(shapes(name, 1))}; want a larger density or width"
    )


def uses(name: str, width: int) -> dict[str, int]:
    """How often each weight of a layer multiplies for one example: at every place of its output."""
    sizes = {"stem": 32, "stage_0": 32, "stage_1": 16, "stage_2": 8}

    def places(path):
        return math.prod(size**2 for stage, size in sizes.items() if path.startswith(stage))

    return {path: places(path) for path in shapes(name, width)}


def key_of(key: Key[Array, ""], seed: Any, purpose: Any) -> Array:
    """The key of a seed for one purpose; the same for all methods."""
    return jax.random.fold_in(jax.random.fold_in(key, seed), purpose)


@functools.cache
def initial(config: Any, width: int, purpose: int = PARAMS) -> Any:
    """Params of each seed before training, [seeds ...]."""
    seeds = np.arange(config.seeds)
    return jax.device_get(_initialiser(config, width)(jax.random.key(config.seed), seeds, purpose))


@functools.cache
def _initialiser(config, width):
    model = network(NETWORKS[config.dataset], width)
    example = load(config).train.inputs[0, :1]

    @jax.jit
    def initial(key, seeds, purpose):
        # A loop, for vmapped random numbers take twice as long to compile.
        return jax.lax.map(lambda seed: model.init(key_of(key, seed, purpose), example), seeds)

    return initial


def examples_of(data: Any, seed: Int[Array, ""]) -> Any:
    """The split of a seed; the only one, if there is one."""
    return jax.tree.map(lambda side: side[seed % len(side)], data)
