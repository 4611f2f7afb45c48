"""Random panoptic results with all difficulties of average precision."""
from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import numpy as np
from evaluation_cases import TAXONOMY

from adaptis.evaluation.ap import THRESHOLDS
from adaptis.types import Objects, PanopticResult, Segment


def scene(rng, cells=(6, 8), cell=4, empty=0.2):
    """Blocks of random objects and stuff with a few void pixels: (result, crowd ids)."""
    ids = rng.integers(1, 2 + cells[0] * cells[1] // 2, cells)
    ids[rng.random(cells) < empty] = 0
    segment_map = np.kron(ids, np.ones((cell, cell), int)).astype(np.int32)
    return listed(rng, segment_map)


def listed(rng, segment_map, categories=None):
    """Segments for a map: random categories and scores with many ties; some are crowds."""
    known = [c.id for c in TAXONOMY.categories]
    segments = []
    for i in map(int, rng.permutation(np.unique(segment_map[segment_map > 0]))):
        category = TAXONOMY.by_id((categories or {}).get(i) or int(rng.choice(known)))
        segments.append(Segment(i, category.id, category.isthing,
                                float(rng.choice([.5, .7, rng.random()])), 0))
    crowd = {s.id for s in segments if s.isthing and rng.random() < .15}
    return PanopticResult(segment_map, segments), crowd


def disturbed(rng, truth):
    """The scene as a poor network sees it: moved, holed, joined, split, of other classes."""
    seen = truth.segment_map
    if rng.random() < .5:  # else IoUs are exact fractions such as 1/2
        seen = np.roll(seen, int(rng.integers(-1, 2)), axis=int(rng.integers(2)))
        seen = np.where(rng.random(seen.shape) < .05, 0, seen)
    joined = np.arange(seen.max() + 1) - (rng.random(seen.max() + 1) < .3)
    seen = np.where(seen > 1, joined[seen], seen)
    split = rng.random(seen.max() + 1) < .2
    right = np.arange(seen.shape[1]) * 2 >= seen.shape[1]
    seen = np.where(split[seen] & right & (seen > 0), seen + seen.max(), seen).astype(np.int32)
    kept = {s.id: s.category_id for s in truth.segments if rng.random() < .9}
    return listed(rng, seen, kept)[0]


def random_images(count, seed=0, cell=4):
    """``count`` triples (truth, result, crowd); every fifth image has no object, some no result."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        truth, crowd = scene(rng, cell=cell, empty=1.0 if index % 5 == 4 else 0.2)
        found = disturbed(rng, truth)
        if index % 7 == 3:
            found = PanopticResult(np.zeros_like(found.segment_map), [])
        if index % 5 == 4:
            found = scene(rng, cell=cell)[0]
        yield truth, found, crowd


def masks_of(result):
    """(mask, segment) of each thing; of a result's ``objects`` if it has them."""
    if result.objects is None:
        return [(result.segment_map == s.id, s) for s in result.things]
    parts = zip(result.objects.masks, result.objects.scores, result.objects.category_ids)
    return [(mask, Segment(0, category, True, score, 0)) for mask, score, category in parts]


def overlapping(rng, found):
    """The same result with objects that grow into each other and come twice."""
    pairs = [pair for pair in masks_of(found) for _ in range(int(rng.integers(1, 3)))]
    masks = np.array([mask | np.roll(mask, rng.integers(-2, 3, 2), (0, 1)) for mask, _ in pairs],
                     bool).reshape(-1, *found.segment_map.shape)
    scores = rng.choice([.5, .7, .9, .95], len(pairs))
    ids = np.array([s.category_id for _, s in pairs], int)
    return replace(found, objects=Objects(masks, scores, ids))


def coco_eval_precision(triples, class_agnostic=True, max_detections=None):
    """Precision (thresholds, recalls, categories) by COCOeval on the whole data set at once.

    Every mask is kept as pycocotools' RLE, and everything but the accumulators' parameters is its
    own; also the categories.
    """
    from pycocotools import mask as rle
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    sides = [[], []]
    for image_id, (truth, found, crowd) in enumerate(triples):
        for side, result in zip(sides, (truth, found)):
            for mask, s in masks_of(result):
                if mask.any():
                    side.append({
                        'id': len(side) + 1, 'image_id': image_id, 'area': int(mask.sum()),
                        'category_id': 1 if class_agnostic else s.category_id, 'score': s.score,
                        'iscrowd': int(side is sides[0] and s.id in crowd),
                        'segmentation': rle.encode(np.asfortranarray(mask.astype(np.uint8)))})
    categories = sorted({o['category_id'] for side in sides for o in side})
    with contextlib.redirect_stdout(io.StringIO()):
        data = [COCO(), COCO()]
        for coco, objects in zip(data, sides):
            sizes = [t.segment_map.shape for t, _, _ in triples]
            coco.dataset = {'images': [{'id': i, 'height': h, 'width': w}
                                       for i, (h, w) in enumerate(sizes)],
                            'categories': [{'id': c} for c in categories], 'annotations': objects}
            coco.createIndex()
        judge = COCOeval(*data, iouType='segm')
        judge.params.iouThrs = np.array(THRESHOLDS)
        judge.params.maxDets = [max_detections or 10000]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, np.inf]], ['all']
        judge.evaluate()
        judge.accumulate()
    return categories, judge.eval['precision'][:, :, :, 0, 0]
