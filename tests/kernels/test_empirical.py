"""The finite-width NTK against gradients one at a time, closed forms, and neural-tangents."""

import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens import tree
from ntkens.kernels import empirical, stax

X1 = jax.random.normal(jax.random.key(1), (4, 3))
X2 = jax.random.normal(jax.random.key(2), (2, 3))
METHODS = ("jacobian", "products")
OUTPUTS = ("trace", "full")


def network(params, inputs):
    """A two-layer tanh network with a bias and a scale that all units share."""
    hidden = jnp.tanh(inputs @ params["first"] + params["bias"][None])
    return params["scale"] * hidden @ params["second"]


def network_params(key, width=5, outputs=2):
    first, second, bias = jax.random.split(key, 3)
    return {
        "first": jax.random.normal(first, (3, width)),
        "second": jax.random.normal(second, (width, outputs)),
        "bias": jax.random.normal(bias, (width,)),
        "scale": jnp.array(0.7),
    }


PARAMS = network_params(jax.random.key(3))


def brute_force(apply, params, x1, x2):
    """Theta[i, j, k, l] from one gradient for each output of each example."""

    def gradients(inputs):
        outputs = apply(params, inputs)
        rows = np.zeros((*outputs.shape, sum(leaf.size for leaf in jax.tree.leaves(params))))
        for index in np.ndindex(*outputs.shape):
            gradient = jax.grad(lambda params, index=index: apply(params, inputs)[index])(params)
            rows[index] = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])
        return rows

    return np.einsum("ikp,jlp->ijkl", gradients(x1), gradients(x2))


def relu_network(params, inputs):
    """One hidden layer in the NTK parametrisation, f(x) = a . relu(sqrt(2/d) W x) / sqrt(w)."""
    first, second = params
    hidden = jax.nn.relu((2 / inputs.shape[1]) ** 0.5 * inputs @ first)
    return hidden @ second / first.shape[1] ** 0.5


def relu_members(key, members, width):
    first, second = jax.random.split(key)
    return (
        jax.random.normal(first, (members, X1.shape[1], width)),
        jax.random.normal(second, (members, width, 1)),
    )


def relu_ntk(inputs):
    """Its limit: arc-cosine kernels, k1 + (2 x.x' / d) k0 with k0 = (pi - angle) / 2 pi."""
    inputs = np.asarray(inputs)
    gram = 2 * inputs @ inputs.T / inputs.shape[1]
    norms = np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    angle = np.arccos(np.clip(gram / norms, -1, 1))
    derivative = (np.pi - angle) / (2 * np.pi)
    return norms * (np.sin(angle) / (2 * np.pi) + np.cos(angle) * derivative) + gram * derivative


@pytest.mark.slow
@pytest.mark.parametrize(("method", "outputs"), list(itertools.product(METHODS, OUTPUTS)))
def test_brute_force_gradients(method, outputs):
    for x2 in (None, X2):
        expected = brute_force(network, PARAMS, X1, X1 if x2 is None else x2)
        if outputs == "trace":
            expected = np.einsum("ijkk->ij", expected) / 2
        kernel = empirical.ntk(network, PARAMS, X1, x2, outputs=outputs, method=method)
        assert kernel.dtype == jnp.float64
        np.testing.assert_allclose(kernel, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_linear_model_is_the_gram_matrix(method):
    def linear(weights, inputs):
        return inputs @ weights

    weights = jnp.zeros((3, 2))
    full = empirical.ntk(linear, weights, X1, X2, outputs="full", method=method)
    expected = np.einsum("ij,kl->ijkl", X1 @ X2.T, np.eye(2))
    np.testing.assert_allclose(full, expected, rtol=1e-13, atol=1e-15)
    traced = empirical.ntk(linear, weights, X1, X2, method=method)
    np.testing.assert_allclose(traced, X1 @ X2.T, rtol=1e-13)  # a mean over outputs, not a sum


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_layer_relu_closed_form(method):
    # (1 / w) sum_u [relu(h_u) relu(h'_u) + a_u^2 1(h_u > 0) 1(h'_u > 0) 2 x.x' / d]
    params = jax.tree.map(lambda leaf: leaf[0], relu_members(jax.random.key(4), 1, 16))
    first, second = map(np.asarray, params)
    hidden1, hidden2 = ((2 / 3) ** 0.5 * np.asarray(x) @ first for x in (X1, X2))
    both = (hidden1[:, None] > 0) & (hidden2 > 0)
    products = np.maximum(hidden1, 0) @ np.maximum(hidden2, 0).T
    expected = products + both @ second[:, 0] ** 2 * (2 * np.asarray(X1 @ X2.T) / 3)
    kernel = empirical.ntk(relu_network, params, X1, X2, method=method)
    np.testing.assert_allclose(kernel, expected / 16, rtol=1e-13)


@pytest.mark.slow
# neural-tangents asks jnp for the size of a shape.
@pytest.mark.filterwarnings("ignore:size requires ndarray:DeprecationWarning")
@pytest.mark.parametrize("implementation", [1, 2])
def test_neural_tangents(implementation):
    layers = (stax.Conv(6, (2,)), stax.Relu(), stax.Flatten(), stax.Dense(3))
    init, apply = stax.model(stax.serial(*layers))
    x1 = jax.random.normal(jax.random.key(5), (3, 4, 2))
    x2 = jax.random.normal(jax.random.key(6), (2, 4, 2))
    params = init(jax.random.key(7), x1)
    theirs = importlib.import_module("neural_tangents")  # importable once the door is open
    for outputs, axes in (("trace", (-1,)), ("full", ())):
        ntk_fn = theirs.empirical_ntk_fn(
            apply, trace_axes=axes, vmap_axes=0, implementation=implementation
        )
        expected = ntk_fn(x1, x2, params)
        for method in METHODS:
            kernel = empirical.ntk(apply, params, x1, x2, outputs=outputs, method=method)
            np.testing.assert_allclose(kernel, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_symmetric_and_positive_semidefinite(method):
    full = empirical.ntk(network, PARAMS, X1, outputs="full", method=method)
    matrix = np.transpose(full, (0, 2, 1, 3)).reshape(8, 8)
    for kernel in (matrix, np.asarray(empirical.ntk(network, PARAMS, X1, method=method))):
        np.testing.assert_allclose(kernel, kernel.T, rtol=1e-12)
        assert np.linalg.eigvalsh(kernel)[0] > -1e-12 * np.trace(kernel)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(), (2, 3)])
