"""Deep kernels against the recursion in high precision, and against what theory says of them."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from ntkens.kernels import deep, deep_classifier, dual, hermite, infinite_depth

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


# the classifiers


def on_the_sphere(key, count, width=3):
    points = jnp.abs(jax.random.normal(key, (count, width)))
    return points / jnp.linalg.norm(points, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def problem():
    """40 + 100 points of the positive octant of S^2, 24 of one class and 16 of the other."""
    keys = jax.random.split(jax.random.key(3), 3)
    inputs, points = on_the_sphere(keys[0], 40), on_the_sphere(keys[1], 100)
    targets = jax.random.permutation(keys[2], jnp.where(jnp.arange(40) < 24, 1.0, -1.0))
    distances = jnp.linalg.norm(points[:, None] - inputs[None], axis=-1)
    return inputs, points, targets[:, None], distances


def train_and_cross(made, depth, problem):
    inputs, points, _, _ = problem
    both = deep.kernel_fn(made, depth)(jnp.concatenate([inputs, points]))
    return (
        jax.tree.map(lambda x, part=part: x[part, :40], both)
        for part in (slice(40), slice(40, None))
    )


def decided(made, depth, problem, kernel="nngp"):
    kernels = train_and_cross(made, depth, problem)
    return np.sign(deep_classifier.decide(*kernels, problem[2], kernel=kernel)[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["nngp", pytest.param("ntk", marks=pytest.mark.slow)])
def test_the_square_becomes_the_nearest_neighbour(problem, kernel):
    _, _, targets, distances = problem
    nearest = targets[jnp.argmin(distances, axis=1), 0]
    made = MAPS["square"][0]
    agreement = [(decided(made, depth, problem, kernel) == nearest).mean() for depth in (4, 8, 12)]
    assert agreement[0] < 0.9 < agreement[1] <= agreement[2]  # .765, .972, 1.000 published
    assert agreement[2] > 0.995
    assert (decided(made, 100_000, problem, kernel) == nearest).all()


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


@pytest.mark.slow
def test_the_optimal_activation_becomes_a_singular_kernel(problem):
    """sign(sum_i y_i k(x, x_i)), k the exponential of the coordinate, at any large depth."""
    _, _, targets, distances = problem
    made = MAPS["optimal on S^2"][0]
    _, cross = train_and_cross(made, 100_000, problem)
    singular = np.sign(jnp.exp(cross.coordinate) @ targets[:, 0])
    np.testing.assert_array_equal(decided(made, 100_000, problem), singular)
    assert (decided(made, 100_000, problem, "ntk") == singular).mean() > 0.99
    hilbert = np.sign((1 / distances**2) @ targets[:, 0])
    assert (singular == hilbert).mean() > 0.9


@pytest.mark.slow
def test_relu_becomes_the_majority(problem):
    """Off the diagonal NTK / (L + 1) is .511, .306, .257, .2525 at L = 10, 100, 1000, 3000 in a
    reimplementation; to 1/4 it goes from any points, as 3 to 4 over L.
    """
    off = ~np.eye(40, dtype=bool)
    shares = []
    for depth in (10, 100, 1000):
        train, _ = train_and_cross(dual.relu(), depth, problem)
        shares.append(float(jnp.exp(train.log_ntk)[off].mean() / (depth + 1)))
    made = dual.relu()
    ones = [(decided(made, depth, problem, "ntk") == 1).mean() for depth in (10, 1000)]
    np.testing.assert_allclose(shares[1:], [0.306, 0.257], rtol=0.01)
    assert 0.45 < shares[0] < 0.6
    assert ones[0] < 0.9
    assert ones[1] > 0.9


@pytest.mark.slow
def test_a_flat_kernel_interpolates_and_is_no_majority():
    """f(0) > 0 and f'(1) < 1, where all of the kernel tends to one: solved in 200 digits."""
    angles = np.linspace(0, 1.5, 8)
    inputs, points = (np.stack([np.cos(a), np.sin(a)], axis=1) for a in (angles, angles + 0.1))
    targets = np.where(np.arange(8) % 3 == 0, -1.0, 1.0)
    made, function, _ = MAPS["flat"]

    def decide(depth, points):
        kernel_fn = deep.kernel_fn(made, depth)
        kernels = (
            kernel_fn(jnp.asarray(inputs)),
            kernel_fn(jnp.asarray(points), jnp.asarray(inputs)),
        )
        return deep_classifier.decide(*kernels, jnp.asarray(targets)[:, None])[:, 0]

    with mpmath.workdps(200):

        def kernel(x, y):
            x, y = ([mpmath.mpf(float(t)) for t in z] for z in (x, y))
            t = mpmath.fdot(x, y) / mpmath.sqrt(mpmath.fdot(x, x) * mpmath.fdot(y, y))
            for _ in range(150):
                t = function(t)
            return t

        gram = mpmath.matrix([[kernel(x, y) for y in inputs] for x in inputs])
        weights = mpmath.lu_solve(gram, mpmath.matrix(targets.tolist()))
        rows = [[kernel(x, y) for y in inputs] for x in points]
        expected = [float(mpmath.fdot(row, weights)) for row in rows]
    # eight points on an arc: -h has a condition number of 1e7
    np.testing.assert_allclose(decide(150, points), expected, rtol=1e-6)
    np.testing.assert_allclose(decide(5000, points), expected, rtol=1e-6)
    np.testing.assert_allclose(decide(5000, inputs), targets, rtol=1e-6)
    assert (np.sign(expected) < 0).any()
    train = deep.kernel_fn(made, 1000)(jnp.asarray(inputs))
    with pytest.raises(ValueError, match="train: its NTK is constant"):
        deep_classifier.decide(train, train, jnp.asarray(targets)[:, None], kernel="ntk")


