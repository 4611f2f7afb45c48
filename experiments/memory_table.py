"""Write the table of the documentation with the memory that recipes need.

    python -m experiments.memory_table            # prints the table from experiments/logs
    python -m experiments.memory_table --update   # estimates again (minutes) and writes docs/gpu.md
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from adaptis.commands.memory import GIB, Estimate, estimate
from adaptis.config import load_config
from adaptis.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
LOG = ROOT / 'experiments' / 'logs' / 'memory.json'
PAGE = ROOT / 'docs' / 'gpu.md'
BEGIN, END = '<!-- memory table -->', '<!-- end of the memory table -->'

WIDE = (800, 1333)   # COCO's usual shape; the largest batch also holds a tall image
RECIPES: tuple[tuple[str, Optional[tuple[int, int]]], ...] = (
    ('cityscapes/r50', None), ('cityscapes/x101', None), ('vistas/r50', None), ('coco/r50', None),
    ('panoptic_fpn/cityscapes_r50', None), ('panoptic_fpn/coco_r50', WIDE),
    ('panoptic_fpn/coco_r50', None), ('condinst/coco_r50_1x', WIDE),
    ('condinst/coco_r50_1x', None), ('dense_detections/cityscapes_r50', None),
    ('dense_detections/coco_r50', WIDE), ('unified/cityscapes_r50', None),
    ('unified/coco_r50', WIDE))
"""Configs and the (height, width) of a batch; None for the largest that the config allows."""
MEMORY = (12, 24, 48, 80)   # GiB
DEVICES = 4


def measure(recipe: str, size: Optional[tuple[int, int]]) -> dict[str, Any]:
    """Return a row of the log: peaks in bytes by micro_batch, on one device and on four devices."""
    config = load_config(ROOT / 'experiments' / f'{recipe}.yaml')
    one, several = (estimate(config, devices, memory, size)
                    for devices, memory in ((1, min(MEMORY)), (DEVICES, 1e9)))
    return {'recipe': recipe, 'size': one[0].size, 'one': _peaks(one), 'several': _peaks(several)}


def render(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    head = ['recipe', 'stage', 'images', 'batch', 'one GPU', f'{DEVICES} GPUs, each',
            *(f'micro_batch for {gib} GiB' for gib in MEMORY)]
    lines = [head, ['---'] * len(head)]
    for row in rows:
        several = {(peak['stage'], peak['micro_batch']): peak for peak in row['several']}
        for stage in dict.fromkeys(peak['stage'] for peak in row['one']):
            peaks = [peak for peak in row['one'] if peak['stage'] == stage]
            batch = peaks[0]['micro_batch']
            size = 'x'.join(map(str, row['size']))
            lines.append([f'`{row["recipe"]}`', stage, size, str(batch), _gib(peaks[0]),
                          _gib(several[stage, batch]), *(_fitting(peaks, m) for m in MEMORY)])
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Print the table; with ``--update``, estimate again and write the log and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--update', action='store_true', help='estimate again')
    if parser.parse_args(arguments).update:
        rows = []
        for recipe, size in RECIPES:
            rows.append(measure(recipe, size))
            print(render(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
        _write(LOG, json.dumps(rows, indent=1) + '\n')
        before, rest = PAGE.read_text(encoding='utf-8').split(BEGIN)
        _write(PAGE, f'{before}{BEGIN}\n{render(rows)}\n{END}{rest.split(END)[1]}')
    print(render(json.loads(LOG.read_text(encoding='utf-8'))))


def _peaks(found: Sequence[Estimate]) -> list[dict[str, Any]]:
    return [{'stage': each.stage, 'micro_batch': each.micro_batch, 'peak': each.peak,
             'possible': each.possible, 'fits': [m for m in MEMORY if each.fits(m)]}
            for each in found]


def _gib(peak: dict[str, Any]) -> str:
    return f'{peak["peak"] / GIB:.1f}' if peak['possible'] else 'impossible'


def _fitting(peaks: Sequence[dict[str, Any]], memory: float) -> str:
    return next((str(peak['micro_batch']) for peak in peaks if memory in peak['fits']), '-')


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
