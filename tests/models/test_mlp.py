import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import dual, empirical, fully_connected
from ntkens.models import mlp
from ntkens.training import members

PARAMETRISATIONS = ["ntk", "standard", "mean_field"]


def by_hand(params, inputs, parametrisation, w_std, b_std, activation=np.tanh):
    """The formulas at the head of the module, in NumPy."""
    z = np.asarray(inputs)
    names = [f"hidden_{layer}" for layer in range(len(params) - 1)] + ["readout"]
    for name in names:
        kernel = np.asarray(params[name]["kernel"])
        kernel = kernel.T if name == "readout" else kernel
        bias = np.asarray(params[name].get("bias", np.zeros((1, 1))))
        if parametrisation == "standard":
            h = z @ kernel + bias
        elif parametrisation == "mean_field" and name == "readout":
            h = w_std / len(kernel) * (z @ kernel) + b_std * bias
        else:
            h = w_std / np.sqrt(len(kernel)) * (z @ kernel) + b_std * bias
        z = h if name == "readout" else activation(h)
    return z


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
@pytest.mark.parametrize("widths", [(), (7,), (7, 5, 6)])
@pytest.mark.parametrize("b_std", [None, 0.0, 0.3])
def test_apply_is_the_formula(parametrisation, widths, b_std, key):
    model = mlp.mlp(widths, 3, activation=jnp.tanh, parametrisation=parametrisation, w_std=1.4,
                    b_std=b_std)  # fmt: skip
    inputs = jax.random.normal(jax.random.key(1), (4, 5))
    params = model.init(key, inputs)
    if parametrisation == "standard" and b_std == 0:  # they start at zero: move them
        params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    has_biases = b_std is not None and (b_std > 0 or parametrisation == "standard")
    assert all(("bias" in layer) == has_biases for layer in params.values())
    expected = by_hand(params, inputs, parametrisation, 1.4, b_std or 0.0)
    np.testing.assert_allclose(model.apply(params, inputs), expected, rtol=1e-12)


def test_standard_biases_start_at_zero_and_are_trained(key):
    model = mlp.mlp([8], 2, parametrisation="standard", b_std=0.0)
    params = model.init(key, jnp.eye(3))
    gradient = jax.grad(lambda params: model.apply(params, jnp.eye(3)).sum())(params)
    for layer in params:
        assert (params[layer]["bias"] == 0).all()
        assert (gradient[layer]["bias"] != 0).any()


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_params_are_drawn_at_their_standard_deviation(parametrisation, key):
    model = mlp.mlp([300, 200], 100, parametrisation=parametrisation, w_std=1.5, b_std=0.7)
    params = model.init(key, jnp.zeros((1, 50)))
    fan_in = {"hidden_0": 50, "hidden_1": 300, "readout": 200}
    for layer, count in fan_in.items():
        is_standard = parametrisation == "standard"
        for name, std in (("kernel", 1.5 / np.sqrt(count)), ("bias", 0.7)):
            draws = np.asarray(params[layer][name]) / (std if is_standard else 1.0)
            # a mean square of m normals has standard error sqrt(2 / m)
            assert abs(np.mean(draws**2) - 1) < 5 * np.sqrt(2 / draws.size)


@pytest.mark.parametrize("widths", [(), (6,), (6, 4)])
def test_one_hot_inputs_as_indices_a_range_and_vectors_agree(widths, key):
    model = mlp.mlp(widths, 3, activation=jnp.tanh, b_std=0.5)
    params = model.init(key, jnp.eye(5))
    weights = jax.random.normal(jax.random.key(1), (4, 3))

    def value(params, inputs):
        return (weights * model.apply(params, inputs)).sum()

    vectors = jax.value_and_grad(value)(params, jnp.eye(5)[1:])
    for inputs in (jnp.arange(1, 5), np.arange(1, 5, dtype=np.uint8), range(1, 5)):
        found = jax.value_and_grad(value)(params, inputs)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), found, vectors)
    repeated = jnp.array([2, 2, 0])
    gathered, product = model.apply(params, repeated), model.apply(params, jnp.eye(5)[repeated])
    np.testing.assert_allclose(gathered, product, rtol=1e-12)


