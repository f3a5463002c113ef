"""Data and trained networks of `early_exit_cascades`: logits of many networks, as one program."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ntkens.data import Examples, augmentation, offline, tfds
from ntkens.models import Model, cost, mlp, wide_resnet
from ntkens.training import fit, losses, members


class Data(NamedTuple):
    """Images of the classes that are learned, and of others.

    Attributes:
        known: of the classes that are learned.
        shifted: images of others.
        fixed_test: so many at the end of `known` are for testing; 0: the split is random.
    """

    known: Examples
    shifted: Float[np.ndarray, "m height width channels"]
    fixed_test: int


class Logits(NamedTuple):
    """What networks say, and the truth; every array with a leading axis of seeds.

    Attributes:
        validation: of held-back examples, on which thresholds are set.
        validation_labels: theirs.
        test: of test examples.
        test_labels: theirs.
        shifted: of examples of unknown classes.
    """

    validation: Float[Array, "seeds members n classes"]
    validation_labels: Int[Array, "seeds n"]
    test: Float[Array, "seeds members n classes"]
    test_labels: Int[Array, "seeds n"]
    shifted: Float[Array, "seeds members n classes"]


def load(name: str, directory: str) -> Data:
    """Digits of 8 x 8 pixels without the classes 8 and 9; or CIFAR-100, and SVHN as the others."""
    if name == "digits":
        whole = offline.digits(jax.random.key(0))
        images, labels = (np.concatenate(parts) for parts in zip(*whole, strict=True))
        is_known = labels < 8
        return Data(Examples(images[is_known], labels[is_known]), images[~is_known], 0)
    images = tfds.load("cifar100", directory=directory or None)
    inputs, labels = (np.concatenate(parts) for parts in zip(*images, strict=True))
    others, tests = tfds.load("svhn_cropped", directory=directory or None).test, images.test.labels
    return Data(Examples(inputs, labels), others.inputs[: len(tests)], len(tests))


def network(config: Any, scale: float, classes: int) -> Model:
    """An MLP of `width * scale` hidden units, or a wide ResNet of `widen * scale`.

    Raises:
        ValueError: a scale that gives no whole number of units.
    """
    size = scale * (config.width if config.dataset == "digits" else config.widen)
    if abs(size - round(size)) > 1e-6:
        raise ValueError(f"scales: got {scale}, which makes {size} units; wants a whole number")
    if config.dataset != "digits":
        return wide_resnet.wide_resnet(config.depth, round(size), classes)
    flat = mlp.mlp(
        [round(size)], classes, parametrisation="standard", w_std=math.sqrt(2), b_std=0.0
    )
    return Model(
        lambda key, images: flat.init(key, _flat(images)),
        lambda params, images: flat.apply(params, _flat(images)),
    )


def _flat(images):
    return images.reshape(len(images), -1)


def relative_macs(config: Any, data: Data, scale: float) -> float:
    """Multiply-accumulates of the network, of those at scale 1."""
    images = jnp.asarray(data.known.inputs[:1])
    classes = int(data.known.labels.max()) + 1
    counts = []
    for size in (scale, 1.0):
        model = network(config, size, classes)
        params = jax.eval_shape(model.init, jax.random.key(0), images)
        counts.append(cost.macs(model, params, images))
    return counts[0] / counts[1]


def train(
    config: Any, data: Data, scale: float, networks: int, seeds: Int[np.ndarray, " seeds"]
) -> tuple[Logits, Float[Array, "seeds networks"]]:
    """Trains so many networks for each seed, and evaluates them; with the last training losses.

    A seed is a split into training, validation and test examples, and a draw of the noise; its
    networks differ by their initial params and the order of the examples.
    """
    model = network(config, scale, int(data.known.labels.max()) + 1)
    room = len(data.known.labels) - max(data.fixed_test, 1)
    if config.train + config.validation > room:
        raise ValueError(
            f"train: got {config.train}, and {config.validation} for validation; want at most "
            f"{room} together, as the others are for testing"
        )
    split_keys, network_keys = [], []
    for seed in seeds:
        key = jax.random.fold_in(jax.random.key(config.seed), int(seed))
        split_key, key = jax.random.split(key)
        split_keys += [split_key] * networks
        network_keys.append(members.keys(jax.random.fold_in(key, round(1000 * scale)), networks))
    rows = len(data.known.labels)
    steps = config.epochs * fit.steps_per_epoch(config.train, config.batch)
    optimiser = _optimiser(config, steps)
    augment = augmentation.flip_and_crop if config.dataset != "digits" else None

    def loss(params, inputs, labels):
        return losses.cross_entropy(model.apply(params, inputs), labels)

    def member(keys, images, labels):
        split_key, key = keys
        order_key, noise_key = jax.random.split(split_key)
        order = jax.random.permutation(order_key, rows - data.fixed_test)
        train, validation, rest = jnp.split(order, [config.train, config.train + config.validation])
        test = jnp.arange(rows - data.fixed_test, rows) if data.fixed_test else rest
        if config.noise:
            noise = jax.random.normal(noise_key, images.shape, images.dtype)
            images = images + config.noise * noise
        state = fit.start(model.init(key, images), optimiser, key)
        state, info = fit.epochs(
            loss, optimiser, state, Examples(images[:rows], labels),
            epochs=config.epochs, batch=config.batch, indices=train, augment=augment,
        )  # fmt: skip

        def one(image):
            return model.apply(state.params, image[None])[0]

        logits = jax.lax.map(one, images, batch_size=min(2000, len(images)))
        found = Logits(
            logits[validation], labels[validation], logits[test], labels[test], logits[rows:]
        )
        return found, info.loss[-1]

    keys = (jnp.stack(split_keys), jnp.concatenate(network_keys))
    images = jnp.concatenate([data.known.inputs, data.shifted])
    # One at a time: the small ones stay in the cache, the large ones fill the device.
    found, last = members.map(member, keys, images, jnp.asarray(data.known.labels), chunk=1)
    found, last = jax.tree.map(
        lambda leaf: leaf.reshape(len(seeds), networks, *leaf.shape[1:]), (found, last)
    )
    labels = {name: getattr(found, name)[:, 0] for name in ("validation_labels", "test_labels")}
    return found._replace(**labels), last


def _optimiser(config, steps):
    if config.dataset == "digits":
        return optax.adamw(config.rate, weight_decay=config.decay)
    rates = optax.warmup_cosine_decay_schedule(0.0, config.rate, max(steps // 50, 1), steps)
    decay = optax.add_decayed_weights(config.decay)
    return optax.chain(decay, optax.sgd(rates, momentum=0.9))
