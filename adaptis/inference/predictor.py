"""The public interface of inference: set an image, then segment points or everything."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from adaptis.deploy.folder import load_exported
from adaptis.errors import AdaptisError
from adaptis.files import MAX_PIXELS, PathLike
from adaptis.inference.encoded import ImageEncoder, InferenceNetwork
from adaptis.inference.encoded_image import EncodedImage
from adaptis.inference.greedy import Watch, mean_confidence, proposal_map, search_proposals
from adaptis.inference.images import as_rgb
from adaptis.inference.merge import thing_class, to_panoptic
from adaptis.inference.panoptic import Segmentation, segment, segment_tiles
from adaptis.inference.processes import OfOneProcess
from adaptis.inference.prompts import PromptResult, answer, check_prompt
from adaptis.inference.rescale import Resized, network_size, resize, scale_points
from adaptis.inference.settings import AdaptISSettings, get_settings
from adaptis.types import TOY_TAXONOMY, Category, PanopticResult, Taxonomy

Number = Union[float, Sequence[float], np.ndarray]


class ClickResult(NamedTuple):
    """Masks of clicked points.

    Attributes
    ----------
    mask : float32 (H, W) for one point, (N, H, W) for a batch: probabilities
    confidence : float or float32 (N,): mean probability over the pixels above the mask threshold,
        0 if there are none
    """

    mask: np.ndarray
    confidence: Union[float, np.ndarray]


class Predictor(OfOneProcess):
    """Segments images with a trained network.

    A predictor holds one image, so give each thread its own.  They may share the network: while one
    of them computes with it, the others wait.  Threads may also ask one predictor for points and
    boxes once its image is set.

    Parameters
    ----------
    net : an ``AdaptIS`` network, or an ``InferenceNetwork``; it is faster if hybridized first
    settings : thresholds, or the name of a preset
    taxonomy : the meaning of the network's classes
    ctx : where to compute; by default where the network's parameters are
    flip : overrides ``settings.flip``

    Raises AdaptisError if network and taxonomy do not match, or a weight is not finite.
    """

    def __init__(self, net: Any, settings: Union[str, AdaptISSettings] = 'toy_v1',
                 taxonomy: Taxonomy = TOY_TAXONOMY, ctx: Any = None,
                 flip: Optional[bool] = None):
        if net.num_classes != len(taxonomy) or net.num_stuff != taxonomy.num_stuff:
            raise AdaptisError(f'The network has {net.num_classes} classes, {net.num_stuff} of '
                               f'them stuff, but the taxonomy has {len(taxonomy)} and '
                               f'{taxonomy.num_stuff}.')
        settings = get_settings(settings)
        self.settings = settings if flip is None else settings.replace(flip=flip)
        self.net, self.taxonomy = net, taxonomy
        self._encode = ImageEncoder(net, self.settings, ctx)
        self._image: Optional[np.ndarray] = None  # at the size of the network's input
        self._size = (0, 0)  # of the original image
        self._features: Optional[EncodedImage] = None

    @classmethod
    def from_export(cls, folder: PathLike, backend: Optional[str] = None, ctx: Any = None,
                    settings: Any = None) -> Any:
        """Return the predictor of a network that ``adaptis export`` wrote, for any system.

        Parameters
        ----------
        folder : the exported folder
        backend : 'mxnet', whose results equal those of the network bit for bit; or 'onnxruntime',
            which needs only NumPy, OpenCV and ONNX Runtime, and is the faster one on a CPU; by
            default ONNX Runtime on a CPU and MXNet on a GPU, if both can be used
        ctx : where to compute: a name ('cpu', 'gpu', 'gpu:0', 'auto'; by default the CPU) or, for
            MXNet, a context
        settings : thresholds, or the name of a preset; by default those that were exported

        Raises AdaptisError if the folder is not an export, or the backend is missing.
        """
        return load_exported(folder, backend, ctx, settings)

    def set_image(self, image: Any) -> Predictor:
        """Compute the features of an image; return the predictor.

        ``image`` is a ``uint8`` or ``uint16`` array, (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey;
        a Pillow image, which is turned as its EXIF tag says; or the path of a file.  With
        ``settings.tile``, the features of the whole image are computed when a point needs them.
        Raises AdaptisError for anything else, or if the network's outputs are not finite.
        """
        self._image, self._features = None, None
        rgb = as_rgb(image)
        seen = network_size(rgb.shape[:2], self.settings)
        if seen[0] * seen[1] > MAX_PIXELS:
            raise AdaptisError(f'short_side enlarges the image of {_text(rgb.shape[:2])} to '
                               f'{_text(seen)}, more than {MAX_PIXELS:,} pixels: set max_side.')
        scaled = resize(rgb, seen)
        if self.settings.tile is None:
            self._features = self._encode(scaled)
        self._image, self._size = scaled, rgb.shape[:2]
        return self

    def mask_at(self, *, x: Number, y: Number) -> ClickResult:
        """Return the mask of the object at a pixel (``x`` to the right, ``y`` down) or at N pixels.

        With ``settings.tile``, the masks of an image that is too large to process as a whole are
        computed on a smaller copy (see :attr:`points_size`) and enlarged.
        Raises AdaptisError if a point is outside the image or there is no image yet.
        """
        points = scale_points(self._points(x, y), self._size, self.points_size)
        masks = self._encoded().masks_at(points)
        if masks.shape[1:] != self._size:
            masks = np.stack([*Resized(masks, self._size)])
        scores = np.array([mean_confidence(mask, self.settings.mask_threshold) for mask in masks],
                          np.float32)
        if np.ndim(x) == 0 and np.ndim(y) == 0:
            return ClickResult(masks[0], float(scores[0]))
        return ClickResult(masks, scores)

    def predict(self, point_coords: Any = None, point_labels: Any = None, box: Any = None,
                multimask_output: bool = False) -> PromptResult:
        """Return the mask of the object that points and a box describe, as SAM's predictor does.

        The paper defines only a single positive point.  ``adaptis.inference.prompts`` explains how
        the masks of single points are combined for several points, negative points and boxes.

        Parameters
        ----------
        point_coords : (N, 2), (x, y) in pixels
        point_labels : (N,), 1 = on the object, 0 = not on the object; by default all 1
        box : x0, y0, x1, y1: edges in pixels as in COCO; everything outside is cut off
        multimask_output : return up to three alternatives: for several positive points, all of them
            together and then each by itself; for a box alone, different masks of points inside it.
            A single point has only one mask.

        Raises AdaptisError if the prompt is invalid, a point is outside the image, or there is no
        image yet.
        """
        self._checked_image()
        prompt = check_prompt(point_coords, point_labels, box, self._size)
        return answer(prompt, lambda points: self.mask_at(x=points[:, 0], y=points[:, 1]).mask,
                      self.settings.mask_threshold, multimask_output)

    def panoptic(self, ignore: Optional[np.ndarray] = None,
                 keep_masks: bool = False, watch: Optional[Watch] = None) -> PanopticResult:
        """Return all things and all stuff of the image.

        Parameters
        ----------
        ignore : (H, W), > 0 where objects are not searched
        keep_masks : also return the soft mask of each object
        watch : ``watch(done, total, mask)`` is called whenever a candidate is decided, with the
            mask that was accepted, float32 (h, w) at the size of the network's input, or None
        """
        found = self._segment(self._checked_ignore(ignore), self._size, keep_masks, watch)
        return to_panoptic(found.merged, found.stuff_prob, self.taxonomy, keep_masks)

    def segmentation(self, ignore: Optional[np.ndarray] = None) -> Segmentation:
        """Return the soft masks, class probabilities and cost on which :meth:`panoptic` is based.

        They have the size of the network's input; ``ignore`` has the size of the image.
        """
        size = self._checked_image().shape[:2]
        ignore = self._checked_ignore(ignore)
        if ignore is not None:
            ignore = resize(ignore.astype(np.float32), size) >= 0.5
        return self._segment(ignore, size, keep_masks=True)

    def _segment(self, ignore: Optional[np.ndarray], size: tuple[int, int],
                 keep_masks: bool, watch: Optional[Watch] = None) -> Segmentation:
        image = self._checked_image()
        if self.settings.tile is None:
            return segment(self._encoded(), self.settings, ignore, size=size,
                           keep_masks=keep_masks, watch=watch)
        return segment_tiles(self._encode, image, self.settings, ignore, size=size,
                             keep_masks=keep_masks, watch=watch)

    def _checked_ignore(self, ignore: Optional[np.ndarray]) -> Optional[np.ndarray]:
        """Return ``ignore`` as bool; AdaptisError if it does not have the size of the image."""
        self._checked_image()
        if ignore is None:
            return None
        if ignore.shape != self._size:
            raise AdaptisError(f'The ignore mask is {_text(ignore.shape)}, but the image is '
                               f'{_text(self._size)}.')
        return ignore > 0

    def proposal_map(self) -> np.ndarray:
        """Return float32 (H, W): the proposal probabilities whose maxima are the candidates."""
        return resize(proposal_map(self._encoded(), self.settings), self._size)

    def proposals(self) -> np.ndarray:
        """Return float32 (N, 3): x, y and proposal probability of the candidates, best first.

        Raises AdaptisError if the network has no proposal branch or there is no image yet.
        """
        prob = proposal_map(self._encoded(), self.settings)
        points = search_proposals(prob, self.settings).candidates
        scores = prob[tuple(points.T)]
        moved = scale_points(points.astype(np.float32), prob.shape, self._size)
        return np.column_stack([moved[:, ::-1], scores]).astype(np.float32)

    def category_of(self, mask: np.ndarray) -> Category:
        """Return the most probable thing category inside a soft mask, float32 (H, W)."""
        things = self._encoded().things_prob
        index = thing_class(resize(mask, things.shape[1:]), things, self.settings)
        return self.taxonomy.categories[self.taxonomy.num_stuff + index]

    @property
    def has_proposals(self) -> bool:
        """Whether the network has a proposal branch; set an image first."""
        return self._encoded().proposals_prob is not None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the current image."""
        self._checked_image()
        return self._size

    @property
    def nbytes(self) -> float:
        """The estimated memory of the current image's features, in bytes."""
        return self._encode.kept_bytes(self.points_size)

    @property
    def network_size(self) -> tuple[int, int]:
        """Height and width of the image at the size of the network's input."""
        return self._checked_image().shape[:2]

    @property
    def points_size(self) -> tuple[int, int]:
        """Height and width of the copy of the image on which the masks of points are computed."""
        if self._features is not None:
            return self._features.size
        return self._encode.fitting_size(self.network_size)

    def _encoded(self) -> EncodedImage:
        if self._features is None:
            self._features = self._encode(resize(self._checked_image(), self.points_size))
        return self._features

    def _checked_image(self) -> np.ndarray:
        if self._image is None:
            raise AdaptisError('There is no image yet: call set_image first.')
        return self._image

    def _points(self, x: Number, y: Number) -> np.ndarray:
        self._checked_image()
        height, width = self._size
        try:
            points = np.stack(np.broadcast_arrays(y, x), axis=-1).astype(np.float32)
        except (TypeError, ValueError) as error:
            raise AdaptisError('x and y must be numbers, or arrays of the same length.') from error
        points = points.reshape(-1, 2)
        inside = ((points >= 0) & (points <= (height - 1, width - 1))).all(axis=1)
        if not inside.all():
            row, col = points[~inside][0]
            raise AdaptisError(f'The point x={col:g}, y={row:g} is outside the image: x must be '
                               f'between 0 and {width - 1}, and y between 0 and {height - 1}.')
        return points


def make_exported(runner: Any, attributes: Mapping[str, Any], settings: AdaptISSettings,
                  taxonomy: Taxonomy) -> Predictor:
    """Return the predictor of an exported network; see ``ModelFamily.exported_predictor``."""
    return Predictor(InferenceNetwork.from_attributes(runner, attributes), settings, taxonomy)


def _text(size: Sequence[int]) -> str:
    return 'x'.join(str(s) for s in size)
