"""What experiments see of each panoptic system, whichever it is."""
from __future__ import annotations

from typing import Any, Callable, Dict, Protocol, Sequence, Tuple

import numpy as np

from adaptis.types import PanopticResult, Sample


class System(Protocol):
    """A network, its losses and its predictions; ``adaptis.system.AdaptISSystem`` is one too."""

    net: Any

    def losses(self, batch: Dict[str, Any]) -> Dict[str, Any]:
        """One scalar per loss, already weighted: their sum is minimised.

        To be called inside ``autograd.record``; ``batch`` holds ``image`` (B, 3, H, W), RGB
        0..255, and what the system's own loader adds.
        """

    def metrics(self) -> Dict[str, float]:
        """Numbers worth logging beside the losses."""

    def parameters(self) -> Any:
        """The parameters that are trained, as a ``ParameterDict``."""

    def state(self) -> Dict[str, Any]:
        """What the next step depends on beside parameters and optimizer, as plain data."""

    def load_state(self, state: Dict[str, Any]) -> None:
        """Take over what ``state`` gave."""

    def predict(self, image: np.ndarray) -> PanopticResult:
        """Panoptic segmentation of an RGB ``uint8`` (H, W, 3) image, at its size."""


class DetectorSystem(System, Protocol):
    """A system that does not learn from points: what else the training loop needs to know.

    ``host_keys`` : arrays of a batch that are looked at outside the graph; they may stay NumPy.
    """

    host_keys: Tuple[str, ...]

    def targets(self) -> Callable[[Sequence[Sample], Sequence[Any]], Dict[str, np.ndarray]]:
        """What makes a batch of augmented samples and their random generators.

        Picklable and free of MXNet, so that data workers can do it; all arrays have one row per
        image.
        """

    def begin_step(self, step: int) -> None:
        """Tell which step the next calls of ``losses`` belong to."""
