"""The exact answers of the permutation task: moments and ensemble sizes, against their limits.

    python -m benchmarks.permutations                  # half a minute; one core, float64
    python -m benchmarks.permutations --out results    # and append the numbers to results/

1. Milliseconds for the moments and the number of networks needed at one k, compiled: at most 1.
2. Seconds for both panels of the paper's figure, exact, compilation included: at most 10.
"""

import statistics
import time

import jax

from benchmarks import _record
from benchmarks.members import pin_to_one_core, seconds, verdict
from experiments import _environment
from experiments import exact_permutations as script
from ntkens.ensembles import permutations

KS = (10, 100, 1000, 10_000, 100_000, 1_000_000)
CALLS = 200
MOST_MILLISECONDS, MOST_SECONDS = 1.0, 10.0


def measure_sizes() -> list[dict]:
    rows = []
    for k in KS:
        call = permutations.members_needed
        jax.block_until_ready(call(k, 2, 0.9, "ntk"))
        times = [seconds(call, k, 2, 0.9, "ntk") for _ in range(CALLS)]
        rows.append({"k": k, "milliseconds": 1e3 * statistics.median(times)})
    return rows


def measure_panels() -> float:
    start = time.perf_counter()
    for cell in script.plan(script.LAPTOP):
        if cell.key in ("exact", "accuracy"):
            list(script.measure(script.LAPTOP, cell))
    return time.perf_counter() - start


def main() -> None:
    arguments = _record.parser("permutations", __doc__).parse_args()
    core, environment = pin_to_one_core(), _environment.describe()
    print(f"JAX {environment['versions']['jax']}, pinned to core {core}")
    panels = measure_panels()  # first: compilation is part of it
    sizes = measure_sizes()
    judged = verdict(panels <= MOST_SECONDS)
    print(f"\nboth panels, exact: {panels:.1f} s, at most {MOST_SECONDS:.0f}: {judged}\n")
    print(f"  {'k':>9}  milliseconds, moments and members needed")
    for row in sizes:
        judged = verdict(row["milliseconds"] <= MOST_MILLISECONDS)
        print(f"  {row['k']:>9}  {row['milliseconds']:.3f}, at most {MOST_MILLISECONDS}: {judged}")
    _record.append(arguments.out, "permutations", environment | {"panels": panels, "sizes": sizes})


if __name__ == "__main__":
    main()
