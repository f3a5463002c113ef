"""Every layer's infinite kernel against Monte Carlo or a closed form.

With one hidden layer of independent units both kernels of a finite network are unbiased at every
width, whatever the activation: their mean over networks *is* the infinite kernel, so many small
networks and 5 standard errors make a sharp test. Layers whose bias is of order 1 / width, because
they average over channels or keys before a nonlinearity, are given enough of them.
"""

import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import Kernel, stax

# neural-tangents reminds of the assumptions of a layer each time it is used.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:neural_tangents")

WIDTH, OUTPUTS, MEMBERS = 32, 8, 3000
VECTORS = jax.random.normal(jax.random.key(1), (3, 4))
UNIT = 2 * VECTORS / jnp.linalg.norm(VECTORS, axis=1, keepdims=True)  # mean square 1
SEQUENCES = jax.random.normal(jax.random.key(2), (3, 4, 2))  # n, length, channels
IMAGES = jax.random.normal(jax.random.key(3), (2, 4, 4, 2))  # n, height, width, channels
GRAPHS = jax.random.bernoulli(jax.random.key(4), 0.5, (3, 4, 4)).astype(float)


def activation(layer, scale=1.2):
    """A hidden layer with the activation under test."""
    return VECTORS, stax.serial(stax.Dense(WIDTH, scale, 0.3), layer, readout())


def readout():
    return stax.Dense(OUTPUTS, 1.1, 0.2)


def sequence(*layers):
    """A hidden layer over sequences, and layers that make a vector of it."""
    convolution = stax.Conv(WIDTH, (2,), padding="SAME", W_std=1.2, b_std=0.3)
    return SEQUENCES, stax.serial(convolution, stax.Relu(), *layers, readout())


def image(*layers):
    return IMAGES, stax.serial(*layers, readout())


def branches(layer, *layers):
    """Two independent branches, linear and nonlinear, and how they meet."""
    nonlinear = stax.serial(stax.Dense(WIDTH, 0.9), stax.Erf(), stax.Dense(OUTPUTS, 1.1, 0.2))
    both = stax.parallel(stax.Dense(OUTPUTS, 1.2, 0.3), nonlinear)
    return VECTORS, stax.serial(stax.FanOut(2), both, layer, *layers)


def attention(**options):
    return SEQUENCES, stax.serial(
        stax.GlobalSelfAttention(OUTPUTS, n_chan_val=8, n_heads=8, b_std=0.2, **options),
        stax.GlobalAvgPool(),
    )


def sine_dual(covariance, variance1, variance2):
    """E[sin(u) sin(v)] = exp(-(var u + var v) / 2) sinh(cov(u, v))."""
    return jnp.exp(-(variance1 + variance2) / 2) * jnp.sinh(covariance)


