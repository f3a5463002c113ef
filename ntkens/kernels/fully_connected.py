"""NNGP and NTK of a fully connected network of infinite width, from any dual activation.

The recursion carries, beside the covariance c of two inputs, the gap g = sqrt(q1 q2) - |c|
(see `dual`), so that the diagonal is exact and near duplicates lose nothing to cancellation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkens.checks import check_finite, is_concrete
from ntkens.kernels import Kernel, KernelFn
from ntkens.kernels.dual import Dual, magnitude, root

# Pairs of inputs with |cosine| above 1 - NEAR get their angle from the difference of the unit
# vectors; below, a subtraction costs at most eps / sqrt(2 NEAR) = 5 eps of the angle.
NEAR = 0.02


class Pairs(NamedTuple):
    """Second moments of all pairs of two sets of inputs at one layer."""

    variance1: Float[Array, "n 1"]
    variance2: Float[Array, "1 m"]
    covariance: Float[Array, "n m"]
    gap: Float[Array, "n m"]


def kernel_fn(dual: Dual, depth: int, w_std: float = 1.0, b_std: float = 0.0) -> KernelFn:
    """The kernels of a network of `depth` hidden layers in the NTK parametrisation.

    For inputs in R^d, q = x.x'/d at the input; each of the depth + 1 affine maps takes
    K to w_std^2 K + b_std^2, each activation K to E[phi phi], and
    ntk <- nngp + w_std^2 ntk E[phi' phi'], with ntk = nngp after the first affine map: all
    layers are trained, as `neural_tangents.stax` has it. Jacot et al. 2018, Theorem 1; Lee et al.
    2019, Eqs. (S11)-(S14).

    Args:
        dual: the activation, `dual.relu()` for one.
        depth: hidden layers, at least 0 (a linear model).
        w_std: standard deviation of the weights, before the 1/sqrt(fan in).
        b_std: standard deviation of the biases.

    Returns:
        `kernel_fn(x1, x2=None) -> Kernel(nngp, ntk)` of inputs [n d] and [m d]; compiled; the
        dtype follows the inputs. `x2=None` is x1 with itself: symmetric to the bit, with an exact
        diagonal. Where inputs coincide a kink has no derivative; the symmetric one is given.

    Raises:
        ValueError: depth or a standard deviation is negative; inputs are not matrices of one
            width, or hold NaN or infinities.
        TypeError: inputs are not floating point.
    """
    if not isinstance(depth, int | np.integer) or depth < 0:
        raise ValueError(f"depth: got {depth}; hidden layers are counted 0, 1, 2, ...")
    for name, value in (("w_std", w_std), ("b_std", b_std)):
        if is_concrete(value) and not 0 <= float(value) < np.inf:
            raise ValueError(f"{name}: got {value}; a standard deviation is finite and >= 0")

    def layer(carry, _):
        pairs, ntk = carry
        derivative = dual.derivative(*pairs)
        pairs = _affine(_activate(dual, pairs), w_std, b_std)
        return (pairs, pairs.covariance + w_std**2 * ntk * derivative), None

    @jax.jit
    def evaluate(x1, x2=None):
        pairs = _affine(_input_pairs(x1, x2), w_std, b_std)
        start = (pairs, pairs.covariance)
        (pairs, ntk), _ = jax.lax.scan(layer, start, length=depth)
        if x2 is None:
            return Kernel(*_symmetric(pairs.covariance, ntk))
        return Kernel(pairs.covariance, ntk)

    def checked(x1: Float[Array, "n d"], x2: Float[Array, "m d"] | None = None) -> Kernel:
        x1 = _checked_inputs("x1", x1)
        if x2 is None:
            return evaluate(x1)
        x2 = _checked_inputs("x2", x2)
        if x1.shape[1] != x2.shape[1]:
            raise ValueError(
                f"x2: its width is {x2.shape[1]}, that of x1 {x1.shape[1]}; want equal"
            )
        return evaluate(x1, x2)

    return checked


def _input_pairs(x1: Array, x2: Array | None) -> Pairs:
    """q = x.x'/d of all pairs, and the gap without cancellation."""
    width = x1.shape[1]
    square1, unit1 = _polar(x1)
    square2, unit2 = (square1, unit1) if x2 is None else _polar(x2)
    cosine = jnp.matmul(unit1, unit2.T, precision="highest")
    if x2 is None:
        identical = jnp.eye(len(x1), dtype=bool)
        versine = jnp.where(identical, 0, _near_versine(unit1, unit2, cosine, identical))
    else:
        versine = _near_versine(unit1, unit2, cosine, jnp.zeros(cosine.shape, bool))
    variance1, variance2 = square1[:, None] / width, square2[None, :] / width
    scale = root(variance1) * root(variance2)
    sign = jnp.where(cosine < 0, -1, 1).astype(cosine.dtype)
    return Pairs(variance1, variance2, sign * scale * (1 - versine), scale * versine)


