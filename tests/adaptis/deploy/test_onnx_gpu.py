"""ONNX Runtime on a GPU: where arrays are, without one; and models in float16, on the CPU."""
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adaptis.deploy import backends
from adaptis.deploy.export import export
from adaptis.deploy.folder import make_runner, read_export
from adaptis.errors import AdaptisError
from adaptis.inference.encoded import ImageEncoder
from adaptis.inference.predictor import Predictor
from adaptis.loading import load_predictor

onnx = pytest.importorskip('onnx')
runtime = pytest.importorskip('onnxruntime')

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 40, 3)).astype(np.uint8)
POINTS = np.array([[10, 10], [20, 30], [30, 35], [25, 5], [5, 38]], np.float32)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(load_predictor(), tmp_path_factory.mktemp('onnx') / 'net', 'onnx')


class Value:
    """Stands in for an ``OrtValue``: knows where it is, and notes every copy."""

    copies: list[tuple[str, str]] = []

    def __init__(self, array: np.ndarray, place: tuple[str, int], name: str = ''):
        self.array, self.place, self.name = array, place, name

    @classmethod
    def ortvalue_from_numpy(cls, array: np.ndarray, device: str, number: int) -> Value:
        cls.copies.append(('to the device', 'x'.join(map(str, array.shape))))
        return cls(array, (device, number))

    def shape(self) -> list[int]:
        return list(self.array.shape)

    def numpy(self) -> np.ndarray:
        self.copies.append(('to the host', self.name))
        return self.array


class Binding:
    """Stands in for an ``IOBinding``."""

    def __init__(self) -> None:
        self.inputs: dict[str, Value] = {}
        self.outputs: dict[str, tuple[str, int]] = {}
        self.found: list[Value] = []

    def bind_ortvalue_input(self, name: str, value: Value) -> None:
        self.inputs[name] = value

    def bind_output(self, name: str, device: str, number: int) -> None:
        self.outputs[name] = device, number

    def get_outputs(self) -> list[Value]:
        return self.found


class Session:
    """Stands in for a session on a GPU: the CPU computes, and every array must be on the GPU."""

    def __init__(self, path: str, options: Any, providers: list[Any]):
        (name, self.options), fallback = providers
        assert (name, fallback) == ('CUDAExecutionProvider', 'CPUExecutionProvider')
        self.place = 'cuda', self.options['device_id']
        self._session = runtime.InferenceSession(path, options, providers=[fallback])

    def get_providers(self) -> list[str]:
        return ['CUDAExecutionProvider', 'CPUExecutionProvider']

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding) -> None:
        assert {v.place for v in binding.inputs.values()} == {self.place}
        assert set(binding.outputs.values()) == {self.place}
        arrays = self._session.run(list(binding.outputs),
                                   {name: v.array for name, v in binding.inputs.items()})
        binding.found = [Value(*parts) for parts in zip(
            arrays, binding.outputs.values(), binding.outputs)]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Pretend that onnxruntime-gpu is installed and there are GPUs; returns the list of copies."""
    monkeypatch.setattr(Value, 'copies', [])
    stand_in = SimpleNamespace(
        __version__='0', OrtValue=Value, InferenceSession=Session,
        SessionOptions=runtime.SessionOptions,
        get_available_providers=lambda: ['CUDAExecutionProvider', 'CPUExecutionProvider'])
    monkeypatch.setattr(backends, '_onnxruntime', lambda: stand_in)
    return Value.copies


def masks_of(predictor: Any) -> np.ndarray:
    settings = predictor.settings.replace(batch_size=2)
    return ImageEncoder(predictor.net, settings)(IMAGE).masks_at(POINTS)


def test_features_stay_on_the_gpu_between_points(folder: Path, gpu: list) -> None:
    expected = masks_of(on_cpu(folder))
    predictor = Predictor.from_export(folder, 'onnxruntime', 'gpu:1')
    np.testing.assert_array_equal(masks_of(predictor), expected)
    assert gpu == [('to the device', '1x3x32x40'), ('to the host', 'classes'),
                   ('to the host', 'logits'),
                   *[('to the device', '1x2x2'), ('to the host', 'masks')] * 2,
                   ('to the device', '1x1x2'), ('to the host', 'masks')]
    assert predictor.net.runner.best_batch is None and on_cpu(folder).net.runner.best_batch == 1
    session = predictor.net.runner._sessions['points']
    assert session.options == {'device_id': 1, 'cudnn_conv_algo_search': 'HEURISTIC'}
    everything = predictor.set_image(IMAGE).panoptic()
    np.testing.assert_array_equal(everything.segment_map,
                                  on_cpu(folder).set_image(IMAGE).panoptic().segment_map)


def on_cpu(folder: Path) -> Any:
    """A predictor with the real ONNX Runtime, whatever stands in for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, '_onnxruntime', lambda: runtime)
        return Predictor.from_export(folder, 'onnxruntime', 'cpu')


def test_bound_arrays_give_the_same_masks(folder: Path) -> None:
    """The real binding, on the CPU."""
    plain, bound = (on_cpu(folder) for _ in range(2))
    bound.net.runner.keeps_arrays = True
    features = backends.run_stage(bound.net.runner, 'features', {
        'image': np.zeros((1, 3, 32, 32), np.float32)})
    assert all(isinstance(array, backends.DeviceArray) for array in features.values())
    np.testing.assert_array_equal(masks_of(bound), masks_of(plain))


