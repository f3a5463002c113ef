"""`predictive_diversity`: each verdict turns over, and its parts against brute force."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from experiments import _predictive_diversity_training as training
from experiments import _predictive_diversity_verdict as judge
from experiments import predictive_diversity as script
from ntkens.data import Dataset, Examples
from ntkens.ensembles import diversity
from tests.experiments.corruptions import change, drop

CLAIMS = ("weak", "strong", "falls", "bounded", "kl", "harmless", "costly", "gap", "members",
          "mechanism", "free")  # fmt: skip
NETWORKS, GAMMAS, SEEDS = ("weak", "middle", "strong"), (-1.0, 0.0, 0.5, 1.0), 12
EFFECTS = {"weak": 0.05, "middle": 0.0, "strong": -0.02}  # of gamma = 1
SMALL = dataclasses.replace(script.TINY, train=120, epochs=2, networks=("mlp-2", "mlp-3"))


def planted():
    """Rows in which everything that the paper says is true."""
    rng = np.random.default_rng(0)

    def seeds(mean, noise=1e-3):
        return list(mean + noise * rng.normal(size=SEEDS))

    rows = []
    for network, regulariser, gamma in itertools.product(
        NETWORKS, ("jensen_gap", "variance", "jensen_shannon", "kl"), GAMMAS
    ):
        if regulariser != "jensen_gap" and (gamma == 0 or network == "middle"):
            continue
        gain = EFFECTS[network] * gamma if gamma > 0 or network == "weak" else 0.0
        parts = [[0.02, 0.01 - gain * 0.1, 0.01 - gain * 0.3, 0.01 - gain * 0.6]] * SEEDS
        rows.append({
            "kind": "joint", "network": network, "regulariser": regulariser, "gamma": gamma,
            "seeds": list(range(SEEDS)),
            "accuracy": seeds(0.9 + gain), "nll": seeds(0.1 - gain),
            "member_accuracy": seeds(0.85 - 0.1 * max(gamma, 0)), "gap": seeds(0.2 + 0.1 * gamma),
            "nll_parts": (np.array(parts) + 1e-4 * rng.normal(size=(SEEDS, 4))).tolist(),
            "shares": [[0.1, 0.1, 0.2, 0.6]] * SEEDS, "room_left": [1e-6] * SEEDS, "diverged": 0,
        })  # fmt: skip
    row = {"kind": "mixed", "macs": 100, "single_macs": 99, "seeds": list(range(SEEDS))}
    for name, nll, gap in (("alike", 0.2, 0.02), ("mixed", 0.19, 0.03), ("single", 0.1, 0.0),
                           ("single_ensemble", 0.09, 0.02)):  # fmt: skip
        row |= {f"{name}_nll": seeds(nll), f"{name}_accuracy": seeds(1 - nll),
                f"{name}_member_nll": seeds(nll + gap), f"{name}_gap": seeds(gap)}  # fmt: skip
    return [*rows, row]


def outcomes(rows):
    return dict(zip(CLAIMS, (claim.outcome for claim in script.verdict(rows).claims), strict=True))


def shifted(field, shift):
    return lambda row: (np.array(row[field]) + shift).tolist()


ENCOURAGED = {"gamma": (0.5, 1.0)}
MOST = {"network": "strong", "gamma": 1.0}


def in_one_seed(rows):
    """The gain of weak members in accuracy is that of one of them alone."""
    before, after = (
        next(row for row in rows if row["network"] == "weak" and row["gamma"] == gamma)
        for gamma in (0.0, 1.0)
    )
    gain = np.subtract(after["accuracy"], before["accuracy"]).sum()
    after["accuracy"] = [before["accuracy"][0] + gain, *before["accuracy"][1:]]


def three_seeds(rows):
    """Of a gain 3.5 standard errors large: Student's t wants 4.3."""
    for row in rows:
        row |= {name: value[:3] for name, value in row.items() if isinstance(value, list)}
    change({"nll": [0.1] * 3}, network="weak", gamma=0.0)(rows)
    change({"nll": [0.04, 0.06, 0.08]}, network="weak", **ENCOURAGED)(rows)


def swap_mixed(other, fields):
    """What mixed ensembles are, and what another is."""

    def apply(rows):
        for field in fields:
            first, second = f"mixed_{field}", f"{other}_{field}"
            rows[-1][first], rows[-1][second] = rows[-1][second], rows[-1][first]

    return apply


