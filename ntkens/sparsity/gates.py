"""Binary concrete gates: coins that can be differentiated, one for each weight.

A weight with the logit l is kept with probability sigmoid(l). Its gate, at temperature tau and for
u uniform on (0, 1), is one of

    "standard"  z = sigmoid((logit(u) + l) / tau)       arXiv:1611.00712, arXiv:1712.01312
    "authors"   z = sigmoid(logit(u) / tau + l)         the code of arXiv:2512.07142

As tau -> 0 the standard gate becomes the coin itself, and at every tau P(z > 1/2) = sigmoid(l). Of
the authors' P(z > 1/2) = sigmoid(tau l): their gates are nearer to fair coins than the sum of the
sigmoid(l), by which sparsity is controlled, says. Gates and logits are dicts as masks are, and
plain data.
"""

import functools
import operator
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ntkens.checks import is_concrete
from ntkens.sparsity import masks
from ntkens.sparsity.budgets import checked_density
from ntkens.sparsity.masks import Weights

Variant = Literal["standard", "authors"]

TEMPERATURE = 2 / 3
CLIP = 1e-10  # the least u, and the most is 1 less this: a logit is finite


def logits(weights: Weights, density: Float[Array, ""] | float) -> Weights:
    """The logits of gates that all open with one probability: log(density / (1 - density)).

    Args:
        weights: for keys, shapes and dtypes, which are those of the logits.
        density: in (0, 1); may be traced.

    Raises:
        ValueError: density out of range, where there is nothing to choose; no weights.
        TypeError: a density that is not one number.
    """
    if not weights:
        raise ValueError("weights: got none; want the kernels of params, masks.weights(params)")
    if is_concrete(density) and not checked_density(density) < 1:
        raise ValueError(
            f"density: got {density}; want less than 1: of all the weights there is no ticket to "
            "look for"
        )
    share = jnp.asarray(density)
    logit = jnp.log(share) - jnp.log1p(-share)
    return {name: jnp.full_like(weight, logit) for name, weight in weights.items()}


def expected(logits: Weights) -> Float[Array, ""]:
    """How many gates are expected to be open: the sum of sigmoid(l)."""
    return functools.reduce(
        operator.add, [jnp.sum(jax.nn.sigmoid(logit)) for logit in logits.values()]
    )


def apply(params: Any, gates: Weights) -> Any:
    """Params with each weight times its gate, all else untouched.

    Raises:
        ValueError: gates that do not match the weights of the params.
    """
    weights = masks.weights(params)
    masks.check_match("gates", gates, weights)
    return masks.replace(params, {name: weights[name] * gates[name] for name in weights})


def sample(
    key: Key[Array, ""],
    logits: Weights,
    *,
    temperature: Float[Array, ""] | float = TEMPERATURE,
    variant: Variant = "standard",
) -> Weights:
    """One gate in (0, 1) for each logit, differentiable in the logits; see the head of the module.

    Uniforms are drawn from [1e-10, 1 - 1e-10], as in the authors' code.

    Args:
        key: of all the gates.
        logits: one for each weight.
        temperature: tau, above 0; may be traced.
        variant: "standard" or "authors".

    Raises:
        ValueError: temperature or variant out of range.
    """
    if is_concrete(temperature) and not 0 < float(temperature) < np.inf:
        raise ValueError(f"temperature: got {temperature}; want a finite one above 0")
    if variant not in get_args(Variant):
        raise ValueError(f"variant: got {variant!r}; it is one of {get_args(Variant)}")

    def gate(key, logit):
        uniform = jax.random.uniform(key, logit.shape, logit.dtype, CLIP, 1 - CLIP)
        noise = jnp.log(uniform) - jnp.log1p(-uniform)
        tau = jnp.asarray(temperature, logit.dtype)
        if variant == "authors":
            return jax.nn.sigmoid(noise / tau + logit)
        return jax.nn.sigmoid((noise + logit) / tau)

    names = sorted(logits)  # as under jit, whatever the order they are given in
    keys = jax.random.split(key, len(names))
    return {name: gate(key, logits[name]) for key, name in zip(keys, names, strict=True)}
