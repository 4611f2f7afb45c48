"""Write the report of the comparison: a self-contained HTML page and a Markdown table.

    python -m experiments.side_by_side.report [--html FILE] [--markdown FILE]
"""
from __future__ import annotations

import argparse
import base64
import html
import string
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import cv2
import numpy as np

from adaptis.errors import AdaptisError
from adaptis.evaluation.record import short_commit
from adaptis.evaluation.tables import load_tables
from adaptis.files import atomic_write
from experiments.benchmarks.markdown import table as markdown_table
from experiments.side_by_side import pictures
from experiments.side_by_side.run import FOLDER, RESULTS, SYSTEMS, load_results

Result = dict[str, Any]
PUBLISHED = FOLDER.parent / 'published'
TITLES = {'adaptis': 'AdaptIS', 'panoptic_fpn': 'Panoptic FPN', 'condinst': 'CondInst',
          'dense_detections': 'Dense detections', 'unified': 'Unified'}
COLORS = ('#1f6feb', '#d1542b', '#2f9e44', '#9c36b5', '#b08900')


class Column(NamedTuple):
    """A column of a table: its name, how its number is read from a result, and its format."""

    title: str
    value: Callable[[Result], Optional[float]]
    text: str = '{:.1f}'


def _quality(*keys: str) -> Callable[[Result], Optional[float]]:
    def value(result: Result) -> Optional[float]:
        found: Any = result['quality']
        for key in keys:
            found = found[key] if isinstance(found, Mapping) and key in found else None
        return None if found is None else 100 * found
    return value


QUALITY = (
    Column('PQ', _quality('pq', 'All', 'pq')), Column('SQ', _quality('pq', 'All', 'sq')),
    Column('RQ', _quality('pq', 'All', 'rq')), Column('PQ things', _quality('pq', 'Things', 'pq')),
    Column('PQ stuff', _quality('pq', 'Stuff', 'pq')), Column('AP', _quality('ap_by_class', 'ap')),
    Column('mIoU', lambda r: 100 * r['found']['miou']))
COST = (
    Column('parameters, M', lambda r: r['cost']['parameters'] / 1e6),
    Column('dense part, G multiply-adds', lambda r: r['cost']['multiply_adds'] / 1e9, '{:.2f}'),
    Column('ms per image', lambda r: 1e3 * r['cost']['seconds'], '{:.0f}'),
    Column('dense, ms', lambda r: 1e3 * r['cost']['stages']['dense'], '{:.0f}'),
    Column('objects, ms', lambda r: 1e3 * r['cost']['stages']['objects'], '{:.0f}'),
    Column('rest, ms', lambda r: 1e3 * r['cost']['stages']['rest'], '{:.0f}'),
    Column('peak, MiB', lambda r: r['cost']['peak_mib'], '{:.0f}'),
    Column('training, min', lambda r: r['training']['seconds'] / 60, '{:.0f}'),
    Column('undisturbed, min', lambda r: r['training']['seconds_undisturbed'] / 60, '{:.0f}'))


def markdown(results: Sequence[Result]) -> str:
    """Return the two tables for the README: quality and cost."""
    tables = (rows(results, columns) for columns in (QUALITY, COST))
    return '\n\n'.join(markdown_table(head, body) for head, *body in tables) + '\n'


def rows(results: Sequence[Result], columns: Sequence[Column]) -> list[list[str]]:
    """Return a table as text: its header, then one row per system."""
    head = ['', *(column.title for column in columns)]
    return [head, *([TITLES[r['system']], *(_text(column, r) for column in columns)]
                    for r in results)]


def by_objects(results: Sequence[Result]) -> list[list[str]]:
    """Return the milliseconds per image by the number of objects in it, as text."""
    bins = list(dict.fromkeys(name for r in results for name in r['cost']['by_objects']))
    columns = [Column(name, lambda r, n=name: _milliseconds(r, n), '{:.0f}') for name in bins]
    return [['objects', *bins], *(row for row in rows(results, columns)[1:])]


