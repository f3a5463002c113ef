"""Attention kernels against the printed formula, finitely many heads, and their symmetry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy.stats import norm

from ntkens.kernels import attention


def sphere(seed, *shape):
    tokens = np.random.default_rng(seed).normal(size=shape)
    return tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)


def augmented(inputs):
    return np.concatenate([inputs, np.ones((*inputs.shape[:-1], 1))], axis=-1)


def arc_cosine(cosine):
    cosine = np.clip(cosine, -1, 1)
    return (np.sqrt(1 - cosine**2) + (np.pi - np.arccos(cosine)) * cosine) / (2 * np.pi)


def rectified(mean, deviation):
    return mean * norm._cdf(mean / deviation) + deviation * norm._pdf(mean / deviation)


def moment(mean1, mean2, deviation1, deviation2, cosine):
    """E[relu(u) relu(v)] by an integral over u."""
    spread = deviation2 * np.sqrt(1 - cosine**2)

    def integrand(x):
        inner = rectified(mean2 + cosine * deviation2 * x, spread)
        return (mean1 + deviation1 * x) * norm._pdf(x) * inner

    return integrate.quad(integrand, -mean1 / deviation1, 12, epsabs=1e-13)[0]


def by_definition(x1, x2, biased):
    """(1 / N N') sum_ij E[relu relu] <x~_i, x~'_j>, pair by pair, of tokens of any norm."""
    gram = np.zeros((len(x1), len(x2)))
    for row, first in enumerate(x1):
        for column, second in enumerate(x2):
            total = 0.0
            for i in range(1, len(first)):
                for j in range(1, len(second)):
                    a0, a, b0, b = augmented(np.stack([first[0], first[i], second[0], second[j]]))
                    q1, q2 = (a0 @ a0) * (a @ a) / 4, (b0 @ b0) * (b @ b) / 4
                    cosine = (a0 @ b0) * (a @ b) / 4 / np.sqrt(q1 * q2)
                    means = (first[0] @ first[i], second[0] @ second[j]) if biased else (0, 0)
                    found = moment(*means, np.sqrt(q1), np.sqrt(q2), cosine)
                    total += found * (a @ b)
            gram[row, column] = total / (len(first) - 1) / (len(second) - 1)
    return gram


@pytest.mark.parametrize("biased", [False, True])
def test_the_definition_for_tokens_of_any_norm_and_number(biased):
    x1 = 2 * np.random.default_rng(0).normal(size=(3, 4, 3))
    x2 = sphere(1, 2, 3, 3)
    found = attention.kernel_fn(biased=biased)(x1, x2)
    np.testing.assert_allclose(found.nngp, by_definition(x1, x2, biased), rtol=1e-9)
    np.testing.assert_array_equal(found.ntk, found.nngp)


def test_the_papers_formula_on_the_sphere():
    x = sphere(2, 5, 4, 3)
    x[2], x[3, :2] = x[1], x[1, :2] + 1e-9 * x[0, :2]  # duplicates, and tokens that almost are
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    tokens = augmented(x)
    inner = np.einsum("nid,mjd->nmij", tokens, tokens)
    keys = inner[:, :, 1:, 1:]
    expected = np.mean(arc_cosine(inner[:, :, :1, :1] * keys / 4) * keys, axis=(2, 3))
    found = attention.kernel_fn()(x).nngp
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("biased", [False, True])
def test_symmetric_semi_definite_and_unmoved_by_permutations(biased):
    x, other = sphere(3, 5, 4, 3), sphere(4, 5, 4, 3)
    kernel_fn = attention.kernel_fn(biased=biased)
    gram, cross = kernel_fn(x).nngp, kernel_fn(x, other).nngp
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_allclose(gram, kernel_fn(x, x.copy()).nngp, rtol=1e-13)
    assert np.linalg.eigvalsh(gram)[0] > 0
    order, other_order = [0, 3, 1, 2], [0, 2, 3, 1]
    for moved in (kernel_fn(x[:, order], other), kernel_fn(x, other[:, other_order])):
        np.testing.assert_allclose(moved.nngp, cross, rtol=1e-12)
    baseline = attention.concatenated_kernel_fn()
    change = baseline(x[:, order], other).nngp / baseline(x, other).nngp
    assert np.max(np.abs(change - 1)) > 0.01
    swapped = kernel_fn(x[:, [1, 0, 2, 3]], other).nngp  # the query is no key
    assert np.max(np.abs(swapped / cross - 1)) > 0.01


@pytest.mark.slow
def test_jit_vmap_and_slopes_at_coincident_inputs():
    x = sphere(5, 4, 3, 2)
    x[3] = x[0]
    direction = np.random.default_rng(6).normal(size=x.shape)
    kernel_fn = attention.kernel_fn(biased=True)

    def along(step):
        return kernel_fn(x + step * direction).nngp

    gram, slope = jax.jvp(jax.jit(along), (0.0,), (1.0,))
    np.testing.assert_allclose(gram, kernel_fn(x).nngp, rtol=1e-13)
    np.testing.assert_allclose(slope, (along(1e-5) - along(-1e-5)) / 2e-5, atol=1e-7)
    many = jax.vmap(kernel_fn)(jnp.stack([x, -x])).nngp
    np.testing.assert_allclose(many[1], kernel_fn(-x).nngp, rtol=1e-13)
    single = kernel_fn(x.astype(np.float32)).nngp
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, gram, rtol=2e-6)


HEADS = 2 * attention.CPU_HEADS + 3  # which chunks do not divide


@pytest.mark.parametrize("biased", [pytest.param(False, marks=pytest.mark.slow), True])
def test_features_are_the_papers_sum(biased, key):
    x = sphere(7, 5, 4, 3)
    tokens = augmented(x)
    found = attention.features(key, x, HEADS, biased=biased)
    block = np.diag([1.0, 1.0, 1.0, 0.0]) if biased else 0
    for head in (0, 1, HEADS - 1):
        weight = np.asarray(jax.random.normal(jax.random.fold_in(key, head), (4, 4))) / 2 + block
        scores = np.einsum("nd,de,nie->ni", tokens[:, 0], weight, tokens[:, 1:])
        expected = np.einsum("ni,nie->ne", np.maximum(scores, 0), tokens[:, 1:]) / 3
        part = found[:, 4 * head : 4 * head + 4]
        np.testing.assert_allclose(np.sqrt(HEADS) * part, expected, rtol=1e-12)


@pytest.mark.slow
def test_the_finite_kernel_is_of_the_features(key):
    x, other = sphere(8, 5, 4, 3), sphere(9, 5, 4, 3)
    first, second = (attention.features(key, each, HEADS, biased=True) for each in (x, other))
    kernel_fn = attention.finite_kernel_fn(key, HEADS, biased=True)
    gram = kernel_fn(x).nngp
    np.testing.assert_allclose(gram, first @ first.T, rtol=1e-12)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_allclose(kernel_fn(x, other).nngp, first @ second.T, rtol=1e-12)


@pytest.mark.slow
def test_finite_widths_approach_the_kernels_at_their_rate(key):
    """Mean |error|^2 of 200 draws falls as 1 / width, and the mean of draws is the kernel."""
    x = sphere(10, 5, 4, 3)
    keys, widths = jax.random.split(key, 200), (8, 32, 128)
    for kernel_fn, draw in (
        (attention.kernel_fn(), lambda key: attention.features(key, x, HEADS)),
        (
            attention.kernel_fn(biased=True),
            lambda key: attention.features(key, x, HEADS, biased=True),
        ),
        (
            attention.concatenated_kernel_fn(),
            jax.jit(lambda key: attention.concatenated_features(key, x, HEADS)),
        ),
    ):
        exact = np.asarray(kernel_fn(x).nngp)
        each = np.stack([draw(key) for key in keys]).reshape(200, 5, HEADS, -1) * np.sqrt(HEADS)
        squares = []
        for width in widths:  # a larger number begins with the smaller one's heads
            part = each[:, :, :width].reshape(200, 5, -1)
            error = part @ part.swapaxes(1, 2) / width - exact
            scores = error.mean(axis=0) / error.std(axis=0, ddof=1) * np.sqrt(200)
            assert np.max(np.abs(scores)) < 5
            squares.append(np.mean(error**2))
        slope = np.polyfit(np.log(widths), np.log(squares), 1)[0] / 2
        # a mean square of 200 heavy-tailed draws is known to some 15%, over a factor of 16
        assert slope == pytest.approx(-0.5, abs=0.1)


def test_the_baselines_kernel():
    x, other = sphere(11, 5, 4, 3), sphere(12, 5, 4, 3)
    first, second = (augmented(each).reshape(len(each), -1) for each in (x, other))
    scale = np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)
    expected = scale * arc_cosine(first @ second.T / scale) / first.shape[1]
    found = attention.concatenated_kernel_fn()(x, other).nngp
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_complexity_of_the_papers_targets():
    direction = np.array([0.6, 0.8])
    fourth = np.einsum("a,b,c,d->abcd", *[direction] * 4)
    assert attention.complexity({(0, 4): fourth}) == pytest.approx(4**4.5 * 4**4)
    # <x_0, x>^2 <b, x>: two contractions
    tensor = np.einsum("ac,bd,e->abcde", np.eye(2), np.eye(2), direction)
    assert attention.complexity({(2, 3): tensor}) == pytest.approx(3**4.5 * 4**3 * 2**2)
    both = {(0, 0): np.array(3.0), (0, 1): direction, (1, 0): 2 * direction}
    assert attention.complexity(both) == pytest.approx(9 + 4 + 4 * 4)


@pytest.mark.slow
def test_complexity_bounds_the_norm_in_the_kernels_space():
    """y K^-1 y of samples grows to the target's squared norm, which the theorem has below B."""
    x = sphere(13, 150, 3, 2)
    direction = np.array([0.6, 0.8])
    gram = np.asarray(attention.kernel_fn()(x).nngp)
    along = x[:, 1:] @ direction
    for degree in (1, 2):
        values = np.mean(along**degree, axis=1)
        norms = [
            values[:n] @ np.linalg.solve(gram[:n, :n] + 1e-9 * np.eye(n), values[:n])
            for n in (50, 150)
        ]
        tensor = direction if degree == 1 else np.outer(direction, direction)
        assert norms[0] <= norms[1] <= attention.complexity({(0, degree): tensor})


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (np.ones((3, 4)), ValueError, r"x1: got shape \(3, 4\)"),
        (np.ones((3, 1, 4)), ValueError, "x1: got one token"),
        (np.ones((0, 2, 4)), ValueError, r"x1: got shape \(0, 2, 4\)"),
        (np.ones((3, 2, 4), int), TypeError, "x1: got dtype int64"),
        (np.full((3, 2, 4), np.nan), ValueError, "x1: holds NaN"),
        (np.full((3, 2, 4), 1e52), ValueError, "x1: holds numbers above .*overflow float64"),
    ],
)
def test_inputs_that_are_no_sequences_are_refused(inputs, error, message, key):
    for kernel_fn in (
        attention.kernel_fn(biased=True),
        attention.finite_kernel_fn(key, 2),
        attention.concatenated_kernel_fn(),
    ):
        with pytest.raises(error, match=message):
            kernel_fn(inputs)
    with pytest.raises(error, match=message.replace("x1", "inputs")):
        attention.features(key, inputs, 2)


def test_what_does_not_fit_is_refused(key):
    x = sphere(0, 2, 3, 4)
    with pytest.raises(ValueError, match="x2: its tokens have 5 numbers, those of x1 4"):
        attention.kernel_fn()(x, sphere(0, 2, 3, 5))
    with pytest.raises(ValueError, match="heads: got 0"):
        attention.features(key, x, 0)
    with pytest.raises(ValueError, match=r"heads: got 2\.5"):
        attention.finite_kernel_fn(key, 2.5)  # pyright: ignore[reportArgumentType]  # on purpose
    with pytest.raises(ValueError, match="units: got 0"):
        attention.concatenated_features(key, x, 0)
    with pytest.raises(ValueError, match="x2: its inputs have 4 keys, those of x1 2"):
        attention.concatenated_kernel_fn()(x, sphere(0, 2, 5, 4))
    with pytest.raises(ValueError, match="coefficients: got shape"):
        attention.complexity({(1, 1): np.ones((2, 3))})
