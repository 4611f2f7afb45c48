"""Miniatures of the real data sets, in their original folders, with crowd, void and empty images.

The scene of image ``i`` depends on (seed, split, i): a strip of void, sky, a
building and a road, and on them persons and cars that cover each other, some pixels of void and
a crowd; the last image of a split has no object.  All data sets show the same scenes.
"""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

SPLITS = ('train', 'val', 'test')
SIZE = (96, 128)
VOID, SKY, BUILDING, ROAD, PERSON, CAR = range(6)
COLORS = np.array([(0, 0, 0), (70, 130, 180), (90, 90, 90), (128, 64, 128), (220, 20, 60),
                   (0, 60, 220)], np.uint8)


class Scene(NamedTuple):
    """``image`` uint8 (H, W, 3); ``segments`` int (H, W), 0 = void; for each segment id from 1
    on its kind (SKY .. CAR) and whether it is a crowd."""

    image: np.ndarray
    segments: np.ndarray
    kinds: list[int]
    crowd: list[bool]


def make_scene(split: str, index: int, count: int, size: tuple[int, int] = SIZE) -> Scene:
    """Scene ``index`` of ``count``."""
    rng = np.random.default_rng((SPLITS.index(split), index))
    height, width = size
    segments = np.full(size, 1, np.int32)
    segments[height // 4:height // 2] = 2
    segments[height // 2:] = 3
    kinds, crowd = [SKY, BUILDING, ROAD], [False] * 3
    if index < count - 1:
        for number in range(5):
            kinds.append(PERSON if number % 2 else CAR)
            crowd.append(number == 0)
            _paint(segments, len(kinds), rng)
    segments[:, :width // 16] = 0
    segments[-height // 16:, -width // 4:] = 0
    colors = COLORS[np.array([VOID, *kinds])[segments]].astype(int)
    noise = rng.integers(-12, 13, size + (3,)) + 7 * (segments % 5)[..., None]
    return Scene(np.clip(colors + noise, 0, 255).astype(np.uint8), segments, kinds, crowd)


def write_cityscapes(root: Path, splits: Sequence[str] = SPLITS, images: int = 3,
                     size: tuple[int, int] = SIZE) -> None:
    """Cityscapes fine: ``leftImg8bit`` and ``gtFine`` in two cities; the test truth is a dummy."""
    labels = np.array([4, 23, 11, 7, 24, 26])
    for split in splits:
        for index in range(images):
            scene = make_scene(split, index, images, size)
            kinds = np.array([VOID, *scene.kinds])
            ids = labels[kinds]
            objects = (kinds >= PERSON) & ~np.array([False, *scene.crowd])
            ids[objects] = 1000 * ids[objects] + np.arange(objects.sum())
            label_map, id_map = labels[kinds][scene.segments], ids[scene.segments]
            if split == 'test':
                label_map, id_map = np.zeros_like(label_map), np.zeros_like(id_map)
            city = ('aachen', 'zurich')[2 * index // images]
            name = f'{city}_{index:06d}_000019'
            save(root / 'leftImg8bit' / split / city / f'{name}_leftImg8bit.png', scene.image)
            truth = root / 'gtFine' / split / city
            save(truth / f'{name}_gtFine_labelIds.png', label_map.astype(np.uint8))
            save(truth / f'{name}_gtFine_instanceIds.png', id_map.astype(np.uint16))


VISTAS_LABELS = [  # name, readable, instances, evaluate, color
    ('animal--bird', 'Bird', True, True, (165, 42, 42)),
    ('construction--flat--road', 'Road', False, True, (128, 64, 128)),
    ('construction--structure--building', 'Building', False, True, (70, 70, 70)),
    ('human--person', 'Person', True, True, (220, 20, 60)),
    ('nature--sky', 'Sky', False, True, (70, 130, 180)),
    ('object--vehicle--car', 'Car', True, True, (0, 0, 142)),
    ('void--unlabeled', 'Unlabeled', False, False, (0, 0, 0)),
]
_VISTAS_KINDS = np.array([6, 4, 2, 1, 3, 5])


def write_vistas(root: Path, splits: Sequence[str] = SPLITS, images: int = 3,
                 size: tuple[int, int] = SIZE, panoptic: bool = True) -> None:
    """Mapillary Vistas v1.2 with 7 of its labels; ``panoptic=False`` leaves out those files.

    The panoptic files tell of crowds; the PNGs in ``instances`` cannot, so there a crowd is an
    object like others.
    """
    folders = {'train': 'training', 'val': 'validation', 'test': 'testing'}
    keys = ('name', 'readable', 'instances', 'evaluate', 'color')
    write_json(root / 'config.json', {
        'version': '1.2', 'mapping': 'public',
        'labels': [dict(zip(keys, label)) for label in VISTAS_LABELS]})
    for split in splits:
        folder = root / folders[split]
        records = []
        for index in range(images):
            scene = make_scene(split, index, images, size)
            stem = f'{split}-{index:04d}_x'
            save(folder / 'images' / f'{stem}.jpg', scene.image)
            if split != 'test':
                labels = _VISTAS_KINDS[[VOID, *scene.kinds]]
                numbers = [0] + [k if kind >= PERSON else 0 for k, kind in enumerate(scene.kinds)]
                ids = 256 * labels + numbers
                save(folder / 'labels' / f'{stem}.png', labels[scene.segments].astype(np.uint8))
                save(folder / 'instances' / f'{stem}.png', ids[scene.segments].astype(np.uint16))
                records.append((stem, f'{stem}.jpg', scene, labels + 1))
        if panoptic and split != 'test':
            categories = [
                {'id': i + 1, 'name': readable, 'supercategory': name, 'isthing': int(thing),
                 'color': list(color)}
                for i, (name, readable, thing, used, color) in enumerate(VISTAS_LABELS) if used]
            write_panoptic(folder / 'panoptic' / 'panoptic_2018.json', folder / 'panoptic',
                           records, categories)


COCO_CATEGORIES = [  # of the 133; ids, order and colours are COCO's
    {'supercategory': 'person', 'color': [220, 20, 60], 'isthing': 1, 'id': 1, 'name': 'person'},
    {'supercategory': 'vehicle', 'color': [0, 0, 142], 'isthing': 1, 'id': 3, 'name': 'car'},
    {'supercategory': 'outdoor', 'color': [0, 60, 100], 'isthing': 1, 'id': 6, 'name': 'bus'},
    {'supercategory': 'ground', 'color': [128, 64, 128], 'isthing': 0, 'id': 149, 'name': 'road'},
    {'supercategory': 'sky', 'color': [70, 130, 180], 'isthing': 0, 'id': 187,
     'name': 'sky-other-merged'},
    {'supercategory': 'building', 'color': [116, 112, 0], 'isthing': 0, 'id': 197,
     'name': 'building-other-merged'},
]
_COCO_KINDS = np.array([0, 187, 197, 149, 1, 3])


def write_coco(root: Path, splits: Sequence[str] = SPLITS, images: int = 3,
               size: tuple[int, int] = SIZE) -> None:
    """COCO panoptic 2017 with 6 of its categories; the test split is test-dev."""
    for split in splits:
        records = []
        for index in range(images):
            scene = make_scene(split, index, images, size)
            number = 1000 * SPLITS.index(split) + index + 9
            name = f'{number:012d}.jpg'
            save(root / f'{split}2017' / name, scene.image)
            records.append((number, name, scene, _COCO_KINDS[[VOID, *scene.kinds]]))
        annotations = root / 'annotations'
        if split == 'test':
            write_json(annotations / 'image_info_test-dev2017.json', {
                'images': [_image_json(*record[:3]) for record in records], 'categories': []})
        else:
            write_panoptic(annotations / f'panoptic_{split}2017.json',
                           annotations / f'panoptic_{split}2017', records, COCO_CATEGORIES)


def write_instances(root: Path, splits: Sequence[str] = SPLITS, images: int = 3,
                    size: tuple[int, int] = SIZE) -> None:
    """COCO instances 2017 of the images that :func:`write_coco` draws.

    Objects are polygons that overlap; the crowds are RLE, one as lengths and others as text.
    """
    from pycocotools import mask as rle
    for split in splits:
        entries: dict[str, list] = {'images': [], 'annotations': [], 'categories': [
            {key: c[key] for key in ('supercategory', 'id', 'name')}
            for c in COCO_CATEGORIES if c['isthing']]}
        for index in range(images):
            number = 1000 * SPLITS.index(split) + index + 9
            scene = make_scene(split, index, images, size)
            entries['images'].append(_image_json(number, f'{number:012d}.jpg', scene))
            for k, kind in enumerate(scene.kinds):
                if kind < PERSON:
                    continue
                mask = scene.segments == k + 1
                ys, xs = np.nonzero(mask)
                x, y = xs.min() - 0.25, ys.min() - 0.5
                w, h = xs.max() + 4.75 - x, ys.max() + 6.13 - y
                shape: Any = [[x, y, x + w, y, x + w, y + h / 2, x + w / 2, y + h, x, y + h]]
                if scene.crowd[k]:
                    shape = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
                    shape['counts'] = shape['counts'].decode('ascii')
                    if index:
                        edges = np.flatnonzero(np.diff(mask.ravel(order='F'))) + 1
                        shape['counts'] = np.diff([0, *edges, mask.size]).tolist()
                box = [round(float(v), 2) for v in (max(x, 0), max(y, 0), w, h)]
                entries['annotations'].append({
                    'id': len(entries['annotations']) + 1, 'image_id': number,
                    'category_id': int(_COCO_KINDS[kind]), 'iscrowd': int(scene.crowd[k]),
                    'segmentation': json.loads(json.dumps(shape, default=float)), 'bbox': box,
                    'area': round(float(w * h * 0.875), 2)})
        write_json(root / 'annotations' / f'instances_{split}2017.json', entries)


def write_panoptic(json_path: Path, folder: Path,
                   records: Sequence[tuple[Any, str, Scene, np.ndarray]],
                   categories: list[dict[str, Any]]) -> None:
    """COCO panoptic files of (image id, file name, scene, category id of each segment)."""
    annotations = []
    for image_id, name, scene, categories_of in records:
        png = Path(name).stem + '.png'
        ids = np.r_[0, [65536 * k + 256 + 3 * k for k in range(1, len(categories_of))]]
        picture = ids[scene.segments]
        save(folder / png, np.stack([picture >> shift & 255 for shift in (0, 8, 16)],
                                    axis=-1).astype(np.uint8))
        areas = np.bincount(scene.segments.ravel(), minlength=len(ids))
        annotations.append({'image_id': image_id, 'file_name': png, 'segments_info': [
            {'id': int(ids[k]), 'category_id': int(categories_of[k]), 'area': int(areas[k]),
             'iscrowd': int(scene.crowd[k - 1]), 'bbox': [0, 0, 1, 1]}
            for k in range(1, len(ids)) if areas[k]]})
    write_json(json_path, {'images': [_image_json(*record[:3]) for record in records],
                           'annotations': annotations, 'categories': categories})


def save(path: Path, pixels: np.ndarray) -> None:
    """Write an RGB or one-channel picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding='utf-8')


def edit_json(path: Path, change: Any) -> None:
    """Let ``change`` alter what a JSON file holds."""
    content = json.loads(path.read_text(encoding='utf-8'))
    change(content)
    write_json(path, content)


def _image_json(image_id: Any, name: str, scene: Scene) -> dict[str, Any]:
    height, width = scene.segments.shape
    return {'id': image_id, 'file_name': name, 'height': height, 'width': width}


def _paint(segments: np.ndarray, number: int, rng: np.random.Generator) -> None:
    """An upright or wide ellipse anywhere below the sky."""
    height, width = segments.shape
    center = (int(rng.integers(width // 8, width)), int(rng.integers(height // 3, height)))
    axes = (int(rng.integers(width // 16, width // 6)),
            int(rng.integers(height // 12, height // 5)))
    cv2.ellipse(segments, center, axes, 0, 0, 360, number, -1)
