"""What training with squared error has learned at a given time, in closed form.

The loss is 1/2 sum_i |f(x_i) - y_i|^2 + ridge/2 |params - params_0|^2: a sum over examples and
outputs, not an average, so that a network in the NTK regime follows df/dt = -Theta (f - y) and
its learning rate is stable below 2 / (lambda_max + ridge). To use the learning rate of a loss
that averages over n examples, divide it by n; neural-tangents averages over examples and outputs
(n outputs), so its time t is our time t / (n outputs).

With Theta the train NTK, r the ridge and A = Theta_xX psi(Theta),

    f_t(x) = f_0(x) + A (y - f_0(X)),
    psi(l) = (1 - exp(-(l + r) t)) / (l + r)              gradient flow for a time t,
    psi(l) = (1 - (1 - eta (l + r))^s) / (l + r)          s steps of gradient descent at rate eta,

Eqs. (14)-(15) of arXiv:1902.06720 (Lee et al. 2019). Factorise once, predict many times:

    flow = gradient_flow.fit(kernel.ntk, targets)
    gradient_flow.mean(flow, cross.ntk, time=jnp.inf)
    gradient_flow.mean(flow, cross.ntk, gradient_flow.Descent(steps=100, learning_rate=0.1))

All of it works under jit, vmap and grad, at repeated eigenvalues too; second derivatives with
respect to the kernel are an error. Under jit only shapes and dtypes are checked, not values.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ntkens.checks import is_concrete
from ntkens.predictors.checks import (
    check_shape,
    check_values,
    checked_cross,
    checked_kernel,
    checked_training_set,
)

# Eigenvalues carry an error of at most 2.4 eps lambda_max (measured for n <= 400 in both
# precisions); below this many of them an eigenvalue cannot be told from zero.
RESOLUTION = 10.0

_product = functools.partial(jnp.matmul, precision="highest")

# Gauss-Legendre on (0, 1): exact to 2e-16 for exp(-z u), 0 <= z <= 1. Python numbers keep dtypes.
_points, _weights = np.polynomial.legendre.leggauss(6)
QUADRATURE = list(zip(((_points + 1) / 2).tolist(), (_weights / 2).tolist(), strict=True))


class GradientFlow(NamedTuple):
    """The training set as the flow sees it.

    Attributes:
        kernel: the train NTK, exactly symmetric.
        eigenvalues: its eigenvalues, ascending.
        eigenvectors: its eigenvectors, in columns.
        targets: the targets, in the dtype of the kernel.
        ridge: the penalty on the distance from initialisation.
    """

    kernel: Float[Array, "n n"]
    eigenvalues: Float[Array, " n"]
    eigenvectors: Float[Array, "n n"]
    targets: Float[Array, "n *outputs"]
    ridge: Float[Array, ""]


class Descent(NamedTuple):
    """A moment of gradient descent in discrete steps, to be given in the place of a time.

    Attributes:
        steps: an integer number of steps.
        learning_rate: for the summed loss; stable below 2 / (lambda_max + ridge).
    """

    steps: Int[ArrayLike, ""]
    learning_rate: Float[ArrayLike, ""]


Time = Float[ArrayLike, ""] | Descent


def fit(
    kernel: Float[Array, "n n"],
    targets: Float[Array, "n *outputs"],
    *,
    ridge: Float[ArrayLike, ""] = 0.0,
) -> GradientFlow:
    """Factorise the train NTK: O(n^3) once; each prediction then costs O(n^2) per test point.

    Args:
        kernel: NTK of the training inputs, positive semi-definite.
        targets: one row per training input; any axes after the first are outputs. They are cast
            to the dtype of the kernel, which is the dtype of all that follows.
        ridge: strength of ridge/2 |params - params_0|^2, at least 0.

    Raises:
        ValueError: shapes do not match; kernel or targets hold NaN or infinities; the kernel is
            not symmetric or has a negative eigenvalue; the ridge is negative.
        TypeError: the kernel is not floating point.
    """
    kernel, targets, ridge = checked_training_set("kernel", kernel, targets, ridge)
    kernel = (kernel + kernel.T) / 2
    eigenvectors, eigenvalues = jax.lax.linalg.eigh(kernel, symmetrize_input=False)
    if is_concrete(eigenvalues):
        smallest, largest = np.asarray(eigenvalues)[[0, -1]]
        if smallest < -RESOLUTION * jnp.finfo(kernel.dtype).eps * largest:
            raise ValueError(
                f"kernel: its smallest eigenvalue is {smallest:.3g} (largest {largest:.3g}), and "
                "an NTK has none below zero. Computed in float32? Turn on x64: "
                'jax.config.update("jax_enable_x64", True)'
            )
    return GradientFlow(kernel, eigenvalues, eigenvectors, targets, ridge)


def mean(
    flow: GradientFlow, cross: Float[Array, "m n"], time: Time = jnp.inf
) -> Float[Array, "m *outputs"]:
    """The ensemble mean of the outputs, E f_t(x) = Theta_xX psi(Theta) y.

    Networks start from outputs of mean zero; for one network see `outputs`.

    Args:
        flow: from `fit`.
        cross: NTK of test inputs (rows) with training inputs (columns).
        time: learning rate times steps, a scalar from 0 to infinity; or a `Descent`. For many
            times, vmap.

    Raises:
        ValueError: shapes do not match; `cross` holds NaN; the time is negative; the learning
            rate diverges; or the time is so large that directions in which the kernel is
            singular matter (at infinity: any). Under jit such predictions are NaN, except that a
            diverging learning rate diverges.
    """
    cross = checked_cross("cross", cross, flow.targets)
    return _predict(flow, cross, time, flow.targets)


def outputs(
    flow: GradientFlow,
    cross: Float[Array, "m n"],
    time: Time = jnp.inf,
    *,
    initial_train: Float[Array, "n *outputs"],
    initial_test: Float[Array, "m *outputs"],
) -> Float[Array, "m *outputs"]:
    """One network's outputs, f_t(x) = f_0(x) + Theta_xX psi(Theta) (y - f_0(X)).

    Args:
        flow: from `fit`; with the NTK of that network, it is its linearisation.
        cross: NTK of test inputs (rows) with training inputs (columns).
        time: as for `mean`.
        initial_train: the network's outputs at initialisation, on the training inputs.
        initial_test: the same on the test inputs.

    Raises:
        ValueError: as for `mean`; initial outputs are not of the shape of the targets, or hold NaN.
    """
    cross = checked_cross("cross", cross, flow.targets)
    check_values("initial_train", initial_train, flow.targets.shape)
    check_values("initial_test", initial_test, (len(cross), *flow.targets.shape[1:]))
    return initial_test + _predict(flow, cross, time, flow.targets - initial_train)


def covariance(
    flow: GradientFlow,
    cross: Float[Array, "m n"],
    time: Time = jnp.inf,
    *,
    nngp_train: Float[Array, "n n"],
    nngp_cross: Float[Array, "m n"],
    nngp_test: Float[Array, "m m"],
) -> Float[Array, "m m"]:
    """The ensemble covariance of each output; different outputs are independent.

    K_xx - A K_Xx - (A K_Xx)^T + A K_XX A^T, with K the NNGP kernel: the covariance of
    f_0(x) - A f_0(X). Eq. (15) of arXiv:1902.06720.

    Args:
        flow: from `fit`.
        cross: NTK of test inputs (rows) with training inputs (columns).
        time: as for `mean`.
        nngp_train: NNGP kernel of the training inputs.
        nngp_cross: NNGP kernel of test inputs (rows) with training inputs (columns).
        nngp_test: NNGP kernel of the test inputs.

    Raises:
        ValueError: as for `mean`; the shapes of the kernels do not match, or one holds NaN, or
            is not symmetric.
        TypeError: a kernel is not floating point.
    """
    cross = checked_cross("cross", cross, flow.targets)
    nngp_cross = checked_cross("nngp_cross", nngp_cross, flow.targets, rows=len(cross))
    nngp_train = checked_kernel("nngp_train", nngp_train)
    nngp_test = checked_kernel("nngp_test", nngp_test)
    check_shape("nngp_train", nngp_train, flow.kernel.shape)
    check_shape("nngp_test", nngp_test, (len(cross), len(cross)))
    smoother = _filtered(flow, _checked_time(flow, time), cross.T)  # A^T
    mixed = _product(nngp_cross, smoother)
    spread = _product(smoother.T, _product(nngp_train, smoother))
    return nngp_test - (mixed + mixed.T) + (spread + spread.T) / 2


def _predict(flow, cross, time, residual):
    """A applied to a residual on the training set, of the shape of the targets."""
    coefficients = _filtered(flow, _checked_time(flow, time), residual.reshape(len(residual), -1))
    return _product(cross, coefficients).reshape(len(cross), *residual.shape[1:])


def _filtered(flow, when, vectors):
    return _filter(flow.kernel, flow.eigenvalues, flow.eigenvectors, flow.ridge, when, vectors)


def _apply(eigenvalues, eigenvectors, ridge, when, vectors):
    """psi(kernel) @ vectors, from the eigen-decomposition of the kernel."""
    weights = _psi(eigenvalues, ridge, when, _resolution(eigenvalues))
    return _product(eigenvectors, weights[:, None] * _product(eigenvectors.T, vectors))


@jax.custom_jvp
def _filter(kernel, eigenvalues, eigenvectors, ridge, when, vectors):
    """`_apply`, with the derivative with respect to the kernel at any spectrum.

    Daleckii and Krein 1965: d psi(K) = V (psi[l_i, l_j] * V^T dK V) V^T, elementwise in the
    divided differences of psi. They are smooth where eigenvalues meet; the derivatives of
    eigenvalues and eigenvectors are not, and the rule leaves them out. A second derivative would
    need them.
    """
    del kernel  # only its tangent matters
    return _apply(eigenvalues, eigenvectors, ridge, when, vectors)


@functools.partial(_filter.defjvp, symbolic_zeros=True)
def _(primals, tangents):
    _, eigenvalues, eigenvectors, *rest = primals
    eigenvalues, eigenvectors = _differentiable_once(eigenvalues, eigenvectors)
    kernel_dot, _, _, *rest_dot = tangents
    value, value_dot = jax.jvp(
        functools.partial(_apply, eigenvalues, eigenvectors),
        rest,
        jax.tree.map(_materialised, rest_dot),
    )
    if not _is_zero(kernel_dot):  # spare three products of n x n matrices where only time varies
        ridge, when, vectors = rest
        rotated = _product(_product(eigenvectors.T, kernel_dot), eigenvectors)
        response = rotated * _divided_differences(eigenvalues, ridge, when)
        coefficients = _product(response, _product(eigenvectors.T, vectors))
        value_dot = value_dot + _product(eigenvectors, coefficients)
    return value, value_dot


@jax.custom_jvp
def _differentiable_once(*spectrum):
    return spectrum


@_differentiable_once.defjvp
def _(primals, tangents):
    raise NotImplementedError(
        "kernel: gradient_flow has no second derivatives with respect to the kernel, since "
        "eigenvectors have none where eigenvalues meet; at infinite time, use posterior"
    )


def _is_zero(tangent):
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _materialised(tangent):
    return np.zeros(tangent.shape, tangent.dtype) if _is_zero(tangent) else tangent


def _psi(eigenvalues, ridge, when, resolution):
    """What training has made of each eigendirection, over its rate; NaN if undetermined."""
    rates, horizon = eigenvalues + ridge, _horizon(when, resolution)
    learned = _descended(rates, *when) if isinstance(when, Descent) else _flowed(rates, horizon)
    return jnp.where((rates <= resolution) & (horizon * resolution > 1), jnp.nan, learned)


def _flowed(rates, time):
    """(1 - exp(-rate time)) / rate, and where that cancels the integral of exp(-rate u)."""
    early = jnp.abs(time * rates) < 1
    slow, fast = jnp.where(early, rates, 0), jnp.where(early, 1, rates)
    integral = _integral(lambda u: jnp.exp(-u * time * slow))
    return jnp.where(early, time * integral, -jnp.expm1(-time * fast) / fast)


def _descended(rates, steps, learning_rate):
    """(1 - (1 - eta rate)^s) / rate, where that cancels as the integral of its derivative."""
    step = learning_rate * rates
    early, short = jnp.abs(steps * step) < 1, jnp.abs(step) < 0.5
    early &= short  # after no step or one, the exponent below is negative or the answer exact
    slow, fast = jnp.where(early, step, 0), jnp.where(early, 1, rates)
    integral = _integral(lambda u: jnp.exp((steps - 1) * jnp.log1p(-u * slow)))
    left = steps * jnp.log1p(-jnp.where(short, step, 0))
    learned = jnp.where(short, -jnp.expm1(left), 1 - (1 - step) ** steps)
    return jnp.where(early, learning_rate * steps * integral, learned / fast)


def _divided_differences(eigenvalues, ridge, when):
    """(psi(l_i) - psi(l_j)) / (l_i - l_j), and its limit psi'(l_i) where they meet.

    Eigenvalues closer than a tenth of the scale on which psi varies take the mean of psi' over
    the interval between them (Genocchi and Hermite); all are right to 5e-15 in float64 (measured).
    """
    resolution = _resolution(eigenvalues)
    horizon = _horizon(when, resolution)

    def psi(points):
        return _psi(points, ridge, when, resolution)

    scale = eigenvalues + ridge
    if isinstance(when, Descent):  # psi varies quickly towards the edge of stability too
        scale = jnp.minimum(scale, 2 / when.learning_rate - scale)
    scale = jnp.maximum(scale, 1 / horizon)
    first, second = eigenvalues[:, None], eigenvalues[None, :]
    difference = first - second
    near = jnp.abs(difference) < 0.1 * jnp.maximum(scale[:, None], scale[None, :])
    values = psi(eigenvalues)
    quotient = (values[:, None] - values[None, :]) / jnp.where(near, 1, difference)
    segment = jnp.where(near, difference, 0)
    slope = _integral(lambda u: jax.jvp(psi, (second + u * segment,), (jnp.ones_like(segment),))[1])
    return jnp.where(near, slope, quotient)


def _integral(function):
    """Over (0, 1)."""
    return sum(weight * function(node) for node, weight in QUADRATURE)


def _horizon(when, resolution):
    """The training time; infinity stands for one after which no resolved rate has anything left."""
    if isinstance(when, Descent):
        return when.learning_rate * when.steps
    return jnp.minimum(when, 800 / resolution)  # exp(-800) is 0 in float64


def _resolution(eigenvalues):
    return RESOLUTION * jnp.finfo(eigenvalues.dtype).eps * jnp.max(jnp.abs(eigenvalues))


def _checked_time(flow, when):
    """A time or `Descent` as arrays, checked against the spectrum as far as values are known."""
    dtype = flow.kernel.dtype
    if isinstance(when, Descent):
        steps, rate = jnp.asarray(when.steps), jnp.asarray(when.learning_rate, dtype)
        if not jnp.issubdtype(steps.dtype, jnp.integer):
            raise TypeError(f"steps: got dtype {steps.dtype}; steps are counted in integers")
        when = Descent(steps, rate)
        scalars = {"steps": steps, "learning_rate": rate}
    else:
        when = jnp.asarray(when, dtype)
        scalars = {"time": when}
    for name, scalar in scalars.items():
        if scalar.ndim:
            raise ValueError(f"{name}: got shape {scalar.shape}, wants a scalar; vmap over many")
        if is_concrete(scalar) and not np.asarray(scalar) >= 0:
            raise ValueError(f"{name}: got {scalar}, wants at least 0")
    if is_concrete(flow, when):
        _check_outcome(flow, when)
    return when


def _check_outcome(flow, when):
    """The errors of a training that diverges, or that a singular kernel leaves undetermined."""
    eigenvalues, ridge = np.asarray(flow.eigenvalues), np.asarray(flow.ridge)
    smallest, largest = eigenvalues[0] + ridge, eigenvalues[-1] + ridge
    if isinstance(when, Descent):
        steps, rate = np.asarray(when.steps), np.asarray(when.learning_rate)
        horizon = rate * steps
        if rate * largest > 2:
            raise ValueError(
                f"learning_rate: got {rate:.6g}, at which descent diverges; it is stable up to "
                f"2 / (lambda_max + ridge) = {2 / largest:.6g} (for the summed loss)"
            )
    else:
        horizon = np.asarray(when)
    resolution = RESOLUTION * jnp.finfo(eigenvalues.dtype).eps * np.max(np.abs(eigenvalues))
    if smallest <= resolution and horizon * resolution > 1:
        raise ValueError(
            f"ridge: got {ridge:.3g} for a singular kernel (eigenvalues {smallest:.3g} to "
            f"{largest:.3g}, ridge included), with which training has no determined outcome at a "
            f"time above {1 / resolution:.3g}; fit with a ridge of {100 * resolution:.1e}, say, or "
            "stop earlier"
        )
