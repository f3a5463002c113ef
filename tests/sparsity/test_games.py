"""One-shot games against grids, brute force and what can be worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.sparsity import equilibria, games

TWINS = games.Game(jnp.ones(2), jnp.full(2, 0.25), jnp.array([[0.0, 1.0], [1.0, 0.0]]))
"""Two equal unit players with b = 1, beta = 0.25, eta = 1."""


# Compiled once for the five players of most tests.
best_responses, utilities, slopes, potential, curvature = map(
    jax.jit,
    (games.best_responses, games.utilities, games.slopes, games.potential, games.curvature),
)


@jax.jit
def climbed(game, starts, rate, steps):
    """Where joint ascent ends from each start."""

    def from_start(gates):
        return jax.lax.fori_loop(0, steps, lambda _, s: games.ascend(game, s, rate), gates)

    return jax.vmap(from_start)(starts)


def drawn(size=6, *, alpha=1.0, beta=0.2, gamma=0.0, eta=0.0, sign=1, players=5):
    """A game by its formula, its weights and its gradients."""
    weights, gradients = np.random.default_rng(size).normal(size=(2, players, size)) / [
        [[1]],
        [[3]],
    ]
    gram = weights @ weights.T
    norms = np.diag(gram)
    linear = sign * alpha * np.sum(weights * gradients, axis=1) - gamma
    parts = (linear, beta * norms, eta * (gram - np.diag(norms)))
    return games.Game(*map(jnp.asarray, parts)), weights, gradients


def uniform(*shape):
    return jnp.asarray(np.random.default_rng(7).uniform(size=shape))


def utility(weights, gradients, alpha, beta, gamma, eta, sign, gates, player):
    """Eqs. (8)-(10) term by term."""
    theta, others = weights[player], [j for j in range(len(gates)) if j != player]
    s = gates[player]
    benefit = sign * alpha * s * np.dot(gradients[player], theta)
    crowd = s * sum(gates[j] * np.dot(theta, weights[j]) for j in others)
    return benefit - (beta * np.dot(theta, theta) * s**2 + gamma * abs(s) + eta * crowd)


@pytest.mark.parametrize("benefit", games.SIGNS)
def test_the_best_response_is_the_best_of_a_grid(benefit):
    rules = {"alpha": 2.0, "beta": 0.2, "gamma": 0.1, "eta": 0.15}
    sign = {"printed": 1, "descent": -1}[benefit]
    wanted, weights, gradients = drawn(**rules, sign=sign)
    game = games.game(jnp.asarray(weights), jnp.asarray(gradients), **rules, benefit=benefit)
    for found, by_hand in zip(game, wanted, strict=True):
        np.testing.assert_allclose(found, by_hand, rtol=1e-12, atol=1e-14)
    gates = np.asarray(uniform(5))
    replies, values = best_responses(game, gates), utilities(game, gates)
    grid = np.linspace(0, 1, 4001)
    for player in range(5):

        def own(s, player=player):
            moved = np.where(np.arange(5) == player, s, gates)
            return utility(weights, gradients, *rules.values(), sign, moved, player)

        assert abs(grid[np.argmax([own(s) for s in grid])] - replies[player]) <= 1 / 4000
        np.testing.assert_allclose(values[player], own(gates[player]), rtol=1e-12)
    assert len(np.unique(replies)) > 1


def test_a_player_without_a_cost_is_all_or_nothing():
    game = games.Game(jnp.array([0.3, -0.3, 0.0, 1, -1]), jnp.zeros(5), jnp.zeros((5, 5)))
    np.testing.assert_array_equal(best_responses(game, jnp.full(5, 0.5)), [1, 0, 0, 1, 0])


def test_the_potential_gains_what_a_player_gains():
    game, *_ = drawn(gamma=0.1, eta=0.5)
    gates, moved = uniform(2, 5)
    for player in range(5):
        after = jnp.where(jnp.arange(5) == player, moved, gates)
        gain = utilities(game, after)[player] - utilities(game, gates)[player]
        np.testing.assert_allclose(
            potential(game, after) - potential(game, gates), gain, rtol=1e-11
        )
    slope = jax.jit(jax.grad(games.potential, argnums=1))(game, gates)
    np.testing.assert_allclose(slopes(game, gates), slope, rtol=1e-12)


def test_joint_ascent_climbs_below_its_limit_and_not_above():
    game, *_ = drawn(3, beta=0.1, eta=0.9)
    limit = 2 / curvature(game)[1]

    @jax.jit
    def gains(rate):
        def one(gates, _):
            return games.ascend(game, gates, rate), games.potential(game, gates)

        return jnp.diff(jax.vmap(lambda s: jax.lax.scan(one, s, length=200)[1])(uniform(20, 5)))

    below = np.asarray(gains(0.99 * limit))
    assert (below >= -1e-12).all()  # rounding of sums of order 1
    assert below.max() > 0.1
    assert np.asarray(gains(3 * limit)).min() < -1e-3


def test_strict_concavity_gives_one_equilibrium_from_every_start():
    beta, eta = 0.3, 0.5  # eta < 2 beta
    game, weights, _ = drawn(6, beta=beta, gamma=0.05, eta=eta, alpha=4.0)
    least, greatest = curvature(game)
    gram = weights @ weights.T
    form = (2 * beta - eta) * np.diag(np.diag(gram)) + eta * gram
    np.testing.assert_allclose([least, greatest], np.linalg.eigvalsh(form)[[0, -1]], rtol=1e-10)
    assert least > 0
    one = equilibria.find(game)
    assert one.gates.shape == (1, 5)
    assert one.is_stable.all()
    assert 0 < one.gates.mean() < 1
    ends = climbed(game, uniform(20, 5), 1 / greatest, 3000)
    np.testing.assert_allclose(ends, np.tile(one.gates, (20, 1)), atol=1e-9)


def test_without_competition_the_equilibrium_is_the_formula():
    game, *_ = drawn(gamma=0.05)
    expected = best_responses(game, jnp.zeros(5))
    np.testing.assert_allclose(equilibria.find(game).gates, expected[None], atol=1e-12)
    assert games.contraction(game) == 0


def test_twins_have_two_stable_equilibria_and_a_saddle():
    found = equilibria.find(TWINS)
    np.testing.assert_allclose(found.gates, [[0, 1], [2 / 3, 2 / 3], [1, 0]], atol=1e-12)
    assert found.is_stable.tolist() == [True, False, True]
    for gates in found.gates:
        np.testing.assert_allclose(best_responses(TWINS, gates), gates, atol=1e-12)
    slope = jax.jit(jax.jacobian(games.best_responses, argnums=1))(TWINS, jnp.full(2, 2 / 3))
    np.testing.assert_allclose(slope, [[0, -2], [-2, 0]])
    nearby = jnp.array([[2 / 3 + 1e-6, 2 / 3], [2 / 3, 2 / 3 + 1e-6]])
    np.testing.assert_allclose(climbed(TWINS, nearby, 0.5, 500), [[1, 0], [0, 1]], atol=1e-12)


@pytest.mark.parametrize("eta", [0.5, 2.0])
def test_the_cases_are_those_that_starts_reach(eta):
    """Ascents from many starts end in the stable equilibria, in all of them and nowhere else."""
    game, *_ = drawn(2, beta=0.05, eta=eta, alpha=3.0)
    found = equilibria.find(game)
    ends = np.asarray(climbed(game, uniform(300, 5), 1 / curvature(game)[1], 20000))
    distances = np.abs(ends[:, None] - found.gates[found.is_stable][None]).max(axis=2)
    assert distances.min(axis=1).max() < 1e-8
    assert distances.min(axis=0).max() < 1e-8
    for gates in found.gates:
        np.testing.assert_allclose(best_responses(game, gates), gates, atol=1e-9)


def test_a_continuum_of_equilibria_is_refused():
    flat = TWINS._replace(quadratic=jnp.full(2, 0.5))  # any s_1 + s_2 = 1
    with pytest.raises(ValueError, match=r"players \[0, 1\] have a continuum"):
        equilibria.find(flat)
    apart = flat._replace(linear=jnp.array([1.0, 0.5]))  # as flat, but with different wishes
    np.testing.assert_allclose(equilibria.find(apart).gates, [[1, 0]], atol=1e-12)


def test_best_responses_contract_by_the_constant():
    game, *_ = drawn(40, beta=0.6, eta=0.5, alpha=20.0)
    constant = games.contraction(game)
    coupling, quadratic = np.asarray(game.coupling), np.asarray(game.quadratic)
    by_hand = max(sum(abs(coupling[i, j]) for j in range(5)) / (2 * quadratic[i]) for i in range(5))
    np.testing.assert_allclose(constant, by_hand, rtol=1e-12)
    assert 0 < constant < 1
    pairs = np.asarray(uniform(2, 50, 5))
    replies = np.asarray(
        jax.jit(jax.vmap(jax.vmap(lambda s: games.best_responses(game, s))))(pairs)
    )
    after, before = (np.abs(each[0] - each[1]).max(axis=1) for each in (replies, pairs))
    assert (after <= constant * before + 1e-12).all()
    assert after.max() > 0
    np.testing.assert_allclose(games.contraction(TWINS), 2.0)
    free = TWINS._replace(quadratic=jnp.array([0.0, 0.25]))
    assert games.contraction(free) == np.inf


def test_the_dominated_prefer_nothing_in_every_corner():
    """A utility is linear in the others' gates, so that corners are the worst and the best."""
    game, *_ = drawn(3, beta=0.1, gamma=0.3, eta=0.2, alpha=2.0)
    corners = np.stack(np.meshgrid(*[np.arange(2.0)] * 5), axis=-1).reshape(-1, 5)
    others = corners @ np.asarray(game.coupling)  # what they take from each player
    s = np.linspace(1e-4, 1, 50)[:, None, None]
    tried = s * (np.asarray(game.linear) - others) - np.asarray(game.quadratic) * s**2
    found = np.asarray(games.dominated(game))
    np.testing.assert_array_equal(found, (tried < 0).all(axis=(0, 1)))
    assert 0 < found.sum() < 5


