"""What holds of every measure of predictions: of every public function of `ntkens.measures`."""

import functools
import inspect

import jax
import numpy as np
import pytest
from scipy import special

from ntkens import measures
from ntkens.measures import uncertainty

MEMBERS, EXAMPLES, CLASSES = 3, 7, 4  # no two alike: an axis is known by its length


def drawn(seed, *shape):
    return 2 * np.random.default_rng(seed).normal(size=shape)


IN_NUMPY = "of numbers and distributions, in NumPy: no examples, and nothing to trace"
UNCHECKED = "a part of `report` and of measures, which check its arguments"
ROOMS = {
    "measure": {
        "within": measures,
        "is_one": lambda name, function: True,
        "arguments": {
            "probabilities": lambda: special.softmax(drawn(0, EXAMPLES, CLASSES), axis=-1),
            "logits": lambda: drawn(1, EXAMPLES, CLASSES),
            "member_probabilities": lambda: special.softmax(
                drawn(2, MEMBERS, EXAMPLES, CLASSES), axis=-1
            ),
            "labels": lambda: np.array([0, 1, 2, 3, 1, 0, 2]),
            "scores": lambda: drawn(4, EXAMPLES),
            "positive": lambda: drawn(5, EXAMPLES) > 0,
            "costs": lambda: drawn(6, EXAMPLES) ** 2,
            "temperature": lambda: np.exp(drawn(7, EXAMPLES)),
            "points": lambda: drawn(8, EXAMPLES, 2),
            "coverage": lambda: 0.6,
            "risk": lambda: 2.0,
            "k": lambda: 2,
        },
        "variants": {
            "uncertainty.calibration_error": {
                "equal width": {},
                "equal mass": {"binning": lambda: "equal_mass"},
            },
        },
        "others": {
            "generalisation": IN_NUMPY,
            "generalised_chi_squared": IN_NUMPY,
            "scaled_chi_squared": IN_NUMPY,
            "inductive_bias": IN_NUMPY,
            "checks": "the checks themselves",
            "bootstrap": "of a statistic, which is any function",
            "nearest": "of `class_separation` and `intrinsic_dimension`, which check its arguments",
            "class_separation.sampled": "what is drawn depends on the order of examples",
            "class_separation.extrapolated": "what is drawn depends on the order of examples",
            "report.report": "all measures at once, with intervals; compiles for seconds",
            "ranking.undefined": "words",
            "temperature.at_bound": "a comparison: any number is served",
            "ranked": UNCHECKED,
            "binned": UNCHECKED,
            "per_example.entropy": UNCHECKED,
            "per_example.of_label": UNCHECKED,
            "per_example.checked": UNCHECKED,
            "uncertainty.within_bins": UNCHECKED,
            "uncertainty.decomposed": UNCHECKED,
            "uncertainty.classwise_error": UNCHECKED,
        },
    },
}
ON_HOST = {"class_separation", "intrinsic_dimension"}  # look at values: not under jit


def axis(name):
    """The axis of examples."""
    return 1 if name.startswith("member_") else 0


def arrays(measure, change=lambda value, axis: value):
    """The arguments that are of examples, with a change (array, axis of examples)."""
    return {
        name: change(value, axis(name))
        for name, value in measure.arguments.items()
        if np.ndim(value)
    }


def call(measure, arguments):
    return measure.function(**measure.arguments | arguments)


def is_on_host(measure):
    return measure.name.partition(".")[0] in ON_HOST


@functools.cache
def compiled(measure):
    """Compiled whole: operation by operation, these small arrays take longer."""

    def run(arguments):
        return call(measure, arguments)

    return run if is_on_host(measure) else jax.jit(run)