@pytest.mark.parametrize("method", METHODS)
def test_outputs_of_any_shape(method, shape):
    def apply(params, inputs):
        return network(params, inputs).reshape(len(inputs), *shape)

    params = network_params(jax.random.key(8), outputs=int(np.prod(shape)))
    flat = empirical.ntk(network, params, X1, X2, outputs="full")
    full = empirical.ntk(apply, params, X1, X2, outputs="full", method=method)
    np.testing.assert_allclose(full, flat.reshape(4, 2, *shape, *shape), rtol=1e-12, atol=1e-13)
    trace = empirical.ntk(apply, params, X1, X2, method=method)
    np.testing.assert_allclose(trace, empirical.ntk(network, params, X1, X2), rtol=1e-12)


def test_matvec_is_the_full_kernel_times_a_vector():
    vector1, vector2 = (jax.random.normal(jax.random.key(9), (n, 2)) for n in (4, 2))
    for x2, vector in ((None, vector1), (X2, vector2)):
        full = empirical.ntk(network, PARAMS, X1, x2, outputs="full")
        product = jax.jit(lambda v, x2=x2: empirical.matvec(network, PARAMS, v, X1, x2))(vector)
        np.testing.assert_allclose(product, np.einsum("ijkl,jl->ik", full, vector), rtol=1e-12)


def test_matvec_is_the_first_order_change_under_a_gradient_step():
    vector = jax.random.normal(jax.random.key(10), (4, 2))
    gradient = jax.grad(lambda params: jnp.sum(vector * network(params, X1)))(PARAMS)
    step = 1e-5  # central difference: error of order step^2, rounding of order 1e-16 / step

    def after(step):
        return network(jax.tree.map(lambda p, g: p + step * g, PARAMS, gradient), X2)

    ahead, behind = after(step), after(-step)
    change = (ahead - behind) / (2 * step)
    np.testing.assert_allclose(empirical.matvec(network, PARAMS, vector, X2, X1), change, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_jit_vmap_and_grad(method):
    def ntk(params):
        return empirical.ntk(network, params, X1, X2, method=method)

    members = jax.vmap(network_params)(jax.random.split(jax.random.key(11), 3))
    kernels = jax.jit(jax.vmap(ntk))(members)
    for index, kernel in enumerate(kernels):
        one = ntk(tree.index(members, index))
        np.testing.assert_allclose(kernel, one, rtol=1e-12)

    gradient = jax.grad(lambda params: jnp.sum(ntk(params)))(PARAMS)["bias"][0]
    step = jnp.zeros(5).at[0].set(1e-5)
    ahead, behind = (
        jnp.sum(ntk(PARAMS | {"bias": PARAMS["bias"] + shift})) for shift in (step, -step)
    )
    np.testing.assert_allclose(gradient, (ahead - behind) / 2e-5, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_params_of_several_dtypes(method):
    mixed = PARAMS | {
        "first": PARAMS["first"].astype(jnp.float32),
        "second": PARAMS["second"].astype(jnp.bfloat16),
    }
    same_values = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), mixed)
    exact = empirical.ntk(network, same_values, X1)
    kernel = empirical.ntk(network, mixed, X1, method=method)
    assert kernel.dtype == jnp.float64
    # Gradients of the bfloat16 leaf are rounded to bfloat16: 2^-8 of the largest entry.
    np.testing.assert_allclose(kernel, exact, atol=2**-8 * np.max(exact))

    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), PARAMS)
    kernel = empirical.ntk(network, single, X1.astype(jnp.float32), method=method)
    assert kernel.dtype == jnp.float32
    exact = empirical.ntk(network, PARAMS, X1)
    # An entry in which terms cancel has the absolute error of the others.
    np.testing.assert_allclose(kernel, exact, rtol=1e-5, atol=1e-6 * np.max(exact))


