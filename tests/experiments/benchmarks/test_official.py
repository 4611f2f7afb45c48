"""Official programs beside ours, with stand-ins that have only their names and signatures."""
from __future__ import annotations

import json
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.loading import load_predictor
from experiments.benchmarks import ports, pq, speed
from experiments.benchmarks.comparison import OFFICIAL, Setting, Spent, measure
from experiments.benchmarks.everything import measure_row
from experiments.benchmarks.official import REPOSITORIES, SETUP, Program
from experiments.benchmarks.subjects import comparisons
from panoptic_baselines.zoo import load_model
from tests.golden.weights import entries
from tests.panoptic_baselines.convert.test_official import arrays_of, write

TORCH = '''
import contextlib, shutil, types
cuda = types.SimpleNamespace(is_available=lambda: False)
class Tensor:
    def __init__(self, array): self.array, self.shape = array, array.shape
    def __getitem__(self, index): return Tensor(self.array[index])
class Values:
    def mul_(self, factor): self.factor = factor
    def fill_(self, value): self.all = value
    def __setitem__(self, channel, value): self.channel = channel, value
def from_numpy(array): return Tensor(array)
def no_grad(): return contextlib.nullcontext()
def manual_seed(seed): pass
def set_num_threads(count): pass
def save(content, path): shutil.copy(content.get('model') or content['model_state_dict'], path)
class Net:
    """Finds nothing; it notes what it was shown."""
    def __init__(self, file, layers):
        self.file, self.seen = file, []
        self.layers = {name: types.SimpleNamespace(weight=Values(), bias=Values())
                       for name in layers}
    def eval(self): return self
    def named_modules(self): return self.layers.items()
    def state_dict(self): return self.file
    def __call__(self, batch): self.seen.append(batch)
'''
CONFIG = '''
import types
def get_cfg():
    cfg = types.SimpleNamespace(MODEL=types.SimpleNamespace(DEVICE='cuda', WEIGHTS='somewhere'))
    cfg.merge_from_file = lambda path: setattr(cfg, 'path', path)
    return cfg
'''
MODELING = '''
import torch
LAYERS = ['proposal_generator.rpn_head.anchor_deltas', 'roi_heads.box_predictor.cls_score',
          'roi_heads.box_predictor.bbox_pred', 'roi_heads.mask_head.predictor',
          'proposal_generator.fcos_head.cls_logits', 'proposal_generator.fcos_head.bbox_pred']
class Checked(torch.Net):
    def __call__(self, batch):
        (entry,) = batch
        assert entry['image'].shape == (3, entry['height'], entry['width'])
def build_model(cfg):
    assert (cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS) == ('cpu', '')
    return Checked(WEIGHTS, LAYERS)
'''
RT_PANO_NET = '''
import torch
class RTPanoNet(torch.Net):
    def __init__(self, backbone, num_classes, things_num_classes, pre_nms_thresh=0.06):
        assert (num_classes, things_num_classes) == (19, 8)
        super().__init__(WEIGHTS, ['panoptic_head.box_cls_logits', 'panoptic_head.centerness',
                                   'panoptic_head.bbox_pred'])
    def __call__(self, images):
        torch.cuda.synchronize()
        assert images.shape[:2] == (1, 3) and images.array.min() < -90
'''
TOY = '''
import json, mxnet as mx
class Net:
    def initialize(self, init, ctx): pass
    def save_parameters(self, path):
        entries = json.load(open(NAMES))
        mx.nd.save(path, {e['name']: mx.random.uniform(0, 0.1, tuple(e['shape'])) for e in entries})
def get_unet_model(channel_width=8, with_proposals=False):
    assert with_proposals
    return Net()
'''
SAMPLING = '''
def get_panoptic_segmentation(pred_model, image, sampling_algorithm='proposals', use_flip=False,
                              cut_radius=-1, **kwargs):
    assert image.shape == (96, 96, 3) and kwargs['thresh1'] == 0.4 and kwargs['max_iters'] == 100
    print('what it prints is no answer')
    return pred_model.net
'''
PREDICTION = '''
class AdaptISPrediction:
    def __init__(self, net, dataset, ctx, input_transform=None):
        assert dataset.things_offset == 1
        self.net = net
'''
PANOPTICAPI = '''
def pq_compute_single_core(proc_id, annotation_set, gt_folder, pred_folder, categories):
    ((truth, found),) = annotation_set
    assert truth['file_name'] != found['file_name'] and categories[7]['name'] == 'road'
'''


