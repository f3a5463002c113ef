"""Which weights share a gate: single weights, neurons or filters, as axes of the parameters.

Gates are a dictionary of arrays; a gate array belongs to a layer, and its entry i to every slice i
of the parts that the layer's groups own. So gating is a broadcast and an inner product a sum over
the other axes, with no index arrays and no scatter:

    groups.neurons(params)   {"hidden_0": (Part("hidden_0/kernel", (1,)), ...), ...}
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array

Owned = Literal["incoming", "bias", "outgoing"]
Gates = dict[str, Array]


class Part(NamedTuple):
    """An array of the parameters, and which of its axes count groups.

    Attributes:
        path: of the array, as "hidden_0/kernel".
        axes: ascending; the gates' own axes, in the same order.
    """

    path: str
    axes: tuple[int, ...]


Groups = dict[str, tuple[Part, ...]]


def weights(params: Any) -> Groups:
    """Each weight is a group: gates have the shapes of the kernels. Biases belong to none."""
    return {
        path.removesuffix("/kernel"): (Part(path, tuple(range(leaf.ndim))),)
        for path, leaf in _kernels(params).items()
    }


def neurons(params: Any, *, own: Sequence[Owned] = ("incoming", "bias")) -> Groups:
    """Each hidden neuron of a `models.mlp` is a group.

    Args:
        params: of the network.
        own: what belongs to a neuron: its incoming weights, its bias, its outgoing weights. Gates
            of either side are the same function after a ReLU, if the bias is gated with the
            incoming weights; the norms are not.

    Raises:
        ValueError: an unknown part, or none; groups that overlap, as those that own both incoming
            and outgoing weights do in a network of two hidden layers.
    """
    if not own or not set(own) <= set(get_args(Owned)):
        raise ValueError(f"own: got {tuple(own)}; wants one or more of {get_args(Owned)}")
    layers = [path.removesuffix("/kernel") for path in _kernels(params)]
    hidden = [layer for layer in layers if layer != "readout"]
    leaves = _leaves(params)
    groups = {}
    for place, layer in enumerate(hidden):
        parts = []
        if "incoming" in own:
            parts.append(Part(f"{layer}/kernel", (1,)))
        if "bias" in own and f"{layer}/bias" in leaves:
            parts.append(Part(f"{layer}/bias", (leaves[f"{layer}/bias"].ndim - 1,)))
        if "outgoing" in own:
            after = [Part(f"{below}/kernel", (0,)) for below in hidden[place + 1 : place + 2]]
            parts += after or [Part("readout/kernel", (1,))]
        groups[layer] = tuple(parts)
    check(groups, params)
    return groups


def filters(params: Any) -> Groups:
    """Each filter of a convolution, [size, size, channels, features], is a group."""
    return {
        path.removesuffix("/kernel"): (Part(path, (3,)),)
        for path, leaf in _kernels(params).items()
        if leaf.ndim == 4
    }


def check(groups: Groups, params: Any) -> None:
    """Refuses groups that are none.

    Raises:
        ValueError: a part that the params lack; axes that they lack, or not ascending; parts of one
            layer with different numbers of groups; an array that belongs to several groups.
    """
    leaves = _leaves(params)
    owners = Counter(part.path for parts in groups.values() for part in parts)
    for layer, parts in groups.items():
        if not parts:
            raise ValueError(f"groups: {layer!r} owns no part of the params")
        for path, axes in parts:
            if path not in leaves:
                raise ValueError(f"groups: {layer!r} owns {path!r}; params have {list(leaves)}")
            if list(axes) != sorted(set(axes) & set(range(leaves[path].ndim))) or not axes:
                raise ValueError(
                    f"groups: axes {axes} of {path!r}; they are ascending axes of an array of "
                    f"shape {leaves[path].shape}"
                )
            if owners[path] > 1:
                shared = [name for name in groups if path in {part.path for part in groups[name]}]
                raise ValueError(
                    f"groups: {path!r} belongs to several of {shared}, so that groups overlap; "
                    "leave it to one"
                )
        shapes = {_gate_shape(part, leaves) for part in parts}
        if len(shapes) > 1:
            raise ValueError(f"groups: the parts of {layer!r} count {sorted(shapes)} groups")


def ones(groups: Groups, params: Any) -> Gates:
    """Gates that are all open."""
    check(groups, params)
    leaves = _leaves(params)
    return {
        layer: jnp.ones(_gate_shape(parts[0], leaves), leaves[parts[0].path].dtype)
        for layer, parts in groups.items()
    }


def count(groups: Groups, params: Any) -> int:
    """How many groups there are."""
    leaves = _leaves(params)
    return sum(math.prod(_gate_shape(parts[0], leaves)) for parts in groups.values())


def gated(groups: Groups, params: Any, gates: Gates) -> Any:
    """The parameters that the network computes with: s_i theta_i, and what belongs to no group.

    Raises:
        ValueError: gates that do not match the groups.
    """
    leaves = _leaves(params)
    if set(gates) != set(groups):
        raise ValueError(f"gates: got {list(gates)}; there is an array for each of {list(groups)}")
    for layer, parts in groups.items():
        for part in parts:
            leaf = leaves[part.path]
            wanted = _gate_shape(part, leaves)
            if gates[layer].shape != wanted:
                raise ValueError(
                    f"gates: got shape {gates[layer].shape} for {layer!r}; wants {wanted}"
                )
            leaves[part.path] = leaf * _spread(gates[layer], part, leaf).astype(leaf.dtype)
    return traverse_util.unflatten_dict(leaves, sep="/")


def inner(groups: Groups, first: Any, second: Any) -> Gates:
    """<first_i, second_i> of every group, of two pytrees of the params' shape.

    Raises:
        ValueError: a tree that lacks what the groups own.
    """
    left, right = _leaves(first), _leaves(second)
    for name, leaves in (("first", left), ("second", right)):
        lacking = {part.path for parts in groups.values() for part in parts} - set(leaves)
        if lacking:
            raise ValueError(f"{name}: lacks {sorted(lacking)}, which groups own")
    return {
        layer: jnp.sum(
            jnp.stack([_within(left[part.path] * right[part.path], part) for part in parts]), axis=0
        )
        for layer, parts in groups.items()
    }


def competition(groups: Groups, params: Any, gates: Gates) -> Gates:
    """sum_{j != i} s_j <theta_i, theta_j> of every group, over the others of its layer.

    Groups of different layers differ in size and have no inner product. Costs as much as one
    reading of the params: sum_j s_j theta_j is formed once a layer, and no Gram matrix.
    """
    leaves = _leaves(params)
    norms = inner(groups, params, params)
    found = {}
    for layer, parts in groups.items():
        total = -gates[layer] * norms[layer]
        for part in parts:
            leaf = leaves[part.path]
            crowd = jnp.sum(leaf * _spread(gates[layer], part, leaf), axis=part.axes, keepdims=True)
            total = total + _within(leaf * jnp.broadcast_to(crowd, leaf.shape), part)
        found[layer] = total
    return found


def _leaves(params) -> dict[str, Any]:
    return traverse_util.flatten_dict(params, sep="/")


def _kernels(params):
    return {path: leaf for path, leaf in _leaves(params).items() if path.endswith("/kernel")}


def _gate_shape(part, leaves):
    return tuple(leaves[part.path].shape[axis] for axis in part.axes)


def _spread(gate, part, leaf):
    """A gate for each entry of an array, to be broadcast."""
    shape = [size if axis in part.axes else 1 for axis, size in enumerate(leaf.shape)]
    return jnp.broadcast_to(gate.reshape(shape), leaf.shape)


def _within(values, part):
    """Summed over each group."""
    return jnp.sum(values, axis=tuple(set(range(values.ndim)) - set(part.axes)))
