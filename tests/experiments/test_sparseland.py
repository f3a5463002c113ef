"""Starts, controls, costs and rows of `sparseland`; each of its verdicts turns over."""

import copy
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from experiments import _sparseland_methods as methods
from experiments import _sparseland_networks as networks
from experiments import _sparseland_table as table
from experiments import _sparseland_training as training
from experiments import _sparseland_verdict as judge
from experiments import sparseland as script
from experiments._sparseland_taxonomy import CHECKS, PLACES
from ntkens.models import cost, resnet
from ntkens.models.normalisation import Normalise
from ntkens.sparsity import masks
from tests.experiments import downloads
from tests.experiments.corruptions import change, drop, swap

CLAIMS = ("structure", "random", "budget", "dynamic", "operations", "small_dense", "collapse",
          "sanity", "exploration", "rewinding", "order", "published")  # fmt: skip
EXPECTED = dict.fromkeys(CLAIMS, "reproduced")
SEEDS = 8
DENSITIES = (0.1678, 0.044, 0.0115)
# Accuracies at these densities in which every lesson is true, and the published ones for images.
TRUE = {
    "small dense": (0.91, 0.85, 0.72),
    "random uniform": (0.87, 0.70, 0.15),
    "random ERK": (0.883, 0.796, 0.344),
    "SNIP": (0.891, 0.825, 0.661),
    "GraSP": (0.889, 0.831, 0.55),
    "SynFlow": (0.879, 0.814, 0.685),
    "one-shot": (0.915, 0.88, 0.74),
    "IMP": (0.9195, 0.879, 0.7485),
    "LTR": (0.9215, 0.891, 0.76),
    "SET": (0.89, 0.84, 0.65),
    "RigL": (0.90, 0.86, 0.70),
    "neurons": (0.90, 0.80, 0.60),
}
LOST = {"shuffled": (0.01, 0.05, 0.1), "inverted": (0.01, 0.1, 0.3), "drawn anew": (0, 0, 0)}
HARDLY = LOST | {"shuffled": (0.001, 0.002, 0.003)}  # what SNIP and GraSP lose


def planted():
    """Rows in which everything that the lessons say is true."""
    rng = np.random.default_rng(0)

    def around(value):
        return list(value + 0.001 * rng.normal(size=SEEDS))

    rows = []

    def trained(method, density, accuracy, **others):
        rows.append({"network": "resnet20", "kind": "trained", "method": method, "density": density,
                     **PLACES[method]._asdict(), "kept": density, "accuracies": around(accuracy),
                     "training_operations": 2.0 if method in ("IMP", "LTR") else density,
                     "inference_operations": density, "explored": density, "empty_layers": 0.0,
                     **others})  # fmt: skip

    trained("dense", 1.0, 0.885)
    trained("one-shot", 0.5, 0.92)
    trained("N:M", 0.5, 0.91)
    for method, values in TRUE.items():
        for place, density in enumerate(DENSITIES):
            trained(method, density, values[place])
            if method in ("SNIP", "GraSP", "SynFlow", "one-shot", "IMP", "LTR"):
                for check in CHECKS:
                    lost = -(HARDLY if method in ("SNIP", "GraSP") else LOST)[check][place]
                    rows.append({"kind": "check", "method": method, "check": check,
                                 "density": density, "differences": around(lost)})  # fmt: skip
    for density in (0.01, 0.001):
        for method, empty in (("SNIP", 1), ("GraSP", 0), ("SynFlow", 0), ("magnitude", 2)):
            counts = [empty if density < 0.01 else 0] * SEEDS
            rows.append({"kind": "collapse", "method": method, "density": density,
                         "empty_layers": counts})  # fmt: skip
    for fraction in (0.0, 0.1, 0.3):
        rows.append({"kind": "exploration", "density": 0.0115, "fraction": fraction,
                     "explored": around(0.02 + fraction), "accuracies": around(0.4 + fraction)}
                    )  # fmt: skip
    for network, ratio in (("mlp", 1.0), ("resnet20", 1.8)):
        for density in DENSITIES:
            for budget, factor in (("uniform", 1), ("ERK", ratio)):
                rows.append({"kind": "budget", "network": network, "budget": budget,
                             "density": density, "inference_operations": factor * density}
                            )  # fmt: skip
    return rows


