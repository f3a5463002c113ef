"""The switches of the training of `pruning_game`, its rows, and verdicts that turn over."""

import copy
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import _pruning_game_baselines as baselines
from experiments import _pruning_game_frozen as frozen
from experiments import _pruning_game_readings as papers
from experiments import _pruning_game_training as training
from experiments import pruning_game as script
from ntkens.models import cost
from ntkens.sparsity import game_dynamics, games, groups
from tests.experiments import downloads
from tests.experiments.corruptions import change, swap

CLAIMS = (
    "printed", "descent", "nearest", "bimodal", "mild", "essential", "equation", "dominated",
    "awaited", "stability", "magnitude", "random", "small",
)  # fmt: skip
EXPECTED = dict.fromkeys(CLAIMS, "reproduced")
SEEDS = 5


def planted():
    """Rows in which everything that the paper says is true, but that its table says L1 prunes."""
    rng = np.random.default_rng(0)
    rows = []
    for reading in papers.READINGS:
        for configuration, (accuracy, gone) in (
            papers.TABLE | dict.fromkeys(papers.MILD, (97.0, 0.0))
        ).items():
            if configuration in papers.MILD and reading not in papers.LITERAL:
                continue
            neurons = round(768 * (1 - gone / 100)) + rng.integers(0, 3, SEEDS) * (gone > 0)
            if configuration == "L1 Sparsity Strong":
                neurons = neurons + 40
            rows.append({
                "kind": "game", "reading": reading, "configuration": configuration,
                "neurons": 768, "kept": [[int(count) - 4, 4] for count in neurons],
                "accuracy": [accuracy / 100] * SEEDS,
                "pruned_accuracy": list(accuracy / 100 + 0.01 * rng.normal(size=SEEDS)),
                "mean_kept": list(0.95 + 0.01 * rng.normal(size=SEEDS)),
                "opposed_kept": [0.2 if gone else 0.1] * SEEDS,
                "opposed_pruned": list(0.8 + 0.01 * rng.normal(size=SEEDS)) if gone
                else [float("nan")] * SEEDS,
                "histogram": [700] + [0] * 18 + [68],
            })  # fmt: skip
    for configuration, (_, gamma) in (papers.PUBLISHED | papers.MILD).items():
        named = {"kind": "frozen", "configuration": configuration, "benefit": "printed"}
        counts = {
            "pruned": 50 + (gamma == 0),
            "dominated": 50,
            "both": 50,
            "awaited": 50,
            "late": 0,
        }
        rows.append(named | {name: [count] * SEEDS for name, count in counts.items()})
        if configuration == "L1 Sparsity Strong":  # which closes nobody, as section 9.2 has it
            rows[-1] |= {"pruned": [0] * SEEDS, "dominated": [0] * SEEDS, "both": [0] * SEEDS}
    for eta, constant, least, ends in ((0.1, 0.5, 1.0, 1), (1.9, 3.0, 0.1, 1), (20, 30, -9.0, 7)):
        rows.append({"kind": "competition", "eta": eta, "players": 128,
                     "contraction": [constant] * SEEDS, "least": [least] * SEEDS,
                     "equilibria": [ends] * SEEDS})  # fmt: skip
    for reading in papers.COMPARED:
        for configuration in papers.SPARSE:
            for method, mean in (("game", 0.9), ("magnitude", 0.8), ("random", 0.7),
                                 (baselines.SMALL, 0.6)):  # fmt: skip
                values = list(mean + 0.01 * rng.normal(size=SEEDS))
                rows.append({"kind": "baseline", "reading": reading, "method": method,
                             "configuration": configuration, "kept": [[10, 4]] * SEEDS,
                             "at_once": [] if method == baselines.SMALL else values,
                             "retrained": values})  # fmt: skip
        rows += [
            row | {"configuration": "Very High Beta", "kept": [[512, 256]] * SEEDS}
            for row in rows[-4:]
        ]
    return rows


def outcomes(rows):
    return dict(zip(CLAIMS, (claim.outcome for claim in script.verdict(rows).claims), strict=True))


