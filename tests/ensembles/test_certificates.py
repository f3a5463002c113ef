"""Certificates against brute force: every replacement of every touched learner, ties included."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.ensembles import certificates, elections

CERTIFICATES = {
    "dpa": certificates.dpa,
    "dpa_roe": certificates.dpa_roe,
    "fa": certificates.fa,
    "fa_roe": certificates.fa_roe,
}


# The oracle. An election depends on how many learners have each ranking of the classes, and an
# adversary who touches some learners swaps their rankings for any others.


def multisets(size, kinds):
    """Every way to draw so many of the kinds, as counts [ways, kinds]."""
    ways = itertools.combinations_with_replacement(range(kinds), size)
    return np.array([np.bincount(way, minlength=kinds) for way in ways]).reshape(-1, kinds)


def rankings(classes):
    return np.array(list(itertools.permutations(range(classes))))


def profile(logits):
    """Learners of each ranking, and each learner's: by logit, of equal ones the smaller class."""
    orders = rankings(logits.shape[1])
    ranked = np.lexsort((np.broadcast_to(np.arange(logits.shape[1]), logits.shape), -logits))
    kinds = (ranked[:, None] == orders).all(axis=2).argmax(axis=1)
    return np.bincount(kinds, minlength=len(orders)), kinds


def elect(profiles, classes, is_run_off):
    """The winner of each profile [profiles, rankings]."""
    orders = rankings(classes)
    votes = profiles @ (orders[:, :1] == np.arange(classes))
    by_votes = np.argsort(-votes, axis=1, kind="stable")
    if not is_run_off or classes == 1:
        return by_votes[:, 0]
    places = np.argsort(orders, axis=1)
    above = profiles @ (places[:, :, None] < places[:, None, :]).reshape(len(orders), -1)
    low, high = np.sort(by_votes[:, :2], axis=1).T
    rows = np.arange(len(profiles))
    for_low, for_high = above[rows, low * classes + high], above[rows, high * classes + low]
    return np.where(for_low >= for_high, low, high)


def brute_force_parts(logits, is_run_off, most):
    """Prediction and exact radius, the latter up to `most`, of one example [learners, classes]."""
    classes = logits.shape[1]
    held, _ = profile(logits)
    (prediction,) = elect(held[None], classes, is_run_off)
    for changed in range(1, min(most, len(logits)) + 1):
        given = multisets(changed, len(held))
        taken = given[(given <= held).all(axis=1)]
        after = (held + given[:, None] - taken).reshape(-1, len(held))
        if (elect(after, classes, is_run_off) != prediction).any():
            return prediction, changed - 1
    return prediction, most


def brute_force_buckets(logits, spread, is_run_off, most):
    """The same where changed buckets touch all learners that they feed."""
    classes = logits.shape[1]
    held, kinds = profile(logits)
    (prediction,) = elect(held[None], classes, is_run_off)
    for changed in range(1, min(most, spread.shape[1]) + 1):
        for buckets in itertools.combinations(range(spread.shape[1]), changed):
            touched = spread[:, buckets].any(axis=1)
            kept = np.bincount(kinds[~touched], minlength=len(held))
            after = kept + multisets(touched.sum(), len(held))
            if (elect(after, classes, is_run_off) != prediction).any():
                return prediction, changed - 1
    return prediction, most


def draw(rng, learners, examples, classes):
    """Logits of few values, so that learners tie and elections are close.

    In a third of the examples the last class is everyone's second choice, who could win a run-off.
    """
    logits = rng.integers(0, 4, (learners, examples, classes)).astype(float)
    logits += rng.choice([0, 0.5], (1, examples, classes))
    if classes > 2:
        logits[:, ::3, -1] = np.sort(logits[:, ::3, :-1], axis=2)[:, :, -2:].mean(axis=2)
    return logits


def margin(found, exact, most):
    """How much more an adversary needs than is certified; negative where unsound."""
    predictions, radii = np.array(exact).T
    np.testing.assert_array_equal(found.prediction, predictions)
    assert found.radius.min() >= 0
    return radii - np.minimum(found.radius, most)