# A name is a layer, or a layer and a variant of it: inputs and a network it takes part in.
CASES = {
    # elementwise
    "ABRelu": lambda: activation(stax.ABRelu(-0.5, 1.3)),
    "Abs": lambda: activation(stax.Abs()),
    "Cos": lambda: activation(stax.Cos(1.2, 0.8, 0.3)),
    "Elementwise": lambda: activation(stax.Elementwise(jnp.sin, sine_dual)),
    "ElementwiseNumerical": lambda: activation(stax.ElementwiseNumerical(jnp.tanh, 32)),
    "Erf": lambda: activation(stax.Erf(1.2, 0.8, 0.3)),
    "Exp": lambda: activation(stax.Exp(1.2, 0.5), scale=0.8),
    "Gabor": lambda: activation(stax.Gabor()),
    "Gaussian": lambda: activation(stax.Gaussian(1.2, -0.5)),
    "Gelu": lambda: activation(stax.Gelu()),
    "Hermite": lambda: (UNIT, stax.serial(stax.Dense(WIDTH), stax.Hermite(3), readout())),
    "LeakyRelu": lambda: activation(stax.LeakyRelu(0.3)),
    "Monomial": lambda: activation(stax.Monomial(3), scale=0.8),
    "Polynomial": lambda: activation(stax.Polynomial([0.5, -1.0, 0.3, 0.2]), scale=0.8),
    "Rbf": lambda: activation(stax.Rbf(0.7)),
    "RectifiedMonomial": lambda: activation(stax.RectifiedMonomial(2)),
    "Relu": lambda: activation(stax.Relu()),
    "Relu, stabilised": lambda: activation(stax.Relu(do_stabilize=True)),
    "Sigmoid_like": lambda: activation(stax.Sigmoid_like()),
    "Sign": lambda: activation(stax.Sign()),
    "Sin": lambda: activation(stax.Sin(1.2, 0.8, 0.3)),
    # linear
    "Aggregate": lambda: sequence(stax.Aggregate(), stax.GlobalAvgPool()),
    "AvgPool": lambda: sequence(stax.AvgPool((2,), (2,)), stax.Flatten()),
    "Conv": lambda: image(
        stax.Conv(WIDTH, (3, 2), (2, 1), "CIRCULAR", 1.2, 0.3), stax.Relu(), stax.GlobalAvgPool()
    ),
    "Conv, standard": lambda: image(
        stax.Conv(WIDTH, (3, 2), (2, 1), "VALID", 1.2, 0.3, parameterization="standard"),
        stax.Relu(),
        stax.GlobalAvgPool(),
    ),
    "ConvLocal": lambda: image(
        stax.ConvLocal(WIDTH, (3, 2), (2, 1), "VALID", 1.2, 0.3), stax.Relu(), stax.GlobalAvgPool()
    ),
    "ConvTranspose": lambda: image(
        stax.ConvTranspose(WIDTH, (3, 2), (1, 2), "SAME", 1.2, 0.3),
        stax.Relu(),
        stax.GlobalAvgPool(),
    ),
    "Dense": lambda: (
        VECTORS,
        stax.serial(
            stax.Dense(WIDTH, 1.2, 0.3, parameterization="standard"),
            stax.Relu(),
            stax.Dense(OUTPUTS, 1.1, 0.2, parameterization="standard"),
        ),
    ),
    "DotGeneral": lambda: sequence(
        stax.DotGeneral(
            rhs=jnp.array([1.0, -2.0, 0.5, 1.0]), dimension_numbers=(((1,), (0,)), ((), ()))
        )
    ),
    "Dropout": lambda: (
        VECTORS,
        stax.serial(stax.Dense(WIDTH, 1.2, 0.3), stax.Erf(), stax.Dropout(0.7), readout()),
    ),
    "Flatten": lambda: sequence(stax.Flatten()),
    "GlobalAvgPool": lambda: sequence(stax.GlobalAvgPool()),
    "GlobalSelfAttention": lambda: attention(n_chan_key=512),
    "GlobalSelfAttention, square root": lambda: attention(
        n_chan_key=8, linear_scaling=False, attention_mechanism="IDENTITY"
    ),
    "GlobalSumPool": lambda: sequence(stax.GlobalSumPool()),
    "Identity": lambda: activation(stax.serial(stax.Identity(), stax.Relu())),
    "ImageResize": lambda: sequence(stax.ImageResize((-1, 7, -1), "linear"), stax.Flatten()),
    "Index": lambda: sequence(stax.Index(stax.Slice[:, 1:3]), stax.Flatten()),
    "LayerNorm": lambda: (
        VECTORS,
        stax.serial(stax.Dense(1024, 1.2, 0.3), stax.LayerNorm(), stax.Relu(), readout()),
    ),
    "SumPool": lambda: sequence(stax.SumPool((2,), (2,)), stax.Flatten()),
    # branching and composing
    "FanInConcat": lambda: branches(stax.FanInConcat(), readout()),
    "FanInProd": lambda: branches(stax.FanInProd()),
    "FanInSum": lambda: branches(stax.FanInSum()),
    "FanOut": lambda: branches(stax.FanInSum(), stax.Identity()),
    "parallel": lambda: branches(stax.FanInConcat(), stax.Dense(OUTPUTS)),
    "repeat": lambda: (VECTORS, stax.repeat(stax.Dense(4, 1.2, 0.3), 3)),
    "serial": lambda: activation(stax.serial(stax.Relu(), stax.Identity())),
}
CLOSED_FORM_ONLY = {"ExpNormalized"}  # the infinite kernel of no finite network
DECORATORS = {"layer", "requires", "supports_masking", "unmask_fn"}  # for writing a layer