def clone(root: Path, repository: str, **modules: str) -> Path:
    """Write modules ('a__b' is a.b) as a package in a folder of this name; returns ``root``."""
    for name, source in modules.items():
        path = root / repository / f'{name.replace("__", "/")}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding='utf-8')
    for folder in {path.parent for path in (root / repository).rglob('*.py')} - {root / repository}:
        (folder / '__init__.py').touch()
    return root


def small_weights():
    """Those of a small Panoptic FPN by their official names, none of them far from 0."""
    return {name: array % 1 / 10 for name, array in arrays_of(num_things=80, num_stuff=53).items()}


def detectron2(tmp_path, weights):
    """Write a stand-in of detectron2 with a file of weights."""
    return clone(tmp_path, 'detectron2', torch=TORCH, detectron2__config=CONFIG,
                 detectron2__model_zoo='def get_config_file(name): return name',
                 detectron2__modeling=f'WEIGHTS = {str(weights)!r}\n{MODELING}')


def test_detectron2_beside_ours(tmp_path, monkeypatch):
    """The whole way: its weights are converted, and its time is what it says."""
    arrays = small_weights()
    folder = detectron2(tmp_path, write(tmp_path / 'small.pkl', arrays))
    monkeypatch.setattr(ports, 'COMPARED', {True: (32, 64)})
    monkeypatch.setattr('experiments.benchmarks.comparison.ROUNDS', {True: 1})
    comparison = next(c for c in comparisons() if c.name == 'panoptic_fpn_r50, panoptic')
    with Program(folder, 'panoptic_fpn', partial(ports.official_inputs, True)) as program:
        assert isinstance(program(), Spent) and program().clock < 0.5
        monkeypatch.setattr(ports, 'exported_form', lambda *_: AdaptisError('Not here.'))
        monkeypatch.setattr('experiments.benchmarks.comparison.SECONDS', {True: 0.0})
        found = measure(comparison, Setting(True, program))
        net = load_model(program.checkpoint())
    np.testing.assert_array_equal(net.box_head.cls_score.bias.data().asnumpy(),
                                  arrays['roi_heads.box_predictor.cls_score.bias'])
    assert set(found['forms']) == {'imperative', 'hybridized', OFFICIAL}
    assert found['against'] == OFFICIAL and found['left out'] == {'ONNX Runtime': 'Not here.'}
    assert not program.folder.exists()


def test_condinst_and_dense_detections(tmp_path):
    detectron2(tmp_path, write(tmp_path / 'small.pkl', {}))
    clone(tmp_path, 'AdelaiDet', adet__config=CONFIG, adet__modeling='')
    weights = f'WEIGHTS = {str(tmp_path / "small.pkl")!r}\n'
    clone(tmp_path, 'realtime_panoptic', torch=TORCH,
          realtime_panoptic__models__rt_pano_net=weights + RT_PANO_NET)
    for name in 'condinst', 'dense_detections':
        with Program(tmp_path, name, partial(ports.official_inputs, True)) as program:
            assert program().clock >= 0


def test_the_weights_of_adaptis(tmp_path, parity):
    path = tmp_path / 'names.json'
    path.write_text(json.dumps(entries(parity / 'toy_w8' / 'names.json')))
    names = f'NAMES = {str(path)!r}\n'
    clone(tmp_path, 'adaptis', adaptis__model__toy__models=names + TOY,
          adaptis__inference__adaptis_sampling=SAMPLING,
          adaptis__inference__prediction_model=PREDICTION)
    with Program(tmp_path, 'adaptis', partial(speed.official_inputs, True), seed=7) as program:
        assert program().cpu >= 0
        predictor = load_predictor(program.checkpoint(num_stuff=1), speed.SETTINGS)
    assert predictor.net.description['width'] == 8


