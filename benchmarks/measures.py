"""Every measure of an ensemble with its bootstrap interval: time, what bounds it, and memory.

    python -m benchmarks.measures                  # 3 minutes on 2 cores, float32
    python -m benchmarks.measures --out results    # and append the numbers to results/

`measures.report` of 100 members on 10,000 examples of 100 classes, one compiled call. Seconds to
compile, and to run, with 10, 100 and 1000 bootstrap samples. Scratch bytes are what the compiler
asks for beside the probabilities: from 100 samples on, where a chunk of them is nearly full, they
may grow by copies of the replicates, the numbers of which quantiles are taken, and by nothing else.
Then the parts of one chunk of resamples of one member, each compiled alone, and the bins of all
classes against the rate of a matrix product.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import _record
from benchmarks.members import rounds, verdict
from experiments import _environment
from ntkens.measures import binned, ranking, report, selective

MEMBERS, EXAMPLES, CLASSES, BINS = 100, 10_000, 100, 15
SAMPLES = (10, 100, 1000)
PRODUCT = 1024
SETTINGS = report._Settings(BINS, top=5, coverage=0.8, risk=0.05, first=None, tpr=0.95)


@jax.jit
def draw(key):
    """Members that are noisy copies of the distribution that the labels come from."""
    key_logits, key_labels, key_members = jax.random.split(key, 3)
    logits = 2 * jax.random.normal(key_logits, (EXAMPLES, CLASSES), jnp.float32)
    labels = jax.random.categorical(key_labels, logits)

    def member(key):
        return jax.nn.softmax(logits + jax.random.normal(key, logits.shape, logits.dtype))

    return jax.lax.map(member, jax.random.split(key_members, MEMBERS)), labels


def measure_whole(key, probabilities, labels) -> list[dict]:
    rows = []
    for samples in SAMPLES:
        start = time.perf_counter()
        program = report._report.lower(
            key, probabilities, labels, SETTINGS, samples, 0.95
        ).compile()
        compiled = time.perf_counter()
        jax.block_until_ready(program(key, probabilities, labels))
        memory: Any = program.memory_analysis()
        rows.append(
            {
                "samples": samples,
                "compile_seconds": compiled - start,
                "seconds": time.perf_counter() - compiled,
                "input_bytes": memory.argument_size_in_bytes,
                "scratch_bytes": memory.temp_size_in_bytes + memory.output_size_in_bytes,
                "replicate_bytes": 4 * samples * (19 * MEMBERS + 3),
            }
        )
    return rows


def measure_parts(key, probabilities, labels) -> list[dict]:
    """Of one member and one chunk: milliseconds of the parts, each alone."""
    member = jax.jit(report._member, static_argnums=2)(probabilities, labels, SETTINGS)

    def count(key):
        return jnp.bincount(jax.random.randint(key, (EXAMPLES,), 0, EXAMPLES), length=EXAMPLES)

    counts = jax.vmap(count)(jax.random.split(key, report.CHUNK))
    ranked, wrong = member.ranked, member.wrong
    parts = {
        "all measures": lambda c: report._measures(member, probabilities, labels, c, SETTINGS),
        "bins of every class": lambda c: binned.bin_sums(probabilities, labels, c, BINS),
        "AURC": lambda c: selective.aurc(ranked, wrong, c),
        "AUROC": lambda c: ranking.auroc(ranked, wrong == 0, c),
        "ECE of equal mass": lambda c: binned.equal_mass_error(ranked, wrong, BINS, c),
    }
    mapped = {name: jax.jit(jax.vmap(part)) for name, part in parts.items()}
    calls = {name: lambda part=part: part(counts) for name, part in mapped.items()}
    matrix = jax.random.normal(key, (PRODUCT, PRODUCT), jnp.float32)
    product = jax.jit(lambda matrix: matrix @ matrix)
    times = rounds(calls | {"matrix product": lambda: product(matrix)})
    rows = [{"name": name, "milliseconds": 1e3 * min(values)} for name, values in times.items()]
    rate = PRODUCT**3 / min(times["matrix product"])
    bins = report.CHUNK * EXAMPLES * CLASSES * 2 * BINS / min(times["bins of every class"])
    return [*rows, {"name": "rate of the bins, of that of the product", "ratio": bins / rate}]


def print_report(whole: list[dict], parts: list[dict]) -> None:
    print(f"\n{MEMBERS} members, {EXAMPLES} examples, {CLASSES} classes, {BINS} bins, float32")
    print(f"  {'samples':>7} {'compile s':>10} {'run s':>8} {'input MB':>9} {'scratch MB':>11}")
    for row in whole:
        sizes = f"{row['input_bytes'] / 1e6:9.1f} {row['scratch_bytes'] / 1e6:11.1f}"
        print(f"  {row['samples']:>7} {row['compile_seconds']:10.1f} {row['seconds']:8.1f} {sizes}")
    _, few, many = whole
    growth = many["scratch_bytes"] - few["scratch_bytes"]
    replicates = many["replicate_bytes"] - few["replicate_bytes"]
    print(f"  growth {growth / 1e6:.1f} MB, replicates {replicates / 1e6:.1f} MB", end=": ")
    print(verdict(growth <= 4 * replicates), "(at most four copies of them)")
    print(f"\nOne member, {report.CHUNK} resamples, milliseconds")
    for row in parts:
        value = f"{row['ratio']:.2f}" if "ratio" in row else f"{row['milliseconds']:.1f}"
        print(f"  {row['name']:<42} {value:>8}")


def main() -> None:
    arguments = _record.parser("measures", __doc__).parse_args()
    environment = _environment.describe()
    print(f"JAX {environment['versions']['jax']}, {environment['device']['kind']}")
    key = jax.random.key(0)
    probabilities, labels = draw(key)
    parts = measure_parts(key, probabilities[0], labels)
    whole = measure_whole(key, probabilities, labels)
    print_report(whole, parts)
    _record.append(arguments.out, "measures", environment | {"whole": whole, "parts": parts})


if __name__ == "__main__":
    main()
