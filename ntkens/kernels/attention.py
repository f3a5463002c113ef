"""Kernels of one layer of random-feature attention. arXiv:2307.11353 (Fu, Guo, Bai and Mei 2023).

An input is a query and N keys, x_{0:N}, each a token x with a 1 appended, x~ = [x; 1]. A head has
frozen weights W_m, the product of its query and key matrices, and trained values v_m:

    f(x_{0:N}) = 1/sqrt(M) sum_m (1/N) sum_i relu(x~_0^T W_m x~_i) <v_m, x~_i>,     m <= M.

`biased=False`: the entries of W_m are N(0, 1/4). `biased=True`: the identity is added to their
first d x d block, so that heads know from the start that a key is like the query. Where
the paper's tokens are unit vectors, a pre-activation is then N(0, 1), or N(<x_0, x_i>, 1).

With infinitely many heads f is a Gaussian process, and a kernel machine when v is trained, of

    k(x, x') = (1 / N N') sum_ij E[relu(u_i) relu(u'_j)] <x~_i, x~'_j>,

u_i and u'_j normal of covariance <x~_0, x~'_0> <x~_i, x~'_j> / 4: an arc-cosine kernel, or, with
means, the integral of `shifted_relu`. Tokens of any norm are welcome: the ReLU knows no scale.

The baseline is a network of random features on the tokens side by side, which does not know that
keys may be permuted: h_m = relu(<w_m, vec(x~_{0:N})>).

    k = attention.kernel_fn(biased=True)
    fitted = posterior.fit(k(train), targets, ridge=1e-3)
    posterior.mean(fitted, k(test, train))
"""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ntkens.checks import check_finite, is_concrete
from ntkens.kernels import Kernel, KernelFn, blocks, dual, fully_connected, shifted_relu, tiles

# Heads at a time in a Gram matrix of finitely many: a few hundred features make products of
# matrices fast, on an accelerator some thousands.
CPU_HEADS, ACCELERATOR_HEADS = 64, 512

_matmul = functools.partial(jnp.matmul, precision="highest")


class Tokens(NamedTuple):
    """Inputs as the kernels read them, keys first: x~ in polar form, and the means of BRFA."""

    query: Float[Array, "n width"]
    keys: Float[Array, "keys n width"]
    scale: Float[Array, "keys n"]  # |x~_0| |x~_i|^2 / 2
    mean: Float[Array, "keys n"]  # of a pre-activation over its deviation


def kernel_fn(*, biased: bool = False) -> KernelFn:
    """The kernel of infinitely many heads.

    Exact but for rounding if unbiased; if biased with an absolute error of at most
    1e-10 |x~_0| |x~'_0| max |x~_i|^2 max |x~'_j|^2 in float64 (see `shifted_relu`). A pair of
    inputs costs N N' cosines, and the memory is that of a few tiles beside the result.

    Returns:
        `kernel_fn(x1, x2=None) -> Kernel(nngp, ntk)` of inputs [n tokens d] and [m tokens d], the
        query first, with any number of keys each; compiled. Only the values are trained: nngp and
        ntk are the same array. `None` is x1 with itself, symmetric to the bit.

    Raises:
        ValueError: inputs have not three axes, have no key, are of different widths, or hold NaN,
            infinities, or numbers so large that the kernel may overflow.
        TypeError: inputs are not floating point.
    """
    evaluate = _biased_gram if biased else _unbiased_gram

    def checked(x1: Float[Array, "n tokens d"], x2: Float[Array, "m tokens d"] | None = None):
        x1, x2 = _checked_pair(x1, x2)
        if max(len(x1), 0 if x2 is None else len(x2)) <= tiles.CPU_TILE:
            gram = evaluate(x1, x2)  # compiled once; `blocks` does it twice, to count the memory
        else:
            gram = blocks.kernel(evaluate, x1, x2)
        return Kernel(gram, gram)

    return checked


