"""The operations of a network for the page, which run in the thread of the network."""
from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any, Callable, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.inference.greedy import mean_confidence
from adaptis.inference.rescale import resize
from adaptis.serve.masks import mask_json
from adaptis.serve.worker import NetworkWorker
from adaptis.types import PanopticResult, Taxonomy

Event = dict[str, Any]

_TELL_EVERY = 0.1   # seconds between two events that only report progress


def open_image(predictor: Any, image: np.ndarray) -> Any:
    """Return a predictor that shares the network and has the features of the image."""
    own = copy.copy(predictor).set_image(image)
    if not own.has_proposals:
        own.settings = own.settings.replace(sampling='random')
    return own


def mask_at(predictor: Any, x: float, y: float) -> dict[str, Any]:
    """Return the mask of the object at a pixel, its confidence and its category."""
    mask, confidence = predictor.mask_at(x=x, y=y)
    category = predictor.category_of(mask)
    return {'score': round(confidence, 4), 'categoryId': category.id, 'name': category.name,
            'mask': mask_json(mask > predictor.settings.mask_threshold)}


def proposals(predictor: Any) -> list[dict[str, float]]:
    """Return the points that the network proposes."""
    return [{'x': round(float(x), 1), 'y': round(float(y), 1), 'score': round(float(score), 4)}
            for x, y, score in predictor.proposals()]


def segment_events(worker: NetworkWorker, predictor: Any) -> AsyncIterator[Event]:
    """Segment everything, and return the events: progress, accepted masks, and the result.

    A mask that is accepted early may lose pixels to a later one, and its class is known only at the
    end.  If the iterator is closed, the work stops soon.  Raises BusyError if too much work is
    waiting.
    """
    loop, events = asyncio.get_running_loop(), asyncio.Queue()
    stopped = threading.Event()

    def tell(event: Optional[Event]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(events.put_nowait, event)

    def work(_: Any) -> Event:
        watcher = _Watcher(worker, predictor, tell, stopped)
        return {'result': {'segments': _segments(predictor.panoptic(watch=watcher),
                                                 predictor.taxonomy)}}

    future = worker.submit(work, long=True)
    future.add_done_callback(lambda _: tell(None))
    return _iterate(events, future, stopped)


async def _iterate(events: asyncio.Queue, future: Future,
                   stopped: threading.Event) -> AsyncIterator[Event]:
    try:
        while (event := await events.get()) is not None:
            yield event
        if future.cancelled():   # the server is stopping
            raise AdaptisError('The segmentation was stopped.')
        yield future.result()
    finally:
        stopped.set()
        future.cancel()


class _StoppedError(AdaptisError):
    """The result is no longer needed."""


class _Watcher:
    """A ``greedy.Watch`` that reports each candidate to the page and lets quick jobs run."""

    def __init__(self, worker: NetworkWorker, predictor: Any, tell: Callable[[Event], None],
                 stopped: threading.Event):
        self._worker, self._predictor, self._tell = worker, predictor, tell
        self._stopped, self._found, self._told = stopped, 0, -np.inf

    def __call__(self, done: int, total: int, mask: Optional[np.ndarray]) -> None:
        if self._stopped.is_set():
            raise _StoppedError('The segmentation was stopped.')
        now = time.monotonic()
        if mask is not None or done == total or now - self._told > _TELL_EVERY:
            self._told = now
            self._tell({'progress': [int(done), int(total)]})
        if mask is not None:
            self._found += 1
            self._tell({'segment': self._segment(mask)})
        self._worker.let_pass()

    def _segment(self, mask: np.ndarray) -> dict[str, Any]:
        threshold = self._predictor.settings.mask_threshold
        mask = resize(mask, self._predictor.size)
        return {'id': self._found, 'categoryId': None, 'name': 'object', 'isthing': True,
                'score': round(mean_confidence(mask, threshold), 4),
                'mask': mask_json(mask > threshold)}


def _segments(result: PanopticResult, taxonomy: Taxonomy) -> list[dict[str, Any]]:
    return [{'id': segment.id, 'categoryId': segment.category_id,
             'name': taxonomy.by_id(segment.category_id).name, 'isthing': segment.isthing,
             'score': round(segment.score, 4),
             'mask': mask_json(result.segment_map == segment.id)} for segment in result.segments]
