import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from ntkens.predictors import gradient_flow
from ntkens.predictors.gradient_flow import Descent
from tests import oracles

TRAIN, TEST, FEATURES, OUTPUTS = 7, 3, 11, 2


class Linear:
    """f(x) = features(x) @ params: its NTK is features @ features^T, at every time."""

    def __init__(self, seed=0, scale=0.5):
        random = np.random.default_rng(seed)
        self.train = scale * random.normal(size=(TRAIN, FEATURES))
        self.test = scale * random.normal(size=(TEST, FEATURES))
        self.params = random.normal(size=(FEATURES, OUTPUTS))
        self.targets = random.normal(size=(TRAIN, OUTPUTS))
        self.kernel = self.train @ self.train.T
        self.cross = self.test @ self.train.T
        self.largest = np.linalg.eigvalsh(self.kernel)[-1]

    def gradient(self, params, ridge):
        penalty = ridge * (params - self.params)
        return self.train.T @ (self.train @ params - self.targets) + penalty

    def initial(self):
        return {
            "initial_train": self.train @ self.params,
            "initial_test": self.test @ self.params,
        }


# the formula


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_flow_is_the_ode_in_parameter_space(ridge):
    model = Linear()
    flow = gradient_flow.fit(model.kernel, model.targets, ridge=ridge)
    times = [0.1, 1.0, 8.0]
    solution = scipy.integrate.solve_ivp(
        lambda _, params: -model.gradient(params.reshape(-1, OUTPUTS), ridge).ravel(),
        (0, times[-1]),
        model.params.ravel(),
        t_eval=times,
        rtol=1e-11,
        atol=1e-11,
    )
    for time, params in zip(times, solution.y.T, strict=True):
        expected = model.test @ params.reshape(-1, OUTPUTS)
        actual = gradient_flow.outputs(flow, model.cross, time, **model.initial())
        np.testing.assert_allclose(actual, expected, atol=1e-9)  # the solver's own error


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("steps", [0, 1, 3, 2000])
@pytest.mark.parametrize("fraction", [0.01, 0.9, 1.99])  # of 1 / (lambda_max + ridge)
def test_descent_is_the_loop_in_parameter_space(ridge, steps, fraction):
    model = Linear()
    flow = gradient_flow.fit(model.kernel, model.targets, ridge=ridge)
    learning_rate = fraction / (model.largest + ridge)
    params = model.params
    for _ in range(steps):
        params = params - learning_rate * model.gradient(params, ridge)
    moment = Descent(steps, learning_rate)
    actual = gradient_flow.outputs(flow, model.cross, moment, **model.initial())
    np.testing.assert_allclose(actual, model.test @ params, rtol=0, atol=1e-12)


@pytest.mark.parametrize("time", [0.0, 1e-12, 1e-3, 0.3, 1.0, 30.0, 1e3])
def test_mean_against_a_dense_matrix_exponential(time):
    model = Linear()
    flow = gradient_flow.fit(model.kernel, model.targets, ridge=0.1)
    expected = model.cross @ oracles.psi(model.kernel + 0.1 * np.eye(TRAIN), time) @ model.targets
    actual = gradient_flow.mean(flow, model.cross, time)
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12 * time)


def test_infinite_time_is_the_linear_solve_and_the_limit_of_large_times():
    model = Linear()
    flow = gradient_flow.fit(model.kernel, model.targets)
    expected = model.cross @ np.linalg.solve(model.kernel, model.targets)
    for time in (jnp.inf, 1e5, Descent(10**6, 1 / model.largest)):
        np.testing.assert_allclose(gradient_flow.mean(flow, model.cross, time), expected, rtol=1e-9)


def test_descent_tends_to_flow_at_first_order_in_the_learning_rate():
    model = Linear()
    flow = gradient_flow.fit(model.kernel, model.targets)
    limit = gradient_flow.mean(flow, model.cross, 2.0)
    errors = [
        np.abs(gradient_flow.mean(flow, model.cross, Descent(steps, 2.0 / steps)) - limit).max()
        for steps in (1000, 2000, 4000)
    ]
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2, rtol=0.01)


def test_targets_are_interpolated_without_ridge_only():
    model = Linear()
    fitted = [gradient_flow.fit(model.kernel, model.targets, ridge=r) for r in (0.0, 0.1)]
    exact, ridged = (gradient_flow.mean(flow, model.kernel) for flow in fitted)
    np.testing.assert_allclose(exact, model.targets, atol=1e-12)
    assert np.abs(ridged - model.targets).max() > 1e-3


