"""From an image to a panoptic result, with any network of this package."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional, Protocol, Union

import numpy as np

from adaptis.arrays import as_numpy
from adaptis.deploy.backends import network_lock
from adaptis.errors import AdaptisError
from adaptis.evaluation.miou import semantic_map
from adaptis.inference.images import as_rgb
from adaptis.inference.processes import OfOneProcess
from adaptis.types import Objects, PanopticResult, Taxonomy
from panoptic_baselines.classes import semantic_to_class_index, thing_to_class_index
from panoptic_baselines.layers.boxes import Size
from panoptic_baselines.layers.resize import resize_image, target_size
from panoptic_baselines.merge import Instances, merge
from panoptic_baselines.settings import BaseSettings, get_settings

NO_INSTANCES = float('inf')
"""A minimum score that no instance reaches."""


class Segmentation(NamedTuple):
    """What a network finds in one image, at the requested size.

    ``instances`` is None without an instance branch.  ``labels`` int32 (H, W) are the semantic
    branch's labels, or None without that branch.
    """

    instances: Optional[Instances]
    labels: Optional[np.ndarray]


class Network(Protocol):
    """What a predictor needs of a network.

    Attributes
    ----------
    presets : its settings by name
    num_things, num_stuff : numbers of thing and stuff classes
    has_instances, has_semantic : which branches it has
    merge_things : whether the semantic branch has a single class for all things (its first class)
    mean : RGB, the colour of the padding
    divisor : the height and width of the input are multiples of this number
    """

    presets: Mapping[str, BaseSettings]
    num_things: int
    num_stuff: int
    has_instances: bool
    has_semantic: bool
    merge_things: bool
    mean: Sequence[float]
    divisor: int

    def to_device(self, images: np.ndarray, ctx: Any = None) -> Any:
        """Return a batch of images (B, 3, H, W) on ``ctx`` (default: the network's device)."""

    def check_weights(self) -> None:
        """Raise AdaptisError if a weight is not finite."""

    def segment(self, x: Any, sizes: Sequence[Size], output_sizes: Sequence[Size],
                settings: Any, min_score: Optional[float] = 0.0) -> list[Segmentation]:
        """Segment a batch of images.

        Parameters
        ----------
        x : (B, 3, H, W), see ``pad_batch``
        sizes : (H, W) of each image without padding
        output_sizes : (H, W) of each result
        min_score : instances with a lower score may be dropped; None = return no instances
        """


class Predictor(OfOneProcess):
    """Segments images with a network of this package.

    A predictor holds one image, so give each thread its own predictor.  Predictors may share a
    network; only one of them computes with it at a time.

    Parameters
    ----------
    net : an initialised network with the methods and attributes of ``Network``, or an exported one;
        hybridize the network for speed
    taxonomy : the classes of the network
    settings : thresholds, or the name of one of the network's ``presets``
    ctx : where to compute (default: the context of the network's parameters)

    Raises AdaptisError if the network does not match the taxonomy, or if a weight is not finite.
    """

    def __init__(self, net: Any, taxonomy: Taxonomy,
                 settings: Union[str, BaseSettings] = 'coco', ctx: Any = None):
        _check_classes(net, taxonomy)
        self.net, self.taxonomy = net, taxonomy
        self.settings = get_settings(settings, net.presets)
        net.check_weights()
        self._ctx = ctx
        self._image: Optional[np.ndarray] = None
        self._segmentation: Optional[tuple[BaseSettings, float, Segmentation]] = None

    def set_image(self, image: Any) -> Predictor:
        """Set the image: an array (``uint8`` or ``uint16``; RGB, RGBA or grey), a Pillow image or a
        path.  Returns the predictor.

        Raises AdaptisError for anything else.
        """
        self._image = self._segmentation = None
        self._image = as_rgb(image)
        return self

    def predict(self, image: np.ndarray) -> PanopticResult:
        """Return the panoptic segmentation of an image."""
        return self.set_image(image).panoptic()

    def panoptic(self, keep_objects: bool = False) -> PanopticResult:
        """Return all objects and all stuff of the current image.

        ``keep_objects`` : also return all :meth:`instances` as ``objects`` of the result, and the
            labels of the semantic branch as ``semantic``; if that branch has a single class for all
            things, the things of the result replace it

        Raises AdaptisError if the network's outputs are not finite.
        """
        found = self._segment(0.0 if keep_objects else self.settings.instance_score)
        result = self._merge(found)
        if keep_objects and found.instances is not None:
            result.objects = to_objects(found.instances, self.taxonomy)
        if keep_objects and self.net.has_semantic:
            result.semantic = self._with_things(self.semantic(), result)
        return result

    def instances(self) -> Instances:
        """Return all detections of the current image, with any score; AP is measured on them.

        Raises AdaptisError if the network has no instance branch.
        """
        if not self.net.has_instances:
            raise AdaptisError('The network has no instance branch.')
        return self._segment(0.0).instances

    def semantic(self) -> np.ndarray:
        """Return int32 (H, W): the class index of every pixel of the current image, -1 for things.

        If the semantic branch has a class for each thing category, things have their own class
        indices.  Raises AdaptisError if the network has no semantic branch.
        """
        if not self.net.has_semantic:
            raise AdaptisError('The network has no semantic branch.')
        return self._classes(self._segment(NO_INSTANCES))

    def _segment(self, min_score: float) -> Segmentation:
        """Return instances of at least ``min_score`` and the semantic labels; compute them once."""
        if self._image is None:
            raise AdaptisError('There is no image yet: call set_image first.')
        known = self._segmentation
        if known is None or known[0] != self.settings or known[1] > min_score:
            known = self.settings, min_score, self._run_network(self._image, min_score)
            self._segmentation = known
        return known[2]

    def _run_network(self, image: np.ndarray, min_score: float) -> Segmentation:
        size = image.shape[:2]
        image = resize_image(image, target_size(
            size, self.settings.short_side, self.settings.max_side))
        batch = self.net.to_device(pad_images([image], self.net.mean, self.net.divisor), self._ctx)
        with network_lock(self.net):
            return self.net.segment(batch, [image.shape[:2]], [size], self.settings,
                                    None if min_score == NO_INSTANCES else min_score)[0]

    def _with_things(self, classes: np.ndarray, result: PanopticResult) -> np.ndarray:
        if not self.net.merge_things:
            return classes
        merged = semantic_map(result, self.taxonomy)
        return np.where((classes < 0) & (merged >= self.taxonomy.num_stuff), merged, classes)

    def _merge(self, found: Segmentation) -> PanopticResult:
        """Return the merged panoptic result; a system without the heuristic overrides this."""
        settings = self.settings
        return merge(found.instances, self._classes(found), self.taxonomy,
                     instance_score=settings.instance_score,
                     overlap_threshold=settings.overlap_threshold,
                     stuff_area_limit=settings.stuff_area_limit)

    def _classes(self, found: Segmentation) -> Optional[np.ndarray]:
        if found.labels is None:
            return None
        return semantic_to_class_index(found.labels, self.net.merge_things)


def to_objects(instances: Instances, taxonomy: Taxonomy) -> Objects:
    """Return instances with a taxonomy's category ids instead of classes."""
    ids = np.array([category.id for category in taxonomy.categories])
    return Objects(instances.masks, instances.scores,
                   ids[thing_to_class_index(instances.classes, taxonomy)], instances.boxes)


def pad_batch(images: Sequence[np.ndarray], color: Sequence[float], ctx: Any = None,
              divisor: int = 32) -> Any:
    """Return ``pad_images`` as an NDArray."""
    from adaptis.runtime import mx  # loads MXNet
    return mx.nd.array(pad_images(images, color, divisor), ctx=ctx)


def pad_images(images: Sequence[np.ndarray], color: Sequence[float],
               divisor: int = 32) -> np.ndarray:
    """Return RGB images (H, W, 3) as one float32 batch (B, 3, H', W'), 0..255.

    Each image lies in the upper left corner.  The rest has the ``color`` that the network subtracts
    as the mean, so that the network sees zeros there.  H' and W' are multiples of ``divisor``.
    """
    sizes = np.array([image.shape[:2] for image in images])
    height, width = -(-sizes.max(axis=0) // divisor) * divisor
    batch: np.ndarray = np.empty((len(images), 3, height, width), np.float32)
    batch[:] = np.reshape(color, (3, 1, 1))
    for image, target in zip(images, batch):
        target[:, :image.shape[0], :image.shape[1]] = image.transpose(2, 0, 1)
    return batch


def _check_classes(net: Any, taxonomy: Taxonomy) -> None:
    """Check the numbers of classes of the branches that the network has."""
    knows_things = net.has_instances or not net.merge_things
    if ((knows_things and net.num_things != taxonomy.num_things)
            or (net.has_semantic and net.num_stuff != taxonomy.num_stuff)):
        raise AdaptisError(f'The network has {net.num_things} classes of things and '
                           f'{net.num_stuff} of stuff, but its taxonomy has '
                           f'{taxonomy.num_things} and {taxonomy.num_stuff}.')


def check_finite(array: Any, what: str) -> np.ndarray:
    """Return an output of a network as NumPy; AdaptisError if it is not finite."""
    values = as_numpy(array)
    if not np.isfinite(values).all():
        raise AdaptisError(f"The network's {what} are not finite: use another checkpoint.")
    return values
