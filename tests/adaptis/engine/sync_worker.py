"""A step of AdaptIS on one device, or on two that share their batch statistics or do not.

It writes the losses and the changes of the step, which are the gradients for a learning rate of 1.
It runs in a separate process, because on CPUs MXNet needs special settings for operators that wait
for each other.
"""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from adaptis.config import OptimizerConfig, StageConfig
from adaptis.engine.steps import make_trainer, prepare_gradients, train_step
from adaptis.model import get_model
from adaptis.runtime import mx
from adaptis.system import AdaptISSystem


def make_batch() -> dict:
    rng = np.random.default_rng(0)
    instances = np.zeros((8, 1, 66, 80), np.int8)
    instances[:, :, 8:34, 12:46] = 1
    return {'image': rng.integers(0, 255, (4, 3, 66, 80)).astype(np.uint8),
            'points': np.full((4, 2, 2), 15, np.float32), 'instances': instances,
            'semantic': instances[::2, 0].astype(np.int16)}


def make_net(contexts: list, norm: str) -> object:
    norm_kwargs = {'num_devices': len(contexts)} if norm == 'SyncBatchNorm' else {}
    net = get_model('adaptis_fpn', backbone='resnet18', width=8, num_classes=3, num_stuff=1,
                    norm_layer=norm, norm_kwargs=norm_kwargs)
    net.initialize(mx.init.Xavier(), ctx=contexts)
    rng = np.random.default_rng(1)
    for name, parameter in sorted(net._collect_params_with_prefix().items()):
        if parameter.grad_req != 'null':
            base = 1.0 if name.endswith('gamma') else 0.0
            parameter.set_data(mx.nd.array(base + rng.normal(0, 0.05, parameter.shape)))
    return net


def main(path: Path, devices: int, norm: str = 'BatchNorm', stage: str = 'instances',
         hybridize: bool = False) -> None:
    contexts = [mx.cpu(i) for i in range(devices)]
    net = make_net(contexts, norm)
    system = AdaptISSystem(net, stage, hybridize=hybridize)
    trainer = make_trainer(system, StageConfig(batch_size=4, points=2, steps=9, optimizer=(
        OptimizerConfig(lr=1.0, name='sgd'))), 'device')
    prepare_gradients(trainer, accumulate=False)
    parameters = net._collect_params_with_prefix()
    before = {name: parameter.data(contexts[-1]).asnumpy()
              for name, parameter in parameters.items()}
    losses = train_step(system, trainer, make_batch(), contexts)
    changes = {name: parameter.data(contexts[-1]).asnumpy() - before[name]
               for name, parameter in parameters.items()}
    np.savez(path, **changes, **{f'loss.{k}': v for k, v in losses.items()})


if __name__ == '__main__':
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5], hybridize='hybridized' in sys.argv)
