"""Charts of results: horizontal bars in panels side by side, and lines. Needs matplotlib (`bench` extra)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

INK, MUTED, RULE = "#1f2933", "#6b7785", "#e3e7eb"
OURS, OTHERS = "#0b7a75", "#b8c2cc"
SHADES = ("#0b7a75", "#e08e45", "#5b6ee1", "#c2528b", "#7a8450")


@dataclass(frozen=True)
class Bar:
    """A bar: its name, its length (None: no figure), what is written at its end, whether it is ours."""

    name: str
    value: float | None
    text: str
    ours: bool = True


@dataclass(frozen=True)
class Panel:
    """Bars below a title; panels of one chart have the same names. `limit`: end of the axis."""

    title: str
    bars: Sequence[Bar]
    limit: float | None = None


def _figure(width: float, height: float, title: str, subtitle: str, columns: int, ratios: Sequence[float]):
    pyplot.rcParams.update(
        {"font.family": "DejaVu Sans", "font.size": 9.5, "text.color": INK, "axes.edgecolor": RULE}
    )
    figure, axes = pyplot.subplots(
        1, columns, figsize=(width, height), squeeze=False, width_ratios=list(ratios), facecolor="white"
    )
    figure.text(0.02, 1 - 0.22 / height, title, fontsize=13.5, fontweight="bold", va="top")
    figure.text(0.02, 1 - 0.52 / height, subtitle, fontsize=9, color=MUTED, va="top")
    for axis in axes[0]:
        axis.spines[["top", "right", "bottom", "left"]].set_visible(False)
        axis.tick_params(length=0, colors=MUTED)
    return figure, axes[0]


def draw_bars(title: str, subtitle: str, panels: Sequence[Panel], path: Path) -> None:
    """Draw panels side by side and write the file; names stand at the left of the first."""
    names = [bar.name for bar in panels[0].bars]
    height = 1.55 + 0.3 * len(names)
    figure, axes = _figure(10, height, title, subtitle, len(panels), [1.6] + [1.0] * (len(panels) - 1))
    for axis, panel in zip(axes, panels, strict=True):
        longest = max((bar.value or 0) for bar in panel.bars)
        limit = panel.limit or longest * 1.0
        for row, bar in enumerate(panel.bars):
            axis.barh(row, bar.value or 0, height=0.68, color=OURS if bar.ours else OTHERS)
            axis.text(
                (bar.value or 0) + limit * 0.012,
                row,
                bar.text,
                va="center",
                fontsize=9,
                color=INK if bar.ours else MUTED,
                fontweight="bold" if bar.ours else "normal",
            )
        axis.set_xlim(0, limit * 1.24)
        axis.set_ylim(len(names) - 0.45, -0.55)
        axis.set_xticks([])
        axis.axvline(0, color=RULE, linewidth=1)
        axis.set_title(panel.title, loc="left", fontsize=9.5, color=MUTED, pad=6)
        axis.set_yticks([])
    axes[0].set_yticks(range(len(names)), names)
    for label, bar in zip(axes[0].get_yticklabels(), panels[0].bars, strict=True):
        label.set_color(INK if bar.ours else MUTED)
        label.set_fontweight("bold" if bar.ours else "normal")
    figure.tight_layout(rect=(0.01, 0.01, 0.99, 1 - 0.72 / height), w_pad=1.5)
    _save(figure, path)


def draw_lines(
    title: str,
    subtitle: str,
    axes_names: tuple[str, str],
    lines: dict[str, tuple[Sequence[float], Sequence[float]]],
    path: Path,
) -> None:
    """Draw y over x (in powers of two) for each name, each labelled at its end, and write the file."""
    figure, (axis,) = _figure(8, 4.6, title, subtitle, 1, [1])
    for (name, (x, y)), color in zip(lines.items(), SHADES, strict=False):
        axis.plot(x, y, color=color, linewidth=2, marker="o", markersize=4)
        axis.annotate(name, (x[-1], y[-1]), (7, 0), textcoords="offset points", va="center", color=color)
    ticks = sorted({value for x, _ in lines.values() for value in x})
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ylim(bottom=0)
    axis.grid(axis="y", color=RULE)
    axis.set_xlabel(axes_names[0], color=MUTED)
    axis.set_ylabel(axes_names[1], color=MUTED)
    figure.tight_layout(rect=(0.01, 0.01, 0.86, 1 - 0.72 / 4.6))
    _save(figure, path)


def machine_subtitle(results: dict[str, Any]) -> str:
    """Return the line that names the machine of the figures."""
    machine = results["machine"]
    return f"{machine['cpu']} · {machine['isa']} · {machine['threads']} of {machine['cores']} cores"


def _save(figure: Any, path: Path) -> None:
    figure.savefig(
        path, dpi=160, facecolor="white", metadata={"Software": None} if path.suffix == ".png" else None
    )
    pyplot.close(figure)
