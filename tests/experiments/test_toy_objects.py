"""The tables of badly masked toy objects."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptis.evaluation.coco import write_panoptic
from adaptis.types import Category, PanopticResult, Sample, Segment, Taxonomy
from experiments import toy_objects

TAXONOMY = Taxonomy([Category(1, 'background', False), Category(2, 'object', True)])


class Images:
    """Image 7: an object of 8 pixels in two parts, and one of 64 in one part.  8 is not read."""

    taxonomy = TAXONOMY

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        assert index == 0, 'an image without a prediction is not read'
        instances = np.zeros((20, 20), np.int32)
        instances[0, 0:4] = instances[5, 0:4] = 1
        instances[10:18, 10:18] = 2
        return Sample(np.zeros((20, 20, 3), np.uint8), instances, {1: 1, 2: 1},
                      (instances > 0).astype(np.int32))

    def image_id(self, index: int) -> int:
        return (7, 8)[index]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """One part of the first object (IoU 0.5) and 48 pixels of the second (IoU 0.75)."""
    segments = np.ones((20, 20), np.int32)
    segments[0, 0:4] = 2
    segments[10:16, 10:18] = 3
    found = PanopticResult(segments, [Segment(1, 1, False, 1.0, 400 - 52),
                                      Segment(2, 2, True, 0.9, 4), Segment(3, 2, True, 0.9, 48)])
    write_panoptic(tmp_path / 'panoptic.json', tmp_path / 'panoptic', [(7, '7.png', found)],
                   TAXONOMY)
    return tmp_path


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_objects, 'open_dataset', lambda *_: Images())


def test_objects_by_pixels_and_by_parts(saved: Path, capsys: pytest.CaptureFixture) -> None:
    assert toy_objects.main([str(saved)]) == 0
    pixels, parts = (text.splitlines() for text in capsys.readouterr().out.split('\n\n'))
    assert pixels[2:] == ['| 1 to 49 | 1 | 50.0 | 50.0 | 0.0 | 0.0 | 0.0 | 0.0 |',
                          '| 50 to 99 | 1 | 50.0 | 75.0 | 100.0 | 100.0 | 0.0 | 0.0 |',
                          '| all | 2 | 100.0 | 62.5 | 50.0 | 50.0 | 0.0 | 0.0 |']
    assert [line.split(' | ')[0] for line in parts] == ['| parts', '| ---', '| 1', '| 2', '| all']
    assert parts[3] == '| 2 | 1 | 50.0 | 50.0 | 0.0 | 0.0 | 0.0 | 0.0 |'


def test_predictions_of_other_images_are_refused(tmp_path: Path, saved: Path,
                                                 capsys: pytest.CaptureFixture) -> None:
    assert toy_objects.main([str(tmp_path / 'nothing')]) == 1
    assert 'panoptic.json' in capsys.readouterr().err
    text = (saved / 'panoptic.json').read_text().replace('"image_id": 7', '"image_id": 9')
    (saved / 'panoptic.json').write_text(text.replace('"id": 7', '"id": 9'))
    assert toy_objects.main([str(saved)]) == 1
    assert 'has no prediction for an image of the data set' in capsys.readouterr().err
