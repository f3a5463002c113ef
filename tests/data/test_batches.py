import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ntkens.data import batches, offline


def rows_as_sets(indices):
    return [set(row[row >= 0].tolist()) for row in indices]


def test_an_epoch_is_a_permutation_of_its_own(key):
    orders = [np.asarray(batches.permutation(key, epoch, 50)) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(50))
    assert (orders[0] != orders[1]).any()
    assert (orders[1] != orders[2]).any()
    together = jax.jit(jax.vmap(lambda epoch: batches.permutation(key, epoch, 50)))
    np.testing.assert_array_equal(together(jnp.arange(3)), orders)


def test_a_bootstrap_leaves_out_as_many_as_it_should(key):
    """Of n examples (1 - 1/n)^n are expected to be left out, and every one is as likely."""
    n, draws = 20, 4000
    drawn = np.asarray(
        jax.vmap(lambda key: batches.bootstrap(key, n))(jax.random.split(key, draws))
    )
    assert drawn.shape == (draws, n)
    left_out = 1 - np.array([len(set(row)) for row in drawn.tolist()]) / n
    assert abs(left_out.mean() - (1 - 1 / n) ** n) < 5 * stats.sem(left_out)
    assert stats.chisquare(np.bincount(drawn.ravel(), minlength=n)).pvalue > 1e-4


def test_the_part_is_the_sum_of_the_pixels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 4, 5, 3), np.uint8)
    expected = [sum(int(pixel) for pixel in image.ravel()) % 7 for image in images]
    np.testing.assert_array_equal(batches.partition(images, 7), expected)
    # As `tfds.load` scales them.
    floats = images.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(batches.partition(floats, 7), expected)
    order = rng.permutation(30)
    np.testing.assert_array_equal(
        batches.partition(images[order], 7), batches.partition(images, 7)[order]
    )


def test_digits_have_sixteen_levels(key):
    inputs = offline.digits(key).train.inputs
    expected = (16 * inputs).sum(axis=(1, 2, 3)) % 10
    np.testing.assert_array_equal(batches.partition(inputs, 10, levels=16), expected)
    with pytest.raises(ValueError, match=r"inputs: .* multiples of 1 / 255; state their levels"):
        batches.partition(inputs, 10)


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([0, 1, 128, 255]), min_size=3, max_size=3), st.integers(0, 1)
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([np.uint8, np.float32, np.float64]),
    st.randoms(use_true_random=False),
)
def test_the_order_by_content_is_pythons_and_forgets_the_order_given(examples, dtype, random):
    for _ in range(2):
        inputs = np.array([example[0] for example in examples]).astype(dtype)
        labels = np.array([example[1] for example in examples])
        order = batches.content_order(inputs, labels)
        found = [(inputs[i].tolist(), int(labels[i])) for i in order]
        assert found == sorted((list(image), label) for image, label in examples)
        np.testing.assert_array_equal(np.sort(order), np.arange(len(examples)))
        examples = random.sample(examples, len(examples))


def test_the_two_zeros_are_one_content():
    inputs, labels = np.array([[0.0, 2.0], [-0.0, 1.0]]), np.zeros(2, int)
    np.testing.assert_array_equal(batches.content_order(inputs, labels), [1, 0])


def test_parts_list_every_example_once_in_the_order_asked_for():
    assignment = np.array([2, 0, 1, 0, 2, 2])
    np.testing.assert_array_equal(
        batches.parts(assignment, 3), [[1, 3, -1], [2, -1, -1], [0, 4, 5]]
    )
    np.testing.assert_array_equal(
        batches.parts(assignment, 3, order=np.array([5, 4, 3, 2, 1, 0])),
        [[3, 1, -1], [2, -1, -1], [5, 4, 0]],
    )


