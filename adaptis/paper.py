"""AdaptIS in one file: from an image to its panoptic map, in the paper's order.

Sofiiuk, Barinova, Konushin, *AdaptIS: Adaptive Instance Selection Network*, ICCV 2019.

Read it from top to bottom.  `panoptic` is the whole algorithm, and the functions that it calls
follow in the paper's order.  The network is that of the toy problem (section 6), with the included
weights.  The paper gives no numbers of layers and few constants; those marked "official code" come
from the authors' programs.  The code is not optimised for speed, and points are computed one by
one.

`adaptis.inference.Predictor` computes the same map (`tests/adaptis/test_paper.py`) and also
supports large images, batches of points and other networks.  Training is in `adaptis.engine`, and
the losses of sections 3 and 5 are in `adaptis.losses`.

    python -m adaptis.paper picture.png out.png
"""
from __future__ import annotations

import argparse
import sys
from collections import deque
from pathlib import Path
from typing import Optional

import numpy as np
from PIL import Image  # only reads and writes the images

# MXNet 1.9.1 needs names that NumPy has removed; this module restores them before importing MXNet.
from adaptis.runtime import mx

nd = mx.nd
Array = mx.nd.NDArray
Weights = dict[str, Array]
Point = tuple[int, int]

WEIGHTS = Path(__file__).parent / 'pretrained' / 'toy_v1.params'
NUM_STUFF = 1       # of the two classes of the toy problem; stuff comes first
RADIUS = 42         # R of section 3, in pixels: about the size of the largest object; official code
EPSILON = 1e-5      # keeps AdaIN finite if a channel is constant; the official code has none
MIN_SIDE, MAX_PIXELS = 16, 2 ** 20    # of an image: the U-Net halves it four times


