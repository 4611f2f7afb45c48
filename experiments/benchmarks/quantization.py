"""Whether 8-bit integers or bfloat16 pay off on a CPU, for the network that ships.

    python -m experiments.benchmarks quantization [--images N] [--only FORM ...] [--out FILE]

The network is exported, and the quantization tools of ONNX Runtime and MXNet rewrite the files of
its stages.  Each variant is then an ordinary export.  The ranges of activations are calibrated on
training images of the toy data, and everything is measured on test images.  A variant is worth
keeping if PQ drops by less than 0.3 and time drops by more than a third, compared with float32 on
the same backend.

All variants take turns at every image, and times are compared image by image.  Times are CPU
seconds, with one thread unless OMP_NUM_THREADS says otherwise, so they depend little on what else
runs on the machine.  Wall-clock seconds are reported as well.  So is the time of each stage with
identical inputs, because a variant that finds other masks also requests more or fewer of them.

Requires the packages onnx, onnxruntime and ml_dtypes (which its quantization tools import).  There
is no variant with bfloat16 in ONNX Runtime, which has no such convolution on CPUs, nor with entropy
calibration: in a trial, ONNX Runtime's gave the results of MinMax, and MXNet's found no object.

No variant was worth keeping (``experiments/logs/quantization_one_core.json``).  Convolutions with
16 channels gain little from integers, and batch normalization after ReLU between them is computed
in float32.  Its output channels differ: the range of a map is up to 370 times the deviation of its
median channel.  The map has a single scale, which probably causes the loss in PQ.
"""
from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import numpy as np
from tqdm import tqdm

from adaptis import machine
from adaptis.arrays import as_numpy
from adaptis.data.datasets import open_dataset
from adaptis.deploy.folder import MANIFEST, load_exported, read_export, seal
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import sha256
from adaptis.evaluation.run import Evaluator
from adaptis.files import read_json
from adaptis.inference.predictor import Predictor
from adaptis.loading import load_predictor
from experiments.benchmarks.measures import add_record_arguments, conditions, keep_record

LOSS = 0.3
"""Maximum loss in PQ, in points."""
TIME = 2 / 3
"""Maximum share of the time of float32."""

FLOAT = {'onnxruntime': 'onnxruntime float32', 'mxnet': 'mxnet float32'}
EXAMPLES = 32
"""Maximum number of inputs for calibrating a stage; histograms of all layers need memory."""

Feed = dict[str, np.ndarray]
Files = Mapping[str, Path]
Convert = Callable[[Files, Sequence[Feed]], None]
Row = dict[str, Any]


class Form(NamedTuple):
    """A variant of the network: ``convert`` rewrites the files of ``stages`` (None: of all)."""

    backend: str
    convert: Optional[Convert] = None
    stages: Optional[Sequence[str]] = None


class Examples(NamedTuple):
    """Inputs of each stage, and how often an image runs it."""

    feeds: dict[str, list[Feed]]
    calls: dict[str, float]


def dynamic(files: Files, feeds: Sequence[Feed]) -> None:
    """ONNX Runtime's dynamic quantization: 8-bit weights, activation ranges at run time."""
    tools = _tools()
    with tempfile.TemporaryDirectory() as folder:
        plain = _prepare(files['onnx'], folder)
        tools.quantize_dynamic(plain, files['onnx'], op_types_to_quantize=['Conv', 'Gemm'],
                               weight_type=tools.QuantType.QUInt8)   # all that ConvInteger takes


def static(files: Files, feeds: Sequence[Feed], ranges: str = 'MinMax',
           careful: bool = False) -> None:
    """ONNX Runtime's static quantization (QDQ) of convolutions, with weights per channel.

    AdaIN's dense layers and moments stay in float.

    Parameters
    ----------
    ranges : calibration of activation ranges: 'MinMax', 'Percentile', 'Entropy'
    careful : keep the layers that ``sensitive`` names in float
    """
    tools = _tools()
    with tempfile.TemporaryDirectory() as folder:
        plain = _prepare(files['onnx'], folder)
        tools.quantize_static(
            plain, files['onnx'], _reader(feeds), per_channel=True, op_types_to_quantize=['Conv'],
            nodes_to_exclude=sensitive(plain) if careful else [],
            calibrate_method=tools.CalibrationMethod[ranges])


