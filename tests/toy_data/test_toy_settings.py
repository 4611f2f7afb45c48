"""Invalid settings are refused with one sentence."""
import pytest

from toy_data import COUNTS, ToySettings, render


def test_defaults_are_those_of_the_paper():
    one, two = ToySettings.default('v1'), ToySettings.default('v2')
    assert (one.height, one.width, one.min_objects, one.max_objects) == (96, 96, 8, 22)
    assert (two.height, two.width, two.min_objects, two.max_objects) == (128, 128, 12, 52)
    assert {'street': COUNTS['street'],
                      'v1': {'train': 10000, 'test': 2000},
                      'v2': {'train': 25000, 'val': 1000, 'test': 1000}} == COUNTS


@pytest.mark.parametrize('changes, words', [
    ({'height': 0}, 'size 0x96'),
    ({'width': -4}, 'size 96x-4'),
    ({'height': 100_000, 'width': 100_000}, 'at most 100,000,000'),
    ({'min_objects': 0}, 'at least 1'),
    ({'min_objects': 9, 'max_objects': 8}, '9 to 8'),
    ({'max_objects': 400}, 'do not fit on 96x96'),
    ({'height': 5000, 'width': 5000, 'max_objects': 65536}, '16-bit'),
    ({'seed': -1}, 'seed'),
    ({'height': 1, 'width': 1, 'min_objects': 1, 'max_objects': 1}, 'do not fit'),
])
def test_bad_settings(changes, words):
    with pytest.raises(ValueError, match=words):
        ToySettings.default('v1', **changes)


def test_unknown_version_and_split():
    with pytest.raises(ValueError, match='v3'):
        ToySettings.default('v3')
    with pytest.raises(ValueError, match='trial'):
        render(ToySettings.default('v1'), 'trial', 0)


@pytest.mark.parametrize('version', ['v1', 'v2'])
def test_objects_that_find_no_place(version):
    crowded = ToySettings.default(version, height=20, width=20, min_objects=13, max_objects=13)
    with pytest.raises(ValueError, match='13 objects do not fit on 20x20'):
        render(crowded, 'train', 0)
