"""Data whose distribution is known, and noise for data whose distribution is not."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy.special import log_ndtr

from ntkens.data import Dataset, Examples


def mixture(
    key: Key[Array, ""],
    classes: int,
    features: int,
    *,
    separation: float,
    train: int,
    test: int,
) -> tuple[Dataset, Callable[[Float[Array, "n features"]], Float[Array, "n classes"]]]:
    """Equally likely normal classes of unit covariance, and the posterior they have.

    Class c is N(s e_c / sqrt 2, I), so that any two means are the separation s apart;

        p(c | x) = softmax_c(s x_c / sqrt 2).

    The accuracy of the classifier of largest posterior is `bayes_accuracy(classes, separation)`.

    Args:
        key: of the draw; the features are of JAX's default float.
        classes: how many.
        features: how many numbers an input has; those beyond the classes are noise.
        separation: distance between means, in standard deviations.
        train: how many training examples.
        test: how many test examples.

    Returns:
        The examples, and the function from inputs to the probabilities of their classes.

    Raises:
        ValueError: fewer than two classes, fewer features than classes, a negative separation, or a
            side without examples.
    """
    _check_classes(classes, separation)
    if features < classes:
        raise ValueError(f"features: got {features}; wants one for each of the {classes} classes")
    if min(train, test) < 1:
        raise ValueError(f"train, test: got {train} and {test}; want one example at least")
    shift = separation / np.sqrt(2)
    of_labels, of_noise = jax.random.split(key)
    labels = jax.random.randint(of_labels, (train + test,), 0, classes)
    noise = jax.random.normal(of_noise, (train + test, features))
    inputs = np.asarray(noise + shift * jax.nn.one_hot(labels, features, dtype=noise.dtype))
    labels = np.asarray(labels, np.int32)

    def posterior(inputs):
        return jax.nn.softmax(shift * jnp.asarray(inputs)[:, :classes])

    data = Dataset(
        Examples(inputs[:train], labels[:train]), Examples(inputs[train:], labels[train:])
    )
    return data, posterior


def bayes_accuracy(classes: int, separation: float) -> float:
    """The highest accuracy that any classifier has on `mixture`, to 1e-8.

    The class is found when its own feature is the largest of them all:

        integral of phi(t - s / sqrt 2) Phi(t)^(classes - 1) dt,

    for two classes Phi(s / 2). By the trapezoidal rule, which converges faster than any power of
    its step on so smooth an integrand.

    Raises:
        ValueError: fewer than two classes, or a negative separation.
    """
    _check_classes(classes, separation)
    z, step = np.linspace(-9, 9, 721, retstep=True)
    logs = -(z**2) / 2 + (classes - 1) * log_ndtr(z + separation / np.sqrt(2))
    return float(np.exp(logs).sum() * step / np.sqrt(2 * np.pi))


def noisy(
    key: Key[Array, ""], inputs: Float[Array, "n *shape"], sigma: float | Float[Array, ""]
) -> Float[Array, "n *shape"]:
    """Inputs with independent normal noise of standard deviation sigma added to every number.

    Nothing is clipped: pixels leave [0, 1], and the noise stays normal.
    """
    inputs = jnp.asarray(inputs)
    noise = jax.random.normal(key, inputs.shape, inputs.dtype)
    return inputs + jnp.asarray(sigma, inputs.dtype) * noise


def _check_classes(classes, separation):
    if classes < 2:
        raise ValueError(f"classes: got {classes}; wants two or more")
    if not 0 <= separation < np.inf:
        raise ValueError(f"separation: got {separation}; wants a distance, 0 or more")
