"""What a network costs: its parameters, and the multiply-accumulates of one example."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from ntkens.models import Model


def parameters(params: Any) -> int:
    """Numbers that training may change: the sizes of all arrays, or of their shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def macs(model: Model, params: Any, inputs: Shaped[Array, "batch ..."]) -> int:
    """Multiply-accumulates of the forward pass of one example.

    Counted from the program itself: each entry of a matrix product costs the numbers it sums, and
    each entry of a convolution those under its kernel, k^2 channels / groups. Zeros that pad an
    image count, as they do in published tables. Sums of other kinds, normalisation and activations
    are free, as they are there. A loop counts every turn, a branch the dearest one.

    `params` and `inputs` may be `jax.ShapeDtypeStruct`s: nothing is computed. One multiply-
    accumulate is two floating point operations.

    Args:
        model: of which `apply` is counted.
        params: of the model.
        inputs: as the model takes them, batch first; the size of the batch does not matter.

    Raises:
        TypeError: inputs that are not an array or its shape and dtype.
        ValueError: a loop of unknown length with products in it.
    """
    if not hasattr(inputs, "shape") or not inputs.shape:
        raise TypeError(f"inputs: got {inputs}; they are an array [batch ...] or its shape")
    one = jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)
    return _of_program(jax.make_jaxpr(model.apply)(params, one))


def _of_program(program) -> int:
    return sum(_of_equation(equation) for equation in program.eqns)


def _of_equation(equation) -> int:
    name, entries = equation.primitive.name, math.prod(jnp.shape(equation.outvars[0].aval))
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return entries * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        # [features, channels / groups, size...] in this order, whatever the layout
        shape, order = equation.invars[1].aval.shape, equation.params["dimension_numbers"].rhs_spec
        return entries * math.prod(shape[axis] for axis in order[1:])
    inner = [_of_program(program) for program in _programs(equation.params)]
    if name == "while" and any(inner):
        raise ValueError(
            "model: its apply multiplies in a loop whose length is not known beforehand; count one "
            "turn, or write the loop as a scan"
        )
    if name == "cond":
        return max(inner)
    return sum(inner) * (equation.params["length"] if name == "scan" else 1)


def _programs(params):
    """The programs within an equation: bodies of jit, scan, cond, checkpoint and custom rules."""

    def is_program(value):
        return hasattr(value, "eqns")

    return filter(is_program, jax.tree.leaves(params, is_leaf=is_program))
