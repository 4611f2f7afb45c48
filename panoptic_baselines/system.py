"""What experiments see of each panoptic system, whichever it is."""
from __future__ import annotations

from typing import Any, Dict, Protocol

import numpy as np

from adaptis.types import PanopticResult


class System(Protocol):
    """A network, its losses and its predictions; ``adaptis.system.AdaptISSystem`` is one too."""

    net: Any

    def losses(self, batch: Dict[str, Any]) -> Dict[str, Any]:
        """One scalar per loss, already weighted: their sum is minimised.

        To be called inside ``autograd.record``; ``batch`` holds ``image`` (B, 3, H, W), RGB
        0..255, and what the system's own loader adds.
        """

    def parameters(self) -> Any:
        """The parameters that are trained, as a ``ParameterDict``."""

    def predict(self, image: np.ndarray) -> PanopticResult:
        """Panoptic segmentation of an RGB ``uint8`` (H, W, 3) image, at its size."""
