"""The one door to neural-tangents: its layers under their own names, its kernels as `KernelFn`.

neural-tangents 0.6.5 knows the infinite-width kernel of forty layer types. It is archived, and
reads names that JAX has since moved or removed. This module is its `stax` on today's JAX:

    from ntkens.kernels import stax

    network = stax.serial(stax.Conv(64, (3, 3)), stax.Relu(), stax.Flatten(), stax.Dense(1))
    nngp, ntk = stax.kernel_fn(network)(x1, x2)      # infinite width
    init, apply = stax.model(network)                # the same network at its stated widths
    params = init(jax.random.key(0), x1)

Every name of `neural_tangents.stax` is a name of this module. Importing it is free: the library
is imported at the first use of one of them, with the missing names lent to JAX for that moment,
and without TensorFlow. After that `import neural_tangents` works too. Where it is not installed,
or a new JAX has broken it, that first use raises an `ImportError` which says so; nothing else in
ntkens depends on it.

Convolutional kernels hold every pair of pixels of every pair of inputs: evaluate them in blocks.
"""

import contextlib
import difflib
import importlib
import itertools
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.core
import jax.extend.core
import jax.interpreters.ad
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkens.checks import check_finite, is_concrete
from ntkens.kernels import Kernel, KernelFn

_LOCK = threading.Lock()


def kernel_fn(network: tuple[Callable, Callable, Callable]) -> KernelFn:
    """The infinite-width kernels of a network, as `kernel_fn(x1, x2=None, **options) -> Kernel`.

    The limit takes every width to infinity, in the parametrisation that each layer was given
    (`"ntk"` unless told otherwise). Computed in float64 and returned in the dtype of the inputs.
    neural-tangents forms 1 - cosine by cancellation, so the ReLU NTK carries a relative error of
    about 2e-8 on the diagonal and at near-duplicates; in float32 it would be 5e-4, hence float64.

    Args:
        network: a layer, `(init_fn, apply_fn, kernel_fn)`: one of this module's, or several
            composed by `stax.serial`. Its outputs must be vectors, `[n, outputs]`.

    Returns:
        A pure function of inputs `[n, ..., channels]` and, optionally, `[m, ..., channels]`; with
        `x2=None` its arrays are symmetric. `options` go to neural-tangents: `pattern` for
        `stax.Aggregate`, `mask_constant` for padded inputs.

    Raises:
        TypeError: `network` is not such a triple, or the inputs are not floating point arrays.
        ValueError: x64 is off; shapes of the inputs disagree, or inputs are none or not finite;
            the outputs are not vectors; the kernel is not finite, as that of
            `stax.RectifiedMonomial` at coincident inputs (outside jit; under jit such entries are
            NaN).
    """
    _, _, layer_kernel_fn = _triple(network)

    def kernel(
        x1: Float[Array, "n ..."], x2: Float[Array, "m ..."] | None = None, **options: Any
    ) -> Kernel:
        x1, x2 = _inputs(x1, x2)
        both = layer_kernel_fn(x1, x2, ("nngp", "ntk"), **options)
        if not hasattr(both, "nngp") or both.nngp.ndim != 2:
            found = both.nngp.shape if hasattr(both, "nngp") else f"{len(both)} outputs"
            raise ValueError(
                f"network must map each input to one vector, so that its kernel is [n, m], got "
                f"{found}; end it with stax.Flatten(), stax.GlobalAvgPool() or a fan-in, and "
                f"stax.Dense(1)"
            )
        nngp, ntk = both.nngp, both.ntk
        if x2 is None:  # its products are symmetric to rounding only
            nngp, ntk = (nngp + nngp.T) / 2, (ntk + ntk.T) / 2
        dtype = x1.dtype if x2 is None else jnp.result_type(x1, x2)
        found = Kernel(nngp=nngp.astype(dtype), ntk=ntk.astype(dtype))
        _check_finite(found.nngp)
        _check_finite(found.ntk)
        return found

    return kernel


def model(network: tuple[Callable, Callable, Callable]) -> tuple[Callable, Callable]:
    """The finite network as `(init, apply)`; `Model(*stax.model(network))` names the two.

    `init(key, inputs) -> params` takes a `jax.random.key`, and of `inputs` the shape and the
    dtype, which is also that of the parameters. `apply(params, inputs, **options) -> outputs`
    returns that dtype too, though with x64 on neural-tangents computes some layers in float64;
    its `options` are `rng` for `stax.Dropout`, `pattern` for `stax.Aggregate` and
    `mask_constant` for padded inputs, whose outputs are zero where nothing else is left.

    Raises:
        TypeError: `network` is not a triple `(init_fn, apply_fn, kernel_fn)`, or the inputs are
            not floating point arrays.
    """
    init_fn, apply_fn, _ = _triple(network)
    apply_fn = _layers().unmask_fn(apply_fn)

    def init(key: Array, inputs: Float[Array, "n ..."]) -> Any:
        inputs = _floating("inputs", inputs)
        _, params = init_fn(key, inputs.shape)
        return jax.tree.map(lambda leaf: leaf.astype(inputs.dtype), params)

    def apply(params: Any, inputs: Float[Array, "n ..."], **options: Any) -> Array:
        inputs = _floating("inputs", inputs)
        return apply_fn(params, inputs, **options).astype(inputs.dtype)

    return init, apply


def __getattr__(name: str) -> Any:
    """A layer, or any other public name, of `neural_tangents.stax`."""
    if name.startswith("_"):  # Python and its tools ask for names like __path__: import nothing
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    layers = _layers()
    if not hasattr(layers, name):
        names = {known.lower(): known for known in __dir__()}
        close = difflib.get_close_matches(name.lower(), names)
        hint = f"did you mean {names[close[0]]!r}?" if close else "dir() of it lists what there is"
        raise AttributeError(f"module {__name__!r} has no layer {name!r}; {hint}")
    return getattr(layers, name)


