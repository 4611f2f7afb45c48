"""``adaptis init-config``: write a training config for the data in a folder."""
from __future__ import annotations

import argparse
import tempfile
import textwrap
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import yaml

from adaptis.config import load_config
from adaptis.data.datasets import DATASETS, SPLITS, open_dataset
from adaptis.data.layouts import try_layout
from adaptis.data.reader import Reader
from adaptis.data.sources import open_sources
from adaptis.errors import AdaptisError
from adaptis.files import atomic_write, read_header
from adaptis.registry import find_family

HELP = """Write a working training config for the data in a folder.  It detects the layout, the
splits, the categories and the image sizes.  Without --out it prints the config."""
HEADERS = 200       # number of images whose sizes are read
TOY_SIDE, PHOTO_SIDE, DETECTOR_SIDE = 128, 384, 192
TOY_CROP = 96       # the shipped toy network was trained on images of this side
_EXAMPLE = 'adaptis_toy, adaptis_fpn, condinst_r18 or mask_rcnn_r18'


class _Dumper(yaml.SafeDumper):
    """Writes repeated values in full instead of using aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Found(NamedTuple):
    """What was found in a folder: its layout and its training images."""

    dataset: str
    annotation: str
    splits: list[str]
    train: Reader
    sizes: np.ndarray   # (N, 2), height and width of some training images

    @property
    def val_split(self) -> str:
        """The split to validate on: the training images if there is no other."""
        return next((split for split in ('val', 'test') if split in self.splits), 'train')

    def short_side(self, most: int) -> int:
        """Return the usual shorter side, but no more than ``most``."""
        return min(int(np.median(self.sizes.min(axis=1))), most)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('model', metavar='NAME', help=f'name of the network, e.g. {_EXAMPLE} '
                                                      '("adaptis models" lists all)')
    parser.add_argument('--data', '--root', dest='root', type=Path, required=True, metavar='DIR')
    parser.add_argument('--dataset', choices=DATASETS, help='layout of the data (default: detected '
                                                            'from the folders)')
    parser.add_argument('--annotation', choices=('panoptic', 'instances'),
                        help='COCO only: which annotation to train on (default: panoptic if it '
                             'exists)')
    parser.add_argument('--out', type=Path, metavar='FILE', help='config file to write (default: '
                                                                 'print it)')


def run(args: argparse.Namespace) -> int:
    """Write or print the config; return 0."""
    family = find_family(args.model)
    if args.model not in family.models:
        raise AdaptisError(f'There is no network "{args.model}": choose one of '
                           f'{", ".join(family.models)}.')
    if args.out is not None and args.out.exists():
        raise AdaptisError(f'{args.out} already exists: choose another file.')
    found = find_data(args.root, args.dataset, args.annotation)
    config = make_config(args.model, args.root, found)
    family.check_taxonomy(config['model'], found.train.taxonomy)
    text = _header(args, found) + yaml.dump(config, Dumper=_Dumper, sort_keys=False, width=100,
                                            default_flow_style=None, allow_unicode=True)
    with tempfile.TemporaryDirectory() as folder:   # check the config before it is written
        (Path(folder) / 'config.yaml').write_text(text, encoding='utf-8')
        load_config(Path(folder) / 'config.yaml')
    if args.out is None:
        print(text, end='')
        return 0
    with atomic_write(args.out) as temporary:
        temporary.write_text(text, encoding='utf-8')
    print(f'Wrote {args.out}.\nNext: adaptis check-data {args.out}\n'
          f'      adaptis train {args.out} --output runs/{args.out.stem}')
    return 0


def find_data(root: Path, dataset: Optional[str] = None,
              annotation: Optional[str] = None) -> Found:
    """Return what lies in a folder.

    Raises AdaptisError if there are no training images with readable annotations; the message says
    so if ``adaptis import`` can read them.
    """
    if not root.is_dir():
        raise AdaptisError(f'The folder {root} does not exist.')
    dataset = dataset or _recognize(root)
    if dataset is None:
        raise AdaptisError(_unknown(root))
    if dataset == 'coco' and annotation is None:
        layout = try_layout(root, 'train') or try_layout(root, 'val')
        only = layout is not None and layout.instances.is_file() and not layout.json.is_file()
        annotation = 'instances' if only else 'panoptic'
    options = {'annotation': annotation or 'panoptic', 'strict': False}
    train = open_dataset(dataset, root, 'train', **options)
    if not len(train) or train.annotations is None:
        raise AdaptisError(f'{root} has no training image with an annotation ("adaptis check-data '
                           f'--dataset {dataset} --data {root}" lists the mistakes).')
    splits = [split for split in SPLITS if _has_truth(dataset, root, split, options)]
    spread = np.linspace(0, len(train) - 1, min(len(train), HEADERS)).astype(int).tolist()
    sizes = np.array([read_header(train.images.path(index)).size for index in spread])
    return Found(dataset, options['annotation'], splits, train, sizes)


def make_config(model: str, root: Path, found: Found) -> dict[str, Any]:
    """Return a config, as plain data, for training on two CPU cores within an hour."""
    data = {'dataset': found.dataset, 'root': str(root), 'val_split': found.val_split,
            'augmentation': _augmentation(model, found)}
    if found.annotation != 'panoptic':
        data['annotation'] = found.annotation
    if model == 'adaptis_toy':
        body = _toy(found)
    elif find_family(model).uses_points:
        body = _photo(model, found)
    else:
        body = _detector(model, found)
    return {'seed': 0, 'data': data, **body, 'workers': 1, 'checkpoint_minutes': 4,
            'pictures_every': 200, 'validation': {'every': 200, 'images': 16},
            'evaluation_images': 64, 'inference': body['inference']}


def _recognize(root: Path) -> Optional[str]:
    if (root / 'leftImg8bit').is_dir():
        return 'cityscapes'
    if (root / 'training').is_dir() and any(root.glob('config*.json')):
        return 'vistas'
    if next(root.glob('train/*_rgb.png'), None) is not None:
        return 'toy'
    return 'coco' if any(try_layout(root, split) for split in SPLITS) else None


def _unknown(root: Path) -> str:
    try:
        open_sources(root)
    except AdaptisError as error:
        return f'{str(error)[:-1]}, and no layout of {", ".join(DATASETS)}.'
    return (f'{root} contains labelled images that must be imported first: run adaptis import '
            f'{root} --out DIR, and then adaptis init-config with --data DIR.')


def _has_truth(dataset: str, root: Path, split: str, options: dict[str, Any]) -> bool:
    try:
        reader = open_dataset(dataset, root, split, **options)
    except AdaptisError:
        return False
    return len(reader) > 0 and reader.annotations is not None


def _augmentation(model: str, found: Found) -> Any:
    if found.dataset == 'toy':
        return 'toy_v1'
    if not find_family(model).uses_points:
        return 'flip'
    return {'horizontal_flip': {'prob': 0.5}, 'brightness': {'range': [-0.15, 0.15], 'prob': 0.5},
            'contrast': {'range': [-0.15, 0.15], 'prob': 0.5}}


def _adam(rate: float, warmup: int) -> dict[str, Any]:
    return {'name': 'adam', 'lr': rate, 'schedule': 'cosine', 'final_lr': 1e-6,
            'warmup_steps': warmup}


def _toy(found: Found) -> dict[str, Any]:
    """Return the config of the small network, which starts from the shipped weights."""
    side, crop = found.short_side(TOY_SIDE), min(found.short_side(TOY_SIDE), TOY_CROP)
    view: dict[str, Any] = {'crop': crop}
    inference: dict[str, Any] = {'preset': 'toy_v1_cpu'}
    if found.dataset != 'toy':   # the augmentation of the toy data does not rescale
        view.update(short_side=side, scale=[0.75, 1.25], empty_crop_prob=0.1)
        if found.sizes.min() != side or len(np.unique(found.sizes)) > 2:
            inference['short_side'] = side
    return {'model': {'name': 'adaptis_toy', 'width': 16}, 'initial_weights': 'toy_v1',
            'instances': {'steps': 1200, 'batch_size': 4, 'points': 6, 'min_object_area': 20,
                          **view, 'optimizer': _adam(1e-3, 50)},
            'proposals': {'steps': 150, 'batch_size': 4, 'points': 16, 'min_object_area': 20,
                          **view, 'optimizer': _adam(5e-4, 10)},
            'inference': inference}


def _photo(model: str, found: Found) -> dict[str, Any]:
    """Return the config of AdaptIS with a backbone that starts from ImageNet weights."""
    side = max(found.short_side(PHOTO_SIDE), 96)
    view = {'crop': side, 'short_side': side, 'scale': [0.75, 1.5], 'empty_crop_prob': 0.1}
    return {'model': {'name': model, 'backbone': 'resnet18', 'pretrained_base': True, 'width': 64,
                      'radius': round(side * 0.6)},
            'instances': {'steps': 800, 'batch_size': 2, 'points': 6, **view,
                          'optimizer': {**_adam(1e-3, 50), 'backbone_lr_mult': 0.1}},
            'proposals': {'steps': 150, 'batch_size': 2, 'points': 16, **view,
                          'optimizer': _adam(1e-3, 10)},
            'inference': {'preset': 'coco', 'short_side': side, 'flip': False,
                          'proposal_threshold': 0.1, 'max_candidates': 200}}


def _detector(model: str, found: Found) -> dict[str, Any]:
    """Return the config of another system, narrow and trained from scratch."""
    side = found.short_side(DETECTOR_SIDE)
    options: dict[str, Any] = {'name': model, 'norm_layer': 'BatchNorm', 'fpn_channels': 64}
    if model.startswith('condinst') and found.train.taxonomy.num_stuff:
        options['semantic'] = True
    if model.startswith('unified'):
        options['deformable'] = False
    return {'model': options,
            'joint': {'steps': 1500, 'batch_size': 2, 'short_side': side,
                      'system': {'frozen_stages': 0}, 'optimizer': _adam(1e-3, 100)},
            'inference': {'preset': 'toy', 'short_side': side}}


def _header(args: argparse.Namespace, found: Found) -> str:
    things = [c.name for c in found.train.taxonomy.categories if c.isthing]
    stuff = [c.name for c in found.train.taxonomy.categories if not c.isthing]
    (low_h, low_w), (high_h, high_w) = found.sizes.min(axis=0), found.sizes.max(axis=0)
    size = f'{low_h}x{low_w}'
    if (low_h, low_w) != (high_h, high_w):
        size += f' to {high_h}x{high_w}'
    lines = [
        f'{args.model} on {args.root}, for two CPU cores; written by adaptis init-config.',
        '',
        f'Found: {len(found.train)} training images of {size}; splits: '
        f'{", ".join(found.splits)}.',
        f'Things: {_shortened(things)}.  Stuff: {_shortened(stuff)}.']
    if found.val_split == 'train':
        lines.append('There is no other split, so the final evaluation uses the training images.')
    lines += ['', 'More steps, larger crops (crop, short_side) and a wider network (width, '
              'backbone) give better results but take longer.']
    wrapped = [part for line in lines for part in textwrap.wrap(line, 96) or ['']]
    return ''.join(f'# {line}'.rstrip() + '\n' for line in wrapped)


def _shortened(names: list[str], most: int = 12) -> str:
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more if names else 'none'
