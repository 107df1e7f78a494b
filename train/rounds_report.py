"""The rounds for people: a line of JSON each in log.jsonl, and rounds.svg, three plots side by side.

Both are written anew from what is known, so that a run that was killed ends with the files of an unbroken one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from .run_files import replace_text

_WIDTH, _HEIGHT = 320, 240  # of one plot
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 34, 40
_COLOURS = ("#1f6fb4", "#d9822b", "#3a9d5d", "#b2433f", "#7d5ba6", "#5c6b73")
Point = tuple[float, float]


def write_report(entries: Sequence[dict[str, Any]], out: Path) -> None:
    """`entries` as toolace_r.py makes them, one a round."""
    replace_text(out / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in entries))
    replace_text(out / "rounds.svg", svg(entries))


def svg(entries: Sequence[dict[str, Any]]) -> str:
    """How many samples of a line are right; what was chosen, and the dev figures; the losses."""
    plots = [_histograms(entries), _selection(entries), _losses(entries)]
    placed = (f'<g transform="translate({i * _WIDTH} 0)">{"".join(parts)}</g>' for i, parts in enumerate(plots))
    size = f'viewBox="0 0 {_WIDTH * len(plots)} {_HEIGHT}" width="{_WIDTH * len(plots)}" height="{_HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11" role="img">'
    return "\n".join([head, "<title>Rounds of ToolACE-R</title>", *placed, "</svg>"]) + "\n"


def _histograms(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Bars: of all lines, the share with i right samples, rounds beside each other."""
    k = max(len(entry["histogram"]) for entry in entries)
    parts = _axes("lines by right samples", (0, k), (0, 1), [(i + 0.5, str(i)) for i in range(k)], percent=True)
    width = 0.8 / len(entries)
    for entry in entries:
        colour = _colour(entry["round"])
        for i, count in enumerate(entry["histogram"]):
            left, right = (_x(i + 0.1 + (entry["round"] + side) * width, (0, k)) for side in (0, 1))
            top, bottom = _y(count / max(entry["lines"], 1), (0, 1)), _y(0, (0, 1))
            place = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
            parts.append(f'<rect {place} fill="{colour}"/>')
    return parts


def _selection(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Over the rounds, as shares: lines chosen, samples right, dev lines right."""
    last = max(len(entries) - 1, 1)
    ticks = [(entry["round"], str(entry["round"])) for entry in entries]
    parts = _axes("chosen, pass rate, dev by round", (0, last), (0, 1), ticks, percent=True)
    curves: list[tuple[str, list[Point]]] = [
        ("chosen", [(e["round"], e["chosen"] / max(e["lines"], 1)) for e in entries]),
        ("pass rate", [(e["round"], e["pass_rate"]) for e in entries]),
        ("dev", [(e["round"], e["dev"]["accuracy"]) for e in entries if e["dev"]]),
    ]
    for i, (name, points) in enumerate(curves):
        if points:
            parts += _curve(points, (0, last), (0, 1), _colour(i))
            parts.append(_text(_LEFT + 70 * i, _HEIGHT - 4, name, fill=_colour(i)))
    return parts


def _losses(entries: Sequence[dict[str, Any]]) -> list[str]:
    """The loss over the steps, a curve a round."""
    points = [tuple(point) for entry in entries for point in entry["losses"]]
    steps = (0.0, float(max((step for step, _ in points), default=1)))
    losses = (0.0, max((loss for _, loss in points), default=1.0) or 1.0)
    parts = _axes("loss by step", steps, losses, [(0, "0"), (steps[1], f"{steps[1]:g}")])
    for entry in entries:
        if entry["losses"]:
            parts += _curve([(s, v) for s, v in entry["losses"]], steps, losses, _colour(entry["round"]))
            number = entry["round"]
            parts.append(_text(_LEFT + 56 * (number % 5), _HEIGHT - 4, f"round {number}", fill=_colour(number)))
    return parts


def _axes(title: str, xs: Point, ys: Point, ticks: Sequence[tuple[float, str]], *, percent: bool = False) -> list[str]:
    parts = [_text(_LEFT, 18, title, size=12)]
    for i in range(5):
        value = ys[0] + (ys[1] - ys[0]) * i / 4
        y = _y(value, ys)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:.0%}" if percent else f"{value:.2g}", anchor="end"))
    parts += [_text(_x(x, xs), _HEIGHT - _BOTTOM + 15, label, anchor="middle") for x, label in ticks]
    return parts


def _curve(points: Sequence[Point], xs: Point, ys: Point, colour: str) -> list[str]:
    places = [(_x(x, xs), _y(y, ys)) for x, y in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in places]
    return [f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>', *(dots[:40])]


def _x(value: float, span: Point) -> float:
    return _LEFT + (value - span[0]) / ((span[1] - span[0]) or 1) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, span: Point) -> float:
    return _HEIGHT - _BOTTOM - (value - span[0]) / ((span[1] - span[0]) or 1) * (_HEIGHT - _TOP - _BOTTOM)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = "#333333", size: int = 11) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}"'
    return f"<text {place}>{escape(text)}</text>"
