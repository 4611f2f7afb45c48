from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.inference.settings import OFFICIAL_NAMES, PRESETS, AdaptISSettings, get_settings


def test_every_setting_is_documented_and_every_official_name_exists():
    names = {f.name for f in dataclasses.fields(AdaptISSettings)}
    assert set(OFFICIAL_NAMES.values()) <= names
    for name in names:
        assert f'\n{name} : ' in inspect.getdoc(AdaptISSettings)


def test_official_parameters_are_translated():
    settings = AdaptISSettings.from_official({'thresh1': 0.45, 'crop_size': [80, 96],
                                              'use_flip': True},
                                             official=True)
    assert settings == AdaptISSettings(mask_threshold=0.45, tile=(80, 96), flip=True, official=True)
    assert AdaptISSettings.from_official({'crop_size': 72}).tile == (72, 72)
    with pytest.raises(AdaptisError, match='fl_blurr'):
        AdaptISSettings.from_official({'fl_blurr': 2})


@pytest.mark.parametrize('name, mask, overlap, things, flip, sides', [
    ('toy_v1', 0.4, 0.5, 0.3, False, (None, None)), ('toy_v2', 0.5, 0.5, 0.3, False, (None, None)),
    ('cityscapes', 0.40, 0.5, 0.6, True, (None, None)),
    ('cityscapes_official', 0.4, 0.4, 0.6, True, (None, None)),
    ('vistas', 0.35, 0.5, 0.6, True, (None, 2000)), ('coco', 0.35, 0.5, 0.6, True, (600, None))])
def test_presets_hold_the_numbers_of_paper_and_official_code(name, mask, overlap, things, flip,
                                                             sides):
    settings = get_settings(name)
    assert (settings.mask_threshold, settings.overlap_threshold, settings.things_threshold,
            settings.flip, (settings.short_side, settings.max_side)) == (mask, overlap, things,
                                                                         flip, sides)
    toy = name.startswith('toy')
    assert (settings.proposal_threshold, settings.proposal_blur) == ((0.1, 2) if toy else (0.35, 5))
    assert settings.candidate_limit((96, 96)) == (100 if toy else 500)


def test_presets():
    assert get_settings(AdaptISSettings()) == PRESETS['toy_v1']
    with pytest.raises(AdaptisError, match='toy_v3.*toy_v1'):
        get_settings('toy_v3')
    with pytest.raises(AdaptisError, match='object are not for this network'):
        get_settings(object())


def test_limits_grow_with_the_image_unless_given():
    assert AdaptISSettings().candidate_limit((96, 96)) == 100
    assert AdaptISSettings().candidate_limit((1, 1)) == 100
    assert AdaptISSettings().candidate_limit((256, 256)) == 711
    assert AdaptISSettings().iteration_limit((192, 96)) == 80
    assert AdaptISSettings(batch_size=4).batch_limit((256, 256)) == 4
    assert AdaptISSettings(batch_size=4).batch_limit((1024, 1024)) == 1
    assert AdaptISSettings(max_candidates=7).candidate_limit((256, 256)) == 7


@pytest.mark.parametrize('wrong', [
    {'algorithm': 'greedy'}, {'algorithm': ['paper']},
    {'sampling': 'grid'}, {'mask_threshold': 1.5}, {'batch_size': 0}, {'num_candidates': 0},
    {'min_tile_overlap': 1.0}, {'tile': (0, 5)}, {'tile': (1, 2, 3)}, {'min_stuff_prob': -1},
    {'tile': 'ab'}, {'tile': 2.5}, {'tile': [8.5, 8]}, {'flip': 'maybe'}, {'flip': 1},
    {'sampling': ['random']}, {'mask_threshold': None}, {'mask_threshold': True},
    {'min_area': 'many'}, {'min_area': -1}, {'proposal_blur': 2.5}, {'batch_size': 2.5},
    {'proposal_climb': float('nan')}, {'proposal_step': float('inf')}, {'max_candidates': -5},
    {'num_iterations': '7'}, {'num_iterations': -1}, {'seed': None}, {'max_pixels': 0},
    {'short_side': 0}, {'max_side': 12.5}])
def test_nonsense_is_refused_by_name(wrong):
    with pytest.raises(AdaptisError, match=next(iter(wrong))):
        AdaptISSettings(**wrong)


def test_numbers_of_numpy_are_numbers():
    settings = AdaptISSettings(mask_threshold=np.float32(0.5), min_area=np.int64(3),
                               tile=np.int32(8))
    assert settings.tile == (8, 8) and settings.min_area == 3


def test_an_unknown_setting_is_named():
    with pytest.raises(AdaptisError, match="'treshold'"):
        AdaptISSettings().replace(treshold=0.5)
