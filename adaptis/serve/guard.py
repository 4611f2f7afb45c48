"""Access control: only the server's own page may use it, and only with the token if there is one.

Any web site can send requests to servers on the visitor's own machine.  The browser states their
origin in ``Origin`` and ``Sec-Fetch-Site``.  A site can also let its own name point to this machine
(DNS rebinding); then ``Host`` contains that name.
"""
from __future__ import annotations

import hmac
from collections.abc import Collection
from typing import Any, Optional

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response

LOOPBACK = ('localhost', '127.0.0.1', '[::1]')
API = '/api/'

# The page loads everything from this server: scripts and styles cannot request anything from
# others.
_CONTENT_POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                   "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
                   "frame-ancestors 'none'")
_HEADERS = {'Content-Security-Policy': _CONTENT_POLICY, 'X-Content-Type-Options': 'nosniff',
            'Referrer-Policy': 'no-referrer', 'Cross-Origin-Resource-Policy': 'same-origin',
            'Cross-Origin-Opener-Policy': 'same-origin', 'Cache-Control': 'no-store'}


class Guard:
    """ASGI middleware that rejects requests from elsewhere, and sets headers for the page.

    Parameters
    ----------
    app : the application
    hosts : allowed host names of the server; None = any, which is safe only with a token
    token : if given, paths that start with ``API`` need ``Authorization: Bearer <token>``
    """

    def __init__(self, app: Any, hosts: Optional[Collection[str]] = LOOPBACK,
                 token: Optional[str] = None):
        if hosts is None and token is None:
            raise ValueError('a server for any host needs a token')
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope['type'] != 'http':
            if scope['type'] == 'lifespan':
                await self._app(scope, receive, send)
            return   # there are no web sockets, so the server closes the connection
        refusal = self._refusal(Headers(scope=scope), scope['path'])

        async def send_with_headers(message: Any) -> None:
            if message['type'] == 'http.response.start':
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers, path: str) -> Optional[Response]:
        """Return the response to a rejected request; None if it is allowed."""
        host, origin = headers.get('host', ''), headers.get('origin')
        if self._hosts is not None and _name(host) not in self._hosts:
            return _refuse(403, 'The server does not accept this host name: open the address that '
                           'it printed.')
        if origin is not None and origin not in (f'http://{host}', f'https://{host}'):
            return _refuse(403, 'The server accepts requests only from its own page: open the '
                                'address that it printed.')
        if not path.startswith(API):
            return None
        if headers.get('sec-fetch-site', 'none') not in ('same-origin', 'none'):
            return _refuse(403, 'The server accepts requests only from its own page: open the '
                                'address that it printed.')
        if self._token is not None and not self._knows_token(headers):
            return _refuse(401, 'The server needs a token: open the complete address that it '
                           'printed, including the part after the #.')
        return None

    def _knows_token(self, headers: Headers) -> bool:
        given = headers.get('authorization', '').encode('latin-1')
        return hmac.compare_digest(given, f'Bearer {self._token}'.encode())


def _name(host: str) -> str:
    """Return a ``Host`` header without its port."""
    name, colon, port = host.lower().rpartition(':')
    return name if colon and port.isdigit() else host.lower()


def _refuse(status: int, sentence: str) -> Response:
    return JSONResponse({'error': sentence}, status)
