"""The figure of `unsupervised_pretraining`: a panel for each of its parts."""

import numpy as np

from experiments._rows import mean_and_error, select
from experiments._unsupervised_pretraining_rows import (
    accuracies,
    mixtures,
    regressions,
    representations,
)

COLOURS = ("tab:orange", "tab:green", "tab:purple", "tab:red", "tab:brown", "tab:pink", "tab:olive")


def plot(rows: list[dict], figure) -> None:
    """Excess risks, the encoder's share of them, where it fails, mixtures and images."""
    figure.set_size_inches(13, 8)
    panels = figure.subplots(2, 3).ravel()
    parts = (_regression, _representation, _weak, _mixture(max), _mixture(min), _images)
    for axes, part in zip(panels, parts, strict=True):
        part(axes, rows)
        axes.legend(fontsize=7)


def _points(axes, x, values, colour, label, style="o-"):
    means, errors = np.transpose([mean_and_error(each) for each in values])
    axes.errorbar(x, means, errors, fmt=style, ms=4, lw=1, color=colour, label=label)


def _ticks(axes, values):
    """Only where something was measured."""
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)


def _regression(axes, rows):
    """Points are measured, lines are the closed forms."""
    counts = [row["samples"] for row in representations(rows)]
    shown = [counts[0], *(count for count in counts[1:-1] if count == 1000), counts[-1]]
    methods = [("supervised", 0), *(("pretrained", count) for count in shown), ("oracle", 0)]
    for colour, (method, samples) in zip(("tab:blue", *COLOURS), methods, strict=False):
        found = regressions(rows, method, samples)
        labels = [row["labels"] for row in found]
        name = f"pretrained, m = {samples}" if samples else method
        _points(axes, labels, [row["excess"] for row in found], colour, name, "o")
        axes.plot(labels, [np.mean(row["expected"]) for row in found], color=colour, lw=1)
    axes.set(xscale="log", yscale="log", xlabel="labels n", ylabel="excess risk")
    _ticks(axes, [row["labels"] for row in regressions(rows, "oracle")])
    axes.set_title("factor model: points measured, lines exact", fontsize=10)


def _representation(axes, rows):
    found = representations(rows)
    samples = np.array([row["samples"] for row in found])
    _points(axes, samples, [row["excess"] for row in found], "tab:orange", "factor model", "o")
    limits = [row["limit"] for row in found]
    axes.plot(samples, limits, color="tab:orange", lw=1, label="its limit, 1 / m")
    bound = limits[0] * (samples / samples[0]) ** -0.5
    axes.plot(samples, bound, "k:", lw=1, label="slope of the bound, m^(-1/2)")
    pairs = sorted(select(rows, kind="contrastive"), key=lambda row: row["samples"])
    at = [row["samples"] for row in pairs]
    _points(axes, at, [row["representation"] for row in pairs], "tab:cyan", "contrastive pairs")
    axes.set(xscale="log", yscale="log", xlabel="unlabelled inputs, or pairs, m")
    axes.set(ylabel="excess risk at n = infinity")
    axes.set_title("what the encoder loses", fontsize=10)


def _weak(axes, rows):
    found = select(rows, kind="informative", which="one")
    found = sorted(found, key=lambda row: row["size"])
    sizes = [row["size"] for row in found]
    for name, colour in (("supervised", "tab:blue"), ("pretrained", "tab:green")):
        _points(axes, sizes, [row[name] for row in found], colour, name)
    encoder = [row["representation"] for row in found]
    _points(axes, sizes, encoder, "tab:orange", "encoder alone", "o")
    axes.plot(sizes, [row["tilted"] for row in found], color="tab:orange", lw=1, label="large d, m")
    axes.plot(sizes, [row["explained"] for row in found], "k:", lw=1, label="predicting 0")
    axes.set(xscale="log", yscale="log", xlabel="norm of the needed factor's column of B")
    _ticks(axes, sizes)
    axes.set_ylabel("excess risk")
    axes.set_title(
        f"a weak factor, m = {found[0]['samples']}, n = {found[0]['labels']}", fontsize=10
    )


def _mixture(choose):
    def panel(axes, rows):
        found = select(rows, kind="mixture")
        separation = choose(row["separation"] for row in found)
        counts = sorted({row["samples"] for row in select(found, method="pretrained")})
        methods = [
            ("ridge on x", "linear", 0),
            ("labelled inputs alone", "alone", 0),
            *((f"pretrained, m = {count}", "pretrained", count) for count in counts),
            ("true centres", "oracle", 0),
        ]
        for place, (name, method, samples) in enumerate(methods):
            here = mixtures(rows, separation, method, samples)
            # side by side, for several are the same
            labels = [row["labels"] * 1.02 ** (place - len(methods) / 2) for row in here]
            colour = ("tab:blue", "tab:cyan", *COLOURS)[place]
            _points(axes, labels, [row["least_squares"] for row in here], colour, name)
        axes.set(xscale="log", yscale="log", xlabel="labels n", ylabel="excess squared risk")
        _ticks(axes, [row["labels"] for row in mixtures(rows, separation, "oracle")])
        axes.set_title(f"mixture, separation {separation:g}", fontsize=10)

    return panel


def _images(axes, rows):
    found = select(rows, kind="images")
    names = {"pixels": "tab:blue", "factors": "tab:orange", "mixture": "tab:green"}
    sources = dict.fromkeys(row["source"] for row in found)
    for source, style in zip(sources, ("o-", "s--"), strict=False):
        for method, colour in (names | {"contrastive": "tab:purple"}).items():
            values = accuracies(rows, source, method)
            label = f"{source}, {method}"
            errors = [1 - value for value in values.values()]
            _points(axes, list(values), errors, colour, label, style)
    axes.set(xscale="log", yscale="log", xlabel="labels n", ylabel="error on test images")
    _ticks(axes, sorted({row["labels"] for row in found}))
    axes.set_title("images", fontsize=10)
