"""The page as a folder for any static web server; the network runs in the visitor's browser.

The folder contains the files of ``static``, with those of ``web`` in place of the engine that uses
a server; ONNX Runtime for browsers; samples; and an export of the network with its ONNX models,
which also works with ``adaptis predict --export``.
"""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable, Optional

from adaptis.deploy.folder import MANIFEST, README, Export, seal
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import sha256
from adaptis.files import PathLike, atomic_folder, read_json
from adaptis.registry import ModelFamily
from adaptis.serve.networks import ServedNetwork
from adaptis.serve.ort_web import read_ort_web

PAGE = 'web.json'
MODEL = 'model'
MAX_SIDE = 512
"""Images with a longer side are shrunk first, because browsers are slow."""

_HERE = Path(__file__).parent
_SAMPLES = 'samples'


def write_page(folder: PathLike, network: ServedNetwork, write_model: Callable[[Path], Any],
               ort_web: Optional[PathLike] = None) -> Path:
    """Write the page of one network.

    Parameters
    ----------
    folder : the folder to write; an older page is replaced, unless the folder has other files
    network : its name, its title and its samples are used
    write_model : writes the export of the network, with ONNX models, to a folder
    ort_web : the location of ONNX Runtime for browsers; see ``read_ort_web``

    First check with ``check_runs_in_browser`` that the network can run in a browser. Raises
    AdaptisError if ``folder`` has other content, or ONNX Runtime for browsers cannot be found.
    """
    runtime = read_ort_web(ort_web)   # first, because an export may take long
    with atomic_folder(folder, is_page) as new:
        write_model(new / MODEL)
        for source in (_HERE / 'static', _HERE / 'web'):   # the second has its own engine.js
            shutil.copytree(source, new, dirs_exist_ok=True)
        for name, content in runtime.items():   # many servers do not know .mjs
            (new / 'ort' / name.replace('.mjs', '.js')).write_bytes(content)
        model = {'name': network.name, 'title': network.title, 'trainedOn': network.trained_on,
                 'folder': f'{MODEL}/', 'samples': _write_samples(network, new)}
        page = {'models': [model], 'maxSide': MAX_SIDE, 'files': [*_files(new), PAGE]}
        (new / PAGE).write_text(json.dumps(page, indent=1) + '\n', encoding='utf-8')
    return Path(folder)


def is_page(folder: Path) -> bool:
    """Return whether a folder contains a page and no other files that would be lost."""
    try:
        page = read_json(folder / PAGE)
    except AdaptisError:
        return False
    known = page.get('files') if isinstance(page, dict) and 'models' in page else None
    return isinstance(known, list) and set(_files(folder)) <= set(known)


def check_runs_in_browser(family: ModelFamily, settings: Any) -> None:
    """Raise AdaptisError if a network or its settings need something that the page lacks."""
    if not family.uses_points:
        raise AdaptisError('The page segments the object at a point, which only AdaptIS networks '
                           'can do: use "adaptis predict" for this network.')
    if settings.tile is not None or settings.algorithm != 'official' or settings.official:
        raise AdaptisError('The page supports only the usual algorithm on whole images: give --set '
                           'tile=null, --set algorithm=official and --set official=false.')


def copy_onnx(export: Export, folder: Path) -> None:
    """Copy an export to a new folder with only its ONNX models.

    Raises AdaptisError if it has none, or one has changed since the export.
    """
    if not export.supports('onnxruntime'):
        raise AdaptisError(f'{export.folder} contains no ONNX models: export the network with '
                           '--format onnx or both.')
    manifest = read_json(export.folder / MANIFEST)
    if manifest.get('onnx_precision', 'float32') != 'float32':
        raise AdaptisError(f'{export.folder} contains float16 models, which are for GPUs: export '
                           'the network in float32.')
    folder.mkdir()
    files = {}
    for name, stage in manifest['stages'].items():
        model = stage['files']['onnx']
        stage['files'] = {'onnx': model}
        files[model] = manifest['files'][model]
        shutil.copyfile(export.paths[name]['onnx'], folder / model)
        if sha256(folder / model) != files[model]['sha256']:
            raise AdaptisError(f'{export.folder / model} has changed since the export: copy the '
                               'folder again.')
    manifest['files'] = files
    manifest['seal'] = seal(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + '\n', encoding='utf-8')
    if (export.folder / README).is_file():
        shutil.copyfile(export.folder / README, folder / README)


def _write_samples(network: ServedNetwork, folder: Path) -> list[dict[str, str]]:
    """Write the samples of a network; return their entries of ``web.json``."""
    entries: list[dict[str, str]] = []
    for index, name in enumerate(network.samples.names if network.samples else []):
        url = f'{_SAMPLES}/{index + 1}.png'
        (folder / _SAMPLES).mkdir(exist_ok=True)
        (folder / url).write_bytes(network.samples.png(index))
        entries.append({'name': name, 'url': url})
    return entries


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*')
                  if not path.is_dir())
