"""Budgets against the worked example, their closed form, and counts that must be exact."""

import fractions
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ntkens.sparsity import budgets, masks


def weights(*shapes):
    return {
        f"{layer}/kernel": jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
        for layer, shape in enumerate(shapes)
    }


LENET = weights((784, 300), (300, 100), (100, 10))
shapes = st.lists(st.lists(st.integers(1, 12), min_size=2, max_size=4), min_size=1, max_size=4).map(
    lambda shapes: weights(*shapes)
)
decimals = st.integers(1, 1000).map(lambda thousandths: thousandths / 1000)


def test_worked_example_to_the_digits():
    """LeNet-300-100 at 10%: epsilon is 26620 / 1594 = 16.70, and 25620 / 1484 = 17.264 once
    the last layer, of 10 * 110 * epsilon weights and more than it has, is dense."""
    assert masks.total(LENET) == 266_200
    counts = budgets.erk(LENET, 0.1)
    assert sum(counts.values()) == 26_620
    density = [count / math.prod(LENET[name].shape) for name, count in counts.items()]
    assert [f"{each:.4f}" for each in density] == ["0.0796", "0.2302", "1.0000"]
    assert counts["0/kernel"] == math.floor(1084 * 25_620 / 1484)  # a remainder below a half
    assert counts["1/kernel"] == math.ceil(400 * 25_620 / 1484)
    assert budgets.erdos_renyi(LENET, 0.1) == counts


@given(shapes, decimals)
def test_budgets_are_exact_to_one_weight(weights, density):
    total = masks.total(weights)
    exact = round(1000 * density) * total // 1000
    for budget in (budgets.uniform, budgets.erdos_renyi, budgets.erk):
        try:
            counts = budget(weights, density)
        except ValueError as error:
            assert "no weight in" in str(error) or exact == 0  # noqa: PT017 - either is right
            continue
        assert sum(counts.values()) == exact == budgets.kept(weights, density)
        assert all(1 <= counts[name] <= math.prod(w.shape) for name, w in weights.items())
        if density == 1:
            assert masks.total(weights) == sum(counts.values())


@given(shapes, decimals)
def test_shares_are_the_formulas_to_one_weight(weights, density):
    """One epsilon explains all layers below their size, within the weight that rounding moves."""
    formulas = {
        budgets.uniform: math.prod,
        budgets.erdos_renyi: lambda s: math.prod(s) * (s[-1] + s[-2]) / (s[-1] * s[-2]),
        budgets.erk: sum,
    }
    for budget, part in formulas.items():
        try:
            counts = budget(weights, density)
        except ValueError:
            continue
        parts = {name: part(w.shape) for name, w in weights.items()}
        sizes = {name: math.prod(w.shape) for name, w in weights.items()}
        low = max((counts[n] - 1) / parts[n] for n in counts)
        high = min(
            ((counts[n] + 1) / parts[n] for n in counts if counts[n] < sizes[n]), default=9e9
        )
        assert low < high


def test_kernels_of_convolutions_count_with_their_size():
    """eps (8 + 16 + 3 + 3) = 30 eps of 1152 and eps (16 + 10) = 26 eps of 160: 131 of 1312."""
    found = weights((3, 3, 8, 16), (16, 10))
    assert budgets.erk(found, 0.1) == {"0/kernel": 70, "1/kernel": 61}  # 70.18 and 60.82
    # eps 9 (8 + 16) = 216 eps and 26 eps
    assert budgets.erdos_renyi(found, 0.1) == {"0/kernel": 117, "1/kernel": 14}  # 116.9 and 14.07
    assert budgets.uniform(found, 0.1) == {"0/kernel": 115, "1/kernel": 16}  # 115.03 and 15.98


@pytest.mark.parametrize("hundredths", [7, 29, 57, 58])
def test_a_density_is_its_decimal(hundredths):
    hundred = weights((10, 10))
    assert math.floor(hundredths / 100 * 100) <= hundredths
    for density in (
        hundredths / 100,
        np.float32(hundredths / 100),
        fractions.Fraction(hundredths, 100),
        jnp.float32(hundredths / 100),
    ):
        assert budgets.kept(hundred, density) == hundredths


def test_equal_remainders_go_to_the_first():
    assert list(budgets.uniform(weights((1, 3), (1, 3), (1, 3)), 0.5).values()) == [2, 1, 1]


@given(st.lists(st.integers(1, 6), min_size=3, max_size=4), decimals, st.booleans())
def test_no_other_neuron_fits(sizes, density, is_transposed):
    found = weights(*itertools.pairwise(sizes))
    last = list(found)[-1]
    transposed = [last] if is_transposed else []
    if is_transposed:
        found[last] = jax.ShapeDtypeStruct(found[last].shape[::-1], jnp.float32)

    def total(counts):
        widths = [sizes[0], *counts.values(), sizes[-1]]
        return sum(before * after for before, after in itertools.pairwise(widths))

    least = total(dict.fromkeys(range(len(sizes) - 2), 1))
    exact = round(1000 * density) * masks.total(found) // 1000
    assume(exact >= 1)
    if least > exact:
        with pytest.raises(ValueError, match="one neuron in each"):
            budgets.neurons(found, density, chain=list(found), transposed=transposed)
        return
    counts = budgets.neurons(found, density, chain=list(found), transposed=transposed)
    assert total(counts) <= exact
    for (name, count), width in zip(counts.items(), sizes[1:], strict=False):
        assert 1 <= count <= width
        assert count == width or total(counts | {name: count + 1}) > exact


def test_neurons_and_their_mask_agree_on_convolutions():
    shapes = [(3, 3, 2, 4), (3, 3, 4, 6), (6, 3)]
    scores = {f"{layer}/kernel": np.ones(shape) for layer, shape in enumerate(shapes)}
    counts = budgets.neurons(scores, 0.3, chain=list(scores))
    assert counts == {"0/kernel": 2, "1/kernel": 2}  # 36 + 36 + 6 of at most 91; 99 or 114 with one
    kept = jax.jit(lambda scores: masks.kept(masks.neurons(scores, counts, chain=list(scores))))
    assert kept(scores) == 78


def test_layers_that_would_be_lost_are_named():
    for budget in (budgets.uniform, budgets.erdos_renyi, budgets.erk):
        with pytest.raises(ValueError, match=r"leaves no weight in \[.*'2/kernel'\]"):
            budget(LENET, 1e-5)  # 2 weights of 266 200
    assert budgets.kept(LENET, 1e-5) == 2  # a global budget may lose layers
    with pytest.raises(ValueError, match="keeps none of 266200 weights"):
        budgets.kept(LENET, 1e-6)


def test_densities_out_of_range():
    for density in (0, -0.1, 1.001, float("nan")):
        for budget in (budgets.kept, budgets.uniform, budgets.erk):
            with pytest.raises(ValueError, match="above 0 and at most 1"):
                budget(LENET, density)
    with pytest.raises(TypeError, match="known before tracing"):
        jax.eval_shape(lambda density: budgets.kept(LENET, density), 0.5)
    for density in ("0.5", None, True):
        with pytest.raises(TypeError, match=f"density: got {density!r}; it is one number"):
            budgets.kept(LENET, density)
    with pytest.raises(TypeError, match="it is one number"):
        budgets.uniform(LENET, np.array([0.1, 0.2]))
