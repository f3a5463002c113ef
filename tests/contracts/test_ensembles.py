"""What holds of every aggregate, and of every certificate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from ntkens.ensembles import aggregate, certificates
from ntkens.ensembles.certificates import Certificate

MEMBERS, EXAMPLES, CLASSES = 3, 6, 4  # no two alike: an axis is known by its length
LEARNERS, DEGREE = 7, 2
PREDICTIONS = ("probabilities", "logits")  # members first, classes last
OF_MEMBERS = (*PREDICTIONS, "weights", "spread")


def probabilities(members=MEMBERS):
    return np.random.default_rng(0).dirichlet([0.5] * CLASSES, (members, EXAMPLES))


def logits(members=MEMBERS):
    """Of members that agree somewhat."""
    members, truth = np.random.default_rng(1).normal(size=(2, members, EXAMPLES, CLASSES))
    return members + 2 * truth[:1]


def returns_certificate(name, function):
    return function.__annotations__.get("return") is Certificate


ROOMS = {
    "combine": {
        "within": aggregate,
        "is_one": lambda name, function: True,
        "arguments": {
            "probabilities": probabilities,
            "logits": logits,
            "labels": lambda: np.random.default_rng(2).integers(0, CLASSES, EXAMPLES),
            "weights": lambda: np.random.default_rng(3).dirichlet([1.0] * MEMBERS),
        },
    },
    "certify": {
        "within": certificates,
        "is_one": returns_certificate,
        "arguments": {
            "logits": lambda: logits(LEARNERS),
            "spread": lambda: np.asarray(certificates.cyclic_spread(range(DEGREE), LEARNERS)),
        },
    },
}


@functools.cache
def compiled(combine):
    """Compiled whole: operation by operation, these small arrays take longer."""
    return jax.jit(lambda arguments: combine.function(**arguments))


def changed(arguments, change, names=OF_MEMBERS):
    """The arguments with a change to those that have a members axis, or to those named."""
    return {name: change(value) if name in names else value for name, value in arguments.items()}


def on_simplex(combine, result):
    """A result as probabilities: some are logarithms, and say so by their name."""
    return np.exp(result) if "log_" in combine.name else np.asarray(result)


def assert_close(found, expected, tolerance=1e-12):  # sums of a handful of terms, and logarithms
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_every_aggregate_and_certificate_is_tested(gaps, found):
    assert gaps == {"combine": [], "certify": []}
    assert found["combine"] >= {"aggregate.mean", "aggregate.log_mean", "aggregate.greedy_weights"}
    assert found["certify"] >= {"certificates.dpa", "certificates.fa_roe"}


def test_those_born_today_are_asked_for_their_arguments(plant):
    def jury(verdicts): ...

    def pledge(promises) -> Certificate: ...

    (gap,) = plant("combine", aggregate, jury)
    assert gap.startswith("aggregate.jury is new: say what its verdicts ")
    (gap,) = plant("certify", certificates, pledge)
    assert gap.startswith("certificates.pledge is new: say what its promises ")


def test_the_order_of_members_is_nothing_and_results_are_on_the_simplex(combine):
    order = np.array([2, 0, 1])
    plain = combine.made
    moved = compiled(combine)(changed(combine.arguments, lambda value: value[order]))
    is_weights = plain.shape == (MEMBERS,)
    assert is_weights or plain.shape == (EXAMPLES, CLASSES)
    assert_close(moved, plain[order] if is_weights else plain)
    assert (on_simplex(combine, plain) >= 0).all()
    assert_close(on_simplex(combine, plain).sum(axis=-1), 1)


def test_one_member_is_itself_and_so_are_members_that_agree(combine):
    one = changed(combine.arguments, lambda value: value[:1], PREDICTIONS)
    agreeing = changed(one, lambda value: np.repeat(value, MEMBERS, axis=0), PREDICTIONS)
    together = compiled(combine)(agreeing)
    alone = compiled(combine)(changed(one, lambda _: np.ones(1), ("weights",)))
    if alone.shape == (1,):  # weights
        assert_close(alone, 1)
        return
    member = one.get("probabilities", special.softmax(one.get("logits", 0), axis=-1))[0]
    expected = np.eye(CLASSES)[member.argmax(-1)] if combine.name.endswith("vote") else member
    assert_close(on_simplex(combine, alone), expected)
    assert_close(together, alone)


def test_jit_vmap_and_gradients(combine):
    names = [name for name in combine.arguments if name != "labels"]
    rest = {name: value for name, value in combine.arguments.items() if name == "labels"}
    first = [combine.arguments[name] for name in names]
    second = [value[::-1].copy() for value in first]

    @jax.jit
    @jax.vmap
    def both(*arrays):
        def total(arrays):
            result = combine.function(**dict(zip(names, arrays, strict=True)), **rest)
            return jnp.sum(jnp.sin(result)), result

        return jax.grad(total, has_aux=True)(arrays)

    slopes, results = both(*(np.stack(pair) for pair in zip(first, second, strict=True)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    assert_close(results[0], combine.made)
    if len(results[0]) == MEMBERS:
        assert_close(results[1], results[0][::-1])
    else:
        assert_close(results[1], results[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_dtype_follows_the_members(combine, dtype):
    lower = changed(combine.arguments, lambda value: value.astype(dtype))
    found = compiled(combine)(lower)
    assert found.dtype == dtype
    # A few roundings, of logarithms of up to -20 too. Greedy choices and votes are of whole
    # members: with so few digits they may be others.
    if found.shape != (MEMBERS,):
        exact = on_simplex(combine, combine.made)
        assert_close(on_simplex(combine, found), exact, 40 * float(jnp.finfo(dtype).eps))


def test_strided_members_are_members(combine):
    def strided(value):
        return np.asfortranarray(np.repeat(value, 2, axis=0))[::2]

    assert_close(combine.function(**changed(combine.arguments, strided)), combine.made, 0)


def test_members_that_do_not_fit_are_named(combine):
    for name, value in combine.arguments.items():
        if name not in PREDICTIONS:
            continue
        for bad, error in (
            (value[0, 0], ValueError),  # of one member's one example
            (value[:0], ValueError),  # no members
            (value[..., :0], ValueError),  # no classes
            (np.where(value == value.max(), np.nan, value), ValueError),
            (np.where(value == value.max(), np.inf, value), ValueError),
            (np.ones(value.shape, int), TypeError),
            (np.ones(value.shape, bool), TypeError),
            (value + 0j, TypeError),
        ):
            with pytest.raises(error, match=rf"^{name}: "):
                combine.function(**combine.arguments | {name: bad})


def test_no_examples_have_no_predictions(combine):
    """But weights are chosen by examples: of none there is no choice."""
    none = changed(combine.arguments, lambda value: value[:, :0], PREDICTIONS)
    if "labels" in none:
        with pytest.raises(ValueError, match=r"^probabilities: "):
            combine.function(**none | {"labels": none["labels"][:0]})
    else:
        assert combine.function(**none).shape == (0, CLASSES)


def test_huge_logits_are_certain(combine):
    if "logits" in combine.arguments:
        huge = combine.function(1e300 * combine.arguments["logits"])
        assert not np.isnan(huge).any()
        assert_close(on_simplex(combine, huge).sum(axis=-1), 1)


def test_a_certificate_is_a_class_and_a_number_of_samples(certify):
    prediction, radius = certify.made
    for array in (prediction, radius):
        assert (array.shape, array.dtype) == ((EXAMPLES,), jnp.int32)
    assert ((prediction >= 0) & (prediction < CLASSES)).all()
    assert ((radius >= 0) & (radius <= LEARNERS)).all()
    assert (radius > 0).any()  # else a bound of 0 everywhere would do


def test_the_order_of_examples_and_of_learners_is_nothing(certify):
    order = np.random.default_rng(4).permutation(EXAMPLES)
    moved = changed(certify.arguments, lambda value: value[:, order], ("logits",))
    for found, plain in zip(certify.function(**moved), certify.made, strict=True):
        np.testing.assert_array_equal(found, plain[order])
    order = np.random.default_rng(5).permutation(LEARNERS)
    moved = changed(certify.arguments, lambda value: value[order])
    for found, plain in zip(certify.function(**moved), certify.made, strict=True):
        np.testing.assert_array_equal(found, plain)


def elections():
    """Logits [learners examples classes] whose votes are 4, 2, 1 and 0: no tie in any round.

    The third class's voter prefers the first to the second, so that no run-off turns it over.
    """
    scores = np.random.default_rng(6).uniform(size=(LEARNERS, EXAMPLES, CLASSES))
    scores[:4, :, 0] += 9
    scores[4:6, :, 1] += 9
    scores[6, :, 2] += 9
    scores[6, :, 0] += 1
    return scores


def test_the_order_of_classes_is_nothing_where_there_are_no_ties(certify):
    """The prediction moves with its class. A radius may be others: ties go to smaller classes."""
    scores = elections()
    for shift in range(CLASSES):
        found = certify.function(**certify.arguments | {"logits": np.roll(scores, shift, axis=-1)})
        np.testing.assert_array_equal(found.prediction, shift)


def test_agreement_is_the_most_that_can_be_certified(certify):
    """No election is safer than a unanimous one; of two classes, more votes are never less safe.

    In plurality and run-off alike, for an odd number of learners: of 7 votes and of 8, which is
    what winning ties amounts to, the half and the quarter round up to the same.
    """
    unanimous = np.zeros((LEARNERS, EXAMPLES, CLASSES))
    unanimous[..., 1] = 1
    most = certify.function(**certify.arguments | {"logits": unanimous}).radius
    assert (most > 0).all()
    rng = np.random.default_rng(7)
    for agreement in (0, 0.5, 1, 2):
        scores = rng.normal(size=unanimous.shape) + agreement * unanimous
        found = certify.function(**certify.arguments | {"logits": scores})
        assert (found.radius <= most).all()

    first = np.arange(LEARNERS)[:, None] < 2 + np.arange(EXAMPLES)[None]  # 2, 3, ... 7 vote so
    two = np.stack([first, ~first], axis=-1).astype(float)
    found = certify.function(**certify.arguments | {"logits": two})
    majority = first.sum(axis=0) > LEARNERS / 2
    np.testing.assert_array_equal(found.prediction, ~majority)
    assert (np.diff(np.asarray(found.radius)[majority]) >= 0).all()
    assert found.radius[-1] > found.radius[majority.argmax()]


def test_certificates_are_the_same_under_jit_and_vmap_and_in_half_precision(certify):
    rest = {name: value for name, value in certify.arguments.items() if name != "logits"}
    scores = certify.arguments["logits"]
    mapped = jax.jit(jax.vmap(lambda logits: certify.function(logits=logits, **rest)))
    both = mapped(np.stack([scores[:, ::-1], scores]))
    for array, plain in zip(both, certify.made, strict=True):
        np.testing.assert_array_equal(array[0, ::-1], plain)
        np.testing.assert_array_equal(array[1], plain)
    lower = certify.function(logits=scores.astype(np.float16), **rest)  # it tells these apart
    for found, plain in zip(lower, certify.made, strict=True):
        np.testing.assert_array_equal(found, plain)


def test_logits_that_are_no_votes_are_named(certify):
    scores = certify.arguments["logits"]
    for bad, error in (
        (scores[0], ValueError),
        (scores[None], ValueError),
        (scores[:0], ValueError),
        (scores[:, :0], ValueError),
        (scores[..., :0], ValueError),
        (np.where(scores == scores.max(), np.nan, scores), ValueError),
        (np.ones(scores.shape, int), TypeError),
        (np.ones(scores.shape, bool), TypeError),
        (scores + 0j, TypeError),
    ):
        with pytest.raises(error, match=r"^logits: "):
            certify.function(**certify.arguments | {"logits": bad})


def test_a_single_class_and_infinite_logits_are_served(certify):
    alone = certify.function(**certify.arguments | {"logits": np.zeros((LEARNERS, 2, 1))})
    np.testing.assert_array_equal(alone, [[0, 0], [LEARNERS, LEARNERS]])
    scores = np.full((LEARNERS, EXAMPLES, CLASSES), -np.inf)
    scores[..., 2] = np.inf
    found = certify.function(**certify.arguments | {"logits": scores})
    np.testing.assert_array_equal(found.prediction, 2)
