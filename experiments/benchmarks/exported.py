"""A variant to time: an exported network with ONNX Runtime."""
from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.inference.predictor import Predictor
from experiments.benchmarks.comparison import Form

ONNX = 'ONNX Runtime'


def exported_form(predictor: Any, images: Sequence[np.ndarray]) -> Union[Form, AdaptisError]:
    """Return a function that segments ``images`` with the export of a predictor.

    An AdaptisError is returned, not raised, if it cannot be exported or an extra is missing.
    """
    from adaptis.deploy.export import export  # loads MXNet
    predictor.set_image(images[0]).panoptic()   # shapes of parameters are known from now on
    try:
        with tempfile.TemporaryDirectory() as folder:
            export(predictor, Path(folder) / 'export', 'onnx')
            exported = Predictor.from_export(Path(folder) / 'export', 'onnxruntime')
            exported.set_image(images[0]).panoptic()
    except AdaptisError as error:
        return error
    return lambda: [exported.set_image(image).panoptic() for image in images]