def sample(network, inputs, keys, **options):
    """The kernels of finite networks, by brute force, one for each key: `[members, n, n]`."""
    init, apply = stax.model(network)

    def kernels(params, key):
        def outputs(params):
            values = apply(params, inputs, rng=key, **options)
            return values[:, 0], values

        gradients, values = jax.jacrev(outputs, has_aux=True)(params)
        rows = [leaf.reshape(len(inputs), -1) for leaf in jax.tree.leaves(gradients)]
        return Kernel(values @ values.T / values.shape[1], sum(row @ row.T for row in rows))

    # Not compiled with the rest: compiling the random stream costs most, and here it is cached.
    members = jax.vmap(lambda key: init(key, inputs))(keys)
    return jax.jit(jax.vmap(kernels))(members, keys)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_monte_carlo(name):
    inputs, network = CASES[name]()
    graph = name == "Aggregate"
    wide = name in ("LayerNorm", "GlobalSelfAttention")  # members < width: bias below the error
    keys = jax.random.split(jax.random.key(5), 300 if wide else MEMBERS)
    # neural-tangents divides by the sine of the angle between two inputs.
    defined = ~np.eye(len(inputs), dtype=bool) if name == "RectifiedMonomial" else True

    exact = jax.jit(stax.kernel_fn(network))(
        inputs, **({"pattern": (GRAPHS, GRAPHS)} if graph else {})
    )
    samples = sample(network, inputs, keys, **({"pattern": GRAPHS} if graph else {}))

    for kernel, draws in zip(exact, samples, strict=True):
        error = np.abs(np.mean(draws, 0) - kernel, where=defined, out=np.zeros(kernel.shape))
        standard_error = np.std(draws, 0, ddof=1) / len(draws) ** 0.5
        scale = np.max(np.mean(draws, 0))
        # 1e-7 for kernels with no randomness: the cancellation in neural-tangents' diagonal.
        assert np.all(error <= 5 * standard_error + 1e-7 * scale)
        assert np.max(standard_error) < 0.05 * scale, "no power: more members"


def test_every_layer_has_a_test():
    assert callable(stax.serial)  # the first use, after which the library can be imported
    library = importlib.import_module("neural_tangents.stax")
    layers = {
        name
        for name, value in vars(library).items()
        if inspect.isfunction(value) and name not in DECORATORS
    }
    assert layers == {name.partition(",")[0] for name in CASES} | CLOSED_FORM_ONLY


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["convolution", "LayerNorm"])
def test_one_network_errs_as_width_to_the_minus_half(layer):
    def network(width):
        if layer == "LayerNorm":
            hidden = stax.serial(stax.Dense(width), stax.LayerNorm(), stax.Relu())
        else:
            hidden = stax.serial(stax.Conv(width, (2,)), stax.Relu(), stax.GlobalAvgPool())
        return stax.serial(hidden, stax.Dense(1))

    inputs = SEQUENCES if layer == "convolution" else VECTORS
    exact = np.asarray(stax.kernel_fn(network(1))(inputs).ntk)
    widths = np.array([32, 128, 512])
    errors = []
    for width in widths:
        draws = sample(network(width), inputs, jax.random.split(jax.random.key(6), 400)).ntk
        errors.append(np.sqrt(np.mean((np.asarray(draws) - exact) ** 2)))
    slope, _ = np.polyfit(np.log(widths), np.log(errors), 1)
    # An RMS over 400 networks is known to 4%, its logarithm over a factor 16 in width to 0.02.
    assert abs(slope + 0.5) < 0.08


