"""What holds of every kernel: of each factory of `ntkens.kernels` that returns a `KernelFn`."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from ntkens import kernels
from ntkens.kernels import KernelFn, dual, rbf, stax

# neural-tangents reminds of the assumptions of a layer each time it is used.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:neural_tangents"),
]

GramFn = Callable[..., Float[Array, "n m"]]  # a kernel of no network is one array


def is_kernel(name, function):
    """By what it returns; and by its name, so that one without an annotation is not missed."""
    return function.__annotations__.get("return") in (KernelFn, GramFn) or name.endswith(
        "kernel_fn"
    )


def network():
    return stax.serial(stax.Dense(4, 1.2, 0.3), stax.Relu(), stax.Dense(1, 1.1))


ROOMS = {
    "kernel": {
        "within": kernels,
        "is_one": is_kernel,
        "arguments": {
            "dual": dual.relu,
            "depth": lambda: 2,
            "key": lambda: jax.random.key(1),
            "heads": lambda: 3,
            "network": network,
        },
        "variants": {
            "attention.kernel_fn": {"unbiased": {}, "biased": {"biased": lambda: True}},
        },
        "others": {"deep.kernel_fn": "logarithms of kernels on the sphere, in float64 alone"},
    }
}
SHAPES = {"attention": (3, 2)}  # of one input; of other kernels it is (3,)


def inputs(kernel, seed=0):
    """Five inputs that are apart."""
    shape = SHAPES.get(kernel.name.partition(".")[0], (3,))
    return np.random.default_rng(seed).normal(size=(5, *shape))


def grams(kernel):
    return (kernel,) if isinstance(kernel, jax.Array) else tuple(kernel)


def assert_close(found, expected, tolerance):
    """Relative to the largest entry of each Gram matrix."""
    for one, other in zip(grams(found), grams(expected), strict=True):
        scale = np.abs(np.asarray(other, float)).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


def rounding(kernel):
    """Some thousand eps; the diagonal of neural-tangents is good to 2e-8, as `stax` says."""
    return 1e-7 if kernel.name.startswith("stax.") else 1e-12


def test_every_kernel_is_tested(gaps, found):
    assert gaps["kernel"] == []
    assert found["kernel"] >= {"fully_connected.kernel_fn", "attention.kernel_fn", "stax.kernel_fn"}
    assert "rbf.kernel_fn" in found["kernel"]  # of no network


def test_a_kernel_born_today_is_asked_for_its_arguments(plant):
    def woven_kernel_fn(threads): ...

    def quilt(patches) -> KernelFn: ...

    (gap,) = plant("kernel", rbf, woven_kernel_fn)
    assert gap.startswith("rbf.woven_kernel_fn is new: say what its threads may be")
    (_, gap) = plant("kernel", rbf, quilt)
    assert gap.startswith("rbf.quilt is new: say what its patches may be")


def test_a_gram_matrix_is_symmetric_and_positive_semidefinite(kernel):
    """Also of inputs that coincide, that are opposite, and that are zero."""
    a, b, *_ = inputs(kernel)
    x = np.stack([a, b, a, -b, 0 * a])
    joint = kernel.made(x)
    for gram in grams(joint):
        assert (gram.shape, gram.dtype) == ((5, 5), jnp.float64)
        assert np.isfinite(gram).all()
        np.testing.assert_array_equal(gram, gram.T)
        eigenvalues = np.linalg.eigvalsh(gram)
        assert eigenvalues[0] > -rounding(kernel) * eigenvalues[-1]
        assert abs(gram[0, 0] - gram[0, 1]) > 1e-3 * eigenvalues[-1]  # it sees its inputs
        assert abs(gram[0, 0] - gram[0, 2]) < rounding(kernel) * eigenvalues[-1]
    blocks = [gram[:1, 1:] for gram in grams(joint)]
    assert_close(kernel.made(x[:1], x[1:]), blocks, rounding(kernel))


def test_strided_points_are_points(kernel):
    x = inputs(kernel)
    strided = np.repeat(np.repeat(x, 2, axis=0), 3, axis=-1)[::2, ..., ::3]
    assert not strided.flags.c_contiguous
    assert_close(kernel.made(strided), kernel.made(x), 0)


def test_jit_and_vmap_over_sets_agree_with_plain_calls(kernel):
    """Sets of one point and of four; a kernel of one point alone has one number."""
    first, second = inputs(kernel), inputs(kernel, seed=1)
    stacks = np.stack([first[:1], second[:1]]), np.stack([first[1:], second[1:]])
    mapped = grams(jax.jit(jax.vmap(kernel.made))(*stacks))
    for index in range(2):
        plain = kernel.made(stacks[0][index], stacks[1][index])
        assert_close([gram[index] for gram in mapped], plain, rounding(kernel))
    alone = jax.eval_shape(jax.vmap(kernel.made), stacks[0])
    assert {gram.shape for gram in jax.tree.leaves(alone)} == {(2, 1, 1)}


@pytest.mark.slow
def test_gradients_are_finite(kernel):
    """At inputs that are apart and at inputs that coincide; and not zero."""
    x = inputs(kernel)

    @jax.jit
    @jax.grad
    def slopes(x):
        return sum(jnp.sum(gram**2) for gram in grams(kernel.made(x)))

    for points in (x, np.concatenate([x[:4], x[:1]])):
        found = slopes(points)
        assert np.isfinite(found).all()
        assert (found != 0).any()


def test_the_dtype_follows_the_inputs(kernel):
    """Half precision has its own digits; those of float32 are tested with x64 off."""
    x = (inputs(kernel) / 2).astype(np.float16)
    found, exact = kernel.made(x), kernel.made(x.astype(float))
    assert {gram.dtype for gram in grams(found)} == {jnp.dtype(np.float16)}
    # A dozen roundings: of layers, of sums over tokens and of what they are multiplied by. But a
    # random kernel is that of weights drawn in this dtype, which are others.
    if "key" not in kernel.arguments:
        assert_close(found, exact, 12 * float(jnp.finfo(np.float16).eps))
    for second, dtype in ((None, np.float32), (x, np.float32), (x.astype(float), float)):
        shapes = jax.eval_shape(kernel.made, x.astype(np.float32), second)
        assert {gram.dtype for gram in jax.tree.leaves(shapes)} == {jnp.dtype(dtype)}


def test_inputs_that_do_not_fit_are_named(kernel):
    x = inputs(kernel)
    for bad, error in (
        (x[0], ValueError),  # wrong rank
        (x[0, ..., 0], ValueError),
        (x[:0], ValueError),  # no inputs
        (x[..., :0], ValueError),  # no features
        (np.ones(x.shape, int), TypeError),
        (np.ones(x.shape, bool), TypeError),
        (x + 0j, TypeError),
        (np.where(x == x.max(), np.nan, x), ValueError),
        (np.where(x == x.max(), np.inf, x), ValueError),
    ):
        with pytest.raises(error, match=r"\bx1\b"):
            kernel.made(bad)
        with pytest.raises(error, match=r"\bx2\b"):
            kernel.made(x, bad)
    with pytest.raises(ValueError, match=r"\bx2\b"):
        kernel.made(x, x[..., :-1])  # other features
    with pytest.raises(TypeError, match=r"\bx1\b"):
        jax.jit(kernel.made)(np.ones(x.shape, int))  # shapes and dtypes are known under jit too


def test_huge_inputs_have_a_kernel_or_are_refused(kernel):
    """Never an infinity or a NaN: what overflows is named, and what is larger overflows too."""
    x, messages = inputs(kernel), []
    for scale in (1e10, 1e40, 1e100, 1e150, 1e300):
        try:
            found = kernel.made(scale * x)
        except ValueError as error:
            messages.append(str(error))
            continue
        assert not messages
        assert all(np.isfinite(gram).all() for gram in grams(found))
    assert all(re.search(r"\bx1\b|overflows", message) for message in messages)
