"""Gram arrays of networks: infinite width (NNGP, NTK) and empirical.

Every network kernel is a `KernelFn`, whatever computes it; the modules are the API:
`from ntkens.kernels import dual, fully_connected`.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float, Int


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


class Operator(NamedTuple):
    """What a solver sees of a symmetric matrix that nobody need hold.

    Attributes:
        matvec: the matrix times a few vectors, [n k] -> [n k].
        diagonal: of the matrix.
        columns: indices [k] -> those columns of the matrix, [n k].
    """

    matvec: Callable[[Float[Array, "n k"]], Float[Array, "n k"]]
    diagonal: Float[Array, " n"]
    columns: Callable[[Int[Array, " k"]], Float[Array, "n k"]]
