"""What the tests of networks as ONNX models share: weights that matter, inputs, the comparison."""
from __future__ import annotations

import numpy as np

from adaptis.deploy.onnx_export import to_onnx
from adaptis.deploy.stages import concrete_shape
from adaptis.runtime import mx
from tests.adaptis.deploy.onnx_check import differences

IMAGE_SIZE = 64, 96
"""In which boxes and points lie, and beyond."""


def initialized(block):
    """With statistics and shifts that matter, and let something through every ReLU."""
    mx.random.seed(0)
    block.initialize(mx.init.Xavier())
    for name, parameter in block.collect_params().items():
        if name.endswith(('running_var', 'gamma')):
            parameter.set_data(mx.nd.random.uniform(0.5, 1.5, parameter.shape))
        elif name.endswith(('running_mean', 'beta', 'conv0_bias')):
            parameter.set_data(mx.nd.random.normal(0, 0.3, parameter.shape))
    block.hybridize()
    return block


def assert_equal(stage, path, *sizes, within=1e-4):
    """At sizes by their names, up to a share of values above 1."""
    to_onnx(stage, path)
    rng = np.random.default_rng(0)
    for values in sizes:
        arrays = [random_array(rng, s, concrete_shape(s, values)) for s in stage.inputs]
        found = differences(stage, path, arrays)
        assert list(found) == list(stage.outputs)
        assert all(d.relative < within for d in found.values()), (stage.name, values, found)
        assert np.median([d.largest for d in found.values()]) > 0, (stage.name, found)


def assert_all_equal(stages, folder, *images):
    """Of all stages of a network, of images (H, W); other maps are some pixels large."""
    for stage in stages:
        sizes = [{'H': h, 'W': w, 'h': 7 + i, 'w': 12 - i, 'N': 2 + 5 * i, 'K': 4 + i,
                  **{f'{side}{level}': 3 + level + i for side in 'hw' for level in (1, 2, 3)}}
                 for i, (h, w) in enumerate(images)]
        assert_equal(stage, folder / f'{stage.name}.onnx', *sizes)


def random_array(rng, signature, shape):
    """float32, from where values of that name come from."""
    if signature.name == 'image':
        array = rng.uniform(0, 255, shape)
    elif signature.name in ('probabilities', 'things', 'scores', 'masks'):
        array = rng.uniform(size=shape)
    elif signature.name == 'classes':
        array = rng.integers(0, 2, shape)
    elif signature.name in ('boxes', 'queries'):   # (N, 4), or (4, h, w)
        array = random_boxes(rng, int(np.prod(shape)) // 4)
        array = (array if len(shape) == 2 else array.T).reshape(shape)
    elif signature.name == 'rois':
        array = np.concatenate([np.zeros((shape[0], 1)), random_boxes(rng, shape[0]) / 8], axis=1)
    elif signature.name == 'points':
        array = rng.uniform(-0.5, 1.5, shape) * IMAGE_SIZE
    elif signature.name == 'sizes':
        array = rng.choice([64, 128], shape)
    else:
        array = rng.normal(size=shape)
    return array.astype(np.float32)


def random_boxes(rng, count):
    """(N, 4), inside of the image and beyond, of all lengths."""
    corners = rng.uniform(-0.2, 1.2, (count, 2, 2)) * IMAGE_SIZE[::-1]
    return np.sort(corners, axis=1).reshape(count, 4)
