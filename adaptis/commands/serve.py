"""``adaptis serve``: a web page on which people click objects and see their masks."""
from __future__ import annotations

import argparse
import contextlib
import errno
import importlib.util
import ipaddress
import re
import secrets
import socket
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from adaptis.commands.options import add_network_options, check_backend, resolve_settings
from adaptis.errors import AdaptisError
from adaptis.loading import family_of, load_predictor
from adaptis.registry import find_family
from adaptis.serve.networks import ServedNetwork, one_network, shipped_networks
from adaptis.toy_data import DEFAULTS

HELP = """Serve a web page on which you click objects and see their masks.  It offers the networks
in the package, or the one that you choose.  Nothing that you upload is written to disk."""

_EXTRA = {'starlette': 'starlette', 'uvicorn': 'uvicorn', 'PIL': 'Pillow'}
"""Modules of the extra, and the packages that contain them."""
_LEAST_TOKEN = 12   # characters
_CONNECTIONS = 128
_LAST_PORT = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_network_options(parser)
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen on; any other than the default lets other machines '
                        'use the page and needs --token (default: 127.0.0.1)')
    parser.add_argument('--port', type=int, default=8000, help='port to listen on; 0 = any free '
                                                               'port (default: 8000)')
    parser.add_argument('--open', action='store_true', help='also open the page in a browser')
    parser.add_argument('--samples', choices=tuple(DEFAULTS),
                        help='sample images to offer with --checkpoint or --export, drawn as by '
                        '"adaptis toy" (default: those that the network was trained on, if any)')
    parser.add_argument('--token', metavar='SECRET',
                        help='secret that the browser must send to use the page; "auto" generates '
                             'one')
    parser.add_argument('--max-side', type=int, default=512, metavar='PIXELS',
                        help='shrink images whose longer side exceeds this, so that masks appear '
                        'quickly; what you save has the original size (default: 512)')
    parser.add_argument('--max-upload', type=int, default=20, metavar='MIB',
                        help='maximum size of an uploaded file, in MiB (default: 20)')
    parser.add_argument('--sessions', type=int, default=16, metavar='N',
                        help='number of images that can be open at the same time; the least '
                        'recently used one is closed first (default: 16)')
    parser.add_argument('--memory', type=int, default=2048, metavar='MIB',
                        help='memory that the open images may use, in MiB (default: 2048)')


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl+C; return 0.

    Raises AdaptisError if the extra is missing, the port is in use, or a network cannot be loaded.
    """
    _check_extra()
    check_backend(args)
    if not 0 <= args.port <= _LAST_PORT:
        raise AdaptisError(f'--port must be from 0 to {_LAST_PORT}.')
    for name in ('max_side', 'max_upload', 'sessions', 'memory'):
        if getattr(args, name) < 1:
            raise AdaptisError(f'--{name.replace("_", "-")} must be at least 1.')
    token, networks = _token(args), _networks(args)
    with _listen(args.host, args.port) as listener:
        return _serve(args, networks, listener, token, _is_loopback(args.host))


def _serve(args: argparse.Namespace, networks: Sequence[ServedNetwork], listener: socket.socket,
           token: Optional[str], local: bool) -> int:
    import uvicorn  # of the extra

    # These load Starlette, which is part of the extra, too.
    from adaptis.serve.app import ServeOptions, make_app
    from adaptis.serve.guard import LOOPBACK
    from adaptis.serve.uploads import UploadLimits
    app = make_app(networks, ServeOptions(
        max_side=args.max_side, sessions=args.sessions, memory=args.memory * 2 ** 20,
        upload=UploadLimits(nbytes=args.max_upload * 2 ** 20), token=token,
        hosts={*LOOPBACK, _in_url(args.host).lower()} if local else None))
    print('Loading the network ...', flush=True)
    app.state.load_first()
    url = _url(args.host, listener.getsockname()[1], token)
    if not local:
        print(f'Everyone who can reach {args.host} and knows the token can use this page and the '
              'computer behind it. The connection is not encrypted.')
    print(f'Open {url} (Ctrl+C stops it).', flush=True)
    if args.open:
        webbrowser.open(url)
    server = uvicorn.Server(uvicorn.Config(
        app, log_level='warning', access_log=False, ws='none', server_header=False,
        limit_concurrency=_CONNECTIONS, timeout_graceful_shutdown=2))
    with contextlib.suppress(KeyboardInterrupt):   # uvicorn raises it after it has stopped
        server.run(sockets=[listener])
    return 0


def _networks(args: argparse.Namespace) -> Sequence[ServedNetwork]:
    """Return what to serve: the network that the user chose, or the included ones."""
    def load(checkpoint: Path) -> Any:
        if family_of(checkpoint) is not find_family('adaptis'):
            raise AdaptisError(f'{checkpoint} is not an AdaptIS network, and only AdaptIS finds '
                               'the object at a point.')
        named = argparse.Namespace(**{**vars(args), 'checkpoint': checkpoint})
        _, settings = resolve_settings(named, flip=bool(args.flip), tile=None)
        return load_predictor(checkpoint, settings, args.ctx, backend=args.backend)

    if args.checkpoint is not None:
        return [one_network(args.checkpoint, load, args.samples)]
    return shipped_networks(load)


def _check_extra() -> None:
    missing = [package for module, package in _EXTRA.items()
               if importlib.util.find_spec(module) is None]
    if missing:
        raise AdaptisError(f'The page needs {" and ".join(missing)}: run python -m pip install '
                           f'{" ".join(missing)}, or in the source tree python -m pip install -e '
                           '".[serve]".')


def _token(args: argparse.Namespace) -> Optional[str]:
    """Return the token; AdaptisError if other machines could use the page without one."""
    if args.token == 'auto':
        return secrets.token_urlsafe(24)
    if args.token is None and not _is_loopback(args.host):
        raise AdaptisError(f'--host {args.host} lets other machines use this page and the computer '
                           'behind it: add --token auto, so that only people who know the address '
                           'with the token can, or leave out --host.')
    if args.token is not None and not _is_token(args.token):
        raise AdaptisError(f'--token must have at least {_LEAST_TOKEN} letters, digits, - or _; '
                           '"auto" generates one.')
    return args.token


def _is_token(text: str) -> bool:
    return re.fullmatch(rf'[A-Za-z0-9_-]{{{_LEAST_TOKEN},}}', text) is not None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == 'localhost'


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; AdaptisError if the port or the host cannot be used."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AdaptisError(f'--host {host} --port {port}: {_reason(error)}.') from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise AdaptisError(f'Port {port} is in use: choose another one with --port, or 0 for '
                               'any free one.') from error
        raise AdaptisError(f'--host {host} --port {port}: {_reason(error)}.') from error
    return listener


def _reason(error: OSError) -> str:
    return str(error.strerror or error).rstrip('.')


def _url(host: str, port: int, token: Optional[str]) -> str:
    """Return the address of the page.

    The token follows a #, so that it appears in no log and in no request for a page.
    """
    if host in ('0.0.0.0', '::'):
        host = socket.gethostname()
    return f'http://{_in_url(host)}:{port}/' + (f'#token={token}' if token else '')


def _in_url(host: str) -> str:
    return f'[{host}]' if ':' in host else host
