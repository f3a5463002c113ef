import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from ntkens.kernels import Kernel
from ntkens.predictors import gradient_flow, posterior


def two_layers(x1, x2=None):
    """NNGP and NTK of a ReLU network of one hidden layer: the arc-cosine kernels, in NumPy."""
    x2 = x1 if x2 is None else x2
    norm1, norm2 = (np.linalg.norm(x, axis=-1) for x in (x1, x2))
    scale = norm1[:, None] * norm2[None, :] / x1.shape[-1]
    cosine = np.clip(x1 @ x2.T / x1.shape[-1] / scale, -1, 1)
    turn = np.pi - np.arccos(cosine)
    nngp = scale * (np.sqrt(1 - cosine**2) + turn * cosine) / (2 * np.pi)
    return Kernel(nngp, nngp + scale * cosine * turn / (2 * np.pi))


def problem(seed=0, train=12, test=5, outputs=2):
    random = np.random.default_rng(seed)
    inputs, points = random.normal(size=(train, 4)), random.normal(size=(test, 4))
    targets = random.normal(size=(train, outputs))
    return two_layers(inputs), two_layers(points, inputs), two_layers(points), targets


def moments(regime, ridge, seed=0):
    kernel, cross, test, targets = problem(seed)
    fitted = posterior.fit(kernel, targets, regime=regime, ridge=ridge)
    return posterior.mean(fitted, cross), posterior.covariance(fitted, cross, test)


