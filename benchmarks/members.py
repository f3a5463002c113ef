"""Training ensembles: against the core's own matrix products, and against the plain ways.

    python -m benchmarks.members                  # 1 minute; one core, float32
    python -m benchmarks.members --out results    # and append the numbers to results/

Networks of two layers, width 2048, on the 10 one-hot inputs with a permutation as targets, trained
by full-batch gradient descent.

1. The rate of 32 networks for 1000 steps. A network-step is counted as 10 k^2 n operations
   (forward and backward, without the gradient of the inputs), over the rate of a float32 matrix
   product measured in turn with it, on the same core. One-hot inputs spare 4 of the 10: a program
   that did its products at the full rate and nothing else would reach 10/6 = 1.67.
2. `members.map` against a loop of compiled calls, `lax.map` over members, and a `vmap` of all of
   them, at several sizes: the time over that of the fastest of the three, median of interleaved
   rounds.
"""

import os
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import threadpoolctl

from benchmarks import _record
from experiments import _environment
from ntkens import tree
from ntkens.models import mlp
from ntkens.training import gradient_descent, members

FEATURES, WIDTH, RATE_MEMBERS, RATE_STEPS = 10, 2048, 32, 1000
SIZES, SIZE_STEPS = (1, 2, 8, 32, 128), 100
ROUNDS, PRODUCT, PRODUCTS = 5, 1024, 20
LEAST_RATE, MOST_TIME = 0.40, 1.10  # what the two tables are judged by


def pin_to_one_core() -> int | None:
    """Keeps this process, and the threads that JAX starts later, on one core; where it can be.

    NumPy and SciPy have started the threads of their BLAS by then, and JAX's LAPACK is SciPy's.
    """
    threadpoolctl.threadpool_limits(1)
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def rounds(functions: dict) -> dict[str, list[float]]:
    """Seconds of each function, `ROUNDS` times in turn, after one call each to compile."""
    for function in functions.values():
        jax.block_until_ready(function())
    times = [{name: seconds(call) for name, call in functions.items()} for _ in range(ROUNDS)]
    return {name: [row[name] for row in times] for name in functions}


def trainer(steps: int):
    """The function of one member: params -> trained params and info."""
    model = mlp.mlp([WIDTH], outputs=FEATURES)
    targets = jnp.eye(FEATURES, dtype=jnp.float32)[::-1]
    every_one_hot: Any = range(FEATURES)

    def outputs(params):
        return model.apply(params, every_one_hot)

    return model, lambda params: gradient_descent.train(outputs, params, targets, 0.5, steps=steps)


def measure_rate() -> dict:
    model, train = trainer(RATE_STEPS)
    examples = jnp.eye(FEATURES, dtype=jnp.float32)
    params = members.init(model.init, jax.random.key(0), RATE_MEMBERS, examples)
    matrix = jax.random.normal(jax.random.key(1), (PRODUCT, PRODUCT), jnp.float32)
    product = jax.jit(lambda matrix: matrix @ matrix)

    times = rounds(
        {
            "products": lambda: [product(matrix) for _ in range(PRODUCTS)],
            "networks": lambda: members.map(train, params),
        }
    )
    product_rate = 2 * PRODUCT**3 * PRODUCTS / statistics.median(times["products"])
    networks = RATE_MEMBERS * RATE_STEPS / statistics.median(times["networks"])
    operations = 10 * FEATURES**2 * WIDTH
    pairs = zip(times["products"], times["networks"], strict=True)
    scale = operations * RATE_MEMBERS * RATE_STEPS / (2 * PRODUCT**3 * PRODUCTS)
    return {
        "product_gflops": product_rate / 1e9,
        "network_steps_per_second": networks,
        "counted_gflops": networks * operations / 1e9,
        "ratio": statistics.median(scale * product / network for product, network in pairs),
    }


def measure_sizes() -> list[dict]:
    model, train = trainer(SIZE_STEPS)
    one, plain_map, all_at_once = (
        jax.jit(train),
        jax.jit(lambda params: jax.lax.map(train, params)),
        jax.jit(jax.vmap(train)),
    )
    rows = []
    for size in SIZES:
        examples = jnp.eye(FEATURES, dtype=jnp.float32)
        params = members.init(model.init, jax.random.key(0), size, examples)
        apart = tree.unstack(params)
        calls = {
            "members": lambda params=params: members.map(train, params),
            "loop": lambda apart=apart: [one(single) for single in apart],
            "lax.map": lambda params=params: plain_map(params),
            "vmap": lambda params=params: all_at_once(params),
        }
        times = rounds(calls)
        ours = times.pop("members")
        best = min(times, key=lambda name: statistics.median(times[name]))
        pairs = zip(ours, times[best], strict=True)
        rows.append(
            {
                "members": size,
                "milliseconds": 1e3 * statistics.median(ours),
                **{name: 1e3 * statistics.median(values) for name, values in times.items()},
                "best": best,
                "ratio": statistics.median(mine / theirs for mine, theirs in pairs),
            }
        )
    return rows


def verdict(holds: bool) -> str:
    return "reached" if holds else "NOT reached"


def report(rate: dict, sizes: list[dict]) -> None:
    print(f"\n{RATE_MEMBERS} networks, k = {FEATURES}, width {WIDTH}, {RATE_STEPS} steps, float32")
    print(f"  matrix product, {PRODUCT}^3    {rate['product_gflops']:8.1f} GFLOP/s")
    print(f"  network-steps            {rate['network_steps_per_second']:8.0f} /s")
    print(f"  at 10 k^2 n operations   {rate['counted_gflops']:8.1f} GFLOP/s")
    judged = verdict(rate["ratio"] >= LEAST_RATE)
    print(f"  ratio                    {rate['ratio']:8.2f}    at least {LEAST_RATE:.2f}: {judged}")

    print(f"\nMilliseconds of {SIZE_STEPS} steps; the ratio is to the best of the other three")
    print(f"  {'members':>7} {'ours':>8} {'loop':>8} {'lax.map':>8} {'vmap':>8}  {'ratio':>5}")
    for row in sizes:
        times = (row[name] for name in ("milliseconds", "loop", "lax.map", "vmap"))
        cells = " ".join(f"{value:8.2f}" for value in times)
        judged = verdict(row["ratio"] <= MOST_TIME)
        print(
            f"  {row['members']:>7} {cells}  {row['ratio']:5.2f} to {row['best']}, "
            f"at most {MOST_TIME:.2f}: {judged}"
        )


def main() -> None:
    arguments = _record.parser("members", __doc__).parse_args()

    core = pin_to_one_core()
    environment = _environment.describe()
    jax_version = environment["versions"]["jax"]
    print(f"JAX {jax_version}, {environment['device']['kind']}, pinned to core {core}")
    rate, sizes = measure_rate(), measure_sizes()
    report(rate, sizes)
    _record.append(arguments.out, "members", environment | {"rate": rate, "sizes": sizes})


if __name__ == "__main__":
    main()