def arc_cosine(inputs, depth):
    """NNGP and NTK of a bias-free ReLU network with W_std = sqrt(2), by its recursion in NumPy."""
    nngp = ntk = 2 * inputs @ inputs.T / inputs.shape[1]
    for _ in range(depth):
        norms = np.sqrt(np.outer(np.diag(nngp), np.diag(nngp)))
        angle = np.arccos(np.clip(nngp / norms, -1, 1))
        derivative = (np.pi - angle) / np.pi
        nngp = norms * (np.sin(angle) / np.pi + derivative * np.cos(angle))
        ntk = nngp + ntk * derivative
    return nngp, ntk


def relu_network(depth):
    layer = stax.serial(stax.Dense(8, 2**0.5), stax.Relu())
    return stax.serial(*[layer] * depth, stax.Dense(1, 2**0.5))


def test_relu_is_the_arc_cosine_recursion():
    exact = arc_cosine(np.asarray(VECTORS), 3)
    off_diagonal = ~np.eye(3, dtype=bool)
    for kernel, expected in zip(stax.kernel_fn(relu_network(3))(VECTORS), exact, strict=True):
        np.testing.assert_allclose(kernel[off_diagonal], expected[off_diagonal], rtol=1e-13)
        # The angle of an input with itself is the square root of a rounding error.
        np.testing.assert_allclose(np.diag(kernel), np.diag(expected), rtol=1e-7)


def test_rbf_is_the_gaussian_kernel():
    network = stax.serial(stax.Dense(1), stax.Rbf(0.7), stax.Dense(1))
    squared = np.sum((np.asarray(VECTORS)[:, None] - np.asarray(VECTORS)) ** 2, -1)
    expected = np.exp(-0.7 * squared / VECTORS.shape[1])
    np.testing.assert_allclose(stax.kernel_fn(network)(VECTORS).nngp, expected, rtol=1e-13)


def test_exp_normalized_closed_form():
    # |x| |y| exp(gamma (cos - 1)): of no finite network, so Monte Carlo has nothing to say.
    network = stax.serial(stax.Dense(1), stax.ExpNormalized(0.7), stax.Dense(1))
    gram = np.asarray(VECTORS @ VECTORS.T) / VECTORS.shape[1]
    norms = np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    factor = np.exp(0.7 * (gram / norms - 1))
    kernel = stax.kernel_fn(network)(VECTORS)
    np.testing.assert_allclose(kernel.nngp, norms * factor, rtol=1e-13)
    np.testing.assert_allclose(kernel.ntk, norms * factor + 0.7 * gram * factor, rtol=1e-13)


def test_a_layer_of_ones_own():
    # f(x) = 2 x, written with the decorators that the library exports.
    @stax.layer
    @stax.supports_masking(remask_kernel=False)
    def double():
        def init_fn(key, shape):
            return shape, ()

        def apply_fn(params, inputs, **options):
            return 2 * inputs

        def layer_kernel_fn(kernel, **options):
            return kernel * 2

        return init_fn, apply_fn, layer_kernel_fn

    kernel_fn = stax.kernel_fn(stax.serial(stax.Dense(1), double(), stax.Dense(1)))
    np.testing.assert_allclose(kernel_fn(VECTORS).nngp, VECTORS @ VECTORS.T, rtol=1e-13)


CONTRACT = {
    "convolution": (IMAGES, lambda: image(stax.Conv(1, (2, 2)), stax.Erf(), stax.Flatten())[1]),
    "residual": (VECTORS, lambda: branches(stax.FanInSum())[1]),
}


def assert_close(one, other):
    # 1e-7: compilation reorders the sums whose rounding the diagonal magnifies.
    for array, expected in zip(one, other, strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTRACT)