def sensitive(path: Path) -> list[str]:
    """Return a model's convolutions on colours or coordinates, or with classes or logits as output.

    They have at most 3 inputs or 2 outputs, so they are a small part of the work.
    """
    import onnx  # optional
    graph = onnx.load(str(path)).graph
    shapes = {constant.name: constant.dims for constant in graph.initializer}
    found = [(node.name, shapes[node.input[1]]) for node in graph.node if node.op_type == 'Conv']
    return [name for name, shape in found if shape[0] <= 2 or shape[1] <= 3]


def mxnet_int8(files: Files, feeds: Sequence[Feed], ranges: str = 'naive') -> None:
    """MXNet's INT8 operators of oneDNN; ``ranges``: 'naive' (minimum and maximum) or 'entropy'."""
    from adaptis.runtime import mx  # loads MXNet
    quantize = _contrib('quantization').quantize_model_mkldnn
    data = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
    _rewrite(files, lambda *model: quantize(
        *model, data_names=[*data], label_names=None, calib_mode=ranges, quantized_dtype='auto',
        calib_data=mx.io.NDArrayIter(data, batch_size=1)))


def mxnet_bfloat16(files: Files, feeds: Sequence[Feed]) -> None:
    """MXNet's bfloat16 operators of oneDNN."""
    amp = _contrib('amp')
    # "Concat" is on MXNet's list of operators for either type, but fails with mixed types.
    floats = [*amp.lists.symbol_bf16.FP32_FUNCS, 'Concat']
    _rewrite(files, lambda *model: amp.convert_model(*model, target_dtype='bfloat16',
                                                     fp32_ops=floats))


