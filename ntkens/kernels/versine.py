"""The versine 1 - |cosine| of all pairs of unit vectors, of near pairs without cancellation.

Formed by subtraction it has the absolute error of the cosine, a few eps; an angle is the root of
it, and so near pairs would keep half the digits. Theirs comes from the difference of the vectors,
|u -+ v|^2 / 2, whose error is relative. There may be none of them or a cluster in which all are:

- a tile without a near pair is left as it is;
- few are gathered, some at a time, in memory of `SLOTS` pairs of vectors;
- many are computed anew with their rows, one row at a time.

No number of them is a bound on what is served.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Pairs with |cosine| above 1 - NEAR are near: below, the subtraction costs at most
# eps / sqrt(2 NEAR) = 5 eps of the angle.
NEAR = 0.02
SLOTS = 64


@jax.custom_jvp
def versine(
    unit1: Float[Array, "n d"],
    unit2: Float[Array, "m d"],
    cosine: Float[Array, "n m"],
    same: Bool[Array, "n m"],
) -> Float[Array, "n m"]:
    """1 - |cosine|, exactly 0 for the pairs of an input with itself.

    Args:
        unit1: unit vectors, or zeros.
        unit2: likewise.
        cosine: their inner products.
        same: the pairs of an input with itself, which are not near but one.
    """
    plain = 1 - jnp.abs(cosine)
    nearest = jnp.min(jnp.where(same, 1, plain), initial=1)
    arguments = unit1, unit2, plain, cosine, same
    plain = jax.lax.cond(nearest < NEAR, _serve, lambda *arguments: arguments[2], *arguments)
    return jnp.where(same, 0, plain)


@versine.defjvp
def _(primals, tangents):
    def row_by_row(unit1, unit2, cosine, same):
        plain = 1 - jnp.where(cosine >= 0, cosine, -cosine)  # of slope 1 at 0, as `dual` has it
        return jnp.where(same, 0, _many(unit1, unit2, plain, cosine, (plain < NEAR) & ~same))

    return jax.jvp(row_by_row, primals, tangents)


def _serve(unit1, unit2, plain, cosine, same):
    near = (plain < NEAR) & ~same
    few = jnp.sum(near) <= near.size // 16
    return jax.lax.cond(few, _few, _many, unit1, unit2, plain, cosine, near)


def _few(unit1, unit2, plain, cosine, near):
    """Near pairs in lists of `SLOTS`: the k-th of all is in the row where the count passes k."""
    in_row = jnp.sum(near, axis=1)
    upto = jnp.cumsum(in_row)
    ones = jnp.triu(jnp.ones((near.shape[1],) * 2, jnp.float32))

    def serve(state):
        done, plain = state
        slot = done + jnp.arange(SLOTS)
        row = jnp.searchsorted(upto, slot, side="right")  # past the last row when all are served
        rank = slot - (upto - in_row)[row]
        passed = near[row].astype(jnp.float32) @ ones  # a cumulative sum, as a product
        column = jnp.sum(passed <= rank[:, None], axis=1)
        sign = jnp.where(cosine[row, column] < 0, -1, 1).astype(plain.dtype)
        difference = unit1[row] - sign[:, None] * unit2[column]
        anew = jnp.sum(difference * difference, axis=1) / 2
        return done + SLOTS, plain.at[row, column].set(anew, mode="drop")

    return jax.lax.while_loop(lambda state: state[0] < upto[-1], serve, (0, plain))[1]


def _many(unit1, unit2, plain, cosine, near):
    """A row that holds a near pair is computed anew, in memory of one row of differences."""

    @jax.checkpoint
    def differences(unit, plain, cosine):
        sign = jnp.where(cosine < 0, -1, 1).astype(cosine.dtype)
        difference = unit[None, :] - sign[:, None] * unit2
        return jnp.sum(difference * difference, axis=1) / 2

    def row(arguments):
        unit, plain, cosine, near = arguments
        anew = jax.lax.cond(
            near.any(), differences, lambda unit, plain, cosine: plain, unit, plain, cosine
        )
        return jnp.where(near, anew, plain)

    return jax.lax.map(row, (unit1, plain, cosine, near))
