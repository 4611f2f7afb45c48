"""Generators of the toy data of AdaptIS (section 6 of the paper) and of street scenes.

They need only NumPy and OpenCV.

``render`` makes one image in memory, ``generate`` writes a data set, and ``degrade`` adds the blur
and noise of ToyV1's test images.
"""
from .degrade import degrade
from .settings import COUNTS, DEFAULTS, SPLITS, ToySettings, render
from .writer import generate

__all__ = ['COUNTS', 'DEFAULTS', 'SPLITS', 'ToySettings', 'degrade', 'generate', 'render']
