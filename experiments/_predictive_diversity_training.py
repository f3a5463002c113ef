"""What `predictive_diversity` trains: data, networks, and joint ensembles of several seeds."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkens.data import Examples, augmentation, offline, tfds
from ntkens.ensembles import diversity
from ntkens.models import Model, conv, mlp, resnet
from ntkens.training import fit, members

EVALUATED_AT_ONCE = 1000  # examples: the activations of more would not fit an accelerator


class Task(NamedTuple):
    """What each seed learns from, and is tested on.

    Attributes:
        pool: all examples.
        train: of each seed, the rows of the pool to learn from.
        test: of each seed, those to be tested on.
        classes: how many.
    """

    pool: Examples
    train: np.ndarray
    test: np.ndarray
    classes: int


@functools.cache
def task(config) -> Task:
    """Digits are split anew for every seed; images as their authors did, for all seeds alike."""
    if config.dataset == "digits":
        data = offline.digits(jax.random.key(config.seed))
    else:
        data = tfds.load(config.dataset, directory=config.data_directory or None)
    whole = (np.concatenate(pair) for pair in zip(data.train, data.test, strict=True))
    pool, size = Examples(*whole), len(data.train.labels)
    orders = np.tile(np.arange(len(pool.labels)), (config.seeds, 1))
    if config.dataset == "digits":
        orders = np.random.default_rng(config.seed).permuted(orders, axis=1)
        size = config.train
        if not 0 < size < len(pool.labels):
            raise ValueError(f"train: got {size}; want 1 to {len(pool.labels) - 1} of the digits")
    return Task(pool, orders[:, :size], orders[:, size:], int(pool.labels.max()) + 1)


def build(name: str, classes: int) -> Model:
    """A network by its name: "mlp-16-16", "conv-16-32-64" (by widths) or "resnet18"."""
    kind, *sizes = name.split("-")
    widths = [int(size) for size in sizes]
    match kind:
        case "mlp":
            network = mlp.mlp(
                widths, classes, parametrisation="standard", w_std=math.sqrt(2), b_std=0.0
            )
            return Model(
                lambda key, images: network.init(key, images.reshape(len(images), -1)),
                lambda params, images: network.apply(params, images.reshape(len(images), -1)),
            )
        case "conv" if widths:
            return conv.conv_net(widths, classes)
        case "resnet18" if not widths:
            return resnet.resnet18(classes)
    raise ValueError(f"networks: got {name!r}; want mlp-16-16, conv-16-32-64 or resnet18, say")


def train(config, network: str, regulariser: str, gamma: float, seeds: np.ndarray, stream: int = 0):
    """Test logits of a joint ensemble for each seed, [seeds members n classes].

    A seed's split, initial weights and batches are the same at every gamma, with every regulariser
    and for every network, so that differences are paired; another stream has other weights and
    batches on the same split.
    """
    data = task(config)
    key = jax.random.fold_in(jax.random.key(config.seed), stream)
    keys = members.keys(key, config.seeds)[jnp.asarray(seeds)]
    params, run_keys = _initial(config, network)(keys)
    strengths = np.full(len(seeds), gamma, np.float32)
    own = (params, run_keys, strengths, data.train[seeds], data.test[seeds])
    # on a CPU the members of one ensemble are batch enough, and to ask costs a compilation
    chunk = 1 if jax.default_backend() == "cpu" else None
    return members.map(_trainer(config, network, regulariser), own, data.pool, chunk=chunk)


@functools.cache  # apart from the training, since the regularisers have it in common
def _initial(config, network):
    model = build(network, task(config).classes)
    example = jnp.asarray(task(config).pool.inputs[:1])

    def initial(key):
        init_key, run_key = jax.random.split(key)
        keys = members.keys(init_key, config.members)
        return jax.vmap(model.init, (0, None))(keys, example), run_key

    return jax.jit(jax.vmap(initial))


def test_labels(config, seeds: np.ndarray) -> np.ndarray:
    """Of the examples that these seeds are tested on, [seeds n]."""
    data = task(config)
    return data.pool.labels[data.test[seeds]]


@functools.cache  # a new function would be compiled anew, and every gamma can share one
def _trainer(config, network, regulariser):
    model = build(network, task(config).classes)
    joint = jax.vmap(model.apply, (0, None))
    steps = config.epochs * fit.steps_per_epoch(task(config).train.shape[1], config.batch)
    optimiser = optimisers(config, steps)

    def ensemble(own, pool):
        params, run_key, gamma, train_rows, test_rows = own

        def loss(params, inputs, labels):
            return diversity.regularised(joint(params, inputs), labels, gamma, regulariser)

        state, _ = fit.epochs(
            loss,
            optimiser,
            fit.start(params, optimiser, run_key),
            jax.tree.map(lambda leaf: leaf[train_rows], pool),
            epochs=config.epochs,
            batch=config.batch,
            augment=augmentation.flip_and_crop if config.augment else None,
        )
        outputs = jax.lax.map(
            lambda row: joint(state.params, pool.inputs[row][None])[:, 0],
            test_rows,
            batch_size=min(EVALUATED_AT_ONCE, len(test_rows)),
        )
        return jnp.swapaxes(outputs, 0, 1)

    return ensemble


def optimisers(config, steps: int) -> optax.GradientTransformation:
    """Adam; or SGD with Nesterov's momentum, weight decay and a cosine after a linear warm-up.

    The joint loss is a mean over members, and so a member's gradient is 1/M of what it is alone.
    Adam does not notice; SGD takes M times the rate, and so a part of the decay.
    """
    if config.optimiser == "adam":
        return optax.adam(config.rate)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.members * config.rate, int(0.3 * steps), steps
    )
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay / config.members),
        optax.sgd(schedule, momentum=0.9, nesterov=True),
    )
