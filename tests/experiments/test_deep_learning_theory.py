"""Samples, images and refusals of `deep_learning_theory`; each of its verdicts turns over."""

import copy
import itertools
import math

import jax
import numpy as np
import pytest

from experiments import _deep_learning_theory_activations as activations
from experiments import _deep_learning_theory_images as images
from experiments import _deep_learning_theory_sampled as sampled
from experiments import _deep_learning_theory_verdict as judge
from experiments import deep_learning_theory as script
from experiments import run
from ntkens.data import Dataset, Examples
from tests.experiments.corruptions import change, drop, swap

CLAIMS = ("points", "universal", "off", "kernel", "vertex", "tangent", "rate", "tangent rate",
          "collapse", "skip", "digits", "movement")  # fmt: skip
EXPECTED = dict.fromkeys(CLAIMS, "reproduced")


def planted():
    """Rows in which everything that the book says is true."""
    rng = np.random.default_rng(0)
    rows = []
    for name, point in judge.POINTS.items():
        row = {"kind": "critical", "activation": name, "reason": "", "universality": "none",
               "line_bias": [0.0], "line_weight": [1.0]}  # fmt: skip
        if point:
            kernel = 1.0 if math.isnan(point[2]) else point[2]
            row |= {"universality": "zero", "bias_variance": point[0], "weight_variance": point[1],
                    "critical_kernel": kernel, "parallel": 1.0, "perpendicular": 1.0}  # fmt: skip
        rows.append(row)
    for depth in (10, 10_000):
        for name, growth in (("tanh", 2 / 3), ("ReLU", 5.0)):
            rows.append({"kind": "universal", "activation": name, "depth": depth,
                         "expected": growth, "growth": growth * (1 - 1 / depth),
                         "scaled_kernel": 0.5})  # fmt: skip
    for weight_variance in (0.7, 1.5):
        rows.append({"kind": "approach", "activation": "tanh", "weight_variance": weight_variance,
                     "rate": -0.9, "log_parallel": -0.9})  # fmt: skip

    def measured(name, exact, error):
        return {name: exact + error * rng.normal(), f"{name} error": error}

    for layer in (2, 8):
        for weight_variance in (1.8, 2.0, 2.2):
            exact = (weight_variance / 2) ** (layer - 1)
            rows.append({"kind": "off_critical", "weight_variance": weight_variance, "width": 64,
                         "layer": layer, "kernel exact": exact,
                         **measured("kernel", exact, 0.01)})  # fmt: skip
        for width, (name, nu) in itertools.product((32, 64, 128), (("ReLU", 5), ("linear", 2))):
            vertex = 9 * width * ((1 + nu / width) ** (layer - 1) - 1)  # K = 3
            row = {"kind": "layers", "activation": name, "width": width, "layer": layer,
                   "vertex exact": vertex, **measured("pairs", vertex, vertex / 150),
                   **measured("vertex", vertex, vertex / 300)}  # fmt: skip
            for name in ("kernel", "tangent", "tangent_variance", "mixed", "mixed_output"):
                row |= {f"{name} exact": 3.0, f"{name} theory": 3.0, **measured(name, 3.0, 0.01)}
            rows.append(row)
        for width in (8, 16, 32):
            row = {"kind": "layers", "activation": "tanh", "width": width, "layer": layer}
            for name in ("vertex", "tangent_variance"):
                row |= {f"{name} leading": 2.0, f"{name} further": 2 + 1 / width,
                        **measured(name, 2 + 1 / width, 1e-3)}  # fmt: skip
            rows.append(row)
    for width in (16, 32, 64):
        relative = (1 + 5 / width) ** (width // 4) - 1
        rows.append({"kind": "collapsed", "activation": "ReLU", "ratio": 0.25, "width": width,
                     "relative limit": math.exp(1.25) - 1, "relative exact": relative,
                     **measured("relative", relative, 5e-3)})  # fmt: skip
        rows.append({"kind": "pairs", "width": width, "depth": 2, "relative exact": 8 / width,
                     "is_diagonal": [True, False], "means": [2.01, 1.5], "infinite": [2.0, 1.4],
                     "mean errors": [0.01, 0.01], "relative": [8.1 / width, 9 / width],
                     "relative errors": [0.2 / width, 0.2 / width],
                     **measured("pairs", 9 / width, 0.2 / width)})  # fmt: skip
        rows.append({"kind": "movement", "dataset": "digits", "width": width, "depth": 2,
                     "loss": 0.01, "diverged": 0,
                     **measured("moved", 3 / width, 0.1 / width)})  # fmt: skip
    rows.append({"kind": "skipped", "activation": "linear", "skip": 0.5, "width": 64,
                 "vertex plain": 10.0, "vertex leading": 8.0, "vertex even": 8.0,
                 **measured("vertex", 8.0, 0.1)})  # fmt: skip
    return rows


def outcomes(rows):
    return dict(zip(CLAIMS, (claim.outcome for claim in script.verdict(rows).claims), strict=True))


def level(value):
    """Almost the same at all widths: a fit to constants does not know its error."""
    return lambda row: value * (1 + 0.01 * math.log(row["width"]))


def blown_up(**where):
    """Errors a hundred times as large, in which everything is hidden."""

    def apply(rows):
        for row in rows:
            if where.items() <= row.items():
                row |= {name: 100 * row[name] for name in row if name.endswith(" error")}

    return apply


def two_widths(kind):
    def apply(rows):
        rows[:] = [row for row in rows if row["kind"] != kind or row["width"] in (8, 16)]

    return apply


def test_planted_rows_give_the_planted_verdict_in_any_order():
    assert outcomes(planted()) == EXPECTED
    assert outcomes(planted()[::-1]) == EXPECTED
    assert script.verdict(planted()[:1]).claims[0].outcome == "reproduced"  # alone


@pytest.mark.parametrize(
    ("break_", "turned"),
    [
        (change({"weight_variance": 1.984}, kind="critical", activation="GELU"),
         {"points": "not reproduced"}),
        (change({"universality": "zero", "bias_variance": 0.0, "weight_variance": 1.0,
                 "critical_kernel": 1.0, "parallel": 1.0, "perpendicular": 1.0},
                kind="critical", activation="sigmoid"),
         {"points": "not reproduced"}),
        (change({"parallel": 1.01}, kind="critical", activation="tanh"),
         {"points": "not reproduced"}),
        (change({"perpendicular": math.nan}, kind="critical", activation="tanh"),
         {"points": "not reproduced"}),
        (swap("activation", "ReLU", "linear", kind="critical"), {"points": "not reproduced"}),
        (change({"growth": 0.6}, kind="universal", activation="tanh"), {"universal": "departs"}),
        (change({"growth": math.nan}, kind="universal", depth=10),
         {"universal": "not reproduced"}),
        (swap("activation", "tanh", "ReLU", kind="universal"), {"universal": "not reproduced"}),
        (swap("depth", 10, 10_000, kind="universal"), {"universal": "not reproduced"}),
        (drop(kind="universal", depth=10_000), {"universal": "inconclusive"}),
        (change({"rate": -1.0}, kind="approach"), {"off": "not reproduced"}),
        (change({"rate": math.nan}, kind="approach", weight_variance=1.5),
         {"off": "not reproduced"}),
        (change({"kernel": 1.0}, kind="off_critical", weight_variance=1.8),
         {"off": "not reproduced"}),
        (change({"kernel": math.nan}, kind="off_critical", weight_variance=2.2),
         {"off": "not reproduced"}),
        (swap("weight_variance", 1.8, 2.2, kind="off_critical"), {"off": "not reproduced"}),
        (drop(kind="off_critical", weight_variance=(1.8, 2.2)), {"off": "inconclusive"}),
        (blown_up(kind="off_critical"), {"off": "inconclusive"}),
        (blown_up(kind="layers", activation="ReLU"),
         {"kernel": "inconclusive", "vertex": "inconclusive", "tangent": "inconclusive"}),
        (swap("activation", "ReLU", "linear", kind="layers"), {"vertex": "not reproduced"}),
        (change({"kernel error": 0.0}, kind="layers", activation="ReLU"),
         {"kernel": "not reproduced"}),
        (change({"kernel": 3.1}, kind="layers", activation="ReLU", width=64, layer=8),
         {"kernel": "not reproduced"}),
        (change({"pairs": 3.2}, kind="layers", activation="ReLU", width=64, layer=8),
         {"vertex": "not reproduced"}),
        (change({"mixed": 2.9}, kind="layers", activation="ReLU", width=64, layer=2),
         {"tangent": "not reproduced"}),
        (change({"vertex": lambda row: 2 + 8 / row["width"] ** 2},
                kind="layers", activation="tanh"),
         {"rate": "not reproduced"}),
        (change({"vertex error": 1.0}, kind="layers", activation="tanh"),
         {"rate": "inconclusive"}),
        (change({"tangent_variance": level(2.1)}, kind="layers", activation="tanh"),
         {"tangent rate": "not reproduced"}),
        (change({"relative": level(0.5)}, kind="collapsed"), {"collapse": "not reproduced"}),
        (change({"relative": 0.5}, kind="collapsed", width=64), {"collapse": "not reproduced"}),
        (swap("width", 16, 64, kind="collapsed"), {"collapse": "not reproduced"}),
        (change({"relative": math.nan}, kind="collapsed", width=32),
         {"collapse": "not reproduced"}),
        (blown_up(kind="collapsed"), {"collapse": "inconclusive"}),
        (change({"vertex": 12.0}, kind="skipped"), {"skip": "not reproduced"}),
        (change({"vertex": 10.1}, kind="skipped"), {"skip": "inconclusive"}),
        (change({"relative": [0.9, 0.9]}, kind="pairs"), {"digits": "departs"}),
        (change({"pairs": level(0.3)}, kind="pairs"), {"digits": "departs"}),
        (change({"pairs": math.nan}, kind="pairs", width=32), {"digits": "inconclusive"}),
        (change({"relative errors": [0.3, 0.3]}, kind="pairs"), {"digits": "inconclusive"}),
        (swap("width", 16, 32, kind="pairs"), {"digits": "inconclusive"}),
        (change({"moved": level(0.1)}, kind="movement"), {"movement": "not reproduced"}),
        (change({"moved": lambda row: 1 / row["width"] ** 0.5}, kind="movement"),
         {"movement": "not reproduced"}),
        (change({"moved": lambda row: 1 / row["width"] ** 0.5,
                 "moved error": lambda row: 0.2 / row["width"] ** 0.5}, kind="movement"),
         {"movement": "inconclusive"}),
        (change({"moved": math.nan}, kind="movement", width=32), {"movement": "inconclusive"}),
        (swap("width", 16, 32, kind="movement"), {"movement": "inconclusive"}),
        (change({"loss": 0.9}, kind="movement", width=16), {"movement": "inconclusive"}),
        (change({"diverged": 1}, kind="movement", width=16), {"movement": "inconclusive"}),
        (change({"vertex": math.nan}, kind="skipped"), {"skip": "inconclusive"}),
        (two_widths("collapsed"), {"collapse": "inconclusive"}),
        (two_widths("movement"), {"movement": "inconclusive"}),
        (two_widths("layers"), {"rate": "inconclusive", "tangent rate": "inconclusive"}),
    ],
)  # fmt: skip
def test_the_verdict_turns_over(break_, turned):
    rows = copy.deepcopy(planted())
    break_(rows)
    if break_.__qualname__.startswith("two_widths") and "rate" in turned:
        rows += [row for row in planted() if row.get("activation") == "ReLU" and "pairs" in row]
    assert outcomes(rows) == EXPECTED | turned


def test_exact_claims_take_three_widths():
    rows = [row for row in planted() if row.get("width") not in (64, 128)]
    claims = {claim.statement[:14]: claim.outcome for claim in script.verdict(rows).claims}
    assert claims["their four-poi"] == "inconclusive"


@pytest.mark.slow
def test_sampled_layers_are_as_the_series_says():
    """tanh at width 64: what is sampled is within 5 standard errors and the next order of it."""
    rows = list(sampled.layers(jax.random.key(0), "tanh", 64, 3, 20_000))
    assert [row["layer"] for row in rows] == [2, 3]
    for row in rows:
        for name in ("vertex", "pairs", "tangent_variance", "mixed", "mixed_output"):
            leading = row["vertex leading" if name == "pairs" else f"{name} leading"]
            assert abs(row[name] - leading) < 5 * row[f"{name} error"] + 0.03 * abs(leading), name
        for name in ("kernel", "tangent"):
            assert abs(row[name] - row[f"{name} theory"]) < 5 * row[f"{name} error"]
        assert abs(row["vertex"] - row["vertex further"]) < 5 * row["vertex error"]


@pytest.mark.slow
def test_networks_of_another_activation_are_found_out(monkeypatch):
    """Linear ones at the critical point of ReLU, where their kernel doubles at each layer."""

    def judged():
        rows = sampled.layers(jax.random.key(0), "ReLU", 8, 3, 2000)
        named = {"kind": "layers", "activation": "ReLU", "width": 8}
        return {claim.outcome for claim in script.verdict([named | row for row in rows]).claims}

    assert judged() == {"inconclusive"}  # all agree, at one width
    linear = {"ReLU": activations.ACTIVATIONS["linear"]}
    monkeypatch.setattr(sampled, "ACTIVATIONS", linear)
    assert judged() == {"not reproduced"}


def test_images_of_two_classes_on_a_sphere(monkeypatch):
    """The path of an accelerator's preset, on a few arrays of CIFAR-10's shape."""
    rng = np.random.default_rng(0)
    pixels = rng.random((40, 4, 4, 3), np.float32)
    data = Examples(pixels, np.arange(40, dtype=np.int32) % 10)
    monkeypatch.setattr(images.tfds, "load", lambda name, directory: Dataset(data, data))
    inputs, targets = images.load("cifar10", "", 6)
    assert inputs.shape == (6, 48)
    np.testing.assert_allclose(np.sum(np.asarray(inputs) ** 2, axis=1), 48, rtol=1e-5)
    np.testing.assert_array_equal(targets[:, 0], [-1, 1] * 3)
    first = pixels[1].ravel()  # the first of class 1
    np.testing.assert_allclose(inputs[1], first * np.sqrt(48) / np.linalg.norm(first), rtol=1e-5)
    with pytest.raises(ValueError, match="examples: got 10"):
        images.load("cifar10", "", 10)  # there are 4 of each class


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"critical": ("relu",)}, "critical: got"),
        ({"scale_invariant": ("tanh",)}, "scale_invariant: got"),
        ({"others": ("sigmoid",)}, "no critical point"),
        ({"images": ("imagenet",)}, "images: got"),
        ({"networks": 1}, "networks: got 1"),
        ({"examples": 5}, "examples: got 5"),
        ({"skips": (1.0,)}, "skips: got"),
        ({"widths": (1,)}, "widths: got"),
    ],
)
def test_a_config_that_cannot_be_measured_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        script.Config(**change)


def test_every_activation_has_a_known_point():
    assert set(judge.POINTS) == set(activations.ACTIVATIONS)
    assert set(script.LAPTOP.critical) == set(judge.POINTS)
    assert all(isinstance(cell, run.Cell) for cell in script.plan(script.PAPER))
