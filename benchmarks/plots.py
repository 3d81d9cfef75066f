"""Plots as SVG, written by hand: bars beside each other with their limits, and shares of a set of times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from machine import percentile

WIDTH: Final = 720
COLOURS: Final = ("#2563eb", "#64748b", "#d97706", "#059669", "#9333ea")
_LIMIT: Final = "#dc2626"
_INK: Final = "#334155"


def draw_bars(
    title: str, unit: str, groups: Mapping[str, Mapping[str, float]], limits: Mapping[str, float] | None = None
) -> str:
    """Return horizontal bars: one group per case, one bar per name in it; a limit is a line across its group."""
    limits = limits or {}
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    most = max([*(value for bars in groups.values() for value in bars.values()), *limits.values()]) * 1.12
    left, bar, gap = 150, 18, 26
    scale = (WIDTH - left - 90) / most
    body, y = [], 56
    for group, bars in groups.items():
        body.append(_text(8, y - 6, group, weight="bold"))
        top = y
        for name, value in bars.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            body.append(_text(left - 8, y + 13, name, anchor="end"))
            body.append(f'<rect x="{left}" y="{y}" width="{value * scale:.1f}" height="{bar - 3}" fill="{colour}"/>')
            body.append(_text(left + value * scale + 6, y + 13, f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"))
            y += bar
        if group in limits:
            x = left + limits[group] * scale
            body.append(_line(x, top - 4, x, y + 2))
            body.append(_text(x + 4, y + 12, f"limit {limits[group]:,.3g}", colour=_LIMIT))
        y += gap
    return _page(title, unit, y + 4, body)


def draw_shares(title: str, unit: str, series: Mapping[str, Sequence[float]], limit: float | None = None) -> str:
    """Return, for each series of times, which share of them is at most how long; the limit is a line down."""
    most = max([*(max(values) for values in series.values()), limit or 0.0]) * 1.08
    left, top, width, height = 60, 56, WIDTH - 90, 260
    body = []
    for share in (0, 25, 50, 75, 99):
        y = top + height - height * share / 100
        body.append(f'<path d="M{left} {y:.1f}H{left + width}" stroke="#e2e8f0"/>')
        body.append(_text(left - 8, y + 4, f"{share} %", anchor="end"))
    for step in range(5):
        value = most * step / 4
        body.append(_text(left + width * step / 4, top + height + 18, f"{value:,.3g}", anchor="middle"))
    for number, (name, values) in enumerate(series.items()):
        points = [(percentile(values, share / 200), share / 2) for share in range(1, 201)]
        path = " ".join(f"{left + width * v / most:.1f},{top + height - height * s / 100:.1f}" for v, s in points)
        colour = COLOURS[number % len(COLOURS)]
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label = f"{name}: p50 {percentile(values, 0.5):,.3g}, p99 {percentile(values, 0.99):,.3g} {unit}"
        body.append(_text(left + width - 6, top + height - 14 - 18 * number, label, anchor="end", colour=colour))
    if limit is not None:
        x = left + width * limit / most
        body.append(_line(x, top, x, top + height))
        body.append(_text(x - 4, top + 12, f"limit {limit:,.3g}", anchor="end", colour=_LIMIT))
    return _page(title, unit, top + height + 34, body)


def _page(title: str, unit: str, height: float, body: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" font-family="system-ui, sans-serif" font-size="12">'
    )
    back = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
    return "\n".join([head, back, _text(8, 22, f"{title} ({unit})", weight="bold", size=15), *body, "</svg>", ""])


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    colour: str = _INK,
    weight: str = "normal",
    size: int = 12,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}" '
        f'font-size="{size}">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{_LIMIT}" stroke-width="1.5" stroke-dasharray="4 3"/>'
    )
