"""Write a trained network as a folder of graphs that run without this library's network code."""
from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from adaptis import __version__, machine
from adaptis.deploy.folder import FORMAT, MANIFEST, README, format_list, is_replaceable, seal
from adaptis.deploy.readme import describe_export
from adaptis.deploy.stages import Stage, trace_symbol
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import provenance, sha256
from adaptis.files import PathLike, atomic_folder
from adaptis.inference.sidecar import taxonomy_to_list
from adaptis.model.zoo import strip_training_options, write_arrays
from adaptis.registry import find_family

PRECISIONS = ('float32', 'float16')


def export(predictor: Any, folder: PathLike, formats: str = 'both',
           source: Optional[Mapping[str, Any]] = None, precision: str = 'float32') -> Path:
    """Write the network of a predictor with everything that inference needs.

    Parameters
    ----------
    predictor : a predictor of any system; its ``settings`` and ``taxonomy`` are stored
    folder : the folder to write; an older export is replaced, unless the folder has other files
    formats : 'mxnet', 'onnx' or 'both'
    source : the origin of the network, as plain data
    precision : precision of the ONNX models: 'float32' or, for GPUs, 'float16'; inputs and outputs
        are always float32

    Raises AdaptisError for float16 without ONNX models, or if ``folder`` has other content, the
    disk is full, the onnx package is missing, or the network cannot be exported.
    """
    wanted = format_list(formats)
    if precision not in PRECISIONS or (precision == 'float16' and 'onnx' not in wanted):
        raise AdaptisError(f'The format {formats} does not support {precision}: choose float32, or '
                           'write ONNX models.')
    net = predictor.net
    if not hasattr(net, 'description'):
        raise AdaptisError('Only a network from get_model or load_model can be exported.')
    family = find_family(net.description['name'])
    facts = {'format': FORMAT, 'model': strip_training_options(net.description),
             'attributes': family.export_attributes(net),
             'taxonomy': taxonomy_to_list(predictor.taxonomy),
             'inference': dataclasses.asdict(predictor.settings)}
    facts['preprocessing'] = _preprocessing(facts['attributes'], predictor.settings)
    with atomic_folder(folder, is_replaceable) as new:
        facts['stages'] = {stage.name: _write_stage(stage, new, wanted, precision)
                           for stage in family.export_stages(net)}
        facts['onnx_precision'] = precision
        facts['files'] = {path.name: {'bytes': path.stat().st_size, 'sha256': sha256(path)}
                          for path in sorted(new.iterdir())}
        facts['seal'] = seal(facts)
        facts.update(_origin(source))
        text = json.dumps(facts, indent=1, allow_nan=False)
        (new / README).write_text(describe_export(json.loads(text)), encoding='utf-8')
        (new / MANIFEST).write_text(text + '\n', encoding='utf-8')
    return Path(folder)


def _write_stage(stage: Stage, folder: Path, formats: Sequence[str],
                 precision: str) -> dict[str, Any]:
    """Write the files of a stage; return its entry of the manifest."""
    files: dict[str, str] = {}
    symbol = trace_symbol(stage)
    if 'mxnet' in formats:
        files['symbol'] = f'{stage.name}-symbol.json'
        # MXNet's own function does not notice a full disk.
        (folder / files['symbol']).write_text(symbol.tojson(), encoding='utf-8')
        parameters = _parameters(stage, symbol)
        if parameters:
            files['parameters'] = f'{stage.name}-0000.params'
            write_arrays(folder / files['parameters'], parameters)
    if 'onnx' in formats:
        from adaptis.deploy.onnx_export import to_onnx  # needs the optional onnx package
        files['onnx'] = f'{stage.name}.onnx'
        to_onnx(stage, folder / files['onnx'], precision)
    outputs = [{'name': name, 'example': list(shape)}
               for name, shape in zip(stage.outputs, _example_outputs(stage, symbol))]
    return {'inputs': [{**s._asdict(), 'shape': list(s.shape)} for s in stage.inputs],
            'outputs': outputs, 'example': dict(stage.example), 'files': files}


def _parameters(stage: Stage, symbol: Any) -> dict[str, Any]:
    """Return a stage's parameters by their names in MXNet's parameter files."""
    parameters = stage.block.collect_params()
    inputs = {signature.name for signature in stage.inputs}
    kinds = [('arg', symbol.list_arguments()), ('aux', symbol.list_auxiliary_states())]
    return {f'{kind}:{name}': parameters[name]._reduce() for kind, names in kinds
            for name in names if name not in inputs}


def _example_outputs(stage: Stage, symbol: Any) -> list[tuple[int, ...]]:
    """Return the shapes of the outputs for the example of the stage."""
    used = set(symbol.list_arguments())
    known = {signature.name: shape for signature, shape in zip(stage.inputs, stage.example_shapes())
             if signature.name in used}
    shapes: list[tuple[int, ...]] = symbol.infer_shape(**known)[1]
    return shapes


def _preprocessing(attributes: Mapping[str, Any], settings: Any) -> dict[str, Any]:
    """Return the preprocessing of an image before the first stage."""
    color = attributes.get('mean')
    return {'layout': 'NCHW', 'batch': 1, 'colors': 'RGB', 'range': [0, 255],
            'normalization': 'inside the graph: do not apply mean and standard deviation',
            'short_side': settings.short_side, 'max_side': settings.max_side,
            'divisor': attributes.get('divisor', 1), 'min_side': attributes.get('min_side', 1),
            'padding': 'right and bottom, by repeating the border' if color is None
            else f'right and bottom, with RGB {[round(float(c), 3) for c in color]}'}


def _origin(source: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    here = provenance()
    versions = {'adaptis': __version__, **here['versions'],
                **machine.installed(('onnx', 'onnxruntime'))}
    now = datetime.datetime.now(datetime.timezone.utc)
    return {'source': dict(source or {}), 'commit': here['commit'], 'versions': versions,
            'date': now.isoformat(timespec='seconds')}