def panoptic(image: np.ndarray, weights: Weights, *, mask_threshold: float = 0.55,
             overlap_threshold: float = 0.6, min_area: int = 10, things_threshold: float = 0.3,
             proposal_threshold: float = 0.01, proposal_climb: float = 0.003,
             proposal_step: float = 0.025, proposal_blur: int = 2,
             max_candidates: Optional[int] = None) -> tuple[np.ndarray, dict[int, int]]:
    """Segment an RGB image, uint8 (H, W, 3).

    Returns a segment map, int32 (H, W) with 0 for no segment, and the class of each segment.
    `adaptis.inference.settings` explains the thresholds; these are its `toy_v1_long`.
    """
    pixels = nd.array(image.transpose(2, 0, 1)[None]) / 127.5 - 1     # official code
    features = backbone(pixels, part(weights, 'encoder.backbone'))    # once per image
    stuff, things = semantic_branch(features, part(weights, 'encoder.semantic'))
    scores = proposal_branch(features, part(weights, 'encoder.proposals'))
    scores = search_area(scores, things, things_threshold, proposal_blur)
    proposals = find_proposals(scores, proposal_threshold, proposal_climb, proposal_step)
    if max_candidates is None:                                        # official code: 100 on 96x96
        max_candidates = max(100, 100 * scores.size // 96 ** 2)
    masks = select_masks(proposals[:max_candidates], features, weights, mask_threshold,
                         overlap_threshold, min_area)
    return merge(masks, stuff, things, mask_threshold)


# Section 3: architecture


def backbone(x: Array, w: Weights) -> Array:
    """Features Q: a U-Net (section 6), (1, 3, H, W) -> (1, C, H, W).

    Five levels of C, 2C, 4C, 8C, 16C channels, two units each (official code).
    """
    x = batch_norm(x, part(w, 'image_norm'))
    skips = []
    for level in range(5):
        if level > 0:
            x = nd.Pooling(x, kernel=(2, 2), stride=(2, 2), pooling_convention='full')
        x = units(x, part(w, f'down.{level}'), 2)
        skips.append(x)
    skips.pop()
    for level in range(4):
        skip = skips.pop()
        x = upsample(x, part(w, f'up.{level}'), channels=skip.shape[1])
        x = nd.concat(skip, nd.slice_like(x, skip, axes=(2, 3)), dim=1)
        x = units(x, part(w, f'up.{level}.join'), 2)
    return units(x, part(w, 'final'), 2)


def controller(query: Array, w: Weights) -> Array:
    """The characteristic vector (1, C, 1, 1) of an object from the query, Q at the point.

    Three fully connected layers, which on one pixel are 1x1 convolutions (official code).
    """
    return units(query, w, 3)


def adain(x: Array, vector: Array, w: Weights) -> Array:
    """Adaptive instance normalisation: the vector sets the scale and shift of every channel."""
    mean = x.mean(axis=(2, 3), keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=(2, 3), keepdims=True)
    scale, shift = dense(vector, part(w, 'scale')), dense(vector, part(w, 'bias'))
    return (x - mean) / nd.sqrt(variance + EPSILON) * scale + shift


def relative_coord_conv(height: int, width: int, point: Point) -> Array:
    """Relative CoordConv: maps (1, 3, H, W), 0 at the point, and -1 or 1 from a distance of R on.

    The paper has one map for x and one for y; the official code adds the distance.
    """
    rows = (np.arange(height).reshape(-1, 1) - point[0]) / RADIUS
    cols = (np.arange(width).reshape(1, -1) - point[1]) / RADIUS
    maps = np.broadcast_arrays(rows, cols, np.hypot(rows, cols))
    return nd.array(np.clip(maps, -1, 1)[None])


def instance_mask(features: Array, point: Point, weights: Weights) -> np.ndarray:
    """The instance selection network: the probability that a pixel belongs to the object.

    float32 (H, W).  Three units, AdaIN, one unit and a 1x1 convolution (official code).
    """
    row, col = point
    query = features[:, :, row:row + 1, col:col + 1]     # Q(x, y); a proposal is a whole pixel
    vector = controller(query, part(weights, 'encoder.controller'))
    w = part(weights, 'point_head')
    coordinates = relative_coord_conv(*features.shape[2:], point)
    x = convolution(nd.concat(coordinates, features, dim=1), part(w, 'first'))
    x = batch_norm(nd.relu(x), part(w, 'before.1'))
    x = unit(unit(x, part(w, 'before.2')), part(w, 'before.3'))
    x = adain(x, vector, part(w, 'adain'))
    x = convolution(unit(x, part(w, 'after.0')), part(w, 'after.1'))
    return nd.sigmoid(0.2 * x - 1.7)[0, 0].asnumpy()     # 0.2 and 1.7: official code


# Section 4: from points to objects


def select_masks(proposals: list[Point], features: Array, weights: Weights, mask_threshold: float,
                 overlap_threshold: float, min_area: int) -> list[np.ndarray]:
    """The greedy selection: soft masks C_i of objects, float32 (H, W), in order of acceptance."""
    accepted = []
    segmented = np.zeros(features.shape[2:], bool)                    # S in the paper
    for point in proposals:
        if segmented[point]:
            continue
        mask = instance_mask(features, point, weights)
        inside = mask > mask_threshold                                # M_i = C_i > T
        area = np.count_nonzero(inside)
        if area < max(min_area, 1):                                   # official code: 10 pixels
            continue
        if np.count_nonzero(inside & segmented) / area < overlap_threshold:
            accepted.append(mask)
            segmented |= inside
    return accepted


# Section 5: panoptic segmentation


def semantic_branch(features: Array, w: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities of every pixel, float32: of stuff (S, H, W) and of things (T, H, W)."""
    logits = convolution(units(features, w, 3), part(w, '3'))
    probabilities = nd.softmax(logits, axis=1)[0].asnumpy()
    return probabilities[:NUM_STUFF], probabilities[NUM_STUFF:]


def proposal_branch(features: Array, w: Weights) -> np.ndarray:
    """The quality of each pixel as a point, float32 (H, W); squared as in the official code."""
    logits = convolution(units(features, w, 2), part(w, '2'))
    return nd.sigmoid(logits)[0, 0].asnumpy() ** 2


def search_area(scores: np.ndarray, things: np.ndarray, things_threshold: float,
                blur: int) -> np.ndarray:
    """The scores where objects are possible, smoothed by a box.

    The paper marks the pixels of stuff as segmented before it starts.  The official code, like this
    one, does not search for points there, but masks may include these pixels; the smoothing comes
    from the official code.
    """
    scores = scores * (things.max(axis=0) >= things_threshold)
    if blur < 2:
        return scores
    padded = np.pad(scores, (blur // 2, blur - 1 - blur // 2), mode='reflect')
    boxes = np.lib.stride_tricks.sliding_window_view(padded, (blur, blur))
    return boxes.mean(axis=(2, 3), dtype=np.float64).astype(np.float32)


def find_proposals(scores: np.ndarray, threshold: float, climb: float,
                   step: float) -> list[Point]:
    """Local maxima of the scores by breadth-first search, best first.

    The details are those of the official code: a level falls from 0.99.  Each pixel on or above it
    is a proposal if no neighbour exceeds it, none is below the threshold, and no flood from an
    earlier proposal has reached it.
    """
    least, climb, step = np.array([threshold, climb, step], np.float32)
    proposals, reached = [], np.zeros(scores.shape, bool)
    level = np.float32(0.99)
    while level > least:
        for row, col in np.argwhere((scores >= level) & ~reached):
            around = scores[max(row - 1, 0):row + 2, max(col - 1, 0):col + 2]
            is_maximum = around.max() == scores[row, col] and around.min() >= least
            if is_maximum and not reached[row, col]:
                proposals.append((int(row), int(col)))
                flood(scores, reached, (row, col), climb)
        level -= step
    return proposals


def flood(scores: np.ndarray, reached: np.ndarray, start: Point, climb: float) -> None:
    """Mark as reached all pixels on paths that go down, or up by less than `climb` per step."""
    reached[start] = True
    queue = deque([start])
    while queue:
        row, col = queue.popleft()
        top, left = max(row - 1, 0), max(col - 1, 0)
        around = np.s_[top:row + 2, left:col + 2]
        walkable = ~reached[around] & (scores[around] < scores[row, col] + climb)
        reached[around] |= walkable
        queue.extend((top + down, left + right) for down, right in np.argwhere(walkable))


def merge(masks: list[np.ndarray], stuff: np.ndarray, things: np.ndarray,
          mask_threshold: float) -> tuple[np.ndarray, dict[int, int]]:
    """Assign each pixel to its most probable mask (section 4), and a class to each mask.

    Official code: "no object" competes as a mask of 1 - the probability of things, and the class is
    the most probable thing class on average over the mask.  The paper has no such mask, and chooses
    the most probable of all labels.
    """
    owner = np.argmax([1 - things.sum(axis=0), *masks], axis=0)
    regions = [(owner == number, NUM_STUFF + things[:, mask > mask_threshold].mean(axis=1).argmax())
               for number, mask in enumerate(masks, start=1)]
    likeliest = np.argmax([*stuff, *things], axis=0)
    regions += [((owner == 0) & (likeliest == label), label) for label in range(NUM_STUFF)]
    segment_map, classes = np.zeros(owner.shape, np.int32), {}
    for region, label in regions:
        if region.any():
            classes[len(classes) + 1] = int(label)
            segment_map[region] = len(classes)
    return segment_map, classes


# Layers


def units(x: Array, w: Weights, count: int) -> Array:
    """A sequence of `count` units."""
    for number in range(count):
        x = unit(x, part(w, f'{number}'))
    return x


def unit(x: Array, w: Weights) -> Array:
    """Convolution, ReLU, BatchNorm, in this order (Figure 8)."""
    return batch_norm(nd.relu(convolution(x, part(w, '0'))), part(w, '2'))


def convolution(x: Array, w: Weights) -> Array:
    """A convolution that keeps height and width."""
    channels, _, *kernel = w['weight'].shape
    return nd.Convolution(x, w['weight'], w.get('bias'), no_bias='bias' not in w, kernel=kernel,
                          pad=[side // 2 for side in kernel], num_filter=channels)


def upsample(x: Array, w: Weights, channels: int) -> Array:
    """Twice the size by fixed bilinear weights, a 1x1 unit and one more ReLU (official code)."""
    x = nd.Deconvolution(x, w['upsample.weight'], kernel=(4, 4), stride=(2, 2), pad=(1, 1),
                         num_filter=channels, num_group=channels)
    return nd.relu(unit(x, part(w, 'reduce')))


def batch_norm(x: Array, w: Weights) -> Array:
    """Batch normalisation with the statistics from training."""
    return nd.BatchNorm(x, w['gamma'], w['beta'], w['running_mean'], w['running_var'], eps=1e-5,
                        fix_gamma=False)


def dense(vector: Array, w: Weights) -> Array:
    """A fully connected layer, (1, C, 1, 1) -> (1, C', 1, 1)."""
    channels = len(w['weight'])
    return nd.FullyConnected(vector, w['weight'], w['bias'], num_hidden=channels).reshape(
        (1, channels, 1, 1))


def part(weights: Weights, name: str) -> Weights:
    """The weights of one part of the network; the names are those of `adaptis.model.unet`."""
    return {key[len(name) + 1:]: value for key, value in weights.items()
            if key.startswith(f'{name}.')}


def load_weights(path: Path = WEIGHTS) -> Weights:
    """The included weights, which are stored in half precision, by their names in the network."""
    return {name: nd.array(value.asnumpy(), dtype='float32')
            for name, value in nd.load(str(path)).items()}


# Input and output


def main(arguments: Optional[list[str]] = None) -> None:
    """Segment an image and write the segments as a picture, each in its own colour."""
    parser = argparse.ArgumentParser(prog='python -m adaptis.paper', description=main.__doc__)
    parser.add_argument('picture', type=Path)
    parser.add_argument('out', type=Path, help='image to write; its suffix chooses the format')
    paths = parser.parse_args(arguments)
    try:
        segment_map, classes = panoptic(read(paths.picture), load_weights())
        colours = np.random.default_rng(0).integers(64, 256, (len(classes) + 1, 3), np.uint8)
        colours[0] = 0                                                # black: no segment
        write(paths.out, colours[segment_map])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        sys.exit(f'adaptis.paper: {error}')   # everything that Pillow raises for unreadable files


def read(path: Path) -> np.ndarray:
    """An image as RGB, uint8 (H, W, 3); ValueError if it is too small or too large."""
    with Image.open(path) as picture:
        if min(picture.size) < MIN_SIDE or picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f'{path} is {picture.width}x{picture.height}, but it must have at '
                             f'least {MIN_SIDE}x{MIN_SIDE} and at most {MAX_PIXELS:,} pixels: use '
                             '"adaptis predict" for other sizes.')
        return np.asarray(picture.convert('RGB'))


def write(path: Path, pixels: np.ndarray) -> None:
    """Write an image completely or not at all."""
    temporary = path.with_name(f'.{path.name}')
    try:
        Image.fromarray(pixels).save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == '__main__':
    main()
