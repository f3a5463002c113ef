"""What a sparse network costs: multiply-accumulates of one example, where pruned weights are free.

A weight of a fully connected layer multiplies once for an example, one of a convolution once at
each place of its output: those are its `uses`. With k_l of the n_l weights of layer l active, used
u_l times each,

    forward       F = sum_l u_l k_l
    to inputs     B = sum_l u_l k_l, without the layers that read the network's inputs
    to weights    G = sum_l u_l k_l;  sum_l u_l n_l where inactive weights want a gradient too

A step costs F + B + G. Published tables (arXiv:1911.11134) take B = F for all layers, 3 F a step,
and so does `training` unless told which layers read the inputs. Their mean step of RigL is
(3 F period + 2 F + F_dense) / (period + 1); where exchanges take the place of a step, as in
`dynamic`, it is (3 F (period - 1) + 2 F + F_dense) / period.

Biases, activations, normalisation, optimisers, and the sorts that choose a mask are free, as in
those tables; so is finding where the weights are. It is what a machine for sparse products could
save: a mask on dense products saves nothing.

    kept = jax.device_get(masks.layers(mask))
    sizes = {name: layer.size for name, layer in mask.items()}
    dense = cost.training([cost.Stage(sizes, steps=1000)], sizes)
    static = cost.training([cost.Stage(kept, steps=1000)], sizes) / dense
    rigl = cost.training([cost.Stage(kept, steps=1000, dense_gradients=7)], sizes) / dense
    dense_to_sparse = cost.training([cost.Stage(kept, 1000) for kept in levels], sizes) / dense

Everything is in float64 in NumPy, exact for counts below 2^53. Numbers may have axes, such as
[members], and results then have them too.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float

Counts = Mapping[str, ArrayLike]
"""A number for each layer, or one for each layer and member."""


class Stage(NamedTuple):
    """A part of training in which no layer's number of active weights changes.

    Attributes:
        kept: active weights of each layer, as `masks.layers` counts them.
        steps: how many.
        dense_gradients: of the steps, those that compute the gradient of inactive weights too: the
            exchanges of RigL, (min(end, steps) - 1) // period of them.
    """

    kept: Counts
    steps: ArrayLike
    dense_gradients: ArrayLike = 0


def inference(kept: Counts, uses: Counts | None = None) -> Float[np.ndarray, "*axes"]:
    """F: multiply-accumulates of the forward pass of one example.

    Args:
        kept: active weights of each layer.
        uses: of each weight of a layer for one example. None: once, as in fully connected layers.

    Raises:
        ValueError: no layers; uses of other layers; a count that is negative or not finite.
    """
    return sum(_used("kept", kept, uses).values(), np.zeros(()))


def training(
    stages: Sequence[Stage],
    sizes: Counts,
    uses: Counts | None = None,
    *,
    readers: Collection[str] = (),
) -> Float[np.ndarray, "*axes"]:
    """The sum of F + B + G over all steps of all stages, for one example a step.

    Times the batch it is the cost of the run; over that of a dense run, its share.

    Args:
        stages: one after another: one of a static or dynamic method, several where the network is
            pruned on the way, or trained more than once.
        sizes: all weights of each layer.
        uses: of each weight of a layer for one example. None: once, as in fully connected layers.
        readers: layers that read the network's inputs, to which no gradient is wanted. None named:
            the published convention, in which a step is 3 F.

    Raises:
        ValueError: no stages; layers that do not match; more weights kept than there are; more
            dense gradients than steps; a count that is negative or not finite.
    """
    if not stages:
        raise ValueError("stages: got none; training has at least one")
    _check_layers("readers", [*sizes, *readers], sizes)
    return sum((_of_stage(stage, sizes, uses, readers) for stage in stages), np.zeros(()))


def _of_stage(stage, sizes, uses, readers):
    _check_layers("kept", stage.kept, sizes)
    steps = _checked("steps", stage.steps)
    dense_gradients = _checked("dense_gradients", stage.dense_gradients)
    if np.any(dense_gradients > steps):
        raise ValueError(f"dense_gradients: got {stage.dense_gradients} of {stage.steps} steps")
    active, all_of_them = _used("kept", stage.kept, uses), _used("sizes", sizes, uses)
    total = np.zeros(())
    for name, forward in active.items():
        if np.any(forward > all_of_them[name]):
            raise ValueError(
                f"kept[{name!r}]: got {stage.kept[name]} of {sizes[name]} weights; a dense network "
                "keeps them all"
            )
        passes = 2 if name in readers else 3
        inactive = all_of_them[name] - forward
        total = total + steps * passes * forward + dense_gradients * inactive
    return total


def _used(argument, counts, uses):
    """Count times uses, by layer."""
    if not counts:
        raise ValueError(f"{argument}: got no layers; there is a count for each")
    if uses is None:
        uses = dict.fromkeys(counts, 1)
    _check_layers("uses", uses, counts)
    return {
        name: _checked(f"{argument}[{name!r}]", count) * _checked(f"uses[{name!r}]", uses[name])
        for name, count in counts.items()
    }


def _checked(name, count):
    numbers = np.asarray(count, np.float64)
    if not np.all(np.isfinite(numbers) & (numbers >= 0)):
        raise ValueError(f"{name}: got {count}; a count is finite and at least 0")
    return numbers


def _check_layers(argument, given, wanted):
    if set(given) != set(wanted):
        raise ValueError(
            f"{argument}: got layers {sorted(given)}; they are those of {sorted(wanted)}"
        )