def test_decisions_equal_the_plain_formula_where_it_can_be_formed(problem):
    """At depth 3, against the recursion of NumPy and a dense solve: up to a factor per point."""
    inputs, points, targets, _ = problem
    targets = jnp.concatenate([targets, targets**2], axis=1)
    made = MAPS["mixed"][0]
    weights = np.array([0.125, 0.25, 0.25, 0.375])

    def recursion(cosine):
        ntk = cosine
        for _ in range(3):
            slope = np.polyval(np.polyder(weights[::-1]), cosine)
            cosine = np.polyval(weights[::-1], cosine)
            ntk = cosine + ntk * slope
        return {"nngp": cosine, "ntk": ntk}

    train, cross_kernel = train_and_cross(made, 3, problem)
    for name in ("nngp", "ntk"):
        gram, cross = (recursion(np.asarray(x @ inputs.T))[name] for x in (inputs, points))
        expected = cross @ np.linalg.solve(gram, targets)
        actual = deep_classifier.decide(train, cross_kernel, targets, kernel=name)
        factor = actual[:, :1] / expected[:, :1]
        assert (factor > 0).all()
        # the condition number of the kernel of 40 random points is 1e8
        np.testing.assert_allclose(actual / factor, expected, rtol=1e-4, atol=1e-5)


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
    with pytest.raises(TypeError, match="cosine: got dtype float32"):
        deep.iterate(dual.relu(), 2, half.astype(jnp.float32))


def test_decide_names_what_is_wrong():
    kernel_fn = deep.kernel_fn(MAPS["optimal on S^2"][0], 3)
    inputs = jnp.array([[1.0, 0], [0, 1], [0.6, 0.8]])
    train, targets = kernel_fn(inputs), jnp.ones((3, 1))
    narrow = jax.tree.map(lambda x: x[:2, :2], train)
    twins, opposed = (
        kernel_fn(inputs[jnp.array([0, 1, 1])]),
        kernel_fn(inputs.at[2].set(-inputs[0])),
    )
    for arguments, kernel, message in (
        ((train, train, jnp.ones(3)), "nngp", r"targets: got shape \(3,\)"),
        ((train, narrow, targets), "nngp", r"cross: got shape \(2, 2\)"),
        ((train, train, targets), "rbf", "kernel: got 'rbf'"),
        ((twins, train, targets), "nngp", "train: .*cannot tell input 1 from input 2"),
        ((opposed, train, targets), "ntk", "train: .*cannot tell input 0 from input 2"),
    ):
        with pytest.raises(ValueError, match=message):
            deep_classifier.decide(*arguments, kernel=kernel)
