"""Random numbers that are the same on every machine and with every version of NumPy.

NumPy guarantees that the raw words of its bit generators and ``SeedSequence`` never change, but
not the methods of ``Generator``.  Floats that are drawn through ``log`` or ``exp`` may depend on
the C library.  So this class makes integers from raw words.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BLOCK = 256
_BYTE_SUM_MEAN = 510    # of four uniform bytes
_BYTE_SUM_STD = 147.8   # sqrt(4 * (256 ** 2 - 1) / 12)


class Stream:
    """Integers drawn from ``key``; the same key gives the same integers everywhere.

    Parameters
    ----------
    key
        Non-negative integers, for example (seed, data set, split, index).
    """

    def __init__(self, key: Sequence[int]):
        self._bits = np.random.PCG64(np.random.SeedSequence(list(key)))
        self._words: list = []

    def below(self, n: int) -> int:
        """Return a uniform integer in [0, n), ``n`` up to 2**32."""
        return (self._word() * n) >> 32

    def _word(self) -> int:
        if not self._words:
            self._words += (self._bits.random_raw(_BLOCK) >> np.uint64(32)).tolist()
        return self._words.pop()

    def between(self, low: int, high: int) -> int:
        """Return a uniform integer in [low, high]."""
        return low + self.below(high - low + 1)

    def several(self, count: int, low: int, high: int) -> list[int]:
        """Return ``count`` uniform integers in [low, high]."""
        n, words = high - low + 1, self._words
        if len(words) < count:
            return [low + (self._word() * n >> 32) for _ in range(count)]
        drawn = words[:-count - 1:-1]
        del words[-count:]
        return [low + (word * n >> 32) for word in drawn]

    def chance(self, percent: int) -> bool:
        """Return True with a probability of ``percent`` / 100."""
        return self.below(100) < percent

    def bell(self, low: int, high: int) -> int:
        """Return an integer in [low, high], bell-shaped (the mean of three uniform ones)."""
        return (sum(self.several(3, low, high)) + 1) // 3

    def shuffled(self, n: int) -> list:
        """Return the integers 0 .. n - 1 in random order."""
        order = list(range(n))
        for i in range(n - 1, 0, -1):
            j = self.below(i + 1)
            order[i], order[j] = order[j], order[i]
        return order

    def normal(self, height: int, width: int, std: int) -> np.ndarray:
        """Return nearly Gaussian integers, int32 (height, width).

        ``std`` is in sixteenths.  A value is the sum of four uniform bytes, which is bell-shaped
        up to 3.4 standard deviations.
        """
        words = self._bits.random_raw((height * width + 1) // 2)
        halves = words.astype('<u8').view('<u4')[:height * width]
        pairs = (halves & 0x00FF00FF) + (halves >> 8 & 0x00FF00FF)   # two sums of two bytes
        sums = ((pairs & 0xFFFF) + (pairs >> 16)).astype(np.int32) - _BYTE_SUM_MEAN
        factor = int(std * 65536 / (16 * _BYTE_SUM_STD) + 0.5)
        return ((sums * factor + 32768) >> 16).reshape(height, width)
