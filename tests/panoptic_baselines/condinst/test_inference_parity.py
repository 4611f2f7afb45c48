"""From the official network's outputs, and from the image, to official detections and masks."""
from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from adaptis.runtime import mx
from panoptic_baselines.condinst.full_masks import resize_weights
from panoptic_baselines.condinst.network import Maps, to_instances
from panoptic_baselines.condinst.settings import CondInstSettings
from panoptic_baselines.fcos.decode import Candidates
from panoptic_baselines.predictor import pad_batch
from tests.panoptic_baselines.condinst.golden import LEVELS, close, same_candidates
from tests.panoptic_baselines.golden import unpack

SETTINGS = CondInstSettings(short_side=None, max_side=None)


@pytest.fixture(params=[False, True], ids=['imperative', 'hybridized'])
def net(request, condinst_net):
    condinst_net.hybridize(request.param)
    return condinst_net


def official_maps(case):
    return Maps(*([case.nd(f'{key}_p{level}') for level in LEVELS]
                  for key in ('cls_logits', 'reg', 'ctr', 'top')),
                case.nd('mask_feats'), None, None)


@pytest.mark.parametrize('name', 'ab')
def test_masks_from_official_outputs(net, cases, name):
    case = cases[name]
    maps = official_maps(case)
    found, = net.detect(maps, SETTINGS)
    close(net.params_at(maps, 0, found), case['det_params'], 0)
    logits = net.mask_logits(maps, 0, found)
    close(logits[:, 1::2, 1::2], case['mask_logits_s8'], 5e-5)
    close(logits[case['mh_index']], case['mh_logits_s4'][:, 0], 5e-5)
    close(expit(logits[case['mh_index']]), case['mask_scores_s4_pick'], 1e-5)
    instances = to_instances(found, logits, 4, case.size('image_size'), case.size('out_size'), 0.5)
    close(instances.boxes, case['final_boxes'], 5e-3)
    close(instances.scores, case['final_scores'], 1e-5)
    np.testing.assert_array_equal(instances.classes, case['final_classes'])
    official = unpack(case['final_masks_packed'], case.size('out_size'))
    assert np.count_nonzero(instances.masks != official) <= 1e-5 * official.size


@pytest.mark.parametrize('name', 'ab')
def test_inputs_of_the_mask_head(net, cases, name):
    case = cases[name]
    found, = net.detect(official_maps(case), SETTINGS)
    found = found.take(case['mh_index'])
    assert found.levels[0] != found.levels[1]
    head = type(net.mask_head)(depth=2, channels=10)
    same = mx.nd.tile(mx.nd.eye(10).expand_dims(0), (2, 1, 1))
    sizes = mx.nd.array(np.float32(net.sizes)[found.levels][:, None])
    inputs = head.first(mx.nd, case.nd('mask_feats'), same, mx.nd.zeros((2, 10, 1)),
                        mx.nd.array(found.locations), sizes).asnumpy()
    close(inputs.reshape(case['mh_input'].shape), case['mh_input'], 1e-5)


@pytest.mark.parametrize('name', 'ab')
def test_results_from_the_image(net, cases, name):
    case, size, target = cases[name], cases[name].size('image_size'), cases[name].size('out_size')
    batch = pad_batch([case.image()], net.mean)
    maps = net(batch)
    found, = net.detect(maps, SETTINGS)
    rows = same_candidates(found, case.candidates('det_'))
    close(net.params_at(maps, 0, found), case['det_params'][rows], 5e-5)
    close(net.mask_logits(maps, 0, found)[:, 1::2, 1::2], case['mask_logits_s8'][rows], 1e-3)
    instances = net.segment(batch, [size], [target], SETTINGS)[0].instances
    close(instances.boxes, case['final_boxes'][rows], 5e-3)
    close(instances.scores, case['final_scores'][rows], 1e-5)
    np.testing.assert_array_equal(instances.classes, case['final_classes'][rows])
    official = unpack(case['final_masks_packed'], target)[rows]
    assert np.count_nonzero(instances.masks != official) <= 1e-4 * official.size


def test_results_from_official_probabilities(ops):
    data = ops('postprocess')
    size, target = data.size('image_size'), data.size('out_size')
    p = data['scores_s4']
    found = Candidates(data['boxes'], data['det_scores'], data['det_classes'],
                       *[np.zeros(len(p))] * 3)
    instances = to_instances(found, logit(p), 4, size, target, 0.5)
    close(instances.boxes, data['out_boxes'], 1e-4)
    np.testing.assert_array_equal(instances.classes, data['out_classes'])
    np.testing.assert_array_equal(instances.masks, data['out_masks'].astype(bool))
    rows, columns = (resize_weights(*sizes) for sizes in zip(p.shape[1:], (4, 4), size, target))
    close(rows @ p[0] @ columns.T, data['resized_probabilities_0'], 1e-6)