def outcomes(rows):
    return dict(zip(CLAIMS, (claim.outcome for claim in script.verdict(rows).claims), strict=True))


def noise(rows):
    """Accuracies that have nothing to do with the methods."""
    rng = np.random.default_rng(3)
    for row in rows:
        for name, mean in (("accuracies", 0.5), ("differences", 0.0)):
            if name in row:
                row[name] = list(mean + 0.05 * rng.normal(size=SEEDS))


def test_planted_rows_give_the_planted_verdict():
    assert outcomes(planted()) == EXPECTED


LOW = {"density": 0.0115}


@pytest.mark.parametrize(
    ("break_", "turned"),
    [
        (change({"accuracies": [0.9] * SEEDS}, kind="trained", method="neurons", **LOW),
         {"structure": "departs"}),
        (drop(kind="trained", method="N:M"), {"structure": "inconclusive"}),
        (drop(kind="trained", method="neurons", **LOW), {"structure": "inconclusive"}),
        (drop(kind="trained", method="SNIP"), {"random": "inconclusive", "order": "inconclusive"}),
        (change({"accuracies": [math.nan] * SEEDS}, kind="trained", method="RigL", **LOW),
         {"dynamic": "inconclusive"}),
        (change({"accuracies": [0.4, 0.92] * 4}, kind="trained", method="SNIP", **LOW),
         {"order": "inconclusive", "published": "inconclusive"}),
        (drop(kind="collapse", method="SynFlow", density=0.001), {"collapse": "inconclusive"}),
        (change({"accuracies": [0.8] * SEEDS}, kind="trained", method="random ERK", density=0.1678),
         {"random": "not reproduced", "published": "departs"}),
        (change({"differences": [-0.4, -0.42] * 4}, kind="check", check="shuffled", **LOW),
         {"budget": "not reproduced", "sanity": "departs"}),
        (swap("method", "SET", "random ERK"), {"dynamic": "departs", "random": "reproduced",
                                     "order": "reproduced", "small_dense": "reproduced",
                                     "published": "departs"}),
        (swap("method", "SET", "RigL"), {"dynamic": "departs"}),
        (drop(kind="trained", method="RigL"), {"dynamic": "inconclusive"}),
        (change({"inference_operations": 0.1}, kind="budget"), {"operations": "not reproduced"}),
        (change({"training_operations": 0.02}, kind="trained"), {"operations": "not reproduced"}),
        (drop(kind="budget"), {"operations": "inconclusive"}),
        (change({"accuracies": [0.1] * SEEDS}, kind="trained", method="small dense", **LOW),
         {"small_dense": "not reproduced"}),
        (change({"accuracies": [0.2] * SEEDS}, kind="trained", method="small dense", **LOW),
         {"small_dense": "departs"}),
        (swap("method", "SNIP", "SynFlow"), {"collapse": "inconclusive", "order": "departs"}),
        (change({"empty_layers": [0] * 7 + [1]}, kind="collapse", method="SynFlow"),
         {"collapse": "not reproduced"}),
        (change({"empty_layers": [0] * SEEDS}, kind="collapse"), {"collapse": "inconclusive"}),
        (change({"differences": [-0.1, -0.11] * 4}, kind="check", method="GraSP", density=0.1678),
         {"sanity": "departs"}),
        (change({"differences": [-0.003, -0.005] * 4}, kind="check", method="LTR", **LOW),
         {"sanity": "inconclusive"}),
        (swap("method", "LTR", "SNIP"), {"sanity": "departs"}),
        (drop(kind="check", method="LTR"), {"sanity": "inconclusive"}),
        (change({"accuracies": [0.4] * SEEDS}, kind="exploration"),
         {"exploration": "inconclusive"}),
        (change({"accuracies": [0.1, 0.12] * 4}, kind="exploration", fraction=0.3),
         {"exploration": "not reproduced"}),
        (change({"explored": [0.02] * SEEDS}, kind="exploration"), {"exploration": "inconclusive"}),
        (swap("method", "LTR", "IMP"), {"rewinding": "not reproduced"}),
        (drop(kind="trained", method="SynFlow"), {"order": "inconclusive"}),
        (noise, {name: "inconclusive" for name in CLAIMS if name not in
                 ("operations", "collapse", "published")} | {"published": "departs"}),
    ],
)  # fmt: skip
def test_the_verdict_turns_over(break_, turned):
    rows = copy.deepcopy(planted())
    break_(rows)
    found = outcomes(rows)
    assert {name: found[name] for name in turned} == turned


