"""The golden data of the official Panoptic FPN."""
from __future__ import annotations

import json

import pytest

from adaptis.model.zoo import set_parameters
from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.panoptic_fpn.convert import detectron2_name
from panoptic_baselines.panoptic_fpn.network import PanopticFPN
from tests.golden import weights


@pytest.fixture(scope='session')
def kit(parity_root):
    """The folder of the golden data."""
    return parity_root / 'panoptic_fpn'


@pytest.fixture(scope='session')
def unified_kit(parity_root):
    """The folder of the reference cases of the unified network, in double precision."""
    return parity_root / 'unified'


@pytest.fixture(scope='session')
def official_net(kit):
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
