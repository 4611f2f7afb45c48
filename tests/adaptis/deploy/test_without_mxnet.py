"""Exported networks run where only NumPy, OpenCV and ONNX Runtime are installed."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import cv2
import numpy as np
import pytest

from adaptis.deploy.export import export
from adaptis.files import write_image
from adaptis.loading import load_predictor

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ('adaptis', 'panoptic_baselines', 'experiments', 'toy_data', 'setup.py', 'README.md',
          'LICENSE', 'pyproject.toml')
POINT = {'x': 20, 'y': 30}

# Stands in for an environment that lacks everything else of requirements.txt and setup.py.
BLOCK = '''
import sys
LACKING = {'mxnet', 'gluoncv', 'scipy', 'yaml', 'pycocotools', 'tqdm', 'albumentations', 'PIL',
           'tensorboardX', 'requests', 'skimage', 'sklearn', 'onnx', 'graphviz', 'portalocker'}
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, *arguments):
        return None if name.split('.')[0] in LACKING else super().find_spec(name, *arguments)
sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
'''
SEGMENT = '''
import sys
import numpy as np
from adaptis.files import read_image
from adaptis.inference.predictor import Predictor
folder, image, out, x, y = sys.argv[1:]
predictor = Predictor.from_export(folder, backend='onnxruntime').set_image(read_image(image))
np.savez(out, map=predictor.panoptic().segment_map, mask=predictor.mask_at(x=int(x), y=int(y)).mask)
'''
COMMAND = 'from adaptis.cli import main\nsys.exit(main(sys.argv[1:]))'

LOADED = COMMAND.replace('sys.exit', 'status = ') + '\nprint(*sys.modules)\nsys.exit(status)'
NEEDLESS = {'gluoncv', 'albumentations', 'sklearn', 'scipy.stats', 'skimage', 'matplotlib',
            'setuptools', 'tensorboardX', 'experiments'}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with the network that ships, exported, an image, and what MXNet finds in it."""
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    folder = tmp_path_factory.mktemp('place')
    predictor = load_predictor()
    export(predictor, folder / 'net')
    blocks = np.random.RandomState(0).randint(0, 256, (7, 9, 3)).astype(np.uint8)
    image = cv2.resize(blocks, (91, 71))
    write_image(folder / 'image.png', image)
    predictor.set_image(image)
    np.savez(folder / 'expected.npz', map=predictor.panoptic().segment_map,
             mask=predictor.mask_at(**POINT).mask)
    return folder


def run(python, program, *arguments, path=ROOT):
    environment = {k: v for k, v in os.environ.items() if not k.startswith('PYTHON')}
    environment['PYTHONPATH'] = str(path)
    return subprocess.run([str(python), '-c', program, *map(str, arguments)], env=environment,
                          cwd=ROOT.anchor, capture_output=True, text=True, timeout=250)


def segment(python, program, place, out, **options):
    """What a program finds equals what MXNet finds here."""
    done = run(python, program, place / 'net', place / 'image.png', out, *POINT.values(), **options)
    assert done.returncode == 0, done.stderr
    with np.load(out) as found, np.load(place / 'expected.npz') as expected:
        np.testing.assert_allclose(found['mask'], expected['mask'], rtol=0, atol=1e-4)
        assert (found['map'] != expected['map']).mean() < 1e-3   # ties alone


def test_the_predictor(place, tmp_path):
    segment(sys.executable, BLOCK + SEGMENT, place, tmp_path / 'found.npz')


def test_the_command(place, tmp_path):
    done = run(sys.executable, BLOCK + COMMAND, 'predict', place / 'image.png', '--out', tmp_path,
               '--export', place / 'net')
    assert done.returncode == 0, done.stderr
    assert 'Wrote the results for 1 image' in done.stdout
    assert (tmp_path / 'overlay' / 'image.png').is_file()
    assert (tmp_path / 'panoptic.json').is_file()
    done = run(sys.executable, BLOCK + COMMAND, 'predict', place / 'image.png', '--out', tmp_path,
               '--export', place / 'net', '--click', *POINT.values(), '--flip')
    assert done.returncode == 0, done.stderr
    assert 'confidence' in done.stdout


def test_what_lacks_is_said_in_a_sentence(place, tmp_path):
    block = BLOCK + 'LACKING.add("onnxruntime")\n'
    done = run(sys.executable, block + COMMAND, 'predict', place / 'image.png', '--out', tmp_path,
               '--export', place / 'net')
    assert done.returncode == 1
    assert 'ONNX Runtime is not installed: run python -m pip install onnxruntime' in done.stderr
    done = run(sys.executable, BLOCK + COMMAND, 'predict', place / 'image.png', '--out', tmp_path)
    assert done.returncode == 1 and 'MXNet is not installed' in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('network, needless', [
    ([], NEEDLESS), (['--export', 'net'], {*NEEDLESS, 'mxnet', 'onnx', 'yaml', 'pycocotools'})])
def test_the_command_loads_what_it_needs(place, tmp_path, network, needless):
    """All of it is installed here, and would take longer to load than the picture to segment."""
    network = [place / word if word == 'net' else word for word in network]
    done = run(sys.executable, f'import sys\n{LOADED}', 'predict', place / 'image.png', '--out',
               tmp_path, *network)
    assert done.returncode == 0, done.stderr
    assert not needless & set(done.stdout.splitlines()[-1].split())


@pytest.mark.slow
def test_a_fresh_environment(place, tmp_path):
    """Really made, with the project and three packages; needs a package index."""
    venv.create(tmp_path / 'env', with_pip=True)
    source = tmp_path / 'source'   # as building leaves files behind
    shutil.copytree(ROOT, source, ignore=lambda folder, names: [
        name for name in names if Path(folder) == ROOT and name not in SOURCE])
    python = tmp_path / 'env' / 'bin' / 'python'
    for arguments in (['numpy', 'opencv-python-headless', 'onnxruntime'],
                      ['--no-deps', str(source)]):
        done = subprocess.run([str(python), '-m', 'pip', 'install', '--quiet', *arguments],
                              capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
    segment(python, SEGMENT, place, tmp_path / 'found.npz', path='')
    done = run(python, 'import sys\n' + COMMAND, 'predict', place / 'image.png', '--out',
               tmp_path / 'out', '--export', place / 'net', path='')
    assert done.returncode == 0, done.stderr
    (packages,) = (tmp_path / 'env').glob('lib/python*/site-packages')
    assert not [name for name in ('mxnet', 'experiments', 'toy_data') if (packages / name).exists()]
    assert (packages / 'adaptis' / '_toy_data').is_dir()
