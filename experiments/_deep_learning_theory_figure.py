"""The figure of `deep_learning_theory`: phases, vertices, residuals, collapse, tangent kernels."""

import numpy as np

from experiments._deep_learning_theory_rows import residuals
from experiments._rows import select

COLOURS = {
    "ReLU": "tab:blue", "linear": "tab:gray", "leaky ReLU": "tab:cyan", "tanh": "tab:red",
    "sin": "tab:orange", "erf": "tab:pink", "GELU": "tab:green", "SWISH": "tab:purple",
    "sigmoid": "tab:brown", "softplus": "tab:olive",
}  # fmt: skip


def plot(rows: list[dict], figure) -> None:
    """Six panels; points are sampled with standard errors, lines are theory."""
    figure.set_size_inches(15, 8.5)
    panels = figure.subplots(2, 3)
    _phases(panels[0, 0], rows)
    _vertices(panels[0, 1], rows)
    _residuals(panels[0, 2], rows)
    _collapse(panels[1, 0], rows)
    _tangents(panels[1, 1], rows)
    _movement(panels[1, 2], rows)


def _phases(axes, rows):
    """Below and to the left of a line nearby inputs merge; above and to the right they part."""
    for row in select(rows, kind="critical"):
        colour = COLOURS[row["activation"]]
        weights, biases = np.array(row["line_weight"]), np.array(row["line_bias"])
        label = row["activation"]
        if len(weights) > 1 and np.ptp(weights) > 1e-6:
            axes.plot(weights, biases, color=colour, lw=1.5, label=label)
            label = None
        if row["universality"] != "none":
            axes.plot(row["weight_variance"], row["bias_variance"], "o", color=colour, label=label)
    axes.set(xlabel="weight variance C_W", ylabel="bias variance C_b", xlim=(0, 4), ylim=(-0.1, 2))
    axes.set_title("where nearby inputs keep their distance (dot: critical)", fontsize=10)
    axes.legend(fontsize=7, loc="upper left")


def _vertices(axes, rows):
    """V / (n K^2) of the narrowest and the widest networks of each activation."""
    found = select(rows, kind="layers")
    for activation in dict.fromkeys(row["activation"] for row in found):
        of = select(found, activation=activation)
        widths = sorted({row["width"] for row in of})
        for width, marker in zip(dict.fromkeys((widths[0], widths[-1])), "os", strict=False):
            at = select(of, width=width)
            layers = [row["layer"] for row in at]
            scale = np.array([row["width"] * row["kernel theory"] ** 2 for row in at])
            values, errors = (
                np.array([row[name] for row in at]) / scale for name in ("vertex", "vertex error")
            )
            theory = [row.get("vertex exact", row.get("vertex further")) for row in at]
            axes.errorbar(
                layers, values, errors, fmt=marker, ms=4, color=COLOURS[activation],
                label=f"{activation}, n = {width}",
            )  # fmt: skip
            axes.plot(layers, np.array(theory) / scale, color=COLOURS[activation], lw=1)
    axes.set(xlabel="layer l", ylabel="V / (n K²)", yscale="log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title("four-point vertex (first and last widths)", fontsize=10)
    axes.legend(fontsize=6, ncols=2)


def _residuals(axes, rows):
    found = [row for row in select(rows, kind="layers") if "vertex leading" in row]
    for activation in dict.fromkeys(row["activation"] for row in found):
        for name, style in (("vertex", "o-"), ("tangent_variance", "s--")):
            widths, values, errors = (np.array(each) for each in residuals(rows, activation, name))
            label = f"{activation}, {'V' if name == 'vertex' else 'Var(Θ)'}"
            colour = COLOURS[activation]
            axes.errorbar(
                widths, np.abs(values), errors, fmt=style, ms=4, color=colour, lw=1, label=label
            )
    if found:
        widths = np.array(sorted({row["width"] for row in found}), float)
        axes.plot(widths, 1 / widths, "k:", label="1/n")
        axes.set(xscale="log", yscale="log")
        axes.legend(fontsize=7)
    axes.set(xlabel="width n", ylabel="|sampled / leading order − 1|")
    axes.set_title("what the leading order leaves, last layer", fontsize=10)


def _collapse(axes, rows):
    found = select(rows, kind="collapsed")
    for width in sorted({row["width"] for row in found}):
        of = sorted(select(found, width=width), key=lambda row: row["ratio"])
        ratios, values, errors = (
            [row[name] for row in of] for name in ("ratio", "relative", "relative error")
        )
        axes.errorbar(ratios, values, errors, fmt="o", ms=5, label=f"n = {width}")
    grid = np.linspace(0, 1.05 * max((row["ratio"] for row in found), default=0.1), 50)
    axes.plot(grid, np.expm1(5 * grid), "k-", lw=1, label="exp(5 L/n) − 1")
    axes.plot(grid, 5 * grid, "k:", lw=1, label="5 L/n")
    axes.axhline(1, color="tab:gray", lw=0.8)
    axes.set(xlabel="depth over width, (L − 1)/n", ylabel="Var(G) / K²")
    axes.set_title("ReLU: depth over width alone (line at 1: cutoff)", fontsize=10)
    axes.legend(fontsize=7)


def _tangents(axes, rows):
    found = select(rows, kind="pairs")
    for place, depth in enumerate(sorted({row["depth"] for row in found})):
        of = sorted(select(found, depth=depth), key=lambda row: row["width"])
        widths, colour = [row["width"] for row in of], f"C{place}"
        for name, marker, fill in (("diagonal", "o", colour), ("pairs", "s", "none")):
            values, errors = ([row[each] for row in of] for each in (name, f"{name} error"))
            what = "one digit" if name == "diagonal" else "two digits"
            axes.errorbar(
                widths, values, errors, fmt=marker, ms=5, color=colour, mfc=fill,
                label=f"{depth} layers, {what}",
            )  # fmt: skip
        axes.plot(widths, [row["relative exact"] for row in of], color=colour, lw=1)
        axes.set(xscale="log", xticks=widths, xticklabels=widths)
    axes.minorticks_off()
    axes.set(xlabel="width n", ylabel="Var(Θ) / Θ²", yscale="log")
    axes.set_title("tangent kernels of digits (lines: exact, of one digit)", fontsize=10)
    axes.legend(fontsize=7)


def _movement(axes, rows):
    found = select(rows, kind="movement")
    place = 0
    for dataset in dict.fromkeys(row["dataset"] for row in found):
        of_set = select(found, dataset=dataset)
        for depth in sorted({row["depth"] for row in of_set}):
            of = sorted(select(of_set, depth=depth), key=lambda row: row["width"])
            ratios = [depth / row["width"] for row in of]
            values, errors = ([row[name] for row in of] for name in ("moved", "moved error"))
            label = f"{dataset}, {depth} layers"
            axes.errorbar(
                ratios, values, errors, fmt="o-", ms=4, color=f"C{place % 10}", label=label
            )
            place += 1
    axes.set(xlabel="depth over width, L/n", xscale="log", yscale="log")
    axes.set_ylabel("|Θ(trained) − Θ(0)| / |Θ(0)|")
    axes.set_title("movement of the tangent kernel in training", fontsize=10)
    axes.legend(fontsize=7)
