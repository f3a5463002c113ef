"""Deep kernels against the recursion in high precision, and against what theory says of them."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from ntkens.kernels import deep, dual, hermite, infinite_depth

pytestmark = pytest.mark.optimised

VERSINES = np.array([1e-300, 1e-30, 1e-12, 1e-3, 0.1, 0.7, 0.999, 0.7, 0.3, 0.0])
SIGNS = np.array([1, 1, 1, 1, 1, 1, 1, -1, -1, 1])


def polynomial(*weights):
    """f and f' of sum_i a_i t^i, and the dual of an activation that has it."""
    weights = np.array(weights, float)
    precise = [(i, mpmath.mpf(a)) for i, a in enumerate(weights.tolist()) if a]
    return (
        hermite.activation(weights).dual,
        lambda t: mpmath.fsum(a * t**i for i, a in precise),
        lambda t: mpmath.fsum(i * a * t ** (i - 1) for i, a in precise if i),
    )


def arcsine(t):
    return mpmath.asin(2 * t / 3) / mpmath.asin(mpmath.mpf(2) / 3)


def arcsine_slope(t):
    return mpmath.mpf(2) / 3 / mpmath.sqrt(1 - 4 * t * t / 9) / mpmath.asin(mpmath.mpf(2) / 3)


def arc_cosine(t):
    return (mpmath.sqrt(1 - t * t) + (mpmath.pi - mpmath.acos(t)) * t) / mpmath.pi


MAPS = {
    "optimal on S^1": polynomial(0, 0.5, 0, 0, 0, 0, 0, 0.5),
    "optimal on S^2": polynomial(0, 0.5, 0, 0.5),
    "optimal on S^4": polynomial(0, 0.25, 0.5, 0.25),
    "square": polynomial(0, 0, 1),
    "order 2": polynomial(0, 0, 0.5, 0.5),
    "order 3": polynomial(0, 0, 0, 0.75, 0, 0.25),
    "erf": (dual.erf(), arcsine, arcsine_slope),
    "sin": (
        dual.sin(),
        lambda t: mpmath.sinh(t) / mpmath.sinh(1),
        lambda t: mpmath.cosh(t) / mpmath.sinh(1),
    ),
    "relu": (dual.relu(), arc_cosine, lambda t: 1 - mpmath.acos(t) / mpmath.pi),
    "flat": polynomial(0.5, 0.25, 0.25),
    "inner fixed point": polynomial(0.25, 0, 0.75),
    "even": polynomial(0.5, 0, 0.25, 0, 0.25),
    "mixed": polynomial(0.125, 0.25, 0.25, 0.375),
    "linear": polynomial(0, 1),
}
# what the dual rounds: a few eps per layer of |log|, and of order >= 2 a leading coefficient that
# is extrapolated from 1e-8
TOLERANCES = {"order 2": 1e-11, "order 3": 1e-11}


@functools.cache
def high_precision(name, depth):
    """ln |t|, ln(1 - |t|), ln |K|, ln |K / t| and the two signs, of all pairs."""
    _, function, slope = MAPS[name]
    with mpmath.workdps(340):
        rows = []
        for versine, sign in zip(VERSINES, SIGNS, strict=True):
            t = int(sign) * (1 - mpmath.mpf(float(versine)))
            ntk = t
            for _ in range(depth):
                t, ntk = function(t), function(t) + ntk * slope(t)
            logs = [
                mpmath.log(abs(x)) if x else mpmath.mpf("-inf")
                for x in (t, 1 - abs(t), ntk, ntk / t)
            ]
            rows.append(([float(x) for x in logs], int(mpmath.sign(t)), int(mpmath.sign(ntk))))
    logs, sign, ntk_sign = zip(*rows, strict=True)
    return np.array(logs), np.array(sign), np.array(ntk_sign)


FAST = ("optimal on S^2", "order 2", "relu")  # each compiles its own loop
EVERY = [pytest.param(x, marks=() if x in FAST else pytest.mark.slow) for x in MAPS]