def __dir__() -> list[str]:
    try:
        layers = [name for name in dir(_layers()) if not name.startswith("_")]
    except ImportError:  # completion at a prompt must not fail; using a layer will
        layers = []
    return sorted({"kernel_fn", "model", *layers})


def _triple(network: Any) -> tuple[Callable, Callable, Callable]:
    """`network`, checked to be what a neural-tangents layer is."""
    if not (isinstance(network, tuple) and len(network) == 3 and all(map(callable, network))):
        raise TypeError(
            f"network must be a triple (init_fn, apply_fn, kernel_fn), got {type(network).__name__}"
            f"; compose layers with stax.serial(stax.Dense(512), stax.Relu(), stax.Dense(1))"
        )
    return network


def _inputs(x1: Any, x2: Any) -> tuple[Array, Array | None]:
    """Both inputs as arrays, checked at the door."""
    x1, x2 = _floating("x1", x1), None if x2 is None else _floating("x2", x2)
    for name, inputs in (("x1", x1), ("x2", x1 if x2 is None else x2)):
        if inputs.ndim < 2 or not inputs.size:
            raise ValueError(
                f"{name} must be [n, ..., channels], got shape {inputs.shape}; none of them is 0"
            )
        check_finite(name, inputs)
    if x2 is not None and x2.shape[1:] != x1.shape[1:]:
        raise ValueError(
            f"x2 must have the shape of x1 after the batch axis, {x1.shape[1:]}, got {x2.shape[1:]}"
        )
    if jnp.result_type(float) != jnp.float64:
        raise ValueError(
            "stax kernels need float64: in float32 the diagonal is wrong by 5e-4; turn it on with "
            'jax.config.update("jax_enable_x64", True); the inputs may stay in float32'
        )
    return x1, x2


def _floating(name: str, inputs: Any) -> Array:
    """`inputs` as an array, checked to be of floating point."""
    inputs = jnp.asarray(inputs)
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating point, got {inputs.dtype}; cast it first")
    return inputs


def _check_finite(kernel: Float[Array, "n m"]) -> None:
    """Raise at the first entry that is not finite, where values can be seen."""
    if is_concrete(kernel) and not jnp.all(jnp.isfinite(kernel)):
        row, column = (int(index[0]) for index in jnp.nonzero(~jnp.isfinite(kernel)))
        raise ValueError(
            f"the kernel is not finite at [{row}, {column}]: it overflows {kernel.dtype}, or a "
            f"layer is undefined there (in neural-tangents RectifiedMonomial is at coincident "
            f"inputs, Monomial and Polynomial are at zero inputs)"
        )


def _layers() -> types.ModuleType:
    """`neural_tangents.stax`, imported at the first call.

    Raises:
        ImportError: it is not installed, or does not import on this JAX; the message says which.
    """
    with _LOCK:  # what is lent to JAX is seen by every thread
        loaded = sys.modules.get("neural_tangents.stax")
        return loaded if loaded is not None else _import_layers()


def _import_layers() -> types.ModuleType:
    """Import neural-tangents with the names lent that JAX has taken from it since."""
    before = set(sys.modules)
    try:
        with contextlib.ExitStack() as loans:
            # Moved to jax.extend.core.
            for name in ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var"):
                value = getattr(jax.extend.core, name)
                loans.enter_context(_lend(jax.core.__dict__, name, value))
            # Removed. A primitive that no program contains any more: only ever a dictionary key.
            loans.enter_context(_lend(jax.interpreters.ad.__dict__, "zeros_like_p", object()))
            # Removed. The two functions of it that are used are map and zip that check lengths.
            loans.enter_context(_lend(sys.modules, "jax.util", _jax_util()))
            # The TensorFlow interoperation, which importing the package would import.
            experimental = "neural_tangents.experimental"
            loans.enter_context(_lend(sys.modules, experimental, types.ModuleType(experimental)))
            package: Any = importlib.import_module("neural_tangents")
        del package.experimental  # the empty stand-in: the real one can now be imported
    except (ImportError, AttributeError) as error:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "neural_tangents":
                del sys.modules[name]
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and missing.partition(".")[0] != "jax":
            raise ImportError(
                f"ntkens.kernels.stax needs neural-tangents, and the module {missing!r} is not "
                f"installed; pip install neural-tangents==0.6.5",
                name=missing,
            ) from error
        raise ImportError(
            f"neural-tangents does not import on JAX {jax.__version__}: {error}; the rest of "
            f"ntkens works without it; for ntkens.kernels.stax use a JAX that it knows, 0.10 to "
            f"0.12",
            name="neural_tangents",
        ) from error
    return package.stax


@contextlib.contextmanager
def _lend(owner: dict[str, Any], name: str, value: Any) -> Iterator[None]:
    """Put `value` under `name` for the duration, unless the name is taken."""
    if name in owner:
        yield
        return
    owner[name] = value
    try:
        yield
    finally:
        del owner[name]


def _jax_util() -> types.ModuleType:
    """A stand-in for the removed module `jax.util`."""

    def safe_zip(*sequences):
        return list(zip(*sequences, strict=True))

    def safe_map(function, *sequences):
        return list(itertools.starmap(function, safe_zip(*sequences)))

    module = types.ModuleType("jax.util")
    vars(module).update(safe_map=safe_map, safe_zip=safe_zip)
    return module