def far(*names):
    """Readings that prune everything."""
    return change({"kept": [[0, 0]] * SEEDS, "pruned_accuracy": [0.1] * SEEDS,
                   "mean_kept": [float("nan")] * SEEDS, "opposed_kept": [float("nan")] * SEEDS},
                  kind="game", reading=names, configuration=tuple(papers.PUBLISHED))  # fmt: skip


def far_but_nearer(rows):
    far(*papers.READINGS)(rows)
    change({"pruned_accuracy": [0.5, 0.51, 0.52, 0.53, 0.54]}, kind="game",
           reading=papers.COMPARED[0])(rows)  # fmt: skip


def one_seed(rows):
    for row in rows:
        for name, value in row.items():
            if isinstance(value, list) and name != "histogram":
                row[name] = value[:1]


PRINTED = tuple(name for name, of in papers.LITERAL.items() if of.benefit == "printed")


def test_planted_rows_give_the_planted_verdict():
    assert outcomes(planted()) == EXPECTED


TABLES = ("printed", "descent", "nearest")
FAR_APART = (-0.4, -0.2, 0.0, 0.2, 0.4)
ALL_GONE = {"essential": "inconclusive", "dominated": "inconclusive", "bimodal": "inconclusive"}


@pytest.mark.parametrize(
    ("break_", "turned"),
    [
        (far(*PRINTED), {"printed": "not reproduced", "essential": "inconclusive"}),
        (far(*papers.READINGS), {"printed": "not reproduced", "descent": "not reproduced",
                                 "nearest": "not reproduced", **ALL_GONE}),
        (far_but_nearer, {"printed": "not reproduced", "descent": "not reproduced",
                          "nearest": "departs", **ALL_GONE}),
        (change({"mean_kept": [0.1] * SEEDS}, kind="game"), {"bimodal": "not reproduced"}),
        (change({"mean_kept": [0.1] * SEEDS}, kind="game", reading="SGD, descent"),
         {"bimodal": "departs"}),
        (change({"kept": [[700, 60]] * SEEDS}, configuration="beta = 0.005"), {"mild": "departs"}),
        (change({"kept": [[5, 4]] * SEEDS}, kind="game", configuration="L1 Sparsity Strong"),
         {"essential": "not reproduced"}),
        (change({"pruned": [50] * SEEDS, "dominated": [50] * SEEDS, "both": [50] * SEEDS},
                kind="frozen"), {"equation": "not reproduced"}),
        (change({"opposed_pruned": [0.1] * SEEDS}, kind="game",
                configuration=papers.SPARSE), {"dominated": "not reproduced"}),
        (change({"late": [1] + [0] * (SEEDS - 1)}, kind="frozen"), {"awaited": "not reproduced"}),
        (change({"dominated": [60] * SEEDS}, kind="frozen"), {"awaited": "not reproduced"}),
        (change({"equilibria": [1, 1, 1, 1, 2]}, kind="competition", eta=1.9),
         {"stability": "departs"}),
        (change({"equilibria": [1] * SEEDS}, kind="competition"), {"stability": "inconclusive"}),
        (swap("method", "game", "magnitude", kind="baseline"), {"magnitude": "not reproduced"}),
        (swap("method", "game", baselines.SMALL, kind="baseline"),
         dict.fromkeys(CLAIMS[-3:], "not reproduced")),
        (change({"kept": [[10, 0]] * SEEDS}, kind="baseline"),
         dict.fromkeys(CLAIMS[-3:], "inconclusive")),
        (one_seed, dict.fromkeys(("essential", "magnitude", "random", "small", *TABLES),
                                 "inconclusive")),
        (change({"pruned_accuracy": lambda row: [row["accuracy"][0] + each for each in FAR_APART]},
                kind="game"), dict.fromkeys(TABLES, "inconclusive")),
        (change({"pruned_accuracy": [math.nan] * SEEDS}, kind="game",
                configuration="Very High Beta"), dict.fromkeys(TABLES, "inconclusive")),
        (change({"pruned": [60] * SEEDS}, kind="frozen", configuration="L1 Sparsity Strong"),
         {"equation": "departs"}),
        (change({"pruned": [0] * SEEDS, "dominated": [0] * SEEDS, "both": [0] * SEEDS},
                kind="frozen"), {"equation": "not reproduced", "awaited": "inconclusive"}),
        (change({"least": [-1.0] * SEEDS}, kind="competition"), {"stability": "inconclusive"}),
    ],
)  # fmt: skip
def test_the_verdict_turns_over(break_, turned):
    rows = copy.deepcopy(planted())
    break_(rows)
    assert outcomes(rows) == EXPECTED | turned