def test_targets_of_any_rank_are_columns():
    model = Linear()
    targets = np.random.default_rng(1).normal(size=(TRAIN, 2, 3))
    together = gradient_flow.mean(gradient_flow.fit(model.kernel, targets), model.cross, 1.0)
    assert together.shape == (TEST, 2, 3)
    for index in np.ndindex(2, 3):
        flow = gradient_flow.fit(model.kernel, targets[:, *index])
        alone = gradient_flow.mean(flow, model.cross, 1.0)
        assert alone.shape == (TEST,)
        np.testing.assert_allclose(together[:, *index], alone, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("when", [0.0, 0.7, jnp.inf, Descent(4, 0.1)])
def test_ensemble_moments_against_trained_members(when):
    # params_0 ~ N(0, S S^T): the NNGP kernel is features S S^T features^T, the NTK is not.
    model, members = Linear(scale=0.4), 4000
    random = np.random.default_rng(7)
    root = random.normal(size=(FEATURES, FEATURES)) / 3
    initial = np.einsum("ij,mj->mi", root, random.normal(size=(members, FEATURES)))
    train, test, targets = model.train @ root, model.test @ root, model.targets[:, 0]
    flow = gradient_flow.fit(model.kernel, targets)
    if isinstance(when, Descent):
        params = initial
        for _ in range(when.steps):
            params = params - when.learning_rate * (params @ model.train.T - targets) @ model.train
    else:  # the pseudo-inverse solution of the linear ODE in parameter space
        gram = model.train.T @ model.train
        decay = scipy.linalg.expm(-gram * min(when, 1e4))
        fixed = np.linalg.pinv(model.train) @ targets
        params = fixed + (initial - fixed) @ decay
    sampled = params @ model.test.T

    mean = gradient_flow.mean(flow, model.cross, when)
    covariance = gradient_flow.covariance(
        flow,
        model.cross,
        when,
        nngp_train=train @ train.T,
        nngp_cross=test @ train.T,
        nngp_test=test @ test.T,
    )
    errors = sampled - np.asarray(mean)
    products = np.einsum("mi,mj->mij", errors, errors)
    for samples, exact in ((sampled, mean), (products, covariance)):
        standard_error = samples.std(axis=0) / members**0.5
        assert (np.abs(samples.mean(axis=0) - exact) < 5 * standard_error).all()
    np.testing.assert_array_equal(covariance, covariance.T)


@given(st.integers(0, 1000), st.floats(0, 50), st.floats(0, 2))
def test_spread_is_positive_and_training_error_falls(seed, time, ridge):
    model = Linear(seed)
    flow = gradient_flow.fit(model.kernel, model.targets, ridge=ridge)
    points = np.concatenate([model.train, model.test])
    kernel = points @ points.T
    covariance = gradient_flow.covariance(
        flow,
        kernel[:, :TRAIN],
        time,
        nngp_train=model.kernel,
        nngp_cross=kernel[:, :TRAIN],
        nngp_test=kernel,
    )
    assert np.linalg.eigvalsh(covariance)[0] > -1e-12
    errors = [
        np.linalg.norm(gradient_flow.mean(flow, model.kernel, t) - model.targets)
        for t in (time, time + 1)
    ]
    assert errors[1] < errors[0] + 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("time", [0.5, 20.0, jnp.inf])
def test_against_neural_tangents(time):
    from ntkens.kernels import stax

    _, _, kernel_fn = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1))
    from neural_tangents import predict  # imports once the door has been opened

    random = np.random.default_rng(2)
    train, test = random.normal(size=(9, 4)), random.normal(size=(5, 4))
    targets = random.normal(size=(9, 2))
    averaged = time * targets.size  # its loss is a mean over examples and outputs
    theirs = predict.gradient_descent_mse_ensemble(kernel_fn, train, targets)(
        averaged, test, "ntk", compute_cov=True
    )
    pairs = ((train, None), (test, train), (test, None))
    kernels = [kernel_fn(*pair, ("nngp", "ntk")) for pair in pairs]
    (nngp_train, ntk), (nngp_cross, cross), (nngp_test, _) = kernels
    flow = gradient_flow.fit(ntk, targets)
    covariance = gradient_flow.covariance(
        flow, cross, time, nngp_train=nngp_train, nngp_cross=nngp_cross, nngp_test=nngp_test
    )
    np.testing.assert_allclose(gradient_flow.mean(flow, cross, time), theirs.mean, rtol=1e-8)
    np.testing.assert_allclose(covariance, theirs.covariance, rtol=1e-7, atol=1e-10)


