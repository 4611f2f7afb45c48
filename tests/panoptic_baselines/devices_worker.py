"""A training step of a port on one device, and on two that share their batch statistics.

Prints the losses of both and the difference of the running statistics, as JSON.  It runs in a
separate process, because a deadlocked step can only be killed, and because on CPUs MXNet needs
special settings for operators that wait for each other.
"""
from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from adaptis.commands.train import set_norm_devices
from adaptis.config import OptimizerConfig, StageConfig
from adaptis.engine.steps import make_trainer, prepare_gradients, train_step
from adaptis.registry import find_family
from adaptis.runtime import mx
from tests.panoptic_baselines.networks import CONDINST, DENSE, TINY, TWO_STAGE, UNIFIED
from tests.panoptic_baselines.training import TAXONOMY, host_batch, scene

SIZES = {'num_things': TAXONOMY.num_things, 'num_stuff': TAXONOMY.num_stuff}
SYSTEMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'condinst': ({**CONDINST, 'semantic': True, 'branch_norm': 'SyncBatchNorm'},
                 {'positives': 'score', 'limit': 5}),
    'dense_detections': (DENSE, {'mask_loss': True}),
    'panoptic_fpn': (TWO_STAGE, {'rois': 16}),
    'unified': (UNIFIED, {'rois': 16}),
}
"""Those that read results of the network within a step."""


def learn(name: str, contexts: list[Any], hybridize: bool
          ) -> tuple[dict[str, float], dict[str, np.ndarray], Any]:
    """Return the losses of a step on two images, the statistics that it leaves, and the system."""
    mx.random.seed(0)
    np.random.seed(0)
    model, options = SYSTEMS[name]
    family = find_family(name)
    net = family.build(set_norm_devices({
        'name': name, **TINY, **SIZES, **model, 'norm_layer': 'SyncBatchNorm'}, len(contexts)),
        contexts)
    rng = np.random.default_rng(0)
    parameters = net._collect_params_with_prefix()
    for key, parameter in sorted(parameters.items()):
        if key.endswith(('weight', 'bias')):
            parameter.set_data(mx.nd.array(rng.normal(0, 0.05, parameter.shape)))
    system = family.make_system(net, TAXONOMY, 'joint', frozen_stages=0, hybridize=hybridize,
                                **options)
    trainer = make_trainer(system, StageConfig(batch_size=2, points=None, steps=1, optimizer=(
        OptimizerConfig(lr=0.1, name='sgd'))), 'device')
    prepare_gradients(trainer, accumulate=False)
    batch = host_batch(system, scene(), scene(objects=((20, 10, 50, 44, 3),)))
    losses = train_step(system, trainer, batch, contexts)
    for parameter in parameters.values():   # the devices have learned the same
        first, *others = (values.asnumpy() for values in parameter.list_data())
        assert all(np.array_equal(first, other) for other in others), parameter.name
    return losses, {key: parameter.data(contexts[-1]).asnumpy()
                    for key, parameter in parameters.items() if 'running' in key}, system


def main(name: str, hybridize: bool) -> None:
    one, expected, _ = learn(name, [mx.cpu(0)], hybridize)
    two, found, _ = learn(name, [mx.cpu(0), mx.cpu(1)], hybridize)
    distance = max(float(np.abs(found[key] - expected[key]).max()
                         / (np.abs(expected[key]).max() + 1e-9)) for key in expected)
    print(json.dumps({'one': one, 'two': two, 'statistics': len(expected), 'distance': distance}))


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2] == 'hybridized')
