"""The images that a command line names: files, patterns, and folders with their subfolders."""
from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from adaptis import coco_json
from adaptis.coco_json import ImageId
from adaptis.errors import AdaptisError
from adaptis.files import IMAGE_SUFFIXES, PathLike, read_json
from adaptis.names import image_key


class Picture(NamedTuple):
    """An image to segment, with its id and its file name in the results."""

    path: Path
    image_id: ImageId
    file_name: str


class Inputs(NamedTuple):
    """The images, and a sentence about each file that was skipped."""

    pictures: list[Picture]
    skipped: list[str]


def find_inputs(arguments: Sequence[str], out: Optional[Path] = None,
                images_from: Optional[Path] = None) -> Inputs:
    """Return the images that the arguments name, numbered from 1.

    Parameters
    ----------
    arguments : files, folders, which are searched with their subfolders, or patterns with ``*``
    out : a folder that is not searched, because it contains results
    images_from : a COCO file whose "images" give ids and file names; images that it does not list
        are skipped

    Raises
    ------
    AdaptisError
        If an argument does not exist, there is no image, or ``images_from`` lists an image that was
        not given.
    """
    found, skipped = _found(arguments, out)
    if not found:
        raise AdaptisError(f'{" ".join(arguments)} contains no image '
                           f'({", ".join(IMAGE_SUFFIXES)}).')
    names = _names(found)
    if images_from is None:
        numbered = enumerate(zip(found, names), start=1)
        return Inputs([Picture(path, k, name) for k, (path, name) in numbered], skipped)
    listed = read_image_list(images_from)
    pictures, unlisted = _matched(list(found), names, listed, images_from)
    return Inputs(pictures, [*skipped, *(f'{path} (not in {images_from})' for path in unlisted)])


def read_image_list(path: PathLike) -> dict[ImageId, str]:
    """Return id -> file name of the images that a COCO file lists.

    Raises AdaptisError if it is missing, broken, or lists an id twice.
    """
    content = read_json(path)
    entries = content.get('images') if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise AdaptisError(f'{path} has no list "images": is it a COCO file?')
    try:
        images = {coco_json.image_id(entry, 'id'): coco_json.text(entry, 'file_name')
                  for entry in entries}
    except coco_json.ValueProblem as problem:
        raise AdaptisError(f'{path} lists an image with a wrong entry: {problem}.'
                           ) from problem
    if len(coco_json.same_ids(images)) < len(entries):
        raise AdaptisError(f'{path} lists an image id twice.')
    return images


def _found(arguments: Sequence[str], out: Optional[Path]) -> tuple[dict[Path, str], list[str]]:
    """Return path -> name relative to the folder that was given, and the skipped files."""
    found: dict[Path, str] = {}
    skipped: list[str] = []
    seen: set[Path] = set()
    for path, name, meant in _candidates(arguments, out):
        if path.resolve() in seen:
            continue   # named by two arguments
        seen.add(path.resolve())
        if meant or path.suffix.lower() in IMAGE_SUFFIXES:
            found[path] = name
        else:
            skipped.append(f'{path} (not an image)')
    return found, skipped


def _candidates(arguments: Sequence[str],
                out: Optional[Path]) -> Iterator[tuple[Path, str, bool]]:
    """Yield path, name, and whether the argument names this file itself."""
    for argument in arguments:
        exists = os.path.lexists(argument)
        matches = [argument] if exists else sorted(glob.glob(argument, recursive=True))
        if not matches:
            is_pattern = glob.escape(argument) != argument
            raise AdaptisError(f'{argument} {"matches no file" if is_pattern else "does not exist"}'
                               '.')
        for match in map(Path, matches):
            if match.is_dir():
                yield from ((path, path.relative_to(match).as_posix(), False)
                            for path in _walk(match, out))
            else:
                yield match, match.name, exists


def _walk(folder: Path, out: Optional[Path]) -> Iterator[Path]:
    """Yield the files below a folder, sorted, except hidden ones and those in ``out``."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != '.' and not (
            out is not None and Path(parent, name).resolve() == out.resolve()))
        yield from (Path(parent, name) for name in sorted(files) if name[0] != '.')


def _names(found: dict[Path, str]) -> list[str]:
    """Return the names for the results, with more folders where two would be the same."""
    if max(Counter(found.values()).values()) == 1:
        return list(found.values())
    absolute = [path.absolute() for path in found]
    common = os.path.commonpath([path.parent for path in absolute])
    return [path.relative_to(common).as_posix() for path in absolute]


def _matched(paths: list[Path], names: list[str], listed: dict[ImageId, str],
             source: Path) -> tuple[list[Picture], list[Path]]:
    """Return the images of a list, in its order, and the paths that it does not contain."""
    places = [_unique(names), _unique(map(str, map(image_key, names))),
              _unique(image_key(name).name for name in names)]
    pictures, missing = [], []
    for image_id, file_name in listed.items():
        key = image_key(file_name)
        hits = (place.get(text) for place, text in zip(places, (file_name, str(key), key.name)))
        index = next((hit for hit in hits if hit is not None), None)
        if index is None:
            missing.append(file_name)
        else:
            pictures.append(Picture(paths[index], image_id, file_name))
    used = Counter(picture.path for picture in pictures)
    unmatched = missing or [p.file_name for p in pictures if used[p.path] > 1]
    if unmatched:
        raise AdaptisError(f'{source} lists {len(listed)} images, but {len(unmatched)} of them '
                           f'cannot be matched to an image of their own, such as {unmatched[0]}: '
                           'give all images, in folders if their names are not unique.')
    return pictures, [path for path in paths if path not in used]


def _unique(names: Iterable[str]) -> dict[str, int]:
    """Return name -> index of the names that occur once."""
    names = list(names)
    counts = Counter(names)
    return {name: index for index, name in enumerate(names) if counts[name] == 1}
