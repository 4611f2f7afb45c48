"""Evaluation of the network of a run: quick during training, complete at the end."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from adaptis.config import TrainConfig, ValidationConfig
from adaptis.data.batches import BatchSource
from adaptis.data.resize import resize_sample
from adaptis.errors import AdaptisError
from adaptis.evaluation.run import Evaluator
from adaptis.evaluation.segments import sample_truth
from adaptis.inference.rescale import network_size, resize
from adaptis.inference.settings import AdaptISSettings
from adaptis.loading import inference_settings
from adaptis.progress import open_bar
from adaptis.registry import ModelFamily, find_family
from adaptis.runtime import mx
from adaptis.types import Sample
from adaptis.viz import contact_sheet, result_row

PICTURE_SIDE = 512


class FirstSamples:
    """The first ``count`` samples of a data set.

    With ``settings``, they have the size of the network's input.
    """

    def __init__(self, dataset: Sequence[Sample], count: int,
                 settings: Optional[AdaptISSettings] = None):
        self._dataset = dataset
        self._count = min(count, len(dataset))
        self._settings = settings

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        if self._settings is None:
            return sample
        return resize_sample(sample, network_size(sample.image.shape[:2], self._settings))


class PointValidation:
    """Measures 'iou' and 'semantic_accuracy' of a network when called.

    The points are drawn once per object and stay the same for the whole run.  The images are not
    cropped, and are rescaled if ``settings`` say so.
    """

    def __init__(self, dataset: Sequence[Sample], config: ValidationConfig, context: Any,
                 settings: Optional[AdaptISSettings] = None):
        self._source = BatchSource(FirstSamples(dataset, config.images, settings), batch_size=1,
                                   points=config.points, shuffle=False)
        self._context = context

    def __call__(self, net: Any) -> dict[str, float]:
        ious: list[float] = []
        right = counted = 0
        for step in range(len(self._source)):
            batch = self._source.batch(step)
            image, points = (mx.nd.array(batch[key], ctx=self._context, dtype='float32')
                             for key in ('image', 'points'))
            instances, semantic = (output.astype('float32', copy=False)  # NumPy has no bfloat16
                                   for output in net(image, points)[:2])
            ious += _ious(instances.asnumpy() > 0, batch['instances'])
            labels = batch['semantic']
            valid = labels >= 0
            right += int(((semantic.argmax(axis=1).asnumpy() == labels) & valid).sum())
            counted += int(valid.sum())
        if not ious:
            raise AdaptisError('The validation images contain no object: increase '
                               'validation.images.')
        return {'iou': float(np.mean(ious)), 'semantic_accuracy': right / max(counted, 1)}


def _ious(predicted: np.ndarray, target: np.ndarray) -> list[float]:
    """Return the IoU of (M, 1, H, W) bool masks with {1, 0, -1}, except where all labels are -1."""
    result = []
    for mask, truth in zip(predicted, target):
        valid = truth >= 0
        if valid.any():
            union = ((mask | (truth > 0)) & valid).sum()
            result.append(float((mask & (truth > 0)).sum() / max(union, 1)))
    return result


class ResultValidation:
    """Measures 'pq', 'ap' and 'miou', in [0, 1], of a network without points when called.

    Only the metrics that apply to the network are returned.
    """

    def __init__(self, dataset: Any, config: ValidationConfig, family: ModelFamily, settings: Any):
        self._samples = FirstSamples(dataset, config.images)
        self._taxonomy, self._family, self._settings = dataset.taxonomy, family, settings

    def __call__(self, net: Any) -> dict[str, float]:
        predictor = self._family.make_predictor(net, self._settings, self._taxonomy, ())
        evaluator = Evaluator(self._taxonomy)
        for index in range(len(self._samples)):
            sample = self._samples[index]
            evaluator.add_sample(index, sample,
                                 self._family.evaluation_result(predictor.set_image(sample.image)))
        result = evaluator.result()
        every = {'ap': result['ap']['ap']}
        if 'pq' in result:   # missing if the annotation has only things
            every.update(pq=result['pq']['All']['pq'], miou=result['miou']['miou'])
        return {name: every[name] for name in self._family.metrics(net)
                if name in every and not np.isnan(every[name])}


class Preview:
    """Draws a picture of a network's results after a stage when called.

    Each row has the image, the proposals (once they are trained), the predicted objects and the
    ground truth.
    """

    def __init__(self, dataset: Any, settings: Any, images: int = 3,
                 family: Optional[ModelFamily] = None):
        self._samples = [dataset[i] for i in range(min(images, len(dataset)))]
        self._settings, self._taxonomy = settings, dataset.taxonomy
        self._family = family or find_family('adaptis')

    def __call__(self, net: Any, stage: str) -> np.ndarray:
        predictor = self._family.make_predictor(net, self._settings, self._taxonomy, [stage])
        rows = []
        for sample in self._samples:
            result = predictor.set_image(sample.image).panoptic()
            proposals = predictor.proposal_map() if stage == 'proposals' else None
            truth, _ = sample_truth(sample, self._taxonomy)
            row = result_row(sample.image, result, proposals, truth, self._taxonomy)
            rows.append([_fit(picture) for picture in row])
        return contact_sheet(rows)


def _fit(picture: np.ndarray) -> np.ndarray:
    """Return an image of a convenient size: small ones are doubled, large ones shrunk."""
    longest = max(picture.shape[:2])
    if longest <= PICTURE_SIDE // 2:
        return picture.repeat(2, axis=0).repeat(2, axis=1)
    factor = min(PICTURE_SIDE / longest, 1.0)
    height, width = (max(round(side * factor), 1) for side in picture.shape[:2])
    return resize(picture, (height, width))


def evaluate_network(net: Any, dataset: Any, config: TrainConfig,
                     images: Optional[int] = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all metrics on the first ``images`` (None = all) of a data set, and the settings.

    The settings are those for ``make_record``.  The points of AdaptIS come from the proposal branch
    if the config trains it, and are random otherwise.
    """
    samples = FirstSamples(dataset, images or len(dataset))
    net.hybridize()  # the shape-free graph is faster for inference
    family = find_family(config.model['name'])
    predictor = family.make_predictor(net, inference_settings(config), dataset.taxonomy,
                                      [name for name, _ in config.stages()])
    evaluator = Evaluator(dataset.taxonomy, cityscapes=config.data.dataset == 'cityscapes',
                          coco=config.data.dataset == 'coco')
    for index in open_bar(range(len(samples)), desc='evaluation', unit='image'):
        sample = samples[index]
        result = family.evaluation_result(predictor.set_image(sample.image))
        evaluator.add_sample(index, sample, result)
    settings = {'dataset': config.data.dataset, 'data': config.data.root,
                'split': config.data.val_split, 'limit': images,
                'inference': dataclasses.asdict(predictor.settings)}
    return evaluator.result(), settings
