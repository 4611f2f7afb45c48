"""The HTTP interface of the page, which ``static/engine.js`` uses.

    GET    /api/models                      the networks and their samples
    GET    /samples/{model}/{number}        a sample, PNG (needs no token)
    POST   /api/images?model=NAME           open an image (the body): its features are computed GET
    /api/images/{id}/mask?x=&y=      the mask of the object at a pixel GET
    /api/images/{id}/proposals       points that the network proposes POST
    /api/images/{id}/segments        segment everything: one line of JSON per event DELETE
    /api/images/{id}                 close the image

An error is ``{"error": "one sentence"}``.
"""
from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from adaptis.errors import AdaptisError
from adaptis.serve import answers
from adaptis.serve.answers import segment_events
from adaptis.serve.guard import LOOPBACK, Guard
from adaptis.serve.networks import ServedNetwork
from adaptis.serve.sessions import Session, SessionGone, Sessions
from adaptis.serve.uploads import UploadLimits, UploadTooLarge, decode_upload, read_body, shrink
from adaptis.serve.worker import BusyError, NetworkWorker

STATIC = Path(__file__).with_name('static')

_STATUS = {UploadTooLarge: 413, SessionGone: 404, BusyError: 503}
_UPLOADS_AT_ONCE = 4
_BUG = 'An internal error occurred; see the output of the server.'


class ServeOptions(NamedTuple):
    """Limits and access settings of the server.

    Attributes
    ----------
    max_side : images whose longer side has more pixels are shrunk first
    sessions : number of images that can be open at the same time
    memory : bytes that their features may take
    upload : limits of one upload
    hosts, token : see ``Guard``
    """

    max_side: int = 512
    sessions: int = 16
    memory: float = 2 * 2 ** 30
    upload: UploadLimits = UploadLimits()
    hosts: Optional[Sequence[str]] = LOOPBACK
    token: Optional[str] = None


def make_app(networks: Sequence[ServedNetwork],
             options: Optional[ServeOptions] = None) -> Starlette:
    """Return the ASGI application.

    A network is loaded on first use.  ``app.state.load_first()`` loads the first one immediately;
    it raises AdaptisError if that fails.
    """
    options = options or ServeOptions()
    server = _Server(networks, options)
    routes = [
        Route('/api/models', server.models),
        Route('/samples/{model}/{number:int}', server.sample),
        Route('/api/images', server.open, methods=['POST']),
        Route('/api/images/{image}', server.close, methods=['DELETE']),
        Route('/api/images/{image}/mask', server.mask),
        Route('/api/images/{image}/proposals', server.proposals),
        Route('/api/images/{image}/segments', server.segments, methods=['POST']),
        Mount('/', StaticFiles(directory=STATIC, html=True)),
    ]
    guard = Middleware(Guard, hosts=options.hosts, token=options.token)
    app = Starlette(routes=routes, middleware=[guard], lifespan=server.lifespan,
                     exception_handlers={AdaptisError: _tell, HTTPException: _tell_http,
                                         Exception: _tell_bug})
    app.state.load_first = server.load_first
    return app


