"""Checks at the door of every predictor: shapes and dtypes always, values where they are known."""

import jax.numpy as jnp
import numpy as np

from ntkens.checks import check_finite, is_concrete
from ntkens.kernels import Operator


def check_shape(name, array, shape):
    """A `ValueError` that names the argument unless it has this shape."""
    if jnp.shape(array) != tuple(shape):
        raise ValueError(f"{name}: got shape {jnp.shape(array)}, wants {tuple(shape)}")


def check_operator(operator):
    """A `TypeError` unless it is one: a matrix is not."""
    if not isinstance(operator, Operator):
        raise TypeError(
            f"operator: got {type(operator).__name__}, wants an `Operator`, as "
            "`solve.dense(matrix)` or `blocks.operator(kernel_fn, x)` makes one"
        )


def check_real(name, array):
    """A `TypeError` that names the argument if it is complex: a cast would drop half of it."""
    if jnp.iscomplexobj(array):
        raise TypeError(f"{name}: got complex numbers, wants real ones")


def check_values(name, array, shape):
    """A `ValueError` that names the argument unless it has this shape and finite values."""
    check_real(name, array)
    check_shape(name, array, shape)
    check_finite(name, array)


def checked_kernel(name, kernel):
    """A kernel of some inputs with themselves as an array: floating, square, finite, symmetric."""
    check_real(name, kernel)
    kernel = jnp.asarray(kernel)
    if not jnp.issubdtype(kernel.dtype, jnp.floating):
        raise TypeError(f"{name}: got dtype {kernel.dtype}, wants floating point")
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not kernel.size:
        raise ValueError(
            f"{name}: got shape {kernel.shape}, wants [n n]: one array, of inputs with themselves"
        )
    check_finite(name, kernel)
    if is_concrete(kernel):
        values = np.asarray(kernel)
        asymmetry = np.max(np.abs(values - values.T)) / (np.max(np.abs(values)) or 1)
        if asymmetry > 1000 * jnp.finfo(kernel.dtype).eps:
            raise ValueError(
                f"{name}: not symmetric (largest difference {asymmetry:.3g} of its largest "
                "entry); a kernel of inputs with themselves is"
            )
    return kernel


def checked_training_set(name, kernel, targets, ridge):
    """The train kernel, targets and ridge as arrays of one dtype, or the error that names one."""
    kernel, ridge = checked_kernel(name, kernel), jnp.asarray(ridge)
    if kernel.dtype not in (jnp.float32, jnp.float64):  # what LAPACK factorises
        raise TypeError(f"{name}: got dtype {kernel.dtype}, wants 32 or 64 bits")
    check_real("targets", targets)
    if not jnp.ndim(targets) or len(targets) != len(kernel):
        raise ValueError(
            f"targets: got shape {jnp.shape(targets)}, wants ({len(kernel)}, ...): one row for "
            f"each training input of {name}"
        )
    check_shape("ridge", ridge, ())
    targets, ridge = jnp.asarray(targets, kernel.dtype), jnp.asarray(ridge, kernel.dtype)
    check_finite("targets", targets)
    if is_concrete(ridge) and not 0 <= np.asarray(ridge) < np.inf:
        raise ValueError(f"ridge: got {ridge}, wants a finite number of at least 0")
    return kernel, targets, ridge


def checked_cross(name, cross, targets, rows=None):
    """A test-train kernel as an array [m n] with as many columns as there are targets."""
    check_real(name, cross)
    cross = jnp.asarray(cross)
    if rows is None:
        rows = len(cross) if cross.ndim else 1
    wanted = (rows, len(targets))
    if cross.shape != wanted:
        raise ValueError(
            f"{name}: got shape {cross.shape}, wants {wanted}: test inputs in rows, training "
            "inputs in columns"
        )
    check_finite(name, cross)
    return cross
