"""What ``import adaptis`` offers."""
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import adaptis
from adaptis.cli import main
from adaptis.registry import families, import_object
from adaptis.types import PanopticResult
from toy_data import ToySettings, render


def run(code: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_mxnet_waits_until_it_is_needed() -> None:
    heavy = "print(*{'mxnet', 'numpy', 'cv2', 'scipy'} & set(sys.modules))"
    assert run(f'import sys, adaptis; dir(adaptis); adaptis.__version__; {heavy}').split() == []
    listed = run('import sys, adaptis\n'
                 'print(*adaptis.list_models(), "mxnet" in sys.modules)')
    assert listed.split()[-1] == 'False' and 'condinst_r50' in listed.split()


def test_every_name_is_there() -> None:
    for name in adaptis.__all__:
        assert getattr(adaptis, name) is not None
    assert set(adaptis.__all__) <= set(dir(adaptis))
    with pytest.raises(AttributeError, match="'adaptis' has no attribute 'load_predictr'"):
        adaptis.load_predictr   # noqa: B018 (it raises)


def test_a_click_and_a_whole_picture(tmp_path) -> None:
    image, ids = render(ToySettings.default('v1'), 'test', 0)
    predictor = adaptis.load_predictor().set_image(image)
    rows, columns = np.nonzero(ids == ids[ids > 0][0])
    click = predictor.mask_at(x=int(np.median(columns)), y=int(np.median(rows)))
    assert click.mask.shape == image.shape[:2] and 0 <= click.confidence <= 1
    result = adaptis.predict(image)
    assert isinstance(result, PanopticResult) and result.things
    assert adaptis.draw(image, result).shape == image.shape


def test_models_are_listed_with_the_class_that_documents_them() -> None:
    names = adaptis.list_models()
    assert len(names) == len(set(names)) == sum(len(family.models) for family in families())
    assert adaptis.list_models('mask_rcnn*') == [n for n in names if n.startswith('mask_rcnn')]
    assert adaptis.list_models(pretrained=True) == ['adaptis_toy']
    for family in families():
        for path in set(family.models.values()):
            assert import_object(path).__doc__


def test_a_model_by_name_with_and_without_weights() -> None:
    net = adaptis.get_model('adaptis_toy', width=4)
    assert net.description == {'name': 'adaptis_toy', 'width': 4}
    trained = adaptis.get_model('adaptis_toy', pretrained=True)
    assert all(np.isfinite(p.data().asnumpy()).all() for p in trained.collect_params().values())
    with pytest.raises(adaptis.AdaptisError, match='includes no weights for condinst_r50'):
        adaptis.get_model('condinst_r50', pretrained=True)
    with pytest.raises(adaptis.AdaptisError, match='leave out width'):
        adaptis.get_model('adaptis_toy', pretrained=True, width=4)
    with pytest.raises(adaptis.AdaptisError, match='There is no network "resnet50"'):
        adaptis.get_model('resnet50')


def test_the_command_lists_models(capsys) -> None:
    assert main(['models']) == 0
    every = capsys.readouterr().out
    assert 'adaptis_toy   (included weights: toy_v1)' in every
    assert all(f'  {name}' in every for name in adaptis.list_models())
    assert main(['models', 'adaptis_toy']) == 0
    assert 'width' in capsys.readouterr().out
    assert main(['models', 'resnet50']) == 1
    assert 'There is no network "resnet50"' in capsys.readouterr().err


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, '-m', 'adaptis', '--version'], capture_output=True,
                          text=True)
    assert done.stdout.split() == ['adaptis', adaptis.__version__]
