"""Figures with their limits: what a suite promises, what it measured, and one table of both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from machine import RESULTS, describe_machine, print_table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. It holds at `most` or below, or at `least` or above; without either it only informs."""

    what: str
    measured: float
    unit: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def limit(self) -> str:
        if self.most is not None:
            return f"≤ {_write(self.most)} {self.unit}".rstrip()
        return f"≥ {_write(self.least)} {self.unit}".rstrip() if self.least is not None else ""

    @property
    def verdict(self) -> str:
        if self.most is None and self.least is None:
            return ""
        holds = self.measured <= self.most if self.most is not None else self.measured >= (self.least or 0.0)
        return "holds" if holds else "**missed**"

    def row(self) -> Sequence[str]:
        return (self.what, self.limit, f"{_write(self.measured)} {self.unit}".rstrip(), self.verdict)


def _write(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of a suite brings: its figures, whatever else it measured, and plots (SVG) by name."""

    figures: Sequence[Figure]
    details: Mapping[str, object] = field(default_factory=dict)
    plots: Mapping[str, str] = field(default_factory=dict)


def keep_part(name: str, part: Part) -> None:
    """Write a part to `benchmarks/results/<name>.json`, and its plots beside that."""
    RESULTS.mkdir(exist_ok=True)
    document = {
        "machine": describe_machine(),
        "figures": [asdict(figure) for figure in part.figures],
        "details": dict(part.details),
    }
    (RESULTS / f"{name}.json").write_text(
        json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    for plot, text in part.plots.items():
        (RESULTS / f"{plot}.svg").write_text(text, encoding="utf-8")


def read_kept(name: str) -> list[Figure]:
    """Return the figures that were kept of a part; none where it never ran."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return []
    return [Figure(**raw) for raw in json.loads(path.read_text(encoding="utf-8"))["figures"]]


def print_figures(title: str, figures: Iterable[Figure]) -> None:
    """Print the one table: each figure with its limit beside what was measured."""
    print_table(title, ("figure", "limit", "measured", ""), [figure.row() for figure in figures])
