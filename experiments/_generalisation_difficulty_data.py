"""What `generalisation_difficulty` estimates: m, delta and R of data sets, and m of spheres."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from scipy import integrate, special

from ntkens.data import Examples, offline, tfds
from ntkens.measures import class_separation, generalisation, intrinsic_dimension

OFFLINE = ("digits", "iris", "wine", "breast_cancer")
IMAGES = {"mnist": "MNIST", "svhn_cropped": "SVHN", "cifar10": "CIFAR10"}
WIDTH = 12  # of the space that all spheres are put into, to compile once


class Estimates(NamedTuple):
    """Of a set of examples.

    Attributes:
        inverses: 1 / m of each point.
        margins: of each example, the distance to the nearest of another class.
        norms: of each example.
        duplicates: points left out of the first.
    """

    inverses: np.ndarray
    margins: np.ndarray
    norms: np.ndarray
    duplicates: int


def load(key, name: str, directory: str) -> Examples:
    """Training examples; those whose features have units are standardised."""
    if name in IMAGES:
        return tfds.load(name, directory=directory or None).train
    data = getattr(offline, name)(key)
    return (data if name == "digits" else offline.standardise(data)).train


def estimates(examples: Examples) -> Estimates:
    """All that the formula needs of the examples."""
    found = intrinsic_dimension.estimate(examples.inputs)
    margins = class_separation.margins(examples.inputs, examples.labels)
    rows = examples.inputs.reshape(len(examples.labels), -1).astype(np.float64)
    norms = np.linalg.norm(rows, axis=1)
    return Estimates(found.inverses, margins.astype(np.float64), norms, found.duplicates)


def difficulty_row(rng, examples: Examples, error: float, resamples: int) -> dict:
    """The difficulty of a data set, and by how many decades its estimates leave it open.

    By a bootstrap of the points: each has its own 1 / m, nearest other class and norm, from which
    resamples have their m, delta and R. Distances are not measured again, as a point that is drawn
    twice would be its own neighbour.
    """
    found = estimates(examples)
    n, classes = len(examples.labels), len(np.unique(examples.labels))
    separation, radius = float(found.margins.min()), float(found.norms.max())
    row = {
        "examples": n,
        "classes": classes,
        "duplicates": found.duplicates,
        "dimension": float(1 / found.inverses.mean()),
        "separation": separation,
        "radius": radius,
    }
    if separation == 0:
        return row | {"failed": "two classes share an input: no separation, and no difficulty"}

    def difficulty(m, separation, radius):
        return generalisation.classification(
            m, radius, separation, examples=n, classes=classes, error=error
        )

    def decades(*estimates):
        return difficulty(*estimates).log10_bits

    at = (row["dimension"], separation, radius)
    drawn = np.array([_resampled(rng, found) for _ in range(resamples)]).T
    spread = {"dimension_error": drawn[0], "decades_error": decades(*drawn)}
    for place, name in enumerate(("dimension", "separation", "radius")):
        mixed = [drawn[place] if place == other else at[other] for other in range(3)]
        spread[f"by_{name}"] = decades(*mixed)
    return row | {
        "log10_bits": float(decades(*at)),
        "bits": float(difficulty(*at).bits),
        "rounded": float(decades(round(at[0]), *at[1:])),
        "one_higher": float(decades(at[0] + 1, *at[1:])),
        "failed": None,
        **{name: float(np.std(values, ddof=1)) for name, values in spread.items()},
    }


def _resampled(rng, found):
    inverses = found.inverses[rng.integers(len(found.inverses), size=len(found.inverses))]
    chosen = rng.integers(len(found.norms), size=len(found.norms))
    return 1 / inverses.mean(), found.margins[chosen].min(), found.norms[chosen].max()


def extremes_row(key, examples: Examples, pairs: int, top: int) -> dict:
    """The separation by extreme values, of as many pairs as are asked for, or half of those."""
    counts = np.unique(examples.labels, return_counts=True)[1]
    total = (int(counts.sum()) ** 2 - int(np.sum(counts.astype(object) ** 2))) // 2
    pairs = min(pairs, total // 2)
    found = class_separation.extrapolated(
        key, examples.inputs, examples.labels, pairs=pairs, top=min(top, max(10, pairs // 100))
    )
    return {f"extreme_{name}": value for name, value in found._asdict().items()}


def spheres(key, dimension: int, points: int, samples: int) -> Iterator[dict]:
    """The inverse dimension of samples of a sphere, which has an exact mean."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    inverses, errors = [], []
    for _ in range(samples):
        drawn = rng.normal(size=(points, dimension + 1))
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        found = intrinsic_dimension.estimate(np.pad(drawn, ((0, 0), (0, WIDTH - dimension - 1))))
        inverses.append(1 / found.dimension)
        errors.append(found.standard_error / found.dimension**2)
    yield {
        "dimension": dimension,
        "points": points,
        "samples": samples,
        "inverse": float(np.mean(inverses)),
        "inverse_error": float(np.std(inverses, ddof=1) / math.sqrt(samples)),
        "exact": sphere_inverse(points, dimension),
        "spread": float(np.std(inverses, ddof=1)),
        "reported": float(np.mean(errors)),
    }


def sphere_inverse(points: int, dimension: int, neighbours: int = 5) -> float:
    """E[1 / m] of the estimator for uniform points on S^m, curvature and all.

    A fraction F(t) = I_(t^2 / 4)(m / 2, m / 2) of S^m is within a chord t of a point, and F(T_j) is
    the j-th smallest of n - 1 uniform variables, Beta(j, n - j).
    """

    def integrand(log_share, j):  # of ln T_j, over ln F
        share = math.exp(log_share)
        log_density = j * log_share + (points - 1 - j) * math.log1p(-share)
        half = dimension / 2
        log_chord = math.log(4 * special.betaincinv(half, half, share)) / 2
        return math.exp(log_density - special.betaln(j, points - j)) * log_chord

    low = math.log(1e-12 / points)
    means = [
        integrate.quad(integrand, low, -1e-12, (j,), limit=400, epsabs=1e-10)[0]
        for j in range(1, neighbours + 1)
    ]
    return means[-1] - sum(means[:-1]) / (neighbours - 1)
