"""Finding the family of a network, by its name and by a checkpoint's sidecar."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adaptis import registry
from adaptis.errors import AdaptisError
from adaptis.family import ADAPTIS
from adaptis.loading import check_network, family_of
from adaptis.registry import find_family, find_mismatch

KEYS = ('name', 'instances', 'semantic', 'backbone', 'num_things')


def sidecar(folder: Path, **model: object) -> Path:
    (folder / 'net.json').write_text(json.dumps({'model': model}))
    return folder / 'net.params'


def test_names_say_the_family() -> None:
    assert find_family('adaptis_toy') is find_family('adaptis_deeplab') is ADAPTIS
    assert find_family('panoptic_fpn') is find_family('mask_rcnn_x101') is not ADAPTIS
    for name in ('', None, 'adaptistoy', 'mask', ['mask_rcnn']):
        with pytest.raises(AdaptisError, match='There is no network'):
            find_family(name)


def test_every_object_of_the_tables_can_be_imported() -> None:
    for path in {*registry._FAMILIES.values(), *registry._CONVERTERS.values()}:
        assert registry.import_object(path) is not None
    for name in registry._FAMILIES:
        family = find_family(name)
        assert family.stages and family.default_preset({}) in family.presets


def test_checkpoints_say_the_family(tmp_path: Path) -> None:
    for checkpoint in (None, 'toy_v1', tmp_path / 'absent.params'):
        assert family_of(checkpoint) is ADAPTIS
    assert family_of(sidecar(tmp_path, name='mask_rcnn_r50')) is find_family('mask_rcnn')
    with pytest.raises(AdaptisError, match='net.json: There is no network "yolo"'):
        family_of(sidecar(tmp_path, name='yolo'))


def test_a_name_and_its_arguments_are_one_network() -> None:
    def differs(wanted: dict, found: dict) -> object:
        return find_mismatch(wanted, found, KEYS)
    converted = {'name': 'panoptic_fpn', 'backbone': 'resnet50', 'num_things': 8}
    assert differs({'name': 'panoptic_fpn_r50'}, converted) is None
    assert differs({'name': 'panoptic_fpn_r101'}, converted) == ('backbone', 'resnet101',
                                                                 'resnet50')
    assert differs({'name': 'mask_rcnn_r50'}, converted) == ('semantic', False, True)
    assert differs({'name': 'panoptic_fpn_r50', 'num_things': 80}, converted)[0] == 'num_things'
    assert differs({'name': 'adaptis_fpn'}, converted)[0] == 'name'


def test_a_network_by_name_needs_its_checkpoint(tmp_path: Path) -> None:
    check_network('adaptis_toy', None)
    check_network('mask_rcnn_r50', sidecar(tmp_path, name='mask_rcnn', backbone='resnet50'))
    check_network('unified_r18', sidecar(tmp_path, name='unified_r18', masks=False))
    for name in ('condinst', 'condinst_r50'):
        check_network(name, sidecar(tmp_path, name='condinst', backbone='resnet50', semantic=True,
                                    mask_width=4))
    with pytest.raises(AdaptisError, match='The package includes no weights for mask_rcnn_r50'):
        check_network('mask_rcnn_r50', None)
    with pytest.raises(AdaptisError, match='not contain mask_rcnn_r50: its backbone is resnet18'):
        check_network('mask_rcnn_r50', sidecar(tmp_path, name='mask_rcnn_r18'))
    with pytest.raises(AdaptisError, match='not contain panoptic_fpn_r50: its semantic is False'):
        check_network('panoptic_fpn_r50', sidecar(tmp_path, name='mask_rcnn_r50'))


@pytest.mark.parametrize('name, begin, module', [
    ('a.pkl', b'\x12\x01\0\0', 'adaptis.convert.official'),
    ('a.params', b'\x80\x04', 'panoptic_baselines.convert.official'),
    ('a', b'PK\3\4', 'panoptic_baselines.convert.official'), ('a.pth', b'',
                                                              'panoptic_baselines.convert.official'),
    ('a.params', b'', 'adaptis.convert.official'), ('absent', None, 'adaptis.convert.official')])
def test_a_converter_is_found_by_the_first_bytes(tmp_path: Path, name: str, begin: bytes,
                                                 module: str) -> None:
    if begin is not None:
        (tmp_path / name).write_bytes(begin)
    assert registry.find_converter(tmp_path / name).__module__ == module


def test_the_ports_are_loaded_when_they_are_used() -> None:
    code = ('import sys, adaptis.cli, adaptis.config, adaptis.commands.evaluate, '
            'adaptis.commands.train; sys.exit("panoptic_baselines" in sys.modules)')
    assert subprocess.run([sys.executable, '-c', code], timeout=250).returncode == 0
