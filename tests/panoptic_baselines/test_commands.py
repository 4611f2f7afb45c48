"""Crops for a detector, and official files by the commands."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.data.augment import Crop
from adaptis.data.batches import BatchSource
from adaptis.data.datasets import open_dataset
from adaptis.files import write_image
from panoptic_baselines.rcnn.targets import DetectionTargets
from tests.miniatures import write_cityscapes
from tests.panoptic_baselines.convert.test_official import arrays_of, write


def test_crops_of_photos_are_padded_with_what_is_ignored(tmp_path: Path) -> None:
    """The Cityscapes recipe (section 4.1): random scale, crop, flip, colours."""
    write_cityscapes(tmp_path, splits=('train',), size=(48, 64))
    dataset = open_dataset('cityscapes', tmp_path, 'train')
    source = BatchSource(dataset, 3, None, augmentation='cityscapes', crop_until=9,
                         crop=Crop((64, 96), (0.5, 2.0)),
                         targets=DetectionTargets(dataset.taxonomy))
    batches = [source.batch(step) for step in range(4)]
    for batch in batches:
        assert batch['image'].shape == (3, 3, 64, 96) and (batch['sizes'] == (64, 96)).all()
        assert batch['instances'].min() == 0 and batch['semantic'].min() == -1
        assert batch['instances'].max() == (batch['classes'] >= 0).sum(axis=1).max()
    assert any((batch['classes'] >= 0).any() for batch in batches)


def test_an_official_file_is_converted_and_used(tmp_path: Path,
                                                capsys: pytest.CaptureFixture) -> None:
    source, image = tmp_path / 'model.pkl', tmp_path / 'a.png'
    write(source, {name: 1e-3 * array for name, array in arrays_of().items()})
    write_image(image, np.zeros((40, 56, 3), np.uint8))
    target = str(tmp_path / 'net.params')
    assert main(['convert', str(source), target]) == 0
    assert '0 not; wrote' in capsys.readouterr().out
    arguments = [str(image), '--checkpoint', target, '--out', str(tmp_path / 'out')]
    assert main(['predict', *arguments, '--preset', 'toy', '--model', 'panoptic_fpn_r18']) == 0
    assert main(['predict', *arguments, '--model', 'mask_rcnn_r18']) == 1
    assert 'not contain mask_rcnn_r18: its semantic is True, not False' in capsys.readouterr().err
    source.write_bytes(b'\x80\x04cos\nsystem\n(S"touch /tmp/mine"\ntR.')
    assert main(['convert', str(source), str(tmp_path / 'other.params')]) == 1
    assert "is refused: it asks for 'os.system'" in capsys.readouterr().err
