"""What `wide_deep_optimality` classifies: the paper's spheres, and pairs of classes of images."""

import numpy as np
from scipy.special import gammaln

from ntkens.data import Dataset, Examples

PRIOR = 0.4  # of the class +1

# By dimension d of the sphere: the Dirichlet parameters of the classes +1 and -1.
SPHERES = {
    1: ((1, 2), (2, 1)),
    2: ((0.5, 0.5, 2.5), (2.5, 0.1, 0.5)),
    4: ((3, 1, 2, 1, 1), (1, 2, 2, 2, 3)),
    8: ((1, 2, 1, 2, 1, 1, 1, 1, 1), (1, 1, 1, 2, 3, 4, 2, 2, 1)),
}


def sphere(rng: np.random.Generator, dimension: int, count: int) -> Examples:
    """Points p / |p| of S^d with p from the Dirichlet distribution of their class; labels +-1.

    A component that underflows to 0 is at the boundary of the simplex, where a density may be
    infinite: such points, one in 10^30 at most of these distributions' mass, are raised to 1e-300.
    """
    labels = np.where(rng.random(count) < PRIOR, 1, -1)
    shapes = np.array(SPHERES[dimension])[(labels < 0).astype(int)]
    gammas = np.maximum(rng.standard_gamma(shapes), 1e-300)
    return Examples(gammas / np.linalg.norm(gammas, axis=1, keepdims=True), labels)


def bayes(inputs: np.ndarray, dimension: int) -> np.ndarray:
    """The class +-1 of largest posterior probability: the sign of ln 0.4 p_+(x) - ln 0.6 p_-(x).

    The densities on the sphere and on the simplex differ by a factor that both classes share.
    """
    logs = np.log(inputs / inputs.sum(axis=1, keepdims=True))
    first, second = (
        gammaln(np.sum(shape)) - np.sum(gammaln(shape)) + logs @ (np.array(shape) - 1.0)
        for shape in SPHERES[dimension]
    )
    return np.where(first - second + np.log(PRIOR / (1 - PRIOR)) > 0, 1, -1)


def pair(data: Dataset, classes: tuple[int, int], train: int, test: int) -> Dataset:
    """The first examples of two classes as flat vectors of norm one, with labels +1 and -1.

    Of examples that coincide on the sphere the first is kept, for an interpolant cannot serve two
    labels at one point, and those without light are left out, having no place there.
    """

    def chosen(examples, count):
        of_pair = np.isin(examples.labels, classes)
        inputs = examples.inputs[of_pair].reshape(of_pair.sum(), -1).astype(float)
        labels = np.where(examples.labels[of_pair] == classes[0], 1, -1)
        lit = np.linalg.norm(inputs, axis=1) > 0
        inputs, labels = inputs[lit], labels[lit]
        inputs = inputs / np.linalg.norm(inputs, axis=1, keepdims=True)
        _, first = np.unique(inputs, axis=0, return_index=True)
        kept = np.sort(first)[:count]
        return Examples(inputs[kept], labels[kept])

    return Dataset(chosen(data.train, train), chosen(data.test, test))
