"""Reading pickled checkpoints: arrays come out, and nothing else happens."""
from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from panoptic_baselines.convert.checkpoints import read_checkpoint
from tests.panoptic_baselines.convert.pickles import (
    TORCH_LEGACY,
    TORCH_ZIP,
    Code,
    array,
    build,
    call,
    code,
    name,
    program,
    tensor,
    torch_file,
)

EIGHT = np.arange(2, dtype='<f4').tobytes()


@pytest.fixture
def read(tmp_path):
    """Parameters of a file with the given content."""
    def function(content: bytes):
        path = tmp_path / 'checkpoint.pkl'
        path.write_bytes(content)
        return read_checkpoint(path)
    return function


@pytest.fixture
def refusal(read):
    """The sentence with which a file is refused."""
    def function(content: bytes) -> str:
        with pytest.raises(AdaptisError) as caught:
            read(content)
        message = str(caught.value)
        assert '\n' not in message and message.endswith('.')
        return message
    return function


ARRAYS = {
    'double': np.arange(6.0).reshape(2, 3), 'big': np.arange(3, dtype='>i4'),
    'fortran': np.asfortranarray(np.arange(6, dtype='f4').reshape(2, 3)),
    'empty': np.zeros((0, 2), 'f4'), 'none': np.array(3), 'scalar': np.float32(2.5),
    'bool': np.array([True, False]), 'half': np.arange(3, dtype='f2')}


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol(read, protocol):
    got = read(pickle.dumps({'model': ARRAYS, '__author__': 'me', 'iteration': 3}, protocol))
    assert list(got) == list(ARRAYS)
    for key, wanted in ARRAYS.items():
        assert got[key].dtype == wanted.dtype
        np.testing.assert_array_equal(got[key], wanted)


@pytest.mark.parametrize('core', ['numpy.core', 'numpy._core'])
@pytest.mark.parametrize('data', [EIGHT, EIGHT.decode('latin1')])
def test_arrays_of_other_numpys_and_of_python_2(read, core, data):
    got = read(program({'a': array('f4', data, core=core)}))
    np.testing.assert_array_equal(got['a'], [0, 1])


def test_strings_of_python_2_are_bytes(read):
    raw = bytes([0, 200, 255, 10])
    text = Code(b'U' + bytes([len(raw)]) + raw)   # SHORT_BINSTRING
    got = read(program({Code(b'U\x01a'): array('u1', text, (4,))}))
    np.testing.assert_array_equal(got['a'], list(raw))


@pytest.mark.parametrize('container', ['model', 'blobs', 'state_dict', 'model_state_dict', None])
def test_where_parameters_are_kept(read, container):
    arrays = {'w': np.ones(2), 'note': 'text', 'n': 3}
    got = read(pickle.dumps({container: arrays, 'epoch': 1} if container else arrays))
    assert list(got) == ['w']


@pytest.mark.parametrize('content', [TORCH_ZIP, TORCH_LEGACY])
def test_files_of_pytorch(read, content):
    got = read(content)
    assert list(got) == ['w', 'half', 'n', 'p']
    np.testing.assert_array_equal(got['w'], np.arange(6).reshape(2, 3).T)
    np.testing.assert_array_equal(got['half'], np.array([3, 4, 5], np.float16))
    assert got['half'].dtype == np.float16 and got['w'].dtype == np.float32
    assert got['n'] == 7 and got['n'].dtype == np.int64
    np.testing.assert_array_equal(got['p'], [[0, 1, 2]])


def test_views_of_a_storage_of_pytorch(read):
    raw = np.arange(24, dtype='<i4').tobytes()
    got = read(torch_file({'model': {
        'part': tensor('0', 24, (2, 3), (6, 1), 8, 'Int'), 'empty': tensor('1', 0, (0, 4), (4, 1)),
        'number': tensor('0', 24, (), (), 23, 'Int')}}, {'0': raw, '1': b''}))
    np.testing.assert_array_equal(got['part'], [[8, 9, 10], [14, 15, 16]])
    assert got['empty'].shape == (0, 4) and got['number'] == 23


def touch(path) -> str:
    return f'touch {path}'


MARK = 'it-ran'
SHELL = call(name('os', 'system'), touch(MARK))
ATTACKS = {
    'command': SHELL,
    'posix': call(name('posix', 'system'), touch(MARK)),
    'beside the model': {'model': {'a': array('f4', EIGHT)}, 'author': SHELL},
    'deep inside': {'model': {'a': [({'b': SHELL},)]}},
    'in the state of an array': array('f4', SHELL),
    'as a shape': array('f4', EIGHT, [SHELL]),
    'eval': call(name('builtins', 'eval'), f'open({MARK!r}, "w")'),
    'exec of Python 2': call(name('__builtin__', 'execfile'), MARK),
    'getattr': call(name('builtins', 'getattr'), name('os', 'system'), '__call__'),
    'attribute of an attribute': name('collections', 'OrderedDict.__init__.__globals__'),
    'numpy.load': call(name('numpy', 'load'), MARK, None, True),
    'numpy.fromfile': call(name('numpy', 'fromfile'), MARK),
    'numpy runs': call(name('numpy.testing._private.utils', 'runstring'), 'import os', {}),
    'torch.load': call(name('torch', 'load'), MARK),
    'a pickle in a pickle': call(name('pickle', 'loads'), pickle.dumps(print)),
    'object array': array('O8', [SHELL, 1]),
    'objects': array('O', EIGHT),
    'stack global': Code(code('os') + code('system') + b'\x93' + code((touch(MARK),)) + b'R'),
    'old instance': Code(b'(' + code(touch(MARK)) + b'ios\nsystem\n'),
}


