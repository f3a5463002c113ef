"""The figure of `generalisation_difficulty`: tasks, trends, and what the estimates leave open."""

import numpy as np

from experiments._generalisation_difficulty_verdict import shifts, whole
from experiments._rows import select

COLOURS = {
    "images": "tab:blue",
    "few-shot": "tab:green",
    "cartpole": "tab:orange",
    "control": "tab:red",
    "control, not theirs": "tab:gray",
}
SUBSETS = {"dimension": "m", "separation": "delta", "radius": "R"}


def plot(rows: list[dict], figure) -> None:
    """Decades of every task, how they grow, and their sensitivity on data sets."""
    figure.set_size_inches(13, 8)
    panels = figure.subplots(2, 3)
    _tasks(panels[0, 0], rows)
    _steps(panels[0, 1], rows)
    _dimension(panels[0, 2], rows)
    _relative(panels[1, 0], rows)
    _sensitivity(panels[1, 1], rows)
    _subsets(panels[1, 2], rows)


def _tasks(axes, rows):
    found = sorted(select(rows, kind="task"), key=lambda row: row["log10_bits"])
    for place, row in enumerate(found):
        axes.barh(place, row["log10_bits"], color=COLOURS[row["family"]])
        axes.text(row["log10_bits"] + 3, place, f"{row['log10_bits']:.1f}", fontsize=6, va="center")
    axes.set_yticks(range(len(found)), [row["task"] for row in found], fontsize=6)
    handles = [axes.barh(0, 0, color=colour) for colour in COLOURS.values()]
    axes.legend(handles, COLOURS, fontsize=7, loc="lower right")
    axes.set(xlabel="log10 bits", xlim=(0, 1.12 * found[-1]["log10_bits"]))
    axes.set_title("what tasks ask for")


def _steps(axes, rows):
    for family, colour in COLOURS.items():
        found = select(rows, kind="task", family=family)
        slopes = [row["one_higher"] - row["log10_bits"] for row in found]
        axes.plot([row["dimension"] for row in found], slopes, "o", color=colour, label=family)
    axes.axhline(0, color="black", lw=0.5)
    axes.set(xscale="log", xlabel="m", ylabel="decades")
    axes.legend(fontsize=7, loc="center right")
    axes.set_title("one dimension more")


def _dimension(axes, rows):
    (curve,) = select(rows, kind="curve", quantity="dimension")
    values, decades = np.array(curve["values"]), np.array(curve["decades"])
    axes.plot(values, decades, "o-", ms=3, label="ImageNet at another m")
    slope = (decades[1] - decades[0]) / (values[1] - values[0])
    axes.plot(values, decades[0] + slope * (values - values[0]), "k--", lw=0.8, label="exponential")
    axes.set(xlabel="m", ylabel="log10 bits")
    axes.legend(fontsize=7)
    axes.set_title("dimension: less than exponential")


def _relative(axes, rows):
    """A small change of the separation moves much, any of the examples nothing."""
    for quantity, own, colour in (
        ("separation", 65, "tab:blue"),
        ("examples", 1_280_901, "tab:orange"),
    ):
        (curve,) = select(rows, kind="curve", quantity=quantity)
        ratio = np.array(curve["values"]) / own
        axes.plot(ratio, curve["decades"], "o-", ms=3, color=colour, label=quantity)
    axes.set(xscale="log", xlabel="times that of ImageNet", ylabel="log10 bits")
    axes.legend(fontsize=7)
    axes.set_title("separation and number of examples")


def _sensitivity(axes, rows):
    found = whole(rows)
    for shift, (name, symbol) in enumerate(SUBSETS.items()):
        places = np.arange(len(found)) + 0.2 * (shift - 1.5)
        axes.bar(places, [row[f"by_{name}"] for row in found], 0.2, label=f"by {symbol}")
    everything = [row["decades_error"] for row in found]
    axes.bar(np.arange(len(found)) + 0.3, everything, 0.2, color="black", label="by all")
    axes.set_xticks(range(len(found)), [row["dataset"] for row in found], fontsize=7)
    axes.set_ylabel("decades, standard error")
    axes.legend(fontsize=7)
    axes.set_title("bootstrap over points")


def _subsets(axes, rows):
    """Every subset, and all examples with the bootstrap's error."""
    for place, row in enumerate(whole(rows)):
        colour = f"C{place}"
        of = select(rows, kind="data", dataset=row["dataset"], failed=None)
        axes.plot(
            [other["examples"] for other in of if other["share"] < 1],
            [other["log10_bits"] for other in of if other["share"] < 1],
            ".",
            color=colour,
            alpha=0.5,
        )
        _, shift, error = shifts(rows).get(row["dataset"], (0, np.nan, np.nan))
        label = f"{row['dataset']}: {shift:+.2f} ± {error:.2f}"
        axes.errorbar(
            row["examples"],
            row["log10_bits"],
            row["decades_error"],
            fmt="o",
            color=colour,
            label=label,
        )
    axes.set(xscale="log", xlabel="examples", ylabel="log10 bits")
    axes.legend(fontsize=7, title="all, less the largest subsets", title_fontsize=7)
    axes.set_title("subsets of the examples")
