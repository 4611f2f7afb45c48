"""The open images and their features, within limits of memory."""
from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Any, NamedTuple

from adaptis.errors import AdaptisError
from adaptis.serve.worker import NetworkWorker


class SessionGone(AdaptisError):
    """The image is not open, or no longer open."""


class Session(NamedTuple):
    """An open image.

    Attributes
    ----------
    worker : runs the network
    predictor : holds the features of the image; use it only in the thread of ``worker``
    nbytes : memory that the features take
    """

    worker: NetworkWorker
    predictor: Any
    nbytes: float


class Sessions:
    """Open images, by an id that cannot be guessed.  The least recently used one is closed first.

    Parameters
    ----------
    most : number of images that may be open
    most_bytes : memory that their features may take; the newest image always stays open
    """

    def __init__(self, most: int, most_bytes: float):
        self._most, self._most_bytes = most, most_bytes
        self._open: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, session: Session) -> str:
        """Store a session, drop others if necessary, and return its id."""
        name = secrets.token_urlsafe(16)
        self._open[name] = session
        while len(self._open) > 1 and (len(self._open) > self._most
                                       or self.nbytes > self._most_bytes):
            self._open.popitem(last=False)
        return name

    def get(self, name: str) -> Session:
        """Return a session and mark it as just used; SessionGone if it does not exist."""
        if name not in self._open:
            raise SessionGone('This image is no longer open on the server: open it again.')
        self._open.move_to_end(name)
        return self._open[name]

    def close(self, name: str) -> None:
        """Drop a session if it still exists."""
        self._open.pop(name, None)

    @property
    def nbytes(self) -> float:
        """The memory that the features of all open images take."""
        return sum(session.nbytes for session in self._open.values())