def test_kernel_fn_contract(name):
    inputs, network = CONTRACT[name]
    kernel_fn = stax.kernel_fn(network())
    kernel = kernel_fn(inputs)
    assert isinstance(kernel, Kernel)
    for array in kernel:
        assert array.dtype == jnp.float64
        np.testing.assert_array_equal(array, array.T)

    assert_close(jax.jit(kernel_fn)(inputs), kernel)
    assert_close(kernel_fn(inputs[:1], inputs[1:]), [array[:1, 1:] for array in kernel])

    stacked = jnp.stack([inputs, 2 * inputs])
    members = jax.vmap(kernel_fn)(stacked)
    for index, member in enumerate(stacked):
        assert_close([array[index] for array in members], kernel_fn(member))

    single = kernel_fn(inputs.astype(jnp.float32))  # computed in float64
    assert single.ntk.dtype == single.nngp.dtype == jnp.float32
    np.testing.assert_allclose(single.ntk, kernel.ntk, rtol=1e-5)


@pytest.mark.slow
def test_model_takes_typed_keys_and_the_dtype_of_the_inputs():
    init, apply = stax.model(CASES["Conv"]()[1])
    inputs = IMAGES.astype(jnp.float32)
    params = init(jax.random.key(7), inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    outputs = apply(params, inputs)
    assert outputs.shape == (len(IMAGES), OUTPUTS)
    assert outputs.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(apply)(params, inputs), outputs, rtol=1e-5)


@pytest.mark.slow
def test_padding_is_masked():
    network = stax.serial(stax.Conv(5, (1,)), stax.Relu(), stax.GlobalAvgPool(), stax.Dense(2))
    short, padded = SEQUENCES[:, :3], SEQUENCES.at[:, 3].set(100.0)
    kernel_fn, (init, apply) = stax.kernel_fn(network), stax.model(network)
    assert_close(kernel_fn(padded, mask_constant=100.0), kernel_fn(short))
    params = init(jax.random.key(9), short)
    outputs = apply(params, padded, mask_constant=100.0)
    np.testing.assert_allclose(outputs, apply(params, short), rtol=1e-12)


def test_unknown_layer_is_named_with_its_neighbour():
    with pytest.raises(AttributeError, match=r"no layer 'relu'; did you mean 'Relu'"):
        _ = stax.relu
    assert {"Relu", "serial", "kernel_fn", "model", "Padding", "Slice"} <= set(dir(stax))


@pytest.mark.slow
def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match=r"network must be a triple .* got function"):
        stax.kernel_fn(stax.Relu)
    with pytest.raises(TypeError, match=r"network must be a triple .* got tuple"):
        stax.model((stax.Relu(), stax.Dense(1)))
    with pytest.raises(TypeError, match=r"inputs must be floating point, got uint8"):
        stax.model(relu_network(1))[0](jax.random.key(8), jnp.ones((2, 3), jnp.uint8))

    kernel_fn = stax.kernel_fn(relu_network(1))
    with pytest.raises(TypeError, match=r"x1 must be floating point, got int"):
        kernel_fn(jnp.ones((2, 3), int))
    with pytest.raises(ValueError, match=r"x1 must be \[n, ..., channels\], got shape \(3,\)"):
        kernel_fn(jnp.ones(3))
    with pytest.raises(ValueError, match=r"x2 must have the shape of x1 .*\(4,\), got \(3,\)"):
        kernel_fn(VECTORS, VECTORS[:, :3])
    with pytest.raises(ValueError, match=r"not finite at \[0, 0\]: .*RectifiedMonomial"):
        stax.kernel_fn(stax.serial(stax.Dense(1), stax.RectifiedMonomial(1)))(VECTORS)
    with pytest.raises(ValueError, match=r"one vector, .* got \(2, 2, 4, 4, 4, 4\); end it with"):
        stax.kernel_fn(stax.serial(stax.Conv(1, (1, 1)), stax.Relu()))(IMAGES)
    with pytest.raises(ValueError, match=r"one vector, .* got 2 outputs"):
        stax.kernel_fn(stax.serial(stax.Dense(1), stax.FanOut(2)))(VECTORS)