def test_planted_rows_give_the_planted_verdict():
    assert outcomes(planted()) == dict.fromkeys(CLAIMS, "reproduced")


@pytest.mark.parametrize(
    ("break_", "turned"),
    [
        (change({"nll": shifted("nll", 0.2)}, network="weak", **ENCOURAGED),
         {"weak": "not reproduced", "falls": "not reproduced", "bounded": "not reproduced"}),
        (change({"accuracy": [0.9] * (SEEDS - 1) + [1.0]}, network="weak",
                regulariser="jensen_gap", **ENCOURAGED),
         {"weak": "inconclusive", "bounded": "reproduced"}),
        (in_one_seed, {"weak": "inconclusive", "falls": "inconclusive"}),
        (three_seeds, {"weak": "inconclusive", "strong": "reproduced"}),
        (change({"nll": shifted("nll", -0.1)}, network="strong", **ENCOURAGED),
         {"strong": "not reproduced", "bounded": "not reproduced"}),
        (change({"accuracy": shifted("accuracy", 0.1)}, network="strong", **ENCOURAGED),
         {"strong": "not reproduced", "falls": "not reproduced"}),
        (change({"nll": [math.nan] * SEEDS}, **MOST),
         {"strong": "inconclusive", "falls": "inconclusive", "bounded": "inconclusive",
          "kl": "inconclusive"}),
        (change({"nll_parts": [[math.nan] * 4] * SEEDS}, **MOST), {"mechanism": "inconclusive"}),
        (change({"accuracy": [math.nan] * SEEDS}, **MOST),
         {"strong": "inconclusive", "bounded": "inconclusive"}),
        (drop(regulariser="jensen_gap", **MOST), {"strong": "inconclusive"}),
        (change({"nll": shifted("nll", 0.1)}, network="middle", gamma=1.0), {"falls": "departs"}),
        (change({"nll": [0.0, 0.2] * 6}, regulariser="jensen_gap", **ENCOURAGED),
         {"weak": "inconclusive", "strong": "inconclusive", "falls": "inconclusive"}),
        (drop(regulariser="jensen_shannon"), {"bounded": "inconclusive"}),
        (change({"nll": shifted("nll", 0.2)}, network="weak", regulariser="jensen_shannon"),
         {"bounded": "not reproduced"}),
        (change({"accuracy": shifted("accuracy", -0.7)}, network="weak", regulariser="kl"),
         {"kl": "not reproduced", "bounded": "reproduced", "weak": "reproduced"}),
        (drop(regulariser="kl"), {"kl": "inconclusive"}),
        (change({"nll": shifted("nll", 0.02)}, network="strong", gamma=-1.0),
         {"harmless": "not reproduced"}),
        (change({"nll": [0.09, 0.11] * 6}, network="strong", gamma=-1.0),
         {"harmless": "inconclusive"}),
        (change({"accuracy": shifted("accuracy", 0.2)}, network="weak", gamma=-1.0),
         {"costly": "not reproduced"}),
        (change({"nll": [0.0, 0.25] * 6}, network="weak", gamma=-1.0), {"costly": "inconclusive"}),
        (change({"gap": shifted("gap", 0.2)}, network="middle", gamma=0.0),
         {"gap": "not reproduced"}),
        (change({"gap": [0.2, math.nan] * 6}, network="middle", gamma=0.0),
         {"gap": "inconclusive"}),
        (change({"member_accuracy": shifted("member_accuracy", 0.2)}, network="middle", gamma=1.0),
         {"members": "not reproduced"}),
        (change({"member_accuracy": [0.6, 1.0] * 6}, network="middle", gamma=1.0),
         {"members": "inconclusive"}),
        (change({"nll_parts": lambda row: [parts[::-1] for parts in row["nll_parts"]]},
                network="strong"),
         {"mechanism": "not reproduced"}),
        (change({"nll_parts": [[0.02, 0.01, 0.04, 0.01]] * SEEDS}, **MOST), {}),  # sure, barely
        (change({"nll_parts": [[0.02, 0.04, 0.01, 0.01]] * SEEDS}, **MOST),
         {"mechanism": "not reproduced"}),
        (change({"nll_parts": [[0.01] * 4] * SEEDS}, network="strong"),
         {"mechanism": "inconclusive"}),  # no harm, and nothing to explain
        (change({"accuracy": [0.1] * SEEDS}, **MOST),
         {"mechanism": "inconclusive"}),  # of all that they knew, most is what they were sure of
        (change({"room_left": [-1e-3]}, network="middle"), {"mechanism": "not reproduced"}),
        (change({"mixed_nll": shifted("mixed_nll", -0.15)}, kind="mixed"),
         {"free": "not reproduced"}),
        (swap_mixed("single", ("nll", "accuracy")), {"free": "not reproduced"}),
        (swap_mixed("alike", ("nll", "accuracy", "gap")), {"free": "inconclusive"}),
        (change({"mixed_gap": lambda row: row["alike_gap"]}, kind="mixed"),
         {"free": "inconclusive"}),  # members permuted: of one architecture, too
        (change({"single_macs": 200}, kind="mixed"), {"free": "inconclusive"}),
        (list.reverse, {"weak": "not reproduced", "strong": "not reproduced"}),  # of capacity
        (change({"gamma": lambda row: -row["gamma"]}, kind="joint"),
         {"weak": "not reproduced", "costly": "not reproduced", "gap": "not reproduced"}),
    ],
)  # fmt: skip
def test_the_verdict_turns_over(break_, turned):
    rows = planted()
    break_(rows)
    found = outcomes(rows)
    assert {claim: found[claim] for claim in turned} == turned


