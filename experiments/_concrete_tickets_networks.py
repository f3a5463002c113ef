"""What `concrete_tickets` trains: data, networks, their features, one recipe for all methods."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen

from ntkens.data import Dataset, Examples, augmentation, offline, tfds
from ntkens.models import mlp, resnet
from ntkens.models.normalisation import Normalise
from ntkens.sparsity import masks
from ntkens.training import fit, losses

CLASSES = 10
DATASETS = ("digits", "cifar10")
TEST = 540  # of the 1797 digits, three tenths
EVALUATED = 1000  # test images at a time, whose statistics a batch normalisation takes


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What the methods are given.

    Attributes:
        init: `(key, inputs) -> params`.
        apply: `(params, inputs) -> logits`.
        loss: `(params, inputs, labels) -> [batch]`.
        features: `(params, inputs) -> [batch ...] of each layer`.
        flow: `apply` without normalisation, for SynFlow.
        augment: of training batches, or None.
        data: both sides.
    """

    init: Callable
    apply: Callable
    loss: Callable
    features: Callable
    flow: Callable
    augment: Callable | None
    data: Dataset


@functools.cache
def task(dataset: str, widths: tuple[int, ...], blocks: int, directory: str) -> Task:
    """The task of a data set; one object each, so that programs are compiled once."""
    if dataset == "digits":
        # The split is one for all seeds: differences are of networks alone.
        data = Dataset(*map(_flat, offline.digits(jax.random.key(0), test=TEST)))
        model = mlp.mlp(widths, CLASSES, parametrisation="standard", w_std=2**0.5, b_std=0.0)
    else:
        images = tfds.load(dataset, directory=directory or None)
        data = offline.standardise(images, by_channel=True)
        model = resnet.resnet(widths, blocks, CLASSES, projects=False, normalisation="batch")

    def loss(params, inputs, labels):
        return losses.cross_entropy(model.apply(params, inputs), labels)

    return Task(
        model.init,
        model.apply,
        loss,
        functools.partial(features, model.apply),
        functools.partial(without_normalisation, model.apply),
        None if dataset == "digits" else augmentation.flip_and_crop,
        data,
    )


def features(apply, params: Any, inputs) -> list:
    """What every ReLU gives, and the logits, without which no gate of the readout would matter."""
    seen = []

    def note(following, args, kwargs, context):
        result = following(*args, **kwargs)
        name = context.module.name or ""
        if context.method_name != "__call__":
            return result
        if name.startswith(("hidden", "stem_norm", "norm_0")):
            seen.append(jax.nn.relu(result))
        elif name.startswith(("stage", "readout")):  # a block ends with its ReLU
            seen.append(result)
        return result

    with linen.intercept_methods(note):
        apply(params, inputs)
    return seen


def without_normalisation(apply, params: Any, inputs):
    """The outputs with every signal left as it is where it would be standardised."""

    def skip(following, args, kwargs, context):
        if not isinstance(context.module, Normalise) or context.method_name != "__call__":
            return following(*args, **kwargs)
        scale, bias = (context.module.get_variable("params", name) for name in ("scale", "bias"))
        return args[0] * scale[None, None, None] + bias[None, None, None]

    with linen.intercept_methods(skip):
        return apply(params, inputs)


def optimiser(config, first_epoch: int, rows: int) -> optax.GradientTransformation:
    """SGD with momentum, decay, drops and a clipped norm; the steps count from `first_epoch`."""
    per_epoch = fit.steps_per_epoch(rows, config.batch)
    drops = np.array([share * config.epochs for share in config.drops]) - first_epoch

    def schedule(step):
        passed = jnp.sum(step >= jnp.asarray(drops * per_epoch))
        return config.rate * 0.1 ** passed.astype(jnp.float32)

    parts = [optax.clip_by_global_norm(config.clip)] if math.isfinite(config.clip) else []
    if config.decay:
        parts.append(optax.add_decayed_weights(config.decay))
    return optax.chain(*parts, optax.sgd(schedule, momentum=0.9))


def trained(config, found: Task, key, params, mask, train: Examples, *, rewound: bool) -> Any:
    """Params at the end of training under the mask, from the start or from the rewind point."""
    first = config.rewind if rewound else 0
    frozen = masks.frozen(optimiser(config, first, len(train.labels)), mask)
    state = fit.start(masks.apply(params, mask), frozen, jax.random.fold_in(key, first))
    state, _ = fit.epochs(
        found.loss, frozen, state, train, epochs=config.epochs - first, batch=config.batch,
        augment=found.augment,
    )  # fmt: skip
    return state.params


def to_rewind_point(config, found: Task, key, params, train: Examples) -> Any:
    """The dense network after the first epochs of the same recipe."""
    free = optimiser(config, 0, len(train.labels))
    state = fit.start(params, free, key)
    state, _ = fit.epochs(
        found.loss, free, state, train, epochs=config.rewind, batch=config.batch,
        augment=found.augment,
    )  # fmt: skip
    return state.params


def accuracy(found: Task, params, test: Examples):
    """The share of test examples that are right."""
    count = len(test.labels)
    size = EVALUATED if count % EVALUATED == 0 else count
    batches = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), test)

    def right(batch):
        return jnp.mean(jnp.argmax(found.apply(params, batch.inputs), axis=-1) == batch.labels)

    return jnp.mean(jax.lax.map(right, batches))


def _flat(examples):
    return Examples(examples.inputs.reshape(len(examples.inputs), -1), examples.labels)
