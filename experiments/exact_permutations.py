"""Ensembles of wide ReLU networks learn permutations exactly. arXiv:2502.16763, Figure 1.

    python -m experiments.exact_permutations quick    # 40 s, 2 CPU cores
    python -m experiments.exact_permutations laptop   # 5 min, 2 CPU cores
    python -m experiments.exact_permutations paper    # one accelerator; not run yet

Claim: trained on the k pairs (e_i, P e_i) alone, an ensemble of O(k log k) networks in the NTK
regime applies P to a binary vector exactly with high probability, and one of O(k^2) to all of them.

Departures: infinite width is solved exactly, so ensemble sizes come from a formula instead of from
training. The paper's figure shows one draw of a protocol that adds networks until 90% of 1000 tests
are right, a first passage; we draw it many times from the exact Gaussian process. A fixed size that
is right with 90% is larger, since a first passage stops at a lucky moment; both are shown. Tests
have two ones, as in the authors' code: with more ones an input is easier. Finite networks are
trained in the paper's NTK parametrisation and in the standard one, as in the authors' code (which
also trains biases; they add O(1/width) to its kernel).
"""

import dataclasses
import math
import os
import sys
import zlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments import run
from experiments._exact_permutations_verdict import LIMIT, PANEL_KS, REGIMES
from experiments._exact_permutations_verdict import plot as plot
from experiments._exact_permutations_verdict import verdict as verdict
from ntkens.ensembles import permutations as task
from ntkens.ensembles.first_passage import first_passage
from ntkens.models import mlp
from ntkens.predictors import permutations
from ntkens.training import gradient_descent, members

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")  # a GPU's own choice is TF32

