"""A comparison of models for people: a table for the terminal, a Markdown page, and a plot of size and agreement.

The plot is SVG that we write ourselves: a point a model, its bar the 95 % interval.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from .aside import replace_text
from .verify import Difference, Report, Row

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 30, 40, 60  # margins of the plot
_LABEL_HEIGHT, _LETTER_WIDTH = 14, 6.6
_HEADS = ("", "size", "load", "prefill", "decode", "memory", "right", "same calls", "KL", "top-1", "max error")


def table(report: Report) -> str:
    """For the terminal."""
    rows = [_HEADS, *(_cells(row) for row in (report.source, *report.models))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADS))]
    lines = [f"{report.n} requests ({report.data}), greedy, without refinement"]
    for row in rows:
        cells = [
            f"{row[0]:{widths[0]}}",
            *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    logits = row.logits
    return (
        row.name,
        f"{row.size_bytes / 1e6:,.1f} MB",
        f"{row.load_s:.1f} s",
        f"{row.prefill_tokens_per_s:,.0f}/s",
        f"{row.decode_tokens_per_s:,.0f}/s",
        "" if row.peak_memory_mb is None else f"{row.peak_memory_mb:,.0f} MB",
        f"{row.accuracy:.1%}",
        "" if row.agreement is None else f"{row.agreement:.1%}",
        "" if logits is None else f"{logits.kl:.1e}",
        "" if logits is None else f"{logits.top1_agreement:.1%}",
        "" if logits is None else f"{logits.max_error:.1e}",
    )


def markdown(report: Report, plot: str) -> str:
    """A page with the picture `plot` beside it."""
    heads = ("model", *_HEADS[1:7], "same calls (95 % interval)", *_HEADS[8:])
    how = "answered greedily and without refinement by each model in a process of its own"
    lines = [
        "# What the conversion kept",
        "",
        f"{report.n} requests ({report.data}), {how}.",
        "",
        f"| {' | '.join(heads)} |",
        f"|---|{'---:|' * (len(heads) - 1)}",
    ]
    for row in (report.source, *report.models):
        cells = [*_cells(row)]
        if row.interval is not None:
            cells[7] += f" ({row.interval[0]:.1%} to {row.interval[1]:.1%})"
        lines.append(f"| {' | '.join(_in_table(cell) for cell in cells)} |")
    lines += ["", f"![Size and agreement of calls]({plot})", "", _EXPLAINED]
    for row in report.models:
        lines += _differences(row)
    return "\n".join(lines) + "\n"


_EXPLAINED = (
    "*right*: share of requests with the right calls. *same calls*: share with exactly the calls of the source. *KL*, "
    "*top-1*, *max error*: of the logits over the right answers, against the source's: mean divergence in nats, share "
    "of positions with the same likeliest token, largest difference. *prefill*, *decode*: tokens a second on the "
    "machine that made this page. *memory*: the most that the process held."
)


def _differences(row: Row) -> list[str]:
    if not row.differences or row.agreement is None or row.compared is None:
        return []
    count = round((1 - row.agreement) * row.compared)
    shown = f", the first {len(row.differences)} of them" if count > len(row.differences) else ""
    lines = [
        "",
        f"## {row.name}: {count} answered otherwise{shown}",
        "",
        "| request | source | model |",
        "|---|---|---|",
    ]
    return lines + [
        f"| {_in_table(one.id)} | {_calls(one, 'source')} | {_calls(one, 'model')} |" for one in row.differences
    ]


def _calls(difference: Difference, side: str) -> str:
    calls = getattr(difference, side)
    if not calls:
        return "refused" if calls is None else "no call"
    texts = (f"{call['name']}({json.dumps(call['arguments'], ensure_ascii=False)[1:-1]})" for call in calls)
    return f"`{_in_table('; '.join(texts)).replace('`', chr(39))}`"


def _in_table(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def svg(report: Report) -> str:
    """Size (MB, to the right) against agreement of calls (percent, upwards), the source among them at 100 %."""
    points = [(report.source, 1.0, (1.0, 1.0))]
    points += [
        (row, row.agreement, row.interval) for row in report.models if row.agreement is not None and row.interval
    ]
    largest = max(row.size_bytes for row, _, _ in points) / 1e6
    step = _step(largest)
    right = math.ceil(largest / step) * step
    bottom = max(0.0, math.floor(min(min(low for _, _, (low, _) in points) * 100, 90) / 10) * 10)
    plot = _Plot(right, bottom)
    parts = plot.axes(step)
    taken: list[tuple[float, float, float]] = []
    for row, agreement, (low, high) in sorted(points, key=lambda point: -point[1]):
        x, y = plot.x(row.size_bytes / 1e6), plot.y(agreement * 100)
        colour = "#777777" if row is report.source else "#1f6fb4"
        parts.append(f'<line x1="{x:.1f}" y1="{plot.y(low * 100):.1f}" x2="{x:.1f}" y2="{plot.y(high * 100):.1f}" '
                     f'stroke="{colour}" stroke-opacity="0.4" stroke-width="2"/>')  # fmt: skip
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        parts.append(_label(row.name, x, y, taken))
    return "\n".join([_HEAD, *parts, "</svg>"]) + "\n"


_HEAD = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
    'font-family="sans-serif" font-size="12" role="img">\n'
    "<title>Size and agreement of calls with the source</title>\n"
    f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
)


def _label(name: str, x: float, y: float, taken: list[tuple[float, float, float]]) -> str:
    """Beside its point, on the side where it fits, and below the labels that are there already."""
    width = len(name) * _LETTER_WIDTH
    start = x + 9 if x + 9 + width < _WIDTH - 4 else max(4.0, x - 9 - width)
    at = y + 4
    while any(abs(at - other) < _LABEL_HEIGHT and start < end and begin < start + width for begin, end, other in taken):
        at += _LABEL_HEIGHT
    taken.append((start, start + width, at))
    return f'<text x="{start:.1f}" y="{at:.1f}" fill="#222222">{escape(name)}</text>'


class _Plot:
    """Where a size (MB, 0 to `right`) and an agreement (percent, `bottom` to 100) lie in the picture."""

    def __init__(self, right: float, bottom: float) -> None:
        self.right, self.bottom = right, bottom

    def x(self, megabytes: float) -> float:
        return _LEFT + megabytes / self.right * (_WIDTH - _LEFT - _RIGHT)

    def y(self, percent: float) -> float:
        return _TOP + (100 - percent) / (100 - self.bottom) * (_HEIGHT - _TOP - _BOTTOM)

    def axes(self, step: float) -> list[str]:
        floor, wall = self.y(self.bottom), self.x(self.right)
        parts = []
        for i in range(round(self.right / step) + 1):
            x = self.x(i * step)
            parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{floor:.1f}" stroke="#eeeeee"/>')
            parts.append(
                f'<text x="{x:.1f}" y="{floor + 18:.1f}" text-anchor="middle" fill="#444444">{i * step:g}</text>'
            )
        every = next(size for size in (1, 2, 5, 10) if (100 - self.bottom) / size <= 10)
        for percent in range(int(self.bottom), 101, every):
            y = self.y(percent)
            parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{wall:.1f}" y2="{y:.1f}" stroke="#eeeeee"/>')
            parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#444444">{percent} %</text>')
        parts.append(f'<path d="M{_LEFT},{_TOP} V{floor:.1f} H{wall:.1f}" fill="none" stroke="#444444"/>')
        parts.append(
            f'<text x="{(_LEFT + wall) / 2:.1f}" y="{_HEIGHT - 14}" text-anchor="middle" fill="#222222">size, MB</text>'
        )
        parts.append(f'<text x="{_LEFT}" y="22" fill="#222222">requests with the same calls as the source</text>')
        return parts


def _step(largest: float) -> float:
    """1, 2 or 5 times a power of ten, so that about five of them reach `largest`."""
    power = 10.0 ** math.floor(math.log10(largest / 5))
    return next(size * power for size in (1, 2, 5, 10) if size * power >= largest / 5)


def write_report(report: Report, folder: Path, stem: str) -> Sequence[Path]:
    """STEM.json, STEM.md and STEM.svg in `folder`, each written aside and renamed."""
    texts = {
        "json": json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n",
        "md": markdown(report, f"{stem}.svg"),
        "svg": svg(report),
    }
    files = []
    for suffix, text in texts.items():
        file = folder / f"{stem}.{suffix}"
        replace_text(file, text)
        files.append(file)
    return files
