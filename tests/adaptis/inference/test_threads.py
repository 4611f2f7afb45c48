"""Threads that share a network, as in a web server, get the same results as a single thread."""
from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

from adaptis.deploy.export import export
from adaptis.errors import AdaptisError
from adaptis.inference.predictor import Predictor
from adaptis.inference.settings import AdaptISSettings
from adaptis.model import get_model
from adaptis.runtime import mx

SETTINGS = AdaptISSettings(things_threshold=0.1, mask_threshold=0.1, min_area=1, max_candidates=3,
                           overlap_threshold=1.0, stuff_prob_mult=0.0)
THREADS = 8


@pytest.fixture(scope='module')
def net():
    mx.random.seed(3)
    net = get_model('adaptis_toy', width=4)
    net.initialize(mx.init.Xavier(magnitude=4))
    net.hybridize()
    return net


@pytest.fixture(scope='module')
def images():
    return np.random.RandomState(0).randint(0, 256, (2, 30, 26, 3)).astype(np.uint8)


def ask(predictor, images):
    """Everything that a predictor can say of the images."""
    found = []
    for image in images:
        predictor.set_image(image)
        found += [predictor.panoptic().segment_map, predictor.mask_at(x=3, y=4).mask]
    return found


def in_threads(work):
    """Call ``work(number)`` in threads that start together; return what they return or raise."""
    found, start = [None] * THREADS, threading.Barrier(THREADS)

    def run(number):
        start.wait(60)
        try:
            found[number] = work(number)
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def compare(found, expected):
    for answers in found:
        assert isinstance(answers, list), answers
        for answer, wanted in zip(answers, expected):
            np.testing.assert_array_equal(answer, wanted)


@pytest.mark.parametrize('hybrid', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_predictors_of_one_network(net, images, hybrid):
    net.hybridize(hybrid)
    expected = ask(Predictor(net, SETTINGS), images)
    compare(in_threads(lambda n: ask(Predictor(net, SETTINGS), images)), expected)


def test_predictors_of_one_export(net, images, tmp_path):
    folder = export(Predictor(net, SETTINGS), tmp_path / 'net', 'mxnet')
    expected = ask(Predictor.from_export(folder), images)
    shared = Predictor.from_export(folder)
    compare(in_threads(lambda n: ask(Predictor(shared.net, SETTINGS, shared.taxonomy), images)),
            expected)


def test_threads_may_ask_one_predictor_once_its_image_is_set(net, images):
    predictor = Predictor(net, SETTINGS).set_image(images[0])
    expected = [predictor.mask_at(x=n, y=2 * n).mask for n in range(THREADS)]
    found = in_threads(lambda n: predictor.mask_at(x=n, y=2 * n).mask)
    np.testing.assert_array_equal(found, expected)


def test_a_predictor_stays_in_its_process(net, images):
    """Pickling it says what to do; a copy of it shares the network."""
    predictor = Predictor(net, SETTINGS).set_image(images[0])
    with pytest.raises(AdaptisError, match='load one in each process'):
        pickle.dumps({'predictor': predictor})
    own = copy.copy(predictor).set_image(images[1])
    assert own.net is net and own.settings == SETTINGS
    np.testing.assert_array_equal(predictor.mask_at(x=3, y=4).mask, ask(own, images)[1])
