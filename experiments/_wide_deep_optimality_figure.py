"""The figure of `wide_deep_optimality`: a panel for each of its parts."""

import math

import numpy as np

from experiments._rows import mean_and_error, select
from experiments._wide_deep_optimality_verdict import TAXONOMY, gaps

COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:purple")


def plot(rows: list[dict], figure) -> None:
    """Limits, exponents, the gap to Bayes, spheres, images and networks of finite width."""
    figure.set_size_inches(13, 8)
    panels = figure.subplots(2, 3).ravel()
    parts = (_taxonomy, _exponents, _gaps, _spheres, _images, _trained)
    for axes, part in zip(panels, parts, strict=True):
        part(axes, rows)
        axes.legend(fontsize=7)


def _taxonomy(axes, rows):
    for colour, (activation, (limit, _)) in zip(COLOURS, TAXONOMY.items(), strict=False):
        found = select(rows, kind="taxonomy", activation=activation)
        depths, values, errors = np.array(
            [(row["depth"], row[limit], row[f"{limit} error"]) for row in found]
        ).T
        label = f"{activation}: {limit}"
        axes.errorbar(depths, values, errors, fmt="o-", ms=3, color=colour, label=label)
    axes.set(xscale="log", xlabel="depth", ylabel="agreement with the limit")
    axes.set_title("depth makes three classifiers")


def _exponents(axes, rows):
    found = [row for row in select(rows, kind="exponents") if row["activation"] == "optimal"]
    dimensions = [row["dimension"] for row in found]
    for name, marker, label in (
        ("nngp", "o", "NNGP"),
        ("increments", "x", "NTK, increments"),
        ("ntk", "^", "NTK at depth 400"),
    ):
        axes.plot(dimensions, [row[name] for row in found], marker, label=label)
    line = np.geomspace(dimensions[0], dimensions[-1])
    axes.plot(line, line, "k-", lw=0.8, label="theory")
    axes.plot(line, line + 2, "k:", lw=0.8, label="theory + 2")
    axes.set(xscale="log", yscale="log", xlabel="dimension d", ylabel="measured exponent")
    axes.set_xticks(dimensions, map(str, dimensions), minor=False)
    axes.set_yticks([1, 2, 3, 4, 6, 8, 10], map(str, [1, 2, 3, 4, 6, 8, 10]))
    axes.minorticks_off()
    axes.set_title("singularity of the optimal activation's kernels")


def _gaps(axes, rows):
    dimensions = sorted({row["dimension"] for row in select(rows, kind="sphere")})
    for colour, dimension in zip(COLOURS, dimensions, strict=False):
        for classifier, style in (("Hilbert", "o-"), ("matched", "x--"), ("1-NN", ".:")):
            sizes, values, errors = gaps(rows, classifier, dimension)
            label = f"S^{dimension}" if classifier == "Hilbert" else None
            axes.errorbar(sizes, values, errors, fmt=style, ms=4, lw=1, color=colour, label=label)
    for style, label in (("k-", "Hilbert"), ("kx--", "matched"), ("k.:", "1-NN")):
        axes.plot([], [], style, ms=4, lw=1, label=label)
    axes.set(xscale="log", xlabel="training examples n", ylabel="Bayes accuracy - accuracy")
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])  # room for the legend
    axes.set_title("approach to Bayes")


def _spheres(axes, rows):
    """At the largest n that all classifiers have, above the Hilbert estimate."""
    found = select(rows, kind="sphere")
    solved = select(found, classifier="mismatched") or select(found, classifier="matched")
    size = max(row["size"] for row in solved)
    names = ("Bayes", "matched", "sine", "mismatched", "erf", "ReLU", "1-NN")
    dimensions = sorted({row["dimension"] for row in found})
    for shift, (colour, dimension) in enumerate(zip(COLOURS, dimensions, strict=False)):
        here = select(found, dimension=dimension, size=size)
        values = {row["classifier"]: np.array(row["accuracies"], float) for row in here}
        points = [
            (place, *mean_and_error(values[name] - values["Hilbert"]))
            for place, name in enumerate(names)
            if name in values
        ]
        places, means, errors = np.array([p for p in points if math.isfinite(p[1])]).T
        places = places + 0.12 * (shift - 1.5)
        label = f"S^{dimension}"
        axes.errorbar(places, means, errors, fmt="o", ms=4, color=colour, label=label)
    axes.axhline(0, color="k", lw=0.8)
    axes.set_xticks(range(len(names)), names, fontsize=7)
    axes.set_ylabel("accuracy - that of the Hilbert estimate")
    axes.set_title(f"classifiers at n = {size}")


def _images(axes, rows):
    found = select(rows, kind="images")
    for colour, source in zip(COLOURS, dict.fromkeys(row["source"] for row in found), strict=False):
        here = [row for row in select(found, source=source) if row["classifier"] != "majority"]
        values = {row["classifier"]: np.array(row["accuracies"], float) for row in here}
        means, errors = np.transpose([mean_and_error(1 - value) for value in values.values()])
        axes.errorbar(range(len(here)), means, errors, fmt="o", color=colour, label=source)
        axes.set_xticks(range(len(here)), values, fontsize=7)
    axes.set(ylabel="error, mean over pairs of classes")
    axes.set_ylim(bottom=0)
    axes.set_title("pairs of classes of images")


def _trained(axes, rows):
    """Deviations on the scale of width that the fourth moment sets."""
    found = select(rows, kind="trained")
    depths = sorted({row["depth"] for row in found})
    names = dict.fromkeys(row["activation"] for row in found)
    for colour, activation in zip(COLOURS, names, strict=False):
        for depth in depths:
            here = select(found, activation=activation, depth=depth)
            fourth = here[0]["fourth_moment"]
            axes.plot(
                [row["width"] / (fourth * depth) for row in here],
                [np.median(row["deviations"]) for row in here],
                "o-",
                ms=3,
                color=colour,
                alpha=1 - 0.7 * depths.index(depth) / len(depths),
                label=f"{activation}, E phi^4 = {fourth:.3g}" if depth == depths[0] else None,
            )
    axes.axvline(1, color="k", lw=0.8, ls=":")
    axes.set(xscale="log", yscale="log", xlabel="width / (depth E phi^4)")
    axes.set_ylabel("deviation from the infinite network")
    axes.set_title(f"trained networks, depth {depths[0]} to {depths[-1]} (pale)")
