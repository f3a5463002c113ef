"""Kernels of a ReLU network against the bare Gram product and neural-tangents, on one core.

    python -m benchmarks.kernels                  # 2 minutes; one core, float32
    python -m benchmarks.kernels --out results    # and append the numbers to results/
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.kernels     # with huge pages

NNGP and NTK of depth 3 of n = 2000 and 8000 inputs in 784 dimensions, symmetric, against X X^T of
the same inputs at `precision="highest"`, in interleaved rounds: the median of the ratios. Inputs:

- "plain": normal, no near pairs;
- "points": 0.1% of the inputs are near duplicates of others, at relative distance 1e-4;
- "pairs": in 0.1% of all pairs the two are near duplicates, in groups of n / 1000.

The two results have 8 bytes a pair, and where the C library asks the kernel for that memory anew
at each call, as it does above 32 MB, its pages cost up to a third of the product at n = 2000; huge
pages avoid it, and the row says whether they were on. Errors are those of the cross kernel's pairs
against ours in float64 (itself tested against 40 digits), in units of sqrt(K_ii K_jj).
"""

import os
import statistics

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _record
from benchmarks.members import pin_to_one_core, seconds, verdict
from experiments import _environment
from ntkens.kernels import dual, fully_connected, stax

SIZES, WIDTH, DEPTH = (2000, 8000), 784, 3
ROUNDS = {2000: 15, 8000: 5}
CHECKED = 200  # inputs, of which all pairs are checked
MOST = {"cpu": 1.0, "gpu": 1.3}


def inputs(kind: str, n: int) -> np.ndarray:
    random = np.random.default_rng(n)
    x = random.normal(size=(n, WIDTH)).astype(np.float32)
    few = n // 1000
    if kind == "points":
        x[-few:] = x[:few] + 1e-4 * random.normal(size=(few, WIDTH))
    if kind == "pairs":
        x = x[np.arange(n) // few] + np.float32(1e-4) * random.normal(size=(n, WIDTH))
        x = random.permutation(x.astype(np.float32))
    return x


def peer():
    """The same network in neural-tangents itself: our door to it insists on float64."""
    layers = [stax.Dense(1, W_std=2**0.5)]
    for _ in range(DEPTH):
        layers += [stax.Relu(), stax.Dense(1, W_std=2**0.5)]
    _, _, kernel_fn = stax.serial(*layers)
    return jax.jit(lambda x1, x2=None: tuple(kernel_fn(x1, x2, ("nngp", "ntk"))))


def largest_error(kernel_fn, x) -> float:
    """Over nngp and ntk of the first inputs with the last, where "points" has its near pairs."""
    x1, x2 = x[:CHECKED], x[-CHECKED:]
    with jax.enable_x64(True):
        ours = fully_connected.kernel_fn(dual.relu(), DEPTH, 2**0.5)
        exact, *diagonals = (
            [np.asarray(part) for part in ours(*(np.asarray(a, float) for a in pair))]
            for pair in ((x1, x2), (x1,), (x2,))
        )
    got = kernel_fn(x1, x2)
    errors = []
    for index in (0, 1):
        one, two = (np.sqrt(np.diagonal(each[index])) for each in diagonals)
        error = np.abs(np.asarray(got[index], np.float64) - exact[index])
        errors.append(np.max(error / (one[:, None] * two[None, :])))
    return float(max(errors))


def measure(kind: str, n: int) -> dict:
    x = jnp.asarray(inputs(kind, n))
    product = jax.jit(lambda x: jnp.matmul(x, x.T, precision="highest"))
    ours = fully_connected.kernel_fn(dual.relu(), DEPTH, 2**0.5)
    calls = {"product": product, "ours": ours}
    if kind != "pairs":
        calls["neural_tangents"] = peer()
    row = {"inputs": kind, "n": n}
    for name, call in calls.items():
        row[f"{name}_first"] = seconds(call, x)
    rounds = [{name: seconds(call, x) for name, call in calls.items()} for _ in range(ROUNDS[n])]
    for name, call in calls.items():
        row[name] = statistics.median(each[name] for each in rounds)
        row[f"{name}_ratio"] = statistics.median(each[name] / each["product"] for each in rounds)
        if name != "product":
            row[f"{name}_error"] = largest_error(call, x)
    row["product_gflops"] = 2e-9 * n**2 * WIDTH / row["product"]
    print(describe(row), flush=True)
    return row


def describe(row: dict) -> str:
    most = MOST.get(jax.default_backend(), 1.3)
    text = (
        f"  {row['n']:>5} {row['inputs']:<7} product {1e3 * row['product']:7.1f} ms "
        f"({row['product_gflops']:.0f} GFLOP/s)   ours {row['ours_ratio']:5.2f} "
        f"(first call {row['ours_first']:.1f} s, error {row['ours_error']:.0e})"
    )
    if "neural_tangents" in row:
        text += (
            f"   neural-tangents {row['neural_tangents_ratio']:5.2f} "
            f"({row['neural_tangents_first']:.1f} s, {row['neural_tangents_error']:.0e})"
        )
    return f"{text}   at most {most:.1f}: {verdict(row['ours_ratio'] <= most)}"


def main() -> None:
    arguments = _record.parser("kernels", __doc__).parse_args()

    core = pin_to_one_core()  # before JAX starts its threads
    environment = _environment.describe()
    huge_pages = "hugetlb" in os.environ.get("GLIBC_TUNABLES", "")
    print(
        f"JAX {environment['versions']['jax']}, {environment['device']['kind']}, "
        f"{'not pinned' if core is None else f'pinned to core {core}'}, "
        f"huge pages {'on' if huge_pages else 'off'}; ratios to the product X X^T"
    )
    rows = [measure(kind, n) for n in SIZES for kind in ("plain", "points", "pairs")]
    _record.append(arguments.out, "kernels", environment | {"huge_pages": huge_pages, "rows": rows})


if __name__ == "__main__":
    main()
