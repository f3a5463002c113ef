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
from ntkens.kernels import Kernel, KernelFn, angular
from ntkens.kernels.arc_cosine import angle
from ntkens.kernels.dual import Dual, check_dual, magnitude, root
from ntkens.kernels.tiles import mirrored
from ntkens.kernels.versine import versine


class Points(NamedTuple):
    """Inputs in polar form."""

    square: Float[Array, " n"]
    unit: Float[Array, "n d"]


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
        diagonal. Errors are below 1e-6 sqrt(K_ii K_jj) in float32 and 1e-13 of it in float64, near
        duplicates included; a monomial multiplies rounding by its degree in every layer. Where
        inputs coincide a kink has no derivative; the symmetric one is given.

    Raises:
        ValueError: depth or a standard deviation is negative; inputs are not matrices of one
            width, have no example, hold NaN or infinities, or numbers whose squares overflow.
        TypeError: the activation is no `Dual`; inputs are not floating point.
    """
    check_dual(dual)
    if not isinstance(depth, int | np.integer) or depth < 0:
        raise ValueError(f"depth: got {depth}; hidden layers are counted 0, 1, 2, ...")
    for name, value in (("w_std", w_std), ("b_std", b_std)):
        if is_concrete(value) and not 0 <= float(value) < np.inf:
            raise ValueError(f"{name}: got {value}; a standard deviation is finite and >= 0")

    biased = not (is_concrete(b_std) and float(b_std) == 0)

    def layers(points1, points2, same, w_std, b_std) -> Kernel:
        def layer(carry, _):
            pairs, ntk = carry
            derivative = dual.derivative(*pairs)
            pairs = affine(_activate(dual, pairs))
            return (pairs, pairs.covariance + w_std**2 * ntk * derivative), None

        def affine(pairs):
            pairs = Pairs(*(w_std**2 * moment for moment in pairs))
            return _add_bias(pairs, b_std) if biased else pairs

        pairs = affine(_input_pairs(points1, points2, same))
        (pairs, ntk), _ = jax.lax.scan(layer, (pairs, pairs.covariance), length=depth)
        return Kernel(pairs.covariance, ntk)

    series = None
    if dual.slopes is not None and not biased:
        series = angular.series(dual.slopes, depth)

    @jax.custom_jvp
    def evaluate(x1, x2, w_std, b_std) -> Kernel:
        def tile(points1, points2, same) -> Kernel:
            if series is not None and x1.dtype == jnp.float32:
                scale = w_std ** (2 * (depth + 1)) / x1.shape[1]
                return _angular(series, scale, points1, points2, same)
            return layers(points1, points2, same, w_std, b_std)

        return _in_tiles(tile, _points(x1), None if x2 is None else _points(x2))

    @evaluate.defjvp
    def _(primals, tangents):
        """Loops that write into one array have no economical derivative: of the whole, then."""

        def whole(x1, x2, w_std, b_std) -> Kernel:
            points1 = _points(x1)
            points2 = points1 if x2 is None else _points(x2)
            same = _same(0, len(x1), 0, len(points2.unit), x2 is None)
            kernel = layers(points1, points2, same, w_std, b_std)
            return Kernel(*jax.lax.map(mirrored, jnp.stack(kernel))) if x2 is None else kernel

        return jax.jvp(whole, primals, tangents)

    compiled = jax.jit(evaluate)

    def checked(x1: Float[Array, "n d"], x2: Float[Array, "m d"] | None = None) -> Kernel:
        x1 = _checked_inputs("x1", x1)
        if x2 is None:
            return compiled(x1, None, w_std, b_std)
        x2 = _checked_inputs("x2", x2)
        if x1.shape[1] != x2.shape[1]:
            raise ValueError(
                f"x2: its width is {x2.shape[1]}, that of x1 {x1.shape[1]}; want equal"
            )
        return compiled(x1, x2, w_std, b_std)

    return checked


def _angular(series, scale, points1: Points, points2: Points, same: Array) -> Kernel:
    """The kernels as polynomials in the angle; see `angular`."""
    cosine = jnp.matmul(points1.unit, points2.unit.T, precision="highest")
    acute = angle(versine(points1.unit, points2.unit, cosine, same))
    theta = jnp.where(cosine < 0, jnp.pi - acute, acute)
    norms = scale * root(points1.square)[:, None] * root(points2.square)[None, :]
    return Kernel(*(norms * angular.evaluate(each, theta) for each in series))


def _in_tiles(tile, points1: Points, points2: Points | None) -> Kernel:
    """All pairs, tile by tile; those of one set with itself in half the work.

    Tiles begin at multiples of the side, the last where it ends with the data, over part of the
    one before. A symmetric matrix gets each tile and its transpose; those on the diagonal, made
    symmetric to the bit, come last in their rows and lie over what the last row overlaps.
    """
    symmetric = points2 is None
    points2 = points1 if symmetric else points2
    rows, columns = len(points1.unit), len(points2.unit)
    side = _tile_side(max(rows, columns))
    height, width = min(side, rows), min(side, columns)
    if (height, width) == (rows, columns):
        kernel = tile(points1, points2, _same(0, rows, 0, columns, symmetric))
        return Kernel(*jax.lax.map(mirrored, jnp.stack(kernel))) if symmetric else kernel

    def row_of_tiles(index, kernel):
        row = jnp.minimum(index * height, rows - height)
        part1 = Points(*(jax.lax.dynamic_slice_in_dim(a, row, height) for a in points1))

        def place(index, kernel):
            column = jnp.minimum(index * width, columns - width)
            part2 = Points(*(jax.lax.dynamic_slice_in_dim(a, column, width) for a in points2))
            part = tile(part1, part2, _same(row, height, column, width, symmetric))
            if not symmetric:
                return _write(kernel, part, (row, column))
            part = jax.lax.cond(
                row == column, lambda part: Kernel(*map(mirrored, part)), lambda part: part, part
            )
            kernel = _write(kernel, part, (row, column))
            return _write(kernel, Kernel(part.nngp.T, part.ntk.T), (column, row))

        end = index + 1 if symmetric else -(-columns // width)
        return jax.lax.fori_loop(0, end, place, kernel)

    shape, dtype = (rows, columns), points1.unit.dtype
    # different constants, or the compiler makes one array and a copy of it
    empty = Kernel(jnp.zeros(shape, dtype), jnp.ones(shape, dtype))
    return jax.lax.fori_loop(0, -(-rows // height), row_of_tiles, empty)


def _tile_side(examples: int) -> int:
    """The side of a tile.

    On a CPU its few arrays stay in a core's cache, and of the sides near 256 that fill vector
    registers the one is taken that overlaps least; an accelerator wants large tiles.
    """
    if jax.default_backend() != "cpu":
        return 4096

    def work(side):  # of the tiles and of the inputs they read
        tiles = -(-examples // side)
        return tiles * (tiles + 1) * side * (side + 20)

    return min(range(192, 289, 16), key=work)


def _same(row, height: int, column, width: int, symmetric: bool) -> Array:
    """Which pairs of a tile are an input with itself."""
    index1, index2 = row + jnp.arange(height), column + jnp.arange(width)
    return (index1[:, None] == index2[None, :]) & symmetric


def _write(kernel: Kernel, part: Kernel, start) -> Kernel:
    return Kernel(
        *(jax.lax.dynamic_update_slice(*both, start) for both in zip(kernel, part, strict=True))
    )


def _input_pairs(points1: Points, points2: Points, same: Array) -> Pairs:
    """q = x.x'/d of all pairs, and the gap without cancellation."""
    width = points1.unit.shape[1]
    cosine = jnp.matmul(points1.unit, points2.unit.T, precision="highest")
    short = versine(points1.unit, points2.unit, cosine, same)
    variance1, variance2 = points1.square[:, None] / width, points2.square[None, :] / width
    scale = root(variance1) * root(variance2)
    sign = jnp.where(cosine < 0, -1, 1).astype(cosine.dtype)
    return Pairs(variance1, variance2, sign * scale * (1 - short), scale * short)


