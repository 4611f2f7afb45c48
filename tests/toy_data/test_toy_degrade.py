"""Blur and noise."""
import cv2
import numpy as np
import pytest

from toy_data import degrade
from toy_data.degrade import REAL_BLUR, REAL_NOISE, blur, degrade_by
from toy_data.stream import Stream


def test_blur_agrees_with_opencv():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    expected = cv2.GaussianBlur(image.astype(np.float32), (9, 9), 21 / 16,
                                borderType=cv2.BORDER_REPLICATE)
    assert np.abs(blur(image, 21) - expected).max() < 1.5


def test_blur_keeps_a_flat_image():
    image = np.full((5, 4, 3), 77, np.uint8)
    assert (blur(image, 26) == 77).all()


def test_noise_is_equal_in_the_three_channels():
    image = np.full((32, 32, 3), 128, np.uint8)
    noisy = degrade_by(image, Stream((1,)), REAL_BLUR, 16 * 10)
    assert (noisy[..., :1] == noisy).all()
    assert noisy.std() > 5


@pytest.mark.parametrize('shape', [(1, 1, 3), (3, 40, 3), (96, 96, 3)])
def test_degrade_takes_a_generator_and_leaves_its_input(shape):
    image = np.full(shape, 200, np.uint8)
    noisy = degrade(image, np.random.default_rng(3))
    assert noisy.shape == shape and noisy.dtype == np.uint8
    assert (image == 200).all()
    assert (noisy == degrade(image, np.random.default_rng(3))).all()


def test_strength_varies_from_image_to_image():
    image = np.full((64, 64, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    deviations = [degrade(image, rng)[..., 0].std() for _ in range(30)]
    assert min(deviations) < 29 and max(deviations) > 37


def test_matches_the_noisy_picture_of_the_authors(shared):
    """Its white and its edges are as bright and as noisy as those made from the clear one."""
    clear, noisy = (cv2.imread(str(shared / 'toy_samples' / f'250_sample_{name}.jpg'))
                    for name in ('clear', 'noisy'))
    ours = degrade_by(clear, Stream((0,)), REAL_BLUR, REAL_NOISE)
    ours = cv2.imdecode(cv2.imencode('.jpg', ours, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], 1)
    white = cv2.erode((clear.min(axis=2) > 240).astype(np.uint8), np.ones((13, 13))) > 0
    assert abs(ours[white].mean() - noisy[white].mean()) < 1.5
    assert abs(ours[white].std() - noisy[white].std()) < 1.5
    edges = cv2.Canny(clear, 100, 200) > 0
    assert np.abs(ours[edges].mean(axis=0) - noisy[edges].mean(axis=0)).max() < 10
