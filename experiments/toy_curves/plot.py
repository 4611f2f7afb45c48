"""Plot the curves as SVG."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import read_json
from adaptis.files import atomic_write

WIDTH, HEIGHT, MARGIN, LEGEND = 640, 420, 56, 210
COLORS = ('#000000', '#1f77b4', '#ff7f0e', '#2ca02c', '#d62728', '#9467bd', '#8c564b', '#e377c2',
          '#7f7f7f', '#bcbd22', '#17becf')
TICKS = 5


def write_plot(path: Path, folder: Path) -> None:
    """Plot the records of a folder, best first; AdaptisError if there are none."""
    records = [read_json(file) for file in sorted(folder.glob('*.json'))]
    if not records:
        raise AdaptisError(f'{folder} holds no records: run the variants first.')
    records.sort(key=lambda record: -record['curve'][-1]['iou'])
    with atomic_write(path) as temporary:
        temporary.write_text(draw(records), encoding='utf-8')


def draw(records: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG of IoU against cost, with a line for each record."""
    right = max(record['curve'][-1]['cost'] for record in records)
    top = max(point['iou'] for record in records for point in record['curve'])
    scale = _Scale(right, _round_up(top))
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEGEND} {HEIGHT}" '
             'font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH + LEGEND}" height="{HEIGHT}" fill="white"/>', *_axes(scale)]
    for number, record in enumerate(records):
        parts += _line(record, scale, COLORS[number % len(COLORS)], number)
    return '\n'.join([*parts, '</svg>', ''])


class _Scale:
    def __init__(self, right: float, top: float):
        self.right, self.top = right, top

    def x(self, cost: float) -> float:
        return MARGIN + cost / self.right * (WIDTH - 1.5 * MARGIN)

    def y(self, iou: float) -> float:
        return HEIGHT - MARGIN - iou / self.top * (HEIGHT - 1.5 * MARGIN)


def _axes(scale: _Scale) -> list[str]:
    parts = []
    for tick in range(TICKS + 1):
        iou, cost = scale.top * tick / TICKS, scale.right * tick / TICKS
        parts += [f'<line x1="{scale.x(0):.1f}" x2="{scale.x(scale.right):.1f}" '
                  f'y1="{scale.y(iou):.1f}" y2="{scale.y(iou):.1f}" stroke="#dddddd"/>',
                  _text(scale.x(0) - 6, scale.y(iou) + 4, f'{iou:.2f}', 'end'),
                  _text(scale.x(cost), scale.y(0) + 18, f'{cost:.0f}', 'middle')]
    return [*parts, _text(WIDTH / 2, HEIGHT - 16, 'cost, in steps of the base', 'middle'),
            _text(MARGIN, 18, 'mean IoU at points, 100 test images', 'start')]


def _line(record: Mapping[str, Any], scale: _Scale, color: str, number: int) -> list[str]:
    points = ' '.join(f'{scale.x(p["cost"]):.1f},{scale.y(p["iou"]):.1f}' for p in record['curve'])
    label = f'{record["name"].replace("_", " ")}: {record["curve"][-1]["iou"]:.3f}'
    return [f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>',
            f'<rect x="{WIDTH}" y="{30 + 20 * number}" width="12" height="12" fill="{color}"/>',
            _text(WIDTH + 18, 40 + 20 * number, label, 'start')]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _round_up(iou: float) -> float:
    return -(-iou * 20 // 1) / 20
