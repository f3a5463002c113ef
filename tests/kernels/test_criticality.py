import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from ntkens.kernels import criticality, dual, finite_width, phase_diagram, quadrature


def gelu_(z):
    return jax.nn.gelu(z, approximate=False)


relu = criticality.nonlinearity(jax.nn.relu)
tanh = criticality.nonlinearity(jnp.tanh)
erf = criticality.nonlinearity(jax.scipy.special.erf)
gelu = criticality.nonlinearity(gelu_)
elu = criticality.nonlinearity(jax.nn.elu)


def gelu_power(kernel):
    """<gelu^2>_K in closed form, of mpmath numbers."""
    quadrant = mpmath.mpf(1) / 4 + mpmath.asin(kernel / (1 + kernel)) / (2 * mpmath.pi)
    spread = mpmath.sqrt(1 + 2 * kernel)
    bend = (kernel / (1 + kernel)) ** 2 * (1 / spread + spread)
    return kernel * quadrant + bend / (2 * mpmath.pi)


# the kernel and its susceptibilities


def test_the_kernel_of_tanh_and_sin_falls_as_the_inverse_depth():
    # 2 l K^l and l K^l of the paper's numbers, printed to five digits or four decimals
    kernels = criticality.flow(tanh, 1.0, 0.0, 1.0, 10_000)
    depths = np.array([10, 100, 1000, 10_000])
    expected = [1.160, 1.0241, 1.0033, 1.00043]
    np.testing.assert_allclose(2 * depths * kernels[depths - 1], expected, rtol=0, atol=5e-4)
    sin = criticality.nonlinearity(jnp.sin)
    kernels = criticality.flow(sin, 1.0, 0.0, 1.0, 20_000)
    np.testing.assert_allclose(2 * 20_000 * kernels[-1], 1.9997, rtol=0, atol=5e-5)


def test_relu_off_criticality_is_geometric_to_the_end_of_the_numbers():
    depth = 7_300  # 0.9^7299 is below the smallest number
    weights = jnp.array([1.8, 2.0, 2.2])
    kernels = criticality.flow(relu, jnp.ones(3), jnp.zeros(3), weights, depth)
    powers = (np.asarray(weights) / 2) ** np.arange(depth)[:, None]
    np.testing.assert_allclose(kernels[:200], powers[:200], rtol=1e-12)
    assert kernels[-1, 0] == 0  # and NaN nowhere on the way
    assert np.isfinite(kernels[:, :2]).all()


def test_susceptibilities_are_the_closed_forms():
    kernels = np.array([0.0, 1e-6, 0.3, 1.0, 20.0, 1e4])
    actual = criticality.susceptibilities(relu, kernels, 2.0)
    np.testing.assert_allclose(actual.parallel, 1, rtol=1e-13)
    np.testing.assert_allclose(actual.perpendicular, 1, rtol=1e-13)
    # <erf^2> = (2/pi) asin(2K / (1 + 2K)); with half of the branch and a skip of 0.5
    actual = criticality.susceptibilities(erf, kernels, 0.5, skip=0.5)
    slope = 4 / np.pi / ((1 + 2 * kernels) * np.sqrt(1 + 4 * kernels))
    expected = 0.25 + 0.5 * slope, 0.25 + 2 / np.pi / np.sqrt(1 + 4 * kernels)
    np.testing.assert_allclose(actual.parallel[1:], expected[0][1:], rtol=1e-12)
    np.testing.assert_allclose(actual.parallel[0], expected[0][0], rtol=1e-10)  # at K = 2e-12
    np.testing.assert_allclose(actual.perpendicular, expected[1], rtol=1e-13)