def test_parts_of_an_array_on_a_device() -> None:
    values = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    array = backends.DeviceArray(runtime.OrtValue.ortvalue_from_numpy(values, 'cpu', 0))
    assert array.shape == (1, 2, 3, 4)
    assert array[0:1] is array and array[:1, :, :3, :4] is array   # still there
    np.testing.assert_array_equal(array[0], values[0])
    np.testing.assert_array_equal(array[0:1, :, :2], values[:, :, :2])
    np.testing.assert_array_equal(np.asarray(array.asnumpy()), values)


def test_the_gpu_runs_out_of_memory(folder: Path, gpu: list,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError('Failed to allocate memory for requested buffer of size 1')
    monkeypatch.setattr(Session, 'run_with_iobinding', fail)
    runner = make_runner(read_export(folder), 'onnxruntime', 'gpu')
    with pytest.raises(AdaptisError, match='not have enough memory for this image'):
        runner.run('proposals', np.zeros((1, 16, 8, 8)))


# -- float16 --------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def half_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(load_predictor(), tmp_path_factory.mktemp('half') / 'net', 'onnx',
                  precision='float16')


def run_in_float16(path: Path, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a model operator by operator on the CPU, so that halves are rounded as on a GPU.

    As a whole, ONNX Runtime would compute it in float32 on a CPU.
    """
    model = onnx.load(path)
    values = {**values, **{c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}}
    for node in model.graph.node:
        inputs = [name for name in dict.fromkeys(node.input) if name]
        graph = onnx.helper.make_graph([node], 'one', [onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(values[name].dtype), values[name].shape)
            for name in inputs], [onnx.ValueInfoProto(name=name) for name in node.output])
        one = onnx.helper.make_model(graph, opset_imports=model.opset_import,
                                     ir_version=model.ir_version)
        session = runtime.InferenceSession(one.SerializeToString(),
                                           providers=['CPUExecutionProvider'])
        found = session.run(None, {name: values[name] for name in inputs})
        if node.op_type in ('MatMul', 'Softmax', 'Sigmoid', 'Div', 'Sqrt', 'ReduceSum', 'Range'):
            assert all(array.dtype != np.float16 for array in found), node.op_type
        values.update(zip(node.output, found))
    return {output.name: values[output.name] for output in model.graph.output}


def test_masks_in_float16_are_near_those_in_float32(folder: Path, half_folder: Path) -> None:
    """11 bits: 2 ** -11 for each of some 30 layers, added up as a random walk, is 0.003."""
    values: dict[str, dict[str, np.ndarray]] = {}
    image = IMAGE[:, :32].transpose(2, 0, 1)[None].astype(np.float32)
    for name, where in (('float32', folder), ('float16', half_folder)):
        found = values.setdefault(name, {'image': image, 'points': POINTS[None, :2]})
        for stage in read_export(where).stages:
            if name == 'float32':
                runner = make_runner(read_export(where), 'onnxruntime', 'cpu')
                found.update(backends.run_stage(runner, stage, found))
            else:
                found.update(run_in_float16(where / f'{stage}.onnx', found))
    differences = {name: np.abs(values['float16'][name] - values['float32'][name]).max()
                   for name in ('masks', 'classes')}
    assert all(0 < difference < 0.01 for difference in differences.values()), differences
    assert values['float16']['masks'].dtype == np.float32


def test_float16_halves_the_files_and_says_so(folder: Path, half_folder: Path) -> None:
    sizes = [sum(path.stat().st_size for path in where.glob('*.onnx'))
             for where in (folder, half_folder)]
    assert sizes[1] < 0.6 * sizes[0]
    assert '"onnx_precision": "float16"' in (half_folder / 'export.json').read_text()
    for where, told in ((folder, False), (half_folder, True)):
        assert ('compute in float16' in (where / 'README.md').read_text()) == told
    predictor = Predictor.from_export(half_folder, 'onnxruntime', 'cpu')
    assert predictor.set_image(IMAGE).panoptic().segment_map.shape == (32, 40)


def test_a_weight_that_float16_cannot_hold_keeps_its_layer_in_float32() -> None:
    from adaptis.deploy.onnx_half import to_float16
    helper = onnx.helper
    info = [helper.make_tensor_value_info(name, 1, [1, 1, 4, 4]) for name in ('x', 'y')]
    for weight, expected in ((1e5, []), (2.0, ['Cast', 'Cast'])):
        model = helper.make_model(helper.make_graph(
            [helper.make_node('Conv', ['x', 'w'], ['y'])], 'conv', info[:1], info[1:],
            [onnx.numpy_helper.from_array(np.full((1, 1, 1, 1), weight, np.float32), 'w')]),
            opset_imports=[helper.make_opsetid('', 16)], ir_version=8)
        half = to_float16(model)
        assert [node.op_type for node in half.graph.node if node.op_type == 'Cast'] == expected
        session = runtime.InferenceSession(half.SerializeToString(),
                                           providers=['CPUExecutionProvider'])
        x = np.ones((1, 1, 4, 4), np.float32)
        np.testing.assert_array_equal(session.run(None, {'x': x})[0], x * np.float32(weight))


def test_float16_is_for_onnx(tmp_path: Path) -> None:
    with pytest.raises(AdaptisError, match='format mxnet does not support float16'):
        export(load_predictor(), tmp_path / 'net', 'mxnet', precision='float16')
