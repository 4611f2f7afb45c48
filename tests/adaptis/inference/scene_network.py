"""A network made of tables, for the greedy algorithm's golden cases and for tiny own ones."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from adaptis.inference.encoded_image import EncodedImage, FlipAveraged
from adaptis.inference.settings import AdaptISSettings

NOT_PARAMETERS = ('scene', 'use_ignore_mask', 'use_sampling_mask', 'seed', 'gains', 'function')


class Case:
    """One golden case: its scene, settings, and what the official code answered."""

    def __init__(self, folder: Path, name: str):
        self.expected = dict(np.load(folder / f'{name}.npz'))
        self.params = json.loads(str(self.expected['params']))
        self.scene = dict(np.load(folder / f'scene_{self.params["scene"]}.npz'))
        self.function = self.params.get('function', 'get_panoptic_segmentation')
        self.ignore = self.scene['ignore_mask'] if self.params['use_ignore_mask'] else None
        self.sampling = self.scene['sampling_mask'] if self.params['use_sampling_mask'] else None
        self.calls, self.crops = [], []

    def settings(self, **changes) -> AdaptISSettings:
        official = {k: v for k, v in self.params.items() if k not in NOT_PARAMETERS}
        return AdaptISSettings.from_official(official, seed=self.params['seed'] or 0,
                                             **{'official': True, **changes})

    def encoder(self, settings: AdaptISSettings):
        """Encodes tiles of the scene's image, whose pixels tell where they are."""
        def encode(image):
            (y, x), (h, w) = image[0, 0, :2], image.shape[:2]
            number = len(self.crops)
            self.crops.append((y, x, h, w))
            gain = self.params['gains'][number % len(self.params['gains'])]
            passes = [TableImage(self, number, (int(y), int(x), h, w), gain, flipped)
                      for flipped in (False, True)]
            return FlipAveraged(*passes, settings.official) if settings.flip else passes[0]
        return encode


class TableImage(EncodedImage):
    """One pass over one tile of a scene."""

    def __init__(self, case: Case, number: int, tile, gain: float, flipped: bool):
        y, x, h, w = tile
        scene = case.scene
        self._case, self._number, self._flipped, self._gain = case, number, flipped, gain
        left = scene['index'].shape[1] - x - w if flipped else x
        here, there = np.s_[..., y:y + h, x:x + w], np.s_[..., y:y + h, left:left + w]
        mirror = slice(None, None, -1 if flipped else None)
        self.stuff_prob = scene['stuff_prob'][here][..., mirror]
        self.things_prob = scene['things_prob'][here][..., mirror]
        self.proposals_prob = scene['proposals_flip' if flipped else 'proposals'][there]
        self._index = scene['index'][here][..., mirror]
        self._table = scene['table_flip' if flipped else 'table'][there]

    def masks_at(self, points):
        masks = []
        for row, col in points.astype(int):
            self._case.calls.append((self._number, int(self._flipped), row, col))
            entry = self._index[row, min(max(col, 0), self._index.shape[1] - 1)]
            masks.append(self._table[entry].astype(np.float32) * np.float32(self._gain))
        return np.stack(masks)


class DrawnImage(EncodedImage):
    """An image whose masks are given outright: ``owner`` (H, W) tells which one a point asks for.

    ``owner`` 0 = nothing there (an empty mask).  Every call's points are kept.
    """

    def __init__(self, owner: np.ndarray, masks=None, proposals=None, num_things: int = 1):
        self.owner = owner
        labels = range(1, int(owner.max()) + 1)
        masks = [owner == k for k in labels] if masks is None else masks
        self.masks = np.stack([np.zeros_like(owner, float), *masks]).astype(np.float32) * 0.9
        thing = (owner > 0).astype(np.float32) * 0.8 + 0.1
        self.things_prob = np.stack([thing / num_things] * num_things)
        self.stuff_prob = 1 - thing[None]
        self.proposals_prob = proposals
        self.batches = []

    def masks_at(self, points):
        self.batches.append(points)
        rows, cols = points.astype(int).T
        return self.masks[self.owner[rows, np.clip(cols, 0, self.owner.shape[1] - 1)]]
