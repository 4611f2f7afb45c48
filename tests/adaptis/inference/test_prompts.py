"""Points with labels and boxes, against masks that a stand-in for the network gives."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.inference.predictor import ClickResult, Predictor
from adaptis.inference.prompts import PromptResult
from adaptis.loading import load_predictor
from toy_data import ToySettings, render

SIZE = 40, 50   # height, width
OBJECTS = {'left': np.s_[10:30, 5:20], 'right': np.s_[10:30, 20:45], 'small': np.s_[14:18, 25:30]}


class Painted(Predictor):
    """Knows where the objects of :data:`OBJECTS` are; every click finds the smallest one there."""

    def __init__(self):
        self.settings = type('Settings', (), {'mask_threshold': 0.4})()
        self._image, self._size = np.zeros((*SIZE, 3), np.uint8), SIZE
        self.asked = []

    def mask_at(self, *, x, y):
        self.asked.append(points := self._points(x, y))
        masks = np.stack([self.mask(int(row), int(col)) for row, col in points])
        return ClickResult(masks if np.ndim(x) else masks[0], None)

    @staticmethod
    def mask(row, col):
        mask = np.full(SIZE, 0.1, np.float32)
        for name in ('small', 'right', 'left'):
            inside = np.zeros(SIZE, bool)
            inside[OBJECTS[name]] = True
            if inside[row, col]:
                mask[inside] = 0.9
                return mask
        return mask


def painted(*names):
    mask = np.zeros(SIZE, bool)
    for name in names:
        mask[OBJECTS[name]] = True
    return mask


def test_one_point_is_the_mask_of_a_click():
    predictor = Painted()
    masks, scores, logits = predictor.predict(np.array([[7, 12]]), np.array([1]))
    assert masks.dtype == bool and masks.shape == logits.shape == (1, *SIZE)
    assert scores.dtype == logits.dtype == np.float32 and scores.shape == (1,)
    np.testing.assert_array_equal(masks[0], painted('left'))
    assert scores[0] == pytest.approx(0.9)
    click = predictor.mask_at(x=7, y=12)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits[0])), click.mask, atol=1e-6)


def test_several_points_are_one_object_and_alternatives_come_on_request():
    points = [[7, 12], [40, 20]]
    together = Painted().predict(points)
    np.testing.assert_array_equal(together.masks, [painted('left', 'right')])
    several = Painted().predict(points, multimask_output=True)
    np.testing.assert_array_equal(
        several.masks, [painted('left', 'right'), painted('left'), painted('right')])
    assert len(Painted().predict(points[:1], multimask_output=True).masks) == 1


def test_a_negative_point_takes_away_the_object_there():
    result = Painted().predict([[40, 20], [27, 16]], [1, 0])
    np.testing.assert_array_equal(result.masks[0], painted('right') & ~painted('small'))
    nothing = Painted().predict([[7, 12], [8, 13]], [1, 0])
    assert not nothing.masks.any() and nothing.scores[0] == 0
    assert np.isfinite(nothing.logits).all()


def test_a_box_asks_points_inside_and_the_mask_that_fits_is_the_answer():
    predictor = Painted()
    result = predictor.predict(box=[20, 10, 45, 30])
    assert len(predictor.asked) == 1 and len(predictor.asked[0]) == 9
    np.testing.assert_array_equal(result.masks, [painted('right')])
    assert result.scores[0] == pytest.approx(0.9)
    small = Painted().predict(box=np.array([[25, 14, 30, 18]]))   # SAM takes this shape, too
    np.testing.assert_array_equal(small.masks, [painted('small')])


def test_alternatives_of_a_box_are_different_masks_best_first():
    result = Painted().predict(box=(4, 9, 46, 31), multimask_output=True)
    np.testing.assert_array_equal(result.masks[:2], [painted('right'), painted('left')])
    assert (np.diff(result.scores) <= 0).all() and len(result.masks) <= 3


def test_a_box_cuts_the_mask_of_a_point_and_knows_negative_points():
    result = Painted().predict([[40, 20]], box=[30, 0, 50, 40])
    np.testing.assert_array_equal(np.nonzero(result.masks[0])[1].min(), 30)
    without = Painted().predict([[7, 12]], [0], box=[0, 0, 50, 40])
    np.testing.assert_array_equal(without.masks[0], painted('right'))


def test_a_box_as_small_as_a_pixel_or_partly_outside():
    assert Painted().predict(box=[7, 12, 8, 13]).masks.sum() == 1
    np.testing.assert_array_equal(Painted().predict(box=[-3, 8.5, 20, 31]).masks, [painted('left')])


@pytest.mark.parametrize('arguments, message', [
    ({}, 'prompt is empty'),
    ({'point_coords': [[1, 2]], 'point_labels': [0]}, 'prompt is empty'),
    ({'point_coords': [1, 2]}, r'\(N, 2\)'),
    ({'point_coords': np.zeros((4, 5, 3), np.uint8)}, r'set_image'),
    ({'point_coords': [[1, 2], [3]]}, 'point_coords must be numbers'),
    ({'point_coords': 'here'}, 'point_coords must be numbers'),
    ({'point_coords': [[np.nan, 2]]}, 'point_coords contains a value that is not a finite number'),
    ({'point_coords': [[50, 2]]}, 'x=50, y=2 is outside the image'),
    ({'point_coords': [[1, 2]], 'point_labels': [2]}, 'point_labels'),
    ({'point_coords': [[1, 2]], 'point_labels': [1, 1]}, 'point_labels'),
    ({'point_labels': [1], 'box': [1, 2, 3, 4]}, 'point_labels'),
    ({'box': [1, 2, 3]}, 'four numbers'),
    ({'box': [1, 2, np.inf, 4]}, 'box contains a value'),
    ({'box': [9, 2, 3, 4]}, 'no pixel of the image'),
    ({'box': [60, 2, 70, 4]}, 'no pixel of the image'),
])
def test_what_is_no_prompt_is_refused_in_a_sentence(arguments, message):
    with pytest.raises(AdaptisError, match=message):
        Painted().predict(**arguments)


def test_the_shipped_network_answers_points_and_boxes():
    image, ids = render(ToySettings.default('v1'), 'test', 0)
    predictor = load_predictor()
    with pytest.raises(AdaptisError, match='set_image'):
        predictor.predict([[1, 1]])
    predictor.set_image(image)
    truth = ids == np.argmax(np.bincount(ids[ids > 0]))   # the largest object
    rows, columns = np.nonzero(truth)
    for prompt in ({'point_coords': [[int(np.median(columns)), int(np.median(rows))]]},
                   {'box': [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]}):
        result = predictor.predict(**prompt)
        assert isinstance(result, PromptResult)
        assert (result.masks[0] & truth).sum() / (result.masks[0] | truth).sum() > 0.8