def _activate(dual: Dual, pairs: Pairs) -> Pairs:
    variance1, variance2, _, _ = pairs
    return Pairs(
        dual.covariance(variance1, variance1, variance1, jnp.zeros_like(variance1)),
        dual.covariance(variance2, variance2, variance2, jnp.zeros_like(variance2)),
        dual.covariance(*pairs),
        dual.gap(*pairs),
    )


def _add_bias(pairs: Pairs, b_std) -> Pairs:
    """K to K + b_std^2.

    The bias is one more coordinate that all vectors share. With b = b_std^2 and m = sqrt(q1 q2)
    the determinant q1 q2 - c^2 grows by b [(sqrt q1 - sqrt q2)^2 + 2 (m - c)], a sum of positive
    terms, and the gap is the determinant over m + |c|, divided before the products: they would
    leave the range of float32 at variances of 1e19 and 1e-19, which is depth 63 of a ReLU.
    """
    bias = b_std**2
    variance1, variance2, covariance, gap = pairs
    root1, root2 = root(variance1), root(variance2)
    scale = root1 * root2
    below = jnp.where(covariance >= 0, gap, 2 * scale - gap)  # m - c
    spread = (root1 - root2) ** 2
    variance1, variance2, covariance = variance1 + bias, variance2 + bias, covariance + bias
    total = root(variance1) * root(variance2) + magnitude(covariance)
    total = jnp.where(total > 0, total, 1)
    gap = gap * ((2 * scale - gap) / total) + bias * ((spread + 2 * below) / total)
    return Pairs(variance1, variance2, covariance, gap)


def _points(x) -> Points:
    """Squared norms and unit vectors; a zero row has the zero vector."""
    square = jnp.sum(x * x, axis=1)
    return Points(square, x / jnp.where(square > 0, root(square), 1)[:, None])


def _checked_inputs(name: str, x: Array) -> Array:
    check_finite(name, x)
    x = jnp.asarray(x)
    if x.ndim != 2 or not x.size:
        raise ValueError(
            f"{name}: got shape {x.shape}; want a matrix [examples, width], at least one example"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name}: got dtype {x.dtype}; want floating point, say x.astype(float)")
    largest = float(jnp.finfo(x.dtype).max / x.shape[1]) ** 0.5
    if is_concrete(x) and np.max(np.abs(np.asarray(x))) > largest:
        raise ValueError(
            f"{name}: holds numbers above {largest:.1e}, whose squares may overflow {x.dtype}; "
            "scale the inputs, or give them in a wider dtype"
        )
    return x
