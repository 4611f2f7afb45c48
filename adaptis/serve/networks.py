"""The networks that the page offers: the included ones, or the one that the user chose."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from adaptis.inference.likeness import ImageStatistics
from adaptis.inference.sidecar import read_training
from adaptis.serve.samples import Samples
from adaptis.weights import PRETRAINED, place_in_checkout

SHIPPED = (*((path, name) for name, path in PRETRAINED.items()),
           # The wheel omits this one because of its size; the source tree has it.
           (place_in_checkout('toy_street'), 'toy_street'))
"""Files of the included networks, and the data that they were trained on."""

_KNOWN = {
    'toy_v1': ('Toy V1', 'crossing red sticks on 96x96 pixels (ToyV1)', 'v1'),
    'toy_v2': ('Toy V2', 'drawn cells and bacteria on 128x128 pixels (ToyV2)', 'v2'),
    'toy_street': ('Street scenes', 'drawn street scenes on 128x256 pixels', 'street'),
    'cityscapes': ('Cityscapes', 'photographs of streets in German cities (Cityscapes)', None),
    'vistas': ('Vistas', 'photographs of streets all over the world (Mapillary Vistas)', None),
    'coco': ('COCO', 'photographs of everyday scenes (COCO)', None),
}
"""Data set -> title, description, and the version of ``toy_data`` that draws such images."""


@dataclass(frozen=True)
class ServedNetwork:
    """One network of the page.

    Attributes
    ----------
    name : for the HTTP interface
    title : for people
    trained_on : description of its training images; '' if unknown
    load : returns its predictor, which takes seconds
    samples : sample images; None = there are none
    statistics : statistics of its training images; None if its file has none
    """

    name: str
    title: str
    trained_on: str
    load: Callable[[], Any]
    samples: Optional[Samples]
    statistics: Optional[ImageStatistics] = None


def shipped_networks(load: Callable[[Path], Any]) -> list[ServedNetwork]:
    """Return the included networks; ``load`` returns the predictor of a checkpoint."""
    return [_describe(data, data, path, load) for path, data in SHIPPED if path.is_file()]


def one_network(checkpoint: Path, load: Callable[[Path], Any],
                samples: Optional[str] = None) -> ServedNetwork:
    """Return the network of a checkpoint or of an exported folder.

    ``samples`` is the version of ``toy_data`` for the samples; by default that of the training
    data.
    """
    name = checkpoint.stem or checkpoint.resolve().name
    return _describe(name, _data_of(checkpoint), checkpoint, load, samples)


def _describe(name: str, data: str, path: Path, load: Callable[[Path], Any],
              samples: Optional[str] = None) -> ServedNetwork:
    title, trained_on, version = _KNOWN.get(data, (name, data, None))
    version = samples or version
    return ServedNetwork(name, title if name == data else name, trained_on, lambda: load(path),
                         Samples(version) if version else None,
                         ImageStatistics.from_sidecar(read_training(path)))


def _data_of(checkpoint: Path) -> str:
    """Return the training data set of a network from its sidecar; '' if unknown."""
    info = read_training(checkpoint)
    config = info.get('config')
    data = config.get('data') if isinstance(config, dict) else None
    told = [] if not isinstance(data, dict) else [
        data.get('augmentation'), Path(str(data.get('root', ''))).name, data.get('dataset')]
    told = [text for text in [*told, info.get('dataset')] if isinstance(text, str) and text]
    return next((text for text in told if text in _KNOWN), told[-1] if told else '')