@pytest.mark.slow
def test_parallel_is_the_derivative_of_the_step_and_the_formula():
    kernels = jnp.array([0.05, 0.5, 1.0, 4.0, 10.0, 100.0])

    @jax.jit
    def three(kernels):
        def step(kernel):
            return criticality.kernel_step(gelu, kernel, 0.3, 1.7)

        parallel = criticality.susceptibilities(gelu, kernels, 1.7).parallel
        formula = quadrature.expectation(lambda z: gelu_(z) ** 2 * z**2, kernels)
        power = quadrature.expectation(lambda z: gelu_(z) ** 2, kernels)
        formula = 1.7 * (formula - kernels * power) / (2 * kernels**2)
        return jax.vmap(jax.grad(step))(kernels), parallel, formula

    gradient, parallel, formula = three(kernels)
    with mpmath.workdps(30):
        exact = [1.7 * float(mpmath.diff(gelu_power, float(kernel))) for kernel in kernels]
    np.testing.assert_allclose(parallel, exact, rtol=1e-12)
    np.testing.assert_allclose(gradient, parallel, rtol=1e-14)
    np.testing.assert_allclose(formula, parallel, rtol=1e-12)


@pytest.mark.slow
def test_two_inputs_are_the_closed_form():
    kernels = jnp.array([[[1.0, 0.3], [0.3, 2.0]], [[0.5, -0.4], [-0.4, 0.5]]])
    actual = criticality.pair_step(relu, kernels, 0.1, 2.0, skip=0.5)
    exact = dual.relu().covariance(
        kernels[:, 0, 0], kernels[:, 1, 1], jnp.asarray(kernels[:, 0, 1])
    )
    np.testing.assert_allclose(actual[:, 0, 1], kernels[:, 0, 1] / 4 + 0.1 + 2 * exact, rtol=1e-13)
    np.testing.assert_allclose(actual[:, 1, 0], actual[:, 0, 1], rtol=0)
    np.testing.assert_allclose(actual[:, 0, 0], 1.25 * kernels[:, 0, 0] + 0.1, rtol=1e-14)
    with pytest.raises(ValueError, match="kernels: wants symmetric positive"):
        criticality.pair_step(relu, jnp.array([[1.0, 2.0], [2.0, 1.0]]), 0.0, 2.0)


# critical points


def test_scale_invariant_activations_fix_every_kernel():
    leaky = criticality.nonlinearity(lambda z: jax.nn.leaky_relu(z, 0.2))
    cases = [(relu, 2.0, 5.0), (criticality.nonlinearity(jnp.abs), 1.0, 2.0)]
    cases += [(criticality.nonlinearity(lambda z: 3 * z), 1 / 9, 2.0)]
    cases += [(leaky, 2 / 1.04, 3 * 2 * (1 + 0.2**4) / 1.04**2 - 1)]
    for activation, weight_variance, growth in cases:
        point = criticality.critical_point(activation)
        assert point.universality == "scale_invariant"
        np.testing.assert_allclose(point[:2], (0, weight_variance), rtol=1e-14)
        np.testing.assert_allclose(point.coefficients.growth, growth, rtol=1e-14)


@pytest.mark.slow
def test_gelu_is_critical_where_the_closed_form_is():
    point = criticality.critical_point(gelu)
    assert point.universality == "half_stable"
    assert abs(point.kernel - (3 + math.sqrt(17)) / 2) < 1e-10
    with mpmath.workdps(30):
        kernel = (3 + mpmath.sqrt(17)) / 2
        weight = 1 / mpmath.diff(gelu_power, kernel)
        bias = kernel - weight * gelu_power(kernel)
        curvature = weight * mpmath.diff(gelu_power, kernel, 2) / 2
    np.testing.assert_allclose(point[:2], (float(bias), float(weight)), rtol=1e-12)
    np.testing.assert_allclose(point.coefficients.curvature, float(curvature), rtol=1e-9)
    np.testing.assert_allclose(point[:2], (0.17292239, 1.98305826), rtol=0, atol=5e-9)
    assert "attracts from above" in point.reason