def test_the_dominated_are_pruned_in_so_many_steps():
    """Within ceil(s / (rate |b|)); at beta = 0 not a step before."""
    linear = jnp.array([-0.3, -0.05, 0.2, 0.0, 1.0])
    game = games.Game(linear, jnp.zeros(5), jnp.zeros((5, 5)))
    rate = 1 / 64  # exact in binary
    steps = int(np.ceil(1 / (rate * 0.3)))
    before, after = (
        climbed(game, jnp.ones((20, 5)), rate, count)[0] for count in (steps - 1, steps)
    )
    assert before[0] > 0
    assert after[0] == 0
    costly = climbed(game._replace(quadratic=jnp.full(5, 0.4)), jnp.ones((20, 5)), rate, steps)[0]
    assert costly[0] == 0
    assert costly[2] > 0


def test_games_are_vmapped_over_their_rules():
    _, *arrays = drawn()
    weights, gradients = map(jnp.asarray, arrays)

    def one(beta, weights=weights, gradients=gradients):
        return games.game(weights, gradients, beta=beta, eta=0.1)

    many = jax.jit(jax.vmap(one))(jnp.array([0.1, 0.5]))
    for stacked, alone in zip(many, drawn(beta=0.5, eta=0.1)[0], strict=True):
        np.testing.assert_allclose(stacked[1], alone, rtol=1e-12, atol=1e-14)
    single = jax.eval_shape(
        one, 0.1, *(array.astype(jnp.float32) for array in (weights, gradients))
    )
    assert all(part.dtype == jnp.float32 for part in single)


