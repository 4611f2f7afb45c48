"""The toy data sets on disk, in the layout of the authors' archives."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from adaptis.data.reader import ImageId, Reader, mask_values, pair_files
from adaptis.errors import AdaptisError
from adaptis.files import PathLike, read_ids
from adaptis.types import TOY_TAXONOMY, Sample

IMAGE_SUFFIX = '_rgb.png'
MASK_SUFFIX = '_im.png'
OBJECT_CLASS = 1


class ToyDataset(Reader):
    """``<root>/<split>/NNNNN_rgb.png`` with ``NNNNN_im.png`` (object ids, 16 bits, 0 = background).

    This is the layout of ``adaptis toy`` and of the authors' own ToyV1 and ToyV2.

    Parameters
    ----------
    root : folder that contains the splits
    split : 'train', 'test' or 'val'
    annotations : if False, only the images are listed
    strict : raise AdaptisError if an image or a mask has no counterpart

    Raises
    ------
    AdaptisError
        If the folder is missing or contains no sample, or an image has no mask.
    """

    taxonomy = TOY_TAXONOMY

    def __init__(self, root: PathLike, split: str, annotations: bool = True, strict: bool = True):
        folder = Path(root) / split
        if not folder.is_dir():
            raise AdaptisError(
                f'{folder} does not exist: generate it with "adaptis toy" or give another folder.')
        if (folder / 'panoptic.json').is_file():
            raise AdaptisError(f'{root} is in COCO panoptic format, like street scenes: use '
                               '--dataset coco (data.name: coco in a config) instead of toy.')
        pairs = pair_files(folder, IMAGE_SUFFIX, folder if annotations else None, MASK_SUFFIX)
        super().__init__(*pairs, strict=strict)

    @property
    def names(self) -> list[str]:
        """The file name of each sample without its suffix."""
        return [name[:-len(IMAGE_SUFFIX)] for name in self.images.names]

    def image_id(self, index: int) -> ImageId:
        """Return the number in the file name, or the whole name if it is not a number."""
        name = self.images.names[index][:-len(IMAGE_SUFFIX)]
        return int(name) if name.isdecimal() else name

    def _annotate(self, index: int, image: np.ndarray) -> Sample:
        mask_path = self.annotations.path(index)
        instances = read_ids(mask_path)
        ids = mask_values(instances, mask_path)
        return Sample(image=image, instances=instances,
                      classes={int(i): OBJECT_CLASS for i in ids if i},
                      semantic=(instances > 0).astype(np.int32),
                      name=str(self.images.path(index))[:-len(IMAGE_SUFFIX)])
