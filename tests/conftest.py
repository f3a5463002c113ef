"""Strict JAX for every test: float64, no silent rank promotion, warnings are errors.

Three processes make up `make test`: this one; `tests/float32` with x64 off; and
`tests/multi_device` with four forced host devices. Each collects only its own tests.
"""

import gc
import os
import pathlib

os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax
import pytest
from hypothesis import settings

X64 = jax.config.read("jax_enable_x64")
DEVICES = "xla_force_host_platform_device_count=4" in os.environ.get("XLA_FLAGS", "")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_nans", False)  # NaN handling is itself tested

settings.register_profile("ntkens", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("ntkens")

process = "float32" if not X64 else "multi_device" if DEVICES else None
special = {"float32", "multi_device"}
collect_ignore = (
    sorted(special)
    if process is None
    else sorted(
        name
        for name in os.listdir(os.path.dirname(__file__))
        if name not in (process, "conftest.py") and not name.startswith("__")
    )
)


@pytest.fixture
def key() -> jax.Array:
    """A fixed typed key."""
    return jax.random.key(20250216)


def pytest_collection_modifyitems(items):
    """The longest files first: a process takes a file at a time, and all end together."""
    longest = ("test_experiments.py", "test_stax.py", "test_empirical.py", "test_readme.py")
    items.sort(key=lambda item: item.path.name not in longest)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Most of the time of tests is compilation, and a third of that is optimisation.

    It is left out but where precisions and devices are tested, and in files marked `optimised`:
    those whose last digits, symmetry to the bit or memory rest on what the compiler makes of them.
    """
    room = item.path.relative_to(os.path.dirname(__file__)).parts[0]
    is_quick = room not in special and item.get_closest_marker("optimised") is None
    jax.config.update("jax_disable_most_optimizations", is_quick)
    # Processes that a test starts compile in the same way, and so give the same bits.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(is_quick))


@pytest.fixture(autouse=True, scope="module")
def few_mappings():
    """Forgets compiled programs before there are too many of them.

    Each takes several mappings of memory, of which Linux gives a process 65,530; one that wants
    more crashes. A whole run of the tests would come to that.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()
