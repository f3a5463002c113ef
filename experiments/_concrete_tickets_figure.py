"""The figure of `concrete_tickets`: accuracy by density, paired differences, checks, control."""

import numpy as np

from experiments._concrete_tickets_verdict import BALANCED, accuracies, densities, differences
from experiments._rows import mean_and_error

CURVES = {
    "random": ("tab:gray", ":"),
    "magnitude": ("tab:brown", ":"),
    "SNIP": ("tab:green", "-"),
    "GraSP": ("tab:olive", "-"),
    "SynFlow": ("tab:blue", "-"),
    "CTS loss": ("tab:orange", "-"),
    "CTS KL": ("tab:red", "-"),
    "rewound CTS loss": ("tab:orange", "--"),
    "rewound CTS KL": ("tab:red", "--"),
    "LTR": ("black", "--"),
}
BASES = ("SNIP", "SynFlow", "LTR")
MARKS = ("", "shuffled", "inverted", "drawn anew")


def plot(rows: list[dict], figure) -> None:
    """Four panels; each shows what was measured of it."""
    figure.set_size_inches(13, 9)
    ((curves, gains), (checks, control)) = figure.subplots(2, 2)
    _curves(curves, rows)
    _gains(gains, rows)
    _bars(checks, rows, _checked(rows), "tickets and their checks")
    _bars(control, rows, _controlled(rows), "short searches, from the rewind point")


def _curves(axes, rows):
    at = densities(rows)
    for place, (method, (colour, style)) in enumerate(CURVES.items()):
        points = [(density, accuracies(rows, method, density)) for density in at]
        points = [(density, *mean_and_error(found)) for density, found in points if len(found)]
        if points:
            x, mean, error = np.transpose(points)
            shifted = 100 * x * 1.012 ** (place - len(CURVES) / 2)  # error bars side by side
            axes.errorbar(shifted, mean, error, color=colour, ls=style, marker=".", label=method)
    _percent(axes, at)
    axes.set_ylabel("test accuracy, %")
    axes.set_title("dashed: from the rewind point", fontsize=10)
    _legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _gains(axes, rows):
    at = densities(rows)
    axes.axhline(0, color="gray", lw=0.8)
    for base, colour in zip(BASES, ("tab:green", "tab:blue", "black"), strict=True):
        for kind, style in (("KL", "-"), ("loss", ":")):
            method = f"rewound CTS {kind}" if base == "LTR" else f"CTS {kind}"
            pairs = [(d, differences(rows, d, (method, ""), (base, ""))) for d in at]
            points = [(d, *mean_and_error(found)) for d, found in pairs if len(found)]
            if points:
                x, mean, error = np.transpose(points)
                label = f"{method} less {base}"
                axes.errorbar(100 * x, mean, error, color=colour, ls=style, marker=".", label=label)
    _percent(axes, at)
    axes.set_ylabel("points of test accuracy")
    axes.set_title("paired over seeds", fontsize=10)
    _legend(axes)


def _legend(axes, **place):
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, **place)
    else:
        _say_nothing(axes)


def _say_nothing(axes):
    axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)


def _percent(axes, at):
    axes.set_xscale("log")
    axes.set_xticks([100 * density for density in at], [f"{100 * density:.3g}" for density in at])
    axes.minorticks_off()
    axes.set_xlabel("weights kept, %")


def _checked(rows):
    shown = [("CTS KL", check) for check in MARKS] + [("SNIP", ""), ("SNIP", "shuffled")]
    measured = {(row["method"], row["check"]) for row in rows}
    return [each for each in shown if each in measured]


def _controlled(rows):
    measured = {row["method"] for row in rows}
    shown = [f"{name}{suffix}" for name in BALANCED for suffix in ("", ", Lagrange")]
    return [(name, "") for name in shown if name in measured]


def _bars(axes, rows, shown, title):
    if not shown:
        _say_nothing(axes)
    at = densities(rows)
    for place, (method, check) in enumerate(shown):
        for shift, density in enumerate(at):
            found = accuracies(rows, method, density, check)
            if len(found):
                mean, error = mean_and_error(found)
                x = place + (shift - (len(at) - 1) / 2) * 0.8 / len(at)
                axes.bar(x, mean, 0.8 / len(at), yerr=error, color=f"C{shift}", alpha=0.8)
    names = [f"{method.removeprefix('short ')}\n{check}".strip() for method, check in shown]
    names = [name.replace(", ", "\n") for name in names]
    axes.set_xticks(range(len(shown)), names, fontsize=7)
    axes.set(ylabel="test accuracy, %", ylim=(0, 100), title=title)
    handles = [axes.bar(0, 0, color=f"C{shift}", alpha=0.8) for shift in range(len(at))]
    axes.legend(handles, [f"{100 * density:.3g}%" for density in at], fontsize=7)
