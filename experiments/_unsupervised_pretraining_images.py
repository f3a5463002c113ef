"""Images of `unsupervised_pretraining`: few labels, on pixels or on what unlabelled images taught.

All methods of a split see the same labelled images, and choose their ridge by leaving out one of
them at a time; the test images choose nothing. Everything unlabelled is learnt from the inputs of
the whole training set, and once a split.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkens.data import Dataset, Examples, offline, tfds
from ntkens.models import mlp
from ntkens.predictors import factor_model, gaussian_mixture
from ntkens.training import contrastive, fit

SOURCES = ("digits", "mnist")
CLASSES = 10
TEST_DIGITS = 297  # which leaves the specification's 1500 for training
BATCH = 256
RIDGES = np.logspace(-6, 3, 28)  # relative to the mean square of the features
METHODS = ("pixels", "factors", "mixture", "contrastive")


def load(key, source: str, directory: str) -> Dataset:
    """Images [n height width channels] in [0, 1]; only the digits have a split of their own."""
    if source == "digits":
        return offline.digits(key, test=TEST_DIGITS)
    return tfds.load(source, directory=directory or None)


def measured(config, source: str, split: int):
    """The rows of one split: of the digits themselves, or of which images are labelled."""
    of_data, of_methods = jax.random.split(
        jax.random.fold_in(jax.random.key(config.seed), 100 + split)
    )
    return accuracies(config, of_methods, load(of_data, source, config.data_directory))


def accuracies(config, key, data: Dataset):
    """The accuracy of each method on the test images, at each number of labels.

    Raises:
        ValueError: more labels than training images.
    """
    if max(config.image_labels) > len(data.train.labels):
        raise ValueError(
            f"image_labels: got {config.image_labels}; there are {len(data.train.labels)} images"
        )
    of_order, of_mixture, of_encoder = jax.random.split(key, 3)
    order = np.asarray(jax.random.permutation(of_order, len(data.train.labels)))
    train, test = (each.inputs.reshape(len(each.inputs), -1).astype(float) for each in data)
    inputs = jnp.asarray(np.concatenate([train, test]))
    taught = _models(config.image_factors, config.image_components, len(train))
    of_factors, shares, dead = taught(of_mixture, inputs)
    shape = data.train.inputs.shape[1:]
    encode = _encoder(
        shape, tuple(config.image_widths), config.image_outputs, config.image_epochs, len(train)
    )
    features = {
        "pixels": (train, test),
        "factors": np.split(np.asarray(of_factors), [len(train)]),
        "contrastive": np.split(np.asarray(encode(of_encoder, inputs), float), [len(train)]),
    }
    shares = np.split(np.asarray(shares), [len(train)])
    for labels in config.image_labels:
        seen = order[:labels]
        known = np.eye(CLASSES)[data.train.labels[seen]]
        outputs = {
            name: ridge(known_of[seen], known, unknown)
            for name, (known_of, unknown) in features.items()
        }
        outputs["mixture"] = shares[1] @ np.asarray(_values(shares[0][seen], known))
        for method in METHODS:
            right = np.mean(outputs[method].argmax(axis=1) == data.test.labels)
            row = {"labels": labels, "method": method, "accuracy": float(right)}
            yield row | ({"dead": int(dead)} if method == "mixture" else {})


_values = jax.jit(gaussian_mixture.component_means)


@functools.cache
def _models(factors, components, count):
    """Key and inputs, `count` to learn from first -> features and shares of all, and the dead."""

    @jax.jit
    def learn(key, inputs):
        train = inputs[:count]
        model = factor_model.fit(train, factors, noise=None, mean=None)
        mixture, info = gaussian_mixture.fit(
            key, train, components, variance=None, restarts=2, steps=100, tolerance=1e-4
        )
        shares = gaussian_mixture.posterior(mixture, inputs)
        return factor_model.features(model, inputs), shares, info.dead

    return learn


def ridge(inputs: np.ndarray, targets: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Ridge regression with an intercept, at the ridge of least leave-one-out squared error.

    The error without an example is its residual over 1 - h, h the diagonal of the hat matrix.
    """
    mean, level = inputs.mean(axis=0), targets.mean(axis=0)
    left, singular, right = np.linalg.svd(inputs - mean, full_matrices=False)
    scale = np.mean(singular**2) or 1.0
    within = left.T @ (targets - level)
    shrinks = [singular**2 / (singular**2 + each * scale) for each in RIDGES]

    def error(shrink):
        rest = targets - level - left @ (shrink[:, None] * within)
        free = 1 - 1 / len(inputs) - left**2 @ shrink
        # Where an example decides its own fit, to rounding, nothing is known without it.
        return np.sum((rest / free[:, None]) ** 2) if free.min() > 1e-9 else np.inf

    best = int(np.argmin([error(shrink) for shrink in shrinks]))
    inverse = singular / (singular**2 + RIDGES[best] * scale)
    return (queries - mean) @ (right.T @ (inverse[:, None] * within)) + level


@functools.cache  # a new function would be compiled anew for each split
def _encoder(shape, widths, outputs, epochs, count):
    """Key and inputs, `count` to learn from first -> features of all.

    Of a network that tells two views of an image from views of two images. A view is the image
    shifted by up to an eighth, with noise. Half of the pairs belong together.
    """
    model = mlp.mlp(widths, outputs, parametrisation="standard", w_std=2**0.5, b_std=0.0)
    steps = epochs * fit.steps_per_epoch(count, BATCH)
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    def features(params, views):
        return model.apply(params, views.reshape(len(views), -1))

    def loss(params, views, labels):
        first, second = features(params, views[:, 0]), features(params, views[:, -1])
        same = jnp.ones(labels.shape, bool)
        own = contrastive.logistic(first, second, same)
        return 0.5 * (own + contrastive.logistic(first, jnp.roll(second, 1, axis=0), ~same))

    @jax.jit
    def learn(key, inputs):
        of_params, of_order = jax.random.split(key)
        inputs = inputs.astype(jnp.float32)
        images = inputs[:count].reshape(count, 1, *shape)
        examples: Any = images, jnp.zeros(count, jnp.int32)
        state = fit.start(model.init(of_params, inputs), optimiser, of_order)
        state, _ = fit.epochs(
            loss,
            optimiser,
            state,
            Examples(*examples),
            epochs=epochs,
            batch=BATCH,
            augment=_two_views,
        )
        return model.apply(state.params, inputs)

    return learn


def _two_views(key, images):
    """Two views of each image: [batch 1 height width channels] -> [batch 2 ...]."""
    return jnp.concatenate([_view(each, images) for each in jax.random.split(key)], axis=1)


def _view(key, images):
    of_shift, of_noise = jax.random.split(key)
    most = images.shape[2] // 8
    shifts = jax.random.randint(of_shift, (len(images), 2), -most, most + 1)

    def shifted(image, shift):
        padded = jnp.pad(image, ((0, 0), (most, most), (most, most), (0, 0)))
        return jax.lax.dynamic_slice(padded, (0, *(most + shift), 0), image.shape)

    noise = 0.1 * jax.random.normal(of_noise, images.shape, images.dtype)
    return jax.vmap(shifted)(images, shifts) + noise
