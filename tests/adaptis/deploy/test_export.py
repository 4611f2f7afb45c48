"""An exported AdaptIS network: its files, what is refused, and that results are the same."""
from __future__ import annotations

import json
import resource
import shutil

import cv2
import numpy as np
import pytest

from adaptis.deploy.backends import MXNetRunner, OnnxRunner
from adaptis.deploy.export import export
from adaptis.deploy.folder import (
    default_backend,
    load_exported,
    make_runner,
    read_export,
    seal,
)
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import sha256
from adaptis.files import read_json
from adaptis.inference.predictor import Predictor
from adaptis.inference.settings import AdaptISSettings
from adaptis.inference.sidecar import find_taxonomy, read_sidecar
from adaptis.loading import default_settings, load_predictor
from adaptis.model import get_model
from adaptis.runtime import mx
from adaptis.types import TOY_TAXONOMY

LOOSE = AdaptISSettings(things_threshold=0.1, mask_threshold=0.3, min_area=1, max_candidates=6,
                        overlap_threshold=1.0, stuff_prob_mult=0.5, batch_size=3)
RANDOM = LOOSE.replace(sampling='random', num_candidates=3, num_iterations=2)
NETWORKS = {
    'toy': ({'name': 'adaptis_toy', 'width': 4}, LOOSE.replace(flip=True)),
    'toy without proposals': ({'name': 'adaptis_toy', 'width': 4, 'proposals': False,
                               'coordinates': 'none'}, RANDOM),
    'pyramid': ({'name': 'adaptis_fpn', 'backbone': 'resnet18'}, LOOSE.replace(flip=True)),
    'deeplab': ({'name': 'adaptis_deeplab', 'backbone': 'resnet18', 'num_classes': 5,
                 'num_stuff': 2}, LOOSE),
}
SIZES = ((30, 27), (77, 90))


def make_predictor(options, settings):
    """With random weights, and normalised by what it sees of one image, so that maps vary."""
    mx.random.seed(3)
    net = get_model(**options)
    net.initialize(mx.init.Xavier(magnitude=3))
    net.apply(lambda block: isinstance(block, mx.gluon.nn.BatchNorm)
              and block._kwargs.update(momentum=0.0))
    with mx.autograd.record():
        outputs = net(mx.nd.random.uniform(0, 255, (1, 3, 160, 192)),
                      mx.nd.random.uniform(0, 159, (1, 9, 2)))
    mx.autograd.backward(list(outputs))   # only now running statistics are changed
    for branch in (net.encoder.semantic, net.encoder.proposals, net.point_head.after):
        last = [] if branch is None else list(branch.collect_params('.*weight').values())[-1:]
        for weight in last:   # so that probabilities are not all 0 and 1
            weight.set_data(weight.data() / (4 if options['name'] == 'adaptis_toy' else 100))
    net.hybridize()
    return Predictor(net, settings, find_taxonomy({}, net.num_classes, net.num_stuff))


def images():
    rng = np.random.RandomState(0)
    return [rng.randint(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]


@pytest.fixture(scope='module')
def toy():
    return make_predictor(*NETWORKS['toy'])


@pytest.fixture(scope='module')
def folder(toy, tmp_path_factory):
    return export(toy, tmp_path_factory.mktemp('export') / 'toy', 'mxnet', {'file': 'net.params'})


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / 'copy')


def change(copy, sealed=False, **values):
    """Edit a manifest; ``sealed`` as whoever wrote it could."""
    path = copy / 'export.json'
    manifest = {**json.loads(path.read_text()), **values}
    if sealed:
        manifest['seal'] = seal(manifest)
    path.write_text(json.dumps(manifest))


def rewrite(copy, name, text):
    """Another file in place of one of an export, as whoever wrote it could."""
    path = copy / name
    path.write_text(text)
    files = read_json(copy / 'export.json')['files']
    change(copy, True, files={**files, name: {'bytes': len(text), 'sha256': sha256(path)}})


@pytest.mark.parametrize('name', NETWORKS)
def test_files_of_mxnet_give_the_results_of_the_network_bit_for_bit(name, tmp_path):
    predictor = make_predictor(*NETWORKS[name])
    exported = Predictor.from_export(export(predictor, tmp_path / 'net', 'mxnet'))
    assert exported.settings == predictor.settings
    assert exported.taxonomy.categories == predictor.taxonomy.categories
    for image in images():
        compare(predictor.set_image(image), exported.set_image(image), 0)
        expected, found = (p.panoptic(keep_masks=True) for p in (predictor, exported))
        np.testing.assert_array_equal(found.segment_map, expected.segment_map)
        assert found.segments == expected.segments
        for number, mask in expected.masks.items():
            np.testing.assert_array_equal(found.masks[number], mask)


