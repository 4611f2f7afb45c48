"""What is fuzzed: for each format, valid files, how to damage them, and what opens them."""
from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple

import cv2
import numpy as np

from adaptis.errors import AdaptisError
from tests.fuzz.mutations import (
    Rng,
    damage,
    damage_json,
    damage_png,
    damage_safetensors,
    damage_text,
    damage_zip,
)

Damage = Callable[[bytes, Rng], bytes]


class Format(NamedTuple):
    """A kind of input.

    Attributes
    ----------
    write : writes good inputs into a folder, each in a folder of its own
    damaged : patterns of the files of an input of which one is damaged, and how
    open : uses an input, given its folder
    seconds : CPU time that one input may take
    """

    write: Callable[[Path], None]
    damaged: Sequence[tuple[str, Damage]]
    open: Callable[[Path], Any]
    seconds: float = 10.0
    after: Callable[[Path], None] = lambda folder: None


def _picture(size: tuple[int, int] = (20, 24)) -> np.ndarray:
    rng = np.random.default_rng(5)
    picture = np.full((*size, 3), 230, np.uint8)
    picture[4:12, 3:17] = 40, 90, 160
    return picture + rng.integers(0, 20, picture.shape).astype(np.uint8)


def _ids(size: tuple[int, int] = (20, 24)) -> np.ndarray:
    ids = np.zeros(size, np.uint16)
    ids[4:12, 3:17], ids[10:16, 12:22] = 1, 300
    return ids


def _write_images(folder: Path, suffix: str) -> None:
    kinds = {'rgb': _picture(), 'grey': _picture()[..., 0],
             'alpha': np.dstack([_picture(), _picture()[..., 0]])}
    if suffix in ('.png', '.tif'):
        kinds['ids'] = _ids()
    for name, pixels in kinds.items():
        if suffix == '.jpg' and name == 'alpha':
            continue
        (folder / name).mkdir(parents=True)
        assert cv2.imwrite(str(folder / name / f'a{suffix}'), pixels)
    from PIL import Image
    turned = Image.fromarray(_picture())
    exif = turned.getexif()
    exif[274] = 6
    (folder / 'exif').mkdir()
    turned.save(folder / 'exif' / f'a{suffix}', exif=exif)
    if suffix == '.png':
        (folder / 'palette').mkdir()
        turned.convert('P').save(folder / 'palette' / 'a.png')


def _open_image(folder: Path) -> None:
    from adaptis.files import read_header, read_ids, read_image
    (path,) = folder.iterdir()
    for read in (read_header, read_ids):
        _allow(read, path)
    read_image(path)


