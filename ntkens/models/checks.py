"""Checks at the door of every model."""

import jax.numpy as jnp
import numpy as np


def check_sizes(name, *sizes):
    """A `ValueError` that names the argument unless these are whole numbers of at least 1."""
    if not all(isinstance(size, int | np.integer) and size >= 1 for size in sizes):
        raise ValueError(f"{name}: got {sizes}; layers have a whole number of units, 1 or more")


def check_option(name, option, options):
    """A `ValueError` that names the argument unless it is one of the options."""
    if option not in options:
        raise ValueError(f"{name}: got {option!r}; it is one of {options}")


def check_floating(inputs, remedy):
    """A `TypeError` unless the inputs are floating point."""
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise TypeError(f"inputs: got dtype {inputs.dtype}; {remedy}")