def test_sums_over_leaves_of_few_digits_do_not_stall():
    """300 leaves of slope one: adding 1 to 256 in bfloat16 leaves 256."""

    def apply(params, inputs):
        return inputs[:, 0] * sum(params)

    params, one = [jnp.zeros((), jnp.bfloat16)] * 300, jnp.ones((1, 1), jnp.bfloat16)
    kernel = empirical.ntk(apply, params, one, method="jacobian")
    assert kernel == 300
    assert kernel.dtype == jnp.bfloat16


def test_mean_over_networks_is_the_infinite_kernel():
    # With one hidden layer it is unbiased at every width, so small networks will do.
    members = relu_members(jax.random.key(12), 20_000, 4)
    kernels = jax.jit(jax.vmap(lambda params: empirical.ntk(relu_network, params, X1)))(members)
    standard_error = np.std(kernels, 0, ddof=1) / len(kernels) ** 0.5
    assert np.all(np.abs(np.mean(kernels, 0) - relu_ntk(X1)) < 5 * standard_error)
    assert np.max(standard_error) < 0.01 * np.max(relu_ntk(X1)), "no power: more members"


@pytest.mark.slow
def test_one_network_errs_as_width_to_the_minus_half():
    widths, errors = np.array([16, 64, 256, 1024]), []
    for width in widths:
        members = relu_members(jax.random.key(13), 500, width)
        kernels = jax.jit(jax.vmap(lambda params: empirical.ntk(relu_network, params, X1)))(members)
        errors.append(np.sqrt(np.mean((np.asarray(kernels) - relu_ntk(X1)) ** 2)))
    slope, _ = np.polyfit(np.log(widths), np.log(errors), 1)
    # An RMS over 500 networks is known to 3-4%; a line through four over a factor 64, to 0.012.
    assert abs(slope + 0.5) < 0.05


def test_bad_arguments_are_named():
    ntk = empirical.ntk
    with pytest.raises(ValueError, match="outputs must be 'trace' or 'full', got 'sum'"):
        ntk(network, PARAMS, X1, outputs="sum")
    with pytest.raises(ValueError, match="method must be 'jacobian' or 'products', got 'auto'"):
        ntk(network, PARAMS, X1, method="auto")
    for x1, x2, message in (
        (X1 * jnp.nan, None, "x1: holds NaN"),
        (X1, X2 * jnp.inf, "x2: holds NaN"),
        (X1[:0], None, r"x1 must be \[n, ...\], got shape \(0, 3\)"),
        (X1, X2[:0], r"x2 must be .* \(0, 3\)"),
        (jnp.zeros(()), None, r"x1 must be .* \(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            ntk(network, PARAMS, x1, x2)
    with pytest.raises(ValueError, match="vector: holds NaN"):
        empirical.matvec(network, PARAMS, jnp.full((2, 2), jnp.nan), X1, X2)
    with pytest.raises(ValueError, match="params has no leaves"):
        ntk(network, {}, X1)
    for leaf, dtype in (
        (jnp.arange(3), "int64"),
        (jnp.ones(2, complex), "complex128"),
        (jax.random.key(0), "key<fry>"),
    ):
        with pytest.raises(TypeError, match=rf"params\['extra'\] must be real .* got {dtype}"):
            ntk(network, PARAMS | {"extra": leaf}, X1)
    with pytest.raises(ValueError, match=r"x2 must match x1 .* float64\[3\], got float64\[2\]"):
        ntk(network, PARAMS, X1, X2[:, :2])
    with pytest.raises(ValueError, match=r"x2 must match x1 .* float64\[3\], got float32\[3\]"):
        ntk(network, PARAMS, X1, X2.astype(jnp.float32))
    with pytest.raises(ValueError, match=r"must return an array \[4, ...\] for x1, got \(\)"):
        ntk(lambda params, inputs: jnp.sum(network(params, inputs)), PARAMS, X1)
    with pytest.raises(ValueError, match=r"must return an array \[4, ...\] for x1, got tuple"):
        ntk(lambda params, inputs: (network(params, inputs), 0), PARAMS, X1)
    with pytest.raises(TypeError, match=r"apply must return real .* got int64"):
        ntk(lambda params, inputs: jnp.argmax(network(params, inputs), -1), PARAMS, X1)
    with pytest.raises(ValueError, match=r"the outputs at x2, \(2, 2\), got \(4, 2\)"):
        jax.jit(lambda v: empirical.matvec(network, PARAMS, v, X1, X2))(jnp.ones((4, 2)))
