"""The Hilbert estimate against its own matrix product and scikit-learn's brute-force neighbours.

    python -m benchmarks.singular                  # half a minute; one core, float32
    python -m benchmarks.singular --out results    # and append the numbers to results/

10,000 training inputs of 784 pixels' width, 2,000 queries. Seconds over those of the bare product
`queries @ inputs.T`, and over those of `KNeighborsClassifier(1, algorithm="brute").predict`: the
median over rounds in which all take turns. Kinds of data:

- random: normal points, one-hot targets of 10 classes, or targets of -1 and 1;
- near: one query in a thousand lies on a training input, one in a thousand beside one;
- each near: every query has a training input beside it;
- clusters: 10 tight ones, so that a tenth of all pairs is computed from differences. Not judged.
"""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from benchmarks import _record
from benchmarks.members import pin_to_one_core, rounds, verdict
from experiments import _environment
from ntkens.kernels import singular
from ntkens.predictors import local

INPUTS, WIDTH, QUERIES, CLASSES = 10_000, 784, 2_000, 10
MOST_PRODUCTS, MOST_NEIGHBOURS = 1.5, 1.0


def draw():
    """Name -> queries, inputs, of each kind of data."""
    random = np.random.default_rng(0)

    def normal(count):
        return random.normal(size=(count, WIDTH)).astype(np.float32)

    inputs, queries = normal(INPUTS), normal(QUERIES)
    beside = inputs[:QUERIES] + 1e-3 * queries
    few = queries.copy()
    few[::1000], few[1::1000] = inputs[:QUERIES:1000], beside[1::1000]
    centres = normal(CLASSES)
    clusters = [
        centres[random.integers(0, CLASSES, len(points))] + 0.1 * points
        for points in (queries, inputs)
    ]
    kinds = {
        "random": (queries, inputs),
        "near": (few, inputs),
        "each near": (beside, inputs),
        "clusters": clusters,
    }
    return {name: tuple(map(jnp.asarray, data)) for name, data in kinds.items()}


def measure() -> list[dict]:
    data = draw()
    labels = np.random.default_rng(1).integers(0, CLASSES, INPUTS)
    one_hot = jnp.asarray(np.eye(CLASSES)[labels], jnp.float32)
    signs = 2 * one_hot[:, 0] - 1
    queries, inputs = data["random"]
    product = jax.jit(lambda x, y: jnp.matmul(x, y.T, precision="highest"))
    neighbours = KNeighborsClassifier(1, algorithm="brute").fit(np.asarray(inputs), labels)
    on_host = np.asarray(queries)

    def estimate(kind, targets, exponent):
        queries, inputs = data[kind]
        return lambda: singular.estimate(queries, inputs, targets, exponent)

    calls = {
        "product": lambda: product(queries, inputs),
        "scikit-learn, 1 neighbour": lambda: neighbours.predict(on_host),
        "random, one-hot, 12": estimate("random", one_hot, 12.0),
        "random, signs, 12": estimate("random", signs, 12.0),
        "random, one-hot, 784": estimate("random", one_hot, 784.0),
        "near, one-hot, 784": estimate("near", one_hot, 784.0),
        "each near, one-hot, 12": estimate("each near", one_hot, 12.0),
        "clusters, one-hot, 12": estimate("clusters", one_hot, 12.0),
        "local.nearest_neighbour": lambda: local.nearest_neighbour(queries, inputs, one_hot),
    }
    with threadpool_limits(1):  # scikit-learn's own threads are older than the pin
        times = rounds(calls)
    return [
        {
            "name": name,
            "milliseconds": 1e3 * statistics.median(values),
            "to_product": ratio(values, times["product"]),
            "to_neighbours": ratio(values, times["scikit-learn, 1 neighbour"]),
        }
        for name, values in times.items()
    ]


def ratio(values, others) -> float:
    return statistics.median(one / other for one, other in zip(values, others, strict=True))


def report(rows: list[dict]) -> None:
    print(f"\n  {'data, targets, exponent':<26} {'ms':>6} {'of product':>11} {'of neighbours':>14}")
    for row in rows:
        line = f"  {row['name']:<26} {row['milliseconds']:6.0f} {row['to_product']:11.2f}"
        print(f"{line} {row['to_neighbours']:14.2f}", end="")
        if "one-hot" not in row["name"] and "signs" not in row["name"]:
            print()
        elif row["name"].startswith("clusters"):
            print("  not judged")
        else:
            holds = row["to_product"] <= MOST_PRODUCTS and row["to_neighbours"] < MOST_NEIGHBOURS
            print(f"  at most {MOST_PRODUCTS} and below {MOST_NEIGHBOURS}: {verdict(holds)}")


def main() -> None:
    arguments = _record.parser("singular", __doc__).parse_args()
    core, environment = pin_to_one_core(), _environment.describe()
    print(f"JAX {environment['versions']['jax']}, pinned to core {core}")
    rows = measure()
    report(rows)
    _record.append(arguments.out, "singular", environment | {"rows": rows})


if __name__ == "__main__":
    main()