def test_the_table_is_of_whole_neurons():
    model = training.network((512, 256))
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 784)))
    assert cost.parameters(params) == 535_818
    assert groups.count(groups.neurons(params), params) == 768
    assert cost.parameters(params) + 768 == 536_586  # the paper's number, of weights it says
    for _, gone in papers.TABLE.values():
        assert round(100 * round(768 * gone / 100) / 768, 2) == gone
    assert set(papers.TABLE) == set(papers.PUBLISHED)
    assert set(papers.COMPARED) <= set(papers.OTHERS)


@pytest.fixture(scope="module")
def small():
    """Weights, gates and gradients of a network of 3 + 2 neurons."""
    rng = np.random.default_rng(0)
    model = training.network((3, 2))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4)))
    params, slopes = (
        jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)
        for _ in range(2)
    )
    gates = {"hidden_0": jnp.array([0.2, 0.5, 0.9]), "hidden_1": jnp.array([0.4, 0.8])}
    of_gates = jax.tree.map(jnp.cos, gates)
    return game_dynamics.Joint(params, gates), game_dynamics.Joint(slopes, of_gates)


CONFIG = script.TINY
COSTS = papers.Configuration(0.3, 0.2)


def moved(small, reading):
    joint, gradient = small
    found = groups.neurons(joint.params)
    setting = training.setting(CONFIG, reading, COSTS)
    optimiser = training.dynamics(found, setting)
    updates, (_, _, opposed) = optimiser.update(gradient, optimiser.init(joint), joint)
    return updates, opposed


@pytest.mark.parametrize("name", papers.LITERAL)
def test_literal_readings_are_the_librarys_dynamics(small, name):
    joint, gradient = small
    reading, found = papers.LITERAL[name], groups.neurons(small[0].params)
    weights = {"sgd": optax.sgd(CONFIG.sgd_rate), "adam": optax.adam(CONFIG.adam_rate)}
    rules = game_dynamics.Rules(1.0, *COSTS, 0.0, games.SIGNS[reading.benefit])
    optimiser = game_dynamics.optimiser(
        found, rules, weights[reading.optimiser], optax.sgd(CONFIG.gate_rate)
    )
    wanted, _ = optimiser.update(gradient, optimiser.init(joint), joint)
    updates, opposed = moved(small, reading)
    for ours, theirs in zip(jax.tree.leaves(updates), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)  # rates are float32
    benefits = games.SIGNS[reading.benefit] * joint.gates["hidden_0"] * gradient.gates["hidden_0"]
    np.testing.assert_array_equal(opposed["hidden_0"], benefits < COSTS.gamma)


def test_other_readings_do_what_they_say(small):
    joint, gradient = small
    gates, slopes = joint.gates["hidden_1"], gradient.gates["hidden_1"]
    kernel = joint.params["hidden_1"]["kernel"]
    norms = jnp.sum(kernel**2, axis=0) + joint.params["hidden_1"]["bias"][0] ** 2

    def climbed(slope):
        return np.clip(gates + CONFIG.gate_rate * slope, 0, 1) - gates

    def gate_moves(**values):
        return moved(small, papers.Reading("sgd", **values))[0].gates["hidden_1"]

    price = 0.6 * norms * gates + 0.2
    close = {"rtol": 1e-5, "atol": 1e-12}
    np.testing.assert_allclose(gate_moves(of_gate=True), climbed(-slopes - price), **close)
    np.testing.assert_allclose(
        gate_moves(norm=False), climbed(-slopes * gates - 0.6 * gates - 0.2), **close
    )
    np.testing.assert_allclose(
        gate_moves(speed=0.1),
        np.clip(gates + 0.1 * CONFIG.gate_rate * (-slopes * gates - price), 0, 1) - gates, **close,
    )  # fmt: skip
    adam = np.clip(gates - CONFIG.gate_rate, 0, 1) - gates  # its first step has one size
    np.testing.assert_allclose(gate_moves(gates="adam"), adam, rtol=1e-4)

    def weight_moves(layer, **values):
        return moved(small, papers.Reading("sgd", **values))[0].params[layer]["kernel"]

    slope = gradient.params["hidden_1"]["kernel"]
    paid = slope + 2 * 0.3 * gates[None] ** 2 * kernel
    np.testing.assert_allclose(weight_moves("hidden_1", pays=True), -0.1 * paid, **close)
    of_readout = -0.1 * gradient.params["readout"]["kernel"]
    np.testing.assert_allclose(weight_moves("readout", pays=True), of_readout, **close)
    decayed = -0.1 * (slope + 0.01 * kernel)
    np.testing.assert_allclose(weight_moves("hidden_1", decay=0.01), decayed, **close)
    np.testing.assert_allclose(weight_moves("hidden_1", slowness=5), -0.02 * slope, **close)


