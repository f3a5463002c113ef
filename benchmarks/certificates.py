"""Certificates of large ensembles: seconds, seconds to compile, and memory beside the logits.

    python -m benchmarks.certificates                  # half a minute; all cores, float32
    python -m benchmarks.certificates --out results    # and append the numbers to results/

250 learners, 10,000 examples, 10 classes; for Finite Aggregation 250 buckets that feed 16 learners
each. Seconds are the median of interleaved rounds. Memory is what the compiled program allocates
for itself, at 10,000 examples and at 1,000: it must not grow with them.
"""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _record
from benchmarks.members import rounds, verdict
from experiments import _environment
from ntkens.ensembles import certificates

LEARNERS, EXAMPLES, CLASSES, DEGREE = 250, 10_000, 10, 16
MOST_SECONDS = {"dpa": 1.0, "dpa_roe": 1.0, "fa": 10.0, "fa_roe": 10.0}


def draw():
    """Logits of learners that are right more often than not, and a spread of random shifts."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(LEARNERS, EXAMPLES, CLASSES)).astype(np.float32)
    right = random.integers(0, CLASSES, EXAMPLES)
    logits[:, np.arange(EXAMPLES), right] += random.normal(1.0, 0.5, EXAMPLES).astype(np.float32)
    shifts = random.choice(LEARNERS, DEGREE, replace=False)
    return jnp.asarray(logits), certificates.cyclic_spread(shifts, LEARNERS)


def compiled(function, logits, *spread) -> tuple[float, float]:
    """Seconds to compile, and MiB that the program allocates for itself."""
    start = time.perf_counter()
    memory: Any = jax.jit(function).lower(logits, *spread).compile().memory_analysis()
    return time.perf_counter() - start, memory.temp_size_in_bytes / 2**20


def measure() -> list[dict]:
    logits, spread = draw()
    arguments = {name: (spread,) if name.startswith("fa") else () for name in MOST_SECONDS}
    functions = {name: getattr(certificates, name) for name in MOST_SECONDS}
    programs = {
        name: [
            compiled(functions[name], logits[:, :examples], *arguments[name])
            for examples in (EXAMPLES, EXAMPLES // 10)
        ]
        for name in functions
    }
    times = rounds(
        {
            name: lambda function=function, name=name: function(logits, *arguments[name])
            for name, function in functions.items()
        }
    )
    rows = []
    for name, function in functions.items():
        (compile_seconds, mebibytes), (_, of_a_tenth) = programs[name]
        radius = function(logits, *arguments[name]).radius
        rows.append(
            {
                "name": name,
                "seconds": statistics.median(times[name]),
                "compile_seconds": compile_seconds,
                "mebibytes": mebibytes,
                "mebibytes_of_a_tenth": of_a_tenth,
                "median_radius": float(np.median(radius)),
            }
        )
    return rows


def report(rows: list[dict], peak: dict) -> None:
    print(f"\n{LEARNERS} learners x {EXAMPLES} examples x {CLASSES} classes, {DEGREE} a bucket")
    print(f"  {'':<8} {'seconds':>8} {'compile':>8} {'MiB':>7} {'of 1/10':>7}")
    for row in rows:
        most = MOST_SECONDS[row["name"]]
        print(
            f"  {row['name']:<8} {row['seconds']:8.3f} {row['compile_seconds']:8.2f} "
            f"{row['mebibytes']:7.1f} {row['mebibytes_of_a_tenth']:7.1f}  "
            f"under {most:.0f} s: {verdict(row['seconds'] < most)}"
        )
    logits = 4 * LEARNERS * EXAMPLES * CLASSES / 2**20
    print(f"  peak of the process {peak['host'] / 2**20:.0f} MiB, the logits {logits:.0f} of them")


def main() -> None:
    arguments = _record.parser("certificates", __doc__).parse_args()
    environment = _environment.describe()
    device = _environment.device_name(environment["device"])
    print(f"JAX {environment['versions']['jax']}, {device}")
    rows = measure()
    peak = _environment.peak_bytes()
    report(rows, peak)
    _record.append(arguments.out, "certificates", environment | {"peak": peak, "rows": rows})


if __name__ == "__main__":
    main()
