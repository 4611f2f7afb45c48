"""Results in the real libraries, each in a separate process.

PyTorch does not load beside MXNet in every environment, and labelme loads Qt.  A test skips where
the library is not installed: pip install supervision labelme label-studio-sdk torch torchmetrics
transformers.
"""
from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.slow

START = """
import sys
sys.path[:0] = [{root!r}, {here!r}]
import numpy as np
from results import SIZE, TAXONOMY, assert_same, make_result
from adaptis import interop
from adaptis.types import PanopticResult
EMPTY = PanopticResult(np.zeros(SIZE, np.int32), [])
"""


def run(program: str, folder: Path, *libraries: str) -> None:
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f'{library} is not installed')
    start = START.format(root=str(ROOT), here=str(Path(__file__).parent))
    environment = {**os.environ, 'QT_QPA_PLATFORM': 'offscreen', 'HF_HUB_OFFLINE': '1'}
    done = subprocess.run([sys.executable, '-c', start + program], cwd=folder, timeout=280,
                          capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


def test_supervision(tmp_path: Path) -> None:
    run("""
import supervision as sv
found = interop.to_supervision(make_result(), TAXONOMY)
assert len(found) == 5
areas = [s.area for s in make_result().segments]
np.testing.assert_array_equal(np.sort(found.area), np.sort(areas))
assert_same(interop.from_supervision(found, TAXONOMY))
assert_same(interop.from_supervision(found[found.confidence > 0], TAXONOMY))
cars = found[found.data['class_name'] == 'car']
assert len(cars) == 2
boxes = sv.mask_to_xyxy(np.asarray(found.mask, bool))
np.testing.assert_array_equal(found.xyxy[:, :2], boxes[:, :2])
np.testing.assert_array_equal(found.xyxy[:, 2:], boxes[:, 2:] + 1)
picture = sv.MaskAnnotator().annotate(np.zeros((*SIZE, 3), np.uint8), found)
assert picture.any()
theirs = sv.Detections(xyxy=boxes, mask=np.asarray(found.mask), confidence=found.confidence,
                       class_id=found.class_id)   # without our data
assert_same(interop.from_supervision(theirs, TAXONOMY))
assert len(interop.to_supervision(EMPTY, TAXONOMY)) == 0
assert interop.from_supervision(sv.Detections.empty(), TAXONOMY, SIZE).segments == []
""", tmp_path, 'supervision')


def test_transformers(tmp_path: Path) -> None:
    run("""
import torch
from types import SimpleNamespace
from transformers import MaskFormerImageProcessor
result, queries = make_result(), make_result().segments
classes = torch.full((1, len(queries), len(TAXONOMY) + 1), -20.0)
masks = torch.full((1, len(queries), *SIZE), -20.0)
for k, s in enumerate(queries):
    classes[0, k, TAXONOMY.index(s.category_id)] = 20.0
    masks[0, k][torch.from_numpy(result.segment_map == s.id)] = 20.0
output, = MaskFormerImageProcessor().post_process_panoptic_segmentation(
    SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks),
    label_ids_to_fuse={0, 1}, target_sizes=[SIZE])
found = interop.from_transformers(output, TAXONOMY)
# transformers gives every pixel to a query; void is only where no query was kept
void = result.segment_map == 0
found.segment_map[void] = 0
for s in found.segments:
    object.__setattr__(s, 'area', int((found.segment_map == s.id).sum()))
assert_same(found, scores=False)
mine = interop.to_transformers(result, TAXONOMY)
assert set(mine) == set(output)
assert set(mine['segments_info'][0]) == set(output['segments_info'][0])
torch.as_tensor(mine['segmentation'])
classes[...] = -20.0
classes[..., -1] = 20.0
nothing, = MaskFormerImageProcessor().post_process_panoptic_segmentation(
    SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks), target_sizes=[SIZE])
assert interop.from_transformers(nothing, TAXONOMY).segments == []
""", tmp_path, 'torch', 'transformers')


def test_torchmetrics(tmp_path: Path) -> None:
    run("""
import torch
from torchmetrics.detection import PanopticQuality as Theirs
from adaptis.evaluation.pq import PanopticQuality
truth, found = make_result(), make_result()
found.segment_map = np.roll(found.segment_map, (1, 2), axis=(0, 1))
found.segment_map[28:38, 30:50] = 31                       # a car is missed
found.segment_map[found.segment_map == 0] = 31             # see adaptis.interop.torchmetrics
pairs = [torch.from_numpy(interop.to_torchmetrics(r, TAXONOMY))[None] for r in (found, truth)]
metric = Theirs(**interop.torchmetrics_categories(TAXONOMY), allow_unknown_preds_category=True)
theirs = float(metric(*pairs))
mine = PanopticQuality(TAXONOMY)
mine.add(truth.segment_map, truth.segments, found.segment_map, found.segments)
assert 0.2 < theirs < 0.9
assert abs(theirs - mine.result()['All']['pq']) < 1e-6, (theirs, mine.result())
assert_same(interop.from_torchmetrics(pairs[1][0], TAXONOMY), scores=False)
""", tmp_path, 'torch', 'torchmetrics')


def test_labelme(tmp_path: Path) -> None:
    run("""
import cv2, json
from labelme import utils
try:
    from labelme._label_file import read_label_file
except ImportError:
    from labelme import LabelFile
    def read_label_file(name): return LabelFile(name)
cv2.imwrite('a.png', np.zeros((*SIZE, 3), np.uint8))
result = make_result()
for shape in ('polygon', 'mask'):
    content = interop.to_labelme(result, 'a.png', shape=shape)
    with open('a.json', 'w') as stream:
        json.dump(content, stream)
    shapes = read_label_file('a.json').shapes
    assert len(shapes) == len(content['shapes'])
    masks = {}
    for s in shapes:
        if shape == 'polygon':
            mask = utils.shape_to_mask(SIZE, s['points'], 'polygon')
        else:
            (x, y), (x1, y1) = np.array(s['points'], int)
            mask = np.zeros(SIZE, bool)
            mask[y:y1 + 1, x:x1 + 1] = s['mask']
        masks[s['group_id']] = masks.get(s['group_id'], False) | mask
    for segment in result.segments:
        want, have = result.segment_map == segment.id, masks[segment.id]
        iou = (want & have).sum() / (want | have).sum()
        assert iou == 1 if shape == 'mask' else iou > 0.75, (shape, segment, iou)
        # labelme's own polygons include the pixels that their outline touches
        assert not (want & ~cv2.dilate(have.astype(np.uint8), np.ones((3, 3))).astype(bool)).any()
""", tmp_path, 'labelme')


def test_label_studio(tmp_path: Path) -> None:
    run("""
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface
from adaptis.interop.label_studio_rle import decode_brush
result = make_result()
for kind in ('brush', 'polygon'):
    task = interop.to_label_studio(result, 'http://x/a.jpg', kind=kind)
    interface = LabelInterface(interop.label_config(TAXONOMY, kind=kind))
    assert interface.validate_task({'data': task['data']})
    if kind == 'polygon':
        assert interface.validate_prediction(task['predictions'][0])
    else:   # the SDK's check of brushes takes their bytes for pairs of value and count
        for region in task['predictions'][0]['result']:
            theirs = brush.decode_rle(region['value']['rle']).reshape(*SIZE, 4)[..., 3] > 0
            np.testing.assert_array_equal(
                theirs, result.segment_map == region['meta']['segment'])
            code = brush.mask2rle(theirs.astype(np.uint8) * 255)
            np.testing.assert_array_equal(decode_brush(code, SIZE), theirs)
""", tmp_path, 'label_studio_sdk')
