"""The contact sheet."""
import cv2
import numpy as np
import pytest

from toy_data.contact_sheet import color_ids, contact_sheet, write_contact_sheet


def test_sheet_shows_real_and_generated(shared, tmp_path):
    write_contact_sheet(tmp_path / 'sheet.png', shared / 'toy_samples')
    assert (tmp_path / 'sheet.png').stat().st_size < 400_000
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    assert sheet.shape[1] == 7 * 264 and sheet.std() > 20


def test_missing_samples(tmp_path):
    with pytest.raises(ValueError, match='250_sample_clear.jpg is missing'):
        contact_sheet(tmp_path)


def test_colors_of_ids_differ():
    colors = color_ids(np.arange(256).reshape(16, 16)).reshape(-1, 3)
    assert (colors[0] == 0).all()
    assert len(np.unique(colors, axis=0)) == 256
