from __future__ import annotations

import numpy as np
import pytest
from scene_network import Case, DrawnImage

from adaptis.errors import AdaptisError
from adaptis.inference import memory
from adaptis.inference.encoded_image import FlipAveraged
from adaptis.inference.greedy import proposal_map, search_proposals, select_masks
from adaptis.inference.panoptic import segment_tiles
from adaptis.inference.settings import AdaptISSettings

CASES = ('prop', 'prop_flip_cut', 'prop_maxiters', 'prop_big_flip', 'prop_ignore', 'prop_crop',
         'prop_crop_flip_ignore', 'prop_crop_rows', 'prop_none', 'random', 'random_flip_cut',
         'random_ignore', 'random_crop', 'random_empty')


def check_masks(masks, expected):
    assert len(masks) == len(expected)
    for mask, right in zip(masks, expected):
        np.testing.assert_array_equal(mask, right)


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('batch_size', [1, 8])
def test_equals_the_official_code(parity, name, batch_size):
    case = Case(parity / 'greedy', name)
    settings = case.settings(batch_size=batch_size)
    found = segment_tiles(case.encoder(settings), case.scene['image'], settings, case.ignore)
    merged, right = found.merged, case.expected
    check_masks(merged.masks, right['masks'])
    np.testing.assert_allclose(merged.background, right['background'], atol=1e-6)
    np.testing.assert_array_equal(merged.instances, right['instances_mask'])
    np.testing.assert_array_equal(merged.semantic, right['semantic_segmentation'])
    np.testing.assert_array_equal(merged.class_ids, right['class_ids'])
    np.testing.assert_array_equal(case.crops, right['crops'])
    assert found.queried * (1 + settings.flip) == len(case.calls)
    if batch_size == 1 or settings.sampling == 'random':
        np.testing.assert_array_equal(np.reshape(case.calls, (-1, 4)), right['calls'])
    else:
        assert len(case.calls) - len(right['calls']) == found.wasted * (1 + settings.flip)


def test_sampling_mask_equals_the_official_code(parity):
    case = Case(parity / 'greedy', 'fn_sampling_mask')
    assert case.function == 'predict_instances_with_proposals'
    settings = case.settings(batch_size=1)
    encoded = case.encoder(settings)(case.scene['image'])
    selection = select_masks(encoded, settings, case.ignore, case.sampling)
    check_masks(selection.masks, case.expected['masks'])
    np.testing.assert_array_equal(case.calls, case.expected['calls'])


@pytest.mark.parametrize('name', ['prop', 'prop_flip_cut', 'prop_big_flip', 'prop_ignore',
                                  'prop_maxiters', 'prop_none'])
def test_proposal_map_and_floods_equal_the_official_ones(parity, name):
    case = Case(parity / 'greedy', name)
    settings = case.settings()
    prob = proposal_map(case.encoder(settings)(case.scene['image']), settings, case.ignore)
    np.testing.assert_array_equal(prob, case.expected['pmap'])
    found = search_proposals(prob, settings, with_colors=True)
    np.testing.assert_array_equal(found.candidates, case.expected['candidates'])
    np.testing.assert_array_equal(found.colors, case.expected['colors'])