# jit, vmap


@pytest.mark.parametrize("when", [0.0, 0.7, jnp.inf, Descent(0, 0.1), Descent(5, 0.1)])
def test_jit_equals_no_jit(when):
    model = Linear()
    arrays = (model.kernel, model.targets, model.cross, when)

    def predict(kernel, targets, cross, when):
        return gradient_flow.mean(gradient_flow.fit(kernel, targets), cross, when)

    compiled = jax.jit(predict)(*arrays)
    np.testing.assert_allclose(compiled, predict(*arrays), rtol=1e-12, atol=1e-14)


def test_vmap_over_kernels_and_times_equals_a_loop():
    models = [Linear(seed) for seed in range(4)]
    kernels, targets, crosses = (
        jnp.stack([getattr(model, name) for model in models])
        for name in ("kernel", "targets", "cross")
    )
    times = jnp.array([0.0, 0.5, jnp.inf])
    flows = jax.vmap(gradient_flow.fit)(kernels, targets)
    over_times = jax.vmap(gradient_flow.mean, in_axes=(None, None, 0))
    actual = jax.vmap(over_times, in_axes=(0, 0, None))(flows, crosses, times)
    for i, model in enumerate(models):
        flow = gradient_flow.fit(model.kernel, model.targets)
        for j, time in enumerate(times):
            expected = gradient_flow.mean(flow, model.cross, time)
            np.testing.assert_allclose(actual[i, j], expected, rtol=1e-11, atol=1e-13)


# singular kernels and bad input


def test_singular_kernel_has_finite_times_only():
    model = Linear()
    train = np.concatenate([model.train, model.train[:1]])  # one input twice, two targets
    kernel, cross = train @ train.T, model.test @ train.T
    targets = np.random.default_rng(4).normal(size=(TRAIN + 1, OUTPUTS))
    flow = gradient_flow.fit(kernel, targets)
    np.testing.assert_allclose(
        gradient_flow.mean(flow, cross, 10.0),
        cross @ oracles.psi(kernel, 10.0) @ targets,
        rtol=1e-10,
    )
    with pytest.raises(ValueError, match=r"ridge: got 0 .*singular.*fit with a ridge of"):
        gradient_flow.mean(flow, cross, jnp.inf)
    with pytest.raises(ValueError, match="ridge"):
        gradient_flow.mean(flow, cross, 1e20)
    for time in (jnp.inf, 1e20):
        assert np.isnan(jax.jit(gradient_flow.mean)(flow, cross, time)).all()
    ridged = gradient_flow.fit(kernel, targets, ridge=1e-8)
    assert np.isfinite(gradient_flow.mean(ridged, cross)).all()


def test_small_eigenvalues_that_rounding_resolves_are_learned_in_the_end():
    kernel = np.diag([1.0, 5e-15])  # twice the resolution
    flow = gradient_flow.fit(kernel, np.ones(2))
    np.testing.assert_allclose(gradient_flow.mean(flow, kernel), 1, rtol=1e-12)


def test_a_kernel_of_zeros_learns_nothing_it_can_show():
    flow = gradient_flow.fit(np.zeros((3, 3)), np.ones(3))
    np.testing.assert_array_equal(gradient_flow.mean(flow, np.zeros((2, 3)), 5.0), 0)


KERNEL, TARGETS = np.eye(3) + 0.5, np.ones(3)


