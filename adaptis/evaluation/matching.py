"""Match the images of a prediction file with those of a ground-truth file.

In COCO's format, ids identify images, and panopticapi relies on them.  But some tools number images
themselves, so the ids of two files can agree by accident and the wrong images would be compared.
"""
from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Optional

from adaptis.coco_json import ImageId
from adaptis.errors import AdaptisError, MatchWarning
from adaptis.evaluation.coco import PanopticFolder
from adaptis.names import image_key

Pairs = list[tuple[ImageId, ImageId]]
BY_ID, BY_NAME = 'id', 'name'
WAYS = (BY_ID, BY_NAME)


def match_images(gt: PanopticFolder, pred: PanopticFolder, by: Optional[str] = None) -> Pairs:
    """Return (ground-truth id, prediction id) for every ground-truth image.

    Parameters
    ----------
    by : 'id' or 'name' (the file name without its extension; with its folder if several images have
        one name).  By default ids are used if the names do not contradict them, else names, with a
        MatchWarning.

    Raises AdaptisError if an image has no prediction, or neither ids nor names are conclusive.
    """
    if by not in (None, *WAYS):
        raise AdaptisError(f'Images are matched by {" or ".join(WAYS)}, not by {by!r}.')
    if by != BY_NAME:
        pairs = _by_id(gt, pred)
        contradiction = None if by == BY_ID else _contradiction(gt, pred, pairs)
        if len(pairs) == len(gt) and contradiction is None:
            return pairs
        if by == BY_ID:
            raise _missing(gt, pred, [i for i, _ in pairs])
    named = _by_name(gt, pred)
    if by == BY_NAME or len(named) == len(gt):
        if len(named) < len(gt):
            raise _missing(gt, pred, [i for i, _ in named])
        if by is None:
            told = contradiction or 'the ids differ'
            warnings.warn(f'{pred.json_path} and {gt.json_path} use different image ids ({told}), '
                          'so images are matched by file name.', MatchWarning,
                          stacklevel=2)
        return named
    if contradiction is None:
        raise _missing(gt, pred, [i for i, _ in pairs])
    raise AdaptisError(f'{pred.json_path} and {gt.json_path} use the same ids for different images '
                       f'({contradiction}), and not every ground-truth image has a prediction with '
                       'its file name: run "adaptis predict" with --images-from, or use --match '
                       'id if the ids are right.')


def _by_id(gt: PanopticFolder, pred: PanopticFolder) -> Pairs:
    predicted = {str(image_id): image_id for image_id in pred.annotations}
    return [(image_id, predicted[str(image_id)]) for image_id in gt.annotations
            if str(image_id) in predicted]


def _by_name(gt: PanopticFolder, pred: PanopticFolder) -> Pairs:
    truth, predicted = _keys(gt, pred)
    counts = [Counter(keys.values()) for keys in (truth, predicted)]
    place = {key: image_id for image_id, key in predicted.items()}
    return [(image_id, place[key]) for image_id, key in truth.items()
            if key in place and all(count[key] == 1 for count in counts)]


def _contradiction(gt: PanopticFolder, pred: PanopticFolder, pairs: Pairs) -> Optional[str]:
    """Return an example of an id that stands for two images; None if there is none.

    Only numeric ids are checked, because textual ids are names themselves.
    """
    if pred.images is gt.images:  # the prediction has no image list of its own
        return None
    truth, predicted = _keys(gt, pred)
    for there, here in pairs:
        if str(there).isdecimal() and truth[there] != predicted[here]:
            return (f'image {there} is {gt.images[there]["file_name"]} in one and '
                    f'{pred.images[here]["file_name"]} in the other')
    return None


def _keys(*folders: PanopticFolder) -> list[dict[ImageId, PurePosixPath]]:
    """Return id -> name in each folder, without the images' folders if they are not needed."""
    whole = [{i: image_key(str(f.images[i]['file_name'])) for i in f.annotations} for f in folders]
    last = [Counter(key.name for key in keys.values()) for keys in whole]
    if any(count > 1 for counts in last for count in counts.values()):
        return whole
    return [{i: PurePosixPath(key.name) for i, key in keys.items()} for keys in whole]


def _missing(gt: PanopticFolder, pred: PanopticFolder, found: Iterable[ImageId]) -> AdaptisError:
    absent = [i for i in gt.annotations if i not in set(found)]
    return AdaptisError(f'{pred.json_path} has no prediction for {len(absent)} of {len(gt)} '
                        f'images; the first one is {absent[0]} '
                        f'({gt.images[absent[0]]["file_name"]}).')
