"""What infinitely wide two-layer ReLU networks make of a permutation, in closed form.

The task of arXiv:2502.16763 (Giapitzakis, Back de Luca, Fountoulakis): the training set is the k
pairs (e_i, P e_i) of a permutation P; a test input is any other binary vector x, fed as x/|x|, and
its target is P x. The network is f(x) = W2 relu(W1 x / sqrt k) / sqrt(width), no biases, trained
with squared error to the end. Everything depends on the number n of ones of x alone: with
c = 1/sqrt(n) the cosine of x with a training input of its support, the kernels of unit vectors are

    NNGP  K(c) = [sqrt(1 - c^2) + c (pi - arccos c)] / (2 pi k),
    NTK   T(c) = K(c) + c (pi - arccos c) / (2 pi k),

so that the train Gram matrix is [(a - 1) I + 1 1^T] / (2 pi k), with a = 2 pi for the NTK and
a = pi for the NNGP, and the Sherman-Morrison formula inverts it.
"""

import math
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from ntkens.checks import check_float64, is_concrete

Regime = Literal["ntk", "nngp"]


class Moments(NamedTuple):
    """The output of one trained network at an input, over initialisations; outputs independent.

    Attributes:
        inside: mean of the outputs whose target bit is 1.
        outside: mean of the outputs whose target bit is 0.
        variance: of each output.
    """

    inside: Float[Array, "..."]
    outside: Float[Array, "..."]
    variance: Float[Array, "..."]


def moments(k: Int[ArrayLike, "..."], ones: Int[ArrayLike, "..."], regime: Regime) -> Moments:
    """Mean and variance of a trained network at a binary input of `ones` ones, out of k.

    With a = 2 pi (NTK) or pi (NNGP), g = 2 pi k T(c) or 2 pi k K(c), and D = (a - 1)(a - 1 + k):

        inside   = [(a - 1) g + (k - n)(g - 1)] / D                  (> 0)
        outside  = [(a - 1) - n (g - 1)] / D                         (0 at n = 1, else < 0)
        variance = K(1) - 2 A K(x, X)^T + A K(X, X) A^T,

    A having `inside` n times and `outside` k - n times. The exact moments behind Theorem 5.1 of
    arXiv:2502.16763, which bounds them. In the regime "nngp" only the readout learns, the limit of
    gradient descent in the standard parametrisation.

    Args:
        k: length of the inputs, at least 2; an integer or an array of them.
        ones: number of ones of the input, 1 to k; broadcasts with k. One is a training input:
            reproduced exactly, with zero variance.
        regime: `"ntk"` or `"nngp"`.

    Raises:
        TypeError: float64 is off, or k or ones are not integers.
        ValueError: k < 2, ones outside 1..k (zero is no input: it has no direction), or an
            unknown regime. Under jit the moments of such k and ones are NaN.
    """
    check_task(k, ones, regime)
    k, ones = jnp.asarray(k), jnp.asarray(ones)
    is_task = (k >= 2) & (ones >= 1) & (ones <= k)
    k, n = jnp.asarray(k, float), jnp.asarray(ones, float)

    cosine = 1 / jnp.sqrt(n)
    turned = cosine * (math.pi / 2 + jnp.arcsin(cosine))  # c (pi - arccos c)
    bend = cosine**2 / (1 + jnp.sqrt(1 - cosine**2))  # 1 - sqrt(1 - c^2), not by subtraction
    nngp = turned - bend  # 2 pi k K(c) - 1: orthogonal inputs are at 1
    excess, gap = (2 * turned - bend, 2 * math.pi - 1) if regime == "ntk" else (nngp, math.pi - 1)

    inside = (gap * (1 + excess) + (k - n) * excess) / (gap * (gap + k))
    outside = (gap - n * excess) / (gap * (gap + k))
    total = n * inside + (k - n) * outside
    variance = (
        math.pi
        + (math.pi - 1) * (n * inside**2 + (k - n) * outside**2)
        + total**2
        - 2 * (total + n * inside * nngp)
    ) / (2 * math.pi * k)
    exact = Moments(
        jnp.where(n == 1, 1, inside),
        jnp.where(n == 1, 0, outside),
        jnp.where(n == 1, 0, variance),
    )
    return Moments(*(jnp.where(is_task, moment, jnp.nan) for moment in exact))


def check_task(k: Int[ArrayLike, "..."], ones: Int[ArrayLike, "..."], regime: Regime) -> None:
    """Raises what `moments` raises, where the values are known."""
    check_float64("permutations.moments")
    if regime not in get_args(Regime):
        raise ValueError(f'regime: got {regime!r}; want "ntk" or "nngp"')
    for name, value in (("k", k), ("ones", ones)):
        if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
            raise TypeError(f"{name}: got {value!r}; want an integer or an array of integers")
    if is_concrete(k) and np.any(np.asarray(k) < 2):
        raise ValueError(f"k: got {k}; a permutation to be learned has k >= 2")
    if is_concrete(ones) and np.any(np.asarray(ones) < 1):
        raise ValueError(f"ones: got {ones}; an input of zeros has no direction, want 1..k")
    if is_concrete(k, ones) and np.any(np.asarray(ones) > np.asarray(k)):
        raise ValueError(f"ones: got {ones}; an input of length k = {k} has at most k ones")


