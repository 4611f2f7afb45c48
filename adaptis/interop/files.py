"""Files for tools that correct annotations, written beside the results of ``adaptis predict``."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from adaptis.errors import AdaptisError
from adaptis.files import PathLike, atomic_write
from adaptis.interop import FILE_FORMATS
from adaptis.interop.label_studio import label_config, to_label_studio
from adaptis.interop.labelme import to_labelme
from adaptis.types import PanopticResult, Taxonomy


class ResultFiles:
    """Writes results for a tool; a context manager.

    ``labelme``
        ``labelme/NAME.json`` for each image, which refers to the image at its place.  Open the
        folder with ``labelme``.
    ``label-studio``
        ``label_studio.json`` with a task for each image, and ``label_config.xml``, the labelling
        interface.  The images are referred to as ``/data/local-files/?d=PATH``, Label Studio's
        address for local files, with their absolute paths.

    Parameters
    ----------
    folder : created if needed
    taxonomy : the categories of the results
    format : one of ``FILE_FORMATS``

    Raises AdaptisError for another format, or if a file cannot be written.
    """

    def __init__(self, folder: PathLike, taxonomy: Taxonomy, format: str):
        if format not in FILE_FORMATS:
            raise AdaptisError(f'There is no format "{format}": choose from '
                               f'{", ".join(FILE_FORMATS)}.')
        self._folder, self._taxonomy, self._format = Path(folder), taxonomy, format
        self._tasks: list[dict[str, Any]] = []

    def add(self, image: PathLike, name: str, result: PanopticResult) -> None:
        """Write the result of an image file to a file with this ``name``, without extension."""
        self.write(name, self.encode(image, name, result))

    def encode(self, image: PathLike, name: str, result: PanopticResult) -> dict[str, Any]:
        """Return what :meth:`write` writes; this can run in any process.  See :meth:`add`."""
        if self._format == 'labelme':
            folder = self._target(name).parent
            where = os.path.relpath(image, folder).replace(os.sep, '/')
            return to_labelme(result, where, self._taxonomy)
        path = Path(image).resolve().as_posix().lstrip('/')
        return to_label_studio(result, f'/data/local-files/?d={path}', self._taxonomy)

    def write(self, name: str, encoded: dict[str, Any]) -> None:
        """Write a result that :meth:`encode` has encoded."""
        if self._format == 'labelme':
            _write_json(self._target(name), encoded)
        else:
            self._tasks.append(encoded)

    def close(self) -> None:
        """Write the files that cover all images."""
        if self._format == 'label-studio':
            _write_json(self._folder / 'label_studio.json', self._tasks)
            with atomic_write(self._folder / 'label_config.xml') as temporary:
                temporary.write_text(label_config(self._taxonomy), encoding='utf-8')

    def _target(self, name: str) -> Path:
        return self._folder / 'labelme' / f'{name}.json'

    def __enter__(self) -> ResultFiles:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content), encoding='utf-8')
