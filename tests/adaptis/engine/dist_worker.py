"""One worker of the distributed test: trains the tiny net and writes its parameters.

    python dist_worker.py DATA OUTPUT.npz BATCH_SIZE KVSTORE
"""
from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np
from toy_setup import TinySystem, config, tiny_net

from adaptis.config import DataConfig
from adaptis.data.toy import ToyDataset
from adaptis.engine.trainer import Run, fit
from adaptis.runtime import mx


def main(data: Path, output: Path, batch_size: int, kvstore: str) -> None:
    store = mx.kv.create(kvstore) if kvstore.startswith('dist') else kvstore
    rank, world = getattr(store, 'rank', 0), getattr(store, 'num_workers', 1)
    settings = config(data)
    settings = dataclasses.replace(settings, data=DataConfig(str(data), 'none'), **{
        name: dataclasses.replace(getattr(settings, name), batch_size=batch_size)
        for name in ('instances', 'proposals')})
    net = tiny_net(seed=rank, dropout=0.0)  # the kvstore must spread the weights of rank 0
    net.hybridize()  # oneDNN then keeps weights in a layout of its own, which cannot be sent
    with tempfile.TemporaryDirectory() as folder:
        fit(Run(config=settings, net=net,
                make_system=lambda name, stage: PlainSystem(net, stage=name),
                dataset=ToyDataset(data, 'train'), folder=Path(folder), contexts=[mx.cpu()],
                kvstore=store, rank=rank, world_size=world))
    arrays = {k: p.data().asnumpy() for k, p in net._collect_params_with_prefix().items()}
    np.savez(output.with_name(f'{output.stem}{rank}.npz'), **arrays)


class PlainSystem(TinySystem):
    """Without the state that follows the batch of its own process."""

    def losses(self, batch: dict) -> dict:
        self.threshold = 0.5
        result = super().losses(batch)
        return {'instances': result['instances'] / (1 + self.threshold),
                **{k: v for k, v in result.items() if k != 'instances'}}


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
