"""IoU at fixed points, with synthetic masks."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from toy_setup import write_samples

from adaptis.config import ValidationConfig
from adaptis.data.toy import ToyDataset
from adaptis.engine.validation import FirstSamples, PointValidation, _ious
from adaptis.errors import AdaptisError
from adaptis.inference.settings import AdaptISSettings
from adaptis.runtime import mx


def test_iou_leaves_ignored_pixels_and_masks_out() -> None:
    truth = np.array([[[1, 1, 0, 0]], [[1, -1, 0, -1]], [[-1, -1, -1, -1]]])[:, None]
    found = np.array([[[1, 0, 1, 0]], [[1, 1, 0, 1]], [[1, 1, 1, 1]]], bool)[:, None]
    assert _ious(found, truth) == [pytest.approx(1 / 3), 1.0]


def test_a_network_that_is_always_right_scores_one(tmp_path: Path) -> None:
    dataset = ToyDataset(write_samples(tmp_path / 'test', 5), 'test')

    class Oracle:
        """Knows the image by its pixels; answers with the mask of the object at the point."""

        def __call__(self, image: Any, points: Any) -> tuple:
            pixels = image.asnumpy()[0].transpose(1, 2, 0)
            sample = next(s for s in (dataset[i] for i in range(5)) if (s.image == pixels).all())
            rows, cols = points.asnumpy()[0].astype(int).T
            masks = sample.instances[None] == sample.instances[rows, cols][:, None, None]
            semantic = np.stack([1 - sample.semantic, sample.semantic])[None]
            return mx.nd.array(masks[:, None] * 2.0 - 1), mx.nd.array(semantic), None

    validation = PointValidation(dataset, ValidationConfig(images=3, points=4),
                                 mx.current_context())
    assert validation(Oracle()) == {'iou': 1.0, 'semantic_accuracy': 1.0}
    silent = PointValidation(dataset, ValidationConfig(images=99, points=4), mx.current_context())
    result = silent(lambda image, points: (-mx.nd.ones((4, 1, 16, 16)),
                                           mx.nd.ones((1, 2, 16, 16)), None))
    assert result['iou'] == 0.0 and 0.5 < result['semantic_accuracy'] < 1


def test_images_without_objects_cannot_validate(tmp_path: Path) -> None:
    write_samples(tmp_path / 'test', 1)
    cv2.imwrite(str(tmp_path / 'test' / '00000_im.png'), np.zeros((16, 16), np.uint16))
    validation = PointValidation(ToyDataset(tmp_path, 'test'), ValidationConfig(points=2),
                                 mx.current_context())
    with pytest.raises(AdaptisError, match='contain no object'):
        validation(lambda image, points: (mx.nd.ones((2, 1, 16, 16)), mx.nd.ones((1, 2, 16, 16))))


def test_samples_can_be_seen_at_the_size_that_the_network_sees(tmp_path: Path) -> None:
    dataset = ToyDataset(write_samples(tmp_path / 'test', 1), 'test')
    seen = FirstSamples(dataset, 1, AdaptISSettings(short_side=40))[0]
    assert seen.image.shape == (40, 40, 3)
    assert seen.instances.shape == seen.semantic.shape == (40, 40)
    assert set(np.unique(seen.instances)) == {0, 1, 2}
    np.testing.assert_array_equal(seen.semantic, seen.instances > 0)
    share = [(s.instances > 0).mean() for s in (seen, dataset[0])]
    assert share[0] == pytest.approx(share[1], abs=0.02)
    np.testing.assert_array_equal(FirstSamples(dataset, 1, AdaptISSettings())[0].image,
                                  dataset[0].image)


def test_the_first_samples_are_at_most_what_there_is() -> None:
    assert len(FirstSamples([1, 2, 3], 2)) == 2 and len(FirstSamples([1, 2, 3], 9)) == 3
