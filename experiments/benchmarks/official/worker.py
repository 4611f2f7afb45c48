"""Run an official program for a benchmark, in a separate process and perhaps interpreter.

    python worker.py DIR PROGRAM FOLDER SEED

DIR contains clones of the official repositories, FOLDER contains the inputs (``inputs.npz``).  The
program is built with random weights, which are written to FOLDER for our network to load.  Then it
runs once for each line on stdin.  Answers are JSON, one object per line: ``{"weights": FILE}`` once
it is ready, ``{"clock": SECONDS, "cpu": SECONDS}`` for a run, or ``{"error": SENTENCE}``.

This file does not import this project, because the official AdaptIS is a package of the same name.
The interfaces are those of the commits that ``SETUP`` names.
"""
from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import time
import types
from typing import Any, Callable, Optional

import numpy as np

REMOVED = {'bool': bool, 'int': int, 'float': float, 'object': object}
"""Names that NumPy had when the official programs were written."""

Built = tuple[Callable[[], None], Optional[str]]
"""A function that runs a program once, and the file of its weights in the folder."""
Layers = dict[str, tuple[float, dict[Optional[int], float]]]
"""Factors of layers' weights, and their biases by channel (None: of all channels)."""


class Refusal(Exception):
    """A sentence for the user."""


class Stage:
    """Where a program reads its inputs and writes its weights."""

    def __init__(self, clones: str, folder: str, seed: int):
        self.clones, self.folder, self.seed = clones, folder, seed
        with np.load(os.path.join(folder, 'inputs.npz'), allow_pickle=False) as inputs:
            self.inputs = dict(inputs)

    def use(self, repository: str, *modules: str) -> list[Any]:
        """Import modules of a clone; Refusal if it is missing or lacks one."""
        root = os.path.join(self.clones, repository)
        if not os.path.isdir(root):
            raise Refusal(f'{self.clones} has no folder {repository}.')
        sys.path.insert(0, root)
        found = []
        for name in modules:
            _claim(root, name.split('.')[0])
            try:
                found.append(importlib.import_module(name))
            except ImportError as error:
                raise Refusal(f'{root} does not offer the module {name} ({error}).') from error
        return found

    def path(self, name: str) -> str:
        """Return where a file of the folder is."""
        return os.path.join(self.folder, name)


def _claim(root: str, package: str) -> None:
    """Make a folder importable as a package although it has no ``__init__.py``.

    Otherwise Python would prefer an installed package of that name, such as this project's.
    """
    folder = os.path.join(root, package)
    if package not in sys.modules and os.path.isdir(folder) and not os.path.exists(
            os.path.join(folder, '__init__.py')):
        sys.modules[package] = module = types.ModuleType(package)
        module.__path__ = [folder]


def adaptis(stage: Stage) -> Built:
    """The complete algorithm of the toy network on each image; weights as MXNet parameters."""
    for name, kind in REMOVED.items():
        if name not in vars(np):
            setattr(np, name, kind)
    models, sampling, prediction, mx = stage.use(
        'adaptis', 'adaptis.model.toy.models', 'adaptis.inference.adaptis_sampling',
        'adaptis.inference.prediction_model', 'mxnet')
    mx.random.seed(stage.seed)
    net = by_names(models.get_unet_model, with_proposals=True)
    net.initialize(mx.init.Xavier(rnd_type='gaussian', magnitude=2), ctx=mx.cpu())
    transforms = mx.gluon.data.vision.transforms
    transform = transforms.Compose([transforms.ToTensor(),
                                    transforms.Normalize([0.5] * 3, [0.5] * 3)])
    model = by_names(prediction.AdaptISPrediction, net=net, model=net, dataset=ToyClasses(),
                     ctx=mx.cpu(), device=mx.cpu(), input_transform=transform, transform=transform)
    options = json.loads(str(stage.inputs['options']))

    def segment() -> None:
        for image in stage.inputs['images']:
            sampling.get_panoptic_segmentation(model, image, **options)
        mx.nd.waitall()

    segment()   # shapes of all parameters are known from now on
    net.save_parameters(stage.path('weights.params'))
    return segment, 'weights.params'


class ToyClasses:
    """What the official program needs of a data set: one stuff class, one thing class."""

    things_offset = stuff_offset = 1
    num_classes, stuff_labels, things_labels = 2, [0], [1]


def panoptic_fpn(stage: Stage) -> Built:
    """Panoptic FPN of detectron2."""
    config, zoo, modeling = stage.use('detectron2', 'detectron2.config', 'detectron2.model_zoo',
                                      'detectron2.modeling')
    cfg = config.get_cfg()
    cfg.merge_from_file(zoo.get_config_file('COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml'))
    return _detectron2(stage, cfg, modeling, {
        'proposal_generator.rpn_head.anchor_deltas': (0, {}),
        'roi_heads.box_predictor.cls_score': (0, {0: 6.0}),
        'roi_heads.box_predictor.bbox_pred': (0, {}),
        'roi_heads.mask_head.predictor': (0, {None: 1.0})})


def condinst(stage: Stage) -> Built:
    """CondInst of AdelaiDet, which is based on detectron2; it returns instances."""
    (modeling,) = stage.use('detectron2', 'detectron2.modeling')
    config, _ = stage.use('AdelaiDet', 'adet.config', 'adet.modeling')
    cfg = config.get_cfg()
    cfg.merge_from_file(os.path.join(stage.clones, 'AdelaiDet', 'configs', 'CondInst',
                                     'MS_R_50_1x.yaml'))
    return _detectron2(stage, cfg, modeling, {
        'proposal_generator.fcos_head.cls_logits': (1, {0: 6.0}),
        'proposal_generator.fcos_head.bbox_pred': (0, {None: 1.0})})


