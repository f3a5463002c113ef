"""What `pruning_game` trains: every reading, configuration and seed is a member of one program."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._pruning_game_readings import Configuration, Reading
from ntkens.data import Dataset, Examples, offline, tfds
from ntkens.models import Model, mlp
from ntkens.sparsity import game_dynamics, games, groups
from ntkens.training import fit, losses, members

CLASSES = 10
READOUT = 1 / 3  # E ||row||^2 of its weights; PyTorch's default


class Setting(NamedTuple):
    """A reading and a configuration as numbers, which are traced: one for each member."""

    sign: Any
    beta: Any
    gamma: Any
    alpha: Any
    is_adam: Any
    rate: Any
    decay: Any
    scale: Any
    of_gate: Any
    gates_are_adam: Any
    gate_rate: Any
    norm: Any
    pays: Any


class Trained(NamedTuple):
    """What came of the members.

    Attributes:
        joint: their weights and gates.
        before: accuracy on the test set before training.
        accuracy: after it, with all gates as they are.
        pruned_accuracy: after what is below the threshold is dropped.
        opposed: of each neuron, the share of steps at which Eq. (15) pruned it: benefit < gamma.
    """

    joint: game_dynamics.Joint
    before: Any
    accuracy: Any
    pruned_accuracy: Any
    opposed: dict[str, Any]


def load(config, key) -> Dataset:
    """Rows of pixels in [0, 1]; the digits split by the key, 540 for testing."""
    if config.dataset == "digits":
        data = offline.digits(key, test=540)
    else:
        data = tfds.load(config.dataset, directory=config.data_directory or None)
    return Dataset(*(Examples(side.inputs.reshape(len(side.inputs), -1), side.labels)
                     for side in data))  # fmt: skip


def network(widths) -> Model:
    """Its weights have E ||theta_i||^2 = 1 before they are scaled, and its biases start at 0."""
    return mlp.mlp(widths, CLASSES, parametrisation="standard", w_std=1.0, b_std=0.0)


def setting(config, reading: Reading, configuration: Configuration | None) -> Setting:
    """The numbers of one member; no configuration: gates that stay as they are."""
    beta, gamma = configuration or (0.0, 0.0)
    rate = {"sgd": config.sgd_rate, "adam": config.adam_rate}[reading.optimiser]
    return Setting(
        sign=games.SIGNS[reading.benefit], beta=beta, gamma=gamma,
        alpha=float(configuration is not None),
        is_adam=float(reading.optimiser == "adam"), rate=rate / reading.slowness,
        decay=reading.decay, scale=reading.scale, of_gate=float(reading.of_gate),
        gates_are_adam=float(reading.gates == "adam"), gate_rate=config.gate_rate * reading.speed,
        norm=float(reading.norm), pays=float(reading.pays),
    )  # fmt: skip


def train(config, data: Dataset, settings, seeds, start=None, *, own, epochs: int) -> Trained:
    """All members, from the start given or from new weights and open gates.

    Args:
        config: of the script.
        data: rows of pixels, shared.
        settings: one for each member.
        seeds: of each member: its first weights and its batches.
        start: `Joint`, stacked; params of None are drawn anew.
        own: what belongs to a neuron.
        epochs: of training.
    """
    member = _member(config.widths, config.batch, tuple(own), epochs, config.seed)
    stacked = Setting(*np.asarray(settings, np.float32).T)
    # one at a time on a CPU, whose cache holds no second one, and no compiling to find that out
    chunk = 1 if jax.default_backend() == "cpu" else None
    shared = jax.tree.map(jnp.asarray, data)
    return members.map(
        member,
        (stacked, jnp.asarray(seeds), start),
        *shared,
        chunk=chunk,
        mesh=members.all_devices(),
    )


def first(config, scale, seed, inputs):
    """The first weights of a member, scaled as the reading says."""
    key = jax.random.fold_in(jax.random.key(config.seed), seed)
    return _first(network(config.widths), key, scale, inputs)


def _first(model, key, scale, inputs):
    params = model.init(key, inputs[:1])
    return {
        layer: jax.tree.map(
            lambda leaf, s=READOUT if layer == "readout" else scale: leaf * jnp.sqrt(s), leaves
        )
        for layer, leaves in params.items()
    }


@functools.cache  # a new function would be compiled anew
def _member(widths, batch, own, epochs, seed):
    model = network(widths)

    def loss(params, inputs, labels):
        return losses.cross_entropy(model.apply(params, inputs), labels)

    def member(mine, train, test):
        setting, own_seed, start = mine
        key = jax.random.fold_in(jax.random.key(seed), own_seed)
        params = _first(model, key, setting.scale, train.inputs)
        found = groups.neurons(params, own=own)
        joint = game_dynamics.Joint(params, groups.ones(found, params)) if start is None else start
        if joint.params is None:
            joint = joint._replace(params=params)
        optimiser = dynamics(found, setting)
        state = fit.start(joint, optimiser, key)
        on_gates = game_dynamics.gated_loss(found, loss)
        state, _ = fit.epochs(on_gates, optimiser, state, train, epochs=epochs, batch=batch)
        steps = epochs * fit.steps_per_epoch(len(train.labels), batch)
        opposed = jax.tree.map(lambda count: count / steps, state.optimiser[-1])

        def accuracy(joint, gates):
            logits = model.apply(groups.gated(found, joint.params, gates), test.inputs)
            return jnp.mean(jnp.argmax(logits, axis=1) == test.labels, dtype=logits.dtype)

        before, after = accuracy(joint, joint.gates), accuracy(state.params, state.params.gates)
        dropped = accuracy(state.params, pruned(state.params.gates))
        return Trained(state.params, before, after, dropped, opposed)

    return member


def pruned(gates):
    """Gates of which those below the threshold are closed."""
    return jax.tree.map(
        lambda gate, kept: gate * kept.astype(gate.dtype), gates, game_dynamics.survivors(gates)
    )


def dynamics(found, setting: Setting) -> optax.GradientTransformation:
    """`game_dynamics.optimiser` with a switch for each thing that the paper does not state."""
    rules = game_dynamics.Rules(setting.alpha, setting.beta, setting.gamma, 0.0, setting.sign)
    weights = either(optax.adam(setting.rate), optax.sgd(setting.rate), setting.is_adam)
    climb = either(
        optax.adam(setting.gate_rate), optax.sgd(setting.gate_rate), setting.gates_are_adam
    )

    def init(joint):
        none = jax.tree.map(jnp.zeros_like, joint.gates)
        return weights.init(joint.params), climb.init(joint.gates), none

    def update(gradient, state, joint):
        params, gates = joint
        weight_state, gate_state, opposed = state
        inner = jax.tree.map(
            lambda slope, gate: slope * jnp.where(setting.of_gate > 0, 1, gate),
            gradient.gates, gates,
        )  # fmt: skip
        norms = jax.tree.map(
            lambda norm: jnp.where(setting.norm > 0, norm, 1), groups.inner(found, params, params)
        )
        nobody = jax.tree.map(jnp.zeros_like, gates)
        slopes = game_dynamics.slopes(rules, inner, norms, nobody, gates)
        moves, gate_state = game_dynamics.climbed(climb, gate_state, slopes, gates)
        opposed = jax.tree.map(
            lambda count, inner: count + (setting.sign * inner < setting.gamma), opposed, inner
        )
        paid = jax.tree.map(lambda gate: 1 + setting.pays * 2 * setting.beta * gate**2, gates)
        costs = groups.gated(found, params, paid)  # theta_i + what its cost adds to the gradient
        slope = jax.tree.map(
            lambda slope, cost, weight: slope + (cost - weight) + setting.decay * weight,
            gradient.params, costs, params,
        )  # fmt: skip
        updates, weight_state = weights.update(slope, weight_state, params)
        return game_dynamics.Joint(updates, moves), (weight_state, gate_state, opposed)

    # optax calls the params `params`; here they are a `Joint`
    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def either(first, second, is_first) -> optax.GradientTransformation:
    """One of two optimisers, by a number that may be traced: so both kinds are one program."""

    def init(params):
        return first.init(params), second.init(params)

    def update(updates, state, params=None):
        one, first_state = first.update(updates, state[0], params)
        other, second_state = second.update(updates, state[1], params)
        chosen = jax.tree.map(lambda a, b: jnp.where(is_first > 0, a, b), one, other)
        return chosen, (first_state, second_state)

    return optax.GradientTransformation(init, update)


def rounded(values) -> list[float]:
    """Numbers for a row."""
    return [round(float(value), 5) for value in np.ravel(values)]
