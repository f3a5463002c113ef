"""Gram arrays of networks: infinite width (NNGP, NTK) and empirical.

Every network kernel is a `KernelFn`, whatever computes it; the modules are the API:
`from ntkens.kernels import dual, fully_connected`.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float


class Kernel(NamedTuple):
    """The two kernels of a network at infinite width, of unit outputs (per logit).

    Attributes:
        nngp: covariance of the outputs of a random network.
        ntk: inner product of the gradients of an output with respect to all parameters.
    """

    nngp: Float[Array, "n m"]
    ntk: Float[Array, "n m"]


KernelFn = Callable[..., Kernel]
"""`kernel_fn(x1, x2=None) -> Kernel`; `None` means x1 with itself: symmetric, exact diagonal."""
