"""Networks of finite width: factories that return a `Model`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array


class Model(NamedTuple):
    """A network as two pure functions.

    Attributes:
        init: `(key, inputs) -> params`, a pytree; `inputs` give shape and dtype only.
        apply: `(params, inputs) -> outputs`, the batch axis first; inputs as the model takes them,
            outputs in the dtype of the params.
    """

    init: Callable[[Array, Array], Any]
    apply: Callable[[Any, Any], Array]
