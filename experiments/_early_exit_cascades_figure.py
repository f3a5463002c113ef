"""The figure of `early_exit_cascades`: risk against cost, and gains by task and by score."""

import numpy as np

from experiments._early_exit_cascades_policies import MAIN, SCORES
from experiments._early_exit_cascades_verdict import (
    gain,
    macs,
    scaled_gain,
    scales,
    values,
)
from experiments._rows import mean_and_error, select

COLOURS = {
    "single threshold": "tab:orange",
    "window": "tab:blue",
    "adaptive window": "tab:cyan",
    "ensemble": "tab:green",
}


def plot(rows: list[dict], figure) -> None:
    """Cost, selective tasks, unknown classes, and scores."""
    figure.set_size_inches(12, 8.5)
    panels = figure.subplots(2, 2).ravel()
    _cost(panels[0], rows)
    tasks = ("risk@50", "risk@80", "cov@5", "cov@10", "AURC", "error")
    _gains(panels[1], rows, tasks, ("single threshold", "window", "ensemble"))
    panels[1].set_title("known classes")
    _gains(panels[2], rows, ("FPR@80", "FPR@95", "AUROC", "SCOD risk@80"), tuple(COLOURS))
    panels[2].set_title("with unknown classes")
    _scores(panels[3], rows)
    for axes in panels:
        axes.legend(fontsize=7)


def _cost(axes, rows):
    """Of sweeps, of single networks, and of all members as one cascade."""
    for policy in ("window", "single threshold"):
        found = select(rows, kind="sweep", policy=policy)
        widths = sorted({row["width"] for row in found})
        costs = [macs(found, width=width) for width in widths]
        _bars(axes, costs, [values(found, width=w) for w in widths], COLOURS[policy], "o-", policy)
    named = {"task": "risk@80", "score": MAIN}
    largest = max(row["members"] for row in select(rows, kind="cascade"))
    if largest > 2:
        of_all = {"kind": "cascade", "members": largest, **named}
        for policy, marker in (("window", "s"), ("ensemble", "D")):
            cost = macs(rows, policy=policy, **of_all)
            sample = values(rows, policy=policy, **of_all)
            _bars(axes, [cost], [sample], COLOURS[policy], marker, f"{policy}, {largest} members")
    base = values(rows, kind="cascade", members=2, policy="single", **named)
    samples = [base, *(values(rows, kind="single", scale=scale, **named) for scale in scales(rows))]
    _bars(axes, [1, *scales(rows).values()], samples, "k", "x--", "single network, scaled")
    ticks = [
        tick for tick in (1, 1.2, 1.5, 2, 3, 4, 8) if tick <= 1.1 * max([2, *scales(rows).values()])
    ]
    axes.set(xscale="log", xlabel="multiply-accumulates, of one network", ylabel="risk@80, %")
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.set_title("risk at the coverage 0.8, against cost")


def _gains(axes, rows, tasks, policies):
    """Over a single network, above 0 better; of scaled ones too."""
    series = {
        policy: (COLOURS[policy], [gain(rows, t, policy) for t in tasks]) for policy in policies
    }
    for shade, (scale, cost) in enumerate(scales(rows).items()):
        colour = str(0.7 - 0.6 * shade / max(1, len(scales(rows)) - 1))
        series[f"single, {cost:.2g} times"] = (colour, [scaled_gain(rows, t, scale) for t in tasks])
    for place, (name, (colour, samples)) in enumerate(series.items()):
        places = np.arange(len(tasks)) + 0.8 * ((place + 0.5) / len(series) - 0.5)
        kept = [at for at, sample in zip(places, samples, strict=True) if len(sample)]
        _bars(axes, kept, [sample for sample in samples if len(sample)], colour, "o", name)
    axes.axhline(0, color="k", lw=0.8)
    for place in range(1, len(tasks)):
        axes.axvline(place - 0.5, color="0.9", lw=0.8)
    axes.set_xticks(range(len(tasks)), tasks, fontsize=8)
    axes.set_ylabel("better than one network by, %")


def _scores(axes, rows):
    for place, policy in enumerate(("single threshold", "window", "ensemble")):
        places = np.arange(len(SCORES)) + 0.2 * (place - 1)
        samples = [gain(rows, "risk@80", policy, score=score) for score in SCORES]
        _bars(axes, places, samples, COLOURS[policy], "o", policy)
    axes.axhline(0, color="k", lw=0.8)
    axes.set_xticks(range(len(SCORES)), SCORES, fontsize=8)
    axes.set_ylabel("risk@80 lower than one network's by, %")
    axes.margins(y=0.25)  # for the legend
    axes.set_title("scores")


def _bars(axes, places, samples, colour, style, label):
    means, errors = 100 * np.transpose([mean_and_error(sample) for sample in samples])
    axes.errorbar(places, means, errors, fmt=style, ms=4, lw=1, color=colour, label=label)
