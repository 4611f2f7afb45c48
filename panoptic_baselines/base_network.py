"""The base class of the networks of this package, which run their stages by name."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from adaptis.inference.encoded import check_finite_weights
from adaptis.runtime import mx

WHOLE_NETWORK = 'network'
"""Name of the stage that is the network itself; other stages are children of the network."""


class BaseNetwork(mx.gluon.HybridBlock):
    """A network with several stages; between them, NumPy code makes decisions.

    A stage is a hybridized graph: a child of the network, or the network itself.
    """

    @property
    def backbones(self) -> list[Any]:
        """The backbones, which start from ImageNet weights."""
        return [self.encoder.backbone]

    def run(self, stage: str, **inputs: Any) -> list[Any]:
        """Run a stage and return its outputs.

        ``inputs`` come in the order that the block expects; pass None for an input that the block
        does not have.  NumPy arrays are copied to the network's device.
        """
        arrays = [a for a in inputs.values() if isinstance(a, mx.nd.NDArray)]
        ctx = arrays[0].context if arrays else self.device()
        outputs = (self if stage == WHOLE_NETWORK else getattr(self, stage))(*(
            a if a is None or isinstance(a, mx.nd.NDArray) else mx.nd.array(a, ctx, 'float32')
            for a in inputs.values()))
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    def encode(self, x: Any) -> Any:
        """Run the dense part on images (B, 3, H, W) and return its outputs by name."""
        return self(x)

    def device(self) -> Any:
        """Return the context of the parameters (the first one if there are several)."""
        return next(_parameters(self)).list_ctx()[0]

    def to_device(self, images: np.ndarray, ctx: Any = None) -> Any:
        """Return a batch as an NDArray on ``ctx`` (default: the context of the parameters)."""
        return mx.nd.array(images, self.device() if ctx is None else ctx)

    def backbone_params(self) -> Any:
        """Return the parameters of the backbones, which training initialises from ImageNet."""
        parameters = mx.gluon.ParameterDict()
        for backbone in self.backbones:
            parameters.update(backbone.collect_params())
        return parameters

    def check_weights(self) -> None:
        """Raise AdaptisError if a weight is not finite."""
        check_finite_weights(self)


def _parameters(block: Any) -> Iterator[Any]:
    """Yield the parameters of a block and its children; ``collect_params`` would take 40 ms."""
    yield from block._reg_params.values()
    for child in block._children.values():
        yield from _parameters(child)
