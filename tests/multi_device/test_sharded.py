import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.kernels import blocks
from ntkens.predictors import sharded, solve

KEY, RIDGE, RANK = jax.random.key(3), 0.1, 12
N = 118  # 2 devices divide it, and 4 do not


def gaussian(x1, x2=None):
    x2 = x1 if x2 is None else x2
    return jnp.exp(-jnp.sum((x1[:, None] - x2[None, :]) ** 2, axis=-1))


def problem():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(N, 3)))
    return x, jnp.stack([jnp.sin(3 * x[:, 0]), x[:, 1] * x[:, 2]], axis=1)


def row_mesh(devices):
    return jax.make_mesh((devices,), ("rows",), devices=jax.devices()[:devices])


def prepared(x, mesh):
    operator = sharded.operator(blocks.operator(gaussian, x, mesh=mesh), mesh)
    return operator, solve.preconditioner(KEY, operator, RANK, ridge=RIDGE)


def test_any_number_of_devices_gives_the_same_answer_after_the_same_iterations():
    x, targets = problem()
    plain = blocks.operator(gaussian, x)
    preconditioner = solve.preconditioner(KEY, plain, RANK, ridge=RIDGE)
    arguments = {"ridge": RIDGE, "tolerance": 1e-9}

    def both(iterations):
        return solve.conjugate_gradients(
            plain, targets, preconditioner=preconditioner, iterations=iterations, **arguments
        )

    (early, _), (expected, info) = both(12), both(1000)
    for devices in (1, 2, 4):
        mesh = row_mesh(devices)
        operator, split = prepared(x, mesh)
        solve_here = functools.partial(
            sharded.conjugate_gradients, operator, targets, mesh=mesh, preconditioner=split
        )
        solution, found = solve_here(iterations=12, **arguments)
        assert found.iterations == 12
        np.testing.assert_allclose(solution, early, atol=1e-6)
        # Conjugate gradients enlarge rounding at every step; at the end the tolerance holds it.
        solution, found = solve_here(iterations=1000, **arguments)
        assert found.converged
        assert abs(found.iterations - info.iterations) <= 1
        np.testing.assert_allclose(solution, expected, atol=1e-6)
    dense = jnp.linalg.solve(gaussian(x) + RIDGE * jnp.eye(N), targets)
    error = jnp.abs(solution - dense).max() / jnp.abs(dense).max()
    assert error < 1e-6  # the tolerance, by a condition number of 1000


def test_prediction_streams_over_the_mesh():
    x, targets = problem()
    mesh = row_mesh(4)
    operator, preconditioner = prepared(x, mesh)
    solution, _ = sharded.conjugate_gradients(
        operator, targets, mesh=mesh, ridge=RIDGE, preconditioner=preconditioner, tolerance=1e-9
    )
    test = x[:7] + 0.1
    means = blocks.matvec(gaussian, test, solution, x, mesh=mesh)
    dense = jnp.linalg.solve(gaussian(x) + RIDGE * jnp.eye(N), targets)
    np.testing.assert_allclose(means, gaussian(test, x) @ dense, atol=1e-6)


def test_zeros_after_the_last_row_stay_and_move_no_pivot():
    x, targets = problem()
    mesh = row_mesh(4)
    operator, preconditioner = prepared(x, mesh)
    alone = solve.preconditioner(KEY, blocks.operator(gaussian, x), RANK, ridge=RIDGE)
    assert preconditioner.basis.shape == (120, RANK)
    np.testing.assert_allclose(preconditioner.basis[:N], alone.basis, atol=1e-9)
    assert not np.any(preconditioner.basis[N:])
    arguments = {"ridge": RIDGE, "preconditioner": preconditioner}
    *_, state = solve.iterate(operator, sharded.padded(targets, mesh), iterations=3, **arguments)
    for columns in (state.solution, state.residual, state.direction):
        assert np.any(columns[:N])
        assert not np.any(columns[N:])


def test_rows_and_their_work_are_split():
    """Operations of one device, as the compiler counts them, in all but the product."""
    x, targets = problem()
    operations = {}
    for devices in (1, 2, 4):
        mesh = row_mesh(devices)
        operator, preconditioner = prepared(x, mesh)
        assert preconditioner.basis.addressable_shards[0].data.shape == (-(-N // devices), RANK)
        arguments = {"ridge": RIDGE, "preconditioner": preconditioner}
        state = solve.start(operator, sharded.padded(targets, mesh), **arguments)
        state = solve.step(operator, state, **arguments)
        for columns in (state.solution, state.residual, state.direction):
            assert columns.addressable_shards[0].data.shape == (-(-N // devices), 2)
        product = operator.matvec(state.direction)
        step = solve._stepped.lower(state, product, RIDGE, preconditioner, 0.0)
        operations[devices] = step.compile().cost_analysis()["flops"]
    assert operations[2] < 0.6 * operations[1]  # the factor [r r] is everybody's
    assert operations[4] < 0.35 * operations[1]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda targets: targets[:40], r"targets: got shape \(40, 2\)"),
        (lambda targets: targets.at[3].set(jnp.nan), "targets: holds NaN"),
    ],
)
def test_mistakes_are_named(spoil, words):
    x, targets = problem()
    mesh = row_mesh(4)
    operator = sharded.operator(blocks.operator(gaussian, x, mesh=mesh), mesh)
    with pytest.raises(ValueError, match=words):
        sharded.conjugate_gradients(operator, spoil(targets), mesh=mesh)
