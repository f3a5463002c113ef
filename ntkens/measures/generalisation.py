"""Generalisation difficulty: how many bits of inductive bias a task asks for, beyond its data.

    generalisation.classification(14, 17.18, 2.399, examples=60_000, classes=10, error=1e-3).bits

    I = dim [log2 B + (log2 D + log2 d) / 2 - log2 epsilon + log2 L_f + log2 W]

is the information, in bits, that picks a well generalising function among those that fit the data:
dim of them are left over, and each costs the bits in brackets. The functions are band-limited on a
sphere S^m of radius R, one for each class. Boopathy, Liu, Hwang, Ge, Mohammedsaleh and Fiete 2023,
arXiv:2305.01034; d is the number of classes and D = d - 1 that of outputs, as in the authors' code
(github.com/FieteLab/inductive-bias-complexity), where their text has d for both.

All in logarithms, as bits go past 10^76, and past what a float holds; in NumPy and float64,
whatever JAX is set to. Arguments are numbers or arrays that broadcast; so are the answers.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import gammaln

from ntkens.checks import is_concrete


class Harmonics(NamedTuple):
    """The eigenfunctions of the Laplace operator on a sphere S^m up to a frequency.

    Attributes:
        degree: K, the highest degree, any number above 0: K (K + m - 1) = M^2.
        log_count: ln E, how many there are of degrees 0 to K.
    """

    degree: Float[np.ndarray, "*shape"]
    log_count: Float[np.ndarray, "*shape"]


class Difficulty(NamedTuple):
    """The bits that a task asks for, and what they are made of.

    Where the data determine every function, or the error is one that any function has, nothing is
    asked for: bits = 0, log10_bits = -inf, and `log_dimension` or `bits_per_dimension` says which.

    Attributes:
        bits: I; infinite from 10^308.25 on, where `log10_bits` goes on.
        log10_bits: its decades.
        degree: K, highest degree of the harmonics; NaN where they are counted on a torus.
        log_count: ln E, of the functions that one output has.
        log_wasserstein: ln W, the distance of training data from the distribution.
        lipschitz: L_f, the largest slope of a function of degree K.
        log_dimension: ln dim, of the functions that the data leave over; -inf for none.
        bits_per_dimension: the bracket.
    """

    bits: Float[np.ndarray, "*shape"]
    log10_bits: Float[np.ndarray, "*shape"]
    degree: Float[np.ndarray, "*shape"]
    log_count: Float[np.ndarray, "*shape"]
    log_wasserstein: Float[np.ndarray, "*shape"]
    lipschitz: Float[np.ndarray, "*shape"]
    log_dimension: Float[np.ndarray, "*shape"]
    bits_per_dimension: Float[np.ndarray, "*shape"]


def harmonics(dimension: ArrayLike, frequency: ArrayLike) -> Harmonics:
    """How many spherical harmonics on S^m have a frequency of at most M.

        K = (sqrt((m - 1)^2 + 4 M^2) - (m - 1)) / 2,    E = C(m + K, m) + C(m + K - 1, m)

    With an integer K, E is the sum of the dimensions of the spaces of harmonics of degrees 0 to K;
    between integers, its continuation by the Gamma function.

    Args:
        dimension: m, at least 1.
        frequency: M, above 0, the square root of the largest eigenvalue on the unit sphere.

    Raises:
        ValueError: a dimension below 1, a frequency that is not above 0, or either not finite.
        TypeError: arguments that JAX traces.
    """
    m = _checked("dimension", dimension, 1.0)
    frequency = _checked("frequency", frequency)
    root = np.hypot(m - 1, 2 * frequency)
    degree = 2 * frequency * (frequency / (root + (m - 1)))  # without a difference
    return Harmonics(degree, _log_binomial(m, degree) + np.log1p(degree / (m + degree)))


def classification(
    dimension: ArrayLike,
    radius: ArrayLike,
    separation: ArrayLike,
    *,
    examples: ArrayLike,
    classes: ArrayLike,
    error: ArrayLike,
    outputs: ArrayLike | None = None,
    bound: ArrayLike = 1.0,
) -> Difficulty:
    """The difficulty of telling classes apart, from what is measured of their examples.

        M = 2 pi R / delta,    L_f = K sqrt(D) / R,    dim = 2 D d E - n D
        W = R sqrt(m / 6) (2 pi^((m + 1) / 2) d / (Gamma((m + 1) / 2) n))^(1 / m)

    Args:
        dimension: m, intrinsic dimension of the inputs, at least 1: `intrinsic_dimension.estimate`.
        radius: R, largest norm of an input.
        separation: delta, smallest distance between classes, in the units of R:
            `class_separation.smallest`.
        examples: n, of the training set.
        classes: d.
        error: epsilon, of the test set, over the Lipschitz constant of the loss.
        outputs: D; d - 1 if None.
        bound: B, largest size of a function.

    Raises:
        ValueError: an argument that is not finite or not above 0, a dimension or a number of
            classes below 1, no outputs.
        TypeError: arguments that JAX traces.
    """
    m, radius = _checked("dimension", dimension, 1.0), _checked("radius", radius)
    separation, n = _checked("separation", separation), _checked("examples", examples)
    d, error = _checked("classes", classes, 1.0), _checked("error", error)
    bound = _checked("bound", bound)
    if outputs is None and np.any(d < 2):
        raise ValueError(f"classes: got {classes}; want at least 2, or say how many outputs")
    outputs = d - 1 if outputs is None else _checked("outputs", outputs)
    degree, log_count = harmonics(m, 2 * np.pi * radius / separation)
    half = (m + 1) / 2
    log_area = np.log(2) + half * np.log(np.pi) - gammaln(half)  # of the unit sphere S^m
    log_wasserstein = np.log(m / 6) / 2 + np.log(radius) + (log_area + np.log(d) - np.log(n)) / m
    log_lipschitz = np.log(degree) + np.log(outputs) / 2 - np.log(radius)
    log_scale = np.log(bound) + (np.log(outputs) + np.log(d)) / 2 - np.log(error)
    return _difficulty(
        degree,
        log_count,
        log_wasserstein,
        log_lipschitz,
        log_dimension=np.log(outputs) + _log_left_over(np.log(2) + np.log(d) + log_count, n),
        bits_per_dimension=(log_scale + log_lipschitz + log_wasserstein) / np.log(2),
    )


def few_shot(
    dimensions: tuple[ArrayLike, ArrayLike],
    radius: ArrayLike,
    separation: ArrayLike,
    *,
    examples: ArrayLike,
    ways: int,
    error: ArrayLike,
) -> Difficulty:
    """The difficulty of learning to learn `ways` classes from one example each.

    A function of `ways` images whose value is a classifier of images: one output for each of its
    coefficients, D = 2 ways (ways - 1) E(m0, M), as in the authors' `omniglot_difficulty`; and as
    there, m = m1 + (ways - 1) m0, R is sqrt(ways) as large, d = 1, B = sqrt(ways (ways - 1)).

    Args:
        dimensions: m0 of the images of one task (an alphabet), and m1 of all.
        radius: R, largest norm of an image.
        separation: delta, smallest distance between classes.
        examples: n, sets of `ways` images that can be drawn.
        ways: classes of a task, at least 2.
        error: epsilon, as in `classification`.

    Raises:
        ValueError, TypeError: as `classification`; fewer than 2 ways.
    """
    if not ways >= 2:
        raise ValueError(f"ways: got {ways}; want at least 2 classes in a task")
    within, across = dimensions
    within, across = _checked("dimensions[0]", within, 1.0), _checked("dimensions[1]", across, 1.0)
    radius, separation = _checked("radius", radius), _checked("separation", separation)
    inner = harmonics(within, 2 * np.pi * radius / separation)
    return classification(
        across + (ways - 1) * within,
        radius * np.sqrt(ways),
        separation,
        examples=examples,
        classes=1,
        error=error,
        outputs=2 * ways * (ways - 1) * np.exp(inner.log_count),
        bound=np.sqrt(ways * (ways - 1)),
    )


def control(
    dimension: ArrayLike,
    actions: ArrayLike,
    *,
    steps: ArrayLike,
    resolution: ArrayLike = 1e-3,
    error: ArrayLike = 1e-3,
) -> Difficulty:
    """The difficulty of a control task, from the sizes of what is observed and done.

        E = (2 pi / delta)^m pi^(m / 2) / Gamma(m / 2 + 1),    dim = 2 D E - n D
        bracket = log2(4 pi^2 sqrt(m / 6)) + log2 D - log2 delta - (log2 n) / m - log2 epsilon

    the functions on a torus of side 2 pi, of frequency up to 2 pi / delta. The authors' formula for
    cartpole with T observations of two numbers is this one at m = 2 T, D = 1, n = 10^4, and that
    for the control suite at n = 10^6. `lipschitz` is 2 pi sqrt(D) / delta, `log_wasserstein` what
    the bracket has of m and n.

    Args:
        dimension: m, numbers observed.
        actions: D, numbers done.
        steps: n, time steps seen.
        resolution: delta, of each number.
        error: epsilon, mistakes a step, or distance from the best action.

    Raises:
        ValueError: an argument that is not finite or not above 0, or a dimension below 1.
        TypeError: arguments that JAX traces.
    """
    m, outputs = _checked("dimension", dimension, 1.0), _checked("actions", actions)
    n, resolution = _checked("steps", steps), _checked("resolution", resolution)
    error = _checked("error", error)
    log_ball = m / 2 * np.log(np.pi) - gammaln(m / 2 + 1)
    log_count = m * np.log(2 * np.pi / resolution) + log_ball
    log_wasserstein = np.log(2 * np.pi) + np.log(m / 6) / 2 - np.log(n) / m
    log_lipschitz = np.log(2 * np.pi) + np.log(outputs) / 2 - np.log(resolution)
    log_scale = np.log(outputs) / 2 - np.log(error)
    return _difficulty(
        np.full(np.shape(log_count), np.nan),
        log_count,
        log_wasserstein,
        log_lipschitz,
        log_dimension=np.log(outputs) + _log_left_over(np.log(2) + log_count, n),
        bits_per_dimension=(log_scale + log_lipschitz + log_wasserstein) / np.log(2),
    )


def _difficulty(
    degree, log_count, log_wasserstein, log_lipschitz, *, log_dimension, bits_per_dimension
):
    """The product of dimension and bracket; nothing where either is not above 0."""
    is_asked = (bits_per_dimension > 0) & (log_dimension > -np.inf)
    log_bits = np.full(np.shape(is_asked), -np.inf)
    np.log(bits_per_dimension, out=log_bits, where=is_asked)
    log_bits = log_bits + np.where(is_asked, log_dimension, 0)
    with np.errstate(over="ignore"):
        bits = np.exp(log_bits)
    fields = (
        bits,
        log_bits / np.log(10),
        degree,
        log_count,
        log_wasserstein,
        np.exp(log_lipschitz),
        log_dimension,
        bits_per_dimension,
    )
    return Difficulty(*np.broadcast_arrays(*fields))


def _log_left_over(log_functions, n) -> NDArray:
    """ln(functions - n), -inf where the data are as many or more."""
    log_share = np.minimum(np.log(n) - log_functions, 0.0)  # of the functions, what the data fix
    with np.errstate(divide="ignore"):  # all of them
        return log_functions + np.log(-np.expm1(log_share))


def _log_binomial(m, k) -> NDArray:
    """ln C(m + k, m) of any numbers above 0, to a few units in the last place.

    By Stirling's series, whose leading terms are put together first. As a difference of three
    ln Gamma it would lose as many digits as k has.
    """
    leading = m * np.log1p(k / m) + k * np.log1p(m / k)
    prefactor = np.log((m + k) / (2 * np.pi * k * m)) / 2
    return leading + prefactor + _stirling_rest(m + k) - _stirling_rest(m) - _stirling_rest(k)


def _stirling_rest(z) -> NDArray:
    """ln Gamma(z + 1) - (z + 1/2) ln z + z - ln(2 pi) / 2, which tends to 1 / (12 z)."""
    direct = gammaln(z + 1) - (z + 0.5) * np.log(z) + z - np.log(2 * np.pi) / 2
    # coefficients B_2j / (2j (2j - 1)); from 10 on the first one left out is below 1e-15
    series, large = 0.0, np.maximum(z, 10.0)
    for coefficient in (-691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12):
        series = coefficient + series / large**2
    return np.where(z < 10, direct, series / large)


def _checked(name: str, value: ArrayLike, least: float | None = None) -> NDArray:
    """In float64; a `ValueError` unless all are finite and above 0, or not below the least."""
    if not is_concrete(value):
        raise TypeError(
            f"{name}: is traced; this is computed in NumPy, which JAX cannot trace: it takes "
            "arrays as they are, instead of vmap"
        )
    values = np.asarray(value, np.float64)
    bad = ~np.isfinite(values) | (values <= 0 if least is None else values < least)
    if bad.any():
        wanted = "a number above 0" if least is None else f"a number of at least {least:g}"
        remedy = _REMEDIES.get(name, "")
        raise ValueError(f"{name}: got {values[bad].flat[0]:g}; want {wanted}{remedy}")
    return values


_REMEDIES = {
    "separation": "; it is 0 where one input is in two classes: leave such inputs out",
    "dimension": "; it is that of a sphere",
}
