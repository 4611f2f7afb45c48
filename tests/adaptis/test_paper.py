"""``adaptis.paper``, the algorithm in one file, gives the map that ``Predictor`` gives."""
from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adaptis import paper
from adaptis.files import read_image, write_image
from adaptis.inference.settings import AdaptISSettings
from adaptis.loading import default_settings, load_predictor
from toy_data import ToySettings, render

SETTINGS = default_settings(None)[1]
OPTIONS = {name: parameter.default
           for name, parameter in inspect.signature(paper.panoptic).parameters.items()
           if parameter.kind is parameter.KEYWORD_ONLY}
# Settings that cost memory or time, or choose random points, and change no map here.
WITHOUT_EFFECT = {'batch_size', 'memory_mib', 'max_pixels', 'min_tile_overlap', 'num_candidates',
                  'num_iterations', 'confident_prob', 'seed'}


@pytest.fixture(scope='module')
def predictor():
    return load_predictor()


@pytest.fixture(scope='module')
def weights():
    return paper.load_weights()


def draw(settings: ToySettings, split: str) -> np.ndarray:
    return render(settings, split, 0)[0]


def clean() -> np.ndarray:
    return draw(ToySettings.default('v1', seed=21), 'train')


def crowded() -> np.ndarray:
    return draw(ToySettings('v1', 128, 160, 24, 24, seed=22), 'train')


def noisy_crop() -> np.ndarray:
    return draw(ToySettings.default('v1', seed=23), 'test')[9:86, 4:75]


@pytest.mark.parametrize('make', [clean, crowded, noisy_crop])
def test_it_gives_the_map_of_the_predictor(make, predictor, weights):
    """The same segments with the same classes, however they are numbered.

    The two order their sums differently, so that probabilities differ by some 1e-5 (measured), as
    single precision does.  So only a pixel whose two best scores are nearer than 1e-4 may change
    hands.  A mask is accepted or refused by hundreds of pixels and does not hang on so little.
    """
    image = make()
    found, classes = paper.panoptic(image, weights, **{o: getattr(SETTINGS, o) for o in OPTIONS})
    expected = predictor.set_image(image).panoptic()
    kinds = {segment.id: predictor.taxonomy.index(segment.category_id)
             for segment in expected.segments}
    whole = predictor.segmentation()
    sure = ((lead([whole.merged.background, *whole.merged.masks]) > 1e-4)
            & (lead([*whole.stuff_prob, *whole.things_prob]) > 1e-4))
    assert sure.mean() > 0.99
    assert len(classes) == len(kinds) > 5
    pairs = set(zip(found[sure].tolist(), expected.segment_map[sure].tolist()))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert all(classes.get(a) == kinds.get(b) for a, b in pairs)


def lead(scores: list[np.ndarray]) -> np.ndarray:
    """By how much the best score of each pixel exceeds the second best."""
    ordered = np.sort(scores, axis=0)
    return ordered[-1] - ordered[-2]


def test_its_thresholds_are_those_of_the_shipped_network():
    assert {option: getattr(SETTINGS, option) for option in OPTIONS} == OPTIONS


def test_it_leaves_out_only_settings_that_change_nothing():
    """What it has no argument for must be off in the preset of the shipped network."""
    left_out = {name: value for name, value in vars(SETTINGS).items()
                if name not in OPTIONS and name not in WITHOUT_EFFECT}
    neutral = AdaptISSettings(cut_radius=0, min_things_prob=0, min_stuff_prob=0,
                              stuff_prob_mult=1, flip=False, official=False)
    assert left_out == {name: getattr(neutral, name) for name in left_out}


def test_it_needs_no_other_file_of_the_project_than_the_one_that_imports_mxnet():
    tree = ast.parse(Path(paper.__file__).read_text(encoding='utf-8'))
    modules = {name for node in ast.walk(tree) for name in imported(node)}
    assert modules == {'__future__', 'argparse', 'sys', 'collections', 'pathlib', 'typing', 'numpy',
                       'PIL', 'adaptis.runtime'}


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []


def test_the_command_writes_a_colour_for_every_segment(tmp_path, weights):
    image = noisy_crop()
    write_image(tmp_path / 'picture.png', image)
    paper.main([str(tmp_path / 'picture.png'), str(tmp_path / 'out.png')])
    segment_map, _ = paper.panoptic(image, weights)
    colours = read_image(tmp_path / 'out.png').reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) == len(np.unique(segment_map))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(('picture', 'out', 'sentence'), [
    ('none.png', 'out.png', 'No such file'),
    ('text.png', 'out.png', 'cannot identify image file'),
    ('cut.png', 'out.png', 'truncated'),
    ('small.png', 'out.png', 'is 15x40, but it must have at least 16x16'),
    ('good.png', 'out.what', 'unknown file extension'),
    ('good.png', 'missing/out.png', 'No such file'),
])
def test_bad_input_is_answered_by_a_sentence(picture, out, sentence, tmp_path, monkeypatch):
    black = np.zeros((40, 40, 3), np.uint8)
    write_image(tmp_path / 'good.png', black)
    write_image(tmp_path / 'small.png', black[:, :15])
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'good.png').read_bytes()[:-40])
    (tmp_path / 'text.png').write_text('no picture')
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(paper, 'panoptic', lambda image, _: (image[..., 0], {}))
    with pytest.raises(SystemExit, match=sentence):
        paper.main([str(tmp_path / picture), str(tmp_path / out)])
    assert sorted(tmp_path.iterdir()) == before


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, '-m', 'adaptis.paper', 'none.png', 'out.png'],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith('adaptis.paper: ') and 'Traceback' not in done.stderr