def finite_kernel_fn(key: Key[Array, ""], heads: int, *, biased: bool = False) -> KernelFn:
    """The kernel of so many heads, <features, features>: of the weights that `features` draws.

    It is unbiased, and its deviation from `kernel_fn` falls as heads^-1/2. Heads go through in
    chunks, so that the features are never held together; compiled.

    Returns:
        `kernel_fn(x1, x2=None) -> Kernel(nngp, ntk)`, as that of `kernel_fn`.

    Raises:
        ValueError: fewer than one head; for inputs as for `kernel_fn`.
    """
    _check_count("heads", heads)

    def checked(x1: Float[Array, "n tokens d"], x2: Float[Array, "m tokens d"] | None = None):
        x1, x2 = _checked_pair(x1, x2)
        gram = _finite_gram(key, x1, x2, heads, biased)
        return Kernel(gram, gram)

    return checked


def features(
    key: Key[Array, ""],
    inputs: Float[Array, "n tokens d"],
    heads: int,
    *,
    biased: bool = False,
) -> Float[Array, "n features"]:
    """What the values of so many heads multiply: (1/N) sum_i relu(x~_0^T W_m x~_i) x~_i.

    Over sqrt(heads), so that inner products are kernels: heads * (d + 1) numbers, head by head.
    Head m is drawn with `fold_in(key, m)`: the same key gives train and test inputs the same
    heads, and a larger number begins with them. Compiled.

    Raises:
        ValueError: fewer than one head; for inputs as for `kernel_fn`.
        TypeError: inputs are not floating point.
    """
    _check_count("heads", heads)
    inputs = _checked_inputs("inputs", inputs)
    return _drawn_features(key, inputs, heads, biased)


def concatenated_kernel_fn() -> KernelFn:
    """The kernel of the baseline with infinitely many units, blind to the symmetry of keys.

    w_m of variance 1 / ((N + 1) (d + 1)), one over the fan-in: with X = vec(x~_{0:N}) and psi the
    angle, k = |X| |X'| [sin psi + (pi - psi) cos psi] / (2 pi (N + 1) (d + 1)), Cho and Saul 2009.

    Returns:
        `kernel_fn(x1, x2=None) -> Kernel(nngp, ntk)`, as that of `kernel_fn`, for one number of
        keys.

    Raises:
        ValueError: x1 and x2 have different numbers of keys; otherwise as for `kernel_fn`.
        TypeError: inputs are not floating point.
    """
    network = fully_connected.kernel_fn(dual.relu(), depth=1)

    def checked(x1: Float[Array, "n tokens d"], x2: Float[Array, "m tokens d"] | None = None):
        x1, x2 = _checked_pair(x1, x2)
        if x2 is not None and x1.shape[1] != x2.shape[1]:
            raise ValueError(
                f"x2: its inputs have {x2.shape[1] - 1} keys, those of x1 {x1.shape[1] - 1}; "
                "side by side, they want the same number"
            )
        gram = network(_concatenated(x1), None if x2 is None else _concatenated(x2)).nngp
        return Kernel(gram, gram)

    return checked


def concatenated_features(
    key: Key[Array, ""], inputs: Float[Array, "n tokens d"], units: int
) -> Float[Array, "n units"]:
    """The hidden units of the baseline, relu(<w_m, vec(x~_{0:N})>), over sqrt(units).

    As many trained parameters as `heads` of attention have are heads * (d + 1) units. The weights
    are those of `concatenated_kernel_fn`; unit m is drawn with `fold_in(key, m)`.

    Raises:
        ValueError: fewer than one unit; for inputs as for `kernel_fn`.
        TypeError: inputs are not floating point.
    """
    _check_count("units", units)
    flat = _concatenated(_checked_inputs("inputs", inputs))
    width, dtype = flat.shape[1], flat.dtype

    def draw(unit):
        return jax.random.normal(jax.random.fold_in(key, unit), (width,), dtype)

    hidden = _matmul(flat, jax.vmap(draw)(jnp.arange(units)).T)
    return jax.nn.relu(hidden) / math.sqrt(width * units)


