"""The neural tangent kernel of a network of finite width, at its present parameters.

With outputs f_k and parameters theta, in whatever parametrisation the network has,

    Theta[i, j, k, l] = sum_p  d f_k(x_i) / d theta_p   d f_l(x'_j) / d theta_p.

`ntk` forms it, by contracting Jacobians or column by column; `matvec` multiplies by it and never
forms it. Both take `apply(params, inputs) -> outputs`, batch axis first, and are linear algebra on
its derivatives: no random numbers, no state. An ensemble is a vmap over its stacked params.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkens.checks import check_finite

Apply = Callable[[Any, Array], Array]


def ntk(
    apply: Apply,
    params: Any,
    x1: Array,
    x2: Array | None = None,
    *,
    outputs: Literal["trace", "full"] = "trace",
    method: Literal["jacobian", "products"] = "jacobian",
) -> Float[Array, "n m ..."]:
    """The kernel between two batches of inputs: their parameter gradients' inner products.

    `outputs="trace"` is one kernel for all K outputs, (1 / K) sum_k Theta[i, j, k, k] (a mean: the
    kernel per logit, as neural-tangents' `trace_axes=(-1,)`); at infinite width all outputs agree
    and it is the NTK. `outputs="full"` is Theta itself, `[n, m, *outputs, *outputs]`.

    `method="jacobian"` holds the Jacobians of both batches, (n + m) K P numbers for P parameters,
    and contracts them: for small networks. `method="products"` holds K P numbers: one input of
    `x2` at a time, its K gradients pushed forward through all of `x1`, which costs m K forward
    derivatives of a batch in sequence, and fits wherever the network does.

    Args:
        apply: `(params, inputs) -> outputs`, `[n, *outputs]`. Each output may depend on its own
            input only: no batch statistics.
        params: pytree of real floating point arrays, of one dtype or several.
        x1: inputs `[n, ...]`.
        x2: inputs `[m, ...]`; `None` means `x1`, and the kernel is symmetric.
        outputs: `"trace"` or `"full"`.
        method: `"jacobian"` or `"products"`; they agree to rounding.

    Returns:
        `[n, m]`, or `[n, m, *outputs, *outputs]`, in the dtype of the network's outputs.

    Raises:
        TypeError: params with leaves that cannot be differentiated; outputs that are not real.
        ValueError: an unknown option; inputs that do not match, are none or not finite; outputs
            without the batch axis.
    """
    if outputs not in ("trace", "full"):
        raise ValueError(f"outputs must be 'trace' or 'full', got {outputs!r}")
    if method not in ("jacobian", "products"):
        raise ValueError(f"method must be 'jacobian' or 'products', got {method!r}")
    shape, dtype = _check(apply, params, x1, x2)
    x2 = x1 if x2 is None else x2
    trace = outputs == "trace"

    gram = _by_jacobian if method == "jacobian" else _by_products
    theta = gram(apply, params, x1, x2, trace).astype(dtype)
    return theta / math.prod(shape) if trace else theta.reshape(len(x1), len(x2), *shape, *shape)


def matvec(
    apply: Apply,
    params: Any,
    vector: Float[Array, "m ..."],
    x1: Array,
    x2: Array | None = None,
) -> Float[Array, "n ..."]:
    """The product of the full kernel with a vector: sum_jl Theta[i, j, k, l] vector[j, l].

    One reverse pass over `x2` and one forward derivative over `x1`, J(x1) (J(x2)^T vector), at a
    few times the cost and memory of evaluating the network; `x2=None` means `x1`. The first-order
    change of the outputs at `x1` under a gradient step on `x2`.

    Args:
        apply: as in `ntk`.
        params: as in `ntk`.
        vector: of the shape of the outputs at `x2`, `[m, *outputs]`.
        x1: inputs `[n, ...]`.
        x2: inputs `[m, ...]`, or `None`.

    Returns:
        An array of the shape and dtype of the outputs at `x1`.

    Raises:
        TypeError: as in `ntk`.
        ValueError: as in `ntk`; `vector` is not finite, or not of the shape of the outputs at `x2`.
    """
    shape, dtype = _check(apply, params, x1, x2)
    expected = (len(x1 if x2 is None else x2), *shape)
    if vector.shape != expected:
        raise ValueError(
            f"vector must have the shape of the outputs at {'x1' if x2 is None else 'x2'}, "
            f"{expected}, got {vector.shape}"
        )
    check_finite("vector", vector)
    forward = _linearize(apply, params, x1)
    backward = forward if x2 is None else _linearize(apply, params, x2)
    (gradient,) = jax.linear_transpose(backward, params)(vector.astype(dtype))
    return forward(gradient)


def _by_jacobian(apply: Apply, params: Any, x1: Array, x2: Array, trace: bool) -> Array:
    """Jacobians of both batches, contracted leaf by leaf."""

    def rows(inputs: Array) -> list[Float[Array, "n k p"]]:
        def one(example: Array) -> Any:
            return jax.jacrev(lambda params: apply(params, example[None]).ravel())(params)

        jacobian = jax.tree.leaves(jax.vmap(one)(inputs))
        return [leaf.reshape(*leaf.shape[:2], -1) for leaf in jacobian]

    left = rows(x1)
    right = left if x2 is x1 else rows(x2)
    subscripts = "ikp,jkp->ij" if trace else "ikp,jlp->ijkl"
    dtype = jnp.result_type(jnp.float32, *left)  # sums over bfloat16 leaves are not bfloat16
    grams = [
        jnp.einsum(subscripts, *pair, precision="highest", preferred_element_type=dtype)
        for pair in zip(left, right, strict=True)
    ]
    return functools.reduce(jnp.add, grams)


def _by_products(apply: Apply, params: Any, x1: Array, x2: Array, trace: bool) -> Array:
    """One input of `x2` at a time: its gradients, pushed forward through all of `x1`."""
    forward = _linearize(apply, params, x1)

    def columns(example: Array) -> Array:
        outputs, pullback = jax.vjp(lambda params: apply(params, example[None]), params)
        basis = jnp.eye(outputs.size, dtype=outputs.dtype).reshape(-1, *outputs.shape)
        products = jax.vmap(lambda cotangent: forward(*pullback(cotangent)))(basis)
        products = products.reshape(outputs.size, len(x1), outputs.size)
        return jnp.einsum("kik->i", products) if trace else jnp.einsum("lik->ikl", products)

    return jnp.moveaxis(jax.lax.map(columns, x2), 0, 1)


def _linearize(apply: Apply, params: Any, inputs: Array) -> Callable[[Any], Array]:
    """The derivative of the outputs as a linear function of a change in the params."""
    _, forward = jax.linearize(lambda params: apply(params, inputs), params)
    return forward


def _check(
    apply: Apply, params: Any, x1: Array, x2: Array | None
) -> tuple[tuple[int, ...], jnp.dtype]:
    """Shape of one example's outputs and their dtype, after checking the arguments."""
    for name, inputs in (("x1", x1), ("x2", x2)):
        if inputs is not None:
            if not jnp.ndim(inputs) or not jnp.size(inputs):
                raise ValueError(f"{name} must be [n, ...], got shape {jnp.shape(inputs)}")
            check_finite(name, inputs)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ValueError("params has no leaves, so there is nothing to differentiate by")
    for path, leaf in leaves:
        if not jnp.issubdtype(dtype := jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} must be real floating point, got {dtype}; "
                f"close over what is not trained: lambda params, x: apply((params, rest), x)"
            )
    if x2 is not None and (x1.shape[1:], x1.dtype) != (x2.shape[1:], x2.dtype):
        raise ValueError(
            f"x2 must match x1 after the batch axis, {x1.dtype}{list(x1.shape[1:])}, "
            f"got {x2.dtype}{list(x2.shape[1:])}"
        )
    outputs = jax.eval_shape(apply, params, x1)
    if not hasattr(outputs, "shape") or outputs.shape[:1] != x1.shape[:1]:
        found = getattr(outputs, "shape", type(outputs).__name__)
        raise ValueError(f"apply must return an array [{len(x1)}, ...] for x1, got {found}")
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise TypeError(f"apply must return real floating point outputs, got {outputs.dtype}")
    return outputs.shape[1:], outputs.dtype
