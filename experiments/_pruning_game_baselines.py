"""Neurons that `pruning_game` keeps, against as many of each layer by magnitude or at random."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _pruning_game_training as training
from experiments._pruning_game_readings import COMPARED, PUBLISHED, READINGS
from ntkens.sparsity import game_dynamics, groups, masks

METHODS = ("game", "magnitude", "random")
"""What chooses the neurons; then all are treated alike. And one that starts with so few."""
SMALL = "small from the start"


def compare(config, data, game: training.Trained, dense, seeds):
    """Rows of accuracies: dropped at once, retrained for as long, and trained small throughout.

    Magnitude is ||theta_i|| in a network that was trained as the game's, without gates. Members are
    `COMPARED` x configurations x seeds. All retrain alike: new optimiser, gates as they are.

    Args:
        config: of the script.
        data: rows of pixels.
        game: what came of the members.
        dense: weights of the networks without a game, for each of `COMPARED` and each seed.
        seeds: of each member.
    """
    own = READINGS[COMPARED[0]].own
    each = [(name, configuration) for name in COMPARED for configuration in PUBLISHED]
    settings = [
        training.setting(config, READINGS[name], None)
        for name, _ in each
        for _ in range(config.seeds)
    ]
    place = seeds + config.seeds * np.repeat(np.arange(len(COMPARED)), len(seeds) // len(COMPARED))
    dense = jax.tree.map(lambda leaf: leaf[place], dense)
    found = groups.neurons(jax.tree.map(lambda leaf: leaf[0], dense), own=own)
    kept = {layer: np.asarray(mask).sum(axis=1)
            for layer, mask in game_dynamics.survivors(game.joint.gates).items()}  # fmt: skip
    norms = jax.vmap(lambda params: groups.inner(found, params, params))(dense)
    rng = np.random.default_rng(config.seed)
    drawn = {layer: rng.random(norms[layer].shape) for layer in kept}
    gates = {
        "game": jax.vmap(training.pruned)(game.joint.gates),
        "magnitude": highest(norms, kept),
        "random": highest(drawn, kept),
    }
    params = {"game": game.joint.params, "magnitude": dense, "random": dense}
    starts = [game_dynamics.Joint(params[name], gates[name]) for name in METHODS]
    start = jax.tree.map(lambda *parts: jnp.concatenate(list(map(jnp.asarray, parts))), *starts)
    retrained = training.train(
        config, data, settings * 3, np.tile(seeds, 3), start, own=own, epochs=config.retraining
    )
    small = training.train(
        config, data, settings, seeds,
        game_dynamics.Joint(None, jax.tree.map(jnp.asarray, gates["random"])),
        own=own, epochs=config.epochs,
    ).accuracy  # fmt: skip
    left = np.stack(list(kept.values()), axis=1)
    for place, (name, configuration) in enumerate(each):
        here = slice(place * config.seeds, (place + 1) * config.seeds)
        row = {"kind": "baseline", "reading": name, "configuration": configuration,
               "kept": left[here].tolist()}  # fmt: skip
        for turn, method in enumerate(METHODS):
            ours = slice(turn * len(seeds) + here.start, turn * len(seeds) + here.stop)
            yield row | {"method": method, "at_once": training.rounded(retrained.before[ours]),
                         "retrained": training.rounded(retrained.accuracy[ours])}  # fmt: skip
        yield row | {"method": SMALL, "at_once": [], "retrained": training.rounded(small[here])}


@jax.jit
def highest(scores, kept):
    """Gates of 1 for the `kept` highest of each layer and member, and 0 for the others."""
    chosen = jax.vmap(masks.top_by_layer)(scores, kept)
    return {layer: each.astype(jnp.float32) for layer, each in chosen.items()}
