"""Losses of CondInst and their gradients against the official code."""
from __future__ import annotations

import json

import numpy as np
import pytest

from adaptis.runtime import mx
from adaptis.types import TOY_TAXONOMY
from panoptic_baselines.condinst.convert import condinst_name
from panoptic_baselines.condinst.network import CondInst, Maps
from panoptic_baselines.condinst.targets import CondInstTargets
from panoptic_baselines.condinst.training import CondInstSystem
from panoptic_baselines.fcos.targets import with_averages
from panoptic_baselines.layers.resize import subsample
from tests.golden.reading import stored
from tests.panoptic_baselines.condinst.golden import Data, close
from tests.panoptic_baselines.golden import mass_centers

LOSSES = {'loss_fcos_cls': 'classes', 'loss_fcos_loc': 'boxes', 'loss_fcos_ctr': 'centerness',
          'loss_mask': 'masks', 'loss_sem': 'things'}
SIZE = 128, 192
SHAPES = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
CELLS = [h * w for h, w in SHAPES]


def batch_of(case, sizes=(SIZE, SIZE)):
    """What the annotations of the case's two images mean; their masks overlap."""
    items = []
    targets = CondInstTargets(TOY_TAXONOMY)
    for k, size in enumerate(sizes):
        boxes, classes = case[f'boxes_{k}'], case[f'classes_{k}'].astype(np.int64)
        masks = np.zeros((len(boxes), *SIZE), bool)
        masks[:, :size[0], :size[1]] = np.unpackbits(case[f'masks_{k}_packed'], axis=1)[
            :, :size[0] * size[1]].reshape(-1, *size)
        items.append({'boxes': boxes, 'classes': classes, 'masks': subsample(masks, 4),
                      'things': things_of(masks, classes),
                      **targets.assign(boxes, classes, mass_centers(masks), SIZE)})
    count = max(len(item['boxes']) for item in items)
    for item in items:
        item['masks'] = np.pad(item['masks'], ((0, count - len(item['masks'])), (0, 0), (0, 0)))
    batch = with_averages({key: np.stack([item[key] for item in items])
                           for key in items[0] if key not in ('boxes', 'classes')})
    return {key: value if key in CondInstSystem.host_keys else mx.nd.array(value, dtype='float32')
            for key, value in batch.items()}


def things_of(masks, classes):
    """At every eighth pixel the class of the smallest mask."""
    order = np.argsort(masks.sum(axis=(1, 2)), kind='stable')
    first = subsample(masks, 8)[order].argmax(axis=0)
    return np.where(subsample(masks, 8).any(axis=0), classes[order][first], -1)


def flat(positives):
    """Images and cells (2, P) in the official order: by level, then by image."""
    starts = np.cumsum([0, *CELLS])
    levels = np.searchsorted(starts, positives[1], side='right') - 1
    return (2 * starts[levels] + positives[0] * np.array(CELLS)[levels]
            + positives[1] - starts[levels])


@pytest.fixture(scope='module')
def small_net():
    net = CondInst(backbone='resnet18', fpn_channels=32)
    net.initialize()
    return net


@pytest.fixture(scope='module')
def fixed(condinst_kit):
    return Data.load(condinst_kit / 'training' / 'fixed_outputs.npz')


@pytest.fixture(scope='module', params=[False, True])
def learned(request, small_net, fixed):
    """Given maps with their gradients, and the losses; imperatively and as graphs."""
    maps = maps_of(fixed)
    arrays = [*maps.logits, *maps.distances, *maps.centerness, *maps.params, maps.mask_features,
              maps.things]
    for array in arrays:
        array.attach_grad()
    system = CondInstSystem(small_net, TOY_TAXONOMY, positives='random',
                            hybridize=request.param)
    with mx.autograd.record():
        losses = system.losses_from_maps(maps, batch_of(fixed))
        total = sum(losses.values())
    total.backward()
    assert system.metrics() == {'positives': len(fixed['pos_inds'])}
    return maps, losses


def test_the_five_losses(fixed, learned):
    assert set(learned[1]) == set(LOSSES.values())
    for official, name in LOSSES.items():
        assert learned[1][name].asscalar() == pytest.approx(float(fixed[official]), rel=1e-5)


def test_gradients_of_the_head(fixed, learned):
    maps = learned[0]
    for level in range(5):
        close(maps.distances[level].grad, fixed[f'grad_reg{level}'], 1e-7)
        close(maps.centerness[level].grad, fixed[f'grad_ctr{level}'], 1e-7)
        norm = np.linalg.norm(maps.logits[level].grad.asnumpy())
        assert norm == pytest.approx(fixed['grad_logits_norm'][level], rel=1e-5)
    close(maps.logits[1].grad, fixed['grad_logits1'], 1e-7)


def test_gradients_of_the_masks(fixed, learned):
    maps = learned[0]
    flat_params = np.concatenate([x.grad.asnumpy().transpose(0, 2, 3, 1).reshape(-1, 169)
                                  for x in maps.params])
    close(flat_params[fixed['pos_inds']], fixed['grad_top_pos'], 1e-7)
    assert (flat_params.any(axis=1)).sum() == len(fixed['pos_inds'])
    close(maps.mask_features.grad, fixed['grad_mask_feats'], 1e-7)
    things = maps.things.grad.asnumpy()
    close(things[:, ::8], fixed['grad_sem_c8'], 1e-7)
    assert np.linalg.norm(things) == pytest.approx(float(fixed['grad_sem_norm']), rel=1e-5)


