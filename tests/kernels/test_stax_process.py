"""What only a fresh process can show: what is imported when, and what is left behind."""

import subprocess
import sys

import pytest

ROOTS = "{'tensorflow', 'tensorflow_datasets', 'neural_tangents', 'tf2jax'}"

USE_WITHOUT_TRACE = f"""
import sys
import jax, jax.extend.core, jax.interpreters.ad, jax.random

def state():
    modules = (jax, jax.core, jax.extend.core, jax.interpreters.ad, jax.random)
    return [dict(vars(module)) for module in modules]

import ntkens.kernels
from ntkens.kernels import stax
assert not {ROOTS} & set(sys.modules), "importing is not free"

jax.config.update("jax_enable_x64", True)
x = jax.random.normal(jax.random.key(0), (3, 4))
import jax.example_libraries.stax, jax.flatten_util  # parts of JAX that it imports
before, modules = state(), set(sys.modules)

network = stax.serial(stax.Dense(8), stax.Relu(), stax.Dense(1))

assert state() == before, "something stays lent to JAX"
new = {{name for name in set(sys.modules) - modules if name.startswith(("jax", "neural_tangents"))}}
assert "neural_tangents" in new
assert {{name for name in new if sys.modules[name].__spec__ is None}} == set(), "a stand-in stays"

assert stax.kernel_fn(network)(x).ntk.shape == (3, 3)
init, apply = stax.model(network)
assert apply(init(jax.random.key(1), x), x).shape == (3, 1)
assert {ROOTS} & set(sys.modules) == {{"neural_tangents"}}, "TensorFlow was imported"

import neural_tangents
assert neural_tangents.stax.Relu is stax.Relu
assert not hasattr(neural_tangents, "experimental")
"""

MISSING_OR_BROKEN = """
import sys
import jax, jax.extend.core, jax.numpy as jnp

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("neural_tangents", "tensorflow", "tensorflow_datasets"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import ntkens.kernels
from ntkens.kernels import stax

def first_use():
    before = {name for name in sys.modules if "neural_tangents" in name}, dict(vars(jax.core))
    try:
        stax.Dense(1)
    except ImportError as error:
        after = {name for name in sys.modules if "neural_tangents" in name}, dict(vars(jax.core))
        assert before == after, "a failed import leaves a trace"
        return str(error)

message = first_use()
assert "'neural_tangents' is not installed; pip install neural-tangents==0.6.5" in message, message
assert dir(stax) == ["kernel_fn", "model"]  # completion does not fail

sys.meta_path.pop(0)
name, lent = "Var", jax.extend.core.Var
del jax.extend.core.Var  # a JAX of the future
message = first_use()
assert f"does not import on JAX {jax.__version__}: " in message and "'Var'" in message, message

jax.extend.core.Var = lent
from jax.interpreters import ad
zero = ad.Zero
del ad.Zero  # a name that is not among those lent
message = first_use()
assert f"does not import on JAX {jax.__version__}: " in message and "'Zero'" in message, message

ad.Zero = zero
network = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1))
assert "Relu" in dir(stax)

jax.config.update("jax_enable_x64", False)
try:
    stax.kernel_fn(network)(jnp.ones((2, 3)))
except ValueError as error:
    assert 'jax.config.update("jax_enable_x64", True)' in str(error), error
else:
    raise AssertionError("float32 kernels are wrong and were given")
"""


def run(script: str) -> None:
    # Warnings are errors: neither the import nor a first use may emit one.
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_first_use_imports_no_tensorflow_and_leaves_jax_as_it_was():
    run(USE_WITHOUT_TRACE)


def test_missing_or_broken_library_is_named_at_first_use():
    run(MISSING_OR_BROKEN)
