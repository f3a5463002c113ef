"""One-shot games against grids, brute force and what can be worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.sparsity import equilibria, games

TWINS = games.Game(jnp.ones(2), jnp.full(2, 0.25), jnp.array([[0.0, 1.0], [1.0, 0.0]]))
"""Two equal unit players with b = 1, beta = 0.25, eta = 1."""


def drawn(key, players=4, size=6, beta=0.2, **rules):
    weights, gradients = jax.jit(jax.random.normal, static_argnums=1)(key, (2, players, size))
    return games.game(weights, gradients / 3, beta=beta, **rules), weights, gradients / 3


def utility(weights, gradients, alpha, beta, gamma, eta, sign, gates, player):
    """Eqs. (8)-(10) term by term."""
    theta, others = weights[player], [j for j in range(len(gates)) if j != player]
    s = gates[player]
    benefit = sign * alpha * s * np.dot(gradients[player], theta)
    crowd = s * sum(gates[j] * np.dot(theta, weights[j]) for j in others)
    return benefit - (beta * np.dot(theta, theta) * s**2 + gamma * abs(s) + eta * crowd)


@pytest.mark.parametrize("benefit", games.SIGNS)
def test_the_best_response_is_the_best_of_a_grid(key, benefit):
    rules = {"alpha": 2.0, "beta": 0.2, "gamma": 0.1, "eta": 0.15}
    game, *arrays = drawn(key, **rules, benefit=benefit)
    weights, gradients = map(np.asarray, arrays)
    gates = np.asarray(jax.random.uniform(key, (4,)))
    found = np.asarray(games.best_responses(game, jnp.asarray(gates)))
    grid = np.linspace(0, 1, 4001)
    sign = {"printed": 1, "descent": -1}[benefit]
    for player in range(4):
        of = [
            utility(weights, gradients, *rules.values(), sign,
                    np.where(np.arange(4) == player, s, gates), player)
            for s in grid
        ]  # fmt: skip
        assert abs(grid[np.argmax(of)] - found[player]) <= 1 / 4000
        np.testing.assert_allclose(games.utilities(game, jnp.asarray(gates))[player],
                                   utility(weights, gradients, *rules.values(), sign, gates,
                                           player), rtol=1e-12)  # fmt: skip
    assert len(np.unique(found)) > 1


def test_a_player_without_a_cost_is_all_or_nothing():
    game = games.Game(jnp.array([0.3, -0.3, 0.0]), jnp.zeros(3), jnp.zeros((3, 3)))
    np.testing.assert_array_equal(games.best_responses(game, jnp.full(3, 0.5)), [1, 0, 0])


def test_the_potential_gains_what_a_player_gains(key):
    game, *_ = drawn(key, beta=0.2, gamma=0.1, eta=0.5)
    gates, moved = jax.random.uniform(key, (2, 4))

    @jax.jit
    @jax.vmap
    def gains(player):
        after = jnp.where(jnp.arange(4) == player, moved, gates)
        own = games.utilities(game, after) - games.utilities(game, gates)
        return own[player], games.potential(game, after) - games.potential(game, gates)

    own, of_all = gains(jnp.arange(4))
    np.testing.assert_allclose(of_all, own, rtol=1e-12)
    slope = jax.grad(games.potential, argnums=1)(game, gates)
    np.testing.assert_allclose(games.slopes(game, gates), slope, rtol=1e-12)


def test_joint_ascent_climbs_below_its_limit_and_not_above(key):
    game, *_ = drawn(key, players=6, size=3, beta=0.1, eta=0.9)
    limit = 2 / games.curvature(game)[1]

    def climbed(rate):
        def one(gates, _):
            return games.ascend(game, gates, rate), games.potential(game, gates)

        starts = jax.random.uniform(key, (20, 6))
        return jax.vmap(lambda start: jax.lax.scan(one, start, length=200)[1])(starts)

    gains = jnp.diff(climbed(0.99 * limit))
    assert (gains >= -1e-12).all()  # rounding of sums of order 1
    assert gains.max() > 0.1
    assert jnp.diff(climbed(3 * limit)).min() < -1e-3


def test_strict_concavity_gives_one_equilibrium_from_every_start(key):
    beta, eta = 0.3, 0.5  # eta < 2 beta
    game, weights, _ = drawn(key, players=5, size=3, beta=beta, gamma=0.05, eta=eta, alpha=4.0)
    least, greatest = games.curvature(game)
    norms = np.sum(np.square(weights), axis=1)
    form = (2 * beta - eta) * np.diag(norms) + eta * np.asarray(weights) @ np.asarray(weights).T
    np.testing.assert_allclose([least, greatest], np.linalg.eigvalsh(form)[[0, -1]], rtol=1e-10)
    assert least > 0
    one = equilibria.find(game)
    assert one.gates.shape == (1, 5)
    assert one.is_stable.all()
    assert 0 < one.gates.mean() < 1
    starts = jax.random.uniform(key, (10, 5))
    ends = jax.vmap(
        lambda gates: jax.lax.fori_loop(
            0, 3000, lambda _, gates: games.ascend(game, gates, 1 / greatest), gates
        )
    )(starts)
    np.testing.assert_allclose(ends, np.tile(one.gates, (10, 1)), atol=1e-9)


def test_without_competition_the_equilibrium_is_the_formula(key):
    game, *_ = drawn(key, beta=0.2, gamma=0.05)
    expected = games.best_responses(game, jnp.zeros(4))
    np.testing.assert_allclose(equilibria.find(game).gates, expected[None], atol=1e-12)
    assert games.contraction(game) == 0


def test_twins_have_two_stable_equilibria_and_a_saddle():
    found = equilibria.find(TWINS)
    np.testing.assert_allclose(found.gates, [[0, 1], [2 / 3, 2 / 3], [1, 0]], atol=1e-12)
    assert found.is_stable.tolist() == [True, False, True]
    for gates in found.gates:
        np.testing.assert_allclose(games.best_responses(TWINS, jnp.asarray(gates)), gates)
    slope = jax.jacobian(lambda gates: games.best_responses(TWINS, gates))(jnp.full(2, 2 / 3))
    np.testing.assert_allclose(slope, [[0, -2], [-2, 0]])
    nearby = jnp.array([2 / 3 + 1e-6, 2 / 3])
    end = jax.lax.fori_loop(0, 500, lambda _, gates: games.ascend(TWINS, gates, 0.5), nearby)
    np.testing.assert_allclose(end, [1, 0], atol=1e-12)


@pytest.mark.parametrize("eta", [0.5, 2.0])
def test_the_cases_are_those_that_starts_reach(key, eta):
    """Ascents from many starts end in the stable equilibria, in all of them and nowhere else."""
    game, *_ = drawn(key, players=5, size=2, beta=0.05, eta=eta, alpha=3.0)
    found = equilibria.find(game)
    rate = 1 / games.curvature(game)[1]
    ends = np.asarray(
        jax.vmap(
            lambda gates: jax.lax.fori_loop(
                0, 20000, lambda _, gates: games.ascend(game, gates, rate), gates
            )
        )(jax.random.uniform(key, (300, 5)))
    )
    distances = np.abs(ends[:, None] - found.gates[found.is_stable][None]).max(axis=2)
    assert distances.min(axis=1).max() < 1e-8
    assert distances.min(axis=0).max() < 1e-8
    replies = jax.vmap(lambda gates: games.best_responses(game, gates))(jnp.asarray(found.gates))
    np.testing.assert_allclose(replies, found.gates, atol=1e-9)


def test_a_continuum_of_equilibria_is_refused():
    flat = TWINS._replace(quadratic=jnp.full(2, 0.5))  # any s_1 + s_2 = 1
    with pytest.raises(ValueError, match=r"players \[0, 1\] have a continuum"):
        equilibria.find(flat)
    apart = flat._replace(linear=jnp.array([1.0, 0.5]))  # as flat, but with different wishes
    np.testing.assert_allclose(equilibria.find(apart).gates, [[1, 0]], atol=1e-12)


def test_best_responses_contract_by_the_constant(key):
    game, *_ = drawn(key, players=5, size=40, beta=0.6, eta=0.5, alpha=20.0)
    constant = games.contraction(game)
    coupling, quadratic = np.asarray(game.coupling), np.asarray(game.quadratic)
    by_hand = max(sum(abs(coupling[i, j]) for j in range(5)) / (2 * quadratic[i]) for i in range(5))
    np.testing.assert_allclose(constant, by_hand, rtol=1e-12)
    assert 0 < constant < 1
    first, second = jax.random.uniform(key, (2, 50, 5))
    replies = jax.vmap(lambda gates: games.best_responses(game, gates))
    after = jnp.abs(replies(first) - replies(second)).max(axis=1)
    assert (after <= constant * jnp.abs(first - second).max(axis=1) + 1e-12).all()
    assert after.max() > 0
    np.testing.assert_allclose(games.contraction(TWINS), 2.0)
    free = TWINS._replace(quadratic=jnp.array([0.0, 0.25]))
    assert games.contraction(free) == np.inf


def test_the_dominated_prefer_nothing_in_every_corner(key):
    """A utility is linear in the others' gates, so that corners are the worst and the best."""
    game, *_ = drawn(key, players=5, size=3, beta=0.1, gamma=0.4, eta=0.2, alpha=2.0)
    corners = jnp.stack(jnp.meshgrid(*[jnp.arange(2.0)] * 5), axis=-1).reshape(-1, 5)
    gates = jnp.linspace(1e-4, 1, 50)
    found = np.asarray(games.dominated(game))

    @jax.jit
    def tried(player):
        def one(others, s):
            return games.utilities(game, jnp.where(jnp.arange(5) == player, s, others))[player]

        return jax.vmap(lambda others: jax.vmap(lambda s: one(others, s))(gates))(corners)

    for player in range(5):
        assert found[player] == bool((tried(player) < 0).all())
    assert 0 < found.sum() < 5