def _near_versine(unit1, unit2, cosine, exempt):
    """1 - |cosine|; of near pairs as |u -+ v|^2 / 2, whose error is relative.

    Rows are walked one at a time, and only one that holds a near pair is computed anew, in memory
    of one row of differences: every pair is served, however many there are.
    """

    @jax.checkpoint
    def differences(unit, cosine):
        sign = jnp.where(cosine < 0, -1, 1).astype(cosine.dtype)
        difference = unit[None, :] - sign[:, None] * unit2
        return jnp.sum(difference * difference, axis=1) / 2

    def row(arguments):
        unit, cosine, exempt = arguments
        plain = 1 - magnitude(cosine)
        near = (plain < NEAR) & ~exempt
        anew = jax.lax.cond(near.any(), differences, lambda *_: jnp.zeros_like(plain), unit, cosine)
        return jnp.where(near, anew, plain)

    return jax.lax.map(row, (unit1, cosine, exempt))


def _activate(dual: Dual, pairs: Pairs) -> Pairs:
    variance1, variance2, _, _ = pairs
    return Pairs(
        dual.covariance(variance1, variance1, variance1, jnp.zeros_like(variance1)),
        dual.covariance(variance2, variance2, variance2, jnp.zeros_like(variance2)),
        dual.covariance(*pairs),
        dual.gap(*pairs),
    )


def _affine(pairs: Pairs, w_std, b_std) -> Pairs:
    """K to w_std^2 K + b_std^2.

    The bias is one more coordinate that all vectors share. With b = b_std^2 and m = sqrt(q1 q2)
    the determinant q1 q2 - c^2 grows by b [(sqrt q1 - sqrt q2)^2 + 2 (m - c)], a sum of positive
    terms, and the gap is the determinant over m + |c|, divided before the products: they would
    leave the range of float32 at variances of 1e19 and 1e-19, which is depth 63 of a ReLU.
    """
    weight, bias = w_std**2, b_std**2
    variance1, variance2, covariance, gap = (weight * moment for moment in pairs)
    scale = root(variance1) * root(variance2)
    below = jnp.where(covariance >= 0, gap, 2 * scale - gap)  # m - c
    spread = (root(variance1) - root(variance2)) ** 2
    variance1, variance2, covariance = variance1 + bias, variance2 + bias, covariance + bias
    total = root(variance1) * root(variance2) + magnitude(covariance)
    total = jnp.where(total > 0, total, 1)
    gap = gap * ((2 * scale - gap) / total) + bias * ((spread + 2 * below) / total)
    return Pairs(variance1, variance2, covariance, gap)


def _polar(x):
    """Squared norms and unit vectors; a zero row has the zero vector."""
    square = jnp.sum(x * x, axis=1)
    return square, x / jnp.where(square > 0, root(square), 1)[:, None]


def _symmetric(*matrices):
    """Each matrix's mean with its transpose, to the bit.

    In a loop, whose operands are held in memory: fused into what makes the matrix, the two halves
    would be computed twice, and rounded differently.
    """
    return jax.lax.map(lambda matrix: (matrix + matrix.T) / 2, jnp.stack(matrices))


def _checked_inputs(name: str, x: Array) -> Array:
    check_finite(name, x)
    x = jnp.asarray(x)
    if x.ndim != 2 or not x.shape[1]:
        raise ValueError(f"{name}: got shape {x.shape}; want a matrix [examples, width]")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name}: got dtype {x.dtype}; want floating point, say x.astype(float)")
    largest = float(jnp.finfo(x.dtype).max / x.shape[1]) ** 0.5
    if is_concrete(x) and np.max(np.abs(np.asarray(x)), initial=0) > largest:
        raise ValueError(
            f"{name}: holds numbers above {largest:.1e}, whose squares may overflow {x.dtype}; "
            "scale the inputs, or give them in a wider dtype"
        )
    return x
