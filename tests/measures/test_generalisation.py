"""The difficulty of a task against its formula in 60 digits, spherical harmonics, and limits."""

import math

import jax
import mpmath
import numpy as np
import pytest

from ntkens.measures import generalisation

# n, R, m, d, delta, epsilon: the parameters in the authors' code.
TASKS = {
    "MNIST": (60_000, 17.179045827183984, 14, 10, 2.3987084824335305, 0.001),
    "SVHN": (73_257, 53.86932485133339, 19, 10, 1.5766998174969105, 0.01),
    "CIFAR10": (50_000, 54.9156786783691, 27, 10, 2.7506414616587023, 0.01),
    "ImageNet": (1_280_901, 943.5923, 48, 1000, 65, 0.1),
    "ImageNet, m = 60": (1_280_901, 943.5923, 60, 1000, 65, 0.1),
    "ImageNet, m = 80": (1_280_901, 943.5923, 80, 1000, 65, 0.1),
}
OMNIGLOT = {"radius": 49.4064773081425, "separation": 5.477225575051661, "error": 0.01}


def difficulty(n, radius, m, classes, separation, error, **more):
    return generalisation.classification(
        m, radius, separation, examples=n, classes=classes, error=error, **more
    )


def high_precision(n, radius, m, classes, separation, error, outputs=None, bound=1.0):
    """Every quantity of the formula as it is printed, in 60 digits."""
    with mpmath.workdps(60):
        mp = mpmath
        n, radius, m, d, separation, error = map(mp.mpf, (n, radius, m, classes, separation, error))
        outputs = d - 1 if outputs is None else mp.mpf(outputs)
        frequency = 2 * mp.pi * radius / separation
        degree = (mp.sqrt((m - 1) ** 2 + 4 * frequency**2) - (m - 1)) / 2
        count = mp.binomial(m + degree, m) + mp.binomial(m + degree - 1, m)
        rest = mp.log(2) + (m + 1) / 2 * mp.log(mp.pi) + mp.log(d) - mp.loggamma((m + 1) / 2)
        log_wasserstein = mp.log(m / 6) / 2 + rest / m + mp.log(radius) - mp.log(n) / m
        lipschitz = degree * mp.sqrt(outputs) / radius
        dimension = 2 * outputs * d * count - n * outputs
        bracket = mp.log(bound * mp.sqrt(outputs * d) / error * lipschitz, 2)
        bracket += log_wasserstein / mp.log(2)
        return {
            "bits": dimension * bracket,
            "log10_bits": mp.log10(dimension * bracket),
            "degree": degree,
            "log_count": mp.log(count),
            "log_wasserstein": log_wasserstein,
            "lipschitz": lipschitz,
            "log_dimension": mp.log(dimension),
            "bits_per_dimension": bracket,
        }


def assert_close(found, expected, tolerance=1e-12):
    for name, value in expected.items():
        ratio = mpmath.mpf(float(getattr(found, name))) / value
        assert abs(ratio - 1) < tolerance, name


@pytest.mark.parametrize("task", TASKS)
def test_every_quantity_against_sixty_digits(task):
    assert_close(difficulty(*TASKS[task]), high_precision(*TASKS[task]))


@pytest.mark.parametrize(
    ("task", "bits", "degree"), [("MNIST", "1.485e+16", 38.966), ("CIFAR10", "3.438e+32", 113.11)]
)
def test_the_table_to_its_printed_digits(task, bits, degree):
    found = difficulty(*TASKS[task])
    assert f"{found.bits:.3e}" == bits
    assert found.degree == pytest.approx(degree, rel=5e-5)


def test_control_to_the_printed_digits():
    cartpole = generalisation.control(2 * np.arange(1, 4), 1, steps=1e4)
    assert [f"{bits:.3e}" for bits in cartpole.bits] == ["4.415e+09", "3.326e+17", "1.464e+25"]
    suite = generalisation.control(np.array([6, 15]), np.array([2, 4]), steps=1e6)
    assert [f"{bits:.3e}" for bits in suite.bits] == ["2.914e+25", "7.613e+58"]


@pytest.mark.parametrize("observations", [1, 3, 5])
def test_cartpole_is_the_formula_of_the_authors(observations):
    """Theirs, in the number of observations T; ours has m = 2 T."""
    with mpmath.workdps(60):
        mp, t, small = mpmath, mpmath.mpf(observations), mpmath.mpf(0.001)
        count = (2 * mp.pi / small) ** (2 * t) * mp.pi**t / mp.gamma(t + 1)
        bracket = mp.log(4 * mp.pi**2 / mp.sqrt(3), 2) + mp.log(t, 2) / 2 - 2 * mp.log(small, 2)
        expected = (2 * count - 10_000) * (bracket - mp.log(10_000, 2) / (2 * t))
        found = generalisation.control(2 * observations, 1, steps=10_000)
        assert abs(mp.mpf(float(found.bits)) / expected - 1) < 1e-12