def test_a_range_of_all_one_hot_inputs_costs_no_product_and_no_gather(key):
    model = mlp.mlp([6], 3)
    params = model.init(key, jnp.eye(5))

    def operations(inputs):
        jaxpr = jax.make_jaxpr(jax.grad(lambda params: model.apply(params, inputs).sum()))(params)
        return [
            line.split(" = ")[1].split("[")[0] for line in str(jaxpr).split("\n") if " = " in line
        ]

    assert operations(jnp.eye(5)).count("dot_general") == 5
    assert operations(range(5)).count("dot_general") == 3
    assert not {"gather", "scatter-add"} & set(operations(range(5)))
    assert {"gather", "scatter-add"} <= set(operations(jnp.arange(5)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtype_follows_the_inputs(dtype, key):
    model = mlp.mlp([6, 4], 3, b_std=0.5)
    params = model.init(key, jax.ShapeDtypeStruct((2, 5), dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    for inputs in (jnp.ones((2, 5), dtype), jnp.arange(2), range(2)):
        assert model.apply(params, inputs).dtype == dtype


def outputs_and_tangents(parametrisation, width, key):
    """Mean square output, and mean diagonal tangent kernel, of 200 networks; standard errors."""
    model = mlp.mlp([width], 4, parametrisation=parametrisation)
    x = jnp.array([[0.6, -0.8, 0.0]])

    def member(key):
        params = model.init(key, x)
        return jnp.mean(model.apply(params, x) ** 2), empirical.ntk(model.apply, params, x)[0, 0]

    values = np.stack(members.map(member, members.keys(key, 200)))
    return values.mean(1), values.std(1) / np.sqrt(200)


@pytest.mark.slow
@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_scaling_with_width(parametrisation, key):
    """One ReLU layer of n units, |x| = 1, x in R^d: exact at every n, from the formulas.

    With q = E phi(h)^2 = 1/(2d) and E phi'(h)^2 = 1/2 in "ntk": the mean square output is q, the
    readout's part of the tangent kernel q, and the hidden layer's 1/(2d) = q. "standard" has the
    same outputs, the readout's part times n, and the hidden layer's times d; "mean_field" has
    everything over n.
    """
    d = 3
    q = 1 / (2 * d)
    exact = {
        "ntk": lambda n: (q, q + q),
        "standard": lambda n: (q, n * q + d * q),
        "mean_field": lambda n: (q / n, (q + q) / n),
    }
    for width in (16, 64):
        means, errors = outputs_and_tangents(parametrisation, width, key)
        assert (np.abs(means - np.array(exact[parametrisation](width))) < 5 * errors).all()
        assert (errors < 0.1 * means).all()  # a factor of two would be 5 of them or more


@pytest.mark.slow
def test_finite_kernel_tends_to_the_infinite_one_at_its_rate(key):
    """Depth 2 with biases: RMS distance of one network's tangent kernel falls as width^-1/2."""
    x = jax.random.normal(jax.random.key(1), (4, 3))
    exact = fully_connected.kernel_fn(dual.relu(), 2, 1.3, 0.4)(x).ntk

    def distance(width):
        model = mlp.mlp([width, width], 2, w_std=1.3, b_std=0.4)

        def member(key):
            return empirical.ntk(model.apply, model.init(key, x), x)

        kernels = members.map(member, members.keys(key, 40))
        return np.sqrt(np.mean((kernels - exact[None]) ** 2))

    # 16 times the width is 1/4 of the distance; 40 networks know each distance to about 10%
    assert 0.25 / 1.5 < distance(256) / distance(16) < 0.25 * 1.5


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"parametrisation": "mup"}, "parametrisation: got 'mup'; it is one of .*'mean_field'"),
        ({"widths": [8, 0]}, "widths: got"),
        ({"widths": [8.0]}, "widths: got"),
        ({"outputs": 0}, "outputs: got"),
        ({"w_std": 0.0}, "w_std: got"),
        ({"w_std": float("nan")}, "w_std: got"),
        ({"b_std": -1.0}, "b_std: got"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        mlp.mlp(**{"widths": [8], "outputs": 2} | arguments)


def test_one_width_without_brackets_is_named():
    with pytest.raises(TypeError, match=r"widths: got 8; want .* \[512\] for one"):
        mlp.mlp(8, outputs=2)  # pyright: ignore[reportArgumentType]  # what is tested


@pytest.mark.parametrize(
    "inputs",
    [
        jnp.ones((2, 6)),
        jnp.ones(5),
        jnp.array([0, 5]),
        jnp.array([-1]),
        jnp.array([[0]]),
        range(6),
        range(0, 5, 2),
        range(0),
    ],
)
def test_inputs_that_do_not_fit_the_params_are_named(inputs, key):
    model = mlp.mlp([4], 2)
    params = model.init(key, jnp.eye(5))
    with pytest.raises(ValueError, match="inputs: got"):
        model.apply(params, inputs)


def test_an_index_out_of_range_under_a_trace_is_nan_and_no_other_inputs_output(key):
    model = mlp.mlp([4], 2)
    params = model.init(key, jnp.eye(5))
    outputs = jax.jit(model.apply)(params, jnp.array([-1, 0, 5]))
    np.testing.assert_array_equal(np.isnan(outputs).all(1), [True, False, True])


def test_init_wants_floating_matrices(key):
    model = mlp.mlp([4], 2)
    with pytest.raises(TypeError, match="inputs: got dtype int"):
        model.init(key, jnp.arange(5))
    with pytest.raises(ValueError, match=r"inputs: got shape \(5,\)"):
        model.init(key, jnp.ones(5))