def grid_owner(size: int = 24, cell: int = 8) -> np.ndarray:
    rows, cols = np.mgrid[:size, :size] // cell
    return rows * (size // cell) + cols + 1


def bumpy(owner: np.ndarray, cell: int = 8) -> np.ndarray:
    """A proposal map with one peak per cell; no two are equally high."""
    rows, cols = np.mgrid[:owner.shape[0], :owner.shape[1]] % cell - cell // 2
    return (0.9 - 0.02 * (rows ** 2 + cols ** 2) ** 0.5 * 4
            - 0.004 * owner).clip(0.11, 1).astype(np.float32)


EASY = AdaptISSettings(proposal_blur=0, things_threshold=0.05)


def test_batches_change_the_cost_but_not_the_masks():
    owner = grid_owner()
    cells = [owner == k for k in range(1, 10)]
    cells[0] |= owner == 3  # the first mask also covers the third object
    results = []
    for batch_size in (1, 2, 4, 100):
        encoded = DrawnImage(owner, cells, bumpy(owner))
        results.append(select_masks(encoded, EASY.replace(batch_size=batch_size)))
        assert max(len(b) for b in encoded.batches) <= batch_size
    encoded = DrawnImage(owner, cells, bumpy(owner))
    encoded.batch_size = 1   # where more points at once are not faster
    check_masks(select_masks(encoded, EASY.replace(batch_size=100)).masks, results[0].masks)
    assert {len(b) for b in encoded.batches} == {1}
    assert len(results[0].masks) == 8
    assert [r.wasted for r in results] == [0, 1, 1, 1]
    assert [r.queried - r.wasted for r in results] == [8] * 4
    for result in results[1:]:
        check_masks(result.masks, results[0].masks)


@pytest.mark.parametrize('sampling', ['proposals', 'random'])
def test_a_mask_does_not_keep_the_others_of_its_batch(sampling):
    owner = grid_owner()
    encoded = DrawnImage(owner, proposals=bumpy(owner))
    masks = select_masks(encoded, EASY.replace(sampling=sampling)).masks
    assert masks and all(mask.base is None for mask in masks)


def test_small_and_covered_masks_are_refused():
    owner = grid_owner()
    cells = [owner == k for k in range(1, 10)]
    tiny = np.zeros_like(owner)
    tiny[0, :9] = 1
    cells[0] = tiny
    cells[2] = (owner == 3) | (owner == 2)  # half of it is taken when its turn comes
    masks = select_masks(DrawnImage(owner, cells, bumpy(owner)), EASY).masks
    assert len(masks) == 7
    more = select_masks(DrawnImage(owner, cells, bumpy(owner)),
                        EASY.replace(min_area=9, overlap_threshold=0.51)).masks
    assert len(more) == 9


def test_an_empty_mask_is_no_object_whatever_the_least_area():
    owner = grid_owner()
    cells = [np.zeros_like(owner)] * 9
    assert not select_masks(DrawnImage(owner, cells, bumpy(owner)), EASY.replace(min_area=0)).masks


@pytest.mark.parametrize('sampling', ['proposals', 'random'])
def test_more_objects_than_fit_into_memory(monkeypatch, sampling):
    monkeypatch.setattr(memory, 'physical_memory', lambda: 2.0 * 4 * 8 * 24 * 24)
    owner = grid_owner()
    with pytest.raises(AdaptisError, match='9 objects on 24x24 pixels .* smaller parts'):
        select_masks(DrawnImage(owner, proposals=bumpy(owner)), EASY.replace(sampling=sampling))


def test_ignored_pixels_are_neither_asked_nor_free():
    owner = grid_owner()
    ignore = np.zeros_like(owner)
    ignore[:8] = 1
    encoded = DrawnImage(owner, proposals=bumpy(owner))
    assert len(select_masks(encoded, EASY, ignore=ignore).masks) == 6
    assert (np.concatenate(encoded.batches)[:, 0] >= 8).all()
    sampling = 1 - ignore.astype(np.float32)
    masks = select_masks(DrawnImage(owner, proposals=bumpy(owner)), EASY, sampling_mask=sampling)
    assert len(masks.masks) == 6


def test_random_points_find_every_object_and_depend_on_the_seed_alone():
    owner = grid_owner()
    settings = EASY.replace(sampling='random', num_candidates=3)
    selection = select_masks(DrawnImage(owner), settings)
    assert len(selection.masks) == 9
    again = select_masks(DrawnImage(owner), settings)
    check_masks(again.masks, selection.masks)
    other = select_masks(DrawnImage(owner), settings.replace(seed=1))
    assert any((a != b).any() for a, b in zip(other.masks, selection.masks))


def test_random_sampling_stops_when_nothing_is_left():
    owner = np.ones((6, 6), int)
    selection = select_masks(DrawnImage(owner), EASY.replace(sampling='random'))
    assert len(selection.masks) == 1
    assert selection.queried == 7


def test_random_sampling_accepts_an_empty_mask_only_as_the_official_code():
    owner = np.ones((6, 6), int)
    nothing = [np.zeros((6, 6))]
    settings = EASY.replace(sampling='random', num_iterations=3)
    assert len(select_masks(DrawnImage(owner, nothing), settings).masks) == 0
    official = settings.replace(official=True)
    assert len(select_masks(DrawnImage(owner, nothing), official).masks) == 3


def test_random_empty_case_keeps_only_real_masks_by_default(parity):
    case = Case(parity / 'greedy', 'random_empty')
    settings = case.settings(official=False)
    found = segment_tiles(case.encoder(settings), case.scene['image'], settings, case.ignore)
    assert 0 < len(found.merged.masks) < len(case.expected['masks'])
    assert all((mask > settings.mask_threshold).any() for mask in found.merged.masks)


def test_cut_radius_is_symmetric_but_short_at_the_far_side_officially():
    owner = np.ones((21, 21), int)
    proposals = bumpy(owner, cell=21)
    settings = EASY.replace(cut_radius=4)
    for official, far in ((False, 14), (True, 13)):
        mask, = select_masks(DrawnImage(owner, proposals=proposals),
                             settings.replace(official=official, max_candidates=1)).masks
        rows, cols = np.nonzero(mask)
        assert (rows.min(), rows.max()) == (6, far) == (cols.min(), cols.max())


def test_the_mirrored_point_is_the_same_pixel_but_one_off_officially():
    owner = np.arange(1, 8)[None].repeat(3, axis=0)
    plain, mirrored = DrawnImage(owner), DrawnImage(owner[:, ::-1])
    points = np.array([[1, 0], [1, 2.5], [2, 6]], np.float32)
    FlipAveraged(plain, mirrored).masks_at(points)
    np.testing.assert_array_equal(mirrored.batches[-1], [[1, 6], [1, 3.5], [2, 0]])
    FlipAveraged(plain, mirrored, official=True).masks_at(points)
    np.testing.assert_array_equal(mirrored.batches[-1], [[1, 7], [1, 4.5], [2, 1]])


def test_flip_averages_mirrored_maps():
    owner = grid_owner()
    plain = DrawnImage(owner, proposals=bumpy(owner))
    mirrored = DrawnImage(owner[:, ::-1], proposals=bumpy(owner)[:, ::-1])
    both = FlipAveraged(plain, mirrored)
    np.testing.assert_array_equal(both.things_prob, plain.things_prob)
    np.testing.assert_array_equal(both.proposals_prob, plain.proposals_prob)
    points = np.array([[0, 0], [3, 17]], np.float32)
    np.testing.assert_array_equal(both.masks_at(points), plain.masks_at(points))


def test_a_network_without_proposals_says_what_to_do():
    with pytest.raises(AdaptisError, match='random'):
        select_masks(DrawnImage(grid_owner()), EASY)


@pytest.mark.parametrize('power, blur', [(60, 2), (0, 5), (1e-9, 3)])
def test_a_blurred_map_still_holds_probabilities(power, blur):
    """OpenCV's running sums round past 0 and past 1."""
    rng = np.random.RandomState(0)
    image = DrawnImage(np.ones((40, 40), int),
                       proposals=(rng.uniform(0, 1, (40, 40)) ** power).astype(np.float32))
    prob = proposal_map(image, AdaptISSettings(proposal_blur=blur, things_threshold=0))
    assert prob.min() >= 0 and prob.max() <= 1
    search_proposals(prob, AdaptISSettings())