@pytest.mark.parametrize("depth", [0, 1, 6, 40])
@pytest.mark.parametrize("name", EVERY)
def test_iterates_equal_the_recursion_in_340_digits(name, depth):
    cosine = jnp.asarray(SIGNS * (1 - VERSINES))
    actual = deep.iterate(MAPS[name][0], depth, cosine, jnp.asarray(VERSINES))
    logs, sign, ntk_sign = high_precision(name, depth)
    fields = (actual.log_nngp, actual.log_versine, actual.log_ntk, actual.log_ratio)
    tolerance = TOLERANCES.get(name, 1e-13)
    for field, expected in zip(fields, logs.T, strict=True):
        np.testing.assert_allclose(field, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(actual.sign, sign)
    np.testing.assert_array_equal(actual.ntk_sign, ntk_sign)


@pytest.mark.parametrize(
    "name",
    [
        "optimal on S^2",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("relu", "flat", "mixed")),
    ],
)
def test_a_hundred_thousand_layers(name):
    """Without underflow, to what high precision says; for the slow maps, to their asymptotics."""
    depth, cosine = 100_000, jnp.array([0.3, 0.9, -0.5, *[1.0] * 7])
    found, limit = deep.iterate(MAPS[name][0], depth, cosine), infinite_depth.limit(MAPS[name][0])
    assert all(np.isfinite(field).all() for field in found if field is not found.log_versine)
    b = mpmath.mpf(limit.slope_at_one)
    diagonal = depth + 1 if b == 1 else (b ** (depth + 1) - 1) / (b - 1)
    np.testing.assert_allclose(found.log_ntk[-1], float(mpmath.log(diagonal)), rtol=1e-14)
    middle = deep.iterate(MAPS[name][0], 1000, cosine)
    if name == "optimal on S^2":
        a = limit.slope_at_zero
        np.testing.assert_allclose(found.coordinate[:3], middle.coordinate[:3], rtol=1e-13)
        np.testing.assert_allclose(
            found.log_nngp[:3], found.coordinate[:3] + depth * np.log(a), rtol=1e-15
        )
        # beyond the first layers each adds one NNGP: K_L / t_L = L + const
        rest = np.exp(found.log_ratio[:3]) - np.exp(middle.log_ratio[:3])
        np.testing.assert_allclose(rest, depth - 1000, rtol=1e-11)
    if name == "relu":  # 1 - t ~ 9 pi^2 / (2 L^2), from 1 - f = v - 2 sqrt(2) v^(3/2) / (3 pi)
        versine = np.exp(found.log_versine[:3]) * depth**2
        np.testing.assert_allclose(versine, 9 * np.pi**2 / 2, rtol=1e-3)
        np.testing.assert_allclose(np.exp(found.log_ntk[:3]) / depth, 0.25, rtol=2e-3)
    if name == "flat":  # Koenigs: ln(1 - t) falls by ln b per layer, and underflows as a number
        fall = (found.log_versine[:3] - middle.log_versine[:3]) / (depth - 1000)
        # half an ulp of a sum of 3e4, 4e-12, is 1e-11 of what a layer adds to it
        np.testing.assert_allclose(fall, np.log(limit.slope_at_one), rtol=1e-11)
        assert (found.log_versine[:3] < -28_000).all()
    if name == "mixed":  # K = c + K f'(c) at the fixed point
        c, rate = limit.fixed_point, limit.rate
        np.testing.assert_allclose(np.exp(found.log_nngp[:3]), c, rtol=1e-12)
        np.testing.assert_allclose(np.exp(found.log_ntk[:3]), c / (1 - rate), rtol=1e-12)


def test_the_nearest_neighbour_keeps_its_order_where_logarithms_end():
    cosine = jnp.array([0.9, 0.89999, 0.5, -0.3, 0.2, 0.19, 0.1, 0.05, 0.01, 1e-200])
    found = deep.iterate(MAPS["order 2"][0], 100_000, cosine)
    assert np.isneginf(found.log_nngp).all()
    assert (np.diff(found.coordinate) < 0).all()
    # Boettcher: of f = (t^2 + t^3) / 2, 2^-L (ln t_L - ln 2), by the recursion in 60 digits
    with mpmath.workdps(60):
        t = mpmath.mpf(0.5)
        for _ in range(12):
            t = (t**2 + t**3) / 2
        expected = (mpmath.log(t) - mpmath.log(2)) / 2**12
    np.testing.assert_allclose(found.coordinate[2], float(expected), rtol=1e-12)


# the singularity


