"""What a network does for the page, in the thread of the network."""
from __future__ import annotations

import asyncio

import numpy as np
import pytest

from adaptis.serve import answers
from adaptis.serve.masks import mask_json
from adaptis.serve.worker import NetworkWorker
from tests.adaptis.serve.page import decode


class Endless:
    """A predictor whose segmentation has no end."""

    class settings:
        mask_threshold = 0.5

    size = (4, 4)

    def panoptic(self, watch):
        done = 0
        while True:
            done += 1
            watch(done, 10 ** 9, np.ones(self.size, np.float32) if done % 9 == 0 else None)


def test_a_segmentation_that_nobody_reads_ends():
    worker = NetworkWorker(Endless)

    async def read_two():
        events = answers.segment_events(worker, Endless())
        found = [await events.__anext__() for _ in range(3)]
        await events.aclose()
        return found, await asyncio.wait_for(worker.run(lambda network: 'free'), 9)

    found, after = asyncio.run(read_two())
    worker.close()
    assert [*found[0]] == ['progress'] and after == 'free'
    assert found[-1]['segment']['categoryId'] is None


@pytest.mark.parametrize('pixels', [
    np.zeros((3, 5)), np.ones((3, 5)), np.eye(4), 1 - np.eye(4), np.ones((1, 1))])
def test_masks_as_run_lengths(pixels):
    sent = mask_json(pixels > 0)
    assert sum(sent['counts']) == pixels.size
    assert np.array_equal(decode(sent), pixels > 0)


def test_run_lengths_are_those_of_coco():
    masks = pytest.importorskip('pycocotools.mask')
    pixels = np.random.default_rng(0).random((7, 9)) > 0.5
    sent = mask_json(pixels)
    encoded = masks.frPyObjects({'size': [7, 9], 'counts': sent['counts']}, 7, 9)
    assert np.array_equal(masks.decode(encoded), pixels)
