"""A network of one convolution, its system and a tiny data set, for tests of the loop."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from adaptis.config import DataConfig, OptimizerConfig, StageConfig, TrainConfig
from adaptis.runtime import mx
from toy_data import ToySettings, generate


def write_samples(folder: Path, count: int, size: int = 16) -> Path:
    """Squares on noise in the authors' layout."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    for index in range(count):
        image = rng.integers(0, 60, (size, size, 3)).astype(np.uint8)
        ids = np.zeros((size, size), np.uint16)
        for i in range(2):
            row, col = rng.integers(0, size - 6, 2)
            ids[row:row + 6, col:col + 6] = i + 1
            image[row:row + 6, col:col + 6] += np.uint8(90 * (i + 1))
        cv2.imwrite(str(folder / f'{index:05d}_rgb.png'), image)
        cv2.imwrite(str(folder / f'{index:05d}_im.png'), ids)
    return folder.parent


def write_run(folder: Path, config: str, train: int, test: int = 3) -> None:
    """Write ``run.yaml`` and, as its data, so many drawn images of 32x32 pixels."""
    settings = ToySettings.default('v1', height=32, width=32, min_objects=2, max_objects=4)
    generate(settings, folder / 'data', {'train': train, 'test': test})
    (folder / 'run.yaml').write_text(config)


class TinyNet(mx.gluon.HybridBlock):
    """(image, points) -> instance logits, semantic logits."""

    description = {'name': 'tiny'}

    def __init__(self, dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        with self.name_scope():
            self.body = mx.gluon.nn.Conv2D(4, 3, padding=1, in_channels=3)
            self.drop = mx.gluon.nn.Dropout(dropout)
            self.head = mx.gluon.nn.Conv2D(1, 1, in_channels=4)
            self.semantic = mx.gluon.nn.Conv2D(2, 1, in_channels=4)

    def backbone_params(self) -> Any:
        return self.body.collect_params()

    def hybrid_forward(self, F: Any, x: Any, points: Any) -> Any:
        features = self.drop(F.relu(self.body(x / 255)))
        instances = F.repeat(self.head(features), 2, axis=0)
        shift = F.reshape(points.slice_axis(axis=2, begin=0, end=1), (-1, 1, 1, 1)) / 100
        return F.broadcast_add(instances, shift), self.semantic(features)


class TinySystem:
    """What the loop asks of a system; its state shows whether it is resumed."""

    def __init__(self, net: Any, stage: str = 'instances'):
        self.net = net
        self.threshold = 0.5
        self.prefix = 'head' if stage == 'proposals' else ''

    def parameters(self) -> Any:
        return self.net.head.collect_params() if self.prefix else self.net.collect_params()

    def losses(self, batch: dict[str, Any]) -> dict[str, Any]:
        instances, semantic = self.net(batch['image'], batch['points'])
        bce = mx.gluon.loss.SigmoidBinaryCrossEntropyLoss()
        ce = mx.gluon.loss.SoftmaxCrossEntropyLoss(axis=1)
        self.threshold = 0.9 * self.threshold + 0.1 * float(batch['points'].mean().asscalar())
        result = {'instances': bce(instances, batch['instances']).mean() * (1 + self.threshold)}
        if not self.prefix:
            result['semantic'] = ce(semantic, batch['semantic']).mean()
        return result

    def metrics(self) -> dict[str, float]:
        return {'iou': self.threshold}

    def state(self) -> dict[str, float]:
        return {'threshold': self.threshold}

    def load_state(self, state: dict[str, float]) -> None:
        self.threshold = state['threshold']


def tiny_net(seed: int = 0, dropout: float = 0.3, contexts: Any = None) -> TinyNet:
    mx.random.seed(seed)
    net = TinyNet(dropout)
    net.initialize(mx.init.Xavier(), ctx=contexts or [mx.current_context()])
    return net


def config(root: Path, steps: int = 7, **changes: Any) -> TrainConfig:
    """Two stages of a few steps."""
    def stage(count: int, **more: Any) -> StageConfig:
        return StageConfig(batch_size=4, points=2, steps=count,
                           optimizer=OptimizerConfig(lr=0.01, wd=1e-3, warmup_steps=2), **more)
    return TrainConfig(data=DataConfig(root=str(root), augmentation='toy_v1'),
                       model={'name': 'tiny'}, instances=stage(steps),
                       proposals=stage(4), log_every=2, pictures_every=0, **changes)
