"""Names for the files that belong to an image: they keep its folders and are unique."""
from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath


def result_names(file_names: Sequence[str]) -> list[str]:
    """Return a name without extension for each image, as a relative path with "/".

    It is the image's name without its extension.  Images that would then have the same name keep
    their extensions, and get a number if that is not enough.  Upper and lower case count as the
    same, because some file systems do not distinguish them.  No name leads out of a folder.
    """
    stems = [_inside(name).with_suffix('') for name in file_names]
    counts = Counter(_key(stem) for stem in stems)
    claims = Claims()
    unique = {index for index, stem in enumerate(stems) if counts[_key(stem)] == 1}
    names = [''] * len(stems)
    # Unique names come first, so that the names of other images cannot take them.
    for index in sorted(range(len(stems)), key=lambda i: i not in unique):
        name = stems[index] if index in unique else _inside(file_names[index])
        names[index] = claims.take([name])
    return names


class Claims:
    """Names that are already taken."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def claim(self, file_name: str) -> str:
        """Return a free name: without the extension, else with it, else with a number."""
        name = _inside(file_name)
        return self.take([name.with_suffix(''), name])

    def take(self, names: Sequence[PurePosixPath]) -> str:
        """Take the first free name of these, else the last one with a number."""
        numbered = (names[-1].with_name(f'{names[-1].name}-{k}') for k in itertools.count(2))
        free = next(name for name in itertools.chain(names, numbered)
                    if _key(name) not in self._taken)
        self._taken.add(_key(free))
        return str(free)


def image_key(file_name: str) -> PurePosixPath:
    """Return the key of an image in lists of different tools: its path without extension."""
    return _inside(file_name).with_suffix('')


def _inside(file_name: str) -> PurePosixPath:
    """Return a path that cannot lead out of the folder in which it is used."""
    parts = [part for part in file_name.replace('\\', '/').split('/')
             if part not in ('', '.', '..')]
    return PurePosixPath(*parts) if parts else PurePosixPath('image')


def _key(name: PurePosixPath) -> str:
    return str(name).casefold()