_ENCODER = ('features', 'semantics', 'proposals')   # once per image, all but the masks of points
_percentile = functools.partial(static, ranges='Percentile')
FORMS: dict[str, Form] = {
    FLOAT['onnxruntime']: Form('onnxruntime'),
    'onnxruntime dynamic': Form('onnxruntime', dynamic),
    'onnxruntime static MinMax': Form('onnxruntime', static),
    'onnxruntime static Percentile': Form('onnxruntime', _percentile),
    'onnxruntime static careful': Form(
        'onnxruntime', functools.partial(_percentile, careful=True)),
    'onnxruntime static careful, points float32': Form(
        'onnxruntime', functools.partial(_percentile, careful=True), _ENCODER),
    FLOAT['mxnet']: Form('mxnet'),
    'mxnet int8': Form('mxnet', mxnet_int8),
    'mxnet bfloat16': Form('mxnet', mxnet_bfloat16),
    'mxnet bfloat16, points float32': Form('mxnet', mxnet_bfloat16, _ENCODER),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``quantization``."""
    parser.add_argument('--data', type=Path, default=Path('data/toy_v1'), metavar='DIR')
    parser.add_argument('--images', type=int, default=200, metavar='N',
                        help='number of test images to measure (default 200)')
    parser.add_argument('--calibration', type=int, default=64, metavar='M',
                        help='number of training images for calibration (default 64)')
    parser.add_argument('--only', nargs='+', choices=FORMS, metavar='FORM',
                        help=f'variants beside float32; default: all of {", ".join(FORMS)}')
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print the table, and write the record if asked to; AdaptisError if something is missing."""
    os.environ.setdefault('OMP_NUM_THREADS', '1')   # before a library reads it
    names = [name for name in FORMS if name in {*FLOAT.values(), *(args.only or FORMS)}]
    before = conditions()
    _tools()
    rows = measure_forms(names, args.data, args.images, args.calibration)
    print(table(rows))
    keep_record(args, rows, before, images=args.images, **{
        'calibration images': args.calibration,
        'tools': machine.installed(('onnx', 'onnxruntime', 'ml_dtypes'))})


def measure_forms(names: Sequence[str], root: Path, images: int,
                  calibration: int) -> dict[str, Row]:
    """Return a row for each variant; if one cannot be built or run, its row says why."""
    from adaptis.deploy.export import export  # loads MXNet
    test = open_dataset('toy', root, 'test')
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        plain = export(load_predictor(), Path(folder) / 'float32')
        examples = calibrate(plain, open_dataset('toy', root, 'train'), calibration)
        predictors = {}
        for number, name in enumerate(names):
            print(f'quantization: {name}', file=sys.stderr, flush=True)
            try:
                made = convert(FORMS[name], plain, Path(folder) / str(number), examples.feeds)
                predictors[name] = Predictor.from_export(made, FORMS[name].backend)
                predictors[name].set_image(test[0].image).panoptic()   # loads, and may fail
                rows[name] = {'MiB': _size(FORMS[name], made)}
            except Exception as error:   # the two tools' have no class in common
                predictors.pop(name, None)
                rows[name] = {'fails': ' '.join(f'{type(error).__name__}: {error}'.split())[:300]}
        for name, row in measure(predictors, test, min(images, len(test))).items():
            rows[name].update(row)
        for name, row in same_work(predictors, examples).items():
            rows[name].update(row)
    judge(rows)
    return rows


def calibrate(folder: Path, dataset: Any, images: int) -> Examples:
    """Return the inputs of the stages while images of a data set are segmented.

    Only inputs of the most common shapes are kept, because MXNet's tools need equal shapes.
    """
    predictor = load_exported(folder, 'onnxruntime')
    runner = predictor.net.runner
    found: dict[str, dict[Any, list[Feed]]] = defaultdict(lambda: defaultdict(list))
    plain_run = runner.run

    def noted(stage: str, *arrays: Any) -> Any:
        feed = {signature.name: np.array(array, signature.dtype)
                for signature, array in zip(runner.stages[stage].inputs, arrays)}
        found[stage][tuple(array.shape for array in feed.values())].append(feed)
        return plain_run(stage, *arrays)

    runner.run = noted
    indices = _spread(len(dataset), images)
    for index in indices:
        predictor.set_image(dataset[index].image).panoptic()
    feeds = {stage: max(groups.values(), key=len) for stage, groups in found.items()}
    return Examples({stage: [every[i] for i in _spread(len(every), EXAMPLES)]
                     for stage, every in feeds.items()},
                    {stage: sum(map(len, groups.values())) / len(indices)
                     for stage, groups in found.items()})


def convert(form: Form, source: Path, target: Path, feeds: Mapping[str, Sequence[Feed]]) -> Path:
    """Write a variant of an export; returns its folder."""
    shutil.copytree(source, target)
    if form.convert is None:
        return target
    paths = read_export(target).paths
    with contextlib.redirect_stdout(sys.stderr):   # where the tools tell what they do
        for stage in form.stages or paths:
            form.convert(paths[stage], feeds[stage])
    manifest = read_json(target / MANIFEST)
    for name, facts in manifest['files'].items():
        facts.update(bytes=(target / name).stat().st_size, sha256=sha256(target / name))
    manifest['seal'] = seal(manifest)
    (target / MANIFEST).write_text(json.dumps(manifest), encoding='utf-8')
    return target


def measure(predictors: Mapping[str, Any], dataset: Any, images: int) -> dict[str, Row]:
    """Return what predictors find on the first images of a data set, and their times."""
    evaluators = {name: Evaluator(dataset.taxonomy) for name in predictors}
    times: dict[str, list[Any]] = defaultdict(list)
    order = list(predictors)
    for index in tqdm(range(images), unit='image'):
        sample = dataset[index]
        order = order[1:] + order[:1]   # so that none has the first turn each time
        for name in order:
            began = time.process_time(), time.perf_counter()
            result = predictors[name].set_image(sample.image).panoptic()
            times[name].append((time.process_time() - began[0], time.perf_counter() - began[1]))
            evaluators[name].add_sample(index, sample, result)
    seconds = {name: np.array(values) for name, values in times.items()}
    return {name: {**_scores(evaluators[name].result()), **_times(name, seconds)}
            for name in predictors}


def same_work(predictors: Mapping[str, Any], examples: Examples) -> dict[str, Row]:
    """Return the CPU seconds of the stages with the inputs, and the number of calls, of float32.

    A variant that finds worse masks requests more or fewer of them; these figures exclude this.
    """
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for stage, feeds in examples.feeds.items():
        for feed in [feeds[0], *feeds]:
            for name, predictor in predictors.items():
                began = time.process_time()
                for array in predictor.net.runner.run(stage, *feed.values()):
                    as_numpy(array)
                seconds[name][stage].append(time.process_time() - began)
    medians = {name: {stage: statistics.median(times[1:]) for stage, times in stages.items()}
               for name, stages in seconds.items()}
    whole = {name: sum(median * examples.calls[stage] for stage, median in stages.items())
             for name, stages in medians.items()}
    return {name: {**{f'{stage} ms': 1e3 * median for stage, median in stages.items()},
                   'same work to float32': whole[name] / whole[FLOAT[FORMS[name].backend]]}
            for name, stages in medians.items()}


def judge(rows: Mapping[str, Row]) -> None:
    """Add to every row the loss in PQ, and whether the variant is worth keeping."""
    for name, row in rows.items():
        plain = FLOAT[FORMS[name].backend]
        if 'fails' not in row and name != plain:
            row['PQ lost'] = rows[plain]['PQ'] - row['PQ']
            row['keep'] = bool(row['PQ lost'] < LOSS and row[f'time to {plain}'] < TIME)


def table(rows: Mapping[str, Row]) -> str:
    """Return the rows as text."""
    heads: list[str] = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = [['', *heads], *([name, *(_text(row.get(head, '')) for head in heads)]
                             for name, row in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join('  '.join([line[0].ljust(widths[0]),
                                *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))]).rstrip()
                     for line in lines)


def _scores(result: Mapping[str, Any]) -> Row:
    return {'PQ': 100 * result['pq']['All']['pq'], 'PQ things': 100 * result['pq']['Things']['pq'],
            'AP': 100 * result['ap']['ap']}


def _times(name: str, seconds: Mapping[str, np.ndarray]) -> Row:
    """Return medians over the images: milliseconds, and the share of the time of float32."""
    cpu, clock = (1e3 * np.median(seconds[name], axis=0)).tolist()
    shares = {f'time to {plain}': float(np.median(seconds[name][:, 0] / seconds[plain][:, 0]))
              for plain in FLOAT.values()}
    return {'CPU ms': cpu, 'clock ms': clock, **shares}


def _size(form: Form, folder: Path) -> float:
    """Return the MiB of the files that a backend reads."""
    kinds = ('onnx',) if form.backend == 'onnxruntime' else ('symbol', 'parameters')
    paths = [files[kind] for files in read_export(folder).paths.values() for kind in kinds]
    return sum(path.stat().st_size for path in paths) / 2 ** 20


def _spread(length: int, count: int) -> list[int]:
    """Return at most ``count`` evenly spaced indices below ``length``."""
    return np.linspace(0, length - 1, min(count, length)).astype(int).tolist()


def _tools() -> Any:
    """Return ONNX Runtime's quantization tools; AdaptisError if they cannot be imported."""
    try:
        import onnxruntime  # optional
        from onnxruntime import quantization  # optional
    except ImportError as error:
        raise AdaptisError(f'A package that ONNX Runtime needs for quantization cannot be imported '
                           f'({error}): python -m pip install onnx onnxruntime ml_dtypes.'
                           ) from error
    onnxruntime.set_default_logger_severity(3)   # of weights that it moves, it warns one by one
    return quantization


def _prepare(path: Path, folder: str) -> Path:
    """Return a model with folded constants, known shapes and named nodes, as the tools need it."""
    import onnx  # optional
    from onnxruntime.quantization.shape_inference import quant_pre_process  # optional
    prepared = Path(folder) / 'prepared.onnx'
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(str(prepared))
    for number, node in enumerate(model.graph.node):
        node.name = f'{number}_{node.op_type}'
    onnx.save(model, str(prepared))
    return prepared


def _reader(feeds: Sequence[Feed]) -> Any:
    """Inputs in the form that ONNX Runtime's tools expect."""
    remaining = iter(feeds)

    class Reader(_tools().CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Optional[Feed]:
            return next(remaining, None)

    return Reader()


def _contrib(name: str) -> Any:
    """Import a part of MXNet that it does not import itself."""
    from adaptis.runtime import mx  # loads MXNet
    return importlib.import_module(f'{mx.__name__}.contrib.{name}')


def _rewrite(files: Files, change: Callable[..., Any]) -> None:
    """Change symbol, parameters and auxiliary states of a stage."""
    from adaptis.model.zoo import write_arrays  # loads MXNet
    from adaptis.runtime import mx  # loads MXNet
    arrays = mx.nd.load(str(files['parameters']))
    given, states = ({name[4:]: value for name, value in arrays.items() if name[:4] == kind}
                     for kind in ('arg:', 'aux:'))
    symbol, given, states = change(mx.sym.load(str(files['symbol'])), given, states)
    symbol.save(str(files['symbol']), remove_amp_cast=False)
    write_arrays(files['parameters'], {**{f'arg:{name}': value for name, value in given.items()},
                                       **{f'aux:{name}': value for name, value in states.items()}})


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return f'{value:.2f}' if isinstance(value, float) else str(value)
