"""Show the short trainings as a table, and plot the curves as SVG."""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptis.errors import AdaptisError
from adaptis.evaluation.ap import TABLE_1_KEYS
from adaptis.evaluation.coco import read_json
from adaptis.files import atomic_write
from experiments.benchmarks.markdown import table
from experiments.toy_curves.history import PAPER, Point, fit_power_law

IOU = 'mean IoU at points of 100 test images'
# Text stays text, and the same records give the same file.
STYLE = {'svg.fonttype': 'none', 'svg.hashsalt': 'toy_curves', 'font.size': 9}


def read_curves(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a folder, best mean IoU first; AdaptisError if there are none."""
    records = [read_json(file) for file in sorted(folder.glob('*.json'))]
    if not records:
        raise AdaptisError(f'{folder} holds no records: run the variants first.')
    return sorted(records, key=lambda record: -record['metrics']['iou'])


def records_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return steps, masks, mean IoU and AP of each variant as a Markdown table."""
    head = ['variant', 'steps', 'masks', 'mean IoU', *TABLE_1_KEYS]
    return table(head, [[f'`{r["name"]}`',
                         f'{sum(config["instances"]["steps"] for config in r["configs"]):,}',
                         f'{r["metrics"]["points"]:,}',
                         *(f'{100 * value:.1f}' for value in (
                             r['metrics']['iou'],
                             *(r['metrics']['ap'][key] for key in TABLE_1_KEYS.values())))]
                        for r in records], numbers=True)


def plot_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Plot IoU against cost for records, in their order."""
    figure, axes = _figure()
    for number, record in enumerate(records):
        _draw_record(axes, record, '-' if number < 10 else '--')  # ten colours
    axes.set(xlabel='cost, in steps of the base', ylabel=IOU)
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5), frameon=False)
    _save(figure, path)


def plot_history(path: Path, parts: Mapping[str, Sequence[Point]],
                 wider: Collection[str] = ()) -> None:
    """Plot the error, 1 - IoU, against the masks that the network has learned from.

    Both scales are logarithmic.  A power law goes on to the paper's number.  It is fitted to all
    points but those of the runs ``wider``, which have another network.
    """
    figure, axes = _figure()
    for name, points in parts.items():
        axes.plot([p.masks for p in points], [1 - p.iou for p in points], '.-', label=name)
    law = fit_power_law([point for name, points in parts.items() for point in points
                         if name not in wider])
    first = min(points[0].masks for points in parts.values() if points)
    axes.plot([first, PAPER], [law(first), law(PAPER)], 'k:',
              label=f'power law{" without the wider network" if wider else ""}: '
                    f'IoU {1 - law(PAPER):.2f} at the end')
    axes.axvline(PAPER, color='grey', linewidth=1, label=f'the paper: {PAPER / 1e6:.1f} million')
    axes.set(xscale='log', yscale='log', xlabel='masks learned from', ylabel=f'1 - {IOU}')
    axes.grid(True, which='both', color='#e5e5e5')
    axes.legend(frameon=False)
    _save(figure, path)


def _draw_record(axes: Any, record: Mapping[str, Any], style: str) -> None:
    curve = record['curve']
    label = f'{record["name"].replace("_", " ")}: {curve[-1]["iou"]:.3f}'
    axes.plot([p['cost'] for p in curve], [p['iou'] for p in curve], style, label=label)


def _figure() -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure  # is not needed for the trainings
    except ImportError as error:
        raise AdaptisError('The plots need Matplotlib: pip install matplotlib.') from error
    figure = Figure(figsize=(7, 4.2), layout='constrained')
    return figure, figure.add_subplot()


def _save(figure: Any, path: Path) -> None:
    from matplotlib import rc_context  # _figure has found it
    with atomic_write(path) as temporary, rc_context(STYLE):
        figure.savefig(temporary, format='svg', metadata={'Date': None})
