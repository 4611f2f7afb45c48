"""The random integers are as documented, and never change."""
import numpy as np
import pytest

from toy_data.stream import Stream

BELOW = [422, 976, 154, 949, 804, 332, 286, 411]
NORMAL = [[26, 22, 17], [2, 38, -29]]


def test_same_key_gives_same_numbers_and_other_keys_others():
    draws = [[Stream(key).below(1 << 32) for _ in range(3)] for key in ((1, 2), (1, 2), (2, 1))]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_numbers_are_those_of_every_other_machine():
    stream = Stream((0, 1, 2, 3))
    assert [stream.below(1000) for _ in range(8)] == BELOW
    assert Stream((0,)).normal(2, 3, 16 * 30).tolist() == NORMAL


def test_between_and_bell_stay_inside_and_reach_both_ends():
    stream = Stream((5,))
    assert {stream.between(3, 6) for _ in range(200)} == {3, 4, 5, 6}
    assert {stream.bell(-2, 2) for _ in range(2000)} == {-2, -1, 0, 1, 2}


def test_shuffled_is_a_permutation():
    assert sorted(Stream((1,)).shuffled(50)) == list(range(50))


@pytest.mark.parametrize('shape', [(1, 1), (7, 9), (200, 300)])
def test_normal_has_the_shape_asked_for(shape):
    assert Stream((1,)).normal(*shape, 160).shape == shape


def test_normal_has_the_deviation_asked_for_and_is_white():
    noise = Stream((1,)).normal(300, 300, 16 * 33 + 8).astype(float)
    assert abs(noise.mean()) < 0.5
    assert abs(noise.std() - 33.5) < 0.4
    neighbours = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.02
