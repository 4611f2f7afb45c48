"""Find data in COCO's formats, in the folders of COCO itself or of other tools."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from adaptis.errors import AdaptisError

KINDS = ('panoptic', 'instances')
SPLITS = ('train', 'val', 'test')
_ALIASES: dict[str, tuple[str, ...]] = {'train': ('train', 'training', 'default'),
                                        'val': ('val', 'valid', 'validation')}


class Layout(NamedTuple):
    """Where the files of a split are; ``custom`` is false for the folders of COCO 2017."""

    images: Path
    json: Path
    pngs: Path
    custom: bool
    instances: Path

    def annotation(self, kind: str) -> Path:
        """Return the JSON of one of ``KINDS``."""
        return self.instances if kind == 'instances' else self.json


class Pattern(NamedTuple):
    """Paths of a layout, relative to the root; ``pngs`` is the first candidate that exists."""

    title: str
    images: str
    panoptic: str
    pngs: tuple[str, ...]
    instances: str


_COCO_PNGS = ('panoptic_{split}2017', 'annotations/panoptic_{split}2017')
PATTERNS = (
    Pattern('your own', '{split}/images', '{split}/panoptic.json', ('{split}/panoptic',),
            '{split}/instances.json'),
    Pattern('COCO', '{split}2017', 'annotations/panoptic_{split}2017.json', _COCO_PNGS,
            'annotations/instances_{split}2017.json'),
    Pattern('COCO below images', 'images/{split}2017', 'annotations/panoptic_{split}2017.json',
            _COCO_PNGS, 'annotations/instances_{split}2017.json'),
    Pattern('Datumaro and CVAT', 'images/{split}', 'annotations/panoptic_{split}.json',
            ('annotations/panoptic_{split}',), 'annotations/instances_{split}.json'),
    Pattern('JSON in the root', 'images/{split}', 'panoptic_{split}.json', ('panoptic_{split}',),
            'instances_{split}.json'),
    Pattern('Roboflow', '{split}', '{split}/panoptic.json', ('{split}/panoptic',),
            '{split}/_annotations.coco.json'),
)
_COCO = PATTERNS[1]


def find_layout(root: Path, split: str, kind: str = 'panoptic') -> Layout:
    """Return the layout of a split; ``kind`` is the wanted annotation.

    A layout with images and that annotation is preferred, then one with the other annotation, then
    one of which anything exists.

    Raises
    ------
    AdaptisError
        If nothing of the split exists.  The message says where the split should be if another split
        exists, and lists the supported layouts otherwise.
    """
    found = try_layout(root, split, kind)
    if found is None:
        raise AdaptisError(_missing(root, split, kind))
    return found


def try_layout(root: Path, split: str, kind: str = 'panoptic') -> Optional[Layout]:
    """Do the same as :func:`find_layout`, but return None if nothing of the split exists."""
    layouts = [layout for _, layout in _candidates(root, split)]
    for kinds in ((kind,), KINDS):
        for layout in layouts:
            if layout.images.is_dir() and any(layout.annotation(k).is_file() for k in kinds):
                return layout
    for layout in layouts:   # a folder <split> alone is ambiguous, but Roboflow's contains its JSON
        images = layout.images.is_dir() and layout.images != root / split
        if images or any(layout.annotation(k).is_file() for k in KINDS):
            return layout
    return None


def describe_layouts() -> str:
    """Return the supported layouts, as part of a sentence."""
    return '; '.join(
        f'{p.title}: {p.images.format(split="train")}, with '
        f'{(p.instances if p.title == "Roboflow" else p.panoptic).format(split="train")}'
        for p in PATTERNS)


def _candidates(root: Path, split: str) -> Iterator[tuple[Pattern, Layout]]:
    for pattern in PATTERNS:
        for name in _ALIASES.get(split, (split,)):
            images, panoptic, instances, *pngs = (
                root / path.format(split=name)
                for path in (pattern.images, pattern.panoptic, pattern.instances, *pattern.pngs))
            there = next((folder for folder in pngs if folder.is_dir()), pngs[-1])
            yield pattern, Layout(images, panoptic, there, pattern is not _COCO, instances)


def _missing(root: Path, split: str, kind: str) -> str:
    for other in SPLITS:
        found = try_layout(root, other, kind) if other != split else None
        if found is not None:
            pattern = next(p for p, layout in _candidates(root, other) if layout == found)
            json = pattern.panoptic if found.json.is_file() else pattern.instances
            images, json = (root / path.format(split=split) for path in (pattern.images, json))
            return (f'{root} has the split {other} but no split {split}: {images} and {json} do '
                    'not exist. Create them, or choose a split that exists (in a config with '
                    f'data.split and data.val_split, for instance val_split: {other}).')
    return (f'{root} contains no images in a supported COCO layout. Supported are '
            f'{describe_layouts()}. For other data, use "adaptis import"; "adaptis init-config" '
            'reports what it finds.')