def test_bad_games_are_refused():
    _, *arrays = drawn()
    weights, gradients = map(jnp.asarray, arrays)
    with pytest.raises(ValueError, match="gradients: got shape"):
        games.game(weights, gradients[:3], beta=0.1)
    with pytest.raises(TypeError, match="weights: got dtype"):
        games.game(weights.astype(int), gradients, beta=0.1)
    with pytest.raises(ValueError, match="gradients: holds NaN"):
        games.game(weights, gradients * jnp.nan, beta=0.1)
    with pytest.raises(ValueError, match="beta: got -1"):
        games.game(weights, gradients, beta=-1)
    with pytest.raises(ValueError, match="benefit: got 'plus'"):
        games.game(weights, gradients, beta=0.1, benefit="plus")  # pyright: ignore
    for name in ("alpha", "beta", "gamma", "eta"):
        with pytest.raises(ValueError, match=f"{name}: holds NaN"):
            games.game(weights, gradients, **{"beta": 0.1} | {name: np.nan})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"linear": jnp.array([np.nan, 1])}, r"game\.linear: holds NaN"),
        ({"linear": jnp.ones((2, 2))}, "game: got shapes"),
        ({"quadratic": -jnp.ones(2)}, r"game\.quadratic: got -1"),
        ({"coupling": jnp.array([[0.0, 1.0], [0.5, 0.0]])}, r"game\.coupling: want c_ij = c_ji"),
        ({"coupling": jnp.ones((2, 2))}, r"game\.coupling: .* 0 for i = j"),
        (games.Game(jnp.ones(9), jnp.ones(9), jnp.zeros((9, 9)))._asdict(), "has 9 players"),
    ],
)
def test_equilibria_of_what_is_no_game_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        equilibria.find(TWINS._replace(**changes))
