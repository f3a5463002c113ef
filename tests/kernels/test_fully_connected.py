"""The fully connected recursion against 40-digit arithmetic and neural-tangents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkens.kernels import dual, fully_connected, stax
from tests import oracles

EXACT = {
    "relu": dual.relu(),
    "leaky_relu": dual.leaky_relu(0.25),
    "abs": dual.abs(),
    "erf": dual.erf(),
    "sin": dual.sin(),
    "gelu": dual.gelu(),
}


def near_pairs(width, seed):
    """A point, then others at relative distance 1 ... 1e-8 and 0, opposite, radial and a zero."""
    rng = np.random.default_rng(seed)
    point = rng.normal(size=width)
    rows = [point]
    for distance in 10.0 ** -np.arange(9):
        step = rng.normal(size=width)
        rows.append(point + distance * np.linalg.norm(point) * step / np.linalg.norm(step))
        rows.append(-rows[-1])
    return np.stack([*rows, point, point * (1 + 1e-6), 2 * point])


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(
    ("depth", "w_std", "b_std", "width"),
    [(1, 1.0, 0.0, 3), (3, 1.4, 0.0, 784), (3, 1.2, 0.3, 5), (12, 1.4, 0.1, 40)],
)
def test_near_duplicates_equal_forty_digits(name, depth, w_std, b_std, width):
    x = near_pairs(width, seed=depth)
    kernel_fn = fully_connected.kernel_fn(EXACT[name], depth, w_std, b_std)
    symmetric, crossed = kernel_fn(x), kernel_fn(x, x.copy())
    n = len(x)
    exact = np.zeros((2, n, n))
    for i in range(n):
        for j in {0, i, i // 2}:
            pair = oracles.fully_connected(name, x[i], x[j], depth, w_std, b_std)
            exact[:, i, j] = [float(value) for value in pair]
    mask = exact[0] != 0
    acute = mask & (x @ x.T >= 0)
    for got in (symmetric, crossed):
        for value, truth in zip(got, exact, strict=True):
            norm = np.sqrt(np.diagonal(value))
            error = np.abs(value - truth) / (norm[:, None] * norm[None, :])
            assert error[mask].max() < 1e-13
            assert np.abs(value[acute] / truth[acute] - 1).max() < 1e-13
    np.testing.assert_array_equal(symmetric.ntk, symmetric.ntk.T)
    np.testing.assert_array_equal(symmetric.nngp, symmetric.nngp.T)


def neural_tangents_layer(name):
    return {
        "relu": lambda: stax.Relu(),
        "leaky_relu": lambda: stax.LeakyRelu(0.25),
        "abs": lambda: stax.Abs(),
        "erf": lambda: stax.Erf(),
        "sin": lambda: stax.Sin(),
        "gelu": lambda: stax.Gelu(),
        "linear": lambda: stax.Identity(),
        "square": lambda: stax.Monomial(2),
        "cube": lambda: stax.Monomial(3),
    }[name]()


PEERS = {
    **EXACT,
    "linear": dual.linear(),
    "square": dual.monomial(2),
    "cube": dual.monomial(3),
}


# Compiling a derivative takes most of the time here: the other activations are left to `make test`.
KINDS = ["relu", "gelu", "sin"]  # a compilation each; the others differ in their dual alone


@pytest.mark.parametrize(
    ("name", "depth", "b_std"),
    [
        (name, depth, b_std)
        for name in PEERS
        for depth, b_std in [(1, 0.0), (2, 0.4), (3, 0.2), (20, 0.3)]
        # a degree p amplifies rounding by p a layer: for those at depth 20 see the test below
        if depth <= 3 or name not in ("square", "cube")
    ],
)
def test_equals_neural_tangents_away_from_the_diagonal(name, depth, b_std):
    """1e-12 relative where its own numbers are that good: cosine at most 0.99, off the diagonal."""
    rng = np.random.default_rng(depth)
    x1, x2 = rng.normal(size=(9, 6)), rng.normal(size=(8, 6))
    layers = [stax.Dense(1, W_std=1.2, b_std=b_std)]
    for _ in range(depth):
        layers += [neural_tangents_layer(name), stax.Dense(1, W_std=1.2, b_std=b_std)]
    theirs = stax.kernel_fn(stax.serial(*layers))(x1, x2)
    ours = fully_connected.kernel_fn(PEERS[name], depth, 1.2, b_std)(x1, x2)
    norm1, norm2 = np.linalg.norm(x1, axis=1)[:, None], np.linalg.norm(x2, axis=1)
    good = np.abs(x1 @ x2.T) <= 0.99 * norm1 * norm2
    assert good.sum() > 60
    for got, peer in zip(ours, theirs, strict=True):
        rounding = (
            1e-15 * np.abs(peer).max()
        )  # an entry that happens to vanish has no relative error
        np.testing.assert_allclose(got[good], peer[good], rtol=1e-12, atol=rounding)


@pytest.mark.parametrize("degree", [2, 3])
def test_normalised_monomials_at_depth_twenty(degree):
    """Unit variance is an unstable fixed point; inputs of +-1 sit on it exactly."""
    x = np.sign(np.random.default_rng(0).normal(size=(7, 16)))
    x[1] = x[0] * np.where(np.arange(16) < 1, -1, 1)  # cosine 7/8, the largest below 1
    it = dual.normalised(dual.monomial(degree))
    kernel = fully_connected.kernel_fn(it, 20)(x)
    for i, j in np.ndindex(7, 7):
        pair = oracles.fully_connected(f"normalised_{degree}", x[i], x[j], 20, 1.0, 0.0)
        exact = [float(value) for value in pair]
        np.testing.assert_allclose((kernel.nngp[i, j], kernel.ntk[i, j]), exact, rtol=1e-12)


@pytest.mark.optimised
@pytest.mark.parametrize("name", PEERS)
def test_gram_matrix_is_symmetric_and_positive(name, key):
    x = jax.random.normal(key, (30, 5))
    x = jnp.concatenate([x, x[:5], -x[:5], x[:5] + 1e-9])
    for gram in fully_connected.kernel_fn(PEERS[name], 2, 1.1, 0.1)(x):
        np.testing.assert_array_equal(gram, gram.T)
        eigenvalues = np.linalg.eigvalsh(gram)
        assert eigenvalues[0] > -1e-13 * eigenvalues[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_contracts_jit_vmap_grad(name, key):
    kernel_fn = fully_connected.kernel_fn(PEERS[name], 3, 0.9, 0.2)
    x = jax.random.normal(key, (4, 6, 5))
    plain = [kernel_fn(each) for each in x]
    jitted, mapped = jax.jit(kernel_fn)(x[0]), jax.vmap(kernel_fn)(x)
    np.testing.assert_allclose(jitted.ntk, plain[0].ntk, rtol=1e-13)
    np.testing.assert_allclose(
        mapped.ntk, jnp.stack([k.ntk for k in plain]), rtol=1e-13, atol=1e-15
    )
    awkward = jnp.concatenate([x[0], x[0, :2], -x[0, :2], jnp.zeros((2, 5))])

    @jax.jit
    @jax.grad
    def gradients(parameters):
        x, w_std, b_std = parameters
        kernel = fully_connected.kernel_fn(PEERS[name], 3, w_std, b_std)(x)
        return kernel.nngp.sum() + kernel.ntk.sum()

    for b_std in (0.0, 0.2):
        for gradient in gradients((awkward, 0.9, b_std)):
            assert jnp.isfinite(gradient).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_gradient_equals_finite_differences(name, key):
    x = jax.random.normal(key, (3, 4)) / 2
    x = x.at[2].set(x[0] + 0.05 * x[1])  # a near pair too
    kernel_fn = fully_connected.kernel_fn(PEERS[name], 2, 1.1, 0.1)
    weights = jnp.asarray([[0.3, -1.0, 2.0], [0.1, 0.5, 1.0], [1.0, -0.4, 0.2]])

    @jax.jit
    def total(x):
        return jnp.sum(weights * kernel_fn(x).ntk)

    gradient, step = jax.jit(jax.grad(total))(x), 1e-6
    for index in np.ndindex(*x.shape):
        numeric = (total(x.at[index].add(step)) - total(x.at[index].add(-step))) / (2 * step)
        np.testing.assert_allclose(gradient[index], numeric, rtol=1e-6, atol=1e-7)


def test_where_inputs_coincide_a_kink_has_the_symmetric_derivative():
    """Of the NTK of ReLU, whose slopes from the two sides are not one."""
    kernel_fn = fully_connected.kernel_fn(dual.relu(), 2, 1.4, 0.1)
    x, along = jax.random.normal(jax.random.key(0), (2, 3))

    def ntk(moved):
        return kernel_fn(x[None], (x + moved * along)[None]).ntk[0, 0]

    step = 1e-5
    after, before = (ntk(step) - ntk(0.0)) / step, (ntk(0.0) - ntk(-step)) / step
    assert before - after > 0.1
    # a second-order term of the sum is left, as large as the step
    np.testing.assert_allclose(jax.grad(ntk)(0.0), (after + before) / 2, rtol=10 * step)


RELU = fully_connected.kernel_fn(dual.relu(), 3, 1.4)


@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 10))
def test_rotation_and_scale(seed, scale):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(6, 4))
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    np.testing.assert_allclose(RELU(x @ rotation).ntk, RELU(x).ntk, rtol=1e-11)
    np.testing.assert_allclose(RELU(scale * x).ntk, scale**2 * RELU(x).ntk, rtol=1e-11)


def test_depth_zero_is_a_linear_model():
    x = np.random.default_rng(0).normal(size=(4, 3))
    kernel = fully_connected.kernel_fn(dual.relu(), 0, 2.0, 0.5)(x)
    np.testing.assert_allclose(kernel.nngp, 4 * x @ x.T / 3 + 0.25, rtol=1e-14)
    np.testing.assert_array_equal(kernel.ntk, kernel.nngp)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones(3),), ValueError, r"x1: got shape \(3,\)"),
        ((np.ones((2, 3)), np.ones((2, 4))), ValueError, "x2: its width is 4"),
        ((np.full((2, 3), 1e160),), ValueError, "x1: holds numbers above .*overflow float64"),
    ],
)
def test_bad_inputs_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        fully_connected.kernel_fn(dual.relu(), 1)(*arguments)


def test_bad_hyperparameters_are_named():
    with pytest.raises(ValueError, match="depth: got -1"):
        fully_connected.kernel_fn(dual.relu(), -1)
    with pytest.raises(TypeError, match="dual: got relu; want a `Dual`"):
        fully_connected.kernel_fn(dual.relu, 1)
    with pytest.raises(ValueError, match="depth: got nan"):
        fully_connected.kernel_fn(dual.relu(), float("nan"))
    with pytest.raises(ValueError, match=r"w_std: got -2\.0"):
        fully_connected.kernel_fn(dual.relu(), 1, -2.0)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(fully_connected, "_tile_side", lambda examples: 16)


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("n", "m"), [(33, None), (41, None), (48, None), (41, 20), (9, 50)])
def test_tiles_are_the_whole(n, m):
    """Sides that do and do not divide; duplicates, near and opposite, across tiles and in them."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=(max(n, m or 0), 5))
    near = np.concatenate([near_pairs(5, seed=0)[::2], x])
    x1, x2 = near[:n], None if m is None else near[:m].copy()
    tiled = fully_connected.kernel_fn(dual.relu(), 3, 1.4, 0.1)
    whole = jax.jvp(lambda x1: tiled(x1, x2), (x1,), (x1,))[0]  # derivatives are of the whole
    for got, expected in zip(tiled(x1, x2), whole, strict=True):
        scale = np.max(expected)
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-14 * scale)
        if m is None:
            np.testing.assert_array_equal(got, got.T)
            np.testing.assert_array_equal(np.diagonal(got), np.diagonal(expected))


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
def test_tiles_have_the_derivative_of_the_whole(monkeypatch):
    x = np.random.default_rng(0).normal(size=(40, 3))
    weights = np.random.default_rng(1).normal(size=(40, 40))

    def total(kernel_fn, parameters):
        x, w_std, b_std = parameters
        return jnp.sum(weights * kernel_fn(dual.relu(), 2, w_std, b_std)(x).ntk)

    in_tiles = jax.grad(lambda p: total(fully_connected.kernel_fn, p))((x, 1.3, 0.2))
    monkeypatch.setattr(fully_connected, "_tile_side", lambda examples: 64)
    at_once = jax.grad(lambda p: total(fully_connected.kernel_fn, p))((x, 1.3, 0.2))
    for got, expected in zip(in_tiles, at_once, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.optimised
@pytest.mark.usefixtures("small_tiles")
def test_tiled_gram_matrix_is_positive(key):
    x = jax.random.normal(key, (60, 5))
    x = jnp.concatenate([x, x[:5], -x[:5], x[:5] + 1e-9])
    for gram in fully_connected.kernel_fn(dual.relu(), 3)(x):
        eigenvalues = np.linalg.eigvalsh(gram)
        assert eigenvalues[0] > -1e-14 * eigenvalues[-1]


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "b_std"),
    [(3, 0.0), *(pytest.param(*each, marks=pytest.mark.slow) for each in [(1, 0.0), (6, 0.2)])],
)
def test_float32_in_tiles_is_float64_to_a_millionth(depth, b_std):
    """Of real size, near duplicates everywhere; where the cosine is positive, relative as well."""
    rng = np.random.default_rng(depth)
    x = rng.normal(size=(520, 784))
    for row in range(260):  # at relative distance 1e-1 ... 1e-8 and 0, opposite or not
        x[519 - row] = (-1) ** row * (x[row] + 10.0 ** -(row // 2 % 9 + 1) * x[519 - row])
    x[519] = x[0]
    single = x.astype(np.float32)
    kernel_fn = fully_connected.kernel_fn(dual.relu(), depth, 1.4, b_std)
    cosine = np.asarray(fully_connected.kernel_fn(dual.linear(), 0)(single.astype(float)).nngp)
    for got, exact in zip(kernel_fn(single), kernel_fn(single.astype(float)), strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_array_equal(got, got.T)
        error = np.abs(np.asarray(got, float) - exact)
        norm = np.sqrt(np.diagonal(exact))
        assert np.max(error / (norm * norm[:, None])) < 1e-6
        assert np.max((error / exact)[cosine >= 0]) < 1e-6