def test_seeds_that_were_shuffled_lose_the_pairing():
    """The splits differ by more than gamma does: only paired differences see its effect."""
    rows = planted()
    for row in rows[:-1]:
        luck = np.linspace(0, 1, SEEDS)
        row["nll"] = (np.array(row["nll"]) + luck).tolist()
    assert outcomes(rows)["weak"] == "reproduced"
    for row in rows[:-1]:
        if row["gamma"] > 0:
            row["nll"] = row["nll"][::-1]
    assert outcomes(rows)["weak"] == "inconclusive"


def test_blocks_of_seeds_are_one_sample():
    rows, split = planted(), []
    for row in rows:
        for block in (slice(0, 5), slice(5, None)):
            split.append({name: value[block] if isinstance(value, list) else value
                          for name, value in row.items()})  # fmt: skip
    assert script.verdict(split) == script.verdict(rows)


def drawn(seed, shape):
    return 3 * np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_what_is_judged_is_brute_force():
    logits, reference = drawn(0, (2, 3, 50, 4)), drawn(1, (2, 3, 50, 4))
    labels = np.random.default_rng(2).integers(0, 4, (2, 50))
    found = {name: np.asarray(value)[1] for name, value in
             script._judged(logits, reference, labels).items()}  # fmt: skip
    p, q, y = special.softmax(logits[1].astype(float), -1), labels[1], np.arange(50)
    mean = p.mean(0)
    losses = -np.log(mean[y, q])
    assert found["accuracy"] == pytest.approx(np.mean(mean.argmax(-1) == q))
    assert found["member_accuracy"] == pytest.approx(np.mean(p.argmax(-1) == q))
    assert found["nll"] == pytest.approx(losses.mean())
    assert found["gap"] == pytest.approx(-np.log(p[:, y, q]).mean() - losses.mean())
    pairs = itertools.permutations(range(3), 2)
    assert found["disagreement"] == pytest.approx(
        np.mean([np.mean(p[i].argmax(-1) != p[j].argmax(-1)) for i, j in pairs])
    )
    sure = special.softmax(reference[1].astype(float), -1).mean(0)[y, q]
    for place, (low, high) in enumerate(itertools.pairwise(judge.BINS)):
        inside = (sure >= low) & (sure < high)
        assert found["shares"][place] == pytest.approx(inside.mean())
        assert found["nll_parts"][place] == pytest.approx(np.sum(losses[inside]) / 50)
    assert found["nll_parts"].sum() == pytest.approx(found["nll"])
    gaps = -np.log(p[:, y, q]).mean(0) - losses
    assert found["room_left"] == pytest.approx(np.min(-np.log(p[:, y, q].min(0)) - gaps))


