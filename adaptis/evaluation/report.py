"""Format metrics as text."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from adaptis.evaluation.ap import TABLE_1_KEYS
from adaptis.evaluation.clicks import MEASURES, WHERE


def format_metrics(metrics: Mapping[str, Any], per_class: bool = False) -> str:
    """Return the result of ``Evaluator.result`` as a few lines; percentages, '-' if undefined.

    ``per_class`` adds a table with a line for each class.
    """
    lines = _quality(metrics['pq']) if 'pq' in metrics else []
    shown = {'AP': 'ap', **TABLE_1_KEYS}.items()
    for name, key in (('class-agnostic', 'ap'), ('mean of classes', 'ap_by_class')):
        if key in metrics:
            values = '  '.join(f'{n} {percent(metrics[key][k])}' for n, k in shown)
            lines.append(f'{values}  ({name})')
    if 'ap_cityscapes' in metrics:
        values = metrics['ap_cityscapes']
        lines.append(f'AP {percent(values["ap"])}  AP .5 {percent(values["ap50"])}  '
                     '(as Cityscapes defines it)')
    lines += [_detection(metrics[key], what) for key, what in (
        ('ap_coco', 'masks'), ('ap_box', 'boxes')) if key in metrics]
    lines += [_semantic(metrics[key], what) for key, what in (
        ('miou', ''),
        ('miou_panoptic', '  (from the final segments; the line above is from the semantic '
                          'branch)'))
        if key in metrics]
    if 'iiou' in metrics:
        lines.append(f'iIoU {percent(metrics["iiou"]["iiou"])}')
    objects = metrics['objects']
    images = metrics['images']
    lines.append(f'objects at IoU 0.5: {objects["found"]:,} found, {objects["missed"]:,} missed, '
                 f'{objects["false"]:,} false, in {images:,} image{"s" * (images != 1)}')
    if 'clicks' in metrics:
        lines += ['', *_click_table(metrics['clicks'])]
    if per_class:
        lines += ['', *_class_table(metrics['per_class'])]
    return '\n'.join(lines)


def _click_table(clicks: Mapping[str, Any]) -> list[str]:
    """Return the means over objects, with one line for each place of the clicks."""
    lines = [f'{"clicks":8}{"IoU":>8}{"worst":>8}{"IoU>.5":>8}{"agree":>8}']
    lines += [f'{where:8}' + ''.join(f'{percent(clicks[where][name]):>8}' for name in MEASURES)
              for where in WHERE]
    return [*lines, f'means over {clicks["objects"]:,} objects; agree = mean IoU between two masks '
                    'of one object']


def _quality(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [f'{"":8}{"PQ":>8}{"SQ":>8}{"RQ":>8}{"TP":>9}{"FP":>8}{"FN":>8}{"classes":>9}']
    for group in ('All', 'Things', 'Stuff'):
        entry = groups[group]
        scores = ''.join(f'{percent(entry[k]):>8}' for k in ('pq', 'sq', 'rq'))
        lines.append(f'{group:8}{scores}{entry["tp"]:>9}{entry["fp"]:>8}{entry["fn"]:>8}'
                     f'{entry["n"]:>9}')
    return [*lines, '']


def _detection(scores: Mapping[str, Any], what: str) -> str:
    shown = {'AP': 'ap', 'AP50': 'ap50', 'AP75': 'ap75', 'small': 'ap_small',
             'medium': 'ap_medium', 'large': 'ap_large', 'AR 1': 'ar1', '10': 'ar10',
             '100': 'ar100'}
    values = '  '.join(f'{name} {percent(scores[key])}' for name, key in shown.items())
    return f'{values}  ({what}, as COCO defines it)'


def _semantic(scores: Mapping[str, Any], remark: str) -> str:
    kinds = [f'  {name} {percent(scores[name])}' for name in ('stuff', 'things') if name in scores]
    frequency = f'  fIoU {percent(scores["fiou"])}' if 'fiou' in scores else ''
    return f'mIoU {percent(scores["miou"])}{"".join(kinds)}{frequency}{remark}'


def _class_table(classes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return PQ, SQ, RQ, IoU and AP of each class: stuff, then things."""
    width = max(len(name) for name in ('class', *classes))
    keys = ('pq', 'sq', 'rq', 'iou', 'ap')
    heads = ''.join(f'{head:>8}' for head in ('PQ', 'SQ', 'RQ', 'IoU', 'AP'))
    lines = [f'{"class":{width}}       {heads}']
    for name, entry in classes.items():
        kind = 'thing' if entry['isthing'] else 'stuff'
        lines.append(f'{name:{width}}  {kind}{"".join(f"{percent(entry[k]):>8}" for k in keys)}')
    return lines


def percent(value: Any) -> str:
    """Return a number in [0, 1] as a percentage with two digits; '-' for NaN."""
    return '-' if value is None or math.isnan(value) else f'{100 * value:.2f}'
