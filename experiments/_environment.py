"""Where a run was measured: code, versions, device, memory."""

import datetime
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "numpy", "ntkens")


def _git(*arguments: str) -> str | None:
    """What git says about this checkout; None where there is no git or no checkout."""
    command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> dict[str, Any]:
    import jax  # not at the top: listing the scripts must not wait for it

    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "count": jax.device_count(),
        "cores": cores,
    }


def describe() -> dict[str, Any]:
    """Commit, dirty flag, versions, device and the time now.

    `dirty` leaves `results/` out: a result just recorded does not make the code another.
    """
    changes = _git("status", "--porcelain", "--", ".", ":!results")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in PACKAGES},
        },
        "device": _device(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def device_name(device: dict[str, Any]) -> str:
    """A device in words: `2 CPU cores`, `4 x NVIDIA H100 80GB HBM3`."""
    if device["platform"] == "cpu":
        return f"{device['cores']} CPU core{'s' if device['cores'] != 1 else ''}"
    return device["kind"] if device["count"] == 1 else f"{device['count']} x {device['kind']}"


def peak_bytes() -> dict[str, int]:
    """The most memory this process has held: on the host, and on the fullest accelerator."""
    import jax

    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    statistics = [device.memory_stats() or {} for device in jax.local_devices()]
    held = [entry["peak_bytes_in_use"] for entry in statistics if "peak_bytes_in_use" in entry]
    return peak | ({"device": max(held)} if held else {})
