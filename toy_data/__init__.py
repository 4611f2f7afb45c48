"""Generators of the toy problems of AdaptIS (section 6), and of street scenes.

Needs NumPy and OpenCV alone.

``render`` makes one picture in memory, ``generate`` writes a data set,
``degrade`` is the blur and noise of ToyV1's test pictures.
"""
from .degrade import degrade
from .settings import COUNTS, DEFAULTS, SPLITS, ToySettings, render
from .writer import generate

__all__ = ['COUNTS', 'DEFAULTS', 'SPLITS', 'ToySettings', 'degrade', 'generate', 'render']
