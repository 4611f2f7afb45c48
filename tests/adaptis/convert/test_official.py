"""Official checkpoint files, written here under the official names."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.convert.names import detect_network, map_name, map_names
from adaptis.convert.official import convert
from adaptis.errors import AdaptisError
from adaptis.model import load_model
from adaptis.model.backbones import make_trunk
from adaptis.runtime import mx
from tests.golden import weights


@pytest.fixture
def checkpoint(parity, tmp_path):
    """A file as the official code saves it, width 8, all values 0.5; and its arrays."""
    entries = weights.entries(parity / 'toy_w8' / 'names.json')
    arrays = {e['name']: mx.nd.full(tuple(e['shape']), 0.5) for e in entries}
    path = tmp_path / 'official.params'
    mx.nd.save(str(path), arrays)
    return path, arrays


def test_every_official_name_has_its_own_place(parity):
    for folder in ('toy', 'toy_w8'):
        names = [e['name'] for e in weights.entries(parity / folder / 'names.json')]
        mapped, unknown = map_names(names)
        assert not unknown
        assert len(set(mapped.values())) == len(names)


def test_names_by_hand():
    assert (map_name('feature_extractor.u3.conv3_1.0.weight')
            == 'encoder.backbone.up.0.join.1.0.weight')
    assert map_name('adaptis_head.block0.4.bias') == 'point_head.before.3.0.bias'
    assert map_name('adaptis_head.block0.4.colour') is None
    assert map_name('something.else') is None


def test_converted_file_loads(checkpoint, tmp_path, capsys):
    path, arrays = checkpoint
    target = tmp_path / 'ours.params'
    assert main(['convert', str(path), str(target)]) == 0
    assert f'{len(arrays)} parameters mapped, 0 not' in capsys.readouterr().out
    net = load_model(target)
    assert net.description == {'name': 'adaptis_toy', 'width': 8, 'num_classes': 2}
    assert (net.point_head.first.weight.data().asnumpy() == 0.5).all()


def test_network_without_proposals(checkpoint, tmp_path):
    path, arrays = checkpoint
    mx.nd.save(str(path), {n: a for n, a in arrays.items() if not n.startswith('proposals_head')})
    convert(path, tmp_path / 'ours.params')
    net = load_model(tmp_path / 'ours.params')
    assert not net.has_proposals
    image, points = mx.nd.zeros((1, 3, 16, 16)), mx.nd.zeros((1, 2, 2))
    assert len(net(image, points)) == 2


def test_what_does_not_map_is_reported(checkpoint, tmp_path, capsys):
    path, arrays = checkpoint
    mx.nd.save(str(path), {**arrays, 'extra_head.weight': mx.nd.zeros((1,))})
    assert main(['convert', str(path), str(tmp_path / 'ours.params')]) == 0
    assert 'not mapped: extra_head.weight' in capsys.readouterr().out


def test_files_that_are_no_checkpoint(checkpoint, tmp_path, capsys):
    path, arrays = checkpoint
    target = tmp_path / 'ours.params'
    whole = path.read_bytes()
    for content in (b'', b'hello', whole[:len(whole) // 2]):
        path.write_bytes(content)
        assert main(['convert', str(path), str(target)]) == 1
        assert capsys.readouterr().err.count('\n') == 1
    mx.nd.save(str(path), {'conv0_weight': mx.nd.zeros((1,))})
    with pytest.raises(AdaptisError, match='not an official AdaptIS'):
        convert(path, target)
    mx.nd.save(str(path), {**arrays, 'adaptis_head.block0.0.weight': mx.nd.zeros((8,))})
    with pytest.raises(AdaptisError, match=r'point_head.first.weight is \(8,\), not'):
        convert(path, target)
    del arrays['adaptis_head.block1.2.bias']
    mx.nd.save(str(path), arrays)
    with pytest.raises(AdaptisError, match='point_head.after.1.bias'):
        convert(path, target)
    assert not target.exists()


def test_an_existing_file_is_not_overwritten(checkpoint, tmp_path, capsys):
    target = tmp_path / 'ours.params'
    for path in (target, target.with_suffix('.json')):
        path.write_text('mine')
        assert main(['convert', str(checkpoint[0]), str(target)]) == 1
        assert f'{path} already exists' in capsys.readouterr().err
        assert path.read_text() == 'mine'
        path.unlink()


@pytest.mark.parametrize('source, message', [
    ('absent.params', 'absent.params does not exist'), ('.', 'is a folder')])
def test_a_source_that_is_not_there(tmp_path, monkeypatch, capsys, source, message):
    monkeypatch.chdir(tmp_path)
    assert main(['convert', source, 'ours.params']) == 1
    assert message in capsys.readouterr().err


def test_a_checkpoint_of_another_official_network(checkpoint, tmp_path):
    path, arrays = checkpoint
    mx.nd.save(str(path), {n: a for n, a in arrays.items() if 'feature_extractor' not in n})
    with pytest.raises(AdaptisError, match='not a complete checkpoint of the official toy network'):
        convert(path, tmp_path / 'ours.params')


def test_weights_survive_the_way_there(checkpoint, tmp_path):
    path, arrays = checkpoint
    rng = np.random.default_rng(0)
    name = 'adaptis_head.block0.0.weight'
    arrays[name] = mx.nd.array(rng.normal(size=arrays[name].shape))
    mx.nd.save(str(path), arrays)
    convert(path, tmp_path / 'ours.params')
    loaded = load_model(tmp_path / 'ours.params').point_head.first.weight.data()
    np.testing.assert_array_equal(loaded.asnumpy(), arrays[name].asnumpy())


PHOTO = {'cityscapes_r50': 'adaptis_deeplab', 'fpn_r50': 'adaptis_fpn'}


def photo_checkpoint(parity, folder, path, change=None):
    """A file as the official code saves it, all values 0.5 if not changed; and its arrays."""
    entries = weights.entries(parity / folder / 'names.json')
    arrays = {e['name']: mx.nd.full(tuple(e['shape']), 0.5) for e in entries}
    arrays = change(arrays) if change else arrays
    mx.nd.save(str(path), arrays)
    return arrays


@pytest.mark.parametrize('folder', sorted(PHOTO))
def test_photo_checkpoints_are_recognised(parity, tmp_path, capsys, folder):
    path, target = tmp_path / 'official.params', tmp_path / 'ours.params'
    arrays = photo_checkpoint(parity, folder, path)
    assert detect_network(arrays) == PHOTO[folder]
    mapped, unknown = map_names(arrays, PHOTO[folder])
    assert not unknown and len(set(mapped.values())) == len(arrays)
    assert main(['convert', str(path), str(target), '--list']) == 0
    said = capsys.readouterr().out
    assert f'{len(arrays)} parameters mapped, 0 not' in said
    assert 'adaptis_head.block1.2.body.0.weight -> point_head.after.2.0.weight' in said
    net = load_model(target)
    assert net.description == {'name': PHOTO[folder], 'backbone': 'resnet50', 'num_classes': 19}
    assert (net.num_stuff, net.stride) == (11, 4)
    assert (net.point_head.first.weight.data().asnumpy() == 0.5).all()


def as_resnet34(arrays):
    """The trunk of an official ResNet-34 instead: narrower, with two convolutions per block."""
    trunk = make_trunk('resnet34', True, False)
    names = {'stem.0.': 'conv1.', 'stem.1.': 'bn1.',
             **{f'stages.{i}.': f'layer{i + 1}.' for i in range(4)}}
    kept = {n: a for n, a in arrays.items() if '.backbone.' not in n}
    for name, parameter in trunk._collect_params_with_prefix().items():
        start = next(s for s in names if name.startswith(s))
        official = f'feature_extractor.backbone.{names[start]}{name[len(start):]}'
        kept[official] = mx.nd.full(parameter.shape, 0.25)
    for name, array in kept.items():
        if array.ndim == 4 and array.shape[1] == 2048:
            kept[name] = array[:, :512]
    kept['feature_extractor.skip_project.skip_project.0.weight'] = mx.nd.ones((32, 64, 1, 1))
    return kept


def change_heads(arrays):
    """ResNet-34, 133 classes, no proposal branch, no coordinates."""
    arrays = {n: a for n, a in as_resnet34(arrays).items() if not n.startswith('proposals_head')}
    first = 'adaptis_head.block0.0.weight'
    arrays[first] = arrays[first][:, 3:]
    arrays['segmentation_head.layers.2.weight'] = mx.nd.ones((133, 192, 1, 1))
    arrays['segmentation_head.layers.2.bias'] = mx.nd.ones((133,))
    return arrays


def test_what_a_photo_network_is_like_is_read_from_its_arrays(parity, tmp_path, capsys):
    path, target = tmp_path / 'official.params', tmp_path / 'ours.params'
    photo_checkpoint(parity, 'cityscapes_r50', path, change_heads)
    assert main(['convert', str(path), str(target)]) == 1
    assert '133 classes, but it does not say how many of them are stuff' in capsys.readouterr().err
    assert not target.exists()
    assert main(['convert', str(path), str(target), '--num-stuff', '53']) == 0
    net = load_model(target)
    assert net.description == {'name': 'adaptis_deeplab', 'backbone': 'resnet34',
                               'num_classes': 133, 'coordinates': 'none', 'proposals': False,
                               'num_stuff': 53}
    assert not net.has_proposals


@pytest.mark.parametrize('lost, message', [
    ('layer3.5', '5 blocks in the third stage; supported are resnet18'),
    ('adaptis_head.block0.0', "official FPN network: it lacks .*'point_head.first.weight'")])
def test_photo_checkpoints_that_are_not_whole(parity, tmp_path, lost, message):
    path = tmp_path / 'official.params'
    photo_checkpoint(parity, 'fpn_r50', path,
                     lambda arrays: {n: a for n, a in arrays.items() if lost not in n})
    with pytest.raises(AdaptisError, match=message):
        convert(path, tmp_path / 'ours.params')


def test_the_marks_of_mxnets_own_checkpoints_are_taken_off(checkpoint, tmp_path):
    """``HybridBlock.export`` and ``save_checkpoint`` write ``arg:`` and ``aux:``."""
    path, arrays = checkpoint
    marked = {('aux:' if 'running' in name else 'arg:') + name: a for name, a in arrays.items()}
    mx.nd.save(str(tmp_path / 'net-0012.params'), marked)
    assert len({name[:4] for name in marked}) == 2
    plain, ours = (convert(p, tmp_path / f'{n}.params')
                   for n, p in enumerate((path, tmp_path / 'net-0012.params')))
    assert plain == ours
    assert (tmp_path / '0.params').read_bytes() == (tmp_path / '1.params').read_bytes()
    mx.nd.save(str(path), {'arg:a': mx.nd.zeros(1), 'aux:a': mx.nd.zeros(1)})
    with pytest.raises(AdaptisError, match='two parameters of the same name'):
        convert(path, tmp_path / 'twice.params')
