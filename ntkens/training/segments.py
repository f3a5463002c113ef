"""A long training of many members, in segments: progress, early stop and checkpoints between.

    def advance(state, rate, train):                        # of one member: 5 epochs
        return fit.epochs(loss, optax.sgd(rate), state, train, epochs=5, batch=128)

    for segment in segments.run(advance, states, train, own=rates, segments=20, directory=folder):
        print(segment.done, segment.info.loss[:, -1].mean(), segment.remaining)

One program is compiled and called once a segment; between two calls everything is the caller's:
leave the loop to stop early. Killed at any time, the same call goes on after the last segment that
was completed, and ends with the same parameters.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ntkens import tree
from ntkens.training import checkpoints, members


class Segment(NamedTuple):
    """Where a run stands.

    Attributes:
        done: segments that are complete, those of earlier calls included.
        segments: that there will be.
        states: of the members, stacked.
        info: of all epochs so far, [members epochs ...], in NumPy.
        remaining: estimated seconds to the end.
    """

    done: int
    segments: int
    states: Any
    info: Any
    remaining: float


def run(
    advance: Callable[..., tuple[Any, Any]],
    states: Any,
    *shared: Any,
    segments: int,
    own: Any = None,
    directory: str | Path | None = None,
    configuration: Mapping[str, Any] | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Iterator[Segment]:
    """Advances all members by a segment at a time, and yields where they stand after each.

    Args:
        advance: `(state, own, *shared) -> (state, info)` of one member, `(state, *shared)` without
            `own`; pure and traceable; info has the epochs of a segment first, as `fit.epochs` has.
        states: stacked, members first, as `fit.start` under `members.map` gives them.
        *shared: pytrees that every member sees whole, such as the examples.
        segments: how many, at least 1.
        own: pytree of what is each member's own, members first: rates, indices, any numbers.
        directory: where to keep checkpoints, of a run in one process; None keeps none. A run that
            was complete is yielded once more.
        configuration: with a directory, what makes the run what it is; the shapes of the states
            are always compared.
        chunk: see `members.map`.
        mesh: see `members.map`.

    Raises:
        ValueError: segments < 1; states and own of different numbers of members; a directory that
            holds a run of another configuration.
    """
    if not isinstance(segments, int | np.integer) or segments < 1:
        raise ValueError(f"segments: got {segments}; it is a whole number, at least 1")
    if own is not None and tree.size(own) != tree.size(states):
        raise ValueError(
            f"own: it is of {tree.size(own)} members, the states of {tree.size(states)}"
        )

    def one(member, *shared):
        state, own = member
        return advance(state, *shared) if own is None else advance(state, own, *shared)

    def following(states):
        states, info = members.map(one, (states, own), *shared, chunk=chunk, mesh=mesh)
        return jax.block_until_ready((states, info))

    _, shapes = jax.eval_shape(jax.vmap(one, (0, *[None] * len(shared))), (states, own), *shared)
    total = jax.tree.map(lambda leaf: _of_run(leaf, segments), shapes)
    store, done = None, 0
    with contextlib.ExitStack() as stack:
        if directory is not None:
            opened = checkpoints.opened(
                directory, {"segments": int(segments), **(configuration or {})}, (states, total)
            )
            store = stack.enter_context(opened)
            found = checkpoints.latest(store, (states, total))
            if found is not None:
                done, (states, total) = found
                total = jax.tree.map(np.array, total)
        if done == segments:
            yield Segment(done, segments, states, _until(total, done, segments), 0.0)
        seconds: list[float] = []
        while done < segments:
            start = time.perf_counter()
            states, info = following(states)
            for place, part in zip(jax.tree.leaves(total), jax.tree.leaves(info), strict=True):
                epochs = part.shape[1]
                place[:, done * epochs : (done + 1) * epochs] = part
            done += 1
            if store is not None:
                checkpoints.save(store, done, (states, total))
            seconds.append(time.perf_counter() - start)
            usual = float(np.mean(seconds[1:] or seconds))  # the first one compiles
            info = _until(total, done, segments)
            yield Segment(done, segments, states, info, usual * (segments - done))


def _of_run(leaf, segments):
    """Room for the info of all segments, [members epochs ...], on the host."""
    members, epochs, *rest = leaf.shape
    return np.zeros((members, segments * epochs, *rest), leaf.dtype)


def _until(total, done, segments):
    return jax.tree.map(lambda leaf: leaf[:, : leaf.shape[1] // segments * done].copy(), total)