@pytest.mark.parametrize(
    ("learners", "examples", "classes", "most"),
    [(8, 100, 3, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in
                       [(1, 50, 3, 1), (7, 300, 2, 3), (5, 1000, 3, 3), (11, 1000, 3, 3),
                        (9, 400, 4, 2), (7, 60, 4, 3)])],
)  # fmt: skip
def test_parts_against_every_replacement(learners, examples, classes, most):
    """Plurality exactly; the run-off soundly, and where it is not exact, one too small.

    That is 2 of 2100 such cases with three classes, and 20 of 460 with four.
    """
    logits = draw(np.random.default_rng(learners), learners, examples, classes)
    for name, is_run_off in (("dpa", False), ("dpa_roe", True)):
        exact = [brute_force_parts(logits[:, i], is_run_off, most) for i in range(examples)]
        left = margin(CERTIFICATES[name](logits), exact, most)
        assert left.min() == 0
        assert left.max() <= is_run_off
        assert (left > 0).mean() <= {2: 0, 3: 0.02, 4: 0.06}[classes]


@pytest.mark.parametrize(
    ("learners", "examples", "classes"),
    [(8, 100, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in
                   [(10, 300, 3), (6, 100, 4), (6, 200, 2)])],
)  # fmt: skip
def test_buckets_against_every_replacement(learners, examples, classes):
    """Two buckets changed, of those that feed two learners each: plurality exactly.

    The run-off is exact too, but for a case in hundreds.
    """
    logits = draw(np.random.default_rng(learners), learners, examples, classes)
    spread = np.asarray(certificates.cyclic_spread((0, 2), learners))
    for name, is_run_off in (("fa", False), ("fa_roe", True)):
        exact = [brute_force_buckets(logits[:, i], spread, is_run_off, 2) for i in range(examples)]
        left = margin(CERTIFICATES[name](logits, spread), exact, 2)
        assert left.min() == 0
        assert left.max() <= is_run_off
        assert (left > 0).mean() <= 0.01