def _allow(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function that may refuse, so that what follows is tried as well."""
    try:
        function(*arguments)
    except AdaptisError as error:
        check_sentence(error)


def check_sentence(error: Exception) -> None:
    """Raise AssertionError if an error is not one sentence for a person."""
    text = str(error)
    assert text.strip() and '\n' not in text and 'Traceback' not in text, f'no sentence: {text!r}'
    assert len(text) < 1500, f'{len(text)} characters: {text[:200]!r}'
    text.encode('utf-8')   # a lone surrogate cannot be printed


def _write_coco(folder: Path) -> None:
    from tests.miniatures import write_coco, write_instances
    write_coco(folder / 'coco', splits=('val',), images=2, size=(24, 32))
    write_instances(folder / 'coco', splits=('val',), images=2, size=(24, 32))


def _open_coco(folder: Path, annotation: str) -> None:
    from adaptis.data.datasets import open_dataset
    _read_all(open_dataset('coco', folder, 'val', annotation=annotation))


def _read_all(dataset: Any) -> None:
    """Read all samples, also those behind one that is refused."""
    refused: list[AdaptisError] = []
    for index in range(len(dataset)):
        try:
            dataset[index]
        except AdaptisError as error:
            check_sentence(error)
            refused.append(error)
    if refused:
        raise refused[0]


def _open_panoptic_results(folder: Path) -> None:
    from adaptis.evaluation.coco import PanopticFolder
    truth = PanopticFolder(folder / 'annotations' / 'panoptic_val2017.json')
    for image_id in list(truth.annotations)[:3]:
        truth.read(image_id)


def _write_toy(folder: Path) -> None:
    (folder / 'toy' / 'val').mkdir(parents=True)
    cv2.imwrite(str(folder / 'toy' / 'val' / '00000_rgb.png'), _picture())
    cv2.imwrite(str(folder / 'toy' / 'val' / '00000_im.png'), _ids())


def _open_toy(folder: Path) -> None:
    from adaptis.data.datasets import open_dataset
    _read_all(open_dataset('toy', folder, 'val'))


def _write_configs(folder: Path) -> None:
    root = Path(__file__).parents[2] / 'experiments'
    for name in ('toy_v1', 'side_by_side/condinst', 'side_by_side/adaptis'):
        target = folder / name.replace('/', '_')
        target.mkdir(parents=True)
        shutil.copy(root / f'{name}.yaml', target / 'a.yaml')


def _open_config(folder: Path) -> None:
    from adaptis.config import load_config, write_config
    config = load_config(folder / 'a.yaml')
    write_config(config, folder / 'again.yaml')
    assert load_config(folder / 'again.yaml') == config
    (folder / 'again.yaml').unlink()


def _write_params(folder: Path) -> None:
    from adaptis.model import get_model, save_model
    from adaptis.runtime import mx
    net = get_model('adaptis_toy', width=2)
    net.initialize()
    (folder / 'ours').mkdir(parents=True)
    save_model(net, folder / 'ours' / 'a.params', {'note': 'for a fuzzer'})
    (folder / 'arrays').mkdir()
    mx.nd.save(str(folder / 'arrays' / 'a.params'), {'arg:x': mx.nd.ones((2, 3))})


def _open_params(folder: Path) -> None:
    from adaptis.convert.official import convert
    from adaptis.loading import family_of
    from adaptis.model import load_model
    from adaptis.model.zoo import read_arrays
    path = folder / 'a.params'
    for function, *arguments in ((family_of, path), (convert, path, folder / 'converted.params')):
        _allow(function, *arguments)
    if (folder / 'a.json').exists():
        load_model(path)
    else:
        read_arrays(path)


def _arrays() -> dict[str, np.ndarray]:
    from tests.panoptic_baselines.convert.test_wrapped_names import torchvision
    return {name: array[:2] for name, array in list(torchvision().items())[:12]}


def _write_pickles(folder: Path) -> None:
    import argparse
    content = {'model': _arrays(), 'iteration': 3}
    for protocol in (0, 2, 4):
        if protocol:
            content['args'] = argparse.Namespace(lr=0.1)
        (folder / f'protocol{protocol}').mkdir(parents=True)
        (folder / f'protocol{protocol}' / 'a.pkl').write_bytes(pickle.dumps(content, protocol))


def _write_pytorch(folder: Path) -> None:
    from tests.panoptic_baselines.convert.pickles import (
        TORCH_LEGACY,
        TORCH_ZIP,
        tensor,
        torch_file,
    )
    arrays = _arrays()
    own = torch_file({'state_dict': {
        name: tensor(str(i), a.size, a.shape, [s // 4 for s in a.strides])
        for i, (name, a) in enumerate(arrays.items())}},
        {str(i): a.tobytes() for i, a in enumerate(arrays.values())})
    for name, content in (('zip', TORCH_ZIP), ('legacy', TORCH_LEGACY), ('own', own)):
        (folder / name).mkdir(parents=True)
        (folder / name / 'a.pth').write_bytes(content)


def _write_safetensors(folder: Path) -> None:
    from safetensors.numpy import save
    (folder / 'a').mkdir(parents=True)
    (folder / 'a' / 'a.safetensors').write_bytes(save(_arrays()))


def _open_checkpoint(folder: Path) -> None:
    from adaptis.registry import find_converter
    from panoptic_baselines.convert.checkpoints import read_checkpoint
    from panoptic_baselines.convert.official import SAFETENSORS
    from panoptic_baselines.convert.safetensor_files import read_safetensors
    (path,) = folder.iterdir()
    _allow(find_converter(path), path, folder / 'converted.params', None)
    (read_safetensors if path.suffix == SAFETENSORS else read_checkpoint)(path)


def _write_npz(folder: Path) -> None:
    from adaptis.evaluation.run import Evaluator
    from adaptis.evaluation.shards import WHOLE
    from adaptis.types import TOY_TAXONOMY, PanopticResult, Segment
    background, thing = TOY_TAXONOMY.categories
    columns = np.broadcast_to(np.arange(15), (20, 15))

    def halves(border: int) -> PanopticResult:
        return PanopticResult(1 + (columns >= border).astype(np.int32), [
            Segment(1, background.id, False, 1.0, area=20 * border),
            Segment(2, thing.id, True, 0.5, area=20 * (15 - border))])

    evaluator = Evaluator(TOY_TAXONOMY, {'data': 'toy'}, cityscapes=True)
    evaluator.add(0, halves(7), halves(8))
    (folder / 'shard').mkdir(parents=True)
    evaluator.save(folder / 'shard' / 'shard.npz', WHOLE)
    stream = io.BytesIO()
    np.savez(stream, **{'0.0': np.zeros((2, 3), 'f4'), '0.1': np.ones((2, 3), 'f4')})
    (folder / 'optimizer').mkdir()
    (folder / 'optimizer' / 'optimizer.npz').write_bytes(stream.getvalue())


def _open_npz(folder: Path) -> None:
    from adaptis.engine.checkpoint import load_optimizer
    from adaptis.evaluation.run import Evaluator
    from adaptis.runtime import mx
    (path,) = folder.iterdir()
    if path.stem == 'shard':
        Evaluator.merge_files([path]).result()
        return
    layer = mx.gluon.nn.Dense(2, in_units=3, use_bias=False)
    layer.initialize()
    trainer = mx.gluon.Trainer(layer.collect_params(), 'adam', update_on_kvstore=False)
    trainer._init_kvstore()
    load_optimizer(trainer, path)


def _write_export(folder: Path) -> None:
    from adaptis.cli import main
    from adaptis.model import get_model, save_model
    net = get_model('adaptis_toy', width=2)
    net.initialize()
    save_model(net, folder / 'net.params')
    assert main(['export', '--out', str(folder / 'export'), '--checkpoint',
                 str(folder / 'net.params'), '--format', 'onnx']) == 0
    for path in folder.glob('net.*'):
        path.unlink()


def _open_export(folder: Path) -> None:
    from adaptis.loading import load_predictor
    predictor = load_predictor(folder)
    predictor.set_image(_picture())
    predictor.panoptic()


def _reseal(folder: Path) -> None:
    """Make the digests fit, as somebody would who changes an export on purpose."""
    import hashlib

    from adaptis.deploy.folder import seal
    path = folder / 'export.json'
    try:
        manifest = json.loads(path.read_text())
        for name, facts in manifest['files'].items():
            content = (folder / name).read_bytes()
            facts.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        manifest['seal'] = seal(manifest)
        path.write_text(json.dumps(manifest))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return


FORMATS: dict[str, Format] = {
    **{suffix[1:]: Format(partial(_write_images, suffix=suffix), [('*', change)], _open_image)
       for suffix, change in (('.png', damage_png), ('.jpg', damage), ('.webp', damage),
                              ('.tif', damage))},
    'panoptic json': Format(_write_coco, [('annotations/panoptic_val*.json', damage_json)],
                            partial(_open_coco, annotation='panoptic')),
    'panoptic results': Format(_write_coco, [('annotations/panoptic_val*.json', damage_json),
                                             ('annotations/*/*.png', damage_png)],
                               _open_panoptic_results),
    'instances json': Format(_write_coco, [('annotations/instances_val*.json', damage_json)],
                             partial(_open_coco, annotation='instances')),
    'toy folder': Format(_write_toy, [('val/*', damage_png)], _open_toy),
    'yaml': Format(_write_configs, [('*', damage_text)], _open_config),
    'params': Format(_write_params, [('a.params', damage), ('a.json', damage_json)], _open_params),
    'pkl': Format(_write_pickles, [('*', damage)], _open_checkpoint),
    'pth': Format(_write_pytorch, [('*', damage_zip)], _open_checkpoint),
    'safetensors': Format(_write_safetensors, [('*', damage_safetensors)], _open_checkpoint),
    'npz': Format(_write_npz, [('*', damage_zip)], _open_npz),
    'export': Format(_write_export, [('export.json', damage_json), ('*.onnx', damage)],
                     _open_export, after=_reseal),
}
