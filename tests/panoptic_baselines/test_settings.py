from __future__ import annotations

import pytest

from adaptis.errors import AdaptisError
from panoptic_baselines.condinst.settings import CONDINST_PRESETS, CondInstSettings
from panoptic_baselines.dense_detections.settings import DENSE_DETECTIONS_PRESETS
from panoptic_baselines.layers.resize import target_size
from panoptic_baselines.panoptic_fpn.settings import PANOPTIC_FPN_PRESETS, PanopticFPNSettings
from panoptic_baselines.settings import get_settings
from panoptic_baselines.unified.settings import UNIFIED_PRESETS, UnifiedSettings


@pytest.mark.parametrize('name, value', [
    ('score_threshold', -0.1), ('score_threshold', 1.5), ('nms_threshold', float('nan')),
    ('overlap_threshold', '0.5'), ('instance_score', None), ('proposal_nms', True),
    ('mask_threshold', 0), ('mask_threshold', 2), ('stuff_area_limit', -1),
    ('stuff_area_limit', 0.5), ('detections_per_image', 0), ('proposals', 1e3),
    ('short_side', 0), ('max_side', -5)])
def test_values_that_make_no_sense(name, value):
    with pytest.raises(AdaptisError, match=f'^{name} is {value!r}.*must be'):
        PanopticFPNSettings(**{name: value})


@pytest.mark.parametrize('values', [
    dict(score_threshold=0, instance_score=1), dict(short_side=None, max_side=None),
    dict(stuff_area_limit=0, detections_per_image=1, overlap_threshold=1.0)])
def test_values_at_the_border(values):
    settings = PanopticFPNSettings().replace(**values)
    assert all(getattr(settings, name) == value for name, value in values.items())


def test_unknown_names():
    with pytest.raises(AdaptisError, match="'score'.*score_threshold"):
        PanopticFPNSettings().replace(score=1)
    with pytest.raises(AdaptisError, match="'voc'.*coco"):
        get_settings('voc', PANOPTIC_FPN_PRESETS)
    with pytest.raises(AdaptisError, match='no preset 5'):
        get_settings(5, PANOPTIC_FPN_PRESETS)


def test_presets():
    presets = PANOPTIC_FPN_PRESETS
    assert get_settings('coco', presets) == PanopticFPNSettings()
    assert get_settings(presets['toy'], presets) is presets['toy']


@pytest.mark.parametrize('presets', [CONDINST_PRESETS, DENSE_DETECTIONS_PRESETS, UNIFIED_PRESETS])
def test_every_system_has_presets_of_its_own(presets):
    assert set(presets) - {'cityscapes_official'} == set(PANOPTIC_FPN_PRESETS)
    assert get_settings('toy', presets) is presets['toy']
    assert presets['cityscapes'].short_side == 1024
    with pytest.raises(AdaptisError, match='^PanopticFPNSettings are not for this network'):
        get_settings(PANOPTIC_FPN_PRESETS['coco'], presets)


def test_dense_detections_as_in_the_paper_and_as_in_the_official_code():
    for name in ('coco', 'cityscapes'):
        preset = DENSE_DETECTIONS_PRESETS[name]
        assert (preset.location, preset.mask_threshold) == ('iou', 0.3)   # equation 6, appendix A
        assert preset.agnostic_nms_threshold == 1
        # Section 5.4: COCO's longer side, Cityscapes at its size.
        size, expected = {'coco': ((480, 640), (1000, 1333)),
                          'cityscapes': ((1024, 2048), (1024, 2048))}[name]
        assert target_size(size, preset.short_side, preset.max_side) == expected
    official = DENSE_DETECTIONS_PRESETS['cityscapes_official']
    assert (official.location, official.mask_threshold, official.agnostic_nms_threshold,
            official.score_threshold) == ('giou', 0.4, 0.97, 0.06)


def test_choices():
    with pytest.raises(AdaptisError, match="^nms is 'mass' but must be one of box, mask"):
        CondInstSettings(nms='mass')
    assert UnifiedSettings().replace(merge='heuristic').merge == 'heuristic'