def test_members_that_are_one_network_are_not_diverse():
    """And labels that are shuffled leave nothing that anybody is sure of."""
    logits, reference = drawn(0, (2, 3, 50, 4)), drawn(1, (2, 3, 50, 4))
    alike = np.repeat(logits[:, :1], 3, axis=1)
    labels = logits.mean(1).argmax(-1)
    found = script._judged(alike, reference, labels)
    for measure in ("gap", "variance", "jensen_shannon", "kl", "disagreement"):
        np.testing.assert_allclose(found[measure], 0, atol=1e-12)
    np.testing.assert_allclose(found["accuracy"], found["member_accuracy"])
    known, shuffled = (script._judged(logits, logits, each) for each in (labels, labels[:, ::-1]))
    assert np.all(known["accuracy"] > 0.7)  # logits are averaged in labels, probabilities here
    assert np.all(shuffled["accuracy"] < known["accuracy"] - 0.3)
    assert np.all(shuffled["shares"][:, 0] > known["shares"][:, 0])


def test_mixed_ensembles_have_the_members_of_the_others(monkeypatch):
    """And so on average as good ones: the gain is in the gap alone."""
    config = dataclasses.replace(
        SMALL, members=3, mixed=("mlp-2", "mlp-3", "mlp-2-2"), single="mlp-4"
    )
    logits = {name: drawn(place, (2, 3, 20, 10)) for place, name in
              enumerate((*config.mixed, config.single))}  # fmt: skip
    labels = np.random.default_rng(9).integers(0, 10, (2, 20))
    monkeypatch.setattr(training, "train", lambda config, name, *_: logits[name])
    monkeypatch.setattr(training, "test_labels", lambda *_: labels)
    row = script._mixed(config, np.arange(2))
    np.testing.assert_allclose(row["alike_member_nll"], row["mixed_member_nll"], rtol=1e-12)
    for name in ("alike", "mixed"):
        kept = np.subtract(row[f"{name}_member_nll"], row[f"{name}_gap"])
        np.testing.assert_allclose(row[f"{name}_nll"], kept, rtol=1e-12)
    p = {name: special.softmax(each.astype(float), -1) for name, each in logits.items()}
    squares = [
        -np.log(np.mean([p[name][0, (i + turn) % 3] for i, name in enumerate(config.mixed)], 0)[
            np.arange(20), labels[0]]).mean() for turn in range(3)
    ]  # fmt: skip
    assert row["mixed_nll"][0] == pytest.approx(np.mean(squares))
    alone = -np.log(p["mlp-4"][0][:, np.arange(20), labels[0]])
    assert row["single_nll"][0] == pytest.approx(alone.mean())
    assert row["single_gap"] == pytest.approx([0, 0], abs=1e-12)
    monkeypatch.setattr(training, "train", lambda *_: logits["mlp-2"])
    same = script._mixed(config, np.arange(2))  # of one architecture there is nothing to mix
    for measure in ("accuracy", "nll", "gap"):
        np.testing.assert_allclose(same[f"mixed_{measure}"], same[f"alike_{measure}"], atol=1e-12)


def test_the_split_is_new_for_each_seed_and_leaves_nothing_out():
    data = training.task(SMALL)
    assert data.train.shape == (2, 120)
    for train, test in zip(data.train, data.test, strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(1797))
    assert len(np.intersect1d(*data.train)) < 30  # 8 by chance
    assert data.classes == 10


@pytest.mark.slow
def test_training_is_the_gradient_descent_of_its_loss():
    """One seed by hand: the same initial params and batches, optax step by step."""
    config = dataclasses.replace(SMALL, seeds=2, epochs=1, batch=1000)
    found = training.train(config, "mlp-3", "variance", 0.5, np.array([1]))
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), 0), 1)
    model, data = training.build("mlp-3", 10), training.task(config)
    init_key, _ = jax.random.split(key)
    params = [
        model.init(jax.random.fold_in(init_key, i), jnp.asarray(data.pool.inputs[:1]))
        for i in range(2)
    ]
    inputs, labels = (jnp.asarray(each[data.train[1]]) for each in data.pool)

    def loss(params):
        logits = jnp.stack([model.apply(member, inputs) for member in params])
        return diversity.regularised(logits, labels, 0.5, "variance").mean()

    optimiser = optax.adam(config.rate)
    updates, _ = optimiser.update(jax.jit(jax.grad(loss))(params), optimiser.init(params))
    for member, logits in zip(optax.apply_updates(params, updates), found[0], strict=True):
        expected = model.apply(member, jnp.asarray(data.pool.inputs[data.test[1]]))
        # float32; the order of the batch differs, and Adam's first step is a sign
        np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.slow
