"""The game of `pruning_game` at fixed weights, where everything is known: the theory's rows."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _pruning_game_training as training
from experiments._pruning_game_readings import MILD, PUBLISHED
from ntkens.sparsity import games
from ntkens.training import losses

SCALE = 1 / 3  # E ||theta_i||^2
LONGEST = 30_000  # steps of ascent that are waited for
ETAS = (0.05, 1.9, 20.0)  # of beta: far below 2, where Phi ceases to be concave, to above
STARTS = 12


def measure(config, data):
    """Of the first hidden layer of new networks with all gates open, at their whole gradient."""
    weights, gradients = _arrays(config, data)
    cases = [
        (name, benefit, (sign, *costs))
        for name, costs in (PUBLISHED | MILD).items()
        for benefit, sign in games.SIGNS.items()
    ]
    numbers = jnp.array([each for *_, each in cases])
    found = _alone(weights, gradients, numbers, config.gate_rate)
    for place, (name, benefit, _) in enumerate(cases):
        row = {"kind": "frozen", "configuration": name, "benefit": benefit}
        yield row | {what: values[place].tolist() for what, values in found.items()}
    together = _together(weights, gradients, jnp.array(ETAS))
    for eta, contraction, least, ends in zip(ETAS, *together, strict=True):
        yield {"kind": "competition", "eta": eta, "players": weights.shape[1],
               "contraction": training.rounded(contraction), "least": training.rounded(least),
               "equilibria": [distinct(each) for each in np.asarray(ends)]}  # fmt: skip


def _arrays(config, data):
    """theta_i and g_i, [seeds players size], in float64."""
    model = training.network(config.widths)
    inputs, labels = map(jnp.asarray, data.train)

    def arrays(seed):
        params = training.first(config, SCALE, seed, inputs)

        def loss(params):
            return jnp.mean(losses.cross_entropy(model.apply(params, inputs), labels))

        layer, slope = params["hidden_0"], jax.grad(loss)(params)["hidden_0"]
        return [jnp.concatenate([of["kernel"], of["bias"]]).T for of in (layer, slope)]

    found = jax.jit(lambda: jax.lax.map(arrays, jnp.arange(config.seeds)))()
    return [array.astype(float) for array in found]


@jax.jit
def _alone(weights, gradients, numbers, rate):
    """Without competition: whom the equilibrium prunes, and whether the dominated go in time."""

    def one(weights, gradients, numbers):
        sign, beta, gamma = numbers
        game = games.game(weights, gradients, alpha=sign, beta=beta, gamma=gamma)
        closed = games.best_responses(game, jnp.zeros_like(game.linear)) == 0
        is_dominated = games.dominated(game)
        # steps from s = 1 at beta = 0; the norm in the cost only hastens it
        bound = jnp.ceil(1 / (rate * jnp.maximum(-game.linear, 1e-12)))
        is_awaited = is_dominated & (bound <= LONGEST)

        def step(carry):
            gates, count, late = carry
            gates = games.ascend(game, gates, rate)
            return gates, count + 1, late | (is_awaited & (count + 1 >= bound) & (gates > 0))

        steps = jnp.max(jnp.where(is_awaited, bound, 0))
        start = (jnp.ones_like(bound), jnp.zeros_like(steps), jnp.zeros_like(closed))
        *_, late = jax.lax.while_loop(lambda carry: carry[1] < steps, step, start)
        counted = {"pruned": closed, "dominated": is_dominated, "both": closed & is_dominated,
                   "awaited": is_awaited, "late": late}  # fmt: skip
        return {name: jnp.sum(each) for name, each in counted.items()}

    return jax.vmap(lambda numbers: jax.vmap(lambda w, g: one(w, g, numbers))(weights, gradients))(
        numbers
    )


@jax.jit
def _together(weights, gradients, etas):
    """With competition: the contraction's constant, the least curvature, where ascents end.

    The benefits are set to the costs, b_i = q_i, for at random weights there is nothing to share.
    """

    def one(weights, gradients, eta):
        game = games.game(weights, gradients, beta=1.0, eta=eta)
        game = game._replace(linear=game.quadratic)
        least, greatest = games.curvature(game)
        starts = jax.random.uniform(jax.random.key(0), (STARTS, len(weights)))
        ends = jax.lax.fori_loop(
            0, 3000,
            lambda _, gates: jax.vmap(lambda s: games.ascend(game, s, 1 / greatest))(gates),
            starts,
        )  # fmt: skip
        return games.contraction(game), least, ends

    over_seeds = jax.vmap(one, (0, 0, None))
    return jax.lax.map(lambda eta: over_seeds(weights, gradients, eta), etas)


def distinct(ends) -> int:
    """How many different ends there are, to 1e-3 in every gate."""
    found = []
    for end in ends:
        if all(np.abs(end - other).max() > 1e-3 for other in found):
            found.append(end)
    return len(found)
