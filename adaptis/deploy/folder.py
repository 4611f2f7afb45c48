"""The folder of an exported network, and a predictor for it.

This module does not load MXNet or anything else that ONNX Runtime does not need.
"""
from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

from adaptis.deploy.backends import BACKENDS, MXNetRunner, OnnxRunner, Runner
from adaptis.deploy.stages import Interface, Signature
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import sha256
from adaptis.files import PathLike, read_json
from adaptis.machine import cuda_build
from adaptis.registry import find_family, import_object
from adaptis.types import Taxonomy

MANIFEST, README = 'export.json', 'README.md'
FORMAT = 1
FORMATS: dict[str, str] = {'mxnet': 'symbol', 'onnx': 'onnx'}
"""The formats, and the keys of their graphs in the manifest."""

_OF_BACKEND = {'mxnet': 'mxnet', 'onnxruntime': 'onnx'}
_SEALED = ('model', 'attributes', 'stages', 'files')
_KEYS = (*_SEALED, 'seal', 'taxonomy', 'inference')


class Export(NamedTuple):
    """The content of a manifest.

    Attributes
    ----------
    model : description of the network
    attributes : what inference needs besides the stages
    taxonomy : the meaning of its classes
    inference : inference settings
    stages : inputs and outputs of each stage
    paths : files of each stage by their type
    digests : digests of the files by name
    precision : precision of the ONNX models, 'float32' or 'float16'
    """

    folder: Path
    model: Mapping[str, Any]
    attributes: Mapping[str, Any]
    taxonomy: Taxonomy
    inference: Mapping[str, Any]
    stages: Mapping[str, Interface]
    paths: Mapping[str, Mapping[str, Path]]
    digests: Mapping[str, str]
    precision: str

    def supports(self, backend: str) -> bool:
        """Return whether the export has the files of a backend."""
        graph = FORMATS[_OF_BACKEND[backend]]
        return all(graph in paths for paths in self.paths.values())


def is_export(path: Any) -> bool:
    """Return whether a path is the folder of an exported network."""
    return path is not None and (Path(path) / MANIFEST).is_file()


def is_replaceable(folder: Path) -> bool:
    """Return whether a folder contains an export and no other files that would be lost."""
    try:
        manifest = read_json(folder / MANIFEST)
    except AdaptisError:
        return False
    files = manifest.get('files') if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or 'seal' not in manifest:
        return False
    known = {MANIFEST, README, *files}
    return all(path.name in known and path.is_file() for path in folder.iterdir())


