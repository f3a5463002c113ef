"""The figure of `exact_inductive_bias`: tails and their estimates, then tasks and spaces."""

import numpy as np

from experiments._exact_inductive_bias_verdict import NAMES, against, of_space, sizes, tasks
from experiments._rows import mean_and_error, select
from ntkens.measures import scaled_chi_squared

COLOURS = dict(zip(NAMES, ("tab:blue", "tab:orange", "tab:green", "tab:red", "k"), strict=True))
ESTIMATES = {
    "exact": ("k", "-", "exact"),
    "bound": ("tab:green", "--", "Chernoff bound"),
    "fitted": ("tab:orange", ":", "fit to samples"),
    "matched": ("tab:purple", "-.", "two cumulants"),
}


def plot(rows: list[dict], figure) -> None:
    """Information, errors of its estimates and a histogram; sizes, dimensions and networks."""
    figure.set_size_inches(15, 8.5)
    panels = figure.subplots(2, 3)
    _tails(panels[0, 0], rows)
    _errors(panels[0, 1], rows)
    _histogram(panels[0, 2], rows)
    _sizes(panels[1, 0], rows)
    _dimensions(panels[1, 1], rows)
    _networks(panels[1, 2], rows)


def _tails(axes, rows):
    n = sizes(rows)[-1]
    row = of_space(rows, "rbf", n)[0]
    order = np.argsort(row["targets"])
    targets = np.array(row["targets"])[order]
    for name, (colour, style, label) in ESTIMATES.items():
        nats = np.array(row[name])[order]
        axes.plot(targets[nats > 0], nats[nats > 0], color=colour, ls=style, label=label)
    axes.set(xscale="log", yscale="log", ylim=(1e-2, None))
    axes.set(xlabel="target loss", ylabel="information, nats")
    axes.set_title(f"RBF kernel, n = {n}", fontsize=10)
    axes.legend(fontsize=8)


def _errors(axes, rows):
    """Of every target below the mean loss, over all spaces."""
    for name, (colour, _, label) in list(ESTIMATES.items())[1:]:
        points = [
            (exact, 100 * (nats / exact - 1))
            for row in select(rows, kind="space")
            for target, exact, nats in zip(row["targets"], row["exact"], row[name], strict=True)
            if target < row["mean"] and np.isfinite(exact)
        ]
        axes.plot(*np.transpose(points), ".", ms=3, color=colour, label=label)
    axes.axhline(0, color="k", lw=0.8)
    axes.set(xscale="log", ylim=(-40, 15), xlabel="exact information, nats")
    axes.set(ylabel="difference from it, %")
    axes.set_title("all spaces, sizes, splits and targets below the mean", fontsize=10)
    axes.legend(fontsize=8)


def _histogram(axes, rows):
    row = of_space(rows, "rbf", sizes(rows)[-1])[0]
    edges = np.array(row["edges"])
    heights = np.array(row["counts"]) / row["samples"] / np.diff(edges)
    axes.stairs(heights, edges, fill=True, color="0.8", label=f"{row['samples']} samples")
    grid = np.linspace(edges[0], edges[-1], 200)
    parameters = scaled_chi_squared.ScaledChiSquared(*row["parameters"])
    density = np.exp(scaled_chi_squared.log_density(parameters, grid))
    colour, style, label = ESTIMATES["fitted"]
    axes.plot(grid, density, color=colour, ls=style, lw=2, label=label)
    mean, deviation = row["mean"], row["deviation"]
    normal = np.exp(-(((grid - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))
    axes.plot(grid, normal, color="k", lw=1, label="normal, exact moments")
    axes.set(xlabel="test loss of a hypothesis", ylabel="density", ylim=(0, 1.35 * heights.max()))
    axes.set_title(f"RBF kernel, n = {row['n']}", fontsize=10)
    axes.legend(fontsize=8, loc="upper right")


def _sizes(axes, rows):
    first = select(rows, kind="space")[0]
    shared = len(first["factors"])
    place = shared + int(np.argmin(np.abs(np.array(first["targets"][shared:]) - 0.02)))
    for space in NAMES:
        found = {n: of_space(rows, space, n) for n in sizes(rows)}
        if not all(found.values()):
            continue
        nats = [mean_and_error([row["exact"][place] for row in each]) for each in found.values()]
        means, errors = np.transpose(nats)
        style = {"marker": "o", "ms": 3, "color": COLOURS[space], "label": NAMES[space]}
        axes.errorbar(list(found), means, errors, **style)
    axes.set(xlabel="training images", ylabel="information, nats")
    axes.set_xticks(sizes(rows))
    _nats_from_zero(axes)
    axes.set_title(f"target loss {first['targets'][place]:g}", fontsize=10)
    axes.legend(fontsize=8)


def _dimensions(axes, rows):
    for name in dict.fromkeys(row["task"] for row in select(rows, kind="task")):
        found = tasks(rows, name)
        means, errors = np.transpose([mean_and_error(nats) for nats in found.values()])
        axes.errorbar(list(found), means, errors, marker="o", ms=4, label=name)
    axes.set(xscale="log", xlabel="dimensions of the inputs", ylabel="information, nats")
    _nats_from_zero(axes)
    axes.set_title("RBF kernel, at a quarter of the targets' variance", fontsize=10)
    axes.legend(fontsize=8)


def _networks(axes, rows):
    found = sorted({row["n"] for row in select(rows, kind="networks")})
    spaces = list(against(rows, found[0]))
    for shift, space in enumerate(spaces):
        nats = [mean_and_error(against(rows, n)[space]) for n in found]
        means, errors = np.transpose(nats)
        places = np.arange(len(found)) + 0.16 * (shift - (len(spaces) - 1) / 2)
        axes.bar(places, means, 0.15, yerr=errors, color=COLOURS[space], label=NAMES[space])
    _nats_from_zero(axes)
    axes.set_xticks(range(len(found)), [f"n = {n}" for n in found])
    axes.set_ylabel("information, nats")
    axes.set_title("required for the mean loss of trained networks", fontsize=10)
    axes.legend(fontsize=8, ncols=2)


def _nats_from_zero(axes):
    """Linear up to 1, logarithmic from there, with room for a legend."""
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(-0.1, 10 * axes.get_ylim()[1])
