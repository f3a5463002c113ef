"""The figure of `predictive_diversity`: effects by capacity, the mechanism, diversity for free."""

import itertools

import numpy as np

from experiments._predictive_diversity_verdict import (
    BINS,
    NAMES,
    effect,
    gammas,
    mean_and_error,
    networks,
    rise,
    values,
)
from experiments._rows import select

REGULARISERS = {
    "jensen_gap": ("Jensen gap", "tab:blue"),
    "variance": ("variance", "tab:orange"),
    "jensen_shannon": ("Jensen-Shannon", "tab:green"),
    "kl": ("KL from the mean", "tab:red"),
}


def plot(rows: list[dict], figure) -> None:
    """Bars are two standard errors over seeds; improvements are above zero."""
    figure.set_size_inches(13, 8)
    panels = figure.subplots(2, 3).ravel()
    for axes, field in zip(panels, NAMES, strict=False):
        _capacity(axes, rows, field)
    for axes, part in zip(panels[2:], (_gaps, _regularisers, _mechanism, _free), strict=True):
        part(axes, rows)
        axes.legend(fontsize=7)
    panels[0].legend(fontsize=7)


def _colour(rows, gamma):
    """Blue where diversity is discouraged, red where it is encouraged."""
    import matplotlib

    return matplotlib.colormaps["coolwarm"](0.5 + 0.5 * gamma / max(map(abs, gammas(rows))))


def _points(samples):
    """Means and two standard errors, of one sample of seeds each."""
    means, errors = np.transpose([mean_and_error(sample) for sample in samples])
    return means, 2 * errors


def _capacity(axes, rows, field):
    names = networks(rows)
    strengths = [gamma for gamma in gammas(rows) if gamma]
    for place, gamma in enumerate(strengths):
        found = _points([effect(rows, name, "jensen_gap", gamma, field) for name in names])
        shift = 0.08 * (place - (len(strengths) - 1) / 2)
        axes.errorbar(
            np.arange(len(names)) + shift,
            *found,
            fmt="o-",
            ms=4,
            lw=1,
            color=_colour(rows, gamma),
            label=f"gamma = {gamma:g}",
        )
    _across(axes, names)
    axes.set_yscale("symlog", linthresh=0.01, linscale=1)
    axes.set_ylabel(f"improvement of {NAMES[field]} over gamma = 0")
    axes.set_title(f"{NAMES[field]} of the ensemble, Jensen gap")


def _across(axes, names):
    axes.axhline(0, color="k", lw=0.8)
    axes.set_xticks(range(len(names)), names, fontsize=8)


def _gaps(axes, rows):
    strengths = gammas(rows)
    for place, name in enumerate(networks(rows)):
        found = [values(rows, name, "jensen_gap", gamma, "gap") for gamma in strengths]
        colour = f"C{place}"
        axes.errorbar(strengths, *_points(found), fmt="o-", ms=4, lw=1, color=colour, label=name)
    axes.set(yscale="log", xlabel="gamma", ylabel="Jensen gap, test")
    axes.set_title("diversity follows gamma")


def _regularisers(axes, rows):
    strengths = gammas(rows)
    measured = {row["regulariser"] for row in select(rows, kind="joint")}
    ends = ((networks(rows)[0], "o-"), (networks(rows)[-1], "s--"))
    for regulariser, (label, colour) in REGULARISERS.items():
        if regulariser not in measured:
            continue
        for name, style in ends:
            found = [effect(rows, name, regulariser, gamma, "nll") for gamma in strengths]
            text = f"{label}, {name}"
            axes.errorbar(
                strengths, *_points(found), fmt=style, ms=4, lw=1, color=colour, label=text
            )
    axes.axhline(0, color="k", lw=0.8)
    axes.set_yscale("symlog", linthresh=0.01, linscale=1)
    axes.set(xlabel="gamma", ylabel="improvement of NLL")
    axes.set_title("what is encouraged: weakest and strongest")


def _mechanism(axes, rows):
    gamma, places = gammas(rows)[-1], np.arange(len(BINS) - 1)
    for shift, name in ((-0.1, networks(rows)[0]), (0.1, networks(rows)[-1])):
        parts = rise(rows, name, "jensen_gap", gamma, "nll_parts").T
        shares = values(rows, name, "jensen_gap", 0.0, "shares").mean(0)
        means, errors = _points(parts)
        axes.bar(places + shift, means, 0.2, yerr=errors, label=f"{name}, gamma = {gamma:g}")
        for place, share in zip(places, shares, strict=True):
            at = (place + shift, 0.02 if shift < 0 else 0.08)
            transform = axes.get_xaxis_transform()
            text = f"{100 * share:.0f}%"
            colour = "C0" if shift < 0 else "C1"
            axes.text(*at, text, ha="center", fontsize=7, color=colour, transform=transform)
    labels = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(BINS)]
    axes.axhline(0, color="k", lw=0.8)
    axes.set_xticks(places, labels, fontsize=8)
    axes.set_yscale("symlog", linthresh=0.002, linscale=1)
    low, high = axes.get_ylim()
    axes.set_ylim(5 * low, high)  # room for the shares
    axes.set_xlabel("probability of the label by another ensemble, gamma = 0")
    axes.set_ylabel("part of the rise of NLL")
    axes.set_title("who pays (shares of examples below)")


def _free(axes, rows):
    found = select(rows, kind="mixed")
    kinds = {
        "mixed": "one of each\narchitecture",
        "single": "one larger\nnetwork",
        "single_ensemble": "ensemble of\nlarger ones",
    }

    def gain(name, field):
        samples = [
            np.concatenate([np.asarray(row[f"{one}_{field}"], float) for row in found])
            for one in (name, "alike")
        ]
        return (samples[0] - samples[1]) * (1 if field == "accuracy" else -1)

    for shift, (field, label) in zip((-0.08, 0.08), NAMES.items(), strict=True):
        points = _points([gain(name, field) for name in kinds])
        axes.errorbar(np.arange(3) + shift, *points, fmt="o", ms=5, capsize=3, label=label)
    _across(axes, kinds.values())
    axes.set_xlim(-0.5, 2.5)
    axes.set_ylabel("gain over ensembles of one architecture")
    axes.set_title("diversity for free, and better members")
