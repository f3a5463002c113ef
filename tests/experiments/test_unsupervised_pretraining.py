"""Ridge, views and closed forms of `unsupervised_pretraining`; each of its verdicts turns over."""

import copy
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from experiments import _unsupervised_pretraining_factors as factors
from experiments import _unsupervised_pretraining_images as images
from experiments import _unsupervised_pretraining_mixtures as mixtures
from experiments import unsupervised_pretraining as script
from ntkens.data import Dataset, Examples
from tests.experiments.corruptions import change, drop, swap

CLAIMS = ("supervised", "oracle", "pretrained", "slope", "crossover", "rotation", "weak",
          "unrevealed", "isotropic", "separated", "overlapping", "contrastive", "factors",
          "mixture", "encoder")  # fmt: skip
EXPECTED = dict.fromkeys(CLAIMS, "reproduced") | {"unrevealed": "departs"}
REPEATS = 30


def planted():
    """Rows in which everything that is claimed is true."""
    rng = np.random.default_rng(0)

    def about(value, spread=0.1):
        return list(value * (1 + spread * rng.normal(size=REPEATS)))

    rows = []

    def add(kind, **values):
        rows.append({"kind": kind, **values})

    for labels in (80, 240, 960):
        supervised, oracle = 17.4 / (labels - 61), 0.87 / (labels - 4)
        for method, samples, value in (
            ("supervised", 0, supervised), ("oracle", 0, oracle),
            ("pretrained", 100, 0.03 + oracle), ("pretrained", 1000, 0.003 + oracle),
            ("pretrained", 10_000, 0.0003 + oracle),
        ):  # fmt: skip
            add("factors", part="regression", method=method, samples=samples, labels=labels,
                excess=about(value), expected=[value] * REPEATS)  # fmt: skip
    for samples in (100, 1000, 10_000):
        add("factors", part="representation", method="pretrained", samples=samples,
            excess=about(3 / samples), limit=3 / samples)  # fmt: skip
        add("contrastive", samples=samples, labels=60, representation=about(3 / samples),
            excess=about(3 / samples + 0.02), expected=[3 / samples + 0.02] * REPEATS,
            supervised=0.15)  # fmt: skip
        add(
            "isotropic",
            samples=samples,
            labels=960,
            exact=0.95,
            irreducible=0.09,
            explained=1.0,
            representation=about(0.95, 0.02),
            pretrained=about(0.96),
            supervised=about(0.006),
        )
    add("rotation", change=1e-15)
    for which in ("one", "all"):
        for size, lost, supervised in ((2.0, 0.003, 0.02), (0.5, 0.17, 0.06)):
            add("informative", which=which, size=size, samples=1000, labels=960, threshold=0.06,
                irreducible=0.29 if size == 2 else 0.89, explained=0.8 if size == 2 else 0.2,
                tilted=lost, representation=about(lost), pretrained=about(lost + 0.001),
                supervised=about(supervised))  # fmt: skip
    for separation, pretrained in ((8.0, {100: 0.01, 2000: 0.01}), (2.0, {100: 0.05, 2000: 0.02})):
        values = {("oracle", 0): 0.01, ("linear", 0): 0.04, ("alone", 0): 0.02}
        values |= {("pretrained", samples): value for samples, value in pretrained.items()}
        for (method, samples), value in values.items():
            add(
                "mixture",
                separation=separation,
                method=method,
                samples=samples,
                labels=100,
                excess=about(value),
                least_squares=about(value),
                **({"expected": 0.01} if method == "oracle" else {"dead": 0, "unconverged": 1}),
            )
    for split in range(10):
        for labels in (20, 200):
            for method, gain in (("pixels", 0), ("factors", 3), ("mixture", 4), ("contrastive", 5)):
                accuracy = 0.6 + gain / 100 + 0.005 * rng.normal()
                add("images", source="digits", split=split, labels=labels, method=method,
                    accuracy=accuracy)  # fmt: skip
    return rows


def outcomes(rows):
    return dict(zip(CLAIMS, (claim.outcome for claim in script.verdict(rows).claims), strict=True))


def test_planted_rows_give_the_planted_verdict_in_any_order():
    assert outcomes(planted()) == EXPECTED
    assert outcomes(planted()[::-1]) == EXPECTED


def scale(name, by, **where):
    """Multiplies a quantity of some rows."""
    return change({name: lambda row: (np.asarray(row[name]) * by).tolist()}, **where)


def noisy(rows):
    """Two repeats that are far apart."""
    for row in rows:
        for name, value in row.items():
            if isinstance(value, list):
                row[name] = value[:2] if name == "expected" else [0.1 * value[0], 1.9 * value[0]]


def shrink(rows):
    """As the specification expects of an uninformative model."""
    for name in ("supervised", "pretrained"):
        scale(name, 0.01, which="all", size=0.5)(rows)