def test_as_many_neurons_are_kept_as_are_asked_for():
    scores = np.array([[3.0, 1.0, 2.0, 2.0], [0.1, 0.4, 0.2, 0.3]])
    found = baselines.highest({"hidden_0": scores}, {"hidden_0": np.array([2, 0])})
    # the first of two alike
    np.testing.assert_array_equal(found["hidden_0"], [[1, 0, 1, 0], [0, 0, 0, 0]])


def test_ends_are_counted_once():
    assert frozen.distinct(np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1 - 1e-5], [0.5, 0.5]])) == 3


def test_a_row_sums_up_its_seeds():
    gates = {"a": np.array([[0.0, 0.5], [0.0, 0.0]]), "b": np.array([[0.005, 1.0], [0.0, 0.0]])}
    opposed = {"a": np.array([[1.0, 0.2], [1.0, 1.0]]), "b": np.array([[0.8, 0.0], [1.0, 1.0]])}
    joint = game_dynamics.Joint(None, gates)
    accuracy = np.array([0.9, 0.1])
    row = script.summary(training.Trained(joint, accuracy, accuracy, accuracy, opposed))
    assert row["kept"] == [[1, 1], [0, 0]]
    assert row["neurons"] == 4
    assert row["exactly_closed"] == [1, 4]
    assert row["mean_kept"][0] == 0.75
    assert np.isnan(row["mean_kept"][1])
    assert row["opposed_kept"][0] == 0.1
    assert row["opposed_pruned"] == [0.9, 1.0]
    assert row["histogram"][0] == 6
    assert sum(row["histogram"]) == 8


@pytest.mark.slow
def test_the_accelerators_path_on_a_few_images(monkeypatch):
    """MNIST's shape; all optimisers, signs, configurations and seeds in one call."""
    small = downloads.images((28, 28, 1))
    monkeypatch.setattr(training.tfds, "load", lambda name, directory: small)
    config = script.Config(
        dataset="mnist", seeds=2, widths=(3, 2), epochs=1, batch=16, gate_rate=0.2, readings=()
    )
    cells = script.plan(config)
    assert [cell.key for cell in cells] == ["frozen", "literal"]
    rows = list(script.measure(config, cells[1]))
    assert len(rows) == len(papers.LITERAL) * (len(papers.PUBLISHED) + len(papers.MILD))
    assert all(len(row["accuracy"]) == 2 for row in rows)
    rates = {row["configuration"]: row["mean_gate"] for row in rows if "SGD, p" in row["reading"]}
    assert max(rates["Extreme Beta"]) < min(rates["beta = 0.0001"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds: got 1"),
        ({"readings": ("adam",)}, "readings: got 'adam'"),
        ({"epochs": 0}, "epochs: got 0"),
        ({"gate_rate": 0.0}, "gate_rate: got 0.0"),
        ({"widths": ()}, "widths: got"),
    ],
)
def test_a_config_that_cannot_be_measured_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        script.Config(**change)


def test_published_settings_are_the_papers():
    steps = script.PAPER.epochs * -(-60_000 // script.PAPER.batch)
    assert steps == 9380 == script.LAPTOP.epochs * -(-(1797 - 540) // script.LAPTOP.batch)
    assert script.PAPER.gate_rate == script.LAPTOP.gate_rate == 1e-3
    assert sum(script.PAPER.widths) == 768
