"""Variants in CondInst's tables besides the mask head: backbones, pyramids, towers, NMS."""
from __future__ import annotations

import inspect
import itertools
from pathlib import Path

import numpy as np
import pytest

from adaptis.commands.train import set_norm_devices
from adaptis.config import load_config
from adaptis.errors import AdaptisError
from adaptis.model.zoo import save_model
from adaptis.registry import find_mismatch
from adaptis.runtime import mx
from adaptis.types import Category, Sample, Taxonomy
from panoptic_baselines.condinst.mask_nms import mask_ious
from panoptic_baselines.condinst.network import CondInst
from panoptic_baselines.condinst.settings import CondInstSettings
from panoptic_baselines.condinst.training import CondInstSystem
from panoptic_baselines.families import CONDINST
from panoptic_baselines.predictor import Predictor
from panoptic_baselines.zoo import get_model, load_model

TAXONOMY = Taxonomy([Category(i, str(i), i > 3) for i in range(1, 7)])
SMALL = dict(backbone='resnet18', num_things=3, num_stuff=3, fpn_channels=64, branch_channels=16,
             semantic_channels=32, head_depth=1, norm_layer='BatchNorm')
SETTINGS = CondInstSettings(short_side=64, max_side=96, score_threshold=0.0, instance_score=0.0,
                            detections_per_image=9, stuff_area_limit=1)
VARIANTS = {
    'bifpn': dict(bifpn_repeats=2, things=True),
    'bifpn panoptic': dict(bifpn_repeats=1, semantic=True),
    'dcn': dict(deformable_stages=[3, 4, 5]),
    'dcn 1': dict(deformable_stages=(5,), deformable_interval=2, modulated=False,
                  norm_layer='FrozenBatchNorm'),
    'dla': dict(backbone='dla34'),
    'real time': dict(levels=3, share_depth=2, head_depth=0, things=True),
    'real time dla': dict(levels=3, share_depth=2, head_depth=0, norm_layer='BatchNorm',
                          backbone='dla34', head_norm='BatchNorm', bifpn_repeats=1),
    'batch norms in both towers': dict(head_norm='BatchNorm'),
    'panoptic': dict(semantic=True, semantic_join='concat'),
    'panoptic, plain': dict(semantic=True, semantic_join='plain', levels=3),
}
MORE = ('bifpn panoptic', 'dcn 1', 'dla', 'batch norms in both towers', 'panoptic')
# These add to what a norm then takes away: their gradient is nothing but rounding.
POINTLESS = ('lateral', 'tower')


def network(**options):
    mx.random.seed(0)
    net = CondInst(**{**SMALL, **options})
    net.initialize()
    net.encoder.head.bbox_pred.bias.set_data(mx.nd.ones(4))   # boxes of a size
    return net


def flat(maps):
    return [x for part in maps if part is not None
            for x in (part if isinstance(part, list) else [part])]


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture(scope='module', params=[
    pytest.param(name, marks=pytest.mark.slow if name in MORE else ()) for name in VARIANTS])
def variant(request):
    return VARIANTS[request.param], network(**VARIANTS[request.param])


def test_sizes_graphs_and_gradients(variant):
    options, net = variant
    levels = options.get('levels', 5)
    assert net.strides == (8, 16, 32, 64, 128)[:levels]
    assert net.sizes == (64, 128, 256, 512, 1024)[:levels]
    batches = [mx.nd.random.uniform(0, 255, (2, 3, *size)) for size in ((128, 192), (64, 64))]
    net.hybridize(False)
    expected = [flat(net(batch)) for batch in batches]
    net.hybridize()
    for batch, maps in zip(batches, expected):
        found = flat(net(batch))
        assert len(found) == len(maps) == 4 * levels + 1 + net.has_semantic
        for a, b in zip(found, maps):
            b = b.asnumpy()
            np.testing.assert_allclose(a.asnumpy(), b, atol=1e-4 * b.std() + 1e-6)
    with mx.autograd.record():
        sum((x * mx.nd.random.normal(shape=x.shape)).sum() for x in flat(net(batches[0]))
            ).backward()
    for name, p in net._collect_params_with_prefix().items():
        if p.grad_req != 'null' and not (name.endswith('bias') and any(
                part in name for part in POINTLESS)):
            gradient = p.grad().asnumpy()
            assert np.isfinite(gradient).all() and gradient.any(), name


def test_steps_of_training(variant):
    options, net = variant
    system = CondInstSystem(net, TAXONOMY, frozen_stages=0 if options.get('levels') == 3 else 2,
                            hybridize=True)
    semantic, instances = np.zeros((64, 64), np.int32), np.zeros((64, 64), np.int32)
    semantic[8:44, 6:40], instances[8:44, 6:40] = 4, 7
    samples = [Sample(picture(64, 64), instances, {7: 4}, semantic)] * 2
    batch = {key: value if key in system.host_keys else mx.nd.array(value, dtype='float32')
             for key, value in system.targets()(
                 samples, [np.random.default_rng(0)] * len(samples)).items()}
    trainer = mx.gluon.Trainer(system.parameters(), 'sgd', {'learning_rate': 1e-3})
    totals = []
    for _ in range(3):
        with mx.autograd.record():
            losses = system.losses(batch)
            total = sum(losses.values())
        total.backward()
        trainer.step(1)
        totals.append(float(total.asscalar()))
        assert losses['masks'].asscalar() > 0
    assert np.isfinite(totals).all() and totals[-1] < totals[0]


