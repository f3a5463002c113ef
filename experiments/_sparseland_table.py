"""The rows of `sparseland`: a method at a density, what it costs, and what its controls change."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import _sparseland_networks as networks
from experiments import _sparseland_training as training
from experiments._rows import mean_and_error
from experiments._sparseland_taxonomy import PLACES
from ntkens.sparsity import cost


def sizes(config: Any) -> dict[str, int]:
    """All weights of each layer of the dense network."""
    return {name: w.size for name, w in networks.shapes(*_network(config)).items()}


def stage(
    config: Any,
    kept: Mapping[str, Any],
    first: int = 0,
    last: int | None = None,
    *,
    dense_gradients: int = 0,
) -> cost.Stage:
    """Training from an epoch on to another, with so many weights in each layer."""
    epochs = (config.epochs if last is None else last) - first
    return cost.Stage(kept, training.steps(config) // config.epochs * epochs, dense_gradients)


def kept(mask: Mapping[str, Any], place: int) -> dict[str, np.ndarray]:
    """Weights of each layer that a mask [seeds densities ...] keeps at a density, [seeds]."""
    return {
        name: layer[:, place].sum(axis=tuple(range(1, layer.ndim - 1)))
        for name, layer in mask.items()
    }


def empty_layers(counts: Mapping[str, np.ndarray]) -> np.ndarray:
    """How many layers have no weight left, [seeds]."""
    return np.sum([count == 0 for count in counts.values()], axis=0)


def trained(
    config: Any,
    method: str,
    density: float,
    found: training.Trained,
    place: int,
    stages: Sequence[cost.Stage],
) -> dict:
    """A method at a density: accuracies of its seeds, labels, operations and empty layers.

    Args:
        config: of the script.
        method: one of the taxonomy.
        density: as it was asked for.
        found: what was trained.
        place: of the density in it.
        stages: of all training that it took.
    """
    whole, uses = sizes(config), networks.uses(*_network(config))
    dense = cost.training([stage(config, whole)], whole, uses)
    counts = kept(found.mask, place)
    right = np.asarray(found.accuracy[:, place], float)
    mean, error = mean_and_error(right)
    return {
        "kind": "trained",
        "method": method,
        "density": density,
        **PLACES[method]._asdict(),
        "kept": float(np.mean(sum(counts.values()))) / sum(whole.values()),
        "accuracy": float(mean),
        "error": float(error),
        "training_operations": float(np.mean(cost.training(stages, whole, uses) / dense)),
        "inference_operations": float(
            np.mean(cost.inference(counts, uses) / cost.inference(whole, uses))
        ),
        "explored": float(np.mean(found.explored[:, place])),
        "empty_layers": float(np.mean(empty_layers(counts))),
        "accuracies": _listed(right),
    }


def check(method: str, name: str, density: float, broken: Any, own: Any) -> dict:
    """A sanity check: accuracies of a control, and less the method's own of the same seed."""
    differences = np.asarray(broken, float) - np.asarray(own, float)
    mean, error = mean_and_error(differences)
    return {
        "kind": "check",
        "method": method,
        "check": name,
        "density": density,
        "difference": float(mean),
        "error": float(error),
        "accuracies": _listed(broken),
        "differences": _listed(differences),
    }


def exploration(density: float, fraction: float, found: training.Trained, place: int) -> dict:
    """SET that moves some fraction of the weights: what it explores, and how often it is right."""
    return {
        "kind": "exploration",
        "density": density,
        "fraction": fraction,
        "explored": _listed(found.explored[:, place]),
        "accuracies": _listed(found.accuracy[:, place]),
    }


def _listed(values):
    return [round(float(value), 6) for value in np.asarray(values)]


def _network(config):
    return networks.NETWORKS[config.dataset], config.width