def found_by(results: Sequence[Result], what: str) -> list[list[str]]:
    """Return the percentage of objects that each system finds, by a property of the objects."""
    counts = [r['found'][what] for r in results]
    head = [f'{name} ({total:,})' for name, (_, total) in counts[0].items()]
    body = [[TITLES[r['system']], *(f'{100 * hits / total:.1f}' if total else '-'
                                    for hits, total in found.values())]
            for r, found in zip(results, counts)]
    return [['', *head], *body]


def ranks(results: Sequence[Result], published: Path = PUBLISHED) -> list[list[str]]:
    """Return the published panoptic quality with ResNet-50 and ours, each with its rank."""
    measured = {r['system']: _quality('pq', 'All', 'pq')(r) for r in results}
    numbers = {'COCO val, published': _published(published, 'coco'),
               'Cityscapes val, published': _published(published, 'cityscapes'),
               'street scenes, measured': measured}
    body = [[TITLES[system], *(_ranked(values, system) for values in numbers.values())]
            for system in SYSTEMS]
    return [['PQ (rank)', *numbers], *body]


def page(results: Sequence[Result], findings: str, grid: Optional[np.ndarray]) -> str:
    """Return the complete page; ``findings`` is plain text, ``grid`` shows all results."""
    template = string.Template((FOLDER / 'page.html').read_text(encoding='utf-8'))
    facts = [f'{TITLES[r["system"]]}: {r["config"]}, seed {r["seed"]}, commit '
             f'{short_commit(r["commit"], 12)}, {r["cost"].get("device", r["hardware"]["cpu"])}, '
             f'{r["hardware"]["cores"]} cores, '
             f'threads {r["cost"]["threads"] or "default"}, {r["date"][:10]}' for r in results]
    return template.substitute(
        quality=_html_table(rows(results, QUALITY)), cost=_html_table(rows(results, COST)),
        objects=_html_table(by_objects(results)),
        covered=_html_table(found_by(results, 'covered')),
        area=_html_table(found_by(results, 'area')), ranks=_html_table(ranks(results)),
        plot=plot(results), grid='' if grid is None else _image(grid),
        findings='\n'.join(f'<p>{html.escape(part.strip())}</p>'
                           for part in findings.split('\n\n') if part.strip()),
        facts='\n'.join(f'<li>{html.escape(fact)}</li>' for fact in facts))


def plot(results: Sequence[Result], width: int = 640, height: int = 360) -> str:
    """Return a plot of panoptic quality against the time per image, as SVG."""
    points = [(r['system'], 1e3 * r['cost']['seconds'], _quality('pq', 'All', 'pq')(r))
              for r in results]
    right = 1.15 * max(x for _, x, _ in points)
    low, high = (edge(y for *_, y in points) for edge in (min, max))
    bottom, top = 10 * (low // 10), 10 * (high // 10 + 1)
    left, margin = 50, 40

    def place(x: float, y: float) -> tuple:
        return (left + (width - left - 110) * x / right,
                height - margin - (height - 2 * margin) * (y - bottom) / (top - bottom))

    parts = [_line(*place(0, y), *place(right, y)) + _label(8, place(0, y)[1] + 4, f'{y:g}')
             for y in np.arange(bottom, top + 1, 10)]
    step = next(s for s in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, right) if right / s <= 6)
    for x in np.arange(0, right, step):
        parts.append(_label(place(x, bottom)[0] - 10, height - margin + 18, f'{x:.0f}'))
    places = [place(x, y) for _, x, y in points]
    for color, (system, _, _), (x, y) in zip(COLORS, points, places):
        crowded = any(0 < right - x < 130 and abs(level - y) < 16 for right, level in places)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="{color}"/>'
                     + _label(x - 11 if crowded else x + 11, y + 5, TITLES[system],
                              'end' if crowded else 'start'))
    parts.append(_label(left, 18, 'PQ') + _label(width - 250, height - 4,
                                                 'milliseconds per image, one thread'))
    return (f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Quality against time">'
            f'{"".join(parts)}</svg>')


