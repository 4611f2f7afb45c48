"""Which predicted image belongs to which true one, where two files list them.

The format says that the ids do, as in panopticapi.  But some tools number images by themselves, so
that ids of two files agree by accident and the wrong pictures are compared.
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
    """Return (id of the truth, id of the prediction) of every true image.

    Parameters
    ----------
    by : 'id' or 'name' (the file name without its ending; its folder counts if several images have
        one name).  By default the ids if the names do not contradict them, else the names, which is
        told with a MatchWarning.

    Raises AdaptisError if an image has no prediction, or neither ids nor names decide.
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
            warnings.warn(f'{pred.json_path} and {gt.json_path} number their images in different '
                          f'ways ({told}): they are matched by file name.', MatchWarning,
                          stacklevel=2)
        return named
    if contradiction is None:
        raise _missing(gt, pred, [i for i, _ in pairs])
    raise AdaptisError(f'{pred.json_path} and {gt.json_path} have the same ids for other images '
                       f'({contradiction}), and not every true image has its name among the '
                       'predicted ones: predict with --images-from, or say --match id if the ids '
                       'are right.')


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

    Ids that are words are names themselves, so only numbers are doubted.
    """
    if pred.images is gt.images:  # the prediction has no list of its own
        return None
    truth, predicted = _keys(gt, pred)
    for there, here in pairs:
        if str(there).isdecimal() and truth[there] != predicted[here]:
            return (f'image {there} is {gt.images[there]["file_name"]} in one and '
                    f'{pred.images[here]["file_name"]} in the other')
    return None


def _keys(*folders: PanopticFolder) -> list[dict[ImageId, PurePosixPath]]:
    """Return id -> name in each folder; without the folders of images if they are not needed."""
    whole = [{i: image_key(str(f.images[i]['file_name'])) for i in f.annotations} for f in folders]
    last = [Counter(key.name for key in keys.values()) for keys in whole]
    if any(count > 1 for counts in last for count in counts.values()):
        return whole
    return [{i: PurePosixPath(key.name) for i, key in keys.items()} for keys in whole]


def _missing(gt: PanopticFolder, pred: PanopticFolder, found: Iterable[ImageId]) -> AdaptisError:
    absent = [i for i in gt.annotations if i not in set(found)]
    return AdaptisError(f'{pred.json_path} has no prediction for {len(absent)} of {len(gt)} '
                        f'images, the first is {absent[0]} ({gt.images[absent[0]]["file_name"]}).')