def test_nngp_is_scikit_learns_gaussian_process():
    random = np.random.default_rng(1)
    inputs, points = random.normal(size=(15, 3)), random.normal(size=(6, 3))
    targets = random.normal(size=(15, 2))
    rbf, noise = RBF(1.3), 0.05
    theirs = GaussianProcessRegressor(rbf, alpha=noise, optimizer=None).fit(inputs, targets)
    mean, covariance = theirs.predict(points, return_cov=True)

    kernel, cross, test = (Kernel(k, k) for k in (rbf(inputs), rbf(points, inputs), rbf(points)))
    fitted = posterior.fit(kernel, targets, regime="nngp", ridge=noise)
    np.testing.assert_allclose(posterior.mean(fitted, cross), mean, rtol=1e-10)
    actual = posterior.covariance(fitted, cross, test)
    np.testing.assert_allclose(actual, covariance[..., 0], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_ntk_is_gradient_flow_at_infinite_time_and_its_limit(ridge):
    kernel, cross, test, targets = problem()
    mean, covariance = moments("ntk", ridge)
    flow = gradient_flow.fit(kernel.ntk, targets, ridge=ridge)
    nngp = {"nngp_train": kernel.nngp, "nngp_cross": cross.nngp, "nngp_test": test.nngp}
    for time in (jnp.inf, 1e5):
        flowed = gradient_flow.mean(flow, cross.ntk, time)
        np.testing.assert_allclose(mean, flowed, rtol=1e-10, atol=1e-12)
        spread = gradient_flow.covariance(flow, cross.ntk, time, **nngp)
        np.testing.assert_allclose(covariance, spread, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("ridge", [0.0, 0.2])
@pytest.mark.parametrize("regime", ["nngp", "ntk"])
def test_moments_by_dense_inverse(regime, ridge):
    kernel, cross, test, targets = problem()
    matrix = getattr(kernel, regime) + ridge * np.eye(len(targets))
    smoother = getattr(cross, regime) @ np.linalg.inv(matrix)
    noise = ridge if regime == "nngp" else 0  # the Bayesian's targets are noisy, the net's are not
    observed = kernel.nngp + noise * np.eye(len(targets))
    mixed = smoother @ cross.nngp.T
    expected = test.nngp - mixed - mixed.T + smoother @ observed @ smoother.T
    mean, covariance = moments(regime, ridge)
    np.testing.assert_allclose(mean, smoother @ targets, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(covariance, expected, rtol=1e-11, atol=1e-12)


# Table in arXiv:2502.16763's setting (k one-hot training inputs), computed there to five digits:
# k, n: mean inside and outside the support and variance, for the NTK and for the NNGP kernel
PERMUTATIONS = {
    (5, 2): (0.56063, -0.014640, 0.013235, 0.60166, -0.039543, 0.012877),
    (10, 9): (0.16010, -0.070171, 0.017715, 0.15240, -0.118281, 0.017399),
    (30, 15): (0.12759, -0.045054, 0.005866, 0.14046, -0.064574, 0.005720),
}


@pytest.mark.slow
@pytest.mark.parametrize(("size", "ones"), PERMUTATIONS)
def test_permutations_from_one_hot_inputs(size, ones):
    inputs, point = np.eye(size), np.zeros((1, size))
    point[0, :ones] = ones**-0.5
    kernel, cross, test = two_layers(inputs), two_layers(point, inputs), two_layers(point)
    moments = []
    for regime in ("ntk", "nngp"):
        fitted = posterior.fit(kernel, np.eye(size), regime=regime)
        mean = posterior.mean(fitted, cross)[0]
        variance = posterior.covariance(fitted, cross, test)[0, 0]
        moments += [mean[0], mean[-1], variance]
    np.testing.assert_allclose(moments, PERMUTATIONS[size, ones], rtol=1e-4)  # their last digit


@given(
    st.integers(0, 10_000),
    st.sampled_from(["nngp", "ntk"]),
    st.sampled_from([0.0, 0.1]),
)
def test_variance_is_the_diagonal_and_positive(seed, regime, ridge):
    kernel, cross, test, targets = problem(seed)
    fitted = posterior.fit(kernel, targets, regime=regime, ridge=ridge)
    covariance = posterior.covariance(fitted, cross, test)
    variance = posterior.variance(fitted, cross, np.diag(test.nngp))
    np.testing.assert_allclose(variance, np.diag(covariance), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance)[0] > -1e-11


@pytest.mark.parametrize("regime", ["nngp", "ntk"])
def test_training_targets_are_interpolated_with_certainty(regime):
    kernel, _, _, targets = problem()
    fitted = posterior.fit(kernel, targets, regime=regime)
    np.testing.assert_allclose(posterior.mean(fitted, kernel), targets, atol=1e-11)
    np.testing.assert_allclose(posterior.covariance(fitted, kernel, kernel), 0, atol=1e-12)


def test_one_output_is_a_vector():
    kernel, cross, _, targets = problem()
    alone = posterior.mean(posterior.fit(kernel, targets[:, 0]), cross)
    together = posterior.mean(posterior.fit(kernel, targets), cross)
    np.testing.assert_allclose(alone, together[:, 0], rtol=1e-11)


@pytest.mark.parametrize("regime", ["nngp", "ntk"])
def test_jit_and_vmap_equal_a_loop(regime):
    def predict(kernel, targets, cross, test):
        fitted = posterior.fit(kernel, targets, regime=regime, ridge=0.1)
        return posterior.mean(fitted, cross), posterior.covariance(fitted, cross, test)

    problems = [
        (kernel, targets, cross, test)
        for kernel, cross, test, targets in (problem(seed) for seed in range(3))
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)
    batched = jax.jit(jax.vmap(predict))(*stacked)
    looped = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(predict(*one) for one in problems))
    for actual, expected in zip(batched, looped, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("regime", ["nngp", "ntk"])
def test_gradient_against_finite_differences_at_repeated_eigenvalues(regime):
    size = 6
    inputs = np.eye(size)
    kernel, cross = two_layers(inputs), two_layers(np.ones((1, size)), inputs)
    test = two_layers(np.ones((1, size)))
    random = np.random.default_rng(0)
    shift = random.normal(size=(size, size)) / 100
    targets = random.normal(size=size)

    def predict(amount):
        moved = Kernel(*(array + amount * (shift + shift.T) for array in kernel))
        fitted = posterior.fit(moved, targets, regime=regime, ridge=amount + 0.01)
        mean, covariance = posterior.mean(fitted, cross), posterior.covariance(fitted, cross, test)
        return mean[0] + covariance[0, 0]

    step = 1e-5
    difference = (predict(step) - predict(-step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(predict)(0.0), difference, rtol=1e-6)  # its own error


@pytest.mark.parametrize("regime", ["nngp", "ntk"])
def test_duplicate_inputs_need_a_ridge(regime):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(6, 4))
    inputs = np.concatenate([inputs, inputs[:1]])
    kernel, targets = two_layers(inputs), random.normal(size=7)
    with pytest.raises(ValueError, match=rf"ridge: got 0 for a kernel.{regime} that is singular"):
        posterior.fit(kernel, targets, regime=regime)

    def predict(ridge):
        fitted = posterior.fit(kernel, targets, regime=regime, ridge=ridge)
        return posterior.mean(fitted, kernel)

    assert np.isnan(jax.jit(predict)(0.0)).all()
    assert np.isfinite(predict(1e-6)).all()


KERNEL = Kernel(jnp.eye(3), jnp.eye(3))


def of_ntk(array):
    return Kernel(jnp.eye(len(array)), jnp.asarray(array))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((KERNEL, jnp.ones(3)), {"regime": "bayes"}, ValueError, "regime: got 'bayes', wants"),
        ((jnp.eye(3), jnp.ones(3)), {}, TypeError, "kernel: got ArrayImpl, wants a .*Kernel"),
        ((KERNEL, jnp.ones(4)), {}, ValueError, r"targets: got shape \(4,\)"),
        ((KERNEL, jnp.ones(3)), {"ridge": -1.0}, ValueError, "ridge: got -1"),
        (
            (of_ntk([[1.0, 0.5], [0.1, 1.0]]), jnp.ones(2)),
            {"regime": "ntk"},
            ValueError,
            "kernel.ntk: not symmetric",
        ),
        (
            (of_ntk([[1.0, 0.5], [0.5 + 1e-9, 1.0]]), jnp.ones(2)),
            {"regime": "ntk"},
            ValueError,
            "kernel.ntk: not symmetric",
        ),
        ((of_ntk(np.diag([1, np.nan])), jnp.ones(2)), {"regime": "ntk"}, ValueError, "kernel.ntk"),
        ((Kernel(jnp.eye(2), jnp.eye(3)), jnp.ones(3)), {"regime": "ntk"}, ValueError, "nngp"),
        (
            (Kernel(np.triu(np.ones((3, 3))), jnp.eye(3)), jnp.ones(3)),
            {"regime": "ntk"},
            ValueError,
            "kernel.nngp: not symmetric",
        ),
    ],
)
def test_fit_names_what_is_wrong(arguments, options, error, message):
    with pytest.raises(error, match=message):
        posterior.fit(*arguments, **options)


def test_predictions_name_what_is_wrong():
    fitted = posterior.fit(KERNEL, jnp.ones(3), regime="ntk")
    cross = Kernel(jnp.ones((2, 3)), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"cross.ntk: got shape \(3, 2\), wants \(3, 3\)"):
        posterior.mean(fitted, Kernel(cross.nngp.T, cross.ntk.T))
    with pytest.raises(ValueError, match=r"cross\.nngp: got shape"):
        posterior.covariance(fitted, Kernel(cross.nngp.T, cross.ntk), KERNEL)
    with pytest.raises(ValueError, match=r"test.nngp: got shape \(3, 3\), wants \(2, 2\)"):
        posterior.covariance(fitted, cross, KERNEL)
    with pytest.raises(ValueError, match=r"diagonal: got shape \(2, 2\), wants \(2,\)"):
        posterior.variance(fitted, cross, jnp.eye(2))
    with pytest.raises(TypeError, match="test: got"):
        posterior.covariance(fitted, cross, jnp.eye(2))
    for wrong, message in ((np.diag([1, np.nan]), "holds NaN"), (np.triu(np.ones((2, 2))), "not")):
        with pytest.raises(ValueError, match=f"test.nngp: {message}"):
            posterior.covariance(fitted, cross, Kernel(wrong, wrong))
    with pytest.raises(ValueError, match="diagonal: holds NaN"):
        posterior.variance(fitted, cross, np.array([1, np.nan]))