@pytest.mark.slow
def test_swish_is_critical_where_mpmath_finds_it():
    """Of a residual layer, whose point is the plain one times 1 - skip^2."""
    skip = 0.6
    point = criticality.critical_point(criticality.nonlinearity(jax.nn.silu), skip=skip)
    with mpmath.workdps(18):

        def mean(function, kernel):
            scale = mpmath.sqrt(kernel)
            ends = [-12, -8, -4, -2, -1, 0, 1, 2, 4, 8, 12]
            return mpmath.quad(lambda x: function(scale * x) * mpmath.npdf(x), ends)

        def swish(z):
            return z / (1 + mpmath.exp(-z))

        def slope(z):
            gate = 1 / (1 + mpmath.exp(-z))
            return gate * (1 + z * (1 - gate))

        def excess(kernel):
            formula = mean(lambda z: swish(z) ** 2 * (z**2 - kernel), kernel) / (2 * kernel**2)
            return formula - mean(lambda z: slope(z) ** 2, kernel)

        kernel = mpmath.findroot(excess, (14, 15), tol=1e-24)
        weight = 1 / mean(lambda z: slope(z) ** 2, kernel)
        bias = kernel - weight * mean(lambda z: swish(z) ** 2, kernel)
        expected = [float(each) for each in (bias, weight, kernel)]
    plain = np.array(point[:3]) / [1 - skip**2, 1 - skip**2, 1]
    np.testing.assert_allclose(plain, expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(plain[:2], (0.5551432, 1.98800473), rtol=0, atol=6e-8)


@pytest.mark.slow
def test_vanishing_kernels_have_the_coefficients_of_their_taylor_series():
    erf_slope = 2 / math.sqrt(math.pi)
    bend = -math.sqrt(2 / math.pi)
    expected = [  # C_W, s, a, b
        (tanh, 1, 1, -2, -2),
        (erf, 1 / erf_slope**2, 1, -2, -2),
        (criticality.nonlinearity(jnp.sin), 1, 1, -1, -1),
        # z + z^2 / 4 - z^3: a = -6 + 3/16, b = -6 + 1/4
        (criticality.nonlinearity(lambda z: z + z**2 / 4 - z**3), 1, 1, -6 + 3 / 16, -5.75),
        (elu, 1, 0.5, bend, bend),
        (criticality.nonlinearity(jax.nn.soft_sign), 1, 0.5, 4 * bend, 4 * bend),
    ]
    for activation, weight_variance, *coefficients in expected:
        point = criticality.critical_point(activation)
        assert (point.universality, point.kernel) == ("zero", 0)
        np.testing.assert_allclose(point.weight_variance, weight_variance, rtol=1e-14)
        np.testing.assert_allclose(point.coefficients[:3], coefficients, rtol=1e-13)
        np.testing.assert_allclose(point.coefficients.growth, 2 / 3, rtol=1e-14)


@pytest.mark.slow
def test_depth_brings_out_the_coefficients():
    """K^l -> (-a s l)^(-1/s), the slopes of both susceptibilities, and V -> growth l K^2."""
    depth = 20_000
    for activation in (tanh, criticality.nonlinearity(jax.nn.selu)):
        point = criticality.critical_point(activation)
        weight = point.weight_variance

        @jax.jit
        def run(activation=activation, weight=weight):
            def step(carry, _):
                kernel, vertex = carry
                chi = criticality.susceptibilities(activation, kernel, weight)
                mean = criticality.kernel_step(activation, kernel, 0.0, weight)
                fourth = quadrature.expectation(lambda z: activation.apply(z) ** 4, kernel)
                spread = weight**2 * fourth - mean**2
                return (mean, chi.parallel**2 * vertex + spread), (kernel, vertex, chi)

            carry = (jnp.ones(()), jnp.zeros(()))
            return jax.tree.map(lambda each: each[-1], jax.lax.scan(step, carry, length=depth)[1])

        kernel, vertex, chi = run()
        power, drift, perpendicular, growth = point.coefficients
        # corrections are of relative order log(l) / l: 5e-4
        expected = (-drift * power * depth) ** (-1 / power)
        np.testing.assert_allclose(kernel, expected, rtol=5e-3)
        parallel = 1 - (1 + 1 / power) / depth
        np.testing.assert_allclose(1 - chi.parallel, 1 - parallel, rtol=5e-3)
        np.testing.assert_allclose(
            1 - chi.perpendicular, perpendicular / (drift * power) / depth, rtol=5e-3
        )
        np.testing.assert_allclose(vertex / (kernel**2 * depth), growth, rtol=5e-3)
        if activation is tanh:
            np.testing.assert_allclose(vertex / (kernel**2 * depth), 0.6665, rtol=0, atol=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("apply", "kinks", "universality", "reason"),
    [
        (jax.nn.sigmoid, (), "none", "chi_parallel < chi_perpendicular at every K"),
        (jax.nn.softplus, (), "none", "chi_parallel > chi_perpendicular at every K"),
        (jnp.cos, (), "none", "chi_parallel < chi_perpendicular"),
        (jnp.sinh, (), "zero", "K = 0 repels, and chi_parallel > chi_perpendicular"),
        (lambda z: jnp.clip(z, -1, 1), (-1, 1), "zero", "neither attracts nor repels"),
    ],
)
def test_what_has_no_critical_point_says_why(apply, kinks, universality, reason):
    point = criticality.critical_point(criticality.nonlinearity(apply, kinks=kinks))
    assert point.universality == universality
    assert reason in point.reason
    assert np.isnan(point[:3]).all() == (universality == "none")


def test_rough_and_bad_activations_are_named():
    def point(apply, **keywords):
        return criticality.critical_point(criticality.nonlinearity(apply, **keywords))

    assert "jumps at 0" in point(jnp.sign).reason
    assert "jumps at 1" in point(lambda z: jnp.where(z > 1, 1.0, 0.0), kinks=(1,)).reason

    def root(z):
        return jnp.sign(z) * jnp.sqrt(jnp.abs(z))

    assert "grows without bound at 0" in point(root).reason
    assert "sigma is zero" in point(jnp.zeros_like).reason
    with pytest.raises(ValueError, match="skip: got 1"):
        criticality.critical_point(relu, skip=1.0)
    with pytest.raises(ValueError, match="kernel: got -1"):
        criticality.kernel_step(relu, -1.0, 0.0, 2.0)
    with pytest.raises(ValueError, match="bias_variance: got -1"):
        criticality.kernel_step(relu, 1.0, -1.0, 2.0)
    with pytest.raises(ValueError, match="depth: got 0"):
        criticality.flow(relu, 1.0, 0.0, 2.0, 0)
    with pytest.raises(ValueError, match="kernels: got shape"):
        criticality.pair_step(relu, jnp.ones(3), 0.0, 2.0)


def test_a_residual_layer_is_critical_at_the_scaled_point():
    skip, kernels = 0.8, np.array([0.2, 0.5, 1.0, 3.0, 20.0, 100.0])
    point = criticality.critical_point(relu, skip=skip)
    step = criticality.kernel_step(relu, kernels, 0.0, point.weight_variance, skip=skip)
    np.testing.assert_allclose(step, kernels, rtol=1e-14)
    point = criticality.critical_point(tanh, skip=skip)
    np.testing.assert_allclose(point.weight_variance, 1 - skip**2, rtol=1e-14)
    np.testing.assert_allclose(point.coefficients.drift, -2 * (1 - skip**2), rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sigma", [jax.nn.relu, jnp.abs, gelu_], ids=["relu", "absolute value", "gelu"]
)
def test_the_growth_of_the_vertex_is_that_of_its_recursion(sigma):
    """At a kernel that stands still, once E[z_i z_j^2] has settled, which takes skip^l."""
    sigma = criticality.nonlinearity(sigma)
    skips = np.array([0.0, 0.6, -0.4])
    points = [criticality.critical_point(sigma, skip=skip) for skip in skips]
    bias, weight = (np.array([point[index] for point in points]) for index in (0, 1))

    @jax.jit
    @jax.vmap
    def vertices(bias, weight, skip):
        kernel, widths = points[0].kernel, jnp.full(80, 9.0)
        return finite_width.four_point_vertex(sigma, kernel, bias, weight, widths, skip=skip)

    found = vertices(bias, weight, skips).four_point
    growth = (found[:, -1] - found[:, -2]) / points[0].kernel ** 2
    expected = [point.coefficients.growth for point in points]
    np.testing.assert_allclose(growth, expected, rtol=1e-8)


# the phase diagram


@pytest.mark.slow
def test_phases_of_relu_are_known():
    weights = jnp.array([0.0, 1.0, 2.0, 2.5])
    diagram = phase_diagram.phase_diagram(relu, jnp.array([0.0, 0.5]), weights)
    expected = [[0, 0, 1, np.inf], [0.5, 1, np.inf, np.inf]]  # C_b / (1 - C_W / 2)
    np.testing.assert_allclose(diagram.kernel, expected, rtol=1e-12)
    names = np.array(phase_diagram.PHASES)[np.asarray(diagram.phase)]
    assert names.tolist() == [
        ["ordered", "ordered", "critical", "divergent"],
        ["ordered", "ordered", "divergent", "divergent"],
    ]
    np.testing.assert_allclose(diagram.perpendicular[0, :3], [0, 0.5, 1], rtol=1e-12)
    assert diagram.converged.all()


@pytest.mark.slow
def test_phases_of_tanh_meet_on_the_critical_line():
    line = phase_diagram.critical_line(tanh, jnp.array([0.0, 0.1, 1.0]))
    chi = criticality.susceptibilities(tanh, line.kernel, line.weight_variance)
    np.testing.assert_allclose(chi.perpendicular, 1, rtol=1e-14)
    np.testing.assert_allclose(chi.parallel, line.parallel, rtol=1e-14)
    # on the line, and 5% in C_W to either side of it
    weights = line.weight_variance[:, None] * jnp.array([0.95, 1, 1.05])[None]
    diagram = phase_diagram.phase_diagram(tanh, line.bias_variance, weights.ravel())
    own = np.arange(3)[:, None], np.arange(9).reshape(3, 3)
    np.testing.assert_allclose(diagram.kernel[own][:, 1], line.kernel, rtol=1e-10, atol=1e-15)
    assert np.asarray(diagram.phase[own]).tolist() == [[0, 1, 2]] * 3
    assert diagram.converged.all()
    start, bias = jnp.ones((3, 9)), jnp.broadcast_to(line.bias_variance[:, None], (3, 9))
    weight = jnp.broadcast_to(weights.ravel()[None], (3, 9))
    flow = criticality.flow(tanh, start, bias, weight, 2000)[-1]
    slow = diagram.parallel > 0.98  # where 2000 layers are not enough
    np.testing.assert_allclose(np.where(slow, 0, flow - diagram.kernel), 0, atol=1e-12)


@pytest.mark.slow
def test_a_phase_that_the_quadrature_cannot_see_is_unknown():
    exp = criticality.nonlinearity(jnp.exp)
    diagram = phase_diagram.phase_diagram(exp, jnp.array([0.1]), jnp.array([0.01, 3.0]))
    assert diagram.phase[0].tolist() == [0, 4]
    assert np.isnan(diagram.kernel[0, 1])
    assert diagram.converged[0].tolist() == [True, False]
    with pytest.raises(ValueError, match="start: got 0"):
        phase_diagram.phase_diagram(exp, jnp.ones(1), jnp.ones(1), start=0.0)
    with pytest.raises(ValueError, match="weight_variances: got -1"):
        phase_diagram.phase_diagram(exp, jnp.ones(1), -jnp.ones(1))
