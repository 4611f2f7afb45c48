"""What makes the networks of this package run their graphs by name."""
from __future__ import annotations

from typing import Any

import numpy as np

from adaptis.runtime import mx

WHOLE = 'network'
"""The stage that is a network itself; the others are its children."""


class BaseNetwork(mx.gluon.HybridBlock):
    """A network between whose graphs the decisions of ``panoptic_baselines.inference`` stand."""

    @property
    def backbones(self) -> list[Any]:
        """Those that start from ImageNet weights."""
        return [self.encoder.backbone]

    def run(self, stage: str, **inputs: Any) -> list[Any]:
        """The outputs of a stage; ``inputs`` in the order of the block, None = it has no such.

        NumPy arrays among them go to where the network is.
        """
        arrays = [a for a in inputs.values() if isinstance(a, mx.nd.NDArray)]
        ctx = arrays[0].context if arrays else self.device()
        outputs = (self if stage == WHOLE else getattr(self, stage))(*(
            a if a is None or isinstance(a, mx.nd.NDArray) else mx.nd.array(a, ctx, 'float32')
            for a in inputs.values()))
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    def read(self, x: Any) -> Any:
        """Everything dense of images (B, 3, H, W)."""
        return self(x)

    def device(self) -> Any:
        """Where the parameters are, the first place of several."""
        return next(iter(self.collect_params().values())).list_ctx()[0]

    def place(self, images: np.ndarray, ctx: Any = None) -> Any:
        """A batch as an NDArray; ``ctx`` None = where the parameters are."""
        return mx.nd.array(images, self.device() if ctx is None else ctx)

    def check_weights(self) -> None:
        """AdaptisError if one of them is not finite."""
        from adaptis.inference.encoded import refuse_broken
        refuse_broken(self)
