"""What `run_off_election` trains: deterministic networks, each on the buckets that feed it.

A learner is a function of the content of its own buckets and of its number alone. Its examples are
sorted by content; its key is fixed; its inputs are normalised by its own mean and deviation; and
it has room for a fixed number of examples (the first of them in that order), for whatever depends
on the size of another part, were it the shape of an array, would let poison leak.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkens.data import Dataset, Examples, batches, offline, synthetic, tfds
from ntkens.models import Model, conv, mlp
from ntkens.training import fit, losses, members

CLASSES = 10
DIGITS = ("digits", "noisy_digits")
DATASETS = (*DIGITS, "mnist", "cifar10")
NOISE = 0.5  # of the range of pixels: one learner of 50 is then right about as often as on CIFAR-10
MILESTONES = np.array([0.3, 0.6, 0.8])  # shares of the epochs after which the rate falls


def load(key, dataset: str, directory: str) -> Dataset:
    """Images [n height width channels] in [0, 1]; only the digits have a split of their own.

    Those with noise have as many levels of grey as those without, and so the same hash.
    """
    if dataset == "digits":
        return offline.digits(key)
    if dataset == "noisy_digits":
        split, *noise = jax.random.split(key, 3)
        clean = offline.digits(split)

        def noisy(key, examples):
            pixels = np.rint(16 * np.asarray(synthetic.noisy(key, examples.inputs, NOISE)))
            return examples._replace(inputs=np.clip(pixels / 16, 0, 1).astype(np.float32))

        return Dataset(*map(noisy, noise, clean))
    return tfds.load(dataset, directory=directory or None)


def assignment(dataset: str, inputs: np.ndarray, buckets: int) -> np.ndarray:
    """The bucket of each example, by its pixels alone: a flipped label leaves it where it is.

    The sum of the pixels, as in the paper, but for digits: their sums are all within some 300 of
    one another, which would leave learners on one of 400 buckets without examples, or with far too
    many. There each pixel is weighted by its place.
    """
    if dataset in DIGITS:
        places = np.arange(1, 65).reshape(8, 8, 1)
        return batches.partition(np.rint(16 * inputs).astype(np.int64) * places, buckets)
    return batches.partition(inputs, buckets)


def rows(dataset: str, train: Examples, spread: np.ndarray, room: int) -> np.ndarray:
    """The examples of every learner, in the order of their content, [learners room]."""
    member = spread[:, assignment(dataset, train.inputs, spread.shape[1])]
    order = batches.content_order(train.inputs, train.labels)
    listed = batches.indices(member, order=order, allow_empty=True)[:, :room]
    return np.pad(listed, ((0, 0), (0, room - listed.shape[1])), constant_values=-1)


def logits(config, dataset, key, data: Dataset, spread: np.ndarray, room: int, seeds: int):
    """Of networks trained on `data.train`, at `data.test`: [seeds learners test classes].

    The training set is padded to a power of two, so that an attack that adds a few
    examples is not compiled anew; no learner sees the padding.
    """
    own = np.tile(rows(dataset, data.train, spread, room), (seeds, 1))
    train = _learner(dataset, config.widths, config.epochs, config.batch, config.rate)
    longest = 2 ** int(np.ceil(np.log2(len(data.train.labels))))
    padded: Any = [_padded(each, longest) for each in data.train]
    found = members.map(
        train,
        (members.keys(key, len(own)), jnp.asarray(own)),
        Examples(*padded),
        jnp.asarray(data.test.inputs),
        mesh=members.all_devices(),
    )
    return np.reshape(np.asarray(found), (seeds, len(spread), *found.shape[1:]))


def _padded(array, length):
    padding = [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1)
    return jnp.asarray(np.pad(array, padding))


@functools.cache  # a new function would be compiled anew
def _learner(dataset, widths, epochs, batch, rate):
    model = _network(dataset, widths)

    def learner(own, train, test):
        key, rows = own
        mean, deviation = _statistics(train.inputs, rows)

        def apply(params, images):
            return model.apply(params, (images - mean) / deviation)

        def loss(params, images, labels):
            return losses.cross_entropy(apply(params, images), labels)

        steps = -(-jnp.sum(rows >= 0) // batch)  # of its epochs, as it has no others

        def schedule(step):
            return rate * 0.2 ** jnp.sum(step >= epochs * steps * MILESTONES).astype(jnp.float32)

        optimiser = optax.chain(
            optax.add_decayed_weights(5e-4), optax.sgd(schedule, momentum=0.9, nesterov=True)
        )
        state = fit.start(model.init(key, train.inputs[:1]), optimiser, key)
        state, _ = fit.epochs(
            loss, optimiser, state, train, epochs=epochs, batch=batch, indices=rows
        )
        return jax.lax.map(lambda one: apply(state.params, one[None])[0], test, batch_size=500)

    return learner


def _network(dataset, widths):
    if dataset not in DIGITS:
        return conv.conv_net(widths, CLASSES)
    flat = mlp.mlp(widths, CLASSES, parametrisation="standard", w_std=2**0.5, b_std=0.0)

    def flatten(images):
        return images.reshape(len(images), -1)

    return Model(
        lambda key, images: flat.init(key, flatten(images)),
        lambda params, images: flat.apply(params, flatten(images)),
    )


def _statistics(inputs, rows):
    """Mean and deviation of each channel over a learner's own examples; 0 and 1 if it has none."""
    mine = inputs[jnp.maximum(rows, 0)]
    weights = (rows >= 0).astype(mine.dtype)[:, None, None, None]
    pixels = jnp.maximum(weights.sum(), 1) * mine.shape[1] * mine.shape[2]
    mean = jnp.sum(weights * mine, axis=(0, 1, 2), keepdims=True) / pixels
    variance = jnp.sum(weights * (mine - mean) ** 2, axis=(0, 1, 2), keepdims=True) / pixels
    return mean, jnp.sqrt(jnp.where(variance > 0, variance, 1))