@pytest.mark.parametrize("sizes", [(6, 2), (15, 4), (17, 6)])
def test_the_control_suite_is_the_formula_of_the_authors(sizes):
    with mpmath.workdps(60):
        mp, m, actions, small = mpmath, *map(mpmath.mpf, sizes), mpmath.mpf(0.001)
        count = (2 * mp.pi / small) ** m * mp.pi ** (m / 2) / mp.gamma(m / 2 + 1)
        bracket = mp.log(4 * mp.pi**2 / mp.sqrt(6), 2) + mp.log(actions, 2) + mp.log(m, 2) / 2
        bracket -= 2 * mp.log(small, 2) + mp.log(10**6, 2) / m
        expected = actions * (2 * count - 10**6) * bracket
        found = generalisation.control(*sizes, steps=1e6)
        assert abs(mp.mpf(float(found.bits)) / expected - 1) < 1e-12


def test_omniglot_is_the_composition_of_the_authors():
    """One output for each coefficient of a classifier of 20 characters; its count is known."""
    n = 3.4e41
    found = generalisation.few_shot((22, 29), examples=n, ways=20, **OMNIGLOT)
    radius, separation = OMNIGLOT["radius"], OMNIGLOT["separation"]
    inner = generalisation.harmonics(22, 2 * np.pi * radius / separation)
    outputs = 2 * 20 * 19 * math.exp(inner.log_count)
    assert outputs == pytest.approx(7.938e20, rel=5e-4)
    expected = high_precision(
        n, radius * math.sqrt(20), 29 + 19 * 22, 1, separation, 0.01, outputs, math.sqrt(380)
    )
    assert_close(found, expected)
    assert found.log10_bits > 76


@pytest.mark.parametrize(("m", "degree", "count"), [(2, 5, 36), (3, 4, 55), (5, 6, 714)])
def test_the_count_is_that_of_spherical_harmonics(m, degree, count):
    """Harmonic polynomials of degree k in m + 1 variables: all of degree k less those of k - 2."""

    def polynomials(k):
        return math.comb(k + m, m) if k >= 0 else 0

    assert sum(polynomials(k) - polynomials(k - 2) for k in range(degree + 1)) == count
    found = generalisation.harmonics(m, math.sqrt(degree * (degree + m - 1)))
    assert found.degree == pytest.approx(degree, rel=1e-14)
    assert math.exp(found.log_count) == pytest.approx(count, rel=1e-13)


def test_binomials_keep_their_digits():
    """As differences of ln Gamma the first two would be wrong by 1e-9."""
    m = np.array([100, 1e6, 3, 447, 1, 9.999, 10.001, 48, 1, 80, 14.5])
    k = np.array([1e6, 100, 1e12, 114, 1e-8, 10.001, 9.999, 1e-3, 1e-200, 0.3, 1e5])
    found = generalisation._log_binomial(m, k)
    with mpmath.workdps(250):
        for value, *pair in zip(found, m, k, strict=True):
            exact = mpmath.log(mpmath.binomial(mpmath.fsum(pair), mpmath.mpf(pair[0])))
            assert abs(value - exact) < 1e-14 * max(1, abs(exact))


@pytest.mark.parametrize(("m", "frequency"), [(100, 1e6), (1e5, 0.1), (1, 1e-9), (3.7, 12.0)])
def test_the_degree_has_the_frequency(m, frequency):
    with mpmath.workdps(60):
        m, square = mpmath.mpf(m), mpmath.mpf(frequency) ** 2
        exact = (mpmath.sqrt((m - 1) ** 2 + 4 * square) - (m - 1)) / 2
        found = generalisation.harmonics(float(m), frequency).degree
        assert abs(mpmath.mpf(float(found)) / exact - 1) < 1e-14


def test_almost_as_many_examples_as_functions():
    """S^2 with K = 5 has 36 functions: 2 d E = 144 of two classes. One example less, and one."""
    arguments = {"dimension": 2, "radius": 1.0, "separation": 2 * math.pi / math.sqrt(30)}
    found = generalisation.classification(
        **arguments, examples=np.array([143, 144, 145]), classes=2, error=1e-3
    )
    assert math.exp(found.log_dimension[0]) == pytest.approx(1, rel=1e-12)
    assert found.bits[0] == pytest.approx(found.bits_per_dimension[0], rel=1e-12)
    np.testing.assert_array_equal(found.bits[2:], 0)
    np.testing.assert_array_equal(found.log10_bits[2:], -np.inf)
    np.testing.assert_array_equal(found.log_dimension[2:], -np.inf)
    assert found.bits[1] < 1e-11  # 144 of 144, to rounding


