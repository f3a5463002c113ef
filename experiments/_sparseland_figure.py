"""The figure of `sparseland`: accuracy by density and by cost, and the table at one density."""

import numpy as np

from experiments._rows import mean_and_error, select
from experiments._sparseland_rows import (
    SPARSE,
    accuracies,
    changes,
    densities,
    percent,
    points,
)
from experiments._sparseland_taxonomy import CHECKS, PLACES

STYLES = {  # colour by when the weights are chosen
    "dense": ("black", "*"),
    "small dense": ("tab:gray", "s"),
    "random uniform": ("lightsteelblue", "v"),
    "random ERK": ("tab:cyan", "^"),
    "SNIP": ("tab:blue", "o"),
    "GraSP": ("royalblue", "D"),
    "SynFlow": ("navy", "P"),
    "one-shot": ("gold", "o"),
    "IMP": ("tab:orange", "s"),
    "LTR": ("tab:red", "D"),
    "SET": ("limegreen", "^"),
    "RigL": ("darkgreen", "o"),
    "N:M": ("tab:purple", "X"),
    "neurons": ("orchid", "h"),
}


def plot(rows: list[dict], figure) -> None:
    """Bands and bars are one standard error over seeds."""
    figure.set_size_inches(13, 10)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    left, right = top.subplots(1, 2)
    density = _shown(rows)
    _by_density(left, rows)
    _by_cost(right, rows, density)
    handles, labels = left.get_legend_handles_labels()
    top.legend(handles, labels, loc="outside lower center", ncols=7, fontsize=9, frameon=False)
    axes = bottom.subplots()
    _table(axes, rows, density)


def _shown(rows):
    """The largest density of those called sparse; the smallest of all, if there is none."""
    found = {row["density"] for row in select(rows, kind="trained")}
    return max((at for at in found if at <= SPARSE), default=min(found))


def _by_density(axes, rows):
    for method, (colour, marker) in STYLES.items():
        where = densities(rows, method)
        if not where:
            continue
        means, errors = 100 * np.transpose(
            [mean_and_error(accuracies(rows, method, at)) for at in where]
        )
        kept = [select(rows, kind="trained", method=method, density=at)[0]["kept"] for at in where]
        axes.plot(kept, means, color=colour, marker=marker, ms=6, lw=1.3, label=method)
        axes.fill_between(kept, means - errors, means + errors, color=colour, alpha=0.2, lw=0)
    axes.set(xlabel="weights kept", title="Accuracy by density", xscale="log")
    ticks = sorted({row["density"] for row in select(rows, kind="trained")})
    axes.set_xticks(ticks, [percent(tick) for tick in ticks], rotation=45)
    axes.minorticks_off()
    _stretched(axes)


def _by_cost(axes, rows, density):
    found = select(rows, kind="trained", density=density) + select(rows, method="dense")
    for row in found:
        colour, marker = STYLES[row["method"]]
        mean, error = mean_and_error(row["accuracies"])
        axes.errorbar(
            row["training_operations"],
            100 * mean,
            100 * error,
            color=colour,
            marker=marker,
            ms=8,
            capsize=2,
        )
    axes.set(
        xlabel="operations of training, of those of dense training",
        title=f"What {percent(density)} of the weights cost to train",
        xscale="log",
    )
    _stretched(axes)


def _stretched(axes):
    """As the logarithm of the error, and one point more: 96% and 97% stay apart."""
    axes.set_yscale(
        "function",
        functions=(lambda y: -np.log10(np.maximum(101 - y, 1e-3)), lambda z: 101 - 10.0**-z),
    )
    axes.set(ylabel="test accuracy, %", ylim=(5, 99))
    axes.set_yticks([10, 50, 70, 80, 90, 95, 97, 98])
    axes.grid(alpha=0.3)


def _table(axes, rows, density):
    """The zoo at one density: labels, accuracy, operations, R_s, empty layers, sanity checks."""
    columns = [
        "method", "mask", "chosen", "training", "zeros", "accuracy, %", "training\noperations",
        "inference\noperations", "R_s", "empty\nlayers", *(f"{name},\npoints" for name in CHECKS),
    ]  # fmt: skip
    shown = [method for method in PLACES if densities(rows, method)]
    cells = []
    for method in shown:
        place, found = PLACES[method], select(rows, kind="trained", method=method)
        row = min(found, key=lambda row: abs(np.log(row["density"] / density)))
        name = method if method == "dense" else f"{method} {100 * row['kept']:.2g}%"
        counts = (row["training_operations"], row["inference_operations"], row["explored"])
        checks = [changes(rows, method, check).get(row["density"]) for check in CHECKS]
        cells.append(
            [
                *(name, *place, points(row["accuracies"], "")),
                *(f"{count:.3g}" for count in counts),
                f"{row['empty_layers']:.2g}",
                *("" if values is None else points(values) for values in checks),
            ]
        )
    axes.axis("off")
    axes.set_title(f"The zoo at {percent(density)}, or what is nearest; sanity checks as changes")
    widths = [0.115, 0.055, 0.07, 0.105, 0.085, 0.085, 0.07, 0.07, 0.05, 0.05, 0.085, 0.085, 0.085]
    table = axes.table(
        cells, colLabels=columns, colWidths=widths, loc="upper center", cellLoc="center"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.scale(1, 1.25)
    for (line, column), cell in table.get_celld().items():
        cell.set_linewidth(0.3)
        cell.set_edgecolor("lightgray")
        if line == 0:
            cell.set_height(1.7 * cell.get_height())
        elif column == 0:
            cell.get_text().set_color(STYLES[shown[line - 1]][0])