def test_the_dominated_are_pruned_in_so_many_steps():
    """Check of the bound ceil(s / (rate |b|)) at beta = 0, where it is attained."""
    linear = jnp.array([-0.3, -0.05, 0.2])
    game = games.Game(linear, jnp.zeros(3), jnp.zeros((3, 3)))
    rate = 1 / 64  # exact in binary
    steps = int(np.ceil(1 / (rate * 0.3)))
    path = jax.lax.scan(
        lambda gates, _: (games.ascend(game, gates, rate),) * 2, jnp.ones(3), length=steps
    )[1]
    assert path[-1, 0] == 0
    assert path[-2, 0] > 0
    costly = game._replace(quadratic=jnp.full(3, 0.4))
    gates = jax.lax.fori_loop(0, steps, lambda _, s: games.ascend(costly, s, rate), jnp.ones(3))
    assert gates[0] == 0
    assert gates[2] > 0


def test_games_are_vmapped_over_their_rules(key):
    _, weights, gradients = drawn(key)
    betas = jnp.array([0.1, 0.5])
    many = jax.jit(jax.vmap(lambda beta: games.game(weights, gradients, beta=beta, eta=0.1)))(betas)
    one = games.game(weights, gradients, beta=0.5, eta=0.1)
    for stacked, alone in zip(many, one, strict=True):
        np.testing.assert_allclose(stacked[1], alone, rtol=1e-12)
    single = games.game(weights.astype(jnp.float32), gradients.astype(jnp.float32), beta=0.1)
    assert all(part.dtype == jnp.float32 for part in single)


def test_bad_games_are_refused(key):
    _, weights, gradients = drawn(key)
    with pytest.raises(ValueError, match="gradients: got shape"):
        games.game(weights, gradients[:3], beta=0.1)
    with pytest.raises(TypeError, match="weights: got dtype"):
        games.game(weights.astype(int), gradients, beta=0.1)
    with pytest.raises(ValueError, match="gradients: holds NaN"):
        games.game(weights, gradients.at[0, 0].set(jnp.nan), beta=0.1)
    with pytest.raises(ValueError, match="beta: got -1"):
        games.game(weights, gradients, beta=-1)
    with pytest.raises(ValueError, match="benefit: got 'plus'"):
        games.game(weights, gradients, beta=0.1, benefit="plus")  # pyright: ignore
    big = games.Game(jnp.ones(9), jnp.ones(9), jnp.zeros((9, 9)))
    with pytest.raises(ValueError, match="has 9 players"):
        equilibria.find(big)