@pytest.mark.parametrize('name', NETWORKS)
def test_onnx_models_give_the_probabilities_of_the_network(name, tmp_path):
    """Nearly: random weights turn rounding into more than trained ones do."""
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    predictor = make_predictor(*NETWORKS[name])
    written = export(predictor, tmp_path / 'net', 'onnx')
    assert not list(written.glob('*.params'))
    exported = Predictor.from_export(written, backend='onnxruntime')
    for image in images():
        compare(predictor.set_image(image), exported.set_image(image), 1e-3)
        assert exported.panoptic().segment_map.shape == image.shape[:2]


def compare(predictor, exported, tolerance):
    """All that a network says of an image."""
    for maps in ('stuff_prob', 'things_prob', 'proposals_prob'):
        expected, found = (getattr(p._encoded(), maps) for p in (predictor, exported))
        assert (expected is None) == (found is None)
        if expected is not None:
            assert expected.std() > 5e-4
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    for count in (1, 5):
        points = {'x': np.linspace(0, 26, count), 'y': np.linspace(29, 1, count)}
        expected, found = (p.mask_at(**points).mask for p in (predictor, exported))
        assert expected.std() > 5e-4
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_the_network_that_ships(tmp_path):
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    predictor = load_predictor()
    blocks = np.random.RandomState(0).randint(0, 256, (7, 9, 3)).astype(np.uint8)
    image = cv2.resize(blocks, (91, 71))
    expected = predictor.set_image(image).panoptic()
    assert len(expected.things) > 5
    export(predictor, tmp_path)
    found = Predictor.from_export(tmp_path, 'mxnet').set_image(image).panoptic()
    np.testing.assert_array_equal(found.segment_map, expected.segment_map)
    assert found.segments == expected.segments
    found = Predictor.from_export(tmp_path, 'onnxruntime').set_image(image).panoptic()
    assert (found.segment_map != expected.segment_map).mean() < 1e-3   # ties alone
    for one, other in zip(found.segments, expected.segments):
        assert one.category_id == other.category_id
        assert one.score == pytest.approx(other.score, abs=1e-3)
    compare(predictor, Predictor.from_export(tmp_path, 'onnxruntime').set_image(image), 1e-4)


def test_what_a_folder_tells(toy, folder):
    manifest = read_json(folder / 'export.json')
    assert manifest['model'] == {'name': 'adaptis_toy', 'width': 4}
    assert manifest['inference']['flip'] is True and manifest['inference']['max_candidates'] == 6
    assert manifest['source'] == {'file': 'net.params'}
    assert manifest['preprocessing']['colors'] == 'RGB'
    assert 'inside the graph' in manifest['preprocessing']['normalization']
    assert [c['name'] for c in manifest['taxonomy']] == ['background', 'object']
    points = manifest['stages']['points']
    assert points['inputs'][-1] == {'name': 'points', 'shape': [1, 'N', 2], 'dtype': 'float32'}
    assert points['outputs'] == [{'name': 'masks', 'example': [3, 1, 96, 128]}]
    assert set(manifest['files']) == {path.name for path in folder.iterdir()} - {
        'export.json', 'README.md'}
    text = (folder / 'README.md').read_text()
    for wanted in ('from_export', 'net.params', 'inside the', '2 classes', 'points-symbol.json',
                   '`points` (1, N, 2)', 'at least 16 pixels'):
        assert wanted in text
    assert not list(folder.parent.glob('.*'))


def test_a_folder_is_a_checkpoint_with_a_sidecar(folder):
    assert read_sidecar(folder)['model']['name'] == 'adaptis_toy'
    name, settings = default_settings(folder)
    assert name == 'of the export' and settings == NETWORKS['toy'][1]


@pytest.mark.parametrize('formats, installed, ctx, cuda, backend', [
    ('both', ('mxnet', 'onnxruntime'), None, False, 'onnxruntime'),
    ('both', ('mxnet', 'onnxruntime'), 'cpu', True, 'onnxruntime'),
    ('both', ('mxnet', 'onnxruntime'), 'auto', False, 'onnxruntime'),
    ('both', ('mxnet', 'onnxruntime'), 'auto', True, 'mxnet'),
    ('both', ('mxnet', 'onnxruntime'), 'gpu:1', True, 'mxnet'),
    ('half', ('mxnet', 'onnxruntime'), 'cpu', False, 'mxnet'),
    ('both', ('mxnet',), 'cpu', False, 'mxnet'),
    ('both', ('onnxruntime',), 'gpu', False, 'onnxruntime'),
    ('mxnet', ('mxnet', 'onnxruntime'), 'cpu', False, 'mxnet'),
    ('onnx', ('mxnet', 'onnxruntime'), 'gpu', True, 'onnxruntime'),
    ('both', (), 'cpu', False, 'onnxruntime')])