def picture_grid(results: Sequence[Result], folder: Path = RESULTS) -> Optional[np.ndarray]:
    """Return images, ground truth and results of each system in columns; None without results.

    Raises AdaptisError if the scenes do not exist.
    """
    paths = [folder / f'{r["system"]}.jpg' for r in results]
    if not all(path.is_file() for path in paths):
        return None
    columns = [cv2.imread(str(path))[:, :, ::-1] for path in paths]
    columns = [*pictures.truth(FOLDER / f'{SYSTEMS[0]}.yaml'), *columns]
    titles = ['image', 'ground truth', *(TITLES[r['system']] for r in results)]
    return np.hstack([_titled(title, column) for title, column in zip(titles, columns)])


def main(arguments: Optional[list[str]] = None) -> int:
    """Write the report; returns 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(prog='python -m experiments.side_by_side.report',
                                     description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--results', type=Path, default=RESULTS)
    parser.add_argument('--html', type=Path, default=RESULTS / 'report.html')
    parser.add_argument('--markdown', type=Path, default=RESULTS / 'report.md')
    args = parser.parse_args(arguments)
    try:
        results = load_results(args.results)
        if not results:
            raise AdaptisError(f'{args.results} contains no results: run "python -m '
                               'experiments.side_by_side" first.')
        findings = args.results / 'findings.txt'
        text = findings.read_text(encoding='utf-8') if findings.is_file() else ''
        for path, content in ((args.html, page(results, text, picture_grid(results,
                                                                           args.results))),
                              (args.markdown, markdown(results))):
            with atomic_write(path) as temporary:
                temporary.write_text(content, encoding='utf-8')
            print(f'Wrote {path}.')
    except AdaptisError as error:
        print(f'report: {error}', file=sys.stderr)
        return 1
    return 0


def _published(path: Path, dataset: str) -> dict[str, float]:
    """Return each system's PQ from the row whose config is that of a data set and ResNet-50."""
    found: dict[str, float] = {}
    for system, tables in load_tables(path).items():
        for table in tables.values():
            names = [column.name for column in table.columns]
            for row in table.rows:
                if 'PQ' in names and row.config and Path(row.config).stem in (
                        f'{dataset}_r50', 'r50') and dataset in row.config:
                    value = row.published[names.index('PQ')]
                    if isinstance(value, float):
                        found.setdefault(system, value)
    return found


def _ranked(values: Mapping[str, Optional[float]], system: str) -> str:
    value = values.get(system)
    if value is None:
        return '-'
    known = sorted((v for v in values.values() if v is not None), reverse=True)
    return f'{value:.1f} ({known.index(value) + 1} of {len(known)})'


def _milliseconds(result: Result, name: str) -> Optional[float]:
    seconds = result['cost']['by_objects'].get(name)
    return None if seconds is None else 1e3 * seconds


def _text(column: Column, result: Result) -> str:
    value = column.value(result)
    return '-' if value is None else column.text.format(value)


def _html_table(table: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return '<tr>' + ''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells) + '</tr>'
    return (f'<table><thead>{row(table[0], "th")}</thead><tbody>'
            f'{"".join(row(cells, "td") for cells in table[1:])}</tbody></table>')


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="grid"/>'


def _label(x: float, y: float, text: str, anchor: str = 'start') -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _image(picture: np.ndarray) -> str:
    _, data = cv2.imencode('.jpg', np.ascontiguousarray(picture[:, :, ::-1]),
                           [cv2.IMWRITE_JPEG_QUALITY, 85])
    text = base64.b64encode(data.tobytes()).decode()
    return f'<img alt="Images segmented by each system" src="data:image/jpeg;base64,{text}">'


def _titled(title: str, column: np.ndarray) -> np.ndarray:
    head = np.full((36, column.shape[1], 3), 255, np.uint8)
    cv2.putText(head, title, (6, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2, cv2.LINE_AA)
    return np.pad(np.vstack([head, column]), ((0, 0), (0, 6), (0, 0)), constant_values=255)


if __name__ == '__main__':
    sys.exit(main())