def dense_detections(stage: Stage) -> Built:
    """The network of TRI-ML's realtime_panoptic; it returns instances and semantic labels."""
    (models,) = stage.use('realtime_panoptic', 'realtime_panoptic.models.rt_pano_net')
    torch = _torch(stage)
    if not torch.cuda.is_available():   # it waits for a GPU in any case
        torch.cuda.synchronize = lambda *arguments: None
    net = by_names(models.RTPanoNet, backbone='R-50-FPN-RETINANET', num_classes=19,
                   things_num_classes=8).eval()
    _make_busy(torch, net, {'panoptic_head.box_cls_logits': (1, {0: 6.0}),
                            'panoptic_head.centerness': (1, {None: 3.0}),
                            'panoptic_head.bbox_pred': (0, {None: 2.0})})
    torch.save({'model_state_dict': net.state_dict()}, stage.path('weights.pth'))
    # BGR in 0..255, minus the mean.
    mean = np.array([102.9801, 115.9465, 122.7717], np.float32)
    images = [torch.from_numpy(np.ascontiguousarray((image[..., ::-1] - mean).transpose(2, 0, 1)))
              for image in stage.inputs['images'].astype(np.float32)]

    def segment() -> None:
        with torch.no_grad():
            for image in images:
                net(image[None])

    return segment, 'weights.pth'


def panopticapi(stage: Stage) -> Built:
    """Panoptic quality of a folder of predictions in one process."""
    (evaluation,) = stage.use('panopticapi', 'panopticapi.evaluation')
    folder = str(stage.inputs['folder'])
    truth, found = (_read(os.path.join(folder, f'{name}.json')) for name in ('gt', 'pred'))
    by_image = {entry['image_id']: entry for entry in found['annotations']}
    pairs = [(entry, by_image[entry['image_id']]) for entry in truth['annotations']]
    categories = {category['id']: category for category in truth['categories']}

    def evaluate() -> None:
        evaluation.pq_compute_single_core(0, pairs, os.path.join(folder, 'gt'),
                                          os.path.join(folder, 'pred'), categories)

    return evaluate, None


PROGRAMS = {function.__name__: function
            for function in (adaptis, panoptic_fpn, condinst, dense_detections, panopticapi)}


def by_names(function: Any, **offered: Any) -> Any:
    """Call a function with those arguments that it accepts; Refusal if it needs others."""
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    needed = [p.name for p in parameters
              if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    unknown = [name for name in needed if name not in offered]
    if unknown:
        raise Refusal(f'{function.__name__} asks for {", ".join(unknown)}, which this benchmark '
                      'does not know: check out the commit that the page names.')
    names = [p.name for p in parameters]
    return function(**{name: value for name, value in offered.items()
                       if name in names or (takes_all and name in needed)})


def _detectron2(stage: Stage, cfg: Any, modeling: Any, busy: Layers) -> Built:
    torch = _torch(stage)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = 'cpu', ''
    net = modeling.build_model(cfg).eval()
    _make_busy(torch, net, busy)
    torch.save({'model': net.state_dict()}, stage.path('weights.pth'))
    batches = [[{'image': torch.from_numpy(np.ascontiguousarray(
                    image[..., ::-1].transpose(2, 0, 1))),
                 'height': image.shape[0], 'width': image.shape[1]}]
               for image in stage.inputs['images']]

    def segment() -> None:
        with torch.no_grad():
            for batch in batches:
                net(batch)

    return segment, 'weights.pth'


def _read(path: str) -> Any:
    with open(path, encoding='utf-8') as file:
        return json.load(file)


def _torch(stage: Stage) -> Any:
    try:
        import torch  # of the programs that need it
    except ImportError as error:
        raise Refusal(f'{sys.executable} has no PyTorch ({error}): see --official-python.'
                      ) from error
    torch.manual_seed(stage.seed)
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS') or os.cpu_count()))
    return torch


def _make_busy(torch: Any, net: Any, layers: Layers) -> None:
    """Make a network with random weights find as many objects as possible."""
    modules = dict(net.named_modules())
    with torch.no_grad():
        for name, (factor, biases) in layers.items():
            modules[name].weight.mul_(factor)
            for channel, value in biases.items():
                if channel is None:
                    modules[name].bias.fill_(value)
                else:
                    modules[name].bias[channel] = value


def main(arguments: list[str]) -> int:
    """Serve requests; returns 0 when stdin ends, 1 after an error, which has been reported."""
    clones, name, folder, seed = arguments
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)   # what the official code prints is no answer

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + '\n')
        answers.flush()

    try:
        run, weights = PROGRAMS[name](Stage(clones, folder, int(seed)))
        answer(weights=weights)
        for _ in sys.stdin:
            began = time.perf_counter(), time.process_time()
            run()
            answer(clock=time.perf_counter() - began[0], cpu=time.process_time() - began[1])
    except Refusal as error:
        answer(error=str(error))
        return 1
    except Exception as error:   # of any kind: the code is somebody else's
        answer(error=f'The official program has failed ({type(error).__name__}: {error}).')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