def bad_encoder(rows):
    """It keeps to its own closed form, and is ahead of d numbers, and yet far from r numbers."""
    for name in ("excess", "expected"):
        scale(name, 5.0, part="regression", samples=10_000)(rows)


def shuffled_labels(rows):
    """Images that are right by chance, whatever the method."""
    rng = np.random.default_rng(1)
    change({"accuracy": lambda row: rng.uniform(0.05, 0.15)}, kind="images")(rows)


def in_one_split(rows):
    """All methods alike but in one split, where each of them gains."""
    rng = np.random.default_rng(2)
    change({"accuracy": lambda row: rng.uniform(0.59, 0.61)}, kind="images")(rows)
    change(
        {"accuracy": 0.99}, kind="images", split=0, method=("factors", "mixture", "contrastive")
    )(rows)


NOT = "not reproduced"
NO_IMAGES = dict.fromkeys(("factors", "mixture", "encoder"), "inconclusive")
FACTORS = {"kind": "factors", "part": "regression"}


@pytest.mark.parametrize(
    ("break_", "turned"),
    [
        (scale("excess", 1.2, method="supervised"), {"supervised": NOT}),
        (scale("excess", 1.2, method="oracle", kind="factors"), {"oracle": NOT}),
        (scale("excess", 1.2, method="pretrained", **FACTORS), {"pretrained": NOT}),
        (swap("method", "supervised", "oracle", **FACTORS),
         {"supervised": NOT, "oracle": NOT, "pretrained": NOT, "crossover": NOT}),
        (change({"excess": [1.0, math.nan] * 15}, method="supervised", labels=240),
         dict.fromkeys(("supervised", "oracle", "pretrained"), "inconclusive")),
        (change({"excess": lambda row: row["expected"]}, method="oracle", kind="factors"),
         {"oracle": NOT}),
        (bad_encoder, {"pretrained": NOT}),
        (swap("samples", 100, 10_000, part="representation"), {"slope": NOT}),
        (change({"excess": [math.nan] * REPEATS}, part="representation", samples=1000),
         {"slope": "inconclusive"}),
        (scale("excess", 5.0, part="representation", samples=10_000),
         {"slope": "inconclusive"}),  # no power law
        (scale("excess", 0.1, method="pretrained", samples=100, **FACTORS),
         {"crossover": NOT, "pretrained": NOT}),
        (change({"change": 1e-9}, kind="rotation"), {"rotation": NOT}),
        (change({"change": math.nan}, kind="rotation"), {"rotation": NOT}),
        (scale("pretrained", 0.01, which="one"), {"weak": NOT}),
        (swap("size", 2.0, 0.5, which="one"), {"weak": NOT}),
        (change({"irreducible": 0.1}, which="all", size=0.5), {"unrevealed": NOT}),
        (shrink, {"unrevealed": "reproduced"}),
        (scale("representation", 0.5, kind="isotropic"), {"isotropic": NOT}),
        (scale("pretrained", 0.001, kind="isotropic"), {"isotropic": NOT}),
        (drop(kind="isotropic", samples=(100, 1000)), {"isotropic": "inconclusive"}),
        (scale("excess", 2.0, kind="mixture", method="pretrained", samples=2000),
         {"separated": NOT}),
        (scale("excess", 0.1, kind="mixture", method="linear"), {"separated": NOT}),
        (swap("samples", 100, 2000, separation=2.0), {"overlapping": NOT}),
        (drop(separation=2.0), {"overlapping": "inconclusive"}),
        (scale("excess", 2.0, kind="contrastive"), {"contrastive": NOT}),
        (swap("samples", 100, 10_000, kind="contrastive"), {"contrastive": NOT}),
        (change({"representation": [math.nan] * REPEATS}, kind="contrastive", samples=100),
         {"contrastive": "inconclusive"}),
        (swap("method", "pixels", "factors", kind="images"), {"factors": NOT}),
        (swap("method", "pixels", "contrastive", kind="images", labels=20),
         {"factors": "departs", "mixture": "departs", "encoder": "departs"}),
        (shuffled_labels, NO_IMAGES),
        (in_one_split, NO_IMAGES),
        (noisy, {name: "inconclusive" for name in CLAIMS if name not in (
            "rotation", "factors", "mixture", "encoder")}),
    ],
)  # fmt: skip
def test_the_verdict_turns_over(break_, turned):
    rows = copy.deepcopy(planted())
    break_(rows)
    assert outcomes(rows) == EXPECTED | turned