class Prediction(NamedTuple):
    """What trained networks make of binary inputs; see `ensembles.complexity` for what follows.

    Attributes:
        mean: of each output.
        variance: of every output of an input.
        bits: what is right: the permuted input.
    """

    mean: Float[Array, "inputs k"]
    variance: Float[Array, " inputs"]
    bits: Int[Array, "inputs k"]


def predict(
    inputs: Int[ArrayLike, "inputs k"], permutation: Int[ArrayLike, " k"], regime: Regime
) -> Prediction:
    """`moments` at given inputs, for a given permutation.

    Args:
        inputs: rows of 0 and 1, at least one 1 each.
        permutation: where each bit goes: bit j of an input is bit permutation[j] of its target.
        regime: `"ntk"` or `"nngp"`.

    Raises:
        TypeError: float64 is off.
        ValueError: k < 2, entries other than 0 and 1, a row of zeros, something else than a
            permutation of 0..k-1, or an unknown regime.
    """
    if jnp.ndim(inputs) != 2:
        raise ValueError(f"inputs: got shape {jnp.shape(inputs)}; want [inputs, k]")
    _, k = jnp.shape(inputs)
    if is_concrete(inputs):
        values = np.asarray(inputs)
        if not np.isin(values, (0, 1)).all():
            raise ValueError("inputs: hold something else than 0 and 1, as binary vectors do")
        if len(empty := np.flatnonzero(~values.any(axis=1))):
            raise ValueError(f"inputs: row {empty[0]} is all zeros, it has no direction; drop it")
    known = np.sort(np.asarray(permutation)) if is_concrete(permutation) else np.arange(k)
    if jnp.shape(permutation) != (k,) or not np.array_equal(known, np.arange(k)):
        raise ValueError(f"permutation: got {permutation}; want each of 0..{k - 1} once")
    bits = jnp.asarray(inputs, int)
    inside, outside, variance = moments(k, bits.sum(axis=1), regime)
    bits = jnp.zeros_like(bits).at[:, jnp.asarray(permutation)].set(bits)
    return Prediction(jnp.where(bits > 0, inside[:, None], outside[:, None]), variance, bits)


def pair_covariance(k: int, regime: Regime) -> Float[Array, "3"]:
    """Covariance of an output of one trained network at two inputs of two ones that share 0, 1, 2.

    K(x, x') - A K(X, x') - K(x, X) A'^T + A K(X, X) A'^T, with A as in `moments`; the same for all
    outputs, which are independent.

    Raises:
        TypeError: float64 is off, or k is not an integer.
        ValueError: k < 4, where two such inputs always share a one, or an unknown regime.
    """
    if not isinstance(k, int | np.integer):
        raise TypeError(f"k: got {k}; want one integer")
    if k < 4:
        raise ValueError(f"k: got {k}; two inputs of two ones are disjoint from k = 4 on")
    inside, outside, _ = moments(k, 2, regime)
    shared = jnp.arange(3.0)
    angle = jnp.arccos(shared / 2)
    prior = jnp.sin(angle) + (math.pi - angle) * shared / 2
    excess = (1 + 3 * math.pi / 4) / math.sqrt(2) - 1  # 2 pi k K(1/sqrt 2) - 1
    total = 2 * inside + (k - 2) * outside
    cross = total + excess * (shared * inside + (2 - shared) * outside)
    squares = shared * inside**2 + 2 * (2 - shared) * inside * outside
    squares = squares + (k - 4 + shared) * outside**2
    return (prior - 2 * cross + (math.pi - 1) * squares + total**2) / (2 * math.pi * k)


def pair_outputs(
    key: Key[Array, ""], k: int, regime: Regime, dtype=jnp.float32
) -> Float[Array, "pairs k"]:
    """Outputs of one trained network at all inputs of two ones, drawn from the Gaussian process.

    The pairs are those of `np.triu_indices(k, 1)`, in that order, and P is the identity. With B the
    incidence of pairs and elements, the covariance is a polynomial in B B^T: its square root needs
    the projections on the constant and on the range of B only, O(k) for each output of each pair.

    Raises:
        TypeError: float64 is off, or k is not an integer.
        ValueError: k < 4, or an unknown regime.
    """
    none, one, two = pair_covariance(k, regime)
    inside, outside, _ = moments(k, 2, regime)
    constant = two + 2 * (k - 2) * one + (k - 2) * (k - 3) / 2 * none
    roots = jnp.stack([constant, two + (k - 4) * one - (k - 3) * none, two - 2 * one + none])
    roots = jnp.sqrt(jnp.maximum(roots, 0)).astype(dtype)  # eigenvalues: below zero is rounding
    first, second = np.triu_indices(k, 1)
    incidence = jnp.asarray(np.eye(k)[first] + np.eye(k)[second], dtype)
    noise = jax.random.normal(key, (len(first), k), dtype)
    level = noise.mean(axis=0, keepdims=True)
    noise = noise - level
    on_elements = jnp.matmul(incidence.T, noise, precision="highest")
    ranged = jnp.matmul(incidence, on_elements, precision="highest") / (k - 2)
    mean = jnp.where(incidence > 0, inside, outside).astype(dtype)
    return mean + roots[0] * level + roots[1] * ranged + roots[2] * (noise - ranged)
