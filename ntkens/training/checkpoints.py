"""Checkpoints of a run, by orbax: a pytree of arrays and keys, and the configuration it belongs to.

    with checkpoints.opened(directory, {"width": 64, "seed": 0}, state) as store:
        found = checkpoints.latest(store, state)           # (step, state), or None
        checkpoints.save(store, step, state)

A save is complete or absent, whenever the process is killed; the last two are kept.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as orbax

KEPT = 2
CONFIGURATION = "configuration.json"


@contextlib.contextmanager
def opened(
    directory: str | Path, configuration: Mapping[str, Any], state: Any
) -> Iterator[orbax.CheckpointManager]:
    """The store of one run, in a folder that is made if it is not there.

    Args:
        directory: of this run alone.
        configuration: what makes the run what it is, in JSON's types.
        state: as it will be saved; its shapes are part of the configuration.

    Raises:
        ValueError: the folder holds a run of another configuration, or of other shapes.
        TypeError: a configuration that JSON cannot hold.
    """
    directory = Path(directory).resolve()
    shapes = {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.tree.map(jnp.asarray, state))
    }
    wanted = {"configuration": dict(configuration), "shapes": shapes}
    text = json.dumps(wanted, indent=1, sort_keys=True)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / CONFIGURATION
    if path.exists():
        _check_same(directory, json.loads(path.read_text()), json.loads(text))
    else:
        draft = path.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(path)
    options = orbax.CheckpointManagerOptions(
        max_to_keep=KEPT, cleanup_tmp_directories=True, enable_async_checkpointing=False
    )
    with orbax.CheckpointManager(directory, options=options) as store:
        yield store


def save(store: orbax.CheckpointManager, step: int, state: Any) -> None:
    """Stores the state of a step, and forgets all but the last two."""
    store.save(step, args=orbax.args.StandardSave(_without_keys(state)))


def latest(store: orbax.CheckpointManager, like: Any) -> tuple[int, Any] | None:
    """The last step with its state, or None where nothing is stored.

    Args:
        store: from `opened`.
        like: a state of the same shapes; it gives the keys' kind and the placement on devices.
    """
    step = store.latest_step()
    if step is None:
        return None
    like = jax.tree.map(jnp.asarray, like)
    shapes = jax.tree.map(orbax.utils.to_shape_dtype_struct, _without_keys(like))
    plain = store.restore(step, args=orbax.args.StandardRestore(shapes))
    return step, jax.tree.map(_with_key, like, plain)


def _is_key(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_keys(state):
    """Keys as the integers that they are: files hold no others."""
    state = jax.tree.map(jnp.asarray, state)
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def _with_key(like, leaf):
    return jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(like)) if _is_key(like) else leaf


def _check_same(directory, found, wanted):
    for part in ("configuration", "shapes"):
        old, new = found[part], wanted[part]
        names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        if names:
            differences = ", ".join(f"{n} was {old.get(n)}, now {new.get(n)}" for n in names[:4])
            raise ValueError(
                f"directory: {directory} holds a run of another configuration: {differences}; "
                "give another folder, or delete this one"
            )
