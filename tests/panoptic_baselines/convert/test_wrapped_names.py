"""Checkpoints whose names or numbers are wrapped as training programs do."""
from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from adaptis.cli import main
from adaptis.errors import AdaptisError
from adaptis.model.zoo import read_arrays
from panoptic_baselines.convert.checkpoints import read_checkpoint
from panoptic_baselines.convert.official import convert, load_backbone
from panoptic_baselines.convert.safetensor_files import read_safetensors
from panoptic_baselines.convert.wrappers import without_prefix, wrapper_prefixes
from panoptic_baselines.layers.backbones import make_backbone
from tests.panoptic_baselines.convert.pickles import tensor, torch_file


def torchvision():
    """A ResNet-18 under torchvision's names, with its classifier."""
    rng, arrays = np.random.default_rng(0), {}

    def put(conv, norm, *shape):
        arrays[f'{conv}.weight'] = rng.random(shape, np.float32)
        for field in ('weight', 'bias', 'running_mean', 'running_var'):
            arrays[f'{norm}.{field}'] = rng.random(shape[0], np.float32)

    put('conv1', 'bn1', 64, 3, 7, 7)
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            source = max(64, width // 2) if block == 0 else width
            put(f'layer{stage}.{block}.conv1', f'layer{stage}.{block}.bn1', width, source, 3, 3)
            put(f'layer{stage}.{block}.conv2', f'layer{stage}.{block}.bn2', width, width, 3, 3)
            if stage > 1 and block == 0:
                put(f'layer{stage}.0.downsample.0', f'layer{stage}.0.downsample.1',
                    width, source, 1, 1)
    arrays['fc.weight'] = rng.random((5, 512), np.float32)
    return arrays


ARRAYS = torchvision()
USELESS = ['fc.weight']


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """What the bare arrays convert to."""
    folder = tmp_path_factory.mktemp('plain')
    (folder / 'a.pkl').write_bytes(pickle.dumps(ARRAYS))
    report = convert(folder / 'a.pkl', folder / 'a.params')
    assert report['prefix'] == '' and report['unknown'] == USELESS
    return {name: array.asnumpy() for name, array in read_arrays(folder / 'a.params').items()}


@pytest.fixture
def same(plain, tmp_path):
    """Convert a file, compare what comes out with what the bare arrays give; return the report."""
    def check(path, tolerance=0.0):
        report = convert(path, tmp_path / 'ours.params')
        found = read_arrays(tmp_path / 'ours.params')
        assert set(found) == set(plain)
        for name, array in plain.items():
            np.testing.assert_allclose(found[name].asnumpy(), array, rtol=tolerance)
        return report
    return check


def pickled(path, content):
    path.write_bytes(pickle.dumps(content))
    return path


def prefixed(prefix, arrays=ARRAYS):
    return {prefix + name: array for name, array in arrays.items()}


@pytest.mark.parametrize('prefix', ['module.', 'model.', 'module.model.', '_orig_mod.', 'backbone.',
                                    'whatever.it.is.'])
def test_a_prefix_that_all_names_share_is_taken_off(same, tmp_path, prefix):
    report = same(pickled(tmp_path / 'a.pkl', {'state_dict': prefixed(prefix)}))
    assert report['prefix'] == prefix and report['unknown'] == [prefix + 'fc.weight']


def test_a_known_prefix_is_taken_off_where_others_lie_beside_it(same, tmp_path):
    other = {'criterion.weight': np.zeros(3), **prefixed('ema.', {'conv1.weight': np.zeros(2)})}
    report = same(pickled(tmp_path / 'a.pkl', {**other, **prefixed('model.')}))
    assert report['prefix'] == 'model.'
    assert report['unknown'] == ['criterion.weight', 'ema.conv1.weight', 'model.fc.weight']


def test_an_unknown_prefix_is_not_guessed_where_others_lie_beside_it(tmp_path):
    path = pickled(tmp_path / 'a.pkl', {**prefixed('student.'), **prefixed('mentor.')})
    with pytest.raises(AdaptisError, match='not a checkpoint of'):
        convert(path, tmp_path / 'ours.params')


def test_the_command_says_what_was_taken_off(tmp_path, capsys):
    path = pickled(tmp_path / 'a.pkl', prefixed('module.'))
    assert main(['convert', str(path), str(tmp_path / 'ours.params')]) == 0
    assert 'The prefix "module." was removed from the names.' in capsys.readouterr().out


@pytest.mark.parametrize('content', [
    {'state_dict': {'model': ARRAYS}}, {'model': {'module': ARRAYS}}, {'network': ARRAYS},
    {'model': ARRAYS, 'ema_state': {name: a + 1 for name, a in ARRAYS.items()}},
    {'ema_state': ARRAYS, 'optimizer': {'state': {0: {'momentum': np.ones(3)}}}},
    {'args': argparse.Namespace(lr=0.1, out=Path('run')), 'model': ARRAYS, 'epoch': 3}])
def test_dictionaries_around_the_parameters_and_things_beside_them(same, tmp_path, content):
    assert same(pickled(tmp_path / 'a.pkl', content))['unknown'] == USELESS


@pytest.mark.parametrize('name, shape', [
    ('layer1.0.conv2.weight', (64,)), ('conv1.weight', ()), ('conv1.weight', (4, 5, 7, 7))])
def test_known_names_with_other_shapes(tmp_path, name, shape):
    path = pickled(tmp_path / 'a.pkl', {**ARRAYS, name: np.ones(shape, np.float32)})
    backbone = make_backbone('resnet18')
    net = type('Net', (), {'backbones': [backbone]})()
    for use in (lambda: convert(path, tmp_path / 'a.params'), lambda: load_backbone(net, path)):
        with pytest.raises(AdaptisError, match='shapes are different|belongs to another network'):
            use()


def test_parameters_in_a_dictionary_for_each_module(same, tmp_path):
    nested = {}
    for name, array in ARRAYS.items():
        first, _, rest = name.partition('.')
        nested.setdefault(first, {})[rest] = array
    same(pickled(tmp_path / 'a.pkl', {'model': nested}))


def test_a_namespace_is_left_unread(tmp_path):
    """Its state can hold nothing but what a pickle may hold anywhere."""
    class Evil:
        def __reduce__(self):
            return print, ('ran',)
    path = pickled(tmp_path / 'a.pkl', {'args': argparse.Namespace(x=Evil()), 'model': ARRAYS})
    with pytest.raises(AdaptisError, match=r"asks for '(__builtin__|builtins)\.print'"):
        read_checkpoint(path)


def bfloat16(array):
    """The upper halves of float32 numbers, rounded to nearest."""
    bits = np.ascontiguousarray(array, '<f4').view('<u4').astype('<u8')
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype('<u2')


def test_bfloat16_of_pytorch(same, tmp_path):
    tensors = {name: tensor(str(i), a.size, a.shape, [s // 4 for s in a.strides], kind='BFloat16')
               for i, (name, a) in enumerate(ARRAYS.items())}
    path = tmp_path / 'a.pth'
    path.write_bytes(torch_file({'model': tensors}, {
        str(i): bfloat16(a).tobytes() for i, a in enumerate(ARRAYS.values())}))
    same(path, tolerance=2 ** -8)   # eight bits of a significand


def test_bfloat16_keeps_its_bits(tmp_path):
    raw = np.array([0x3f80, 0xc000, 0x7f80, 1, 0], '<u2')   # 1, -2, infinity, smallest, 0
    path = tmp_path / 'a.pth'
    path.write_bytes(torch_file({'w': tensor('0', 3, (2,), (1,), 1, 'BFloat16'),
                                 'all': tensor('1', 5, (5,), (1,), 0, 'BFloat16')},
                                {'0': raw[:3].tobytes(), '1': raw.tobytes()}))
    found = read_checkpoint(path)
    assert found['w'].tolist() == [-2, np.inf]
    assert found['all'].tolist() == [1, -2, np.inf, 2.0 ** -133, 0]


@pytest.mark.parametrize('prefix', ['', 'model.'])
def test_safetensors(same, tmp_path, prefix):
    path = tmp_path / 'model.safetensors'
    path.write_bytes(save(prefixed(prefix)))
    assert same(path)['prefix'] == prefix
    backbone = make_backbone('resnet18')
    backbone.initialize()
    load_backbone(type('Net', (), {'backbones': [backbone]})(), path)


def test_kinds_of_numbers_in_safetensors(tmp_path):
    arrays = {'half': np.array([1, 2], 'f2'), 'long': np.array([[3]]), 'bool': np.array([True])}
    path = tmp_path / 'a.safetensors'
    path.write_bytes(save(arrays))
    found = read_safetensors(path)
    assert {name: a.dtype for name, a in found.items()} == {n: a.dtype for n, a in arrays.items()}
    assert found['long'].tolist() == [[3]]
    text = b'{"a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}'
    path.write_bytes(len(text).to_bytes(8, 'little') + text + b'\x80\x3f\x00\xc0')
    assert read_safetensors(path)['a'].tolist() == [[1, -2]]
    path.write_bytes(path.read_bytes().replace(b'BF16', b'XY16'))
    with pytest.raises(AdaptisError, match='not a safetensors file'):
        read_safetensors(path)


@pytest.mark.parametrize('content', [b'', b'{', b'\xff' * 16, save({'a': np.ones(3)})[:-1]])
def test_damaged_safetensors(tmp_path, capsys, content):
    path = tmp_path / 'a.safetensors'
    path.write_bytes(content)
    assert main(['convert', str(path), str(tmp_path / 'ours.params')]) == 1
    message = capsys.readouterr().err
    assert 'is not a safetensors file, or it is cut short' in message and 'Traceback' not in message


def test_prefixes_by_hand():
    assert wrapper_prefixes(['a.b.x', 'a.b.y']) == ['', 'a.', 'a.b.']
    assert wrapper_prefixes(['ema.x', 'model.x', 'z']) == ['', 'model.', 'ema.']
    assert wrapper_prefixes(['x', 'y']) == ['']
    assert without_prefix(['a.x', 'b.x'], 'a.') == {'x': 'a.x'}