def test_the_published_table_is_judged_only_for_its_network():
    rows = planted()
    change({"network": "mlp"}, kind="trained")(rows)
    assert len(script.verdict(rows).claims) == len(CLAIMS) - 1
    assert set(judge.PUBLISHED) == set(script.PAPER.densities)


@pytest.mark.parametrize(("name", "width"), [("mlp", 256), ("resnet20", 16)])
def test_uses_of_weights_add_up_to_the_operations_of_the_program(name, width):
    images = jax.ShapeDtypeStruct((1, 8, 8, 1) if name == "mlp" else (1, 32, 32, 3), jnp.float32)
    model = networks.network(name, width)
    params = jax.eval_shape(model.init, jax.random.key(0), images)
    weights, uses = networks.shapes(name, width), networks.uses(name, width)
    assert sum(w.size * uses[path] for path, w in weights.items()) == cost.macs(
        model, params, images
    )


@pytest.mark.parametrize("kept", [75, 844, 16896, 84480])
def test_the_small_dense_network_is_the_widest_that_fits(kept):
    """64 w + w^2 + 10 w weights: the root of a quadratic, rounded down."""
    assert networks.widest("mlp", 256, kept) == math.floor(-37 + math.sqrt(37**2 + kept))


def test_too_few_weights_for_a_dense_network():
    with pytest.raises(ValueError, match="densities: one leaves 74 weights"):
        networks.widest("mlp", 256, 74)


SMALL = script.Config(
    seeds=2,
    densities=(0.2, 0.08),
    checked=(0.08,),
    patterns=((1, 4),),
    width=16,
    epochs=4,
    batch=256,
    rewind=1,
    pruned=0.7,
    period=2,
    explored=0.08,
    fractions=(0.0, 0.5),
    scored=32,
    rounds=3,
    emptied=(0.2, 0.08),
)


def test_controls_break_one_thing_each():
    weights = networks.shapes("mlp", 16)
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(size=(2, 2, *w.shape)) for name, w in weights.items()}
    params = {"layer": {"kernel": np.zeros((2, 2))}}
    mask = {name: each > 0.5 for name, each in scores.items()}
    start = methods.Start(params, mask, scores)
    fresh = {"layer": {"kernel": np.ones((2,))}}
    found = {name: methods.control(SMALL, name, start, fresh) for name in CHECKS}
    for name, layer in mask.items():
        before = np.asarray(layer).reshape(4, -1)
        for check in ("shuffled", "inverted"):
            after = np.asarray(found[check].mask[name]).reshape(4, -1)
            np.testing.assert_array_equal(after.sum(axis=1), before.sum(axis=1))
            assert (after != before).any(axis=1).all()
        for own, inverted in zip(
            scores[name].reshape(4, -1),
            np.asarray(found["inverted"].mask[name]).reshape(4, -1),
            strict=True,
        ):
            assert own[inverted].max() < own[~inverted].min()
    assert found["drawn anew"].mask is mask
    np.testing.assert_array_equal(found["drawn anew"].params["layer"]["kernel"], 1)
    assert found["shuffled"].params is params