class _Server:
    """The state that the routes share."""

    def __init__(self, networks: Sequence[ServedNetwork], options: ServeOptions):
        self._networks = {network.name: network for network in networks}
        self._options = options
        self._workers = {network.name: NetworkWorker(network.load) for network in networks}
        self._sessions = Sessions(options.sessions, options.memory)
        self._uploads = 0
        self._decoding = threading.Lock()

    def load_first(self) -> None:
        """Load the first network; AdaptisError if that fails."""
        next(iter(self._workers.values())).submit(lambda predictor: None).result()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """End the threads of the networks with the application."""
        try:
            yield
        finally:
            for worker in self._workers.values():
                worker.close()

    async def models(self, request: Request) -> Response:
        return JSONResponse([{
            'name': network.name, 'title': network.title, 'trainedOn': network.trained_on,
            'samples': [{'name': name, 'url': f'samples/{network.name}/{number}'}
                        for number, name in enumerate(_sample_names(network))],
        } for network in self._networks.values()])

    async def sample(self, request: Request) -> Response:
        network = self._network(request.path_params['model'])
        number = request.path_params['number']
        if number >= len(_sample_names(network)):
            raise HTTPException(404, 'This sample does not exist.')
        return Response(await run_in_threadpool(network.samples.png, number),
                        media_type='image/png')

    async def open(self, request: Request) -> Response:
        network = self._network(request.query_params.get('model', ''))
        worker = self._workers[network.name]
        image = await self._uploaded(request)
        predictor = await worker.run(functools.partial(answers.open_image, image=image))
        opened = self._sessions.add(Session(worker, predictor, predictor.nbytes))
        return JSONResponse({'id': opened, 'width': image.shape[1], 'height': image.shape[0],
                             'pointProposals': predictor.has_proposals,
                             'warning': _warning(network, image, predictor.settings)})

    async def close(self, request: Request) -> Response:
        self._sessions.close(request.path_params['image'])
        return Response(status_code=204)

    async def mask(self, request: Request) -> Response:
        session = self._session(request)
        x, y = (_number(request, name) for name in 'xy')
        return JSONResponse(await session.worker.run(
            lambda _: answers.mask_at(session.predictor, x, y)))

    async def proposals(self, request: Request) -> Response:
        session = self._session(request)
        return JSONResponse(await session.worker.run(
            lambda _: answers.proposals(session.predictor)))

    async def segments(self, request: Request) -> Response:
        session = self._session(request)
        events = segment_events(session.worker, session.predictor)
        return StreamingResponse(_lines(events), media_type='application/x-ndjson')

    async def _uploaded(self, request: Request) -> np.ndarray:
        if self._uploads >= _UPLOADS_AT_ONCE:
            raise BusyError('Too many images are being uploaded: try again in a moment.')
        self._uploads += 1
        try:
            limits = self._options.upload
            body = await read_body(request.stream(), request.headers.get('content-length'), limits)
            return await run_in_threadpool(self._decode, body)
        finally:
            self._uploads -= 1

    def _decode(self, body: bytes) -> np.ndarray:
        """Return the image in an upload; one at a time, because a large one needs much memory."""
        with self._decoding:
            image = decode_upload(body, self._options.upload)
            return shrink(image, self._options.max_side)

    def _network(self, name: str) -> ServedNetwork:
        if name not in self._networks:
            raise HTTPException(404, 'The server does not offer this network: reload the page.')
        return self._networks[name]

    def _session(self, request: Request) -> Session:
        return self._sessions.get(request.path_params['image'])


def _sample_names(network: ServedNetwork) -> Sequence[str]:
    return network.samples.names if network.samples else ()


def _warning(network: ServedNetwork, image: np.ndarray, settings: Any) -> Optional[str]:
    """Return a warning if the image is unlike all training images of the network."""
    at_own_size = settings.short_side is None and settings.max_side is None
    difference = network.statistics and network.statistics.find_difference(image, at_own_size)
    return difference and ('This image is unlike all images that the network was trained on: '
                           f'{difference}. Do not trust its masks.')


def _number(request: Request, name: str) -> float:
    try:
        value = float(request.query_params[name])
    except (KeyError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise HTTPException(400, f'{name} must be a number.')
    return value


async def _lines(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    """Yield events as lines of JSON; an error is the last one, as the status is already sent."""
    try:
        async for event in events:
            yield json.dumps(event) + '\n'
    except AdaptisError as error:
        yield json.dumps({'error': str(error)}) + '\n'
    except Exception:
        logging.getLogger('uvicorn.error').exception('A segmentation failed')
        yield json.dumps({'error': _BUG}) + '\n'
    finally:
        await events.aclose()


async def _tell(request: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400)
    return JSONResponse({'error': str(error)}, status)


async def _tell_http(request: Request, error: Exception) -> Response:
    return JSONResponse({'error': str(error.detail)}, error.status_code)


async def _tell_bug(request: Request, error: Exception) -> Response:
    return JSONResponse({'error': _BUG}, 500)