def assert_close(found, expected):
    """To some hundred roundings in float64."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_every_measure_is_tested(gaps, found):
    assert gaps["measure"] == []
    assert found["measure"] >= {"uncertainty.accuracy", "ranking.auroc", "selective.aurc"}


def test_a_measure_born_today_is_asked_for_its_arguments(plant):
    def charm(smiles, labels): ...

    (gap,) = plant("measure", uncertainty, charm)
    assert gap.startswith("uncertainty.charm is new: say what its smiles may be")


def test_the_order_of_examples_is_nothing_nor_is_their_place_in_memory(measure):
    """What is of an example moves with it; all else stays."""
    order = np.random.default_rng(9).permutation(EXAMPLES)
    plain = compiled(measure)(arrays(measure))
    moved = compiled(measure)(arrays(measure, lambda value, axis: value.take(order, axis)))

    def follow(leaf):
        return leaf[order] if np.shape(leaf)[:1] == (EXAMPLES,) else leaf

    def strided(value, axis):
        view = np.repeat(value, 2, axis).swapaxes(0, axis)[::2].swapaxes(0, axis)
        assert not view.flags.c_contiguous
        return view

    assert_close(moved, jax.tree.map(follow, plain))
    assert_close(compiled(measure)(arrays(measure, strided)), plain)


@pytest.mark.slow
def test_plain_calls_agree_with_compiled_ones(measure):
    assert_close(measure.made, compiled(measure)(arrays(measure)))


def test_vmap_over_members_agrees_with_a_loop(measure):
    """Or, of what looks at values, say so. Members of other predictions have another measure."""
    first = arrays(measure)
    second = {
        name: np.roll(value, 2 * place + 1, axis(name))
        for place, (name, value) in enumerate(first.items())
    }
    if is_on_host(measure):
        with pytest.raises(TypeError, match=rf"^{next(iter(first))}: "):
            jax.jit(lambda member: call(measure, member))(first)
        return
    members = jax.tree.map(lambda *pair: np.stack(pair), first, second)
    mapped = jax.jit(jax.vmap(lambda member: call(measure, member)))(members)
    for index, member in enumerate((first, second)):
        of_member = [leaf[index] for leaf in jax.tree.leaves(mapped)]
        assert_close(of_member, compiled(measure)(member))
    assert any((leaf[0] != leaf[1]).any() for leaf in jax.tree.leaves(mapped))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_dtype_follows_the_predictions(measure, dtype):
    """Of half precision it is float32: the number of many examples would not fit."""
    lower = arrays(measure, lambda value, _: value.astype(dtype) if value.dtype == float else value)
    if is_on_host(measure):
        return  # these are numbers of Python
    found = jax.eval_shape(lambda lower: call(measure, lower), lower)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} <= {np.dtype(np.float32), np.dtype(bool)}


def test_one_example_has_a_measure_and_none_has_not(measure):
    """Of one class there is no ranking, NaN; and a distance takes two points, of two classes."""
    one = arrays(measure, lambda value, axis: value.take([2], axis))
    if is_on_host(measure):
        with pytest.raises(ValueError, match=r"^(points|labels): "):
            call(measure, one)
    else:
        is_nan = measure.name.startswith("ranking.")
        for leaf in jax.tree.leaves(compiled(measure)(one)):
            assert (np.isnan(leaf) if is_nan else np.isfinite(leaf)).all()
    with pytest.raises(ValueError, match=rf"^({'|'.join(one)}): "):
        call(measure, arrays(measure, lambda value, axis: value.take([], axis)))


def wrong_values(name, value):
    """What no argument of this name may be, with the error."""
    largest = value == value.max()
    nan, infinite = (np.where(largest, number, value) for number in (np.nan, np.inf))
    short, integers = value.take(range(EXAMPLES - 1), axis(name)), np.ones(value.shape, int)
    match name:
        case "labels":
            return [(short, ValueError), (value / 1, TypeError), (value > 0, TypeError)]
        case "positive":
            return [(short, ValueError), (integers, TypeError)]
        case "scores":
            return [(nan, ValueError), (value + 0j, TypeError)]
        case "costs":
            return [(each, ValueError) for each in (short, nan, infinite)] + [
                (value + 0j, TypeError)
            ]
        case "temperature":
            return [(short, ValueError), (nan, ValueError), (-value, ValueError)]
        case _:
            return [
                (nan, ValueError),
                (infinite, ValueError),
                (integers, TypeError),
                (value + 0j, TypeError),
            ]


def wrong_ranks(measure, name, value):
    """One axis more and none; where there may be any number of axes, none."""
    takes_any = "*" in str(inspect.signature(measure.function).parameters[name].annotation)
    return [value.flat[0]] if takes_any else [value.flat[0], value[None]]


def test_predictions_that_do_not_fit_are_named(measure):
    for name, value in arrays(measure).items():
        wrong = wrong_values(name, value)
        if name != "temperature":  # of which there may be one for all
            wrong += [(each, ValueError) for each in wrong_ranks(measure, name, value)]
        for bad, error in wrong:
            with pytest.raises(error, match=rf"\b{name}\b"):
                call(measure, {name: bad})


def test_numbers_out_of_range_are_named(measure):
    labels = measure.arguments.get("labels", np.zeros(1, int))
    wrong = {
        "labels": [labels - 1, labels + 1],
        "k": [0, CLASSES + 1, 1.5],
        "coverage": [-0.1, 1.1, np.nan],
        "risk": [np.nan],
    }
    if is_on_host(measure):
        return  # any integers are labels
    for name in wrong.keys() & measure.arguments.keys():
        for bad in wrong[name]:
            with pytest.raises(ValueError, match=rf"^{name}: "):
                call(measure, {name: bad})


def test_huge_numbers_are_no_nan(measure):
    """Logits, scores and costs may have any size."""
    large = {"logits", "scores", "costs"} & measure.arguments.keys()
    huge = {name: 1e150 * measure.arguments[name] for name in large}
    for leaf in jax.tree.leaves(compiled(measure)(arrays(measure) | huge)):
        assert not np.isnan(leaf).any()