ACCURACIES = (0.9, 0.999)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured, and how much of it."""

    seed: int = 0
    """Of every random draw."""
    largest_k: int = 30
    """The exact curves go from k = 4 to here."""
    protocol_ks: tuple[int, ...] = (5, 10, 20)
    """Lengths at which the paper's protocol is simulated."""
    repeats: int = 50
    """Simulated repeats of the protocol; from 40 on an outlier can be told."""
    tests: int = 1000
    """Test vectors of the protocol, drawn with replacement."""
    growth_k: int = 100_000
    """The growth of the exact answers is measured up to here."""
    joint_ks: tuple[int, ...] = (4, 8)
    """Lengths at which all inputs are sampled at once; at most 12, where there are 4083 of them."""
    joint_draws: int = 4000
    """Draws of the joint Gaussian process."""
    moments_k: int = 5
    """Length at which the moments of trained networks are measured."""
    widths: tuple[int, ...] = (64, 256)
    """Hidden widths of the trained networks."""
    networks: int = 1000
    """Trained networks a width; some 10^4 resolve the exponents."""
    trained_ks: tuple[int, ...] = ()
    """Lengths at which the protocol is run on trained networks."""
    trained_width: int = 1024
    """Their width; the paper's is 50,000."""
    trained_repeats: int = 4
    """Repeats of the protocol on trained networks."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        for name in ("protocol_ks", "trained_ks", "joint_ks", "moments_k", "largest_k"):
            if np.min(getattr(self, name), initial=4) < 4:
                raise ValueError(f"{name}: got {getattr(self, name)}; want k >= 4")
        for name in ("protocol_ks", "joint_ks", "widths"):
            if not getattr(self, name):
                raise ValueError(f"{name}: got none; want at least one")
        if self.growth_k < 100:
            raise ValueError(f"growth_k: got {self.growth_k}; want at least 100, for an exponent")
        if max(self.joint_ks) > 12:
            raise ValueError(f"joint_ks: got {self.joint_ks}; all 2^k inputs at once want k <= 12")
        for name in ("repeats", "tests", "joint_draws", "networks", "trained_repeats"):
            fewest = 1 if name == "trained_repeats" else 2
            if getattr(self, name) < fewest:
                raise ValueError(f"{name}: got {getattr(self, name)}; want at least {fewest}")


QUICK = Config()
LAPTOP = Config(
    protocol_ks=(4, 5, 6, 8, 10, 12, 15, 18, 20, 22, 25, 28, 30),
    repeats=100,
    growth_k=1_000_000,
    joint_ks=(4, 6, 8, 10, 12),
    joint_draws=20_000,
    widths=(64, 128, 256, 512, 1024, 2048),
    networks=10_000,
    trained_ks=(5, 10),
)
PAPER = dataclasses.replace(
    LAPTOP,
    repeats=1000,
    widths=(*LAPTOP.widths, 8192),
    networks=20_000,
    trained_ks=(5, 10, 15, 20, 25, 30),
    trained_width=50_000,
)
TINY = Config(
    largest_k=6,
    protocol_ks=(5,),
    repeats=40,
    tests=50,
    growth_k=100,
    joint_ks=(4,),
    joint_draws=200,
    widths=(16, 32),
    networks=50,
    trained_ks=(5,),
    trained_width=32,
    trained_repeats=2,
)


def plan(config: Config) -> list[run.Cell]:
    """The exact curves and their growth, all inputs, the protocol, and trained networks."""
    cells = [run.Cell("exact", 2.0, {"kind": "exact"}), run.Cell("growth", 8.0, {"kind": "growth"})]
    cells.append(run.Cell("accuracy", 3.0, {"kind": "accuracy"}))

    def add(kind, cost, **named):
        key = " ".join([kind, *(f"{name}={value}" for name, value in named.items())])
        cells.append(run.Cell(key, cost, {"kind": kind, **named}))

    for regime in REGIMES:
        for k in config.joint_ks:
            add("joint", 2 + config.joint_draws * 4.0**k / 2e10, k=k, regime=regime)
        for k in config.protocol_ks:
            rate = 3.5e-7 if regime == "ntk" else 0.8e-7
            add("protocol", 2 + rate * config.repeats * k**4, k=k, regime=regime)
    for name, limit in LIMIT.items():
        for width in config.widths:
            cost = 2 + 1e-7 * config.networks * config.moments_k**2 * width
            add("moments", cost, k=config.moments_k, parametrisation=name, width=width)
        for k in config.trained_ks:
            networks, width = config.trained_repeats * _most(k, limit, 0.9), config.trained_width
            add(
                "trained",
                2 + 8e-8 * networks * k**2 * width,
                k=k,
                parametrisation=name,
                width=width,
            )
    return cells


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """The rows of one cell; each repeats what names the cell."""
    named = dict(cell.parameters)
    kind = named["kind"]
    rest = {name: value for name, value in named.items() if name != "kind"}
    key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(cell.key.encode()))
    match kind:
        case "exact":
            rows = [_signs(regime) for regime in REGIMES]
            rows += [
                _exact(k, regime) for k in range(4, config.largest_k + 1) for regime in REGIMES
            ]
        case "accuracy":
            rows = [_accuracies(k, regime) for k in PANEL_KS for regime in REGIMES]
        case "growth":
            ks = [
                k
                for power in range(1, 7)
                for k in (10**power, 3 * 10**power)
                if k <= config.growth_k
            ]
            rows = [_growth(k, regime) for k in ks for regime in REGIMES]
        case "joint":
            rows = [_all_inputs(key, draws=config.joint_draws, **rest)]
        case "protocol":
            rows = [_protocol(key, repeats=config.repeats, tests=config.tests, **rest)]
        case "moments":
            rows = [_trained_moments(key, networks=config.networks, **rest)]
        case "trained":
            repeats = config.trained_repeats
            rows = [_trained_protocol(key, repeats=repeats, tests=config.tests, **rest)]
    yield from ({**named, **row} for row in rows)


def _signs(regime):
    """Whether the means separate at 0 for every input of 2 ... k ones, up to k = 200."""
    k, ones = np.array([(k, ones) for k in range(3, 201) for ones in range(2, k + 1)]).T
    exact = permutations.moments(k, ones, regime)
    return {
        "kind": "signs", "regime": regime, "largest_k": 200,
        "lowest_inside": exact.inside.min(), "highest_outside": exact.outside.max(),
    }  # fmt: skip


def _exact(k, regime):
    members_needed = [task.members_needed(k, 2, accuracy, regime) for accuracy in ACCURACIES]
    bound = task.paper_bound(k, ACCURACIES[0], 1000, regime)
    moments = permutations.moments(k, 2, regime)._asdict()
    return {"regime": regime, "k": k, **moments, "members": members_needed, "bound": bound}


def _accuracies(k, regime):
    """The share of inputs of two ones that an ensemble permutes without an error, by its size."""
    sizes = np.geomspace(1, 2 * task.members_needed(k, 2, ACCURACIES[-1], regime), 50).astype(int)
    accuracies = jax.vmap(lambda size: task.accuracy(k, 2, size, regime))(jnp.asarray(sizes))
    return {"regime": regime, "k": k, "sizes": sizes, "accuracies": accuracies}


def _growth(k, regime, accuracy=0.9):
    """One input of two ones, the hardest number of ones (on a grid), and all inputs at once."""
    scan = [np.arange(2, 1002), np.geomspace(2, k, 1000).astype(int), k - np.arange(1000)]
    ones = np.concatenate(scan).clip(2, k)
    each = jax.vmap(lambda ones: task.members_needed(k, ones, accuracy, regime))(jnp.asarray(ones))
    padded = max(10_000, 10 ** math.ceil(math.log10(k)))
    bounds, binding = task.all_inputs_bounds(k, accuracy, regime, padded)
    row = {"regime": regime, "k": k, "one_input": each[0]}
    row |= {"hardest": each.max(), "hardest_ones": ones[each.argmax()]}
    row |= {"lower": bounds.lower, "lower_ones": binding.lower}
    return row | {"upper": bounds.upper, "upper_ones": binding.upper}


def _all_inputs(key, k, regime, draws, accuracy=0.9):
    needed, error = task.all_inputs_sample(key, k, accuracy, regime, draws)
    bounds, _ = task.all_inputs_bounds(k, accuracy, regime, 12)
    return {"members": needed, "error": error, **bounds._asdict()}


def _most(k, regime, accuracy):
    """Enough networks for the protocol, which stops before the fixed size but for bad luck."""
    return 2 * int(task.members_needed(k, 2, accuracy, regime))


def _test_set(key, k, tests):
    """How often each pair is tested, and all pairs' target bits (the permutation is the identity:
    outputs are exchangeable).
    """
    first, second = np.triu_indices(k, 1)
    drawn = jax.random.randint(key, (tests,), 0, len(first))
    return jnp.bincount(drawn, length=len(first)), np.eye(k)[first] + np.eye(k)[second]


def _protocol(key, k, regime, repeats, tests):
    """First passages of ensembles drawn from the exact process."""
    most = _most(k, regime, ACCURACIES[-1])

    def once(key):
        test_key, network_key = jax.random.split(key)
        counts, bits = _test_set(test_key, k, tests)

        def network(i):
            return permutations.pair_outputs(jax.random.fold_in(network_key, i), k, regime)

        return first_passage(network, bits, counts, np.array(ACCURACIES), most)

    keys = jax.random.split(key, repeats)
    sizes = np.asarray(jax.jit(lambda keys: jax.lax.map(once, keys, batch_size=8))(keys))
    return {"sizes_90": sizes[:, 0].tolist(), "sizes_999": sizes[:, 1].tolist()}


def _trained(key, networks, k, parametrisation, width):
    """Outputs of trained networks at all pairs, and the largest training residuals.

    The theory is of gradient flow, and the moments of narrow networks depend on the rate: it is an
    eighth of the largest stable one at infinite width. The steps are twice what takes the slowest
    mode of the limit to 1e-8, since narrow networks have slower ones.
    """
    gap = 2 * math.pi - 1 if parametrisation == "ntk" else math.pi - 1
    largest = (gap + k) / (2 * math.pi * k) * (1 if parametrisation == "ntk" else width)
    rate = 0.25 / largest
    steps = math.ceil(2 * math.log(1e-8) / math.log(1 - 0.25 * gap / (gap + k)))
    model = mlp.mlp([width], k, parametrisation=parametrisation)
    train = jnp.eye(k, dtype=jnp.float32)

    def member(key, inputs):
        params = model.init(key, train)
        params, info = gradient_descent.train(
            lambda params: model.apply(params, range(k)), params, train, rate, steps=steps
        )
        return model.apply(params, inputs), info.residual

    _, bits = _test_set(key, k, 1)
    inputs = jnp.asarray(bits / math.sqrt(2), jnp.float32)
    keys = members.keys(key, networks)
    # Host devices keep a kilobyte of every step until the program ends, hence several programs.
    parts = [
        members.map(member, keys[start : start + 1000], inputs, mesh=members.all_devices())
        for start in range(0, networks, 1000)
    ]
    outputs, residuals = (np.concatenate(part) for part in zip(*parts, strict=True))
    return outputs, residuals, bits > 0


def _trained_moments(key, k, parametrisation, width, networks):
    """Moments of trained networks at inputs of two ones, less those of the limit; the variance as
    a share of the limit's.
    """
    outputs, residuals, ones = _trained(key, networks, k, parametrisation, width)
    limit = permutations.moments(k, 2, LIMIT[parametrisation])
    kept = residuals < 1e-3  # the others did not learn the training set in time
    deviation = outputs[kept].astype(float) - np.where(ones, limit.inside, limit.outside)
    row = {"networks": kept.sum(), "unfinished": (~kept).sum(), "residual": np.median(residuals)}
    centred = (deviation - deviation.mean(axis=0)) * math.sqrt(kept.sum() / (kept.sum() - 1))
    for name, samples in (
        ("inside", deviation[:, ones].mean(axis=1)),
        ("outside", deviation[:, ~ones].mean(axis=1)),
        ("variance", (centred**2).mean(axis=(1, 2)) / limit.variance - 1),
    ):
        row |= {
            name: samples.mean(),
            f"{name}_error": samples.std(ddof=1) / math.sqrt(len(samples)),
        }
    for regime in REGIMES:
        other = permutations.moments(k, 2, regime).inside
        row[f"inside_from_{regime}"] = row["inside"] + limit.inside - other
    return row


def _trained_protocol(key, k, parametrisation, width, repeats, tests):
    """The paper's protocol on trained networks, for its 90%."""
    most = _most(k, LIMIT[parametrisation], 0.9)
    outputs, residuals, _ = _trained(key, repeats * most, k, parametrisation, width)
    pools = outputs.reshape(repeats, most, *outputs.shape[1:])

    def once(key, pool):
        counts, bits = _test_set(key, k, tests)
        return first_passage(lambda i: pool[i], bits, counts, np.array(ACCURACIES[:1]), most)[0]

    pairs = (jax.random.split(key, repeats), jnp.asarray(pools))
    sizes = jax.lax.map(lambda pair: once(*pair), pairs)
    return {"sizes_90": np.asarray(sizes).tolist(), "unfinished": int((residuals >= 1e-3).sum())}


if __name__ == "__main__":
    if "XLA_FLAGS" not in os.environ:  # a host device a core, for small products leave cores idle
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    run.main(sys.modules[__name__])