def test_the_backend_fits_the_device(folder, monkeypatch, formats, installed, ctx, cuda, backend):
    graphs = {'mxnet': ['symbol'], 'onnx': ['onnx']}.get(formats, ['symbol', 'onnx'])
    written = read_export(folder)._replace(
        paths={'points': {graph: folder / graph for graph in graphs}},
        precision='float16' if formats == 'half' else 'float32')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: name in installed or None)
    monkeypatch.setattr('adaptis.deploy.folder.cuda_build', lambda: cuda)
    assert default_backend(written, ctx) == backend


def test_a_stage_is_only_read_when_it_is_used(copy):
    rewrite(copy, 'points-symbol.json', '{"nodes": []}')
    predictor = Predictor.from_export(copy).set_image(images()[0])
    with pytest.raises(AdaptisError, match='points-symbol.json or its parameters have changed'):
        predictor.mask_at(x=1, y=1)


def test_an_older_export_is_replaced_and_nothing_else(toy, folder, tmp_path, monkeypatch):
    target = tmp_path / 'net'
    target.mkdir()
    export(toy, target, 'mxnet')   # empty before
    rewrite(target, 'old.onnx', 'of a stage that there was')
    export(toy, target, 'mxnet')
    assert sorted(p.name for p in target.iterdir()) == sorted(p.name for p in folder.iterdir())
    monkeypatch.setattr('adaptis.deploy.export.describe_export', lambda manifest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(toy, target, 'mxnet')
    monkeypatch.undo()
    assert read_export(target).model['width'] == 4 and [*tmp_path.iterdir()] == [target]
    (tmp_path / 'file').touch()
    shutil.copytree(target, tmp_path / 'other')
    (tmp_path / 'other' / 'export.json').write_text('{"files": {}}')   # of another program
    (target / 'final.params').touch()
    for path in (target, tmp_path / 'file', tmp_path / 'other'):
        with pytest.raises(AdaptisError, match='already exists and would be overwritten'):
            export(toy, path, 'mxnet')
    assert (target / 'final.params').is_file() and (target / 'features-symbol.json').is_file()


def test_what_is_no_export(copy, tmp_path):
    with pytest.raises(AdaptisError, match='not an exported network: it has no export.json'):
        read_export(tmp_path)
    with pytest.raises(AdaptisError, match='contains no files for onnxruntime.*--format onnx'):
        load_exported(copy, 'onnxruntime')
    with pytest.raises(AdaptisError, match='There is no backend "tensorrt"'):
        load_exported(copy, 'tensorrt')
    with pytest.raises(AdaptisError, match='There is no format "tflite"'):
        export(None, tmp_path / 'new', 'tflite')


@pytest.mark.parametrize('values, sentence', [
    ({'format': 2}, 'has format 2, but this version .* reads format 1'),
    ({'inference': {'novel': 1}}, "export.json: There is no inference setting 'novel'"),
    ({'taxonomy': [1]}, 'export.json: its "taxonomy" is not a list'),
    ({'inference': [1]}, 'export.json: its "inference" does not have the expected form'),
    ({'attributes': {'min_side': 'x'}}, 'description of graphs and files'),
    ({'stages': {'features': {}}}, 'description of graphs and files'),
    ({'files': 7}, 'description of graphs and files')])
def test_a_manifest_that_is_not_understood(copy, values, sentence):
    change(copy, **values)
    with pytest.raises(AdaptisError, match=sentence):
        load_exported(copy)


def test_a_system_that_is_not_known(copy):
    change(copy, True, model={'name': 'maskformer'})
    with pytest.raises(AdaptisError, match='export.json: There is no network "maskformer"'):
        load_exported(copy)


def test_a_full_disk_leaves_the_older_export(toy, tmp_path):
    """A limit on the size of files stands in for the disk; the largest symbol is beyond it."""
    target = export(toy, tmp_path / 'net', 'mxnet')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(AdaptisError, match='net cannot be written: File too large'):
            export(toy, target, 'mxnet')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_export(target).model['width'] == 4 and [*tmp_path.iterdir()] == [target]


def test_a_folder_that_is_not_whole(copy):
    path = copy / 'points-0000.params'
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(AdaptisError, match='points-0000.params has .* bytes, but it should .*copy'):
        load_exported(copy)
    path.unlink()
    with pytest.raises(AdaptisError, match='points-0000.params is missing: copy'):
        load_exported(copy)


@pytest.mark.parametrize('name', ['../net.params', '/etc/hosts', '..', ''])
def test_files_lie_in_the_folder(copy, name):
    files = read_json(copy / 'export.json')['files']
    change(copy, True, files={**files, name: {'bytes': 1, 'sha256': ''}})
    with pytest.raises(AdaptisError, match='outside its folder|is missing'):
        load_exported(copy)
    change(copy, True, files={key: files[key] for key in list(files)[1:]})
    with pytest.raises(AdaptisError, match='does not list the file features-0000.params'):
        load_exported(copy)


def test_a_file_of_another_export(copy):
    path = copy / 'features-0000.params'
    content = bytearray(path.read_bytes())
    content[-3] ^= 1   # as long, and numbers still
    path.write_bytes(content)
    with pytest.raises(AdaptisError, match='features-0000.params has changed since the export'):
        load_exported(copy)


def test_the_official_flaws_are_part_of_the_graphs(folder):
    with pytest.raises(AdaptisError, match='exported with official=False'):
        load_exported(folder, settings=AdaptISSettings(official=True))
    assert load_exported(folder, settings='toy_v2').settings.mask_threshold == 0.5


def test_other_classes_than_the_networks_are_refused(folder):
    with pytest.raises(AdaptisError, match='2 classes'):
        load_exported(folder, taxonomy=find_taxonomy({}, 5, 2))
    assert load_exported(folder, taxonomy=TOY_TAXONOMY).taxonomy is TOY_TAXONOMY


def test_devices_of_mxnet(folder):
    exported = read_export(folder)
    assert make_runner(exported, 'mxnet').device == mx.cpu()
    runner = make_runner(exported, 'mxnet', 'cpu')
    assert isinstance(runner, MXNetRunner) and runner.device == mx.cpu()


@pytest.mark.parametrize('ctx, device', [
    (None, 'cpu'), ('cpu', 'cpu'), ('cpu:1', 'cpu'), ('auto', 'cpu'), ('auto', 'gpu:0'),
    ('gpu', 'gpu:0'), ('gpu:1', 'gpu:1'), (mx.cpu(), 'cpu'), (mx.gpu(1), 'gpu:1')])
def test_devices_of_onnx_runtime(folder, ctx, device, monkeypatch):
    runtime = pytest.importorskip('onnxruntime')
    cuda = ['CUDAExecutionProvider'] * (device != 'cpu')
    monkeypatch.setattr(runtime, 'get_available_providers', lambda: [*cuda, 'CPUExecutionProvider'])
    exported = read_export(folder)
    paths = {name: {'onnx': folder / f'{name}.onnx'} for name in exported.stages}
    runner = make_runner(exported._replace(paths=paths), 'onnxruntime', ctx)
    assert isinstance(runner, OnnxRunner) and runner.device == device
    names = [p if isinstance(p, str) else p[0] for p in runner._providers()]
    assert names == [*cuda, 'CPUExecutionProvider']


@pytest.mark.parametrize('device, sentence', [
    ('gpu', 'supports only the CPU: .*onnxruntime-gpu'), ('tpu', 'not a device'),
    ('cpu:0', 'not a device'), ('gpu:a', 'not a device')])
def test_devices_that_onnx_runtime_has_not(device, sentence, monkeypatch):
    runtime = pytest.importorskip('onnxruntime')
    monkeypatch.setattr(runtime, 'get_available_providers', lambda: ['CPUExecutionProvider'])
    with pytest.raises(AdaptisError, match=sentence):
        OnnxRunner({}, {}, device)


@pytest.mark.filterwarnings('ignore:Specified provider')
def test_a_broken_model_and_a_silent_cpu(toy, tmp_path, monkeypatch):
    pytest.importorskip('onnx')
    runtime = pytest.importorskip('onnxruntime')
    written = export(toy, tmp_path / 'net', 'onnx')
    files = {'proposals': written / 'proposals.onnx'}
    monkeypatch.setattr(runtime, 'get_available_providers', lambda: ['CUDAExecutionProvider'])
    runner = OnnxRunner(read_export(written).stages, files, 'gpu')   # which falls back to the CPU
    if 'CUDAExecutionProvider' not in runtime.capi._pybind_state.get_available_providers():
        with pytest.raises(AdaptisError, match='cannot compute on gpu:0'):
            runner.run('proposals', np.zeros((1, 4, 8, 8)))
    with pytest.raises(AdaptisError, match='cannot compute .*proposals.onnx'):
        OnnxRunner(runner.stages, files, 'cpu').run('proposals', np.zeros((1, 5, 8, 8)))
    files['proposals'].write_bytes(b'no model')
    with pytest.raises(AdaptisError, match='proposals.onnx cannot be read by ONNX Runtime'):
        OnnxRunner(runner.stages, files, 'cpu').run('proposals', np.zeros((1, 4, 8, 8)))
