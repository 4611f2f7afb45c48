"""The toy problems on disk, in the layout of the authors' archives."""
from __future__ import annotations

from pathlib import Path
from typing import List, Union

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.files import read_ids, read_image
from adaptis.types import TOY_TAXONOMY, Sample

IMAGE_SUFFIX = '_rgb.png'
MASK_SUFFIX = '_im.png'
MAX_ID = 0xFFFF
OBJECT_CLASS = 1


class ToyDataset:
    """``<root>/<split>/NNNNN_rgb.png`` with ``NNNNN_im.png`` (object ids, 16 bits, 0 = background).

    Both what ``adaptis toy`` writes and the authors' own ToyV1 and ToyV2 have this layout.

    Parameters
    ----------
    root : folder that holds the splits
    split : 'train', 'test', 'val'

    Raises
    ------
    AdaptisError
        If the folder is missing or holds no sample, or an image has no mask.
    """

    taxonomy = TOY_TAXONOMY

    def __init__(self, root: Union[str, Path], split: str):
        self.folder = Path(root) / split
        self.names = _sample_names(self.folder)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Sample ``index``; AdaptisError if its files are broken or do not match."""
        name = self.names[index]
        image = read_image(self.folder / (name + IMAGE_SUFFIX))
        mask_path = self.folder / (name + MASK_SUFFIX)
        instances = read_ids(mask_path)
        _refuse_wide_ids(instances, mask_path)
        ids = np.flatnonzero(np.bincount(instances.ravel()))
        return Sample(image=image, instances=instances,
                      classes={int(i): OBJECT_CLASS for i in ids if i},
                      semantic=(instances > 0).astype(np.int32),
                      name=str(self.folder / name))


def _sample_names(folder: Path) -> List[str]:
    if not folder.is_dir():
        raise AdaptisError(
            f'{folder} does not exist: generate it with "adaptis toy" or give another --data.')
    files = {p.name for p in folder.iterdir()}
    names = sorted(f[:-len(IMAGE_SUFFIX)] for f in files if f.endswith(IMAGE_SUFFIX))
    if not names:
        raise AdaptisError(f'{folder} holds no sample: NNNNN{IMAGE_SUFFIX} with '
                           f'NNNNN{MASK_SUFFIX}.')
    for name in names:
        if name + MASK_SUFFIX not in files:
            raise AdaptisError(f'{folder / name}{IMAGE_SUFFIX} has no mask {name}{MASK_SUFFIX}.')
    return names


def _refuse_wide_ids(instances: np.ndarray, path: Path) -> None:
    low, high = int(instances.min()), int(instances.max())
    if low < 0 or high > MAX_ID:
        raise AdaptisError(f'{path} holds the id {low if low < 0 else high}, outside 0..{MAX_ID}: '
                           'renumber its objects so that 16 bits hold them.')
