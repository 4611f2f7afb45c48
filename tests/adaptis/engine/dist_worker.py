"""One worker of the distributed test: trains the tiny net and writes its parameters and losses.

    python dist_worker.py DATA OUTPUT BATCH_SIZE KVSTORE
"""
from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
from toy_setup import TinyNet, TinySystem, config

from adaptis.config import DataConfig
from adaptis.data.toy import ToyDataset
from adaptis.engine.distributed import StageKVStore, create_kvstore, end_together
from adaptis.engine.trainer import Run, fit
from adaptis.runtime import mx

LOSSES: list[list[float]] = []


def main(data: Path, output: Path, batch_size: int, kvstore: str) -> None:
    store = create_kvstore(kvstore)
    rank, world = getattr(store, 'rank', 0), getattr(store, 'num_workers', 1)
    settings = config(data)
    settings = dataclasses.replace(settings, data=DataConfig(str(data), 'none'), **{
        name: dataclasses.replace(getattr(settings, name), batch_size=batch_size)
        for name in ('instances', 'proposals')})
    net = WatchingNet()
    mx.random.seed(rank)   # the kvstore must spread the weights of rank 0
    net.initialize(mx.init.Xavier())
    net.hybridize()  # oneDNN then keeps weights in a layout of its own, which cannot be sent
    output.mkdir(exist_ok=True)
    folder = output / f'run{rank}'
    folder.mkdir()
    fit(Run(config=settings, net=net,
            make_system=lambda name, stage: PlainSystem(net, stage=name),
            dataset=ToyDataset(data, 'train'), folder=folder, contexts=[mx.cpu()],
            kvstore=store, rank=rank, world_size=world))
    arrays = {k: p.data().asnumpy() for k, p in net._collect_params_with_prefix().items()}
    extra = {} if world == 1 else exchange(store, rank)
    np.savez(output / f'{rank}.npz', losses=[sum(each) for each in LOSSES], **arrays, **extra)
    end_together(store)


def exchange(store: object, rank: int) -> dict[str, np.ndarray]:
    """What the processes tell each other outside a training."""
    stage = StageKVStore(store, 'exchange')
    own = mx.nd.array([0.1, 1e-30 + rank, 3e5 * rank])
    stage.average([own])
    try:
        stage.check_same(bytes([rank]))
        said = ''
    except Exception as error:
        said = str(error)
    return {'mean': own.asnumpy(), 'said': said, 'votes': stage.any_process(rank == 1, False),
            'heard': [part.decode() for part in stage.gather(f'rank {rank}'.encode())]}


class WatchingNet(TinyNet):
    """With a batch norm that sees the images and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.norm = mx.gluon.nn.BatchNorm(in_channels=3)

    def hybrid_forward(self, F: object, x: object, points: object) -> tuple:
        instances, semantic = super().hybrid_forward(F, x, points)
        nothing = 0 * F.mean(self.norm(x / 255), axis=1, keepdims=True)
        return instances, F.broadcast_add(semantic, nothing)


class PlainSystem(TinySystem):
    """Without the state that follows the batch of its own process."""

    def losses(self, batch: dict) -> dict:
        self.threshold = 0.5
        result = super().losses(batch)
        result = {'instances': result['instances'] / (1 + self.threshold),
                  **{k: v for k, v in result.items() if k != 'instances'}}
        LOSSES.append([float(value.asscalar()) for value in result.values()])
        return result


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