def seal(manifest: Mapping[str, Any]) -> str:
    """Return a digest of everything that must match the graphs, except categories and settings."""
    text = json.dumps([manifest[key] for key in _SEALED], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_export(folder: PathLike) -> Export:
    """Read the manifest of an export.

    Raises AdaptisError if the folder is not an export, is incomplete, or has another version.
    """
    folder = Path(folder)
    if not is_export(folder):
        raise AdaptisError(f'{folder} is not an exported network: it has no {MANIFEST} '
                           '(see "adaptis export").')
    where = folder / MANIFEST
    manifest = read_json(where)
    if not isinstance(manifest, dict) or manifest.get('format') != FORMAT:
        found = manifest.get('format') if isinstance(manifest, dict) else None
        raise AdaptisError(f'{where} has format {found}, but this version of AdaptIS reads format '
                           f'{FORMAT}: export the network again with this version.')
    missing = [key for key in _KEYS if key not in manifest]
    if missing:
        raise AdaptisError(f'{where} has no "{missing[0]}": copy the folder again.')
    if manifest['seal'] != seal(manifest):
        raise AdaptisError(f'The description of graphs and files in {where} was changed: copy the '
                           'folder again.')
    _check_structure(where, manifest)
    _check_files(folder, manifest)
    taxonomy = Taxonomy.from_list(manifest['taxonomy'], where)
    stages = manifest['stages']
    return Export(
        folder, manifest['model'], manifest['attributes'], taxonomy, manifest['inference'],
        {name: _interface(stage) for name, stage in stages.items()},
        {name: {what: folder / file for what, file in stage['files'].items()}
         for name, stage in stages.items()},
        {name: facts['sha256'] for name, facts in manifest['files'].items()},
        manifest.get('onnx_precision', 'float32'))


def _check_structure(where: Path, manifest: Mapping[str, Any]) -> None:
    """Raise AdaptisError unless the parts of a manifest have the expected types."""
    def is_table(value: Any, *keys: str) -> bool:
        return isinstance(value, dict) and all(key in value for key in keys)

    def is_signature(value: Any) -> bool:
        return is_table(value, 'name', 'shape', 'dtype') and isinstance(value['shape'], list)

    files, stages = manifest['files'], manifest['stages']
    right = {
        'model': is_table(manifest['model']), 'attributes': is_table(manifest['attributes']),
        'inference': is_table(manifest['inference']), 'seal': isinstance(manifest['seal'], str),
        'taxonomy': isinstance(manifest['taxonomy'], list),
        'files': is_table(files) and all(is_table(facts, 'bytes', 'sha256')
                                         for facts in files.values()),
        'stages': is_table(stages) and all(
            is_table(stage, 'inputs', 'outputs', 'files') and is_table(stage['files'])
            and all(isinstance(name, str) for name in stage['files'].values())
            and all(isinstance(stage[key], list) for key in ('inputs', 'outputs'))
            and all(map(is_signature, stage['inputs']))
            and all(is_table(entry, 'name') for entry in stage['outputs'])
            for stage in stages.values())}
    for key, is_right in right.items():
        if not is_right:
            raise AdaptisError(f'{where}: its "{key}" does not have the expected form: copy the '
                               'folder again.')


def exported_settings(folder: PathLike) -> Any:
    """Return the inference settings that a network was exported with."""
    return _settings(read_export(folder))


def load_exported(folder: PathLike, backend: Optional[str] = None, ctx: Any = None,
                  settings: Any = None, taxonomy: Optional[Taxonomy] = None) -> Any:
    """Return the predictor of an exported network, for any system.

    Parameters
    ----------
    backend : one of ``BACKENDS``; by default see :func:`default_backend`
    ctx, settings : see ``adaptis.inference.predictor.Predictor.from_export``
    taxonomy : the meaning of the classes; by default that of the export

    Raises AdaptisError if the folder is not an export, one of its files has changed, or the backend
    is missing.
    """
    export = read_export(folder)
    family = _family(export)
    chosen = _settings(export) if settings is None else family.get_settings(settings)
    official = export.inference.get('official')
    if getattr(chosen, 'official', None) != official:
        raise AdaptisError(f'{export.folder} was exported with official={official}, which cannot '
                           'be changed after export: export the network again with the wanted '
                           'settings.')
    backend = backend or default_backend(export, ctx)
    runner = make_runner(export, backend, ctx)
    _check_digests(export, backend)
    make_predictor = import_object(family.exported_predictor)
    return make_predictor(runner, export.attributes, chosen, taxonomy or export.taxonomy)


def make_runner(export: Export, backend: str, ctx: Any = None) -> Runner:
    """Return the runner of an export; AdaptisError if it has no files for that backend."""
    if backend not in BACKENDS:
        raise AdaptisError(f'There is no backend "{backend}": choose one of {", ".join(BACKENDS)}.')
    if not export.supports(backend):
        raise AdaptisError(f'{export.folder} contains no files for {backend}: export the network '
                           f'with --format {_OF_BACKEND[backend]} or both, or use the other '
                           'backend.')
    if backend == 'onnxruntime':
        files = {name: paths['onnx'] for name, paths in export.paths.items()}
        return OnnxRunner(export.stages, files, _device_name(ctx))
    if isinstance(ctx, str):
        from adaptis.runtime import get_context  # loads MXNet
        ctx = get_context(ctx)
    pairs = {name: (paths['symbol'], paths.get('parameters'))
             for name, paths in export.paths.items()}
    return MXNetRunner(export.stages, pairs, ctx)


def default_backend(export: Export, ctx: Any = None) -> str:
    """Return ONNX Runtime for a CPU, where it is faster, and MXNet for a GPU.

    If only one of them is installed, or the folder has files for only one, return that one.
    Float16 models are meant for GPUs, so they are used only on request.
    """
    usable = [backend for backend in BACKENDS
              if export.supports(backend) and importlib.util.find_spec(backend) is not None]
    if len(usable) == 1:
        return usable[0]
    return 'onnxruntime' if export.precision == 'float32' and _is_cpu(ctx) else 'mxnet'


def _is_cpu(ctx: Any) -> bool:
    """Return whether a device is a CPU; 'auto' is one unless MXNet is built for GPUs."""
    if ctx == 'auto':
        return not cuda_build()
    return _device_name(ctx) == 'cpu'


def _family(export: Export) -> Any:
    try:
        return find_family(export.model.get('name'))
    except AdaptisError as error:
        raise AdaptisError(f'{export.folder / MANIFEST}: {error}') from error


def _settings(export: Export) -> Any:
    preset = next(iter(_family(export).presets.values()))   # any preset has the right class
    try:
        return preset.replace(**export.inference)
    except AdaptisError as error:
        raise AdaptisError(f'{export.folder / MANIFEST}: {error}') from error


def _interface(stage: Mapping[str, Any]) -> Interface:
    inputs = [Signature(entry['name'], tuple(entry['shape']), entry['dtype'])
              for entry in stage['inputs']]
    return Interface(tuple(inputs), tuple(entry['name'] for entry in stage['outputs']))


def _check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise AdaptisError if a file is missing, truncated, or in another folder."""
    files = manifest['files']
    used = {name for stage in manifest['stages'].values() for name in stage['files'].values()}
    for name in used - files.keys():
        raise AdaptisError(f'{folder / MANIFEST} does not list the file {name} of a stage: copy '
                           'the folder again.')
    for name, facts in files.items():
        path = folder / name
        if path.parent != folder:
            raise AdaptisError(f'{folder / MANIFEST} lists {name}, which is outside its folder: '
                               'copy the folder again.')
        if not path.is_file():
            raise AdaptisError(f'{path} is missing: copy the folder again.')
        if path.stat().st_size != facts['bytes']:
            raise AdaptisError(f'{path} has {path.stat().st_size} bytes, but it should have '
                               f'{facts["bytes"]}: copy the folder again.')


def _check_digests(export: Export, backend: str) -> None:
    """Raise AdaptisError if the content of a backend's file has changed."""
    for paths in export.paths.values():
        for what, path in paths.items():
            mine = (what == 'onnx') == (backend == 'onnxruntime')
            if mine and sha256(path) != export.digests[path.name]:
                raise AdaptisError(f'{path} has changed since the export: copy the folder again.')


def _device_name(ctx: Any) -> str:
    """Return the name of ONNX Runtime's device; MXNet's contexts and their names are accepted."""
    if isinstance(ctx, str):
        kind, _, number = ctx.partition(':')
        return 'cpu' if kind == 'cpu' and number.isdecimal() else ctx
    if ctx is None:
        return 'cpu'
    return f'gpu:{ctx.device_id}' if ctx.device_type == 'gpu' else 'cpu'


def format_list(name: str) -> list[str]:
    """Return 'mxnet', 'onnx' or 'both' as a list; AdaptisError for anything else."""
    if name not in (*FORMATS, 'both'):
        raise AdaptisError(f'There is no format "{name}": choose mxnet, onnx or both.')
    return list(FORMATS) if name == 'both' else [name]