def test_the_ridge_is_that_of_leaving_one_out():
    rng = np.random.default_rng(0)
    inputs, queries = rng.normal(size=(15, 20)), rng.normal(size=(5, 20))
    targets = inputs[:, :2] + rng.normal(size=(15, 2))
    scale = np.mean(np.linalg.svd(inputs - inputs.mean(axis=0), compute_uv=False) ** 2)
    errors = [
        np.sum((cross_val_predict(Ridge(each * scale), inputs, targets, cv=LeaveOneOut()) - targets)
               ** 2)
        for each in images.RIDGES[8:]  # below, scikit-learn's solver loses digits
    ]  # fmt: skip
    best = images.RIDGES[8:][np.argmin(errors)] * scale
    expected = Ridge(best).fit(inputs, targets).predict(queries)
    np.testing.assert_allclose(images.ridge(inputs, targets, queries), expected, rtol=1e-8)
    one = images.ridge(inputs, np.ones((15, 1)), queries)  # one class only
    np.testing.assert_allclose(one, np.ones((5, 1)))


def test_two_views_are_shifts_of_the_same_image():
    picture = jnp.zeros((40, 1, 16, 16, 1)).at[:, :, 8, 8].set(100.0)
    views = np.asarray(images._two_views(jax.random.key(0), picture))
    assert views.shape == (40, 2, 16, 16, 1)
    places = np.argwhere(views[..., 0] > 50)[:, 2:]
    assert len(places) == 80
    assert places.min() == 6
    assert places.max() == 10
    assert np.any(views[:, 0] != views[:, 1])


def test_known_components_by_counting():
    """Two labels among two components: both in one (1/2), or one each."""
    found = mixtures.known_components(np.array([0.5, 0.2]), 2)
    # E[1 / n; n > 0] = 1/4 (1 / 2) + 1/2 (1)
    np.testing.assert_allclose(found, 0.5 * (0.25 + 0.16) * (0.125 + 0.5))


def test_the_tilt_is_that_of_large_samples():
    """0 at d / m -> 0 as the expansion of `asymptotic_excess`, and 1 below the threshold."""
    assert factors.tilted(0.5, 0.3) == 1
    explained, ratio = 4 / 5, 1e-4
    np.testing.assert_allclose(explained * factors.tilted(4.0, ratio), 0.05 * ratio, rtol=1e-3)


@pytest.mark.slow
def test_encoders_of_other_inputs_agree_with_their_own_closed_form_alone(monkeypatch):
    """Learnt where p(x) says nothing: they are judged by the oracle's excess and by that of d."""
    config = dataclasses.replace(script.TINY, repeats=20, labels=(30, 60), samples=(600,))

    def judged():
        rows = [row for row in planted() if row["kind"] != "factors"]
        for method, samples in (("supervised", 0), ("oracle", 0), ("pretrained", 600)):
            named = {"kind": "factors", "method": method, "samples": samples}
            rows += [named | row for row in factors.regression(config, method, samples)]
        return outcomes(rows)

    assert judged()["pretrained"] == "reproduced"
    learnt = factors.encoders

    def of_others(config, _, samples):
        return learnt(config, factors.isotropic_task(config), samples)

    monkeypatch.setattr(factors, "encoders", of_others)
    found = judged()
    assert found["pretrained"] == NOT
    assert found["supervised"] == found["oracle"] == "reproduced"


@pytest.mark.slow
def test_images_of_the_accelerators_shape():
    """28 x 28 pixels, all four methods; classes that a few pixels tell apart are found."""
    rng = np.random.default_rng(0)

    def examples(count):
        labels = np.arange(count, dtype=np.int32) % 10
        pictures = rng.random((count, 28, 28, 1)).astype(np.float32)
        pictures[np.arange(count), 2 * labels + 4, 5:25] += 3.0
        return Examples(pictures, labels)

    config = dataclasses.replace(
        script.TINY, image_factors=9, image_components=10, image_labels=(50,), image_widths=(8,)
    )
    data = Dataset(examples(100), examples(60))
    rows = list(images.accuracies(config, jax.random.key(0), data))
    found = {row["method"]: row["accuracy"] for row in rows}
    assert set(found) == set(images.METHODS)
    assert min(found["pixels"], found["factors"], found["mixture"]) > 0.8  # by chance 0.1
    assert rows[2]["dead"] == 0
    labels = rng.permutation(data.train.labels)
    shuffled = data._replace(train=data.train._replace(labels=labels))
    rows = images.accuracies(config, jax.random.key(0), shuffled)
    assert max(row["accuracy"] for row in rows) < 0.35  # 6 of 60 by chance, deviation 2.3
    with pytest.raises(ValueError, match="there are 100 images"):
        next(images.accuracies(dataclasses.replace(config, image_labels=(101,)), None, data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repeats": 1}, "repeats: got 1"),
        ({"factors": 60}, "factors: got 60"),
        ({"labels": (61,)}, "labels: got .* want 62 or more"),
        ({"samples": (2,)}, "samples: got .* want 3 or more"),
        ({"sizes": (0.0,)}, "sizes: got"),
        ({"components": 31}, "components: got 31"),
        ({"contrastive_labels": 21}, "contrastive_labels: got 21"),
        ({"images": ("cifar10",)}, "images: got 'cifar10'"),
    ],
)
def test_a_config_that_cannot_be_measured_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        script.Config(**change)
