"""The mean of one number is that number. arXiv:0000.00000, Figure 1.

    python -m toy_experiment quick    # 1 s, one core
    python -m toy_experiment laptop   # 2 s, one core
    python -m toy_experiment paper    # 3 s, one core

Claim: a script in miniature, on which the runner is tested.  Departures: none.
It runs with tests/ on PYTHONPATH: there is another package called `tests` in the environment.
The environment variable TOY_HANG="c" makes it wait for ever after the first row of cell c.
"""

import dataclasses
import math
import os
import sys
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments import run


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured."""

    cells: tuple[str, ...] = ("a", "b", "c", "d")
    """Letters, each a cell of three rows."""
    seed: int = 0
    """Added to every number."""
    outcome: str = "reproduced"
    """Of the claim."""
    threshold: float = math.nan
    """NaN, which differs from itself: the same config is the same run nevertheless."""

    def __post_init__(self) -> None:
        """Refuses what could not be measured."""
        if self.seed < 0:
            raise ValueError(f"seed: got {self.seed}; want at least 0")


QUICK, LAPTOP, PAPER = Config(), Config(seed=1), Config(seed=2)
TINY = Config(("a",))


def plan(config: Config) -> list[run.Cell]:
    """A cell for each letter."""
    return [run.Cell(name, 0.1 * ord(name), {"number": ord(name)}) for name in config.cells]


def measure(config: Config, cell: run.Cell) -> Iterator[dict]:
    """Three rows, of numpy's types and with all that JSON lacks."""
    print(f"measuring {cell.key}", flush=True)
    for index, special in enumerate((np.float64(0.1), float("nan"), -np.inf)):
        yield {
            "letter": cell.key,
            "value": np.float64(cell.parameters["number"] + index + config.seed),
            "special": special,
            "list": np.arange(2),
            "outcome": config.outcome,
        }
        if os.environ.get("TOY_HANG") == cell.key:
            # With a computation that XLA goes on with when Python is stopped beside it: a product
            # of matrices, since without one the CPU would run it before it returns.
            computing = jax.lax.fori_loop(
                0, 10**12, lambda _, x: jnp.sin(x @ x), jnp.ones((100, 100))
            )
            print("hanging", flush=True)
            time.sleep(1000)
            computing.block_until_ready()


def verdict(rows: list[dict]) -> run.Verdict:
    """One claim that names the rows it saw."""
    seen = " ".join(f"{row['letter']}{row['value']:g}" for row in rows)
    return run.Verdict(
        (
            run.Claim(
                "a | bar [and] brackets", rows[0]["outcome"], "1", f"{len(rows)} ± 0", f"saw {seen}"
            ),
        )
    )


def plot(rows: list[dict], figure) -> None:
    """A line."""
    left, _ = figure.subplots(1, 2)
    left.plot([row["value"] for row in rows])


if __name__ == "__main__":
    run.main(sys.modules[__name__])