@pytest.mark.parametrize(
    ("spread", "is_reachable"),
    [
        ([[1, 0, 0], [1, 0, 1], [0, 0, 1]], True),  # a bucket that feeds nobody
        ([[1, 1, 0], [0, 1, 1], [1, 1, 1]], True),  # learners counted twice
        ([[0, 0, 0], [0, 0, 0], [0, 1, 0]], False),  # most learners see no bucket
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], False),
    ],
)
@pytest.mark.parametrize("classes", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_any_spread_against_every_replacement(spread, is_reachable, classes):
    """Of any number of buckets; where none is enough the radius is the number of buckets."""
    spread = np.array(spread, bool)
    logits = draw(np.random.default_rng(0), 3, 40, classes)
    buckets = spread.shape[1]
    for name, is_run_off in (("fa", False), ("fa_roe", True)):
        exact = [brute_force_buckets(logits[:, i], spread, is_run_off, buckets) for i in range(40)]
        found = CERTIFICATES[name](logits, spread)
        assert margin(found, exact, buckets).min() == 0
        assert np.any(found.radius == buckets) == (classes == 1 or not is_reachable)


def test_one_class_cannot_be_moved():
    for name in ("dpa", "dpa_roe"):
        found = CERTIFICATES[name](np.zeros((4, 3, 1)))
        np.testing.assert_array_equal(found.prediction, [0, 0, 0])
        np.testing.assert_array_equal(found.radius, [4, 4, 4])


# The formulas, read off the docstrings and evaluated one example at a time: at sizes at which
# nothing can be enumerated.


def greedy(gap, powers):
    """How many of the powers, the largest first, reach the gap."""
    sums = np.concatenate([[0], np.cumsum(np.sort(powers)[::-1])])
    return int(np.argmax(sums >= gap)) if sums[-1] >= gap else len(powers) + 1


def literal(logits, spread, is_run_off):
    """Prediction and radius of one example by the docstrings of `fa` and `fa_roe`."""
    learners, classes = logits.shape
    vote = logits.argmax(axis=1)
    count = np.bincount(vote, minlength=classes)
    low, high = sorted(np.argsort(-count, kind="stable")[:2])

    def gap(c, d):
        return count[c] - count[d] + (d > c)

    def power(c, *rivals):
        worth = len(rivals) * (vote == c) + 1 - sum((vote == rival).astype(int) for rival in rivals)
        return spread.T.astype(int) @ worth

    def overtakes(c, d):
        return greedy(gap(c, d), power(c, d))

    if not is_run_off:
        c = int(count.argmax())
        return c, min(overtakes(c, d) for d in range(classes) if d != c) - 1
    above = logits[:, low] >= logits[:, high]
    c, second = (low, high) if 2 * above.sum() >= learners else (high, low)
    needed = []
    for d in set(range(classes)) - {c}:
        above = (logits[:, c] > logits[:, d]) | ((logits[:, c] == logits[:, d]) & (c < d))
        beaten = greedy(2 * above.sum() - learners + (d > c), spread.T.astype(int) @ (2 * above))
        replaced = overtakes(second, d) if d != second else 0
        needed.append(max(beaten, replaced))
    for d, e in itertools.combinations(set(range(classes)) - {c}, 2):
        both = greedy(gap(c, d) + gap(c, e), power(c, d, e))
        needed.append(max(overtakes(c, d), overtakes(c, e), both))
    return c, min(needed) - 1


@pytest.mark.parametrize("degree", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_the_formulas_at_large_sizes(degree):
    rng = np.random.default_rng(degree)
    logits = rng.integers(0, 9, (60, 200, 6)) + 8.0 * rng.random((1, 200, 6))
    logits[:, ::3, 5] = np.sort(logits[:, ::3, :5], axis=2)[:, :, -2:].mean(axis=2)  # as in `draw`
    shifts = rng.choice(60, degree, replace=False)
    spread = np.asarray(certificates.cyclic_spread(shifts, 60))
    for name, is_run_off in (("fa", False), ("fa_roe", True)):
        found = CERTIFICATES[name](logits, spread)
        expected = [literal(logits[:, i], spread, is_run_off) for i in range(200)]
        np.testing.assert_array_equal(np.stack(found, axis=1), expected)
        assert len(set(expected)) > 10


@pytest.mark.parametrize(
    ("learners", "classes"),
    [(8, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in
               [(39, 5), (16, 4), (1, 2)])],
)  # fmt: skip
def test_buckets_of_one_learner_are_parts(learners, classes):
    logits = draw(np.random.default_rng(0), learners, 100 if learners == 8 else 1000, classes)
    spread = certificates.cyclic_spread((learners // 2,), learners)
    for plain, shared in (("dpa", "fa"), ("dpa_roe", "fa_roe")):
        expected, found = CERTIFICATES[plain](logits), CERTIFICATES[shared](logits, spread)
        np.testing.assert_array_equal(found.prediction, expected.prediction)
        np.testing.assert_array_equal(found.radius, expected.radius)


def test_the_papers_table_is_the_maximum():
    """dp of the paper's recursion, against max(ceil(i / 2), ceil(j / 2), ceil((i + j) / 3))."""
    table = np.zeros((30, 30), int)
    for i, j in np.ndindex(30, 30):
        if i <= 1 or j <= 1:
            large = max(i, j)
            table[i, j] = (large + 1) // 2
            if i == j == 1:
                table[i, j] = 1
        else:
            table[i, j] = 1 + min(table[i - 2, j - 1], table[i - 1, j - 2])
    gaps = np.arange(30)
    halves, thirds = (np.asarray(certificates._each(n, gaps[:, None] + gaps)) for n in (2, 3))
    found = np.maximum(np.maximum(halves[0][:, None], halves[0]), thirds)
    np.testing.assert_array_equal(found, table)


def test_one_vote_later_the_certificate_fails():
    """Of plurality: radius votes for the runner-up change nothing, and one more changes all."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(51, 200, 4)) + rng.normal(size=(200, 4))
    found = certificates.dpa(logits)
    for example in range(200):
        c, radius = int(found.prediction[example]), int(found.radius[example])
        votes = logits[:, example].argmax(axis=1)
        after = np.zeros((2, 4), int)
        moved = []
        for rival in set(range(4)) - {c}:
            # those of the winner first, who are worth two votes each
            willing = np.argsort(np.where(votes == c, 0, np.where(votes == rival, 2, 1)))
            for place, changes in enumerate((radius, radius + 1)):
                bought = votes.copy()
                bought[willing[:changes]] = rival
                after[place] = np.bincount(bought, minlength=4)
            assert after[0].argmax() == c
            moved.append(after[1].argmax() != c)
        assert any(moved)


def test_a_bucket_later_the_certificate_fails():
    """Of disjoint buckets, whose powers add up exactly."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 100, 2)) + rng.normal(size=(100, 2))
    spread = np.kron(np.eye(10, dtype=bool), np.ones((4, 1), bool))
    found = certificates.fa(logits, spread)
    for example in range(100):
        c, radius = int(found.prediction[example]), int(found.radius[example])
        votes = logits[:, example].argmax(axis=1)
        best = np.argsort(-(spread.T.astype(int) @ (votes == c)))[: radius + 1]
        for buckets, moves in ((best[:radius], False), (best, True)):
            bought = np.where(spread[:, buckets].any(axis=1), 1 - c, votes)
            assert (np.bincount(bought, minlength=2).argmax() != c) == moves


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dpa", "dpa_roe", "fa", "fa_roe"])
def test_jit_vmap_and_chunks_change_nothing(name, monkeypatch):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(draw(rng, 7, 23, 3), jnp.float32)
    spread = (certificates.cyclic_spread((0, 1, 3), 7),) if name.startswith("fa") else ()
    expected = CERTIFICATES[name](logits, *spread)
    assert {array.dtype for array in expected} == {jnp.dtype(jnp.int32)}

    def check(found):
        jax.tree.map(np.testing.assert_array_equal, found, expected)

    check(jax.jit(lambda: CERTIFICATES[name](np.asarray(logits), *spread))())  # a constant
    stacked = jax.jit(jax.vmap(lambda logits: CERTIFICATES[name](logits, *spread)))(
        jnp.stack([logits[:, ::-1], logits])
    )
    check(jax.tree.map(lambda both: both[1], stacked))
    check(jax.tree.map(lambda both: both[0, ::-1], stacked))
    monkeypatch.setattr(certificates, "CHUNK", 150)
    jax.clear_caches()  # the chunk is not among what a compiled program is known by
    program = str(jax.make_jaxpr(CERTIFICATES[name])(logits, *spread))
    assert "7,23,3" in program
    assert "7,7,3" in program or "7,2,3" in program  # chunks that do not divide the examples
    check(CERTIFICATES[name](logits, *spread))


def test_the_boosted_ensemble_is_the_sum_of_logits():
    """Eight seeds that agree are one learner; a confident one outvotes unsure ones."""
    logits = np.random.default_rng(0).normal(size=(8, 100, 3))
    alike = certificates.dpa_roe(np.stack([logits] * 8).sum(axis=0))
    jax.tree.map(np.testing.assert_array_equal, alike, certificates.dpa_roe(logits))
    confident = np.zeros((8, 100, 3)) + [0.0, 0.0, 10.0]
    loud = certificates.dpa(np.stack([logits, confident]).sum(axis=0))
    assert np.all(loud.prediction == 2)


def test_the_second_round_may_cost_an_example_its_radius():
    """What a gain is claimed for is the mean, not each example."""
    logits = draw(np.random.default_rng(0), 8, 100, 3)
    plain, second = certificates.dpa(logits), certificates.dpa_roe(logits)
    same = plain.prediction == second.prediction
    assert not same.all()
    assert np.any(same & (second.radius < plain.radius))
    assert np.any(same & (second.radius > plain.radius))


def test_largest_first_against_sorting():
    rng = np.random.default_rng(0)
    powers = rng.integers(0, 12, (500, 9)) * rng.integers(0, 2, (500, 9))
    gaps = rng.integers(-3, 60, 500)
    found = elections.largest_first(jnp.asarray(gaps, jnp.int32), jnp.asarray(powers, jnp.int32))
    expected = [greedy(max(gap, 0), power) for gap, power in zip(gaps, powers, strict=True)]
    np.testing.assert_array_equal(found, expected)
    assert 10 in expected  # out of reach
    assert 0 in expected


def test_buckets_feed_the_learners_they_are_shifted_to():
    spread = np.asarray(certificates.cyclic_spread([0, 2], 5))
    for bucket in range(5):
        assert set(np.flatnonzero(spread[:, bucket])) == {bucket, (bucket + 2) % 5}


def test_minus_infinity_is_a_logit():
    """As the logarithm of a probability that underflowed."""
    logits = np.array([[[-np.inf, 0.0, -1.0]], [[-np.inf, -np.inf, 0.0]], [[-np.inf, 1.0, 0.0]]])
    found = certificates.dpa_roe(logits)
    assert (found.prediction.item(), found.radius.item()) == (1, 0)


@pytest.mark.parametrize(
    ("spread", "error", "message"),
    [
        (np.eye(3), TypeError, "spread: got float"),
        (np.eye(4, dtype=bool), ValueError, r"spread: got shape \(4, 4\)"),
        (np.zeros((3, 0), bool), ValueError, "spread: got shape"),
        (np.ones(3, bool), ValueError, "spread: got shape"),
    ],
)
def test_a_spread_of_other_learners_is_refused(spread, error, message):
    for certificate in (certificates.fa, certificates.fa_roe):
        with pytest.raises(error, match=message):
            certificate(np.zeros((3, 2, 2)), spread)


@pytest.mark.parametrize(
    ("shifts", "learners", "message"),
    [
        ([0, 0], 5, "shifts: got"),
        ([], 5, "shifts: got"),
        ([5], 5, "want residues 0 to 4"),
        ([0.5], 5, "want residues"),
        ([-1], 5, "want residues"),
        ([0], 0, "learners: got 0"),
    ],
)
def test_shifts_that_are_no_spread_are_refused(shifts, learners, message):
    with pytest.raises(ValueError, match=message):
        certificates.cyclic_spread(shifts, learners)
