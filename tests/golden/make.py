"""Recreate the small golden set: ``python -m tests.golden.make PARITY_FOLDER``.

The same folder always gives the same values, and with the same zlib and liblzma the same bytes.
"""
from __future__ import annotations

import argparse
import fnmatch
import io
import json
import lzma
import shutil
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.golden.reading import KEPT, SHAPE, SMALL_SET, places
from tests.golden.weights import PACKED

LIMIT = 3_000_000   # bytes, of all files
SUFFIXES = '.npz', '.json', '.png'
COMPRESSED = ('*/names*.json',)


class Keep(NamedTuple):
    """What stays of an ``.npz`` file, by patterns of its keys."""

    whole: tuple[str, ...] = ()     # kept as they are; of other large float arrays a sample
    without: tuple[str, ...] = ()   # left out


# Files that are kept with all their values.
WHOLE = (
    'adaptis/*/names.json',
    'adaptis/losses/*.npz',
    'adaptis/proposals/*.npz',
    'adaptis/pq/combine/**/*', 'adaptis/pq/synthetic/**/*',
    'adaptis/greedy/scene_A.npz', 'adaptis/greedy/prop.npz', 'adaptis/greedy/prop_flip_cut.npz',
    'adaptis/greedy/random.npz', 'adaptis/greedy/fn_sampling_mask.npz',
    'adaptis/toy_w8/e2e_proposals_101x83.npz',
    'panoptic_fpn/names.json', 'panoptic_fpn/case_a.json',
    'panoptic_fpn/ops/*', 'panoptic_fpn/training/*',
    'condinst/names.json', 'condinst/ops/*', 'condinst/training/full_step.json',
    'condinst/variants/panoptic_merge.npz', 'condinst/variants/names_panoptic.json',
    'realtime/names.json', 'realtime/ops/*', 'realtime/training/*',
    'unified/*',
)
# Exceptions from them.
NOT = (
    'adaptis/cityscapes_r101/*', 'adaptis/losses/adaptive_iou_probs.npz',
    'adaptis/losses/proposals_iou_p60.npz', 'adaptis/proposals/fine_80x96.npz',
    'panoptic_fpn/ops/detector_postprocess.npz',
    'panoptic_fpn/ops/fpn_levels.npz', 'panoptic_fpn/ops/paste_masks.npz',
    'panoptic_fpn/training/box_loss.npz', 'panoptic_fpn/training/mask_loss.npz',
    'condinst/ops/proposals.npz', 'condinst/ops/resize.npz',
)
# Files of which large arrays are sampled.
SAMPLED = {
    'adaptis/toy_w8/case_101x83.npz': Keep(whole=('points',)),
    'panoptic_fpn/case_a.npz': Keep(
        whole=('out_*', 'det_*', 'proposals', 'proposal_*'), without=('rpn_pre_*', 'rpn_keep')),
    'panoptic_fpn/ops/layers.npz': Keep(whole=('[!ou]*',)),
    'panoptic_fpn/training/e2e.npz': Keep(
        whole=('roi_*', 'gt_*', 'rpn_*'), without=('*_logits', 'box_deltas')),
    'condinst/case_b.npz': Keep(whole=('cand_*', 'det_[!p]*', 'final_*')),
    'condinst/training/full_step.npz': Keep(whole=('boxes_*',), without=('input',)),
    'condinst/ops/postprocess.npz': Keep(whole=('scores_s4',)),
    'realtime/ops/fpn_stage.npz': Keep(),
    'realtime/ops/head_stage.npz': Keep(),
    'realtime/ops/mask.npz': Keep(whole=('[!m]*', 'mask_prob', 'masks')),
    # Without the picture: it is one of Cityscapes, which forbids to pass it on.
    'realtime/case_c.npz': Keep(
        whole=('[!lm]*', 'levelness_logits'),
        without=('image', 'input', '[CP][3-7]*', '*_tower_*', 'bbox_raw_*', 'sem_official_*')),
}


def chosen(parity: Path) -> list[str]:
    """The files of the full folder that the small set holds something of, by name."""
    names = {str(path.relative_to(parity)) for pattern in WHOLE for path in parity.glob(pattern)
             if path.suffix in SUFFIXES}
    return sorted({name for name in names if not _any(name, NOT)} | set(SAMPLED))


def reduced(parity: Path, name: str) -> dict[str, np.ndarray]:
    """What the small set holds of the arrays of an ``.npz`` file."""
    keep = SAMPLED.get(name, Keep(whole=('*',)))
    kept = {}
    with np.load(parity / name, allow_pickle=False) as file:
        for key in file.files:
            if _any(key, keep.without):
                continue
            array = kept[key] = file[key]
            if array.dtype.kind == 'f' and array.size > 2 * KEPT and not _any(key, keep.whole):
                if np.isnan(array).any():
                    raise ValueError(f'"{key}" of {name} has NaN, which means "not kept" here')
                kept[key] = array.flat[places(array.shape)]
                kept[key + SHAPE] = np.array(array.shape, np.int32)
    return kept


def place(name: str) -> str:
    """The name that a file of the full folder has in the small set."""
    return name + PACKED if _any(name, COMPRESSED) else name


def content(parity: Path, name: str) -> bytes:
    """The bytes of a file of the small set, by its name in the full folder."""
    path = parity / name
    if path.suffix == '.png':
        return path.read_bytes()
    if path.suffix == '.json':
        text = json.dumps(json.loads(path.read_text()), separators=(',', ':')).encode() + b'\n'
        return lzma.compress(text) if _any(name, COMPRESSED) else text
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for key, array in reduced(parity, name).items():
            member = zipfile.ZipInfo(f'{key}.npy')   # of 1980, whenever it is made
            member.compress_type = zipfile.ZIP_LZMA
            with archive.open(member, 'w') as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
    return file.getvalue()


def make(parity: Path, target: Path = SMALL_SET) -> int:
    """Write the small set in place of what is there; returns its size in bytes."""
    files = {place(name): content(parity, name) for name in chosen(parity)}
    size = sum(map(len, files.values()))
    if size > LIMIT:
        raise ValueError(f'the small set would take {size} bytes, more than {LIMIT}')
    if target.exists():
        shutil.rmtree(target)
    for name, data in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    return size


def _any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('parity', type=Path, help='the folder with the full golden data')
    parity = parser.parse_args().parity
    if not parity.is_dir():
        sys.exit(f'{parity} is no folder.')
    try:
        size = make(parity)
    except (OSError, ValueError) as error:
        sys.exit(f'{error}.')
    print(f'{SMALL_SET}: {len(chosen(parity))} files, {size} bytes')


if __name__ == '__main__':
    main()