def test_rows_count_what_training_costs():
    """One layer of the three at a half for half of the time, after all of it once."""
    sizes = table.sizes(SMALL)
    counts = sizes | {"hidden_1/kernel": sizes["hidden_1/kernel"] // 2}
    found = training.Trained(
        None,
        {name: np.arange(size)[None, None] < counts[name] for name, size in sizes.items()},
        np.array([[0.5]]),
        np.array([[1.0]]),
    )
    stages = [
        table.stage(SMALL, sizes),
        table.stage(SMALL, table.kept(found.mask, 0), 2),
    ]
    row = table.trained(SMALL, "one-shot", 0.6, found, 0, stages)
    share = sum(counts.values()) / sum(sizes.values())
    assert row["kept"] == row["inference_operations"] == share
    assert row["training_operations"] == pytest.approx(1 + share / 2, abs=1e-12)
    assert row["empty_layers"] == 0


def rows_of(config, family):
    (cell,) = [cell for cell in script.plan(config) if cell.key == family]
    return list(script.measure(config, cell))


def untrained(config, params, mask, **_):
    """In place of training: the params as they are, and accuracies by place."""
    seeds, others = jax.tree.leaves(mask)[0].shape[:2]
    right = 0.5 + 0.01 * np.arange(seeds)[:, None] + 0.1 * np.arange(others)[None]
    return training.Trained(params, mask, right, np.zeros((seeds, others)))


def test_what_is_pruned_after_training_keeps_its_budget(monkeypatch):
    monkeypatch.setattr(training, "train", untrained)
    total, rows = masks.total(networks.shapes("mlp", 16)), rows_of(SMALL, "after")
    trained = {(row["method"], row["density"]): row for row in rows if row["kind"] == "trained"}
    assert list(trained) == [
        ("one-shot", 0.2), ("one-shot", 0.08), ("one-shot", 0.25), ("N:M", 0.25),
        ("neurons", 0.2), ("neurons", 0.08),
    ]  # fmt: skip
    for (method, density), row in trained.items():
        kept, budget = round(total * row["kept"]), math.floor(density * total)
        assert kept == budget or (method == "neurons" and 0.5 * budget < kept < budget)
        assert row["training_operations"] == pytest.approx(1 + row["kept"])  # after dense training
        assert row["explored"] == 1
    # places 0 to 5 are the methods', and 6 to 8 the controls of one-shot at 8%, which is place 1
    checks = [row for row in rows if row["kind"] == "check"]
    assert [row["check"] for row in checks] == list(CHECKS)
    for place, row in enumerate(checks, 6):
        np.testing.assert_allclose(row["differences"], 2 * [0.1 * (place - 1)])


@pytest.mark.slow
def test_tickets_and_moving_masks_keep_their_budget_and_count_their_costs():
    total = masks.total(networks.shapes("mlp", 16))
    rows = [row for family in ("LTR", "RigL") for row in rows_of(SMALL, family)]
    trained = {(row["method"], row["density"]): row for row in rows if row["kind"] == "trained"}
    for (_, density), row in trained.items():
        assert round(total * row["kept"]) == math.floor(density * total)
    ticket, moving = trained["LTR", 0.08], trained["RigL", 0.08]
    share = ticket["kept"]
    # an epoch of four to the rewind point; levels of all, 30%, 20% and 9% on the way to 8%
    levels = [math.floor(part * total) / total for part in (1, 0.3, 0.2, 0.09)]
    assert ticket["training_operations"] == pytest.approx((1 + 3 * (sum(levels) + share)) / 4)
    # of 20 steps, seven (2, 4, ... 14) want the gradient of all weights, a third of a dense step
    assert moving["training_operations"] == pytest.approx(share + 7 / 20 * (1 - share) / 3)
    assert share < moving["explored"] <= share + 7 * 0.3 * share
    checks = [row for row in rows if row["kind"] == "check"]
    assert [row["check"] for row in checks] == ["shuffled", "inverted"]
    for row in checks:
        own = trained["LTR", 0.08]["accuracies"]
        differences = np.subtract(row["accuracies"], own)
        np.testing.assert_allclose(row["differences"], differences, atol=2e-6)  # rows are rounded


@pytest.mark.slow
def test_the_accelerators_path_on_a_few_images(monkeypatch):
    """CIFAR-10's shape; the stem of three inputs stays whole under N:M."""
    rng = np.random.default_rng(0)

    def short(outputs, *, width, **named):  # one block a stage for its three, to compile sooner
        return resnet.resnet([width, 2 * width, 4 * width], 1, outputs, projects=False, **named)

    small = downloads.images((32, 32, 3), 8, 4)
    monkeypatch.setattr(networks.tfds, "load", lambda name, directory: small)
    monkeypatch.setattr(networks.resnet, "resnet20", short)
    config = dataclasses.replace(
        script.PAPER, seeds=2, densities=(0.5,), checked=(0.5,), explored=0.5, patterns=((2, 4),),
        width=4, epochs=2, rewind=1, batch=8,
    )  # fmt: skip
    model = networks.network("resnet20", 4)
    shapes = jax.eval_shape(model.init, jax.random.key(0), small.train.inputs)
    params = jax.tree.map(
        lambda leaf: 0.1 * rng.normal(size=(2, *leaf.shape)).astype(np.float32), shapes
    )
    monkeypatch.setattr(networks, "initial", lambda *_: params)  # drawing them compiles for long
    (dense,) = rows_of(config, "dense")
    assert dense["network"] == "resnet20"
    assert dense["training_operations"] == dense["kept"] == 1
    assert all(0 <= right <= 1 for right in dense["accuracies"])
    monkeypatch.setattr(training, "train", untrained)
    rows = {row["method"]: row for row in rows_of(config, "after") if row["kind"] == "trained"}
    assert list(rows) == ["one-shot", "N:M"]
    total, stem = masks.total(networks.shapes("resnet20", 4)), 3 * 3 * 3 * 4
    assert rows["N:M"]["kept"] * total == pytest.approx((total + stem) / 2)


def test_synflow_sees_no_normalisation():
    """A layer of twice the weights has twice the flow; with normalisation it has the same."""
    block = linen.Sequential([linen.Dense(3, use_bias=False), Normalise("group")])
    inputs = jnp.ones((1, 1, 1, 2))
    params = block.init(jax.random.key(0), inputs)
    double = jax.tree.map(lambda leaf: 2 * leaf, params)
    double["params"]["layers_1"] = params["params"]["layers_1"]
    with linen.intercept_methods(methods._bypassed):
        flows = [block.apply(each, inputs) for each in (params, double)]
    np.testing.assert_allclose(flows[1], 2 * flows[0], rtol=1e-6)  # float32
    normalised = [block.apply(each, inputs) for each in (params, double)]
    np.testing.assert_allclose(normalised[1], normalised[0], rtol=1e-3)  # but for its epsilon


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "imagenet"}, "dataset: got 'imagenet'"),
        ({"families": ("SNIP",)}, "families: got"),
        ({"families": ()}, "families: got"),
        ({"seeds": 1}, "seeds: got 1"),
        ({"densities": (0.2, 0.0)}, "densities: got"),
        ({"densities": (1.5,)}, "densities: got"),
        ({"densities": ()}, "densities: got none"),
        ({"checked": (0.3,)}, "checked: got"),
        ({"checked": ()}, "checked: got"),
        ({"explored": 0.3}, "explored: got"),
        ({"rewind": 0}, "rewind: got epoch 0"),
        ({"rewind": 30}, "rewind: got epoch 30"),
        ({"period": 0}, "period: got 0"),
        ({"fraction": 2.0}, "fraction: got"),
        ({"fractions": (-0.1,)}, "fractions: got"),
        ({"pruned": 1.0}, "pruned: got 1.0"),
    ],
)
def test_a_config_that_cannot_be_measured_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        script.Config(**change)


def test_a_density_that_leaves_a_layer_no_weight_is_refused_before_anything_is_trained():
    config = dataclasses.replace(script.LAPTOP, densities=(*script.LAPTOP.densities, 1e-4))
    with pytest.raises(ValueError, match=r"no weight in .*readout/kernel"):
        script.plan(config)
