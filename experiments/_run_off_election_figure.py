"""The figure of `run_off_election`: certified accuracy of each setting, gains, and the attacks."""

import numpy as np

from experiments._rows import mean_and_error, select
from experiments._run_off_election_verdict import curves, settings

METHODS = {  # colour by learners, dashed where there is a second round
    "DPA": ("tab:blue", "-"),
    "DPA+ROE": ("tab:blue", "--"),
    "FA": ("tab:orange", "-"),
    "FA+ROE": ("tab:orange", "--"),
    "DPA*": ("tab:green", "-"),
    "DPA*+ROE": ("tab:green", "--"),
}


def plot(rows: list[dict], figure) -> None:
    """A panel for each setting, one of differences to FA, one of what the attacks moved."""
    found = settings(rows)
    columns = len(found) + 1
    figure.set_size_inches(1 + 4 * columns, 7)
    panels = figure.subplots(2, columns, squeeze=False)
    for (above, below), setting in zip(panels.T, found, strict=False):
        _certified(above, rows, setting)
        _gains(below, rows, setting)
    _attacked(panels[0, -1], rows)
    panels[1, -1].axis("off")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    panels[1, -1].legend(handles, labels, loc="center", title="error bars: standard error")


def _certified(axes, rows, setting):
    for shift, (method, (colour, style)) in enumerate(METHODS.items()):
        means, errors = mean_and_error(curves(rows, setting, method))
        budgets = np.arange(len(means)) + len(means) / 500 * (shift - 2.5)
        axes.errorbar(budgets, means, errors, color=colour, ls=style, lw=1.2, label=method)
    axes.set(xlabel="B, samples inserted or deleted", ylabel="certified accuracy", ylim=(0, 1))
    axes.set_title("{}, k = {} parts".format(*setting))


def _gains(axes, rows, setting):
    base = curves(rows, setting, "DPA")
    for method, (colour, style) in METHODS.items():
        means, errors = mean_and_error(100 * (curves(rows, setting, method) - base))
        budgets = np.arange(len(means))
        axes.plot(budgets, means, color=colour, ls=style, lw=1.2)
        axes.fill_between(budgets, means - errors, means + errors, color=colour, alpha=0.15, lw=0)
    axes.set(xlabel="B, samples inserted or deleted", ylabel="points above DPA")


def _attacked(axes, rows):
    """Of all settings and attacks: the share of predictions that moved, of both kinds."""
    found = select(rows, kind="attack")
    for place, (method, (colour, _)) in enumerate(METHODS.items()):
        of = select(found, method=method)
        for kind, shift, hatch in (("others", -0.2, None), ("certified", 0.2, "///")):
            total = sum(row[kind] for row in of)
            share = sum(row[f"{kind}_moved"] for row in of) / max(total, 1)
            axes.bar(place + shift, share, 0.4, color=colour, hatch=hatch, alpha=0.8)
            axes.text(place + shift, share, f"{share:.2g}", ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(METHODS)), METHODS, fontsize=7)
    axes.set_ylabel("share of predictions that moved")
    axes.set_title("attacked: not certified (left), certified (right)", fontsize=10)
