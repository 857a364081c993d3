"""Plots of what `bench.sampling` saw, one panel for each measure, one line for each process."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.sampling import Mark, ProcessSample, Sample

MEASURES: dict[str, Callable[[ProcessSample], float]] = {
    "memory (MB)": lambda process: process.rss_mb,
    "file descriptors": lambda process: process.fds,
    "threads": lambda process: process.threads,
    "CPU (% of a core)": lambda process: process.cpu_percent,
}

_K = TypeVar("_K")
_WIDTH_IN = 9.0
_PANEL_IN = 1.7
_DPI = 72
_POINTS = 800
"""Points of a line at most: more are not seen at this width, and make a picture of hours large."""
_MARKS = 40
"""Marks that are drawn at most; a soak of a thousand faults would be one grey field."""


def draw(
    samples: Sequence[Sample],
    path: Path,
    title: str,
    *,
    marks: Sequence[Mark] = (),
    measures: Sequence[str] = ("memory (MB)", "file descriptors", "threads"),
) -> None:
    """Writes the picture, SVG or PNG by the name's ending. measures: which of MEASURES; gauges are drawn all.

    Where a process did not run its line is broken. Raises OSError, and ValueError where there is no sample.
    """
    if not samples:
        raise ValueError("nothing was sampled: there is nothing to draw")
    times_s = [sample.at_s for sample in samples]
    panels: list[tuple[str, dict[str, list[float]]]] = []
    for measure in measures:
        of = MEASURES[measure]
        names = _in_order(name for sample in samples for name in sample.processes)
        lines = {n: [of(s.processes[n]) if n in s.processes else math.nan for s in samples] for n in names}
        panels.append((measure, lines))
    keys = _in_order(key for sample in samples for key in sample.gauges)
    for panel in _in_order(panel for panel, _ in keys):
        lines = {line: [s.gauges.get((p, line), math.nan) for s in samples] for p, line in keys if p == panel}
        panels.append((panel, lines))
    panels = [(name, lines) for name, lines in panels if lines]
    # Without pyplot: it keeps every figure in a list of its own, and asks for a screen.
    figure = Figure(figsize=(_WIDTH_IN, 0.8 + _PANEL_IN * len(panels)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes: list[Axes] = list(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0])
    for axis, (name, lines) in zip(axes, panels, strict=True):
        _draw_panel(axis, name, times_s, lines)
        for mark in marks[:_MARKS]:
            axis.axvline(mark.at_s, color="0.6", linewidth=0.8, linestyle=":")
    for mark in marks[:_MARKS]:
        axes[0].annotate(
            mark.what, (mark.at_s, 1.0), xycoords=("data", "axes fraction"), fontsize=7, rotation=20, va="bottom"
        )
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=_DPI)


def _draw_panel(axis: Axes, name: str, times_s: Sequence[float], lines: dict[str, list[float]]) -> None:
    for label, values in lines.items():
        axis.plot(*_thinned(times_s, values), label=label, linewidth=1.1)
    axis.set_ylabel(name, fontsize=8)
    # What grows from 100 to 104 is flat, and is to look so.
    axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25)
    if len(lines) > 1 or next(iter(lines)):
        axis.legend(fontsize=7, loc="upper left", ncols=min(6, len(lines)), framealpha=0.6)


def _thinned(times_s: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most _POINTS of them: of neighbours the greatest, so that no peak is lost."""
    step = math.ceil(len(values) / _POINTS)
    thin: list[float] = []
    for first in range(0, len(values), step):
        part = values[first : first + step]
        # A break stays a break, however short.
        thin.append(math.nan if any(math.isnan(value) for value in part) else max(part))
    return list(times_s[::step]), thin


def _in_order(keys: Iterable[_K]) -> list[_K]:
    return list(dict.fromkeys(keys))