@pytest.mark.parametrize(
    "dimension", [2, *(pytest.param(d, marks=pytest.mark.slow) for d in (1, 4, 8))]
)
def test_exponents_are_measured_from_the_kernels(dimension):
    """ln K against ln r at a ratio of b^(-1/2), one period of R: alpha, and alpha + 2 for the NTK
    at a fixed depth, whose diagonal layers count as r^-2; its increments have alpha.
    """
    made = hermite.optimal_activation(dimension).dual
    b = infinite_depth.limit(made).slope_at_one
    distance = 1e-2 * b ** (-np.arange(10) / 2)
    versine = jnp.asarray(distance**2 / 2)
    kernels = [deep.iterate(made, depth, 1 - versine, versine) for depth in (400, 399)]
    slopes = np.diff(kernels[0].coordinate) / np.diff(np.log(distance))
    np.testing.assert_allclose(slopes, -dimension, atol=1e-3)
    scaled = [np.asarray(k.coordinate + k.log_ratio) for k in kernels]  # ln K_L / a^L
    raw = np.diff(scaled[0]) / np.diff(np.log(distance))
    np.testing.assert_allclose(raw[-3:], -dimension - 2, atol=0.02)
    increments = np.log(-np.expm1(scaled[1] - scaled[0])) + scaled[0]
    np.testing.assert_allclose(
        np.diff(increments) / np.diff(np.log(distance)), -dimension, atol=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("degree", [100, 300])
def test_steep_maps_near_one(degree):
    """(t + t^n) / 2 from versines around the one below which 1 - f is an integral."""
    versine = np.geomspace(1e-6, 0.1, 40)
    made, function, _ = polynomial(0, 0.5, *[0] * (degree - 2), 0.5)
    found = deep.iterate(made, 1, jnp.asarray(1 - versine), jnp.asarray(versine))
    with mpmath.workdps(40):
        expected = [float(mpmath.log(1 - function(1 - mpmath.mpf(v)))) for v in versine]
    np.testing.assert_allclose(found.log_versine, expected, rtol=0, atol=2e-12)


# doors


def test_points_off_the_sphere_are_refused_or_normalised(key):
    made, inputs = MAPS["optimal on S^2"][0], jax.random.normal(key, (3, 2))
    with pytest.raises(ValueError, match=r"x1: row \d has norm .*normalise=True"):
        deep.kernel_fn(made, 3)(inputs)
    unit = inputs / jnp.linalg.norm(inputs, axis=1, keepdims=True)
    with pytest.raises(ValueError, match="x2: row 0 has norm 2"):
        deep.kernel_fn(made, 3)(unit, 2 * unit)
    with pytest.raises(ValueError, match="x2: its width is 1, that of x1 2"):
        deep.kernel_fn(made, 3)(unit, jnp.ones((3, 1)))
    normalised = deep.kernel_fn(made, 3, normalise=True)(inputs)
    for one, other in zip(normalised, deep.kernel_fn(made, 3)(unit), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    with pytest.raises(ValueError, match="x1: row 2 is zero"):
        deep.kernel_fn(made, 3, normalise=True)(inputs.at[2].set(0))
    with pytest.raises(ValueError, match="x1: holds NaN"):
        deep.kernel_fn(made, 3, normalise=True)(inputs * np.nan)


def test_near_duplicates_keep_their_distance():
    """Points 1e-10 apart: 1 - cosine is 5e-21, and nothing is left of it in the cosine."""
    step = 1e-10
    inputs = jnp.array([[1.0, 0.0], [1.0, step], [0.0, 1.0]])  # of unit norm to rounding
    found = deep.kernel_fn(MAPS["optimal on S^2"][0], 5)(inputs)
    np.testing.assert_allclose(np.exp(found.log_versine[0, 1]), 2**5 * step**2 / 2, rtol=1e-12)
    assert np.isneginf(np.diagonal(found.log_versine)).all()


@pytest.mark.slow
def test_under_jit_and_vmap_the_kernels_are_the_same():
    made, cosine = MAPS["optimal on S^2"][0], jnp.linspace(-1, 1, 10)
    plain = deep.iterate(made, 20, cosine)
    for transform in (jax.jit, jax.vmap):
        for one, other in zip(
            transform(lambda t: deep.iterate(made, 20, t))(cosine), plain, strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-13)


def test_iterate_names_what_is_wrong():
    half = jnp.array([0.5])
    sign = dual.from_moments(
        lambda q1, q2, c, gap=None: 2 / np.pi * jnp.arcsin(c / jnp.sqrt(q1 * q2)),
        lambda q1, q2, c, gap=None: 2 / np.pi / jnp.sqrt(q1 * q2 - c * c),
    )
    hidden = hermite.dual([0, 1e-10, 0, 0, 0, 0, 1.0])  # f'(0) = 1e-20
    mixed = hermite.dual([0, 1e-20, 0, 0, 0, 0, 1.0])  # f'(0) t is 1e-48 at t = 1e-8, as t^6 is
    for arguments, message in (
        ((dual.relu(), -1, half), "depth: got -1"),
        ((dual.relu(), 1.5, half), "depth: got 1.5"),
        ((dual.relu(), 2, 3 * half), r"cosine: holds numbers outside \[-1, 1\]"),
        ((dual.relu(), 2, half * np.nan), "cosine: holds numbers outside"),
        ((dual.relu(), 2, half, -half), r"versine: holds numbers outside \[0, 1\]"),
        ((dual.relu(), 2, half, jnp.ones(2)), r"versine: got shape \(2,\)"),
        ((sign, 2, half), r"dual: f'\(1\) is infinite"),
        ((hidden, 2, half), r"dual: f'\(0\) = 1.0e-20 is small enough to be rounding"),
        ((mixed, 2, half), "dual: .*rounding to 0"),
    ):
        with pytest.raises(ValueError, match=message):
            deep.iterate(*arguments)
    with pytest.raises(ValueError, match="depth: got -1"):
        deep.kernel_fn(dual.relu(), -1)
    with pytest.raises(TypeError, match="dual: got relu; want a `Dual`"):
        deep.kernel_fn(dual.relu, 1)
    with pytest.raises(TypeError, match="cosine: got dtype float32"):
        deep.iterate(dual.relu(), 2, half.astype(jnp.float32))
