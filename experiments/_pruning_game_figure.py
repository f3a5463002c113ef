"""The figure of `pruning_game`: Table 2 and every reading, gates, and other ways to prune."""

import numpy as np

from experiments._pruning_game_baselines import METHODS, SMALL
from experiments._pruning_game_readings import COMPARED, LITERAL, PUBLISHED, TABLE
from experiments._pruning_game_verdict import distances, outcomes, readings
from experiments._rows import mean_and_error, select

COLOURS = dict(zip(PUBLISHED, ("tab:blue", "tab:red", "tab:green", "tab:purple"), strict=True))


def plot(rows: list[dict], figure) -> None:
    """The table for the literal readings and for others; distances, gates, baselines."""
    figure.set_size_inches(17, 10)
    panels = figure.subplots(2, 3)
    found = readings(rows)
    literal = [name for name in found if name in LITERAL]
    others = sorted(
        (name for name in found if name not in LITERAL),
        key=lambda name: distances(rows, name).mean(),
    )
    _table(panels[0, 0], rows, literal, "as the paper is written")
    _table(panels[0, 1], rows, others[:4], "the nearest other readings")
    _distances(panels[0, 2], rows, found)
    _gates(panels[1, 0], rows, literal[0], "gates at the end: ")
    _gates(panels[1, 1], rows, (others or literal)[0], "")
    _baselines(panels[1, 2], rows)


def _table(axes, rows, names, title):
    for marker, name in zip("os^D", names, strict=False):
        for configuration, colour in COLOURS.items():
            values = outcomes(rows, name, configuration)
            (y, y_error), (x, x_error) = map(mean_and_error, values)
            axes.errorbar(x, y, y_error, x_error, color=colour, marker=marker, ms=7, alpha=0.8)
        axes.plot([], [], "k", marker=marker, ls="", label=name)
    for configuration, (accuracy, gone) in TABLE.items():
        axes.plot(gone, accuracy, "*", color=COLOURS[configuration], ms=18, mec="k",
                  label=f"Table 2: {configuration}")  # fmt: skip
    axes.set(xlabel="% of neurons pruned", ylabel="% right after pruning", title=title)
    axes.set(xlim=(-5, 105), ylim=(0, 103))
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2,
                markerscale=0.5)  # fmt: skip


def _distances(axes, rows, names):
    found = [mean_and_error(distances(rows, name)) for name in names]
    means, errors = np.array(found).T
    colours = ["tab:gray" if name in LITERAL else "tab:olive" for name in names]
    axes.barh(range(len(names)), means, xerr=errors, color=colours)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set(xlabel="points, mean over its eight numbers", title="distance to Table 2")


def _gates(axes, rows, name, title):
    for configuration, colour in COLOURS.items():
        (row,) = select(rows, kind="game", reading=name, configuration=configuration)
        shares = np.array(row["histogram"]) / np.sum(row["histogram"])
        edges = np.linspace(0, 1, len(shares) + 1)
        axes.stairs(shares, edges, color=colour, lw=1.5, label=configuration)
    axes.set(
        xlabel="gate s",
        ylabel="share of neurons",
        yscale="log",
        ylim=(1e-3, 1.3),
        title=title + name,
    )
    axes.legend(fontsize=7)


def _baselines(axes, rows):
    """Retrained accuracies over the number of neurons kept, of one of the readings compared."""
    methods = dict(zip((*METHODS, SMALL), ("tab:red", "tab:blue", "tab:gray", "k"), strict=True))
    labelled = set()
    for place, name in enumerate(COMPARED):
        for offset, (method, colour) in enumerate(methods.items()):
            for row in select(rows, kind="baseline", reading=name, method=method):
                mean, error = mean_and_error(100 * np.array(row["retrained"]))
                x = np.sum(row["kept"], axis=1).mean() * 1.03 ** (offset - 1.5)
                shown = method if method == SMALL else f"{method}, retrained"
                label = None if method in labelled else shown
                labelled.add(method)
                axes.errorbar(max(x, 0.5), mean, error, color=colour, marker="os"[place],
                              label=label)  # fmt: skip
    axes.set(xscale="log", xlabel="neurons kept", ylabel="% right",
             title="as many neurons of each layer (circles SGD, squares Adam)")  # fmt: skip
    axes.title.set_fontsize(10)
    if labelled:
        axes.legend(fontsize=8, loc="lower right")