def test_an_error_that_any_function_has_asks_for_nothing():
    found = difficulty(60_000, 17.2, 14, 10, 2.4, 1e9)
    assert found.bits_per_dimension < 0 < found.log_dimension
    assert (found.bits, found.log10_bits) == (0, -np.inf)


def test_bits_that_no_float_holds_go_on_in_decades():
    found = generalisation.control(100, 21, steps=1e6)
    assert found.bits == np.inf
    assert 308 < found.log10_bits < 1000


def test_doubling_the_examples_costs_only_the_logarithm():
    """Where n D is far below dim: I(n) - I(2 n) = dim / m; the linear term is 2e-7 of it."""
    for n, *rest in TASKS.values():
        found = difficulty(np.array([n, 2 * n]), *rest)
        np.testing.assert_allclose(np.diff(found.bits_per_dimension), -1 / rest[1], rtol=1e-12)
        share = found.bits[0] / found.bits_per_dimension[0] / rest[1]
        np.testing.assert_allclose(found.bits[0] - found.bits[1], share, rtol=1e-6)


def test_the_linear_term_in_the_examples():
    """With the logarithm taken out, I(n) is a straight line that ends at n = 2 d E."""
    n = np.array([10.0, 60, 110, 144])
    found = generalisation.classification(
        2, 1.0, 2 * math.pi / math.sqrt(30), examples=n, classes=2, error=1e-3
    )
    np.testing.assert_allclose(found.bits / found.bits_per_dimension, 144 - n, atol=1e-11)


def test_tasks_are_in_the_order_of_the_paper():
    bits = [float(difficulty(*TASKS[task]).bits) for task in TASKS]
    assert bits == sorted(bits)
    omniglot = generalisation.few_shot((22, 29), examples=1e41, ways=20, **OMNIGLOT)
    assert omniglot.log10_bits > difficulty(*TASKS["ImageNet, m = 80"]).log10_bits


def test_decades_of_an_observation():
    """log10 I of cartpole: 2 log10(2 pi / delta) + log10 pi a step, less log10(T + 1)."""
    t = np.arange(1, 6)
    found = generalisation.control(2 * t, 1, steps=1e4)
    steps = np.diff(found.log10_bits - np.log10(found.bits_per_dimension))
    expected = 2 * np.log10(2 * np.pi / 1e-3) + np.log10(np.pi) - np.log10(t[1:])
    np.testing.assert_allclose(steps, expected, atol=1e-4)  # 1e4 of 8e7 functions are known
    assert np.diff(found.log10_bits).mean() == pytest.approx(7.7, abs=0.15)


def test_arguments_broadcast():
    m, separation = np.array([[2.0], [14.5]]), np.array([0.5, 1, 2])
    found = difficulty(100, 3.0, m, 3, separation, 0.1)
    assert all(field.shape == (2, 3) for field in found)
    alone = difficulty(100, 3.0, 14.5, 3, 2, 0.1)
    assert [field[1, 2] for field in found] == [float(field) for field in alone]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"separation": 0}, r"separation: got 0; .*two classes"),
        ({"dimension": 0.5}, r"dimension: got 0\.5; want a number of at least 1"),
        ({"dimension": math.nan}, "dimension: got nan"),
        ({"radius": np.array([1.0, -2.0])}, "radius: got -2"),
        ({"examples": 0}, "examples: got 0"),
        ({"classes": 1}, "classes: got 1; want at least 2"),
        ({"error": math.inf}, "error: got inf"),
        ({"outputs": -1}, "outputs: got -1"),
        ({"bound": 0}, "bound: got 0"),
    ],
)
def test_what_has_no_difficulty_is_refused(change, message):
    arguments = {"dimension": 14, "radius": 17.2, "separation": 2.4, "examples": 10, "classes": 3}
    with pytest.raises(ValueError, match=message):
        generalisation.classification(**{**arguments, "error": 0.1, **change})


def test_other_refusals():
    with pytest.raises(ValueError, match="ways: got 1"):
        generalisation.few_shot((22, 29), examples=10, ways=1, **OMNIGLOT)
    with pytest.raises(ValueError, match="actions: got 0"):
        generalisation.control(3, 0, steps=10)
    with pytest.raises(TypeError, match="dimension: is traced"):
        jax.jit(lambda m: generalisation.harmonics(m, 3.0))(2.0)