def complexity(coefficients: Mapping[tuple[int, int], Float[Array, "..."]]) -> float:
    """How hard a target (1/N) sum_i F(x_0, x_i) is for random-feature attention.

        F(x_0, x) = sum_rs <x_0^(r) (x) x^(s), f_rs>,
        B = sum_rs C_max(r, s) |f_rs|^2,     C_k = max(k, 1)^4.5 4^k.

    Theorem 1 of arXiv:2307.11353: M unbiased heads reach a squared error of order
    B (d^2 log M) / M, and n samples an excess risk of order sqrt(B log n / n) with many.
    <b, x_i>^p of a unit vector b has 4^p p^4.5; <x_0, x_i>^p <b, x_i>^q also a factor of d^p,
    the norm of p contractions. Departure: the formula is quoted without C_0, taken as 1 here.

    Args:
        coefficients: (r, s) -> f_rs, of r + s axes, those of the query first.

    Raises:
        ValueError: a degree is negative, or an array has not r + s axes of one length.
    """
    total = 0.0
    for (of_query, of_key), tensor in coefficients.items():
        shape = np.shape(tensor)
        if min(of_query, of_key) < 0 or len(shape) != of_query + of_key or len(set(shape)) > 1:
            raise ValueError(
                f"coefficients: got shape {shape} for {(of_query, of_key)}; want r + s axes of "
                "the tokens' width, the r of the query first"
            )
        check_finite("coefficients", tensor)
        degree = max(of_query, of_key)
        total += max(degree, 1) ** 4.5 * 4**degree * float(np.sum(np.square(tensor)))
    return total


def _gram(moment, x1, x2=None):
    """(1 / N N') sum_ij: one pair of keys of all pairs of inputs at a time."""
    tokens1 = _tokens(x1)
    tokens2 = tokens1 if x2 is None else _tokens(x2)
    queries = _matmul(tokens1.query, tokens2.query.T)
    count1, count2 = len(tokens1.keys), len(tokens2.keys)

    def add(index, total):
        first, second = index // count2, index % count2
        (keys1, scale1, mean1), (keys2, scale2, mean2) = (
            (tokens.keys[at], tokens.scale[at], tokens.mean[at])
            for tokens, at in ((tokens1, first), (tokens2, second))
        )
        keys = _matmul(keys1, keys2.T)
        found = moment(mean1[:, None], mean2[None, :], queries * keys)
        return total + scale1[:, None] * scale2[None, :] * keys * found

    total = jax.lax.fori_loop(0, count1 * count2, add, jnp.zeros_like(queries))
    total = total / (count1 * count2)
    return tiles.mirrored(total) if x2 is None else total


def _centred(mean1, mean2, cosine):
    one = jnp.ones((1, 1), cosine.dtype)
    return dual.relu().covariance(one, one, cosine)


@jax.jit
def _unbiased_gram(x1, x2=None):
    return _gram(_centred, x1, x2)


@jax.jit
def _biased_gram(x1, x2=None):
    return _gram(shifted_relu.covariance, x1, x2)


def _tokens(inputs) -> Tokens:
    tokens = jnp.moveaxis(_augmented(inputs), 1, 0)
    norms = jnp.sqrt(jnp.sum(tokens**2, axis=-1))
    unit = tokens / norms[..., None]
    query, keys = unit[0], unit[1:]
    mean = 2 * jnp.sum(query[None, :, :-1] * keys[:, :, :-1], axis=-1)
    return Tokens(query, keys, norms[:1] * norms[1:] ** 2 / 2, mean)


_compiled = functools.partial(jax.jit, static_argnames=("heads", "biased"))


@_compiled
def _drawn_features(key, inputs, heads, biased):
    weights = _weights(key, jnp.arange(heads), inputs, biased)
    return _features(weights, inputs) / math.sqrt(heads)