def test_panopticapi(tmp_path):
    truth = {'annotations': [{'image_id': 3, 'file_name': 'a.png'}],
             'categories': [{'id': 7, 'name': 'road'}]}
    found = {'annotations': [{'image_id': 3, 'file_name': 'b.png'}]}
    for name, content in ('gt', truth), ('pred', found):
        (tmp_path / f'{name}.json').write_text(json.dumps(content), encoding='utf-8')
    clone(tmp_path, 'panopticapi', panopticapi__evaluation=PANOPTICAPI)
    with Program(tmp_path, 'panopticapi', lambda folder: {'folder': str(tmp_path)}) as program:
        assert program().clock >= 0


def test_panopticapi_reads_the_files_that_ours_reads(tmp_path):
    clone(tmp_path, 'panopticapi', panopticapi__evaluation='''
        import os
        def pq_compute_single_core(proc_id, annotation_set, gt_folder, pred_folder, categories):
            assert len(annotation_set) == 4 and len(categories) == 133
            for folder, side in (gt_folder, 0), (pred_folder, 1):
                assert {a[side]['file_name'] for a in annotation_set} == set(os.listdir(folder))
        ''')
    with Program(tmp_path, 'panopticapi', partial(pq.official_inputs, True)) as program:
        assert program().clock >= 0
        forms = pq.compare(Setting(True, program))
        assert [form() for form in forms.values()] == [None, None]


@pytest.mark.parametrize('modules, sentence', [
    ({}, 'has no folder panopticapi'),
    ({'panopticapi__other': ''}, r'does not offer the module panopticapi\.evaluation'),
    ({'panopticapi__evaluation': ''}, 'has failed .AttributeError: .*pq_compute_single_core')])
def test_clones_that_do_not_fit(tmp_path, modules, sentence):
    for name in 'gt', 'pred':
        (tmp_path / f'{name}.json').write_text('{"annotations": [], "categories": []}')
    if modules:
        clone(tmp_path, 'panopticapi', **modules)
    with pytest.raises(AdaptisError, match=sentence), \
            Program(tmp_path, 'panopticapi', lambda folder: {'folder': str(tmp_path)}) as program:
        program()


def test_an_interface_that_has_changed(tmp_path):
    clone(tmp_path, 'realtime_panoptic', torch=TORCH, realtime_panoptic__models__rt_pano_net=(
        'def RTPanoNet(backbone, colour): pass'))
    with pytest.raises(AdaptisError, match='RTPanoNet asks for colour, which this benchmark does'):
        Program(tmp_path, 'dense_detections', partial(ports.official_inputs, True))


def test_what_cannot_be_started(tmp_path):
    with pytest.raises(AdaptisError, match='no folder .*nowhere'):
        Program(tmp_path / 'nowhere', 'adaptis', lambda folder: {})
    with pytest.raises(AdaptisError, match='nothing cannot be run: No such file'):
        Program(tmp_path, 'condinst', lambda folder: {}, python=str(tmp_path / 'nothing'))


def test_ours_are_timed_without_the_official_one(same_process, tmp_path, monkeypatch):
    monkeypatch.setattr('experiments.benchmarks.everything.measure',
                        lambda comparison, setting: {'left out': {}, 'busy': {
                            'share': 1, 'others': 0, 'stolen': 0, 'cores': 2}})
    comparison = next(c for c in comparisons() if c.official)
    row = measure_row(comparison, True, tmp_path)
    assert 'has no folder' in row['left out'][OFFICIAL] and not row['complaints']


def test_every_repository_is_in_the_instructions():
    assert all(f'gh repo clone {name} {folder}' in SETUP and commit in SETUP
               for folder, (name, commit) in REPOSITORIES.items())
