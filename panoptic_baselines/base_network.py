"""The base class of the networks of this package, which run their stages by name."""
from __future__ import annotations

from typing import Any

import numpy as np

from adaptis.inference.encoded import check_finite_weights
from adaptis.runtime import mx

WHOLE_NETWORK = 'network'
"""Name of the stage that is the network itself; other stages are children of the network."""


class BaseNetwork(mx.gluon.HybridBlock):
    """A network with several stages, between which code in NumPy takes decisions.

    A stage is a hybridized graph: a child of the network, or the network itself.
    """

    def run(self, stage: str, **inputs: Any) -> list[Any]:
        """Run a stage and return its outputs.

        ``inputs`` are in the order of the block; None stands for an input that the block does not
        have.  NumPy arrays among them are copied to the device of the network.
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
        """Return the context of the parameters, the first one if there are several."""
        return next(iter(self.collect_params().values())).list_ctx()[0]

    def to_device(self, images: np.ndarray, ctx: Any = None) -> Any:
        """Return a batch as an NDArray on ``ctx``, by default where the parameters are."""
        return mx.nd.array(images, self.device() if ctx is None else ctx)

    def backbone_params(self) -> Any:
        """Return the parameters of the backbone, which training starts from ImageNet."""
        return self.encoder.backbone.collect_params()

    def check_weights(self) -> None:
        """Raise AdaptisError if a weight is not finite."""
        check_finite_weights(self)
