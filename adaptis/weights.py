"""Find trained networks by name: in the package, in a checkout, or downloaded once from a release.

A wheel omits files of more than 4 MB.  They are attached to the release, and downloaded from the
address in ``ADAPTIS_RELEASE`` (https, or a folder) to ``ADAPTIS_CACHE``, by default
``~/.cache/adaptis``.  A file is accepted only if its SHA-256 matches the one below.
"""
from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from adaptis.errors import AdaptisError
from adaptis.evaluation.record import sha256
from adaptis.files import PathLike, atomic_write

PACKAGE = Path(__file__).resolve().parent
PRETRAINED = {name: PACKAGE / 'pretrained' / f'{name}.params' for name in ('toy_v1', 'toy_v2')}
"""Networks in the package, by name."""
DEFAULT_CHECKPOINT = 'toy_v1'
RELEASE, CACHE = 'ADAPTIS_RELEASE', 'ADAPTIS_CACHE'
TIMEOUT = 30   # seconds without data


@dataclass(frozen=True)
class Weights:
    """A trained network that is not part of every installation.

    Attributes
    ----------
    folder : its folder in a checkout, relative to the root
    file : its file name, without extension
    megabytes : its size
    digests : extension -> SHA-256 of the parameters and of the JSON beside them
    """

    folder: str
    file: str
    megabytes: float
    digests: Mapping[str, str]


FETCHED = {
    'toy_v1_wide': Weights('experiments/pretrained', 'toy_v1_wide', 13.8, {
        '.params': 'c7c35d071b26f64a3f53de0c51125b1af5b7cca948dfbfb0708ede3394ebdeb6',
        '.json': 'b53e0c68e615baf58bcb9437e9efc1ec18a191bf892cfd69dca2b059e6865510'}),
    'toy_street': Weights('experiments/side_by_side/pretrained', 'adaptis', 23.0, {
        '.params': '3e8abe44db3a0756cf404086f84d0ebaffd4218feee247295f87d7305390fc66',
        '.json': '49d08051e913e3db98dbac8ed1941865ad779d2574dfdb88271505dd4c59335c'})}
"""Networks that a wheel leaves out, by name."""


def find_weights(checkpoint: Optional[PathLike]) -> Any:
    """Return the file of a named network; anything else is returned unchanged.

    The default network keeps its name, because it has settings of its own.
    Raises AdaptisError if the network is not found and cannot be downloaded.
    """
    name = str(checkpoint)
    if Path(name).exists() or name == DEFAULT_CHECKPOINT:
        return checkpoint
    if name in PRETRAINED:
        return PRETRAINED[name]
    if name not in FETCHED:
        return checkpoint
    weights = FETCHED[name]
    here = place_in_checkout(name)
    if here.is_file():
        return here
    for ending, digest in weights.digests.items():
        _fetch(name, weights, ending, digest)
    return _cached(name, '.params')


def weights_file(checkpoint: PathLike) -> Path:
    """Return the file of a named network; the path of any other one is returned unchanged.

    Raises AdaptisError if the network is not found and cannot be downloaded.
    """
    found = find_weights(checkpoint)
    return PRETRAINED.get(str(found), Path(found))


def place_in_checkout(name: str) -> Path:
    """Return the path of a named network's parameters in a checkout."""
    weights = FETCHED[name]
    return PACKAGE.parent / weights.folder / f'{weights.file}.params'


def _fetch(name: str, weights: Weights, ending: str, digest: str) -> None:
    target = _cached(name, ending)
    if target.is_file() and sha256(target) == digest:
        return
    release = os.environ.get(RELEASE)
    if not release:
        raise AdaptisError(
            f'The network {name} ({weights.megabytes:.0f} MB) is not in the wheel. Set {RELEASE} '
            f"to the address of the release's files, or put {name}.params and {name}.json from "
            f'there into {target.parent}.')
    source = f'{release.rstrip("/")}/{name}{ending}'
    with atomic_write(target) as temporary:
        try:
            _copy(source, temporary)
        except (OSError, ValueError) as error:   # URLError is an OSError
            raise AdaptisError(f'{source} cannot be downloaded ({_reason(error)}): check your '
                               f'connection, or put the file into {target.parent}.') from error
        if sha256(temporary) != digest:
            raise AdaptisError(f'{source} is not the file that belongs to this version (its '
                               'SHA-256 differs), so it was not kept: use the release of this '
                               'version.')


def _copy(source: str, target: Path) -> None:
    if '://' not in source:
        shutil.copyfile(source, target)
        return
    if not source.startswith('https://'):
        raise ValueError('only https is allowed')
    with urllib.request.urlopen(source, timeout=TIMEOUT) as stream, open(target, 'wb') as file:
        shutil.copyfileobj(stream, file)


def _cached(name: str, ending: str) -> Path:
    folder = os.environ.get(CACHE) or Path.home() / '.cache' / 'adaptis'
    return Path(folder) / f'{name}{ending}'


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return getattr(reason, 'strerror', None) or str(reason)