def test_predictions(variant):
    _, net = variant
    net.hybridize()
    predictor = Predictor(net, TAXONOMY, SETTINGS)
    for size in ((40, 60), (1, 9)):
        result = predictor.predict(picture(*size))
        assert result.segment_map.shape == size
        found = predictor.set_image(picture(*size)).instances()
        assert len(found) > 0 and found.masks.shape[1:] == size


def test_masks_may_suppress_each_other():
    net = network(levels=3)
    net.hybridize()
    image = picture(64, 96)
    by_masks = SETTINGS.replace(nms='mask', nms_threshold=0.3, score_threshold=0.001)
    maps = net(mx.nd.array(image.transpose(2, 0, 1)[None]))
    found, = net.detect(maps, by_masks)
    assert 1 < len(found.scores) <= 9 and (np.diff(found.scores) <= 0).all()
    overlaps = mask_ious(net.mask_logits(maps, 0, found) > 0)
    same = found.classes[:, None] == found.classes
    assert same.sum() > len(same) and overlaps[np.triu(same, 1)].max() <= 0.3
    boxes, = net.detect(maps, by_masks.replace(nms='box'))
    assert boxes.cells.tolist() != found.cells.tolist()
    assert found.scores[0] == boxes.scores[0]
    nothing, = net.detect(maps, by_masks.replace(score_threshold=1.0))
    assert len(nothing.scores) == 0


@pytest.mark.filterwarnings('ignore:Caution using SyncBatchNorm')
def test_synchronised_norms_know_the_devices():
    options = dict(SMALL, levels=3, share_depth=1, things=True, bifpn_repeats=1,
                   norm_layer='FrozenBatchNorm', fpn_norm='SyncBatchNorm',
                   head_norm='SyncBatchNorm', branch_norm='SyncBatchNorm')
    net = CondInst(**set_norm_devices(options, 3))

    assert norms(net.encoder.backbone) == {('FrozenBatchNorm', None)}
    for part in (net.encoder.fpn, net.encoder.head, net.encoder.mask_branch, net.things_head):
        assert norms(part) == {('SyncBatchNorm', 3)}
    options.update(norm_layer='SyncBatchNorm', norm_kwargs={'momentum': 0.95})
    net = CondInst(**set_norm_devices(options, 2))
    assert norms(net) == {('SyncBatchNorm', 2)}
    assert net.encoder.backbone.stem.conv1.norm._kwargs['momentum'] == 0.95
    assert norms(CondInst(**set_norm_devices(options, 1))) == {('BatchNorm', None)}


@pytest.mark.filterwarnings('ignore:Caution using SyncBatchNorm')
def test_checkpoints_have_plain_norms(tmp_path):
    net = get_model('condinst', **SMALL, share_depth=1, head_norm='SyncBatchNorm',
                    norm_kwargs={'momentum': 0.95})
    net.initialize()
    save_model(net, tmp_path / 'a.params')
    again = load_model(tmp_path / 'a.params')
    assert norms(again.encoder.head) == {('BatchNorm', None)}
    assert norms(again.encoder.backbone) == {('BatchNorm', None)}


def test_a_network_is_known_from_those_of_other_rows():
    """By what its config or its checkpoint says, or, as they may be silent, by the defaults."""
    default = {k: p.default for k, p in inspect.signature(CondInst).parameters.items()}
    default['deformable_stages'] = list(default['deformable_stages'])
    known = CONDINST.expand_options({'name': 'condinst'})
    assert known == {**{key: default[key] for key in known if key != 'name'}, 'name': 'CondInst'}

    folder = Path(__file__).parents[3] / 'experiments' / 'condinst'
    training = 'pretrained', 'pretrained_base', 'norm_layer', 'deformable_interval'
    models = {path.stem: {k: v for k, v in load_config(path).model.items() if k not in training}
              for path in folder.glob('*.yaml')}
    assert len(models) > 40
    for (one, a), (other, b) in itertools.combinations(models.items(), 2):
        same = {**default, **a, 'name': 0} == {**default, **b, 'name': 0}
        same = same and a['name'] == b['name']
        assert (find_mismatch(a, b, [*known, 'backbone']) is None) == same, (one, other)


def norms(block):
    """Kinds of batch normalisation below a block, and their numbers of devices."""
    found = [] if 'BatchNorm' not in type(block).__name__ else [
        (type(block).__name__, getattr(block, '_kwargs', {}).get('ndev'))]
    return set(found).union(*map(norms, block._children.values()))


@pytest.mark.parametrize('options, match', [
    (dict(levels=4), 'levels is 4'), (dict(bifpn_repeats=-1), 'bifpn_repeats is -1'),
    (dict(share_depth=1.5), 'share_depth is 1.5'), (dict(head_norm='LayerNorm'), 'LayerNorm'),
    (dict(backbone='dla34', deformable_stages=[3]), 'dla34 is not a ResNet'),
    (dict(deformable_stages=[6]), 'deformable_stages'), (dict(backbone='vgg'), 'dla34'),
    (dict(semantic=True, semantic_join='product'), '"product"')])
def test_arguments_that_make_no_sense(options, match):
    with pytest.raises(AdaptisError, match=match):
        CondInst(**{**SMALL, **options})
