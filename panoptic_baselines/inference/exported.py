"""Networks that were exported, and what segments images with them.

A network is a runner of its stages (``adaptis.deploy.backends``) and its ``attributes``, the
numbers that an export keeps beside the graphs.
"""
from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.types import Taxonomy
from panoptic_baselines.inference.condinst import CondInstInference
from panoptic_baselines.inference.dense_detections import DenseDetectionsInference
from panoptic_baselines.inference.panoptic_fpn import PanopticFPNInference
from panoptic_baselines.inference.unified import UnifiedInference
from panoptic_baselines.predictor import Predictor
from panoptic_baselines.settings import BaseSettings
from panoptic_baselines.unified_predictor import UnifiedPredictor


class Exported:
    """A network whose stages are files; a subclass knows what to do with their outputs.

    Parameters
    ----------
    runner : of the stages
    attributes : what ``attributes_of`` gave

    Raises AdaptisError if an attribute is missing.
    """

    attributes: tuple[str, ...]

    def __init__(self, runner: Any, attributes: Mapping[str, Any]):
        missing = sorted(set(self.attributes) - set(attributes))
        if missing:
            raise AdaptisError(f'The exported network does not say its {missing[0]}: export it '
                               'again.')
        self._runner = runner
        for name in self.attributes:
            setattr(self, name, attributes[name])

    def run(self, stage: str, **inputs: Any) -> list[Any]:
        """The outputs of a stage; of the inputs, those are taken that the stage has."""
        if stage not in self._runner.stages:
            raise AdaptisError(f'The exported network has no stage "{stage}": export it again.')
        arrays = [inputs[signature.name] for signature in self._runner.stages[stage].inputs]
        outputs: list[Any] = self._runner.run(stage, *(
            a.astype(np.float32, copy=False) if isinstance(a, np.ndarray) else a for a in arrays))
        return outputs

    def read(self, x: Any) -> Any:
        """Everything dense of an image (1, 3, H, W)."""
        return self.to_maps(self.run('encoder', image=x))   # type: ignore[attr-defined]

    def place(self, images: np.ndarray, ctx: Any = None) -> np.ndarray:
        """The images: the runner sends them to where it computes."""
        return images

    def check_weights(self) -> None:
        """Nothing: those of a broken network are not exported, and outputs are looked at."""


class ExportedPanopticFPN(PanopticFPNInference, Exported):
    """A ``PanopticFPN`` that was exported."""


class ExportedCondInst(CondInstInference, Exported):
    """A ``CondInst`` that was exported."""


class ExportedDenseDetections(DenseDetectionsInference, Exported):
    """A ``DenseDetections`` that was exported."""


class ExportedUnified(UnifiedInference, Exported):
    """A ``Unified`` that was exported."""


def attributes_of(net: Any) -> dict[str, Any]:
    """The numbers of a network, as plain data, that its exported stages need beside them."""
    values = {name: getattr(net, name) for name in net.attributes}
    return {name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()}


def _predictor(network: type, predictor: type, runner: Any, attributes: Mapping[str, Any],
               settings: BaseSettings, taxonomy: Taxonomy) -> Any:
    return predictor(network(runner, attributes), taxonomy, settings)


panoptic_fpn = partial(_predictor, ExportedPanopticFPN, Predictor)
"""(runner, attributes, settings, taxonomy) -> what segments images with an exported network."""

condinst = partial(_predictor, ExportedCondInst, Predictor)
dense_detections = partial(_predictor, ExportedDenseDetections, Predictor)
unified = partial(_predictor, ExportedUnified, UnifiedPredictor)