@_compiled
def _finite_gram(key, x1, x2, heads, biased):
    chunk = min(heads, CPU_HEADS if jax.default_backend() == "cpu" else ACCELERATOR_HEADS)
    chunks = -(-heads // chunk)
    chunk = -(-heads // chunks)

    def add(index, total):
        at = index * chunk + jnp.arange(chunk)
        weights = _weights(key, at, x1, biased)
        weights = jnp.where((at < heads)[:, None, None], weights, 0)  # the last chunk has fewer
        features1 = _features(weights, x1)
        features2 = features1 if x2 is None else _features(weights, x2)
        return total + _matmul(features1, features2.T)

    total = jnp.zeros((len(x1), len(x1 if x2 is None else x2)), x1.dtype)
    total = jax.lax.fori_loop(0, chunks, add, total) / heads
    return tiles.mirrored(total) if x2 is None else total


def _weights(key, heads, inputs, biased):
    """W_m of the heads of these numbers, [heads d+1 d+1]."""
    width, dtype = inputs.shape[-1] + 1, inputs.dtype
    mean = jnp.eye(width, dtype=dtype).at[-1, -1].set(0) if biased else jnp.zeros((), dtype)

    def draw(head):
        normal = jax.random.normal(jax.random.fold_in(key, head), (width, width), dtype)
        return normal / 2 + jnp.broadcast_to(mean, normal.shape)

    return jax.vmap(draw)(heads)


def _features(weights, inputs):
    """[n heads*(d+1)], without the 1 / sqrt(heads)."""
    tokens = _augmented(inputs)
    heads, width, _ = weights.shape
    projected = _matmul(tokens[:, 0], jnp.moveaxis(weights, 1, 0).reshape(width, -1))
    projected = projected.reshape(-1, heads, width)
    keys = tokens[:, 1:]
    attention = jax.nn.relu(_matmul(projected, jnp.swapaxes(keys, 1, 2)))
    return _matmul(attention, keys).reshape(len(inputs), -1) / keys.shape[1]


def _augmented(inputs):
    return jnp.concatenate([inputs, jnp.ones_like(inputs[..., :1])], axis=-1)


def _concatenated(inputs):
    return _augmented(inputs).reshape(len(inputs), -1)


def _check_count(name, value):
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name}: got {value}; want a whole number, at least 1")


def _checked_pair(x1, x2):
    x1 = _checked_inputs("x1", x1)
    if x2 is not None:
        x2 = _checked_inputs("x2", x2)
        if x1.shape[2] != x2.shape[2]:
            raise ValueError(
                f"x2: its tokens have {x2.shape[2]} numbers, those of x1 {x1.shape[2]}; want equal"
            )
        x1, x2 = (x.astype(jnp.result_type(x1, x2)) for x in (x1, x2))
    return x1, x2


def _checked_inputs(name, inputs):
    check_finite(name, inputs)
    inputs = jnp.asarray(inputs)
    if inputs.ndim != 3 or not inputs.size:
        raise ValueError(
            f"{name}: got shape {inputs.shape}; want [inputs, tokens, width], the query first"
        )
    if inputs.shape[1] < 2:
        raise ValueError(f"{name}: got one token an input; want a query and at least one key")
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise TypeError(
            f"{name}: got dtype {inputs.dtype}; want floating point, say x.astype(float)"
        )
    # A kernel has six tokens in each product, whose squared norms are those of d + 1 numbers.
    largest = float(jnp.finfo(inputs.dtype).max) ** (1 / 6) / (inputs.shape[2] + 1) ** 0.5
    if is_concrete(inputs) and np.max(np.abs(np.asarray(inputs))) > largest:
        raise ValueError(
            f"{name}: holds numbers above {largest:.1e}, whose kernel may overflow {inputs.dtype}; "
            "scale the inputs, or give them in a wider dtype"
        )
    return inputs