def test_targets(fixed):
    batch = batch_of(fixed)
    positives = np.stack(np.nonzero(batch['objects'] >= 0))
    order = flat(positives).argsort()
    np.testing.assert_array_equal(flat(positives)[order], fixed['pos_inds'])
    at = tuple(positives[:, order])
    np.testing.assert_array_equal(batch['labels'].asnumpy()[at], fixed['pos_labels'])
    np.testing.assert_array_equal(batch['objects'][at] + 4 * at[0], fixed['pos_gt_inds'])
    close(batch['distances'].asnumpy()[at], fixed['pos_reg_targets'], 0)
    close(batch['centerness'].asnumpy()[at], fixed['pos_ctr_targets'], 1e-6)
    assert 2 * batch['averages'].asnumpy()[0] == pytest.approx(
        [len(fixed['pos_inds']), float(fixed['loss_denorm'])], rel=1e-6)
    masks = batch['masks'].asnumpy()
    np.testing.assert_array_equal(np.concatenate([masks[0], masks[1, :3]]),
                                  fixed['gt_bitmasks_s4'])
    np.testing.assert_array_equal(batch['things'].asnumpy() + 1, fixed['sem_target_s8'])


@pytest.mark.parametrize('limit', [3, 8, 20, 64])
def test_the_best_positives(small_net, fixed, limit):
    system = CondInstSystem(small_net, TOY_TAXONOMY, positives='score_per_object', limit=limit)
    maps, batch = maps_of(fixed), batch_of(fixed)
    chosen = system.select_positives(maps, batch)
    assert sorted(flat(chosen)) == sorted(fixed[f'topk_{limit}_pos_inds'])
    assert system.losses_from_maps(maps, batch)['masks'].asscalar() == pytest.approx(
        float(fixed[f'topk_{limit}_loss_mask']), rel=1e-5)


def maps_of(case):
    def levels(name):
        return [case.nd(f'{name}{level}') for level in range(5)]
    return Maps(logits=levels('logits'), distances=levels('reg'), centerness=levels('ctr'),
                params=levels('top'), mask_features=case.nd('mask_feats'),
                things=case.nd('sem_logits'), semantic=None)


@pytest.fixture(scope='module')
def official_weights(condinst_kit, official_arrays):
    return official_arrays(condinst_kit / 'names.json')


@pytest.fixture(scope='module')
def step(condinst_kit):
    folder = condinst_kit / 'training'
    return Data.load(folder / 'full_step.npz'), json.loads((folder / 'full_step.json').read_text())


@pytest.fixture(scope='module')
def trained(official_weights, make_official, step):
    """Losses and, by official name, the parameters after one step, and their decay."""
    case, info = step
    net = make_official(official_weights, things=True)
    system = CondInstSystem(net, TOY_TAXONOMY, positives='random',
                            hybridize=True)   # whose names nobody looks at
    image, sizes = np.zeros((2, 3, *SIZE)), [case[f'image_bgr_{k}'].shape[:2] for k in range(2)]
    for k, (height, width) in enumerate(sizes):
        image[k, :, :height, :width] = case[f'image_bgr_{k}'][..., ::-1].transpose(2, 0, 1)
    batch = {'image': mx.nd.array(image), 'sizes': mx.nd.array(sizes), **batch_of(case, sizes)}
    trainer = mx.gluon.Trainer(system.parameters(), 'torchsgd', update_on_kvstore=False,
                               optimizer_params={'momentum': 0, 'learning_rate': info['lr']})
    with mx.autograd.record():
        losses = system.losses(batch)
        total = sum(losses.values())
    total.backward()
    trainer.step(1)
    ours = net._collect_params_with_prefix()
    learned = set(system.parameters())
    parameters = {name: ours[condinst_name(name)] for name in official_weights}
    return losses, {n: p for n, p in parameters.items() if p.name in learned}, parameters


def test_the_losses_of_a_step(step, trained):
    for official, name in LOSSES.items():
        assert trained[0][name].asscalar() == pytest.approx(float(step[0][official]), rel=1e-4)


def test_what_is_trained_and_decays(step, trained):
    _, info = step
    assert set(trained[1]) == set(info['grad_norm_names'])
    assert not set(info['frozen']) & set(trained[1])
    assert {name for name, p in trained[1].items() if p.wd_mult == 0} == set(
        info['no_weight_decay'])


def test_all_gradient_norms(step, trained):
    for name, norm in zip(step[1]['grad_norm_names'], step[0]['grad_norm']):
        gradient = trained[1][name].grad().asnumpy().astype(np.float64)
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=1e-2, abs=1e-9), name


def test_gradients_and_parameters_after_the_step(step, trained):
    pieces = [name for name in step[0] if name.startswith(('grad/', 'grad_sub/', 'new_sub/'))]
    pieces += [name for name in step[0] if name.startswith('new/') and 'running' not in name]
    assert len(pieces) == 46
    for piece in pieces:
        kind, _, name = piece.partition('/')
        array = trained[1][name].grad() if kind.startswith('grad') else trained[1][name].data()
        array = array.asnumpy()
        if kind.endswith('sub'):
            array = array.reshape(len(array), -1)[::16, ::37]
        if kind.startswith('new'):
            close(array, step[0][piece], 1e-5)
        else:
            found, expected = stored(array, step[0][piece])
            off = np.linalg.norm(found - expected)
            assert off <= 2e-2 * np.linalg.norm(expected), piece


def test_statistics_after_the_step(step, trained, official_weights):
    names = [n[len('new/'):] for n in step[0] if 'running' in n]
    assert len(names) == 6
    for name in names:
        got, before = trained[2][name].data().asnumpy(), official_weights[name]
        if name.endswith('var'):   # of n values: MXNet divides by n, PyTorch by n - 1
            count = 2 * np.prod(SHAPES[0])
            got = 0.9 * before + (got - 0.9 * before) * count / (count - 1)
        close(got, step[0][f'new/{name}'], 1e-5)
