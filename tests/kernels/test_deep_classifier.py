"""Classifiers of deep kernels against their limits, high precision and the plain formula."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from ntkens.kernels import deep, deep_classifier, dual, hermite

RELU = dual.relu()
MIXED = np.array([0.125, 0.25, 0.25, 0.375])
square, optimal, flat, steep, mixed = (  # duals of the maps sum_i a_i t^i
    hermite.activation(np.array(weights)).dual
    for weights in ([0, 0, 1.0], [0, 0.5, 0, 0.5], [0.5, 0.25, 0.25], [0.25, 0, 0.75], MIXED)
)


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
@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_the_square_becomes_the_nearest_neighbour(problem, kernel):
    _, _, targets, distances = problem
    nearest = targets[jnp.argmin(distances, axis=1), 0]
    agreement = [
        (decided(square, depth, problem, kernel) == nearest).mean() for depth in (4, 8, 12)
    ]
    assert agreement[0] < 0.9 < agreement[1] <= agreement[2]  # .765, .972, 1.000 published
    assert agreement[2] > 0.995
    assert (decided(square, 100_000, problem, kernel) == nearest).all()


@pytest.mark.slow
def test_the_optimal_activation_becomes_a_singular_kernel(problem):
    """sign(sum_i y_i k(x, x_i)), k the exponential of the coordinate, at any large depth."""
    _, _, targets, distances = problem
    _, cross = train_and_cross(optimal, 100_000, problem)
    singular = np.sign(jnp.exp(cross.coordinate) @ targets[:, 0])
    np.testing.assert_array_equal(decided(optimal, 100_000, problem), singular)
    assert (decided(optimal, 100_000, problem, "ntk") == singular).mean() > 0.99
    hilbert = np.sign((1 / distances**2) @ targets[:, 0])
    assert (singular == hilbert).mean() > 0.9


@pytest.mark.slow
def test_relu_becomes_the_majority(problem):
    """Off the diagonal NTK / (L + 1) is .511, .306, .257, .2525 at L = 10, 100, 1000, 3000 in a
    reimplementation; to 1/4 it goes from any points, as 3 to 4 over L.
    """
    off = ~np.eye(40, dtype=bool)
    shares = []
    for depth in (10, 100, 1000, 3000):
        train = deep.kernel_fn(RELU, depth)(problem[0])
        shares.append(float(jnp.exp(train.log_ntk)[off].mean() / (depth + 1)))
    ones = [(decided(RELU, depth, problem, "ntk") == 1).mean() for depth in (10, 1000)]
    np.testing.assert_allclose(shares[1:], [0.306, 0.257, 0.2525], rtol=0.01)
    assert 0.45 < shares[0] < 0.6
    assert ones[0] < 0.9
    assert ones[1] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_a_steep_map_with_a_mean_becomes_the_majority_too(problem, kernel):
    """f = (1 + 3 t^2) / 4: f'(1) = 3/2, and cosines of different inputs tend to 1/3."""
    train, _ = train_and_cross(steep, 200, problem)
    off = ~np.eye(40, dtype=bool)
    np.testing.assert_allclose(np.exp(train.log_nngp)[off], 1 / 3, rtol=1e-12)
    assert (decided(steep, 200, problem, kernel) == 1).all()


@pytest.mark.slow
def test_a_flat_kernel_interpolates_and_is_no_majority():
    """f(0) > 0 and f'(1) < 1, where all of the kernel tends to one: solved in 200 digits."""
    angles = np.linspace(0, 1.5, 8)
    inputs, points = (np.stack([np.cos(a), np.sin(a)], axis=1) for a in (angles, angles + 0.1))
    targets = np.where(np.arange(8) % 3 == 0, -1.0, 1.0)

    def decide(depth, points):
        kernel_fn = deep.kernel_fn(flat, depth)
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
                t = (2 + t + t * t) / 4
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
    train = deep.kernel_fn(flat, 1000)(jnp.asarray(inputs))
    with pytest.raises(ValueError, match="train: its NTK is constant"):
        deep_classifier.decide(train, train, jnp.asarray(targets)[:, None], kernel="ntk")


def test_decisions_equal_the_plain_formula_where_it_can_be_formed(problem):
    """At depth 3, against the recursion of NumPy and a dense solve: up to a factor per point."""
    inputs, points, targets, _ = problem
    targets = jnp.concatenate([targets, targets**2], axis=1)

    def recursion(cosine):
        ntk = cosine
        for _ in range(3):
            slope = np.polyval(np.polyder(MIXED[::-1]), cosine)
            cosine = np.polyval(MIXED[::-1], cosine)
            ntk = cosine + ntk * slope
        return {"nngp": cosine, "ntk": ntk}

    train, cross_kernel = train_and_cross(mixed, 3, problem)
    for name in ("nngp", "ntk"):
        gram, cross = (recursion(np.asarray(x @ inputs.T))[name] for x in (inputs, points))
        expected = cross @ np.linalg.solve(gram, targets)
        actual = deep_classifier.decide(train, cross_kernel, targets, kernel=name)
        factor = actual[:, :1] / expected[:, :1]
        assert (factor > 0).all()
        # the condition number of the kernel of 40 random points is 1e8
        np.testing.assert_allclose(actual / factor, expected, rtol=1e-4, atol=1e-5)


def test_decide_names_what_is_wrong():
    kernel_fn = deep.kernel_fn(optimal, 3)
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
