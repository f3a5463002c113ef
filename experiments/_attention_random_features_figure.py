"""The figure of `attention_random_features`: a curve for each target, rates, counts of samples."""

import numpy as np

from experiments._attention_random_features_verdict import LEVEL, errors, growth, sizes
from experiments._rows import mean_and_error, select

STYLES = {  # colour by method, dashed with infinitely many heads
    "RFA": ("tab:blue", "-"),
    "RFA kernel": ("tab:blue", "--"),
    "BRFA": ("tab:orange", "-"),
    "BRFA kernel": ("tab:orange", "--"),
    "RFMLP": ("tab:gray", "-"),
    "RFMLP kernel": ("tab:gray", "--"),
}

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
BETWEEN = (0.03, 0.07, 0.3, 0.4, 0.7)  # where an axis is short


def plot(rows: list[dict], figure) -> None:
    """A panel for each target, then convergence in heads, then samples against keys."""
    targets = list(dict.fromkeys(row["target"] for row in select(rows, study="curves")))
    figure.set_size_inches(13, 8)
    panels = figure.subplots(2, 3).ravel()
    for axes, target in zip(panels, targets, strict=False):
        _curve(axes, rows, target)
    panels[0].legend(fontsize=7)
    _heads(panels[-2], rows)
    _growth(panels[-1], rows)


def _curve(axes, rows, target):
    for shift, (method, (colour, style)) in enumerate(STYLES.items()):
        curve = {"study": "curves", "target": target, "method": method}
        means, spreads = mean_and_error(errors(rows, **curve).T)
        at = np.array(sizes(rows, **curve)) * 1.015 ** (shift - 2.5)
        axes.errorbar(at, means, spreads, color=colour, ls=style, lw=1.2, label=method)
    axes.axhline(1, color="black", lw=0.6)
    axes.set(xscale="log", yscale="log", xlabel="n, training examples")
    axes.set_ylabel("squared error / variance of target")
    ticks = sizes(rows, study="curves", target=target)
    _ticks(axes.xaxis, ticks[:: 1 + len(ticks) // 8])
    low, high = axes.get_ylim()
    levels = LEVELS if high > 10 * low else (*LEVELS, *BETWEEN)
    _ticks(axes.yaxis, [at for at in levels if low <= at <= high])
    kind, degree = target.split(" p=")
    alike = r"$\langle x_0, x_i\rangle" + (f"^{degree}" if degree != "1" else "") + "$ "
    power = rf"$\langle b, x_i\rangle^{degree}$"
    title = power if kind == "average" else alike + r"$\langle b, x_i\rangle$"
    axes.set_title(f"mean over keys of {title}", fontsize=10)


def _heads(axes, rows):
    for method, colour in (("RFA", "tab:blue"), ("BRFA", "tab:orange")):
        found = select(rows, kind="convergence", method=method)
        heads = np.array([row["heads"] for row in found])
        for name, style, label in (("gram", "o-", "Gram"), ("regressor", "s--", "regressor")):
            means, spreads = mean_and_error(np.array([row[name] for row in found]).T)
            axes.errorbar(
                heads, means, spreads, fmt=style, ms=3, color=colour, label=f"{method}, {label}"
            )
    axes.plot(heads, means[0] * (heads / heads[0]) ** -0.5 / 2, "k:", label="slope -1/2")
    axes.set(xscale="log", yscale="log", xlabel="M, heads", ylabel="relative distance to M = ∞")
    _ticks(axes.xaxis, heads.tolist())
    axes.set_title("convergence to the kernel", fontsize=10)
    axes.legend(fontsize=7)


def _growth(axes, rows):
    """Medians, with the least and the most of all draws that get there."""
    found = growth(rows)
    for place, (label, colour) in enumerate((("RFA kernel", "tab:blue"), ("RFMLP kernel", "gray"))):
        for keys, samples in found.items():
            reached = samples[place][np.isfinite(samples[place])]
            if len(reached):
                axes.plot([keys] * len(reached), reached, ".", color=colour, alpha=0.5, ms=4)
        lines = [(keys, np.median(samples[place])) for keys, samples in found.items()]
        lines = [(keys, middle) for keys, middle in lines if np.isfinite(middle)]
        if lines:
            axes.plot(*zip(*lines, strict=True), color=colour, label=label)
    axes.set(xscale="log", yscale="log", xlabel="N, keys", ylabel=f"n to an error of {LEVEL}")
    _ticks(axes.xaxis, list(found))
    axes.set_title("samples needed, quadratic average (dots: draws)", fontsize=10)
    axes.legend(fontsize=7)


def _ticks(axis, places):
    axis.set_ticks(places, [f"{place:g}" for place in places])
    axis.set_ticks([], minor=True)