def test_gamma_encourages_what_its_regulariser_measures():
    config = dataclasses.replace(SMALL, epochs=20, networks=("mlp-8", "mlp-8"))
    labels, seeds = training.test_labels(config, np.arange(2)), np.arange(2)
    for regulariser in ("variance", "jensen_shannon", "kl"):  # the gap: at every run of the script
        found = []
        for gamma in (-1.0, 1.0):
            logits = training.train(config, "mlp-8", regulariser, gamma, seeds)
            found.append(np.mean(script._judged(logits, logits, labels)[regulariser]))
        assert found[1] > found[0]


@pytest.mark.slow
def test_images_train_with_the_recipe_of_the_paper(monkeypatch):
    """CIFAR's shapes through the same code: a convolutional network, SGD, augmentation."""
    rng = np.random.default_rng(0)
    colours = np.arange(40) % 3  # no brightness: that is normalised away
    images = rng.random((40, 32, 32, 3)) / 2 + np.eye(3)[colours][:, None, None] / 2
    images = images.astype(np.float32)
    whole = Examples(images, colours.astype(np.int32))
    asked = []

    def load(name, directory):
        asked.append((name, directory))
        return Dataset(whole, Examples(images[:10], whole.labels[:10]))

    monkeypatch.setattr(training.tfds, "load", load)
    config = dataclasses.replace(
        script.PAPER, dataset="cifar10", networks=("conv-4-4", "conv-8-8"), members=2,
        mixed=("conv-4-4", "conv-8-8"), seeds=2, epochs=30, batch=20,
    )  # fmt: skip
    cells = script.plan(config)
    references = [(cell.parameters.get("network"), *cell.parameters["seeds"]) for cell in cells]
    changes = [key for key, _ in itertools.groupby(references)]
    assert len(changes) == len(set(changes)) == 6  # none is trained twice
    cell = cells[1]
    assert cell.key == "joint conv-4-4 jensen_gap -0.5 seeds 0-0"
    (row,) = script.measure(config, cell)
    assert asked == [("cifar10", None)]
    assert row["diverged"] == 0
    assert np.isfinite(row["nll"]).all()
    assert row["nll"][0] < math.log(3)  # it learnt something
    np.testing.assert_array_equal(training.task(config).test[1], np.arange(40, 50))


def test_sgd_gives_each_member_its_own_rate():
    """The joint loss divides gradients by M; the first step after the warm-up undoes it."""
    config = dataclasses.replace(script.PAPER, members=4, weight_decay=0.2, rate=0.1)
    optimiser = training.optimisers(config, 10)
    params, update = jnp.array(1.0), jax.jit(optimiser.update)
    state = optimiser.init(params)
    for _ in range(3):  # the warm-up, at rest
        _, state = update(-0.2 * params / 4, state, params)
    change, _ = update(jnp.array(1 / 4), state, params)
    expected = -0.1 * (1 + 0.2) * 1.9  # Nesterov: the gradient, and 0.9 of a momentum that is it
    np.testing.assert_allclose(change, expected, rtol=1e-6)


def test_networks_by_their_names():
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    sizes = {}
    for name in ("mlp-5", "mlp-5-5", "conv-4-8", "resnet18"):
        params = jax.eval_shape(training.build(name, 7).init, jax.random.key(0), image)
        sizes[name] = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sizes["mlp-5"] == 3072 * 5 + 5 + 5 * 7 + 7
    assert sizes["mlp-5-5"] == sizes["mlp-5"] + 30
    assert sizes["conv-4-8"] == 27 * 4 + 2 * 4 + 36 * 8 + 2 * 8 + 8 * 7 + 7
    assert sizes["resnet18"] > 11_000_000
    for name in ("resnet18-3", "conv", "vgg"):
        with pytest.raises(ValueError, match=f"networks: got '{name}'"):
            training.build(name, 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds: got 1"),
        ({"networks": ("mlp-3",)}, "networks: got"),
        ({"mixed": ("mlp-3",)}, "mixed: got"),
        ({"gammas": (0.0, 1.0)}, "gammas: got"),
        ({"gammas": (-1.0, 0.0, 1.5)}, "gamma: got 1.5; with the Jensen gap"),
        ({"regularisers": ("kl",)}, "regularisers: got"),
    ],
)
def test_a_config_that_cannot_be_measured_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        script.Config(**change)
