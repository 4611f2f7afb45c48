"""Cosines and sines of 1024 directions, rounded to multiples of 2**-12.

Sums and products of rounded values are exact, so images do not depend on the C library or on the
order of operations.
"""
from __future__ import annotations

import math

import numpy as np

DIRECTIONS = 1024     # per full turn
COS = np.round(np.cos(np.arange(DIRECTIONS) * (2 * math.pi / DIRECTIONS)) * 4096) / 4096
SIN = np.roll(COS, DIRECTIONS // 4)
