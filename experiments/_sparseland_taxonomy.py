"""Where each method of `sparseland` belongs: four questions that the word sparse leaves open.

What changes the mask, when the weights are chosen, whether training begins dense, and in which
shape zeros may lie. Two methods of one density that differ in an answer are not alternatives at
equal conditions until their costs are beside them.
"""

from typing import Literal, NamedTuple


class Place(NamedTuple):
    """A method's cell.

    Attributes:
        mask: whether the places of the zeros change while the final network trains.
        chosen: when they are chosen, seen from the training that the weights go through.
        training: whether the method needs a dense network trained first. A score at initialisation
            sees a dense network once, and does not train it.
        zeros: where they may lie.
    """

    mask: Literal["none", "static", "dynamic"]
    chosen: Literal["never", "before", "during", "after"]
    training: Literal["dense", "dense to sparse", "sparse to sparse"]
    zeros: Literal["none", "unstructured", "N:M", "neurons"]


_BEFORE = Place("static", "before", "sparse to sparse", "unstructured")
_AFTER = Place("static", "after", "dense to sparse", "unstructured")
_DURING = Place("dynamic", "during", "sparse to sparse", "unstructured")
_DENSE = Place("none", "never", "dense", "none")

PLACES = {
    "dense": _DENSE,
    "small dense": _DENSE,
    "random uniform": _BEFORE,
    "random ERK": _BEFORE,
    "SNIP": _BEFORE,
    "GraSP": _BEFORE,
    "SynFlow": _BEFORE,
    "one-shot": _AFTER,
    "IMP": _AFTER,
    "LTR": _AFTER,
    "SET": _DURING,
    "RigL": _DURING,
    "N:M": _AFTER._replace(zeros="N:M"),
    "neurons": _AFTER._replace(zeros="neurons"),
}
"""By the names that rows, verdict and figure use."""

SALIENCIES = ("SNIP", "GraSP", "SynFlow")
DYNAMIC = ("SET", "RigL")
CHECKED = (*SALIENCIES, "one-shot", "IMP", "LTR")
CHECKS = ("shuffled", "inverted", "drawn anew")
