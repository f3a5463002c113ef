"""The published configurations of `pruning_game`, and what the paper leaves unstated."""

from typing import Literal, NamedTuple

from ntkens.sparsity.games import Benefit
from ntkens.sparsity.groups import Owned


class Configuration(NamedTuple):
    """The coefficients of the costs; alpha is 1 and eta is 0 throughout."""

    beta: float
    gamma: float


PUBLISHED = {
    "Very High Beta": Configuration(0.1, 0.0),
    "Extreme Beta": Configuration(0.5, 0.0),
    "L1 Sparsity Strong": Configuration(0.001, 0.1),
    "L1+L2 Combined": Configuration(0.05, 0.05),
}
MILD = {f"beta = {beta:g}": Configuration(beta, 0.0) for beta in (1e-4, 1e-3, 5e-3)}
SPARSE = ("Extreme Beta", "L1 Sparsity Strong", "L1+L2 Combined")
TABLE = {  # percent right, percent of neurons pruned: Table 2
    "Very High Beta": (96.64, 0.00),
    "Extreme Beta": (91.15, 95.18),
    "L1 Sparsity Strong": (89.57, 98.31),
    "L1+L2 Combined": (91.54, 98.05),
}


class Reading(NamedTuple):
    """One way to fill in what is not stated.

    Attributes:
        optimiser: of the weights.
        benefit: its sign.
        of_gate: the benefit's slope is ± dL/ds_i, as backpropagation gives it, not s_i dL/ds_i.
        gates: plain ascent, or Adam, at the published rate.
        speed: of the gates: a factor of that rate.
        norm: the cost is beta ||theta_i||^2 s_i^2, or beta s_i^2.
        pays: the weights descend their groups' costs too.
        decay: of the weights, in their gradient.
        slowness: of the weights: their rate is divided by it.
        scale: of the first weights: E ||theta_i||^2; 1/3 is PyTorch's default, 2 is He's.
        own: what belongs to a neuron.
    """

    optimiser: Literal["sgd", "adam"]
    benefit: Benefit = "descent"
    of_gate: bool = False
    gates: Literal["plain", "adam"] = "plain"
    speed: float = 1.0
    norm: bool = True
    pays: bool = False
    decay: float = 0.0
    slowness: float = 1.0
    scale: float = 1 / 3
    own: tuple[Owned, ...] = ("incoming", "bias")


LITERAL = {
    "SGD, printed sign": Reading("sgd", "printed"),
    "Adam, printed sign": Reading("adam", "printed"),
    "SGD, descent": Reading("sgd"),
    "Adam, descent": Reading("adam"),
}
FREE = {"of_gate": True, "gates": "adam", "norm": False}
OTHERS = {
    "slow SGD, He, printed sign": Reading("sgd", "printed", slowness=10, scale=2.0),
    "SGD with decay": Reading("sgd", decay=1e-3),
    "outgoing weights, SGD": Reading("sgd", own=("outgoing",)),
    "Adam gates, Adam": Reading("adam", gates="adam"),
    "dL/ds, Adam gates, SGD": Reading("sgd", of_gate=True, gates="adam"),
    "dL/ds, Adam gates, Adam": Reading("adam", of_gate=True, gates="adam"),
    "no norm, SGD": Reading("sgd", norm=False),
    "no norm, 1.5 x faster, SGD": Reading("sgd", norm=False, speed=1.5),
    "no norm, 10 x faster, SGD": Reading("sgd", norm=False, speed=10),
    "no norm, dL/ds, Adam gates, SGD": Reading("sgd", **FREE),
    "no norm, dL/ds, Adam gates, Adam": Reading("adam", **FREE),
    "weights pay, dL/ds, Adam gates, SGD": Reading("sgd", of_gate=True, gates="adam", pays=True),
    "weights pay, dL/ds, Adam gates, Adam": Reading("adam", of_gate=True, gates="adam", pays=True),
}
READINGS = LITERAL | OTHERS
TELLING = (  # those of `laptop`
    "outgoing weights, SGD",
    "dL/ds, Adam gates, SGD",
    "dL/ds, Adam gates, Adam",
    "no norm, SGD",
    "no norm, 1.5 x faster, SGD",
    "no norm, dL/ds, Adam gates, SGD",
    "no norm, dL/ds, Adam gates, Adam",
    "weights pay, dL/ds, Adam gates, Adam",
)
COMPARED = ("no norm, dL/ds, Adam gates, SGD", "no norm, dL/ds, Adam gates, Adam")
