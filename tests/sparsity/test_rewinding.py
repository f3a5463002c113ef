"""Paths against a plain loop in NumPy, and their levels."""

import fractions
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.sparsity import masks, rewinding

SHAPES = {"a": (4, 5), "b": (5, 3)}
WEIGHTS = {f"{name}/kernel": np.zeros(shape) for name, shape in SHAPES.items()}


def point(seed):
    random = np.random.default_rng(seed)
    return {
        name: {"kernel": random.normal(size=shape), "bias": random.normal(size=shape[1:])}
        for name, shape in SHAPES.items()
    }


def train(params, mask):
    """Weights move each other, and so what is trained depends on what is kept."""
    shift = sum(jnp.sum(jnp.sin(3 * own["kernel"])) for own in params.values())
    moved = {
        name: {
            "kernel": own["kernel"] * jnp.cos(shift + 5 * own["kernel"]),
            "bias": own["bias"] + 1,
        }
        for name, own in params.items()
    }
    return masks.apply(moved, mask)


def plain(params, counts):
    """Mask and trained weights of every level, one weight at a time from the smallest."""
    flat = np.concatenate([params[name]["kernel"].ravel() for name in SHAPES])
    kept = list(range(flat.size))
    found = []
    for count in counts:
        if found:
            kept = sorted(kept, key=lambda place: abs(found[-1][1][place]))[len(kept) - count :]
        mask = np.isin(np.arange(flat.size), kept)
        start = np.where(mask, flat, 0)
        shift = np.sin(3 * start).sum()
        found.append((mask, start * np.cos(shift + 5 * start)))
    return found


@pytest.mark.slow
def test_path_is_the_plain_loop_for_every_seed():
    levels = rewinding.levels(WEIGHTS, (0.1, 1, 0.5))
    points = [point(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *points)
    found = jax.jit(jax.vmap(lambda params: rewinding.path(train, params, levels)))(stacked)
    for seed, own in enumerate(points):
        wanted = plain(own, levels.kept)
        for place, level in enumerate(levels.wanted):
            mask, trained = wanted[level]
            flat = [found.mask[f"{name}/kernel"][seed, place].ravel() for name in SHAPES]
            np.testing.assert_array_equal(np.concatenate(flat), mask)
            flat = [found.params[name]["kernel"][seed, place].ravel() for name in SHAPES]
            np.testing.assert_allclose(np.concatenate(flat), trained, atol=1e-12)
            np.testing.assert_array_equal(
                found.params["a"]["bias"][seed, place], own["a"]["bias"] + 1
            )


def test_levels_go_down_by_a_fifth_and_stop_at_what_is_wanted():
    weights = {"kernel": jax.ShapeDtypeStruct((100, 100), jnp.float32)}
    kept, wanted = rewinding.levels(weights, (0.3, 0.64, 0.2))
    regular = [math.floor(fractions.Fraction(4, 5) ** step * 10_000) for step in range(8)]
    assert kept == tuple(sorted({*regular, 3000, 2000}, reverse=True))
    assert [kept[place] for place in wanted] == [3000, 6400, 2000]
    assert kept[-1] == 2000
    assert rewinding.levels(weights, (1.0,)) == ((10_000,), (0,))
    assert rewinding.levels(weights, (0.5,), rate=0.5) == ((10_000, 5000), (1,))


def test_a_weight_that_is_gone_does_not_return():
    """Even where training ends in zeros, which are not smaller than what is pruned."""
    params = {"kernel": np.array([[3.0, -2.0, 1.0, 4.0]])}
    levels = rewinding.Levels((4, 3, 2, 1), (0, 1, 2, 3))

    @jax.jit
    @jax.vmap
    def path(factor):
        return rewinding.path(
            lambda params, _: jax.tree.map(factor.__mul__, params), params, levels
        )

    dead, broken = path(np.array([0, np.nan])).mask["kernel"]
    np.testing.assert_array_equal(dead[:, 0], np.tri(4, dtype=bool)[::-1])
    np.testing.assert_array_equal(broken.sum((1, 2)), [4, 0, 0, 0])


def test_bad_levels():
    with pytest.raises(ValueError, match="densities: got none"):
        rewinding.levels(WEIGHTS, ())
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        rewinding.levels(WEIGHTS, (0.5, 0))
    with pytest.raises(ValueError, match="keeps none of 35"):
        rewinding.levels(WEIGHTS, (0.01,))
    for rate in (0, 1, 1.5):
        with pytest.raises(ValueError, match=r"rate: got|density: got"):
            rewinding.levels(WEIGHTS, (0.5,), rate=rate)
    for kept in ((35, 35), (34, 20), (35, 0), ()):
        with pytest.raises(ValueError, match="levels: keeps"):
            rewinding.path(train, point(0), rewinding.Levels(kept, (0,)))
    for wanted in ((), (1,), (-1,)):
        with pytest.raises(ValueError, match="levels: wants places"):
            rewinding.path(train, point(0), rewinding.Levels((35,), wanted))
