"""The golden data of the official Panoptic FPN."""
from __future__ import annotations

import importlib.util
import json

import pytest

from adaptis.model.zoo import set_parameters
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.panoptic_fpn.convert import detectron2_name
from panoptic_baselines.panoptic_fpn.network import PanopticFPN


@pytest.fixture(scope='session')
def kit(parity_root):
    """The folder of the golden data."""
    folder = parity_root / 'panoptic_fpn'
    return folder if folder.is_dir() else pytest.skip(f'no golden data at {folder}')


@pytest.fixture(scope='session')
def unified_kit(parity_root):
    """The folder of the reference cases of the unified network, in double precision."""
    folder = parity_root / 'unified'
    return folder if folder.is_dir() else pytest.skip(f'no reference cases at {folder}')


@pytest.fixture(scope='session')
def weights(parity_root):
    """The module of the golden data that fills weights by their official names."""
    spec = importlib.util.spec_from_file_location('weights', parity_root / 'weights.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def official_net(kit, weights):
    """The network with the weights that the official one had."""
    net = PanopticFPN()
    net.initialize(mx.init.Zero())
    set_parameters(net, {detectron2_name(name): mx.nd.array(array)
                         for name, array in weights.load(kit / 'names.json').items()}, kit)
    return net


@pytest.fixture(scope='session')
def coco(kit):
    """COCO's categories, in the order of their ids."""
    ids = json.loads((kit / 'ops' / 'coco_ids.json').read_text())
    return Taxonomy([Category(i, f'thing {i}', True) for i in ids['thing_class_to_coco_id']]
                    + [Category(i, f'stuff {i}', False) for i in ids['stuff_label_to_coco_id'][1:]])
