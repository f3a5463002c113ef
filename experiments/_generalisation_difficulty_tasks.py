"""The tasks of `generalisation_difficulty`: their parameters, and what the formula says of them.

Parameters are those in the authors' code where nothing else is said: task_difficulty.py of
github.com/FieteLab/inductive-bias-complexity.
"""

import math
from collections.abc import Iterator

import numpy as np

from ntkens.measures import generalisation

# n, R, m, d, delta, epsilon.
IMAGES = {
    "MNIST": (60_000, 17.179045827183984, 14, 10, 2.3987084824335305, 0.001),
    "SVHN": (73_257, 53.86932485133339, 19, 10, 1.5766998174969105, 0.01),
    "CIFAR10": (50_000, 54.9156786783691, 27, 10, 2.7506414616587023, 0.01),
    "ImageNet": (1_280_901, 943.5923, 48, 1000, 65.0, 0.1),
    "ImageNet, m = 60": (1_280_901, 943.5923, 60, 1000, 65.0, 0.1),
    "ImageNet, m = 80": (1_280_901, 943.5923, 80, 1000, 65.0, 0.1),
}

# Of characters in each alphabet of Omniglot's background set (Lake, Salakhutdinov and Tenenbaum
# 2015), 964 in all, each drawn by 20 people.
CHARACTERS = (
    20, 29, 26, 41, 40, 24, 46, 14, 26, 34, 33, 22, 26, 43, 24,
    48, 22, 16, 52, 47, 40, 26, 40, 41, 33, 14, 42, 23, 17, 55,
)  # fmt: skip
WAYS, DRAWERS = 20, 20
OMNIGLOT = {"radius": 49.4064773081425, "separation": 5.477225575051661, "error": 0.01}

# Numbers observed and done. The authors' three are those of the DeepMind control suite, as are the
# others: Tassa et al. 2018, arXiv:1801.00690.
CONTROL = {"Reacher": (6, 2), "Hopper": (15, 4), "Half-Cheetah": (17, 6)}
MORE_CONTROL = {"Pendulum": (3, 1), "Walker": (24, 6), "Humanoid": (67, 21)}

# Top-1 errors of models on ImageNet, in the authors' code, without the models' names.
ERRORS = (0.97, 0.375, 0.2502, 0.2285, 0.2258, 0.219, 0.2142, 0.1246, 0.1145, 0.0906)


def tasks() -> Iterator[dict]:
    """Every task: what it asks for, what it is made of, and how fast it grows with m, M and n."""
    for name, (n, radius, m, classes, separation, error) in IMAGES.items():

        def image(m, separation, n, radius=radius, classes=classes, error=error):
            return generalisation.classification(
                m, radius, separation, examples=n, classes=classes, error=error
            )

        row = _row(image, m, separation, n, outputs=classes - 1)
        yield {"family": "images", "task": name, "radius": radius, "error": error, **row}
    yield {"family": "few-shot", "task": "Omniglot", **_omniglot()}
    for observations in range(1, 6):
        row = _control(2 * observations, 1, 10_000)
        yield {"family": "cartpole", "task": f"cartpole, T = {observations}", **row}
    for family, sizes in (("control", CONTROL), ("control, not theirs", MORE_CONTROL)):
        for name, (observed, done) in sizes.items():
            yield {"family": family, "task": name, **_control(observed, done, 1_000_000)}


def _omniglot():
    """With m0 = 22 within an alphabet and m1 = 29 of all: m = m1 + 19 m0, of which m1 is moved."""
    within, across = 22, 29

    def task(m, separation, n):
        dimensions = (within, m - (WAYS - 1) * within)
        rest = {**OMNIGLOT, "separation": separation}
        return generalisation.few_shot(dimensions, examples=n, ways=WAYS, **rest)

    frequency = 2 * math.pi * OMNIGLOT["radius"] / OMNIGLOT["separation"]
    inner = generalisation.harmonics(within, frequency)
    outputs = 2 * WAYS * (WAYS - 1) * math.exp(inner.log_count)
    m = across + (WAYS - 1) * within
    row = _row(task, m, OMNIGLOT["separation"], few_shot_sets(), outputs)
    return row | {"radius": OMNIGLOT["radius"], "error": OMNIGLOT["error"]}


def few_shot_sets() -> float:
    """Sets of 20 images of different characters of one alphabet, over all alphabets."""
    return float(sum(math.comb(max(count, WAYS), WAYS) for count in CHARACTERS) * DRAWERS**WAYS)


def _control(observed, done, steps):
    def task(m, separation, n):
        return generalisation.control(m, done, steps=n, resolution=separation)

    return _row(task, observed, 0.001, steps, outputs=done) | {"error": 0.001}


def _row(task, m, separation, n, outputs) -> dict:
    """The difficulty, its parts, and what moves it; `frequency_exponent` is d ln I / d ln M."""
    found = task(m, separation, n)
    step = np.array([-1e-4, 1e-4])
    finer = task(m, separation * np.exp(-step), n).log10_bits
    doubled = task(m, separation, 2 * n)
    # I(n) - I(2 n) = dim times what the bracket loses + the n D lost dimensions times what it keeps
    lost = math.exp(math.log(n) + math.log(outputs) - found.log_dimension)
    linear = lost * float(doubled.bits_per_dimension)
    logarithm = float(found.bits_per_dimension - doubled.bits_per_dimension)
    return {
        "dimension": m,
        "examples": n,
        "separation": separation,
        "outputs": outputs,
        **{field: float(value) for field, value in found._asdict().items()},
        "one_higher": float(task(m + 1, separation, n).log10_bits),
        "frequency_exponent": float(finer[1] - finer[0]) / 2e-4 * math.log(10),
        "doubled": float(doubled.log10_bits),
        "linear_share": linear / (linear + logarithm),
    }


def curves() -> Iterator[dict]:
    """ImageNet at another dimension, separation or number of examples, over the authors' ranges."""
    n, radius, m, classes, separation, error = IMAGES["ImageNet"]
    ranges = {
        "dimension": np.arange(48, 101, 4),
        "separation": np.arange(30, 121, 10),
        "examples": 10.0 ** np.arange(2, 20),
    }
    for quantity, values in ranges.items():
        at = {"dimension": m, "separation": separation, "examples": n, quantity: values}
        found = generalisation.classification(
            at["dimension"],
            radius,
            at["separation"],
            examples=at["examples"],
            classes=classes,
            error=error,
        )
        yield {
            "quantity": quantity,
            "values": [float(value) for value in values],
            "decades": [float(value) for value in found.log10_bits],
        }


def models() -> Iterator[dict]:
    """What inductive bias a model of so large an error has: the difficulty of ImageNet at it."""
    n, radius, m, classes, separation, _ = IMAGES["ImageNet"]
    found = generalisation.classification(
        m, radius, separation, examples=n, classes=classes, error=np.array(ERRORS)
    )
    for error, bits, decades in zip(ERRORS, found.bits, found.log10_bits, strict=True):
        yield {"error": error, "bits": float(bits), "log10_bits": float(decades)}