def test_the_parts_of_digits_hold_the_same_examples_in_whatever_order_they_are_given(key):
    examples = offline.digits(key).train
    shuffle = np.asarray(jax.random.permutation(key, len(examples.labels)))

    def lists(inputs, labels):
        assignment = batches.partition(inputs, 20, levels=16)
        order = batches.content_order(inputs, labels)
        listed = batches.parts(assignment, 20, order=order)
        return np.where(listed[..., None] < 0, -1, inputs.reshape(-1, 64)[listed])

    np.testing.assert_array_equal(
        lists(*examples), lists(examples.inputs[shuffle], examples.labels[shuffle])
    )


def test_members_may_share_examples():
    """Finite aggregation: learner m learns from the buckets that `spread` gives it."""
    spread = np.array([[True, False, True], [False, True, True]])
    buckets = np.array([0, 1, 2, 2, 0])
    found = batches.indices(spread[:, buckets])
    np.testing.assert_array_equal(found, [[0, 2, 3, 4], [1, 2, 3, -1]])


def test_tasks_come_in_the_order_of_their_classes():
    labels = np.array([0, 3, 1, 2, 3, 0, 4])
    found = batches.tasks(labels, ((3, 1), (0, 2)))
    np.testing.assert_array_equal(found, [[1, 2, 4], [0, 3, 5]])  # and 4 is nobody's
    assert rows_as_sets(batches.tasks(labels, [[4], [0]])) == [{6}, {0, 5}]


def test_an_empty_part_is_named_or_allowed():
    assignment = np.array([0, 2, 2, 0, 0])
    with pytest.raises(ValueError, match=r"2 of 4 have no example, the first of them \[1, 3\]"):
        batches.parts(assignment, 4)
    np.testing.assert_array_equal(
        batches.parts(assignment, 4, allow_empty=True),
        [[0, 3, 4], [-1, -1, -1], [1, 2, -1], [-1, -1, -1]],
    )


IMAGES = np.zeros((4, 2, 2, 1), np.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: batches.partition(IMAGES, 5), ValueError, "parts: got 5; wants 1 to 4"),
        (lambda: batches.partition(IMAGES, 0), ValueError, "parts: got 0"),
        (lambda: batches.partition(IMAGES / 1, 2, levels=0), ValueError, "levels: got 0"),
        (lambda: batches.partition(IMAGES > 0, 2), TypeError, "inputs: got bool"),
        (lambda: batches.partition(IMAGES + 0.3, 2), ValueError, "inputs: got floats up to 0.5"),
        (lambda: batches.partition(IMAGES + np.nan, 2), ValueError, "inputs: holds NaN"),
        (
            lambda: batches.parts(np.array([0, 3]), 3),
            ValueError,
            "assignment: got values of 0 to 3",
        ),
        (lambda: batches.parts(np.array([0, -1]), 3), ValueError, "wants 0 to 2"),
        (lambda: batches.parts(np.array([0, 1]), 3), ValueError, "parts: got 3 for 2 examples"),
        (lambda: batches.parts(np.array([0.0, 1]), 2), TypeError, "assignment: got float64"),
        (lambda: batches.parts(np.array([0, 1]), 2, order=np.array([1, 1])), ValueError, "order"),
        (lambda: batches.indices(np.ones((2, 3))), TypeError, "membership: got float64"),
        (lambda: batches.indices(np.ones(3, bool)), TypeError, r"membership: .* \(3,\)"),
        (lambda: batches.content_order(IMAGES, np.arange(3)), ValueError, "labels: got 3"),
        (lambda: batches.tasks(np.array([0, -1]), [[0]]), ValueError, "labels: got values of -1"),
        (lambda: batches.tasks(np.arange(3), [[0, 1], [1]]), ValueError, r"got \[1\] more than"),
        (lambda: batches.tasks(np.arange(3), [[0], [7]]), ValueError, r"no example.*\[1\]"),
        (lambda: batches.tasks(np.arange(3), []), ValueError, "classes: got no tasks"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