@pytest.mark.parametrize(
    ("kernel", "targets", "ridge", "error", "message"),
    [
        (np.array([[1.0, 0.5], [0.4, 1.0]]), np.ones(2), 0.0, ValueError, "kernel: not symmetric"),
        (np.full((2, 2), np.nan), np.ones(2), 0.0, ValueError, "kernel: holds NaN"),
        (np.diag([1.0, -0.1]), np.ones(2), 0.0, ValueError, "kernel: its smallest eigenvalue"),
        (np.ones((2, 3)), np.ones(2), 0.0, ValueError, r"kernel: got shape \(2, 3\)"),
        (np.zeros((0, 0)), np.ones(0), 0.0, ValueError, "kernel: got shape"),
        (np.eye(2, dtype=int), np.ones(2), 0.0, TypeError, "kernel: got dtype int"),
        (KERNEL, np.ones(4), 0.0, ValueError, r"targets: got shape \(4,\), wants \(3"),
        (np.eye(2, dtype=np.float16), np.ones(2), 0.0, TypeError, "kernel: got dtype float16"),
        (KERNEL, TARGETS * 1j, 0.0, TypeError, "targets: got complex"),
        (KERNEL, 1.0, 0.0, ValueError, "targets: got shape"),
        (KERNEL, np.array([0, np.inf, 0]), 0.0, ValueError, "targets: holds NaN"),
        (KERNEL, TARGETS, -1.0, ValueError, "ridge: got -1"),
        (KERNEL, TARGETS, np.nan, ValueError, "ridge: got nan"),
        (KERNEL, TARGETS, np.ones(3), ValueError, "ridge: got shape"),
    ],
)
def test_fit_names_what_is_wrong(kernel, targets, ridge, error, message):
    with pytest.raises(error, match=message):
        gradient_flow.fit(kernel, targets, ridge=ridge)


@pytest.mark.parametrize(
    ("cross", "time", "error", "message"),
    [
        (np.ones((2, 4)), 1.0, ValueError, r"cross: got shape \(2, 4\), wants \(2, 3\)"),
        (np.ones(3), 1.0, ValueError, "cross: got shape"),
        (np.ones((2, 3)) * 1j, 1.0, TypeError, "cross: got complex"),
        (np.full((2, 3), np.nan), 1.0, ValueError, "cross: holds NaN"),
        (np.ones((2, 3)), -1.0, ValueError, "time: got -1"),
        (np.ones((2, 3)), np.nan, ValueError, "time: got nan"),
        (np.ones((2, 3)), np.ones(2), ValueError, "time: got shape .*vmap"),
        (np.ones((2, 3)), Descent(2.0, 0.1), TypeError, "steps: got dtype float"),
        (np.ones((2, 3)), Descent(-2, 0.1), ValueError, "steps: got -2"),
        (np.ones((2, 3)), Descent(2, 0.81), ValueError, r"learning_rate: got 0.81, .* 0.8 \("),
    ],
)
def test_mean_names_what_is_wrong(cross, time, error, message):
    flow = gradient_flow.fit(KERNEL, TARGETS)  # lambda_max = 2.5
    with pytest.raises(error, match=message):
        gradient_flow.mean(flow, cross, time)


def test_other_predictions_name_what_is_wrong():
    flow = gradient_flow.fit(KERNEL, TARGETS)
    cross, nngp = np.ones((2, 3)), {"nngp_train": KERNEL, "nngp_cross": np.ones((2, 3))}
    with pytest.raises(ValueError, match=r"nngp_test: got shape \(3, 3\), wants \(2, 2\)"):
        gradient_flow.covariance(flow, cross, nngp_test=KERNEL, **nngp)
    with pytest.raises(ValueError, match="nngp_cross: got shape"):
        gradient_flow.covariance(
            flow, cross, nngp_train=KERNEL, nngp_cross=np.ones((3, 2)), nngp_test=np.eye(2)
        )
    with pytest.raises(ValueError, match="initial_test: got shape"):
        gradient_flow.outputs(flow, cross, initial_train=TARGETS, initial_test=np.ones(3))
    with pytest.raises(ValueError, match="initial_train: holds NaN"):
        gradient_flow.outputs(flow, cross, initial_train=np.nan * TARGETS, initial_test=np.ones(2))
    right = {**nngp, "nngp_test": np.eye(2)}
    for name in right:
        with pytest.raises(ValueError, match=f"{name}: holds NaN"):
            gradient_flow.covariance(flow, cross, **right | {name: np.nan * right[name]})
    for name in ("nngp_train", "nngp_test"):
        with pytest.raises(ValueError, match=f"{name}: not symmetric"):
            gradient_flow.covariance(flow, cross, **right | {name: np.triu(right[name] + 1)})
        with pytest.raises(TypeError, match=f"{name}: got dtype int"):
            gradient_flow.covariance(flow, cross, **right | {name: np.ones((2, 2), int)})


def test_shapes_are_checked_under_jit_too():
    with pytest.raises(ValueError, match="targets: got shape"):
        jax.jit(gradient_flow.fit)(jnp.asarray(KERNEL), jnp.ones(4))
