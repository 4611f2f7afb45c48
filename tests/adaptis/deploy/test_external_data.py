"""Models that ask ONNX Runtime for other files of the machine are refused."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptis.deploy.backends import OnnxRunner
from adaptis.deploy.stages import Interface, Signature
from adaptis.errors import AdaptisError

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')


@pytest.mark.parametrize('where', [None, 'secret.bin', '../secret.bin', '/etc/hostname'])
def test_weights_in_another_file(tmp_path: Path, where: object) -> None:
    """Alone it is computed; with weights elsewhere it is refused, wherever that is."""
    weight = onnx.numpy_helper.from_array(np.float32([3]), 'w')
    if where is not None:
        onnx.external_data_helper.set_external_data(weight, location=str(where), length=4)
        weight.ClearField('raw_data')
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node('Mul', ['x', 'w'], ['y'])], 'g',
        [onnx.helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [1])],
        [onnx.helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, [1])], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 13)])
    model.ir_version = 8
    folder = tmp_path / 'export'
    folder.mkdir()
    (folder / 'a.onnx').write_bytes(model.SerializeToString())
    for secret in (folder / 'secret.bin', tmp_path / 'secret.bin'):
        secret.write_bytes(np.float32([5]).tobytes())
    stages = {'a': Interface((Signature('x', (1,), 'float32'),), ('y',))}
    runner = OnnxRunner(stages, {'a': folder / 'a.onnx'}, 'cpu')
    if where is None:
        assert runner.run('a', np.float32([2]))[0].tolist() == [6]
        return
    with pytest.raises(AdaptisError, match='refers to weights in another file'):
        runner.run('a', np.float32([2]))