class TestMalicious:
    @pytest.mark.parametrize('attack', ATTACKS)
    @pytest.mark.parametrize('shape', ['pkl', 'zip', 'legacy'])
    def test_code_is_refused_and_does_not_run(self, refusal, monkeypatch, tmp_path, attack, shape):
        monkeypatch.chdir(tmp_path)
        content = program(ATTACKS[attack])
        if shape == 'zip':
            content = torch_file(ATTACKS[attack], {})
        if shape == 'legacy':
            content = pickle.dumps(0x1950a86a20f9469cfc6c) + content
        message = refusal(content)
        assert not os.path.exists(MARK)
        assert 'is refused' in message and 'Nothing in the file was run' in message

    def test_the_message_names_what_was_asked_for(self, refusal):
        assert "asks for 'os.system'" in refusal(program(SHELL))

    def test_what_python_itself_writes(self, refusal, monkeypatch, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.system, (touch(MARK),)
        monkeypatch.chdir(tmp_path)
        for protocol in range(6):
            refusal(pickle.dumps({'model': {'w': np.ones(2), 'x': Evil()}}, protocol))
        refusal(pickle.dumps({'w': np.array([Evil()], dtype=object)}))
        assert not os.path.exists(MARK)

    @pytest.mark.parametrize('thing', [
        name('collections', 'OrderedDict'), name('numpy', 'dtype'), name('numpy', 'ndarray'),
        name('torch._utils', '_rebuild_tensor_v2'), name('_codecs', 'encode'),
        name('argparse', 'Namespace')])
    def test_no_attribute_of_ours_can_be_set(self, refusal, thing):
        assert 'not a readable checkpoint' in refusal(program(build(thing, (None, {'_call': 1}))))
        assert 'not a readable checkpoint' in refusal(program(build(thing, {'__defaults__': (1,)})))

    def test_registered_extensions_are_refused_too(self, refusal):
        import copyreg
        copyreg.add_extension('os', 'system', 240)
        try:
            assert "'os.system'" in refusal(b'\x80\x02\x82\xf0' + code((touch(MARK),)) + b'R.')
        finally:
            copyreg.remove_extension('os', 'system', 240)

    @pytest.mark.parametrize('dtype', ['V8', 'S4', 'U4', 'M8', 'c8', 'f4,f4', '', 'f16'])
    def test_other_kinds_of_arrays(self, refusal, dtype):
        assert 'is refused' in refusal(program({'a': array(dtype, EIGHT)}))


BROKEN = {
    'nothing': b'', 'text': b'hello', 'another type': pickle.dumps([1, 2]),
    'no arrays': pickle.dumps({'model': {'a': 1}}), 'cut': pickle.dumps(ARRAYS)[:-20],
    'too few numbers': program({'a': array('f4', EIGHT, (3,))}),
    'negative shape': program({'a': array('f4', EIGHT, (-1,))}),
    'half an array': program({'a': call(name('numpy', 'ndarray'))}),
    'a reference': program({'a': Code(code('0') + b'Q')}),
    'huge': b'\x80\x04\x8e' + b'\xff' * 7 + b'\x7f',
    'archive of something else': torch_file({}, {})[:40] + b'PK\x05\x06' + bytes(18),
    'cut archive': TORCH_ZIP[:1500], 'cut legacy': TORCH_LEGACY[:-9],
    'no storage': torch_file({'a': tensor('0', 2, (2,), (1,))}, {}),
    'short storage': torch_file({'a': tensor('0', 2, (2,), (1,))}, {'0': EIGHT[:4]}),
    'beyond the storage': torch_file({'a': tensor('0', 2, (2,), (1,), 1)}, {'0': EIGHT}),
    'strides beyond': torch_file({'a': tensor('0', 2, (2,), (9,))}, {'0': EIGHT}),
    'negative strides': torch_file({'a': tensor('0', 2, (2,), (-1,), 1)}, {'0': EIGHT}),
    'one number a billion times': torch_file({'a': tensor('0', 2, (10**9,), (0,))}, {'0': EIGHT}),
    'compressed': torch_file({'a': tensor('0', 2, (2,), (1,))}, {'0': EIGHT},
                             zipfile.ZIP_DEFLATED),
    'unknown storage': torch_file({'a': tensor('0', 2, (2,), (1,), 0, 'Complex')}, {'0': EIGHT}),
    'two kinds': torch_file({'a': tensor('0', 2, (2,), (1,)),
                             'b': tensor('0', 4, (2,), (1,), 0, 'Half')}, {'0': EIGHT}),
}


@pytest.mark.parametrize('what', BROKEN)
def test_files_that_are_no_checkpoint(refusal, what):
    refusal(BROKEN[what])


def test_a_damaged_archive_is_noticed(refusal):
    at = TORCH_ZIP.index(np.arange(6, dtype='<f4').tobytes())
    assert 'CRC' in refusal(TORCH_ZIP[:at] + b'\xff' + TORCH_ZIP[at + 1:])


def test_paths_that_are_no_file(tmp_path):
    with pytest.raises(AdaptisError, match='does not exist'):
        read_checkpoint(tmp_path / 'absent.pkl')
    with pytest.raises(AdaptisError, match='is a folder'):
        read_checkpoint(tmp_path)
